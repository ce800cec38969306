"""Where a gradient is wrong: at one end of an axis, for one sign of x, beyond a size, for repeated ids, in some cells.

A place is a name only if it could not be one by chance: every cell there is wrong, and every other cell is right.
"""

import math
from collections.abc import Iterator

import numpy as np

from npgpt.core import Array
from npgpt.study.check.evidence import Doctor
from npgpt.study.check.questions import LONG, Answer

CHANCE = 20  # of so many equally likely sets of wrong cells in a pass, at most one may be such a place
JUMP = 1e-5  # a mistake that grows smoothly with x has no place where it begins


def wrong_cells(doctor: Doctor, g: Array, e: Array) -> Array:
    allowed = 10 * doctor.close * (np.abs(e) + 0.01 * np.abs(e).max(initial=0))
    return np.asarray(~(np.abs(g - e) <= allowed))


def one_end(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    wrong, used = wrong_cells(doctor, g, e), np.asarray((e != 0) | (g != 0))
    for axis, n in enumerate(e.shape):
        some, every = (np.moveaxis(x, axis, 0).reshape(n, -1) for x in (wrong, wrong | ~used))
        here, whole = np.array(some.any(1)), np.array(every.all(1))
        known = np.moveaxis(used, axis, 0).reshape(n, -1).any(1)
        if n < 3 or not known.all() or here.all():
            continue
        which = f"axis {axis}" if e.ndim > 1 else "it"
        for i, what in ((0, "first"), (n - 1, "last")):
            if here[i] and here.sum() == 1 and whole[i]:
                holds = "is zero at" if not np.moveaxis(g, axis, 0)[i].any() else "is wrong only at"
                return Answer("end", f"{d} {holds} the {what} index of {which}, and right at all others")
        first = int(np.argmax(here))
        if math.comb(n, n - first) > 9 and first > 1 and whole[first:].all():
            kind = "size" if first >= LONG else "end"
            return Answer(kind, f"{d} is right up to index {first - 1} of {which}, and wrong from there on")
    return None


def one_sign(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    x, wrong, used = doctor.tensors[name], wrong_cells(doctor, g, e), (e != 0) | (g != 0)
    for sign, other, here in (("negative", "positive", x < 0), ("positive", "negative", x > 0)):
        if np.array_equal(wrong[used], here[used]) and _no_chance(wrong[used]):
            factors = {round(float(c), 6) for c in g[wrong] / e[wrong]} if e[wrong].all() else set()
            times = f": there it is the true gradient times {factors.pop():g}" if len(factors) == 1 else ""
            short = name.split(" ", 1)[1]
            return Answer("sign of x", f"{d} is right where {short} is {other}, wrong where it is {sign}{times}")
    return None


def beyond_a_size(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    x, wrong = np.abs(doctor.tensors[name]), wrong_cells(doctor, g, e)
    used = np.isfinite(x) & ((e != 0) | (g != 0))
    off = np.abs(g - e)[used] / (np.abs(e[used]) + np.abs(g[used]))
    x, wrong = x[used], wrong[used]
    if not _no_chance(wrong) or off[wrong].min() < JUMP:
        return None
    short = name.split(" ", 1)[1]
    if x[wrong].min() > x[~wrong].max():
        says = f"{d} is right up to |{short}| = {x[~wrong].max():.3g}, and wrong from {x[wrong].min():.3g} on"
        return Answer("size", says, "large")
    if x[wrong].max() < x[~wrong].min():
        says = f"{d} is right from |{short}| = {x[~wrong].min():.3g} on, and wrong up to {x[wrong].max():.3g}"
        return Answer("size", says, "small")
    return None


def _no_chance(wrong: Array) -> bool:
    n = int(wrong.sum())
    return 2 <= n <= wrong.size - 2 and math.comb(wrong.size, n) >= CHANCE


def rows_of_repeated_ids(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    rows = np.asarray(wrong_cells(doctor, g, e).reshape(len(e) if e.ndim else 1, -1).any(1))
    for path, ids in doctor.subject.constants.items():
        if ids.dtype.kind not in "iu" or not ids.size or ids.min() < 0 or ids.max() >= len(rows):
            continue
        counts = np.bincount(ids.ravel(), minlength=len(rows))
        uses = np.maximum(counts, 1).reshape(-1, *(1,) * (e.ndim - 1))
        if (counts > 1).any() and doctor.same(g, e / uses):
            return Answer("lost factor", f"{d} has each row divided by how often its {path} occurs")
        for least in (2, 3):
            if np.array_equal(rows[counts > 0], (counts >= least)[counts > 0]) and _no_chance(rows[counts > 0]):
                often = "more than once" if least == 2 else "more than twice"
                says = f"{d} is wrong in the rows of those {path} that occur {often}, and right in all others"
                return Answer("repeated ids", says)
    return None


def facts(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> str:
    """Return what is known of a gradient that no mistake explains: how many cells are wrong, and where they are."""
    wrong = wrong_cells(doctor, g, e)
    off = float(np.linalg.norm(g - e) / (np.linalg.norm(e) or 1))
    if wrong.all() or e.ndim == 0:
        by = f", together by {off:.1g} of their size" if e.any() else "; the true gradient is 0"
        return f"all {e.size} numbers are wrong{by}" if e.size > 1 else f"its number is wrong{by}"
    are = "are" if wrong.sum() > 1 else "is"
    places = "".join(f", {place}" for place in _slabs(wrong))
    return f"{wrong.sum()} of {wrong.size} numbers {are} wrong{places}; the others are right"


def _slabs(wrong: Array) -> Iterator[str]:
    for axis, n in enumerate(wrong.shape):
        here = np.flatnonzero(np.moveaxis(wrong, axis, 0).reshape(n, -1).any(1))
        if len(here) <= min(4, n // 2):
            yield f"at {', '.join(map(str, here))} of axis {axis}"
