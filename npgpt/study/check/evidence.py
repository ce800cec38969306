"""The evidence for a diagnosis: a pass with its gradients, its tape, and the same layer at other numbers."""

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check.paths import Hypothesis, hypotheses
from npgpt.study.check.sites import variable
from npgpt.study.check.strangers import StrangerSubject
from npgpt.study.check.subjects import LayerSubject, Subject
from npgpt.study.check.tape import Taped
from npgpt.study.check.tape_gradients import all_gradients, gradients
from npgpt.study.check.walk import Walk

MOST_ARRAYS = 90
MOST_EDGES = 15_000_000  # edges that all hypotheses together may walk


class Doctor:
    """Holds a pass of a subject: its upstream gradient, the backward pass's gradients, and the true gradients.

    Args
        got, truth: tensor -> gradient; some true gradients may be missing.
        backward: returns the gradients under another upstream gradient; by default, the subject's backward pass.
        close: relative tolerance; an explanation must match a gradient this closely.
        deltas: what is added to inputs and parameters in this pass.
    """

    def __init__(
        self,
        subject: Subject,
        dy: Array,
        got: dict[str, Array],
        truth: dict[str, Array],
        backward: Callable[[Array], dict[str, Array]] | None = None,
        close: float = 1e-9,
        deltas: Mapping[str, Array] | None = None,
    ) -> None:
        self.subject, self.dy, self.got, self.truth, self.close = subject, dy, got, truth, close
        self._backward, self.deltas = backward, deltas or {}
        self.tensors = {name: np.array(x) for name, x in subject.tensors.items()}
        self.walk: Walk | None = None
        try:
            y, leaves = subject.taped()
        except Exception:  # a stranger's forward may raise anything
            y = None
        if isinstance(y, Taped):
            self.walk = Walk(y, dy, leaves)
            if isinstance(subject, LayerSubject):
                kept = {f"kept {path}": x for path, x, _ in subject.cache.walk()}
                self.tensors |= {n: x.value for n, x in kept.items() if n in self.tensors and isinstance(x, Taped)}
        self._tried: list[tuple[Hypothesis, dict[str, Array]]] = []
        self._others: list[Doctor] | None = None
        self.results: dict[str, Taped] = {}  # name of a gradient -> the result of forward that it belongs to
        self.memo: dict[Any, Any] = {}  # what other modules computed for this pass

    def same(self, a: Array, b: Array) -> bool:
        """Return whether two arrays are equal up to rounding."""
        if a.shape != b.shape or not np.isfinite(a).all() or not np.isfinite(b).all():
            return False
        size, off = float(np.linalg.norm(b)), np.abs(a - b)
        if float(np.linalg.norm(off)) > self.close * size:
            return False
        exact = self.close < 1e-6  # then small numbers beside large ones must be right, too
        return not exact or bool((off <= 1e-5 * np.abs(b) + 1e-3 * self.close * np.abs(b).max(initial=0)).all())

    def backward(self, dy: Array) -> dict[str, Array]:
        """Return what the backward pass gives under another upstream gradient; dy may be written to."""
        try:
            with self.subject.shifted(self.deltas):
                return self._backward(dy) if self._backward is not None else self.subject.gradients(dy)
        except Exception:  # a stranger's backward may fail under another upstream gradient
            return {name: np.full_like(x, np.nan) for name, x in self.got.items()}

    def forward(self) -> Array:
        with self.subject.shifted(self.deltas):
            return self.subject.forward({})

    def under(self, name: str, dy: Array) -> Array:
        """Return the true gradient under another upstream gradient."""
        assert self.walk is not None
        return gradients(self.walk.y, dy, {name: self.walk.leaves[name]})[name]

    def all_through(self, gradient: str, name: str) -> bool:
        """Return whether the whole gradient of a tensor comes through the result of forward that has a gradient."""
        if self.walk is None or gradient == "dy":
            return gradient == "dy"
        result = self.results.get(gradient)
        if result is None:
            return False
        return self.same(
            gradients(result, self.arrays[gradient], {name: self.walk.leaves[name]})[name], self.truth[name]
        )

    def shares(self, axis: int) -> dict[str, Array]:
        """Return tensor -> its gradient under each index of an axis of dy alone, in rows."""
        key = "shares", axis
        if key not in self.memo:
            assert self.walk is not None
            rows: dict[str, list[Array]] = {name: [] for name in self.walk.leaves}
            for i in range(self.dy.shape[axis]):
                only = np.zeros_like(self.dy)
                here = (slice(None),) * axis + (i,)
                only[here] = self.dy[here]
                for name, share in gradients(self.walk.y, only, self.walk.leaves).items():
                    rows[name].append(share.ravel())
            self.memo[key] = {name: np.array(of) for name, of in rows.items()}
        found: dict[str, Array] = self.memo[key]
        return found

    def written_dy(self) -> Array | None:
        """Return what backward makes of dy if it writes into dy, else None."""
        handed = [self.dy.copy()]

        def remembered(x: Array) -> Array:
            handed.append(x)
            return x

        if isinstance(self.subject, StrangerSubject):  # it hands over a copy
            plain, self.subject.laid_out = self.subject.laid_out, remembered
            self.backward(handed[0])
            self.subject.laid_out = plain
        else:
            self.backward(handed[0])
        made = handed[-1]
        return made if made.shape == self.dy.shape and not np.array_equal(made, self.dy) else None

    def outputs(self) -> "Iterator[tuple[str, Array]]":
        """Yield the path of each of several outputs, and which cells of y it holds."""
        with self.subject.shifted(self.deltas):
            sizes = self.subject.output_sizes()
        start = 0
        for path, size in sizes.items() if len(sizes) > 1 else ():
            part = np.zeros(self.dy.size, bool)
            part[start : start + size] = True
            start += size
            yield path, part.reshape(self.dy.shape)

    @property
    def others(self) -> "list[Doctor]":
        """The same layer under another upstream gradient, and at other numbers: an explanation must hold there, too."""
        if self._others is None:
            self._others = list(self._make_others()) if self.walk is not None else []
        return self._others

    def _make_others(self) -> "Iterator[Doctor]":
        rng = np.random.default_rng(31)
        movable = {name: x for name, x in self.tensors.items() if name[:5] != "kept "}
        near = {name: 0.2 * (x if x.any() else 1) * rng.uniform(-1, 1, x.shape) for name, x in movable.items()}
        mixed = {n: rng.permuted(x.ravel()).reshape(x.shape) for n, x in movable.items()}
        with np.errstate(invalid="ignore"):  # masked scores are -inf
            mixed = {name: x - movable[name] for name, x in mixed.items()}
        for moves in ({}, near, mixed) if self._backward is None else ({},):
            deltas = {name: np.where(np.isfinite(x), x, 0) for name, x in moves.items()}
            if self.subject.is_end and not deltas:
                continue
            dy = np.ones_like(self.dy) if self.subject.is_end else np.asarray(rng.normal(size=self.dy.shape))
            try:
                with self.subject.shifted(deltas):
                    got = self.backward(dy.copy()) if self._backward else self.subject.gradients(dy.copy())
                    truth = self.subject.gradients_by_tape(dy)
                    other = Doctor(self.subject, dy, got, truth, self._backward, self.close, deltas)
            except Exception:  # a stranger's layer may fail at other numbers
                continue
            if all(np.isfinite(x).all() for x in truth.values()):
                other._others = []
                yield other

    # ---- Hypotheses.

    def tried(self) -> "Iterator[tuple[Hypothesis, dict[str, Array]]]":
        """Yield hypotheses, and the gradients of all tensors that each of them predicts."""
        if self.walk is not None and not self._tried:
            most = max(8, MOST_EDGES // (1 + self.walk.n_edges))
            for hypothesis in itertools.islice(hypotheses(self.walk), most):
                with np.errstate(all="ignore"):
                    predicted = hypothesis.predicts(self.walk)
                if predicted is not None:
                    self._tried.append((hypothesis, predicted))
        yield from self._tried

    # ---- Names.

    def name_factor(self, c: float) -> str:
        """Explain a factor by the sizes of the case: ``: 1/√D is missing``. Simple names are tried first."""
        if math.isclose(abs(c), 1, rel_tol=self.close):
            return ""
        letters = {key: float(n) for key, n in self.subject.sizes.items() if n > 1}
        for name, ids in self.subject.constants.items():
            if ids.dtype.kind in "iu" and (ids < 0).any():
                letters[f"(number of {name} not ignored)"] = float((ids >= 0).sum())
        lengths: dict[str, float] = {}
        for name, x in [*self.tensors.items(), *self.subject.constants.items()]:
            for axis, n in enumerate(x.shape):
                if n > 1 and n not in lengths.values():  # one name for each length
                    lengths[f"length of axis {axis} of {name.split(' ', 1)[-1]}"] = float(n)
        products = {f"{a}·{b}": letters[a] * letters[b] for a, b in itertools.combinations(letters, 2)}
        one_less = {f"({key} − 1)/{key}": (n - 1) / n for key, n in letters.items() if n > 2}
        plain = {"2": 2.0, "√2": math.sqrt(2), "√(2/π)": math.sqrt(2 / math.pi)}
        lengths |= {f"root of the {key}": math.sqrt(n) for key, n in lengths.items()}
        for known in (plain, letters | _roots(letters) | products | one_less, {"3": 3.0, "4": 4.0}, lengths):
            for of, said in ((abs(c), "1/{0} is missing"), (1 / abs(c), "multiply by {0}, or remove a division by it")):
                for name, n in known.items():
                    if math.isclose(of, n, rel_tol=self.close):
                        here = "" if known is not lengths else f" ({n:g} is the {name})"
                        return f"{here}: {said.format(f'{n:g}' if here else name)}"
        return ""

    @functools.cached_property
    def arrays(self) -> dict[str, Array]:
        """Arrays that a backward pass may have used by mistake: usual name -> value or true gradient."""
        y = self.forward()
        found = {"dy": np.where(np.isfinite(y), self.dy, 0), "y": np.where(np.isfinite(y), y, 0)}
        if isinstance(self.subject, LayerSubject):
            masks = {path: x for path, x, _ in self.subject.cache.walk() if x.dtype == bool}
            found |= {path: mask.astype(float) for path, mask in masks.items()}
        for name, value in self.tensors.items():
            short = name.split(" ", 1)[1]
            found[short] = np.where(np.isfinite(value), value, 0)
            if name in self.truth:
                found[gradient_name(short)] = self.truth[name]
        if self.walk is not None:
            grad = all_gradients(self.walk.y, self.dy, False, {})
            for site, first, value in self.walk.tape.nodes:
                short = variable(site)
                if short and short not in found and value.size > 1 and len(found) < MOST_ARRAYS:
                    self.results[gradient_name(short)] = Taped(
                        self.walk.tape, value, np.arange(first, first + value.size).reshape(value.shape)
                    )
                    found[short] = np.where(np.isfinite(value), value, 0)
                    found[gradient_name(short)] = grad[first : first + value.size].reshape(value.shape)
        return found


def gradient_name(name: str) -> str:
    """Return ``dq``; for a tensor with a path ``∂L/∂ blocks.0.q``; for an expression ``∂L/∂(a * x)``."""
    if name.isidentifier():
        return f"d{name}"
    return f"∂L/∂({name})" if re.search(r"[^\w.\[\]]", name) else f"∂L/∂ {name}"


def _roots(sizes: dict[str, float]) -> dict[str, float]:
    return {f"√{key}": math.sqrt(n) for key, n in sizes.items()}
