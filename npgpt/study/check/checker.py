"""Is a gradient right? Ask six that share no code with the backward pass, and do not trust any one step or tolerance.

L is Σ dy ⊙ y with a *random* upstream gradient dy. With ones, softmax and layer norm have the gradient zero, and a
backward that returns zeros would pass. Of every input, every parameter, and every array that forward keeps:

tape          the chain rule through every single operation of forward (``tape.py``), all cells at once. Error < 1e-12
differences   (L(x + h) − L(x − h))/2h at h = 1e-5, cell by cell: off by O(h²) and by rounding over h. Error < 1e-7
complex       Im L(x + ih)/h, cell by cell: no difference is taken, so h can be 1e-30. Error < 1e-12
sweep         differences along a random direction with h = 1e-1 ... 1e-9: first the error falls with h², then rounding
              grows as 1/h. The bottom of that V counts, wherever it lies. Error < 1e-8
Taylor        L(x + h·v) − L(x) − h·⟨dx, v⟩ is what the gradient leaves: it shrinks with h² if the gradient is right,
              with h if it is wrong. The slope over h = 1e-1 ... 1e-6, of what is more than rounding, must be above 1.8
adjoint       ⟨dy, J·v⟩ = ⟨Jᵀ·dy, v⟩, where J·v is what the output does along v, and Jᵀ·dy is backward. Error < 1e-12

The error is taken over a whole tensor, ‖a − n‖/(‖a‖ + ‖n‖ + 10⁻³‖dy‖): cell by cell, correct code would fail wherever a
gradient is exactly zero, as that of attention's key bias. Differences and the complex step take 8 random directions
instead of the cells where a tensor has more than 400, and in a layer made of layers whose cells the tape has all seen.
"""

import copy
import inspect
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from npgpt.core import Array, Layer
from npgpt.errors import NpgptError
from npgpt.study.check.cases import Case, make_case
from npgpt.study.check.diagnosis import diagnose_all
from npgpt.study.check.evidence import Doctor
from npgpt.study.check.report import METHODS, TOLERANCES, Check, Finding, Report
from npgpt.study.check.subjects import FunctionSubject, LayerSubject, ObjectSubject, Subject

MANY, DIRECTIONS = 400, 8
MANY_CASES = 8  # from which on starting processes pays
SWEEP = tuple(10.0**-n for n in range(1, 10))
TAYLOR = tuple(10.0**-n for n in range(1, 7))
TINY = 1e-30  # step of the complex method


def gradcheck(
    layer: Any,
    *inputs: Any,
    backward: Callable[..., Any] | None = None,
    methods: Sequence[str] = METHODS,
    seed: int = 0,
) -> Report:
    """Check every gradient of something that has a forward and a backward pass. It is not changed.

    Args
        layer: a layer of npgpt's kind, ``forward(x, ..., cache)`` and ``backward(dy, cache)``; an object that saves on
            itself, ``forward(x, ...)`` and ``backward(dy)`` (``ObjectSubject`` says how its parameters are found); or
            a function, with ``backward(dy, x, ...)``.
        inputs: the arguments of forward, but for the cache. Arrays of floats are converted to float64.
        seed: of the upstream gradient and the directions.
    """
    forward = layer if backward is not None else layer.forward
    try:
        names = list(inspect.signature(forward).parameters)
    except ValueError:  # of a function in C, as NumPy's are before 2.4
        names = [f"x{i}" for i in range(len(inputs))]
    named = dict(zip(names, inputs, strict=False))
    subject: Subject
    if backward is not None:
        subject = FunctionSubject(layer, backward, named)
    elif isinstance(layer, Layer) or "cache" in names:
        layer = layer if isinstance(layer, Layer) else _as_layer(layer)
        subject = LayerSubject(Case(type(layer).__name__, layer, named).astype(np.float64))
    else:
        subject = ObjectSubject(layer, named)
    return check(subject, methods, seed)


def _as_layer(made: Any) -> Any:
    """A copy of an object that has a layer's forward and backward, but is none: one that is."""
    layer = copy.copy(made)
    layer.__class__ = type(type(made).__name__, (type(made), Layer), {})
    return layer


def check_case(case: Case, methods: Sequence[str] = METHODS, seed: int = 0, until_wrong: bool = False) -> Report:
    """Check every gradient of a case."""
    return check(LayerSubject(case), methods, seed, until_wrong)


def check_cases(names: Sequence[str]) -> Iterator[Report]:
    """Check cases of ``CASES``, in order; many of them by as many processes as there are cores."""
    if len(names) < MANY_CASES:
        yield from map(_report, names)
        return
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_report, names)


def _report(name: str) -> Report:
    return check_case(make_case(name))


