"""The diagnosis of a wrong gradient: it tries common mistakes, and names the one that explains the numbers.

Each question below takes the true gradient e and the gradient g from the backward pass. It also has the layer's tensors
with their true gradients, and the tape, which gives the gradient under another upstream gradient, or the share through
one kept array. An answer must explain *every* number of g. Without an answer the diagnosis is "unknown". The most
specific questions come first.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from npgpt.core import Array
from npgpt.study.check.evidence import Doctor, gradient_name
from npgpt.study.check.tape import Taped

Answer = tuple[str, str]  # kind, sentence
MANY_WRONG = 8  # largest number of diagnosed tensors; the others are probably wrong because of these

# The kinds of diagnosis.
KINDS = (
    "not noted",
    "shape",
    "infinite",
    "zero",
    "sign",
    "factor",
    "upstream",
    "mask",
    "one example",
    "repeated ids",
    "swapped",
    "transposed",
    "lost factor",
    "lost term",
    "wrong operand",
    "float32",
    "constant",
    "unknown",
    "follows",
)


def zero(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    if g.any() or not e.any():
        return None
    return "zero", f"{d} is zero everywhere: backward does not add to it, or leaves out a branch"


def upstream_ignored(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    twice = doctor.backward(2 * doctor.dy)[name]
    if doctor.same(twice, 2 * g):
        return None
    if doctor.same(twice, g):
        return "upstream", f"{d} does not change with the upstream gradient: multiply by dy"
    return "upstream", f"{d} does not double with the upstream gradient: a term in it lacks the factor dy"


def factor(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    if doctor.same(g, e):
        return None
    c = _scale(e, g)
    if not c or not doctor.same(g, c * e):
        return None
    if abs(c + 1) < doctor.close:
        return "sign", f"{d} has the wrong sign"
    return "factor", f"{d} is the true gradient times {c:.6g}{doctor.name_factor(c)}"


def masked_cells(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    hidden = ~np.isfinite(doctor.subject.forward({}))
    if hidden.any() and doctor.same(doctor.backward(np.where(hidden, 0, doctor.dy))[name], e):
        return "mask", f"{d} contains the upstream gradients of masked outputs: set them to zero first"
    leaked, lost = (e == 0) & (g != 0), (e != 0) & (g == 0)
    if leaked.any() and doctor.same(g * ~leaked * _scale(g * ~leaked, e), e):
        cell = [int(i) for i in np.argwhere(leaked)[0]]
        c = _scale(e, g * ~leaked)
        of = "" if abs(c - 1) < doctor.close else f" up to the factor {c:.4g}"
        return "mask", f"{d} is right{of}, but {leaked.sum()} cells must be 0 (first: {cell}): a mask is missing"
    if leaked.any() and lost.any() and not (leaked | lost | ((e == 0) & (g == 0))).sum() < e.size:
        return "mask", f"{d} is zero where it should not be, and not zero where it should: the mask is inverted"
    if lost.any() and lost.sum() < g.size / 2 and doctor.same(np.where(lost, e, g), e):
        cell = [int(i) for i in np.argwhere(lost)[0]]
        return "mask", f"{d} is right, but {lost.sum()} cells are wrongly 0 (first: {cell}): the mask removes too much"
    return None


def one_example(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    if not doctor.has_tape:
        return None
    for axis, what in enumerate(("example", "position", "position")[: max(0, doctor.dy.ndim - 1)]):
        n = doctor.dy.shape[axis]
        for i in (0, n - 1) if n > 1 else ():
            only = np.zeros_like(doctor.dy)
            here = (slice(None),) * axis + (i,)
            only[here] = doctor.dy[here]
            if doctor.same(g, doctor.under(name, only)):
                return "one example", f"{d} holds only {what} {i} of {n}: sum over all of them (axis {axis} of dy)"
            if doctor.same(g, e - doctor.under(name, only)):
                return "one example", f"{d} leaves out {what} {i} of {n} (axis {axis} of dy)"
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
                    return "repeated ids", f"{d} keeps only the last of several equal ids: add with np.add.at"
    return None


def swapped(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    for other, truth in doctor.truth.items():
        if other != name and doctor.same(g, truth) and doctor.same(doctor.got.get(other, g), e):
            return "swapped", f"{d} and the gradient of {other} are swapped"
    return None


def moved(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    for axes in itertools.permutations(range(e.ndim)):
        if axes != tuple(range(e.ndim)) and doctor.same(g, e.transpose(axes).reshape(e.shape)):
            if e.transpose(axes).shape == e.shape:
                return "transposed", f"{d} is transposed: its axes are in the order {axes}"
            return "transposed", f"{d} has its axes in the order {axes}, and was reshaped: transpose it instead"
    for axis in range(e.ndim):
        for shift in (1, -1):
            if doctor.same(g, np.roll(e, shift, axis)):
                return "swapped", f"{d} is shifted by {shift} along axis {axis}"
    if doctor.same(np.sort(g, None), np.sort(e, None)):
        return "transposed", f"{d} has the right numbers in wrong cells: it was transposed, or reshaped wrongly"
    return None


def products(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g a product of two known matrices, and e another one?"""
    arrays = {key: x for key, x in doctor.arrays.items() if x.ndim >= 2}
    if len(arrays) > 90:
        return None
    if (found := _as_product(doctor, g, arrays)) is None or (right := _as_product(doctor, e, arrays)) is None:
        return None
    (names, text), (right_names, right_text) = found, right
    kind = "transposed" if set(names) == set(right_names) else "wrong operand"
    return kind, f"{d} is {text}; it should be {right_text}"


