"""Is a wrong gradient the sum over some of the examples, or positions, only?"""

from collections.abc import Iterator

import numpy as np

from npgpt.core import Array
from npgpt.study.check.evidence import MOST_EDGES, Doctor
from npgpt.study.check.questions import LONG, Answer

MOST_EXAMPLES = 100


def one_example(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g the sum over one end of the examples, or positions, only?"""
    for axis, what, shares in _shares(doctor, name) if e.size > 1 else ():
        n = len(shares)
        for kept in ([0], [n - 1], [*range(n - 1)], [*range(1, n)]):
            if doctor.same(g.ravel(), shares[kept].sum(0)):
                return _of_examples(d, what, axis, n, kept)
    return None


def some_examples(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g the sum over any other part of the examples?"""
    for axis, what, shares in _shares(doctor, name):
        n = len(shares)
        for kept in [[*range(k)] for k in range(n - 2, 1, -1)] + [[*range(k, n)] for k in range(2, n - 1)]:
            if doctor.same(g.ravel(), shares[kept].sum(0)):
                return _of_examples(d, what, axis, n, kept)
        if n <= e.size:
            weights = np.linalg.lstsq(shares.T, g.ravel(), rcond=None)[0]
            kept = np.flatnonzero(weights > 0.5).tolist()
            if 0 < len(kept) < n and doctor.same(g.ravel(), shares[kept].sum(0)):
                return _of_examples(d, what, axis, n, kept)
    return None


def _shares(doctor: Doctor, name: str) -> Iterator[tuple[int, str, Array]]:
    """Yield for each axis of dy: what runs along it, and the share that each index of it has in the true gradient."""
    for axis, what in enumerate(("example", "position", "position")[: doctor.dy.ndim] if doctor.walk else ()):
        n = doctor.dy.shape[axis]
        if doctor.walk is None or not 1 < n <= MOST_EXAMPLES or n * doctor.walk.n_edges > MOST_EDGES:
            continue
        shares = doctor.shares(axis)[name]
        if ((shares != 0).sum(0) > 1).any():  # else each index has numbers of its own, and nothing is summed
            yield axis, what, shares


def _of_examples(d: str, what: str, axis: int, n: int, kept: list[int]) -> Answer:
    if len(kept) == 1:
        which = {0: "the first", n - 1: "the last"}.get(kept[0], f"the one at index {kept[0]}")
        says = f"{d} holds only {which} of {n} {what}s: sum over all of them (axis {axis} of dy)"
        return Answer("one example", says, f"{kept} {axis}")
    lost = [i for i in range(n) if i not in kept]
    shown = str(lost[0]) if len(lost) == 1 else f"{', '.join(map(str, lost[:-1]))} and {lost[-1]}"
    kind = "one example" if len(lost) == 1 else "end" if kept == list(range(len(kept))) else "lost term"
    kind = "size" if kind == "end" and len(kept) >= LONG else kind
    return Answer(kind, f"{d} leaves out the {what}s at index {shown} of {n} (axis {axis} of dy)", f"{lost} {axis}")
