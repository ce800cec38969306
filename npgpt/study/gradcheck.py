"""Is a gradient right? Ask two that share no code with the backward pass.

Central differences   (L(x + h) − L(x − h))/2h, off by O(h²) and by rounding over h: h = 1e-5, relative error < 1e-7
Complex step          Im L(x + ih)/h: no difference is taken, so h can be 1e-30 and nothing cancels: error < 1e-12

L is Σ dy ⊙ y with a *random* upstream gradient dy. With ones, softmax and layer norm have the gradient zero, and a
backward that returns zeros would pass. Every cell of every input, of every parameter, and of every array that forward
keeps is nudged, and compared with what backward returned, added up, or noted.

The error is taken over a whole tensor, ‖a − n‖/(‖a‖ + ‖n‖ + 10⁻³‖dy‖): cell by cell, correct code would fail wherever a
gradient is exactly zero, as that of attention's key bias.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.study.cases import Case


@dataclass(frozen=True)
class Method:
    """A way to nudge: ``step`` is what is added to a cell, ``slope`` turns what two passes gave into a derivative."""

    name: str
    step: complex
    dtype: type
    tolerance: float


DIFFERENCES = Method("central difference", 1e-5, float, 1e-7)
COMPLEX_STEP = Method("complex step", 1e-30j, complex, 1e-12)
METHODS = (DIFFERENCES, COMPLEX_STEP)


@dataclass(frozen=True)
class Check:
    """The verdict on one tensor by one method.

    Attributes
        tensor: ``input x``, ``param weight`` or ``kept xhat``, the last two with their path.
        error: relative, over the whole tensor.
        worst: the cell that is off most.
    """

    layer: str
    tensor: str
    shape: tuple[int, ...]
    method: str
    error: float
    worst: tuple[int, ...]
    passed: bool


class Report(list[Check]):
    """All verdicts on a layer; printed, a table."""

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self)

    def __str__(self) -> str:
        return "\n".join([HEADER, *map(row, self)])


def gradcheck(layer: Layer, *inputs: Any, methods: Sequence[Method] = METHODS, seed: int = 0) -> Report:
    """Check every gradient of a layer, at the weights that it has. The layer itself is not changed.

    Args
        inputs: the arguments of forward before the cache. Arrays of floats are converted to float64.
        seed: of the upstream gradient.
    """
    names = list(inspect.signature(layer.forward).parameters)
    case = Case(type(layer).__name__, layer, dict(zip(names, inputs, strict=False)))
    return check_case(case.astype(np.float64), methods, seed)


def check_case(case: Case, methods: Sequence[Method] = METHODS, seed: int = 0) -> Report:
    """Check every gradient of a case."""
    cache = case.cache(trace=True)
    case.layer.zero_grad()
    y = np.asarray(case.forward(cache))
    dy = np.random.default_rng(seed).normal(size=y.shape)
    dinputs = case.backward(dy, cache)
    report = Report()
    for target in _targets(case, cache, dinputs):
        for method in methods:
            numeric = _derivative(case, target, dy, method)
            report.append(_compare(case.name, target, numeric, dy, method))
    return report


@dataclass(frozen=True)
class _Target:
    """A tensor, the gradient that backward gave it, and how to run forward with something added to it."""

    tensor: str
    grad: Array
    nudged: Callable[[Array], Array]


def _targets(case: Case, traced: Cache, dinputs: dict[str, Array]) -> Iterator[_Target]:
    cache = case.cache()
    for name, x in case.float_inputs().items():

        def nudge_input(nudge: Array, name: str = name, x: Array = x) -> Array:
            return case.forward(cache.reset(), **{name: x + nudge})

        yield _Target(f"input {name}", dinputs[name], nudge_input)
    for path, param in case.layer.parameters().items():

        def nudge_param(nudge: Array, param: Param = param) -> Array:
            value = param.value
            try:
                param.value = value + nudge
                return case.forward(cache.reset())
            finally:
                param.value = value

        yield _Target(f"param {path}", param.grad, nudge_param)
    for path, value, grad in traced.walk():
        if value.dtype.kind == "f":
            # A kept array whose gradient was not noted fails: NaN is no gradient.
            grad = np.full_like(value, np.nan) if grad is None else grad
            nudged = NudgedCache(case)

            def nudge_kept(nudge: Array, path: str = path, nudged: NudgedCache = nudged) -> Array:
                nudged.nudges[path] = nudge
                return case.forward(nudged.reset())

            yield _Target(f"kept {path}", grad, nudge_kept)


class NudgedCache(Cache):
    """A cache that adds something to kept arrays of a pass: whatever forward makes of them afterwards feels it.

    Attributes
        nudges: path of a kept array -> what is added to it.
    """

    def __init__(self, case: Case) -> None:
        settings = case.cache()
        super().__init__(training=settings.training, seed=settings.seed, step=settings.step)
        self.nudges: dict[str, Array] = {}

    def keep(self, name: str, array: Array) -> Array:
        path = self._full(name)
        return super().keep(name, array + self.nudges[path] if path in self.nudges else array)


def _derivative(case: Case, target: _Target, dy: Array, method: Method) -> Array:
    """∂(Σ dy ⊙ y) by every cell of a tensor."""
    numeric = np.empty(target.grad.shape)
    nudge: Array = np.zeros(target.grad.shape, method.dtype)
    for cell in np.ndindex(nudge.shape):
        nudge[cell] = method.step
        if method is COMPLEX_STEP:
            slope = target.nudged(nudge).imag / method.step.imag
        else:
            above, below = target.nudged(nudge), target.nudged(-nudge)
            # A masked score is −∞ on both sides: its slope is 0, not −∞ + ∞.
            rise = np.subtract(above, below, where=above != below, out=np.zeros(dy.shape))
            slope = rise / (2 * method.step.real)
        numeric[cell] = (dy * slope).sum()
        nudge[cell] = 0
    return numeric


def _compare(layer: str, target: _Target, numeric: Array, dy: Array, method: Method) -> Check:
    off = np.abs(target.grad - numeric)
    size = np.linalg.norm(target.grad) + np.linalg.norm(numeric) + 1e-3 * np.linalg.norm(dy)
    error = float(np.linalg.norm(off) / size)
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(off), off.shape)) if off.size else ()
    return Check(layer, target.tensor, off.shape, method.name, error, worst, error < method.tolerance)


HEADER = f"{'layer':<19} {'tensor':<45} {'shape':<10} {'method':<18} {'rel. error':>10}  {'worst cell':<10} verdict"


def row(check: Check) -> str:
    """One line of the table."""
    verdict = "ok" if check.passed else "WRONG"
    shape, worst = str(check.shape).replace(" ", ""), str(list(check.worst)).replace(" ", "")
    tensor = f"{check.layer:<19} {check.tensor:<45} {shape:<10}"
    return f"{tensor} {check.method:<18} {check.error:>10.1e}  {worst:<10} {verdict}"
