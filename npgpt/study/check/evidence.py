"""Whoever looks for what is wrong with a gradient: all that is at hand, and what can be asked for."""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np

from npgpt.core import Array
from npgpt.study.check.subjects import LayerSubject, Subject
from npgpt.study.check.tape import gradients


class Doctor:
    """Knows a subject, its upstream gradient, what backward gave, and the truth.

    Args
        got, truth: tensor -> gradient; the truth may be missing for some.
        backward: what gives the gradients for another upstream, if not the subject.
        close: relative; what explains a gradient explains all digits of it but the last.
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
            self.has_tape = self.y.dtype == object
        except (TypeError, AttributeError, ValueError):
            self.has_tape = False
        # The kept arrays as the tape has them: what is made of them afterwards is made of these.
        self.kept = {}
        if self.has_tape and isinstance(subject, LayerSubject):
            self.kept = {f"kept {path}": value.copy() for path, value, _ in subject.cache.walk()}

    def same(self, a: Array, b: Array) -> bool:
        """Equal in all digits but the last."""
        size = float(np.linalg.norm(b))
        return a.shape == b.shape and size > 0 and bool(np.linalg.norm(a - b) <= self.close * size)

    def under(self, name: str, dy: Array) -> Array:
        """The true gradient under another upstream."""
        return gradients(self.y, dy, {name: self.nudges[name]})[name]

    def through(self, kept: str, name: str) -> Array:
        """The share of the true gradient of a tensor that reaches it through a kept array."""
        return gradients(self.kept[kept], self.truth[kept], {name: self.nudges[name]})[name]

    def name_factor(self, c: float) -> str:
        """A number as those made of sizes that it may be: `` = √D: 1/√D is missing``. Simple names go before others."""
        if math.isclose(abs(c), 1, rel_tol=self.close):
            return ""
        letters = {key: float(n) for key, n in self.subject.sizes.items() if n > 1}
        for name, ids in self.subject.constants.items():
            if ids.dtype.kind in "iu" and (ids < 0).any():
                letters[f"(number of {name} that count)"] = float((ids >= 0).sum())
        lengths: dict[str, float] = {}
        for name, x in [*self.subject.tensors.items(), *self.subject.constants.items()]:
            for axis, n in enumerate(x.shape):
                if n > 1 and n not in lengths.values():  # once, though several arrays have it
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
                (1 / abs(c), " = 1/{1}: divided by {0} for no reason"),
            ):
                names = [key for key, n in known.items() if math.isclose(of, n, rel_tol=self.close)][:3]
                if names:
                    return said.format(" or ".join(names), " or 1/".join(names))
        return ""

    @functools.cached_property
    def arrays(self) -> dict[str, Array]:
        """Whatever a backward pass may have taken by mistake: values and true gradients, by their usual names."""
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
    """``dq``; of a tensor with a path ``∂L/∂ blocks.0.attention.q``."""
    return f"∂L/∂ {name}" if "." in name else f"d{name}"


def _roots(sizes: dict[str, float]) -> dict[str, float]:
    return {f"√{key}": math.sqrt(n) for key, n in sizes.items()}