def check(subject: Subject, methods: Sequence[str] = METHODS, seed: int = 0, until_wrong: bool = False) -> Report:
    """Check every gradient of a subject, by some methods, and say what is wrong.

    Args
        until_wrong: ask no further method once one has found a wrong gradient, and explain only the first.
    """
    report = Report()
    dy = upstream(subject.forward({}), seed)
    with np.errstate(all="ignore"):  # a wrong gradient may be infinite
        given = subject.gradients(dy.copy())  # one that writes into it must not spoil the judgement
    witnesses = _Witnesses(subject, dy, given, report, seed)
    for method in methods:
        report.extend(witnesses.ask(method))
        if until_wrong and not all(check.passed for check in report):
            break
    failed = {check.tensor for check in report if not check.passed}
    wrong = [name for name in on_the_way_back(subject.tensors) if name in failed]
    if wrong:
        doctor = Doctor(subject, dy, given, report.truth)
        answers = diagnose_all(doctor, wrong, until_wrong)
        report.findings = [Finding(subject.name, name, *answer) for name, answer in zip(wrong, answers, strict=True)]
    return report


def upstream(y: Array, seed: int = 0) -> Array:
    """A random gradient of an output, from a stream of its own: drawn as the inputs are, it would be one of them."""
    return np.asarray(np.random.default_rng([seed, 1]).normal(size=y.shape))


def on_the_way_back(tensors: Iterable[str]) -> list[str]:
    """Tensors in the order in which backward meets them: what is wrong later may be so because of what came first."""
    names = list(tensors)
    kept = [name for name in names if name.startswith("kept ")]
    return kept[::-1] + [name for name in names if not name.startswith("kept ")]


def rise(above: Array, below: Array) -> Array:
    """What an output gained. A masked score is −∞ on both sides: it gained 0, not −∞ + ∞."""
    return np.asarray(np.subtract(above, below, where=above != below, out=np.zeros(above.shape)))


