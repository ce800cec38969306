"""What the gradients would be if backward got one place of the forward pass wrong.

The tape knows every path that a gradient takes. A hypothesis changes the slopes of the edges that one expression of the
forward pass wrote: it cuts them, replaces a derivative by another one, or lets some of them through only. A walk back
over the changed tape gives the gradient that this mistake would give. So a name is a comparison, not a guess.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from npgpt.core import Array
from npgpt.study.check.sites import Site, operand_text, shown
from npgpt.study.check.tape import Step
from npgpt.study.check.tape_ufuncs import OF_ONE
from npgpt.study.check.walk import Walk

POWERS = {"power", "float_power", "sqrt", "cbrt", "square", "reciprocal", "divide"}
EXPONENTS = (-2, -1.5, -1, -0.5, 0.5, 1, 1.5, 2)
# What the derivative of a function with the result y consists of, and may lack.
OF_TANH: dict[str, Callable[[Array], Array]] = {
    "1 − y": lambda y: 1 - y,
    "1 + y": lambda y: 1 + y,
    "1 − y²": lambda y: 1 - y * y,
}
OF_QUOTIENT: dict[str, Callable[[Array], Array]] = {
    "y": lambda y: y,
    "1 − y": lambda y: 1 - y,
    "y(1 − y)": lambda y: y * (1 - y),
}
FACTORS = {"tanh": OF_TANH, "divide": OF_QUOTIENT, "reciprocal": OF_QUOTIENT, "expit": OF_QUOTIENT}
# The factor with a sign in it, the wrong one, and the second over the first.
SIGNS: dict[str, tuple[str, str, Callable[[Array], Array]]] = {
    "tanh": ("1 − y²", "1 + y²", lambda y: (1 + y * y) / (1 - y * y)),
    **dict.fromkeys(("divide", "reciprocal", "expit"), ("1 − y", "1 + y", lambda y: (1 + y) / (1 - y))),
}
Change = Callable[[Walk, Step], Array | None]


class Hypothesis(NamedTuple):
    """A mistake at one place.

    Attributes
        kind: one of ``diagnosis.KINDS``.
        says: a sentence, without its subject.
        predicts: returns the gradients that it gives in a pass; None if that pass has no such place.
        is_cut: whether the path that it leaves out may come with another factor instead.
    """

    kind: str
    says: str
    predicts: Callable[[Walk], dict[str, Array] | None]
    is_cut: bool = False


def hypotheses(walk: Walk) -> Iterator[Hypothesis]:
    """Yield what may be wrong at each place: cuts first, then other derivatives, operands and orders of cells."""
    calls: dict[Site, list[Site]] = {}
    for site in walk.at:
        calls.setdefault(site._replace(operand=0), []).append(site)
    for together in calls.values():
        several = len(together) > 1
        for sites in ([tuple(together)] if several else []) + [(site,) for site in together]:
            what = shown(sites[0], operand=several and len(sites) == 1)
            yield _changed("lost term", f"the path through {what}", sites, lambda w, s: 0 * s.slope, is_cut=True)
    for together in calls.values():
        if len(together) == 2 and together[0].name == "divide":
            yield _softmax_diagonal(together)
    for site in walk.at:
        what = shown(site, operand=len(calls[site._replace(operand=0)]) > 1)
        steps = [walk.tape.steps[n] for n in walk.at[site]]
        if len(steps) > 1:
            yield from _uses(site, what)
        yield from _derivatives(site, what, steps)
    for site in walk.at:
        yield from _operands(site, walk)
    for site, number, value in walk.tape.nodes:
        yield from _orders(site, number, value, walk)


def _changed(kind: str, says: str, sites: tuple[Site, ...], change: Change, is_cut: bool = False) -> Hypothesis:
    """Return the hypothesis that the slopes at some places are others."""

    def predicts(walk: Walk) -> dict[str, Array] | None:
        found = {n: change(walk, walk.tape.steps[n]) for site in sites for n in walk.at.get(site, ())}
        slopes = {n: x for n, x in found.items() if x is not None}
        return walk.gradients(slopes) if slopes and len(slopes) == len(found) else None

    return Hypothesis(kind, says, predicts, is_cut)


def _uses(site: Site, what: str) -> Iterator[Hypothesis]:
    """Yield: only some of the uses of a place count, as in a loop, or where a layer is used twice."""

    def only(kind: str, says: str, keep: Callable[[list[int]], list[int]]) -> Hypothesis:
        def predicts(walk: Walk) -> dict[str, Array] | None:
            numbers = walk.at.get(site, [])
            lost = set(numbers) - set(keep(numbers))
            return walk.gradients({n: 0 * walk.tape.steps[n].slope for n in lost})

        return Hypothesis(kind, says, predicts)

    yield only("one example", f"has only the last use of {what}", lambda numbers: numbers[-1:])
    yield only("one example", f"has only the first use of {what}", lambda numbers: numbers[:1])
    yield only("end", f"leaves out the last use of {what}", lambda numbers: numbers[:-1])
    yield only("end", f"leaves out the first use of {what}", lambda numbers: numbers[1:])

    def overwritten(walk: Walk) -> dict[str, Array] | None:
        numbers, last = walk.at.get(site, []), np.full(walk.tape.n + 1, -1)
        for n in numbers:
            last[walk.tape.steps[n].parent] = n
        steps = walk.tape.steps
        return walk.gradients({n: steps[n].slope * (last[steps[n].parent] == n) for n in numbers})

    yield Hypothesis("lost term", f"keeps only the last of several uses of a cell in {what}: add them up", overwritten)


def _derivatives(site: Site, what: str, steps: list[Step]) -> Iterator[Hypothesis]:
    """Yield other slopes of a function of single numbers, and some of the edges of a product."""
    slope = np.concatenate([step.slope for step in steps])

    def made(kind: str, says: str, change: Change) -> Hypothesis:
        return _changed(kind, says, (site,), change)

    if site.name != "index":
        yield from _one_use(what, steps, made)
    if any(step.spread for step in steps):
        shape = steps[0].shape
        for i, j in itertools.combinations(range(len(shape)), 2):
            if shape[i] == shape[j] > 1:
                says = f"has only the part from its own position of the path through {what}"
                yield made("own position", says, _diagonal(i, j))
        return
    if site.name in ("power", "float_power") and site.operand == 1:
        says = f"has the logarithm of the exponent in the derivative of {what}; it must be that of the base"
        yield made("wrong operand", says, lambda w, s: w.values[s.child] * np.log(w.values[s.parent]))
    if site.name == "index":
        for which, name in ((-1, "last"), (0, "first")):
            says = f"keeps only the {name} of several equal indices in {what}: add with np.add.at"
            yield made("repeated ids", says, _one(which))
        return
    if (slope == slope[:1]).all():
        return
    if np.isin(slope, (0, 1)).all():
        yield made("mask", f"lacks the mask of {what}", lambda w, s: np.ones_like(s.slope))
        yield made("mask", f"has the mask of {what} inverted", lambda w, s: 1 - s.slope)
        return
    yield _placed_outside(site, what)
    other = operand_text(site, 1 - site.operand) if site.name == "multiply" else ""
    whole = f"the factor {other}, in {shown(site)}" if other else f"the derivative of {what}"
    yield made("lost factor", f"lacks {whole}", lambda w, s: np.ones_like(s.slope))
    yield made("lost factor", f"has twice {whole}", lambda w, s: s.slope**2)
    if other:
        yield made("wrong operand", f"has 1 − {other} in place of {other}, in {shown(site)}", lambda w, s: 1 - s.slope)
    if site.name in POWERS and not site.order:  # not inside of another function, such as a norm
        for k in EXPONENTS:
            says = f"has a wrong power in the derivative of {what}: the exponent is off by {k:+g}"
            yield made("power", says, _times_power(k))
    for name, factor in FACTORS.get(site.name, {}).items():
        says = f"the factor {name} in the derivative of y = {what}"
        yield made("lost factor", f"lacks {says}", _times(factor, -1))
        yield made("lost factor", f"has {says} once too often", _times(factor, 1))
    if site.name in SIGNS:
        right, wrong, factor = SIGNS[site.name]
        yield made("sign", f"has {wrong} where {right} belongs in the derivative of y = {what}", _times(factor, 1))
    yield made("power", f"has the derivative of {what} upside down", lambda w, s: 1 / s.slope)
    if site.name in OF_ONE:
        formula, function = OF_ONE[site.name], getattr(np, site.name, None)
        if function is not None:
            says = f"takes the derivative of {what} at its output; take it at its input"
            yield made("wrong operand", says, lambda w, s: formula(y := w.values[s.child], function(y)) + 0 * y)
        says = f"puts the input into the derivative of {what} where its output belongs"
        yield made("wrong operand", says, lambda w, s: formula(x := w.values[s.parent], x) + 0 * x)


def _one_use(what: str, steps: list[Step], made: Callable[[str, str, Change], Hypothesis]) -> Iterator[Hypothesis]:
    """Yield: where a cell is used several times along an axis, and its gradients must be added, one use counts."""
    step = steps[0]
    if step.known is not None or len(step.shape) > 6:
        return
    parents = step.parent.reshape(step.shape)
    several = [axis for axis, n in enumerate(step.shape) if n > 1]
    for axes in [(axis,) for axis in several] + list(itertools.pairwise(several)):
        same = len(axes) == 1 and bool((parents == parents.take([0], axes[0])).all())
        for last, end in ((True, "last"), (False, "first")):
            says = f"has only the {end} of several uses of each cell of {what}: add them up"
            yield made("one example" if same else "lost term", says, _one_along(axes, last))


def _one_along(axes: tuple[int, ...], last: bool) -> Change:
    def change(walk: Walk, step: Step) -> Array | None:
        if step.known is not None or len(step.shape) <= max(axes):
            return None
        index = np.zeros((1,) * len(step.shape), int)
        for axis in axes:
            index = index * step.shape[axis] + np.indices(step.shape, sparse=True)[axis]
        index = np.broadcast_to(index if last else index.max() - index, step.shape).ravel()
        most = np.full(walk.tape.n + 1, -1)
        np.maximum.at(most, step.parent, index)
        return np.asarray(step.slope * (most[step.parent] == index))

    return change


def _softmax_diagonal(sites: list[Site]) -> Hypothesis:
    """Return: of e / Σe only the diagonal of the Jacobian is used, y(1 − y)."""

    def predicts(walk: Walk) -> dict[str, Array] | None:
        slopes = {n: 0 * walk.tape.steps[n].slope for n in walk.at.get(sites[1], ())}
        for n in walk.at.get(sites[0], ()):
            step = walk.tape.steps[n]
            slopes[n] = step.slope * (1 - walk.values[step.child])
        return walk.gradients(slopes) if slopes else None

    says = f"has only the diagonal of the Jacobian of {shown(sites[0])}"
    return Hypothesis("own position", says, predicts)


def _placed_outside(site: Site, what: str) -> Hypothesis:
    """Return: the factor of one place is multiplied at the end, outside of the means and sums that lie between."""

    def predicts(walk: Walk) -> dict[str, Array] | None:
        numbers = walk.at.get(site, [])
        if len(numbers) != 1 or walk.tape.steps[numbers[0]].known is not None:
            return None
        step = walk.tape.steps[numbers[0]]
        factor = step.slope.reshape(step.shape)
        found = walk.gradients({numbers[0]: np.ones_like(step.slope)})
        return {name: x * factor if x.shape == step.shape else np.full(x.shape, np.nan) for name, x in found.items()}

    other = operand_text(site, 1 - site.operand) or "one factor"
    says = f"is multiplied by {other} after the sums; {shown(site)} comes before them: multiply dy by it first"
    return Hypothesis("order", says, predicts)


def _operands(site: Site, walk: Walk) -> Iterator[Hypothesis]:
    """Yield products with another array in place of the other operand."""
    own = walk.tape.steps[walk.at[site][0]]
    if len(walk.at[site]) > 2 and own.spread:
        yield _one_step_late(site)
    if len(walk.at[site]) > 1 or not (own.spread or site.name == "multiply"):
        return
    belongs = operand_text(site, 1 - site.operand)
    seen: set[str] = set()
    for name, value in walk.pool():
        for turned in (False, True) if value.ndim > 1 else (False,):
            text = f"{name}ᵀ" if turned else name
            slope = _spread(own, value.swapaxes(-1, -2) if turned else value)
            if text in seen or slope is None or not slope.any() or np.allclose(slope, own.slope):
                continue
            seen.add(text)
            says = f"has {text} in place of {belongs or 'another array'}, in the derivative of {shown(site)}"
            back = _spread(own, value) if turned else None
            kind = "transposed" if back is not None and np.array_equal(back, own.slope) else "wrong operand"
            if kind == "transposed":
                says = f"has {name} turned the wrong way in the derivative of {shown(site)}: transpose it"
            yield Hypothesis(kind, says, _with_array(site, name, turned))


def _one_step_late(site: Site) -> Hypothesis:
    """Return: in a loop, a product takes the state after each step, where the state before it belongs."""

    def predicts(walk: Walk) -> dict[str, Array] | None:
        steps = [walk.tape.steps[n] for n in walk.at.get(site, [])]
        states: dict[Site, list[Array]] = {}
        for at, _, value in walk.tape.nodes:
            states.setdefault(at, []).append(value)
        for values in states.values():
            late = [_spread(step, value) for step, value in zip(steps, values, strict=False)]
            fits = len(values) == len(steps) and all(x is not None for x in late)
            if fits and all(
                np.array_equal(x, step.slope) for x, step in zip(late, steps[1:], strict=False) if x is not None
            ):
                return walk.gradients({n: x for n, x in zip(walk.at[site], late, strict=True) if x is not None})
        return None

    says = f"takes the state after each step, where the state before it belongs, in {shown(site)}"
    return Hypothesis("wrong operand", says, predicts)


def _with_array(site: Site, name: str, turned: bool) -> Callable[[Walk], dict[str, Array] | None]:
    def predicts(walk: Walk) -> dict[str, Array] | None:
        numbers = walk.at.get(site, [])
        for known, value in walk.pool() if len(numbers) == 1 else ():
            if known == name:
                slope = _spread(walk.tape.steps[numbers[0]], value.swapaxes(-1, -2) if turned else value)
                if slope is not None:
                    return walk.gradients({numbers[0]: slope})
        return None

    return predicts


def _spread(step: Step, value: Array) -> Array | None:
    """Return the slopes of a product if its other operand were this array; None if its shape does not fit."""
    full = step.spread(value) if step.spread else value
    if full is None or full.ndim > len(step.shape):
        return None
    if any(n not in (1, m) for n, m in zip(full.shape[::-1], step.shape[::-1], strict=False)):
        return None
    full = np.broadcast_to(full, step.shape)
    return full.ravel() if step.known is None else full[step.known]


def _orders(site: Site, first: int, value: Array, walk: Walk) -> Iterator[Hypothesis]:
    """Yield: the gradient of a result is transposed, or reshaped where it must be transposed."""
    if not 1 < value.ndim < 5 or value.size > 5000:
        return
    plain = np.arange(value.size)
    for axes in itertools.permutations(range(value.ndim)):
        order = plain.reshape(value.shape).transpose(axes).ravel()
        if (order == plain).all():
            continue
        says = f"has the gradient of {shown(site)} with its axes in the order {axes}: transpose it back"

        def predicts(walk: Walk, order: Array = order) -> dict[str, Array] | None:
            here = next((n for at, n, x in walk.tape.nodes if at == site and x.shape == value.shape), None)
            return None if here is None else walk.gradients({}, (here, order))

        yield Hypothesis("transposed", says, predicts)


def _times(factor: Callable[[Array], Array], power: int) -> Change:
    return lambda walk, step: step.slope * factor(walk.values[step.child]) ** power


def _times_power(k: float) -> Change:
    def change(walk: Walk, step: Step) -> Array:
        x = walk.values[step.parent]
        return np.asarray(step.slope * (np.abs(x) ** k if math.fmod(k, 1) else x**k))

    return change


def _diagonal(i: int, j: int) -> Change:
    def change(walk: Walk, step: Step) -> Array | None:
        if len(step.shape) <= j or step.shape[i] != step.shape[j]:
            return None
        index = np.indices(step.shape)
        same = index[i] == index[j]
        return np.asarray(step.slope * (same.ravel() if step.known is None else same[step.known]))

    return change


def _one(which: int) -> Change:
    def change(walk: Walk, step: Step) -> Array:
        parents = step.parent[::-1] if which else step.parent
        kept = np.zeros(len(parents))
        kept[np.unique(parents, return_index=True)[1]] = 1
        return np.asarray(step.slope * (kept[::-1] if which else kept))

    return change
