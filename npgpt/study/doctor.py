"""Whoever looks for what is wrong with a gradient: all that is at hand, and what can be asked for."""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np

from npgpt.core import Array
from npgpt.study.subjects import LayerSubject, Subject
from npgpt.study.tape import gradients, taped


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
        self.nudges = {name: taped(np.zeros(x.shape)) for name, x in subject.tensors.items()}
        try:
            self.y = subject.forward(self.nudges)
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

    @functools.cached_property
    def arrays(self) -> dict[str, Array]:
        """Whatever a backward pass may have taken by mistake: values and true gradients, by their usual names."""
        visible_dy = np.where(np.isfinite(self.subject.forward({})), self.dy, 0)
        found = {"dy": visible_dy}
        for name, value in self.subject.tensors.items():
            short = name.split(" ", 1)[1]
            found[short] = np.where(np.isfinite(value), value, 0)
            if name in self.truth:
                found[f"d{short}"] = self.truth[name]
        for name, value in self.kept.items():
            if value.dtype == bool:
                found[name.removeprefix("kept ")] = value.astype(float)
        return found


def name_factor(c: float, subject: Subject, close: float) -> str:
    """A number as one made of sizes: `` = √D: the 1/√D is missing``."""
    sizes = dict(subject.sizes)
    for name, x in [*subject.tensors.items(), *subject.constants.items()]:
        for axis, n in enumerate(x.shape):
            sizes.setdefault(f"(length of axis {axis} of {name.split(' ', 1)[-1]})", n)
    for name, ids in subject.constants.items():
        if ids.dtype.kind in "iu" and (ids < 0).any():
            sizes[f"(number of {name} that count)"] = int((ids >= 0).sum())
    singles = {key: float(n) for key, n in sizes.items() if n > 1}
    known = dict(singles)
    known |= {f"√{key}": math.sqrt(n) for key, n in singles.items()}
    short = [key for key in singles if len(key) == 1]
    known |= {f"{a}·{b}": singles[a] * singles[b] for a, b in itertools.combinations(short, 2)}
    known |= {"√2": math.sqrt(2), "√(2/π)": math.sqrt(2 / math.pi), "2": 2.0, "3": 3.0, "4": 4.0}
    known |= {f"{a}/{b}": known[a] / known[b] for a, b in itertools.permutations(singles, 2)}
    sign = "−" if c < 0 else ""
    if math.isclose(abs(c), 1, rel_tol=close):
        return ""
    for key, n in known.items():
        if math.isclose(abs(c), n, rel_tol=close):
            return f" = {sign}{key}: a 1/{key} is missing"
        if math.isclose(abs(c), 1 / n, rel_tol=close):
            return f" = {sign}1/{key}: it is divided by {key} where it should not be"
    return ""
