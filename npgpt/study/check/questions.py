"""Questions about a wrong gradient: is it the true one with a common mistake?

A question takes the true gradient e and the gradient g that came from backward. It computes what its mistake would
give, and answers if that is g in *every* number.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from npgpt.core import Array
from npgpt.study.check.evidence import Doctor

LONG = 16  # a part that is right and as long as this ends at a limit of a size, not near the end of an axis
NEAR = 0.008  # a factor that is nearer to one is a rounded constant


class Answer(NamedTuple):
    """A diagnosis.

    Attributes
        kind: one of ``diagnosis.KINDS``.
        says: a sentence.
        key: what must be the same in other passes; by default the sentence.
        sure: whether the answer has already been compared with the other passes.
    """

    kind: str
    says: str
    key: str = ""
    sure: bool = False


def number(c: float) -> str:
    """Return a factor with enough digits to tell it from one."""
    return (
        f"{c:.6g}"
        if abs(abs(c) - 1) > 1e-4
        else f"{'-' if c < 0 else ''}(1 {'-' if abs(c) < 1 else '+'} {abs(abs(c) - 1):.1g})"
    )


def scale(x: Array, y: Array) -> float:
    """Return the number c for which c·x comes nearest to y."""
    square = float((x * x).sum())
    return float((x * y).sum()) / square if square else 0.0


def fits(x: Array, e: Array) -> bool:
    """Return whether an array can be broadcast to the shape of another one."""
    return x.ndim <= e.ndim and all(n in (1, m) for n, m in zip(x.shape[::-1], e.shape[::-1], strict=False))


def zero(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    if g.any() or not e.any():
        return None
    return Answer("zero", f"{d} is zero everywhere, and must not be")


def upstream_ignored(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    if doctor.subject.is_end:
        return None
    twice, without = doctor.backward(2 * doctor.dy)[name], doctor.backward(0 * doctor.dy)[name]
    if doctor.same(twice, 2 * g):
        return None
    if doctor.same(twice, g):
        other = doctor.backward(np.asarray(np.random.default_rng(3).normal(size=doctor.dy.shape)))[name]
        if doctor.same(other, g):
            return Answer("upstream", f"{d} does not change with the upstream gradient: multiply by dy")
        return Answer("upstream", f"{d} does not grow with the upstream gradient, as where it is clipped or normalised")
    if without.any() and doctor.same(twice, 2 * g - without):
        x = doctor.tensors[name]
        if x.any() and doctor.same(without, (c := scale(x, without)) * x):
            short = name.split(" ", 1)[1]
            return Answer("upstream", f"{d} has the term {c:.6g}·{short}, which lacks the factor dy")
        return Answer("upstream", f"{d} has a term that lacks the factor dy: when dy is zero, it is not")
    if doctor.same(twice, 4 * g):
        return Answer("upstream", f"{d} grows with the square of the upstream gradient: multiply by dy once")
    return None


def another_upstream(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g the right gradient under another upstream gradient?"""
    if doctor.walk is None or doctor.subject.is_end:
        return None
    changed = doctor.written_dy()
    if changed is not None and doctor.same(g, doctor.under(name, changed)):
        return Answer("writes", f"{d} uses dy after backward has changed it in place: work on a copy")
    for says, other in (
        ("the sum of dy in every cell", np.full_like(doctor.dy, doctor.dy.sum())),
        ("the mean of dy in every cell", np.full_like(doctor.dy, doctor.dy.mean())),
        ("the first number of dy in every cell", np.full_like(doctor.dy, doctor.dy.flat[0])),
    ):
        if doctor.dy.size > 1 and doctor.same(g, doctor.under(name, other)):
            return Answer("upstream", f"{d} is the gradient under {says}")
    for path, part in doctor.outputs():
        if doctor.same(g, doctor.under(name, np.where(part, 0, doctor.dy))):
            return Answer("lost term", f"{d} lacks the path through the output {path}")
    return None


