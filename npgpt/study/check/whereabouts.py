"""Where a gradient is wrong: at one end of an axis, for one sign of x, beyond a size, for repeated ids, in some cells.

A place is a name only if it could not be one by chance: every cell there is wrong, and every other cell is right.
"""

import math
from collections.abc import Iterator

import numpy as np

from npgpt.core import Array
from npgpt.study.check.evidence import Doctor
from npgpt.study.check.questions import Answer

CHANCE = 20  # of so many equally likely sets of wrong cells in a pass, at most one may be such a place


def wrong_cells(doctor: Doctor, g: Array, e: Array) -> Array:
    size = float(np.abs(e).max(initial=0))
    return ~(np.abs(g - e) <= 10 * doctor.close * (np.abs(e) + 0.01 * size))


def one_end(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    wrong = wrong_cells(doctor, g, e)
    for axis, n in enumerate(e.shape):
        of_index = np.moveaxis(wrong, axis, 0).reshape(n, -1)
        some, every = of_index.any(1), of_index.mean(1) > 0.6
        which = f"axis {axis}" if e.ndim > 1 else "it"
        if n < 3 or some.all():
            continue
        for here, what in ((0, "first"), (n - 1, "last")):
            if some[here] and some.sum() == 1 and every[here]:
                zero = not np.moveaxis(g, axis, 0)[here].any()
                holds = "is zero at" if zero else "is wrong only at"
                return Answer("end", f"{d} {holds} the {what} index of {which}, and right at all others")
        first = int(np.argmax(some))
        if math.comb(n, n - first) > 9 and first > 1 and every[first:].all():
            return Answer("size", f"{d} is right up to index {first - 1} of {which}, and wrong from there on")
    return None


def one_sign(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    x, wrong, used = doctor.tensors[name], wrong_cells(doctor, g, e), (e != 0) | (g != 0)
    for sign, other, here in (("negative", "positive", x < 0), ("positive", "negative", x > 0)):
        n = int(used.sum())
        if np.array_equal(wrong[used], here[used]) and math.comb(n, int(wrong.sum())) > CHANCE:
            factor = {round(float(c), 6) for c in g[wrong] / e[wrong]} if e[wrong].all() else set()
            times = f": there it is the true gradient times {factor.pop():g}" if len(factor) == 1 else ""
            return Answer("sign of x", f"{d} is right where {name[6:]} is {other}, wrong where it is {sign}{times}")
    return None


def beyond_a_size(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    x, wrong = np.abs(doctor.tensors[name]), wrong_cells(doctor, g, e)
    if not 2 < wrong.sum() < wrong.size - 2 or math.comb(wrong.size, int(wrong.sum())) < CHANCE:
        return None
    short = name.split(" ", 1)[1]
    if x[wrong].min() > x[~wrong].max():
        says = f"{d} is right up to |{short}| = {x[~wrong].max():.3g}, and wrong from {x[wrong].min():.3g} on"
        return Answer("size", says, "large")
    if x[wrong].max() < x[~wrong].min():
        says = f"{d} is right from |{short}| = {x[~wrong].min():.3g} on, and wrong up to {x[wrong].max():.3g}"
        return Answer("size", says, "small")
    return None


def rows_of_repeated_ids(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    rows = wrong_cells(doctor, g, e).reshape(len(e), -1).any(1) if e.ndim else np.zeros(1, bool)
    for path, ids in doctor.subject.constants.items():
        if ids.dtype.kind not in "iu" or not ids.size or ids.min() < 0 or ids.max() >= len(rows):
            continue
        counts = np.bincount(ids.ravel(), minlength=len(rows))
        for least in (2, 3):
            if rows.any() and np.array_equal(rows, counts >= least) and (counts[~rows] > 0).any():
                often = "more than once" if least == 2 else "more than twice"
                says = f"{d} is wrong in the rows of those {path} that occur {often}, and right in all others"
                return Answer("repeated ids", says)
    return None


def facts(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> str:
    """Return what is known of a gradient that no mistake explains: how many cells are wrong, and where they are."""
    wrong = wrong_cells(doctor, g, e)
    off = float(np.linalg.norm(g - e) / (np.linalg.norm(e) or 1))
    if wrong.all() or e.ndim == 0:
        return f"all {e.size} numbers are wrong, together by {off:.1g} of their size"
    return f"{wrong.sum()} of {wrong.size} numbers are wrong{', '.join(['', *_slabs(wrong)])}; the others are right"


def _slabs(wrong: Array) -> Iterator[str]:
    for axis, n in enumerate(wrong.shape):
        here = np.flatnonzero(np.moveaxis(wrong, axis, 0).reshape(n, -1).any(1))
        if len(here) <= min(4, n // 2):
            yield f"at {', '.join(map(str, here))} of axis {axis}"
