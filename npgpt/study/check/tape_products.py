"""Matrix products and Einstein sums on the tape: an edge from each cell of the result to both factors of each term."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check.tape import CONSTANT, Tape, Taped, TapeError

LARGEST = 3_000_000  # terms of one product: about 150 megabytes


def product(tape: Tape, subscripts: str, a: Any, b: Any) -> Taped:
    """Return an Einstein sum of two arrays. Each cell of one has the corresponding cell of the other as its slope."""
    left, out = subscripts.split("->")
    names = left.split(",")
    letters = out + "".join(sorted(set(left) - set(out) - {","}))
    value = np.einsum(subscripts, *(x.value if isinstance(x, Taped) else x for x in (a, b)))
    sizes = {letter: n for x, own in zip((a, b), names, strict=True) for letter, n in zip(own, x.shape, strict=True)}
    shape = [sizes[letter] for letter in letters]

    def spread(cells: Array, own: str) -> Array:
        for letter in set(own):  # a repeated letter is a diagonal
            while own.count(letter) > 1:
                i, j = own.index(letter), own.rindex(letter)
                cells = np.moveaxis(np.diagonal(cells, axis1=i, axis2=j), -1, i)
                own = own[:j] + own[j + 1 :]
        order = sorted(range(len(own)), key=lambda i: letters.index(own[i]))
        full = [sizes[letter] if letter in own else 1 for letter in letters]
        return np.broadcast_to(cells.transpose(order).reshape(full), shape)

    if math.prod(shape) > LARGEST and (found := _of_moving_cells(tape, subscripts, (a, b), value)) is not None:
        return found
    if math.prod(shape) > LARGEST:
        raise TapeError(f"a product of {math.prod(shape):,} terms is too large for the tape; take smaller arrays")
    children = tape.numbers(np.asarray(value, np.float64))
    va, vb = (x.value if isinstance(x, Taped) else np.asarray(x) for x in (a, b))
    parents = (
        (spread(a.ids, names[0]) if isinstance(a, Taped) else None, spread(vb, names[1])),
        (spread(b.ids, names[1]) if isinstance(b, Taped) else None, spread(va, names[0])),
    )

    def other(own: str, like: Array) -> Callable[[Array], Array | None]:
        return lambda cells: spread(cells, own) if cells.shape == like.shape else None

    tape.edges(
        children.reshape([*value.shape, *(1,) * (len(letters) - len(out))]),
        *parents,
        spreads=(other(names[1], vb), other(names[0], va)),
    )
    return Taped(tape, np.asarray(value, np.float64), children)


def _of_moving_cells(tape: Tape, subscripts: str, arrays: tuple[Any, Any], value: Array) -> Taped | None:
    """Return a product of which one array is taped and mostly constant: terms for its other cells only.

    None if that removes nothing. The values are those of the whole product.
    """
    names, out = subscripts.split("->")[0].split(","), subscripts.split("->")[1]
    moving = [i for i, x in enumerate(arrays) if isinstance(x, Taped)]
    own = names[moving[0]]
    if len(moving) == 2 or len(set(own)) < len(own):
        return None
    cells = np.nonzero(arrays[moving[0]].ids != CONSTANT)
    at = {letter: np.unique(places) for letter, places in zip(own, cells, strict=True)}

    def cut(x: Any, letters: str) -> Any:
        for axis, letter in enumerate(letters):
            x = np.take(x, at[letter], axis) if letter in at else x
        return x

    smaller = [
        Taped(tape, cut(x.value, name), cut(x.ids, name)) if isinstance(x, Taped) else cut(np.asarray(x), name)
        for x, name in zip(arrays, names, strict=True)
    ]
    if smaller[moving[0]].ids.size == arrays[moving[0]].ids.size:
        return None
    children = np.full(value.shape, CONSTANT)
    places = [at.get(letter, np.arange(n)) for letter, n in zip(out, value.shape, strict=True)]
    if cells[0].size:
        children[np.ix_(*places)] = product(tape, subscripts, *smaller).ids
    return Taped(tape, np.asarray(value, np.float64), children)


def einsum(tape: Tape, subscripts: Any, *operands: Any, **_: Any) -> Any:
    if not isinstance(subscripts, str):
        raise TapeError("the tape has np.einsum with a string of subscripts only")
    subscripts, arrays = subscripts.replace(" ", ""), [np.asanyarray(x) for x in operands]
    left, arrow, out = subscripts.partition("->")
    names = left.split(",")
    free = iter(sorted(set("ABCDEFGHIJKLMNOPQRSTUVWXYZ") - set(left)))
    dots = [x.ndim - len(own.replace("...", "")) for x, own in zip(arrays, names, strict=True) if "..." in own]
    extra = "".join(itertools.islice(free, max(dots, default=0)))[::-1]
    names = [
        own.replace("...", extra[len(extra) - (x.ndim - len(own.replace("...", ""))) :])
        for x, own in zip(arrays, names, strict=True)
    ]
    if arrow:
        out = out.replace("...", extra)
    else:
        once = [c for c in sorted(set("".join(names)) - set(extra)) if "".join(names).count(c) == 1]
        out = extra + "".join(once)
    if len(arrays) == 1:
        return product(tape, f"{names[0]},->{out}", arrays[0], np.ones(()))
    total, own = arrays[0], names[0]
    for i, (x, name) in enumerate(zip(arrays[1:], names[1:], strict=True), 2):
        later = set("".join(names[i:])) | set(out)
        kept = out if i == len(arrays) else "".join(sorted((set(own) | set(name)) & later))
        total, own = (
            np.einsum(f"{own},{name}->{kept}", total, x)
            if not _taped(total, x)
            else product(tape, f"{own},{name}->{kept}", total, x),
            kept,
        )
    return total


def _taped(*xs: Any) -> bool:
    return any(isinstance(x, Taped) for x in xs)


def matmul(tape: Tape, a: Any, b: Any) -> Any:
    a, b = np.asanyarray(a), np.asanyarray(b)
    if a.ndim == 1 or b.ndim == 1:
        row, column = a.ndim == 1, b.ndim == 1
        made = matmul(tape, a[None] if row else a, b[:, None] if column else b)
        made = made[..., 0] if column else made
        return made[..., 0, :] if row and not column else made[..., 0] if row else made
    lead = "CDEFGHIJ"[: max(a.ndim, b.ndim) - 2]
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit")
    a, b = (np.broadcast_to(x, shape + x.shape[-2:]) if x.shape[:-2] != shape else x for x in (a, b))
    return product(tape, f"{lead}ik,{lead}kj->{lead}ij", a, b)


def dot(tape: Tape, a: Any, b: Any, **_: Any) -> Any:
    a, b = np.asanyarray(a), np.asanyarray(b)
    if not a.ndim or not b.ndim:
        return a * b
    return tensordot(tape, a, b, ((a.ndim - 1,), (max(0, b.ndim - 2),)))


def tensordot(tape: Tape, a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = np.asanyarray(a), np.asanyarray(b)
    if isinstance(axes, int):
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    of_a, of_b = ([x] if isinstance(x, int) else list(x) for x in axes)
    left = [chr(97 + i) for i in range(a.ndim)]
    right = [chr(65 + i) for i in range(b.ndim)]
    for i, j in zip(of_a, of_b, strict=True):
        right[j] = left[i]
    shared = {left[i] for i in of_a}
    out = "".join(c for c in [*left, *right] if c not in shared)
    return product(tape, f"{''.join(left)},{''.join(right)}->{out}", a, b)