class _Witnesses:
    """What backward gave for one upstream gradient, and the methods that judge it.

    Attributes
        got: tensor -> its gradient; NaN if it came in another shape, with no number in the right place.
        directions: tensor -> a random direction, of about length one.
        every_cell_seen: whether the tape has judged all cells of all tensors.
    """

    def __init__(self, subject: Subject, dy: Array, given: dict[str, Array], report: Report, seed: int) -> None:
        self.subject, self.dy, self.report, self.every_cell_seen = subject, dy, report, False
        shapes = {name: x.shape for name, x in subject.tensors.items()}
        self.got = {n: given[n] if given[n].shape == shape else np.full(shape, np.nan) for n, shape in shapes.items()}
        rng = np.random.default_rng([seed, 2])
        self.directions = {n: rng.normal(size=x.shape) / max(1.0, np.sqrt(x.size)) for n, x in self.got.items()}

    def ask(self, method: str) -> list[Check]:
        """The verdicts of one method on all tensors."""
        try:
            if method == "tape":
                by_tape = self.subject.gradients_by_tape(self.dy)
                self.every_cell_seen = True
                return [self._compare(method, name, numeric) for name, numeric in by_tape.items()]
            if method in ("differences", "complex"):
                slope = self._difference if method == "differences" else self._complex
                return [self._cells(method, slope, name) for name in self.got]
            if method == "sweep":
                self.report.sweep = self._sweep([name for name in self.got if not name.startswith("kept ")])
            along = {"sweep": self._bottom, "Taylor": self._taylor, "adjoint": self._adjoint}[method]
            return [along(name) for name in self.got]
        except (TypeError, AttributeError, ValueError, np.exceptions.ComplexWarning) as error:
            if method not in ("tape", "complex") or isinstance(error, NpgptError):
                raise
            kind = "taped numbers" if method == "tape" else "complex numbers"
            why = f"forward does not run on {kind}: {type(error).__name__}: {error}"
            tensors = self.subject.tensors.items()
            return [Check(self.subject.name, n, x.shape, method, 0.0, True, skipped=why) for n, x in tensors]

    def _check(self, method: str, name: str, error: float, *seen: Any, tolerance: float | None = None) -> Check:
        limit = TOLERANCES[method] if tolerance is None else tolerance
        passed = error > limit if method == "Taylor" else error < limit
        return Check(self.subject.name, name, self.got[name].shape, method, error, passed, *seen)

    def _difference(self, name: str, nudge: Array, h: float = 1e-5) -> Array:
        """(y(x + h·v) − y(x − h·v))/2h."""
        return rise(*(self.subject.forward({name: step * nudge}) for step in (h, -h))) / (2 * h)

    def _complex(self, name: str, nudge: Array) -> Array:
        y = self.subject.forward({name: TINY * 1j * nudge})
        if y.dtype.kind != "c":
            raise TypeError(f"its result is {y.dtype}")
        return y.imag / TINY

    def _cells(self, method: str, slope: Callable[[str, Array], Array], name: str) -> Check:
        """Nudge one cell after another, or many cells at once along random directions."""
        got, dy = self.got[name], self.dy
        if got.size <= MANY and not (self.subject.composite and self.every_cell_seen):
            nudge, numeric = np.zeros(got.shape), np.empty(got.shape)
            for cell in np.ndindex(got.shape):
                nudge[cell] = 1
                numeric[cell] = (dy * slope(name, nudge)).sum()
                nudge[cell] = 0
            return self._compare(method, name, numeric)
        rng = np.random.default_rng([7, 3])
        more = [rng.normal(size=got.shape) / np.sqrt(got.size) for _ in range(DIRECTIONS - 1)]
        tried = [self.directions[name], *more]
        numbers = np.array([(dy * slope(name, v)).sum() for v in tried])
        return self._check(method, name, self._relative(np.array([(got * v).sum() for v in tried]), numbers))

    def _compare(self, method: str, name: str, numeric: Array) -> Check:
        """The verdict on a gradient by one that is known cell by cell, which becomes the truth."""
        got, truth = self.got[name], self.report.truth
        if method != "differences" or name not in truth:
            truth[name] = numeric
        error = self._relative(got, numeric)
        if not got.size:
            return self._check(method, name, error, (), 0.0, 0.0)
        off = np.nan_to_num(np.abs(got - numeric), nan=np.inf)
        worst = tuple(int(i) for i in np.unravel_index(np.argmax(off), off.shape))
        return self._check(method, name, error, worst, float(numeric[worst]), float(got[worst]))

    def _relative(self, got: Array, numeric: Array) -> float:
        size = np.linalg.norm(got) + np.linalg.norm(numeric) + 1e-3 * np.linalg.norm(self.dy)
        return float(np.nan_to_num(np.linalg.norm(got - numeric) / (size or 1.0), nan=np.inf))

    def _sweep(self, names: Sequence[str]) -> list[tuple[float, float]]:
        """(h, relative error) along one direction of some tensors together."""
        v = {name: self.directions[name] for name in names}
        ours = sum(float((self.got[name] * v[name]).sum()) for name in names)
        size = sum(float(np.linalg.norm(self.got[name]) * np.linalg.norm(v[name])) for name in names)
        found = []
        for h in SWEEP:
            gained = rise(*(self.subject.forward({name: step * v[name] for name in names}) for step in (h, -h)))
            found.append((h, self._along(ours, (self.dy * gained).sum() / (2 * h), size)))
        return found

    def _bottom(self, name: str) -> Check:
        return self._check("sweep", name, min(error for _, error in self._sweep([name])))

    def _taylor(self, name: str) -> Check:
        """The slope along one direction, or, if it is too small, along another one.

        A wrong gradient has the slope 1 along any. A right one may have less than 2 where the terms of h² and h³ happen
        to cancel.
        """
        slope = self._slope(name, self.directions[name])
        if slope <= TOLERANCES["Taylor"]:
            slope = max(slope, self._slope(name, np.flip(self.directions[name])))
        return self._check("Taylor", name, slope)

    def _slope(self, name: str, direction: Array) -> float:
        """The slope of log remainder over log h, of those remainders that are more than rounding; 2 if none is."""
        y, dy, linear = self.subject.forward({}), self.dy, float((self.got[name] * direction).sum())
        terms = dy * np.where(np.isfinite(y), y, 0)
        rounding = 1e-14 * (np.abs(terms).sum() + np.abs(linear) + np.linalg.norm(dy))
        points = []
        for step in TAYLOR:
            gained = rise(self.subject.forward({name: step * direction}), y)
            remainder = abs((dy * gained).sum() - step * linear)
            if not remainder <= 10 * rounding:
                points.append((np.log10(step), np.log10(remainder) if np.isfinite(remainder) else 0.0))
        if len(points) < 2:
            return 2.0  # no remainder: linear, and right
        h, left = np.transpose(points[-3:])
        return float(np.polyfit(h, left, 1)[0])

    def _adjoint(self, name: str) -> Check:
        v, tolerance = self.directions[name], TOLERANCES["adjoint"]
        try:
            forward = self._complex(name, v)
        except (TypeError, AttributeError, ValueError):
            forward, tolerance = self._difference(name, v), TOLERANCES["differences"]
        size = float(np.linalg.norm(self.got[name]) * np.linalg.norm(v))
        error = self._along((self.got[name] * v).sum(), (self.dy * forward).sum(), size)
        return self._check("adjoint", name, error, tolerance=tolerance)

    def _along(self, ours: float, numeric: float, size: float) -> float:
        """The error of a slope along a direction, beside what it could be at most: it may be small by chance."""
        size += abs(numeric) + 1e-3 * float(np.linalg.norm(self.dy))
        return float(np.nan_to_num(abs(ours - numeric) / (size or 1.0), nan=np.inf))