def _as_product(doctor: Doctor, x: Array, arrays: dict[str, Array]) -> tuple[tuple[str, str], str] | None:
    for (p, a), (q, b) in itertools.product(arrays.items(), repeat=2):
        for (left, a_text), (right, b_text) in itertools.product(_turned(p, a), _turned(q, b)):
            if left.shape[-1] != right.shape[-2]:
                continue
            try:
                product = left @ right
            except ValueError:
                continue
            if product.size != x.size or not x.any():
                continue
            reshaped = product.reshape(x.shape)
            c = _scale(reshaped, x)
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
        return "wrong operand", f"{d} is {found['g']}; it should be {found['e']}"
    return None


def _turned(name: str, x: Array) -> Iterator[tuple[Array, str]]:
    for array in (x,) if x.ndim == 2 else (x, x.reshape(-1, x.shape[-1])):
        yield array, name
        yield array.swapaxes(-1, -2), f"{name}ᵀ"


def lost_term(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Does g lack the share of e through one kept array?"""
    shares = {}
    for kept, value in doctor.kept.items():
        if kept != name and isinstance(value, Taped) and kept in doctor.truth:
            share = doctor.through(kept, name)
            if share.any() and not doctor.same(share, e):
                shares[kept.removeprefix("kept ")] = share
    for kind, whole, much, says in (
        ("lost term", e, -1, "lacks the share through {}"),
        ("lost term", 0 * e, 1, "is only the share through {}: another path is missing"),
        ("lost term", e, 1, "has the share through {} twice"),
        ("sign", e, -2, "has the share through {} with the wrong sign"),
    ):
        for kept, share in shares.items():
            if doctor.same(g, whole + much * share):
                return kind, f"{d} {says.format(kept)}"
    for kept, share in shares.items():
        rest = e - share
        basis = np.stack([rest.ravel(), share.ravel()], axis=1)
        (a, c), *_ = np.linalg.lstsq(basis, g.ravel(), rcond=None)
        if rest.any() and doctor.same(g, a * rest + c * share):
            if abs(a) < doctor.close:
                return "lost term", f"{d} is {c:.6g} times the share through {kept}: another path is missing"
            times = [f"{x:.6g}{doctor.name_factor(x)}" for x in (c, a)]
            return "factor", f"{d} has the share through {kept} times {times[0]}, the rest times {times[1]}"
    for upstream in (doctor.dy, *(doctor.truth[kept] for kept in doctor.kept if kept in doctor.truth)):
        if upstream.shape == e.shape and doctor.same(g, e - upstream):
            return "lost term", f"{d} lacks the upstream gradient itself, as through a residual connection"
    missing = e - g
    for axis in range(e.ndim):
        mean = missing.mean(axis, keepdims=True)
        if e.shape[axis] > 1 and doctor.same(np.broadcast_to(mean, e.shape).copy(), missing):
            return "lost term", f"{d} lacks a term that is constant along axis {axis}: a sum or mean over this axis"
    for other, value in doctor.arrays.items():
        if other != d and value.shape == e.shape and e.ndim and e.shape[-1] > 1 and value.any():
            along = (missing * value).sum(-1, keepdims=True) / (value * value).sum(-1, keepdims=True)
            if doctor.same(np.nan_to_num(along) * value, missing) and not doctor.same(missing, e):
                return "lost term", f"{d} lacks a multiple of {other} in each row: the term through a sum over the row"
    return None


def statistics(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Does g lack the terms through the mean and the standard deviation of each row, as in a normalisation?

    Both statistics change with x_i by a multiple of 1 and of x_i. So what g lacks must lie, in each row, in the plane
    of 1 and x. Rows of five numbers or more do not lie in a plane by chance.
    """
    x, missing = doctor.subject.tensors[name], e - g
    for axis in range(e.ndim):
        if e.shape[axis] < 5 or not missing.any():
            continue
        rows, of_x = (np.moveaxis(a, axis, -1).reshape(-1, e.shape[axis]) for a in (missing, x))
        centred = of_x - of_x.mean(-1, keepdims=True)
        mean = rows.mean(-1, keepdims=True)
        along = (rows * centred).sum(-1, keepdims=True) / (centred * centred).sum(-1, keepdims=True)
        if doctor.same(mean + along * centred, rows):
            lost = [what for what, part in zip(("mean", "standard deviation"), (mean, along * centred), strict=True)
                    if np.linalg.norm(part) * np.sqrt(part.size / rows.size) > 1e-9 * np.linalg.norm(rows)]  # fmt: skip
            return (
                "lost term",
                f"{d} lacks the term through the {' and the one through the '.join(lost)} along axis {axis}",
            )
    return None


def diagonal(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    if not doctor.has_tape or doctor.dy.shape != e.shape or e.size > 200:
        return None
    own = np.empty_like(e)
    for cell in np.ndindex(e.shape):
        only = np.zeros_like(doctor.dy)
        only[cell] = doctor.dy[cell]
        own[cell] = doctor.under(name, only)[cell]
    if doctor.same(g, own) and not doctor.same(own, e):
        return "lost term", f"{d} holds only the effect of each number on its own output; it also affects other outputs"
    return None


def lost_factor(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Does g lack a known factor of e, or have one too many?"""
    arrays = doctor.arrays
    for other, value in arrays.items():
        if value.shape == e.shape and doctor.same(g, value):
            return "lost factor", f"{d} is {other} unchanged: a factor is missing"
    for other, value in {**arrays, **{f"(1 − {k}²)": 1 - v * v for k, v in arrays.items()}}.items():
        try:
            spread = np.broadcast_to(value, e.shape)
        except ValueError:
            continue
        is_gradient = other.startswith(("d", "∂"))
        if is_gradient or not spread.any() or doctor.same(spread, np.full(e.shape, spread.flat[0])):
            continue
        c = _scale(g * spread, e)
        if c and doctor.same(c * g * spread, e):
            beside = "" if abs(c - 1) < doctor.close else f" (and {c:.4g})"
            return "lost factor", f"{d} lacks the factor {other}{beside}"
        c = _scale(e * spread, g)
        if c and doctor.same(g, c * e * spread):
            return "lost factor", f"{d} has the factor {other} once too often"
    return None


def _scale(x: Array, y: Array) -> float:
    square = float((x * x).sum())
    return float((x * y).sum()) / square if square else 0.0


def rounded(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    off = np.linalg.norm(g - e) / np.linalg.norm(e)
    if 1e-10 < off < 1e-6:
        return "float32", f"{d} is right only to {off:.0e}: a step is computed in float32"
    return None


def almost(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    off = np.linalg.norm(g - e) / np.linalg.norm(e)
    if off < 0.03:
        return "constant", f"{d} has a relative error of only {off:.1e}: a constant is rounded, or ε is missing"
    if e.ndim > 1:
        of_row = (g * e).sum(-1, keepdims=True) / (e * e).sum(-1, keepdims=True)
        if doctor.same(g, of_row * e) and (np.abs(of_row - 1) < 0.3).all():
            return "constant", f"{d} is right up to a factor near 1 in each row: ε is missing or different"
    return None


Question = Callable[[Doctor, str, str, Array, Array], Answer | None]
QUESTIONS: tuple[Question, ...] = (
    zero,
    upstream_ignored,
    masked_cells,
    factor,
    one_example,
    repeated_ids,
    rounded,
    lost_term,
    statistics,
    swapped,
    moved,
    lost_factor,
    row_sums,
    products,
    diagonal,
    almost,
)


def diagnose(doctor: Doctor, name: str) -> Answer:
    """Return the diagnosis of a tensor's gradient: its kind, one of ``KINDS``, and a sentence."""
    g, e = doctor.got[name], doctor.truth.get(name)
    d = gradient_name(name.split(" ", 1)[1])
    if e is None:
        return "unknown", f"no method computed the gradient of {name} cell by cell"
    if g.shape != e.shape:
        return "shape", f"{d} has the shape {g.shape}, but {name} has {e.shape}"
    if np.isnan(g).all() and g.size:
        return "not noted", f"backward gives no gradient of {name}: call cache.note() for it"
    if not np.isfinite(g).all():
        return "infinite", f"{d} holds {int((~np.isfinite(g)).sum())} non-finite numbers"
    with np.errstate(all="ignore"):
        for question in QUESTIONS:
            if (answer := question(doctor, name, d, g, e)) is not None:
                return answer
    return "unknown", f"{d} is wrong, but none of the usual mistakes explains its numbers"


def diagnose_all(doctor: Doctor, wrong: Sequence[str], until_explained: bool = False) -> Iterator[Answer]:
    """Yield a diagnosis of each wrong tensor, in order.

    Args
        wrong: tensors in the order of the backward pass: a later one may be wrong because of an earlier one.
        until_explained: stop the diagnosis after the first tensor that it explains.
    """
    explained = False
    for i, name in enumerate(wrong):
        if i >= MANY_WRONG or (until_explained and explained):
            yield "follows", "also wrong, perhaps because of the mistakes above"
            continue
        kind, says = diagnose(doctor, name)
        explained = explained or is_explanation(kind)
        yield kind, says


def is_explanation(kind: str) -> bool:
    """Return whether a diagnosis names a mistake."""
    return kind not in ("unknown", "not noted", "follows")
