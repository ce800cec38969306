"""The evidence for a diagnosis: the gradients, the tape, and gradients under other upstream gradients."""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np

from npgpt.core import Array
from npgpt.study.check.subjects import LayerSubject, Subject
from npgpt.study.check.tape import Taped, gradients


class Doctor:
    """Holds a subject, its upstream gradient, the backward pass's gradients, and the true gradients.

    Args
        got, truth: tensor -> gradient; some true gradients may be missing.
        backward: returns the gradients under another upstream gradient; by default, the subject's backward pass.
        close: relative tolerance; an explanation must match a gradient this closely.
    """

    def __init__(
        self,
        subject: Subject,
        dy: Array,
        got: dict[str, Array],
        truth: dict[str, Array],
        backward: Callable[[Array], dict[str, Array]] | None = None,
        close: float = 1e-9,
    ) -> None:
        self.subject, self.dy, self.got, self.truth, self.close = subject, dy, got, truth, close
        self.backward = backward or subject.gradients
        try:
            self.y, self.nudges = subject.taped()
        except Exception:  # a stranger's forward may raise anything
            self.y, self.nudges = None, {}
        self.has_tape = isinstance(self.y, Taped)
        # The rest of the forward pass was computed from the taped numbers of these kept arrays.
        self.kept = {}
        if self.has_tape and isinstance(subject, LayerSubject):
            self.kept = {f"kept {path}": value.copy() for path, value, _ in subject.cache.walk()}

    def same(self, a: Array, b: Array) -> bool:
        """Return whether two arrays are equal up to rounding."""
        size = float(np.linalg.norm(b))
        return a.shape == b.shape and size > 0 and bool(np.linalg.norm(a - b) <= self.close * size)

    def under(self, name: str, dy: Array) -> Array:
        """Return the true gradient under another upstream gradient."""
        return gradients(self.y, dy, {name: self.nudges[name]})[name]

    def through(self, kept: str, name: str) -> Array:
        """Return the share of a tensor's true gradient that reaches it through a kept array."""
        return gradients(self.kept[kept], self.truth[kept], {name: self.nudges[name]})[name]

    def name_factor(self, c: float) -> str:
        """Explain a factor by the sizes of the case: `` = √D: 1/√D is missing``. Simple names are tried first."""
        if math.isclose(abs(c), 1, rel_tol=self.close):
            return ""
        letters = {key: float(n) for key, n in self.subject.sizes.items() if n > 1}
        for name, ids in self.subject.constants.items():
            if ids.dtype.kind in "iu" and (ids < 0).any():
                letters[f"(number of {name} not ignored)"] = float((ids >= 0).sum())
        lengths: dict[str, float] = {}
        for name, x in [*self.subject.tensors.items(), *self.subject.constants.items()]:
            for axis, n in enumerate(x.shape):
                if n > 1 and n not in lengths.values():  # one name for each length
                    lengths[f"(length of axis {axis} of {name.split(' ', 1)[-1]})"] = float(n)
        named = {**letters, **lengths}
        for known in (
            letters
            | _roots(letters)
            | {f"{a}·{b}": letters[a] * letters[b] for a, b in itertools.combinations(letters, 2)},
            {"2": 2.0, "3": 3.0, "4": 4.0, "√2": math.sqrt(2), "√(2/π)": math.sqrt(2 / math.pi)},
            lengths | _roots(lengths),
            {f"({a}/{b})": named[a] / named[b] for a, b in itertools.permutations(named, 2)},
        ):
            for of, said in (
                (abs(c), " = {0}: 1/{1} is missing"),
                (1 / abs(c), " = 1/{1}: remove the division by {0}"),
            ):
                names = [key for key, n in known.items() if math.isclose(of, n, rel_tol=self.close)][:3]
                if names:
                    return said.format(" or ".join(names), " or 1/".join(names))
        return ""

    @functools.cached_property
    def arrays(self) -> dict[str, Array]:
        """Arrays that a backward pass may have used by mistake: usual name -> value or true gradient."""
        visible_dy = np.where(np.isfinite(self.subject.forward({})), self.dy, 0)
        found = {"dy": visible_dy}
        for name, value in self.subject.tensors.items():
            short = name.split(" ", 1)[1]
            found[short] = np.where(np.isfinite(value), value, 0)
            if name in self.truth:
                found[gradient_name(short)] = self.truth[name]
        for name, value in self.kept.items():
            if value.dtype == bool:
                found[name.removeprefix("kept ")] = value.astype(float)
        return found


def gradient_name(name: str) -> str:
    """Return ``dq``; for a tensor with a path, ``∂L/∂ blocks.0.attention.q``."""
    return f"∂L/∂ {name}" if "." in name else f"d{name}"


def _roots(sizes: dict[str, float]) -> dict[str, float]:
    return {f"√{key}": math.sqrt(n) for key, n in sizes.items()}
