"""The witnesses: six methods that compute a gradient without the backward pass, and compare.

L is Σ dy ⊙ y with a *random* upstream gradient dy. With ones, softmax and layer norm have the gradient zero, and a
backward that returns zeros would pass.

tape          the chain rule through every single operation of forward (``tape.py``), all cells at once
differences   (L(x + h·v) − L(x − h·v))/2h along random directions, extrapolated, with an estimate of its own error
sweep         the same with h = 1e-1 ... 1e-9: first the error falls with h², then rounding grows as 1/h
Taylor        L(x + h·v) − L(x) − h·⟨dx, v⟩ shrinks with h² if the gradient is right, with h if it is wrong
complex       Im L(x + ih·v)/h along random directions: no difference is taken, so h can be 1e-30
adjoint       ⟨dy, J·v⟩ = ⟨Jᵀ·dy, v⟩, where J·v is what the output does along v, and Jᵀ·dy is backward

A witness is examined before it testifies: the slopes of tape and complex step are compared with differences of the
forward pass alone. One that disagrees abstains: forward does something there that this witness cannot follow.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check import differences
from npgpt.study.check.differences import ROUNDING, Slope, rise, slope
from npgpt.study.check.subjects import Subject
from npgpt.study.check.tape_gradients import gradients
from npgpt.study.check.verdict import ABSTAINS, AGREES, DIFFERS, TOLERANCES, UNCLEAR, Opinion

EXACT = 1e-10  # largest relative error of an exact witness in other people's code, which may cancel digits
TINY = 1e-30  # step of the complex step
SWEEP = tuple(10.0**-n for n in range(1, 10))
TAYLOR = tuple(10.0**-n for n in range(1, 7))
SINGLE = 1e-5  # largest relative error of a gradient that came in float32
JUMP = 1e-6  # a gradient that changes more with the last bits of its inputs is at a jump
TOO_COARSE = 1e-3  # a tolerance that is larger lets mistakes pass
LONGEST = 1.0  # seconds; a method that would take longer abstains
IN_FLOAT32 = 1e-9  # a forward pass with larger rounding errors does not compute in float64

# Function of NumPy -> what the complex step sees of it.
NOT_COMPLEX = {
    "var": "np.var squares |x|",
    "std": "np.std squares |x|",
    "absolute": "np.abs returns the size of a complex number",
    "norm": "np.linalg.norm takes the size of complex numbers",
    "hypot": "np.hypot takes no complex numbers",
    "sort": "np.sort orders complex numbers by their real parts first",
    "sign": "np.sign of a complex number has length one",
    "maximum": "np.maximum compares complex numbers",
    "minimum": "np.minimum compares complex numbers",
    "clip": "np.clip compares complex numbers",
    "astype float32": "astype(np.float32) drops the imaginary part",
    "astype float64": "astype(float) drops the imaginary part",
}


class Witnesses:
    """What backward gave for one upstream gradient, and the methods that judge it.

    Attributes
        y, dy: output and upstream gradient.
        got: tensor -> its gradient; NaN if it came in another shape, with no number in the right place.
        noise: rounding error of a number of the output, relative to its size; ``ROUNDING`` in float64.
        truth: tensor -> gradient by the tape, where it is known.
    """

    def __init__(
        self, subject: Subject, y: Array, dy: Array, given: dict[str, Array], seed: int, n_directions: int
    ) -> None:
        self.subject, self.y, self.dy = subject, y, dy
        shapes = {name: x.shape for name, x in subject.tensors.items()}
        self.got = {n: given[n] if given[n].shape == shape else np.full(shape, np.nan) for n, shape in shapes.items()}
        rng = np.random.default_rng([seed, 2])
        self.directions = {
            name: [sizes_of(x) * rng.normal(size=x.shape) for _ in range(n_directions)]
            for name, x in subject.tensors.items()
        }
        started = time.perf_counter()
        self.noise = differences.noise_of(self.along({name: v[0] for name, v in self.directions.items()}), y)
        self.noise = max(self.noise, subject.coarsest)
        self.seconds = (time.perf_counter() - started) / 4
        finite = np.isfinite(y)
        self.loss_size = float(np.abs(dy * np.where(finite, y, 0)).sum())
        self.loss_noise = max(self.noise, ROUNDING) * (self.loss_size or 1.0)
        # Where paths explode, as in a long loop, the bound of their sum says nothing about rounding.
        self.largest_bound = 1e4 * (self.loss_size + float(np.linalg.norm(dy)))
        self.exact = max(TOLERANCES["tape"] if subject.strict else EXACT, 300 * self.noise)
        self.rounding = 1e-12 + 30 * self.noise
        self.confirmed: dict[str, bool] = {}
        self.slopes: dict[str, list[Slope]] = {}
        self.bounds: dict[str, Array] = {}
        self.truth: dict[str, Array] = {}
        self.used: set[str] = set()
        self.tape_fails = self._run_tape()
        self._jitter: dict[str, float] | None = None
        self._jitter_cells: dict[str, Array] | None = None

    def along(self, v: dict[str, Array]) -> Callable[[float], Array]:
        return lambda t: self.subject.forward({name: t * x for name, x in v.items()})

    def opinion(self, method: str, name: str) -> Opinion:
        """Return what a method says about the gradient of a tensor."""
        if not self.got[name].size:
            return Opinion(AGREES)
        if method in ("sweep", "Taylor"):
            if 18 * self.seconds > LONGEST:
                return Opinion(ABSTAINS, reason=f"it would take about {18 * self.seconds:.0f} s for each tensor")
            if self.noise > IN_FLOAT32:
                return Opinion(ABSTAINS, reason=f"forward's rounding errors of {self.noise:.0e} hide what it looks for")
        made: Opinion = getattr(self, f"_{method}")(name)
        return made

    # ---- Differences.

    def differences_of(self, name: str) -> list[Slope]:
        """Return the slope along each direction of a tensor."""
        if name not in self.slopes:
            found = []
            with np.errstate(all="ignore"):
                for v in self.directions[name]:
                    found.append(slope(self.along({name: v}), self.dy, self.loss_noise))
                    if 8 * self.seconds > LONGEST:
                        break
            self.slopes[name] = found
        return self.slopes[name]

    def _differences(self, name: str) -> Opinion:
        opinions = [
            self._by_slope(name, v, s) for v, s in zip(self.directions[name], self.differences_of(name), strict=False)
        ]
        worst = max(opinions, key=lambda o: ((DIFFERS, UNCLEAR, AGREES)[::-1].index(o.state), o.error))
        if worst.state == UNCLEAR and all(o.state == AGREES or o.roughly for o in opinions):
            return Opinion(UNCLEAR, worst.error, worst.reason, roughly=True)
        return worst

    def _by_slope(self, name: str, v: Array, found: Slope) -> Opinion:
        with np.errstate(all="ignore"):
            ours, size = float((self.got[name] * v).sum()), found.size + float(np.abs(self.got[name] * v).sum())
        gap = float(np.nan_to_num(abs(ours - found.value), nan=np.inf))
        error = gap / size if size and np.isfinite(gap) else gap and 1.0
        if self.exact > TOO_COARSE:
            return Opinion(UNCLEAR, error, f"forward's rounding errors of {self.noise:.0e} hide mistakes")
        if not np.isfinite(found.value) or not np.isfinite(found.error):
            return Opinion(UNCLEAR, error, "forward is not finite near these numbers")
        if gap > 100 * found.error and gap > (1e-4 if name in self.subject.coarse else 1e-6) * size:
            return Opinion(DIFFERS, error)
        fine = found.error <= 1e-5 * size or found.error <= 1e-9 * float(np.linalg.norm(self.dy))
        near = max(1e-7, self.exact, SINGLE if name in self.subject.coarse else 0)
        if fine and gap <= 4 * found.error + near * size:
            return Opinion(AGREES, error)
        reason = f"their own error is about {found.error / (size or 1):.0e} of the slope"
        return Opinion(UNCLEAR, error, reason, roughly=gap <= 4 * found.error and found.error <= 1e-2 * size)

    def _sweep(self, name: str) -> Opinion:
        error = min(error for _, error in self.sweep([name]))
        return Opinion(AGREES if error < 1e-8 else DIFFERS if error > 1e-4 else UNCLEAR, error)

    def sweep(self, names: list[str]) -> list[tuple[float, float]]:
        """Return (h, relative error) along one direction of some tensors together."""
        v = {name: self.directions[name][0] for name in names}
        ours = sum(float((self.got[name] * v[name]).sum()) for name in names)
        found = []
        for h in SWEEP:
            gained = rise(*(self.subject.forward({name: step * v[name] for name in names}) for step in (h, -h)))
            slope, size = float((self.dy * gained).sum()) / (2 * h), float(np.abs(self.dy * gained).sum()) / (2 * h)
            size += sum(float(np.abs(self.got[name] * v[name]).sum()) for name in names)
            found.append((h, float(np.nan_to_num(abs(ours - slope) / (size or 1), nan=np.inf))))
        return found

    def _Taylor(self, name: str) -> Opinion:  # noqa: N802
        """Return the slope of log remainder over log h: of those remainders that are more than rounding.

        A wrong gradient has the slope 1 along any direction. A right one may have less than 2 where the terms of h² and
        h³ happen to cancel.
        """
        found = self._order(name, self.directions[name][0])
        if found <= 1.8:
            found = max(found, self._order(name, self.directions[name][-1]))
        return Opinion(AGREES if found > 1.8 else DIFFERS if found < 1.3 else UNCLEAR, found)

    def _order(self, name: str, v: Array) -> float:
        linear = float((self.got[name] * v).sum())
        rounding = 100 * self.loss_noise + 1e-14 * (abs(linear) + float(np.linalg.norm(self.dy)))
        points = []
        for h in TAYLOR:
            gained = rise(self.subject.forward({name: h * v}), self.y)
            remainder = abs(float((self.dy * gained).sum()) - h * linear)
            if not remainder <= rounding:
                points.append((np.log10(h), np.log10(remainder) if np.isfinite(remainder) else 0.0))
        if len(points) < 2:
            return 2.0  # no remainder: linear, and right
        h, left = np.transpose(points[-3:])
        return float(np.polyfit(h, left, 1)[0])

    # ---- Exact witnesses.

    def _run_tape(self) -> str:
        """Compute all gradients by the tape; return why it cannot, or an empty text."""
        try:
            with np.errstate(all="ignore"):
                y, leaves = self.subject.taped()
                if not hasattr(y, "tape"):
                    if leaves and np.array_equal(np.asarray(y, float), self.y, equal_nan=True):
                        self.truth = {name: np.zeros(x.shape) for name, x in leaves.items()}
                        self.bounds = dict(self.truth)
                    return ""
                self.used = y.tape.used
                self.truth = gradients(y, self.dy, leaves)
                self.bounds = gradients(y, self.dy, leaves, bounds=True)
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else ""
            return text if type(error).__name__ == "TapeError" else f"forward does not run on taped numbers: {text}"
        return ""

    def _examined(self, values: list[float], name: str) -> str:
        """Return why slopes are not those of forward, or an empty text. Tape and complex step confirm each other."""
        if self._confirm_each_other(name):
            return ""
        for value, found in zip(values, self.differences_of(name), strict=False):
            allowed = 10 * found.error + 1e-6 * (found.size + abs(value) * 1e-3)
            if not abs(value - found.value) <= allowed and np.isfinite(found.error):
                return f"it disagrees with differences of forward alone: {value:.6g} and {found.value:.6g}"
        return ""

    def _tape(self, name: str) -> Opinion:
        if self.tape_fails or name not in self.truth:
            return Opinion(ABSTAINS, reason=self.tape_fails or "forward's result is not on the tape")
        got, truth = self.got[name], self.truth[name]
        with np.errstate(all="ignore"):
            slopes = [float((truth * v).sum()) for v in self.directions[name]]
        gap, size = float(np.linalg.norm(got - truth)), float(np.linalg.norm(got) + np.linalg.norm(truth))
        bound = float(np.nan_to_num(np.linalg.norm(self.bounds[name]), nan=0, posinf=0))
        bound = min(bound, self.largest_bound / scale_of(self.subject.tensors[name]))
        rounding = self.rounding * bound if size < 1e-13 * bound else min(self.rounding * bound, 1e-6 * size)
        opinion = self._exactly(name, gap, size, rounding, 1.0)
        if opinion.state == AGREES and (cell := self._cell_apart(name)) is not None:
            opinion = Opinion(DIFFERS, opinion.error, f"cell [{', '.join(map(str, cell))}] differs, beside larger ones")
        if not (why := self._examined(slopes, name)):
            return opinion
        apart = max(abs(a - b.value) / (b.size or 1) for a, b in zip(slopes, self.differences_of(name), strict=False))
        return Opinion(ABSTAINS, reason=why, backs=opinion.state == AGREES, nearly=apart < 1e-3)

    def _cell_apart(self, name: str) -> tuple[int, ...] | None:
        """Return a cell whose gradient is off by far more than rounding, though the tensor's norm hides it."""
        got, truth, bound = self.got[name], self.truth[name], np.nan_to_num(self.bounds[name], nan=np.inf)
        if self.noise > IN_FLOAT32 or name in self.subject.coarse:
            return None
        off = np.abs(got - truth) - 1e-6 * np.abs(truth) - 10 * self.rounding * bound
        worst = np.unravel_index(int(np.argmax(off)), off.shape)
        if off[worst] <= 0:
            return None
        self.jitter(name)
        assert self._jitter_cells is not None
        return None if off[worst] <= 100 * self._jitter_cells[name][worst] else tuple(int(i) for i in worst)

    def _exactly(self, name: str, gap: float, size: float, rounding: float, length: float) -> Opinion:
        gap = float(np.nan_to_num(gap, nan=np.inf))
        error = gap / size if size and np.isfinite(gap) else gap and 1.0
        if self.exact > TOO_COARSE:
            return Opinion(UNCLEAR, error, f"forward's rounding errors of {self.noise:.0e} hide mistakes")
        exact = max(self.exact, SINGLE) if name in self.subject.coarse else self.exact
        if gap <= exact * size + rounding or gap <= min(30 * self.jitter(name) * length, JUMP * size):
            return Opinion(AGREES, error)
        if error < SINGLE and self.noise < IN_FLOAT32 and not self.subject.strict:
            if self.subject.single:
                return Opinion(AGREES, error)
            return Opinion(
                UNCLEAR, error, f"the gradient is right to {error:.0e} only: a step is computed in float32, "
                "or a constant has few digits"
            )  # fmt: skip
        return Opinion(DIFFERS, error)

    def jitter(self, name: str) -> float:
        """Return by how much a gradient changes if the last bits of all tensors change."""
        if self._jitter is None:
            rng = np.random.default_rng(6)
            tensors = {n: x for n, x in self.subject.tensors.items() if not n.startswith("kept ")}
            deltas = {n: x * rng.choice([-1.0, 1.0], x.shape) * 2.0**-51 for n, x in tensors.items()}
            with np.errstate(all="ignore"), self.subject.shifted(deltas):
                other = self.subject.gradients(self.dy.copy())
            self._jitter_cells = {
                n: np.abs(np.nan_to_num(x - self.got[n]))
                if x.shape == self.got[n].shape
                else np.zeros(self.got[n].shape)
                for n, x in other.items()
            }
            self._jitter = {
                n: float(np.nan_to_num(np.linalg.norm(x - self.got[n]))) if x.shape == self.got[n].shape else 0.0
                for n, x in other.items()
            }
        return self._jitter.get(name, 0.0)

    def _confirm_each_other(self, name: str) -> bool:
        """Return whether tape and complex step, which share nothing, have the same slope along a direction."""
        if name not in self.confirmed:
            v, self.confirmed[name] = self.directions[name][0], False
            if not self.tape_fails and name in self.truth:
                slopes = self._complex_slopes(name, [v])
                if not isinstance(slopes, str):
                    terms, tape = self.dy * np.where(np.isfinite(slopes[0]), slopes[0], 0), (self.truth[name] * v).sum()
                    size = float(np.abs(terms).sum() + np.abs(self.truth[name] * v).sum())
                    self.confirmed[name] = bool(
                        size and abs(terms.sum() - tape) <= 1e-9 * size and abs(tape) > 1e-9 * size
                    )
        return self.confirmed[name]

    def _complex_slopes(self, name: str, directions: list[Array]) -> list[Array] | str:
        """Return ∂y/∂v by the complex step, or why there is none."""
        try:
            with np.errstate(all="ignore"):
                return [self.subject.complex_forward({name: TINY * 1j * v}).imag / TINY for v in directions]
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            return f"forward does not run on complex numbers: {text}"

    def _complex(self, name: str) -> Opinion:
        return self._by_complex(name, self.directions[name][:1])

    def _adjoint(self, name: str) -> Opinion:
        return self._by_complex(name, self.directions[name][-1:])

    def _by_complex(self, name: str, directions: list[Array]) -> Opinion:
        found = self._complex_slopes(name, directions)
        if isinstance(found, str):
            return Opinion(ABSTAINS, reason=self._why_not_complex() or found)
        worst = Opinion(AGREES)
        for v, dy_dv in zip(directions, found, strict=True):
            i = next(i for i, own in enumerate(self.directions[name]) if own is v)
            with np.errstate(all="ignore"):
                terms, ours = self.dy * np.where(np.isfinite(dy_dv), dy_dv, 0), self.got[name] * v
            value, slopes = float(terms.sum()), self.differences_of(name)
            gap = abs(value - float(ours.sum()))
            size = float(np.abs(terms).sum() + np.abs(ours).sum())
            bound = (
                float(np.nan_to_num((self.bounds[name] * np.abs(v)).sum(), nan=0, posinf=0))
                if name in self.bounds
                else 0
            )
            rounding = self.rounding * min(bound or self.loss_size, self.largest_bound)
            opinion = self._exactly(name, gap, size, rounding, float(np.linalg.norm(v)))
            if i < len(slopes):
                allowed = 10 * slopes[i].error + 1e-6 * (slopes[i].size + float(np.abs(terms).sum()) * 1e-3)
                apart = not abs(value - slopes[i].value) <= allowed and np.isfinite(slopes[i].error)
                if apart and not self._confirm_each_other(name):
                    why = (
                        self._why_not_complex()
                        or f"it disagrees with differences of forward alone: {value:.6g} and {slopes[i].value:.6g}"
                    )
                    return Opinion(ABSTAINS, reason=why, backs=opinion.state == AGREES)
            worst = max(worst, opinion, key=lambda o: ((DIFFERS, UNCLEAR, AGREES)[::-1].index(o.state), o.error))
        return worst

    def _why_not_complex(self) -> str:
        known = next((says for function, says in NOT_COMPLEX.items() if function in self.used), "")
        return f"{known}, so the complex step does not apply" if known else ""

    # ---- The true gradient, cell by cell.

    def cells_of(self, name: str) -> Array | None:
        """Return the true gradient of each cell, by the most exact valid witness; None if there are too many cells."""
        if name in self.truth and not self.tape_fails and self._tape(name).state != ABSTAINS:
            return self.truth[name]
        size = self.got[name].size
        if size * 4 * self.seconds > 2 * LONGEST:
            return None
        with_complex = self._by_complex(name, self.directions[name][:1]).state != ABSTAINS
        found, unit = np.zeros(self.got[name].shape), scale_of(self.subject.tensors[name])
        with np.errstate(all="ignore"):
            for cell in np.ndindex(found.shape):
                v = np.zeros(found.shape)
                v[cell] = unit
                if with_complex:
                    found[cell] = (
                        (self.dy * self.subject.complex_forward({name: TINY * 1j * v}).imag).sum() / TINY / unit
                    )
                else:
                    found[cell] = slope(self.along({name: v}), self.dy, self.loss_noise, 1e-6).value / unit
        return found


def scale_of(x: Array) -> float:
    """Return the size of a tensor's numbers; 1 if it holds zeros alone. Beside a large offset their spread counts."""
    finite = x[np.isfinite(x)]
    if not finite.size:
        return 1.0
    size, spread = float(np.sqrt((finite * finite).mean())), float(finite.std())
    return (spread if 1e-9 * size < spread < 0.1 * size else size) or 1.0


def sizes_of(x: Array) -> Array:
    """Return the size of a step for each cell: that of the tensor, or of the cell if it is smaller, so that no step
    crosses zero."""
    scale = scale_of(x)
    return np.where((x == 0) | ~np.isfinite(x), scale, np.minimum(np.abs(x), scale))


def states(opinions: Any) -> set[str]:
    return {opinion.state for opinion in opinions}