def factor(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    if doctor.same(g, e):
        return None
    c = scale(e, g)
    if not c or not doctor.same(g, c * e):
        return None
    if abs(c + 1) < doctor.close:
        return Answer("sign", f"{d} has the wrong sign")
    kind = "constant" if abs(c - 1) < NEAR else "factor"
    return Answer(kind, f"{d} is the true gradient times {number(c)}{doctor.name_factor(c)}")


def masked_cells(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    hidden = ~np.isfinite(doctor.forward())
    if hidden.any() and doctor.same(doctor.backward(np.where(hidden, 0, doctor.dy))[name], e):
        return Answer("mask", f"{d} contains the upstream gradients of masked outputs: set them to zero first")
    leaked = (e == 0) & (g != 0)
    if e.any() and leaked.any() and doctor.same(g * ~leaked * scale(g * ~leaked, e), e):
        cell = [int(i) for i in np.argwhere(leaked)[0]]
        c = scale(e, g * ~leaked)
        of = "" if abs(c - 1) < doctor.close else f" up to the factor {c:.4g}"
        says = f"{d} is right{of} except in {leaked.sum()} cells (first: {cell}), which must be 0"
        return Answer("mask", says, "missing")
    return None


def lost_cells(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    lost = (e != 0) & (g == 0)
    if lost.any() and lost.sum() < g.size / 2 and doctor.same(np.where(lost, e, g), e):
        cell = [int(i) for i in np.argwhere(lost)[0]]
        says = f"{d} is right except in {lost.sum()} cells (first: {cell}), which are 0 and must not be"
        return Answer("mask", says, "too much")
    return None


def one_gradient(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Does g lack one known gradient as a term, or have it once too often?"""
    for text, x in doctor.arrays.items():
        if text[0] in "d∂" and x.shape == e.shape and x.any() and not doctor.same(x, e):
            if doctor.same(e - g, x):
                return Answer("lost term", f"{d} lacks the term {text}")
            if doctor.same(g - e, x):
                return Answer("lost term", f"{d} has the term {text} once too often")
    return None


def rounded(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g off by rounding in float32? Such errors are erratic: they do not grow in proportion to dy."""
    off = float(np.linalg.norm(g - e) / np.linalg.norm(e))
    if not 1e-10 < off < 1e-6:
        return None
    if (g.astype(np.float32) == g).all():
        return Answer("float32", f"{d} is rounded to float32", "float32")
    error, of_thrice = g - e, doctor.backward(3 * doctor.dy)[name] - 3 * e
    if np.linalg.norm(of_thrice - 3 * error) > 0.2 * np.linalg.norm(of_thrice):
        return Answer("float32", f"{d} is right only to {off:.0e}: a step of backward computes in float32", "float32")
    return None


def repeated_ids(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    for ids in doctor.subject.constants.values():
        if ids.dtype.kind not in "iu":
            continue
        for upstream in doctor.arrays.values():
            if upstream.shape == (*ids.shape, *e.shape[1:]) and e.ndim == 2 and ids.min() >= 0 and ids.max() < len(e):
                last, total = np.zeros_like(e), np.zeros_like(e)
                last[ids] = upstream
                np.add.at(total, ids, upstream)
                if doctor.same(g, last) or doctor.same(g - (e - total), last):
                    return Answer("repeated ids", f"{d} keeps only the last of several equal ids: add with np.add.at")
    return None


def swapped(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    for other, truth in doctor.truth.items():
        if other != name and doctor.same(g, truth) and doctor.same(doctor.got.get(other, g), e):
            return Answer("swapped", f"{d} and the gradient of {other} are swapped")
    return None


def moved(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    for axes in itertools.permutations(range(e.ndim)):
        if axes != tuple(range(e.ndim)) and doctor.same(g, e.transpose(axes).reshape(e.shape)):
            if e.transpose(axes).shape == e.shape:
                return Answer("transposed", f"{d} is transposed: its axes are in the order {axes}")
            return Answer("transposed", f"{d} has its axes in the order {axes}, and was reshaped: transpose it instead")
    for text, x in doctor.arrays.items() if e.ndim == 1 else ():
        if text[0] in "d∂" and x.ndim > 1 and x.shape.count(len(e)) > 1:
            sums = [x.sum(tuple(i for i in range(x.ndim) if i != kept)) for kept in range(x.ndim)]
            for (i, one), (j, two) in itertools.permutations(enumerate(sums), 2):
                if doctor.same(g, one) and doctor.same(e, two):
                    return Answer("transposed", f"{d} is {text} summed over all axes but {i}; keep axis {j} instead")
    if e.size > 1 and doctor.same(g, np.abs(e)):
        return Answer("sign", f"{d} is the absolute value of the true gradient")
    limit = float(np.abs(g).max())
    if int((np.abs(e) > limit).sum()) > 1 and doctor.same(g, np.clip(e, -limit, limit)):
        return Answer("size", f"{d} is clipped at {limit:.6g}")
    for axis, n in enumerate(e.shape):
        for shift in (1, -1) if n > 2 else ():
            kept, moved_to = (slice(0, n - 1), slice(1, n))[::shift]
            here, there = np.moveaxis(e, axis, 0)[kept], np.moveaxis(g, axis, 0)[moved_to]
            if here.size > 3 and doctor.same(there, here):
                return Answer("transposed", f"{d} is shifted by {shift} along axis {axis}")
    for axis in range(e.ndim):
        for shift in (1, -1):
            if doctor.same(g, np.roll(e, shift, axis)):
                return Answer("transposed", f"{d} is shifted by {shift} along axis {axis}")
    for n in range(1, e.ndim + 1):
        for flipped in itertools.combinations(range(e.ndim), n):
            if doctor.same(g, np.flip(e, flipped)):
                return Answer("transposed", f"{d} is reversed along axis {' and '.join(map(str, flipped))}")
    if e.size > 3 and doctor.same(np.sort(g, None), np.sort(e, None)):
        order = np.argsort(e, axis=None)[np.argsort(np.argsort(g, axis=None))]
        says = f"{d} has the right numbers in wrong cells, as after a wrong transpose or reshape"
        return Answer("transposed", says, str(order.tolist()))
    return None


def products(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g a product of two known matrices, and e another one?"""
    arrays = {key: x for key, x in doctor.arrays.items() if x.ndim >= 2}
    if (found := _as_product(doctor, g, arrays)) is None or (right := _as_product(doctor, e, arrays)) is None:
        return None
    (names, text), (right_names, right_text) = found, right
    kind = "transposed" if set(names) == set(right_names) else "wrong operand"
    others = set(names) ^ set(right_names)
    if len(others) == 2 and all(other[0] in "d∂" for other in others):
        kind, right_text = "lost factor", f"{right_text}: the derivative between the two is missing"
    return Answer(kind, f"{d} is {text}; it should be {right_text}")


def _as_product(doctor: Doctor, x: Array, arrays: dict[str, Array]) -> tuple[tuple[str, str], str] | None:
    for (p, a), (q, b) in itertools.product(arrays.items(), repeat=2):
        for (left, a_text), (right, b_text) in itertools.product(_turned(p, a), _turned(q, b)):
            n = max(left.size // left.shape[-1], 1) * right.shape[-1] if left.ndim >= right.ndim else x.size
            if left.shape[-1] != right.shape[-2] or (left.ndim == right.ndim == 2 and n != x.size) or not x.any():
                continue
            try:
                product = left @ right
            except ValueError:
                continue
            if product.size != x.size:
                continue
            reshaped = product.reshape(x.shape)
            c = scale(reshaped, x)
            if c and doctor.same(x, c * reshaped):
                again = "" if product.shape[-2:] == x.shape[-2:] or x.ndim == 2 else ", reshaped"
                return (p, q), f"{'' if abs(c - 1) < doctor.close else f'{c:.4g}·'}{a_text}·{b_text}{again}"
    return None


def row_sums(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g, a vector, the sum over all rows of the product of two known arrays?"""
    if e.ndim != 1:
        return None
    arrays = {key: x.reshape(-1, len(e)) for key, x in doctor.arrays.items() if x.ndim > 1 and x.shape[-1] == len(e)}
    found: dict[str, str] = {}
    for (p, a), (q, b) in itertools.combinations_with_replacement(arrays.items(), 2):
        if len(a) == len(b):
            total = (a * b).sum(0)
            for which, x in (("g", g), ("e", e)):
                if doctor.same(x, total):
                    found.setdefault(which, f"the sum of {p} ⊙ {q} over all rows")
    if set(found) == {"g", "e"}:
        return Answer("wrong operand", f"{d} is {found['g']}; it should be {found['e']}")
    return None


def _turned(name: str, x: Array) -> Iterator[tuple[Array, str]]:
    for array in (x,) if x.ndim == 2 else (x, x.reshape(-1, x.shape[-1])):
        yield array, name
        yield array.swapaxes(-1, -2), f"{name}ᵀ"


def jacobian(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g only the diagonal of the Jacobian times dy, or the Jacobian itself times dy in place of its transpose?"""
    if doctor.walk is None or doctor.dy.shape != e.shape or not 1 < e.size <= 200:
        return None
    rows = []
    for cell in range(e.size):
        only = np.zeros(e.size)
        only[cell] = 1
        rows.append(doctor.under(name, only.reshape(e.shape)).ravel())
    whole, dy = np.array(rows), doctor.dy.ravel()
    if doctor.same(g.ravel(), np.diagonal(whole) * dy):
        says = f"{d} holds only the effect of each number on its own output; it also affects other outputs"
        return Answer("own position", says)
    if doctor.same(g.ravel(), whole @ dy):
        return Answer("transposed", f"{d} is the Jacobian times dy; its transpose belongs there")
    return None


def lost_factor(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Does g lack a known factor of e, or have one too many?"""
    arrays = doctor.arrays
    for other, truth in doctor.truth.items():
        if other != name and other[:5] != "kept " and doctor.same(g, truth):
            return Answer("wrong operand", f"{d} is the gradient of {other.split(' ', 1)[1]}")
    for other, value in arrays.items():
        if value.shape == e.shape and doctor.same(g, value) and doctor.all_through(other, name):
            return Answer("lost factor", f"{d} is {other} unchanged: the derivative between the two is missing")
    derived = {f"(1 − {k}²)": 1 - v * v for k, v in arrays.items()} | {f"(1 − {k})": 1 - v for k, v in arrays.items()}
    for other, value in (arrays | derived | {f"(1 + {k})": 1 + v for k, v in arrays.items()}).items():
        if not fits(value, e):
            continue
        spread = np.broadcast_to(value, e.shape)
        is_gradient = other.startswith(("d", "∂"))
        if is_gradient or not spread.any() or doctor.same(spread, np.full(e.shape, spread.flat[0])):
            continue
        c = scale(g * spread, e)
        if c and doctor.same(c * g * spread, e):
            beside = "" if abs(c - 1) < doctor.close else f" (and {c:.4g})"
            return Answer("lost factor", f"{d} lacks the factor {other}{beside}")
        c = scale(e * spread, g)
        if c and doctor.same(g, c * e * spread):
            beside = "" if abs(c - 1) < doctor.close else f" (and {c:.4g})"
            return Answer("lost factor", f"{d} has the factor {other} once too often{beside}")
    return None


# Derivatives of usual activation functions, from their input or their output.
SLOPES = {
    "{0}": lambda a: a,
    "(1 − {0})": lambda a: 1 - a,
    "{0}(1 − {0})": lambda a: a * (1 - a),
    "(1 − {0}²)": lambda a: 1 - a * a,
    "σ({0})": lambda a: 1 / (1 + np.exp(-a)),
    "σ({0})(1 − σ({0}))": lambda a: 1 / (2 + np.exp(a) + np.exp(-a)),
    "(1 − tanh² {0})": lambda a: 1 - np.tanh(a) ** 2,
    "exp({0})": np.exp,
    "[{0} > 0]": lambda a: 1.0 * (a > 0),
}


def slope_elsewhere(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g the upstream gradient times a usual derivative, and e that times the derivative at another array?"""
    if doctor.dy.shape != e.shape or not doctor.dy.all():
        return None
    found: dict[str, tuple[str, str]] = {}
    arrays = {name.split(" ", 1)[1]: doctor.tensors[name], **doctor.arrays}
    for (form, slope), (text, a) in itertools.product(SLOPES.items(), arrays.items()):
        if a.shape == e.shape and text[0] != "∂":
            for which, x in (("g", g), ("e", e)):
                if which not in found and doctor.same(x, doctor.dy * slope(a)):
                    found[which] = form.format(text), text
    if set(found) == {"g", "e"}:
        return Answer("wrong operand", f"{d} is dy ⊙ {found['g'][0]}; it should be dy ⊙ {found['e'][0]}")
    return None
