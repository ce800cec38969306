"""Exercises on functions: sliding windows, a step of AdamW, a merge of byte pairs."""

import textwrap
import types
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npgpt.data import SlidingWindows
from npgpt.study.mutants.references import adamw_number


@dataclass(frozen=True)
class FunctionExercise:
    """Write a function.

    Attributes
        asks: what the reader is asked.
        signature, doc, body: of the function; the body is the solution.
        hints: one after another.
        tries: what is wrong with a function; empty if nothing is.
        imports: lines at the top of the file.
    """

    name: str
    asks: str
    signature: str
    doc: str
    body: str
    hints: list[str]
    tries: Callable[[Callable[..., object]], str]
    imports: str = ""

    def head(self) -> str:
        """The first lines, and the function down to its docstring."""
        doc = textwrap.indent(f'"""{self.doc}"""\n', "    ")
        top = f"# npgpt exercise: {self.name}\n# {self.asks}\n# Then: npgpt exercise check {self.name}.py\n"
        return f"{top}{self.imports}\n\ndef {self.signature}:\n{doc}"

    def template(self) -> str:
        """The file to start from."""
        return self.head() + '    raise NotImplementedError("write it here")\n'

    def solution(self) -> str:
        """One that is right."""
        return self.head() + textwrap.indent(self.body, "    ")

    def judge(self, module: types.ModuleType) -> str:
        """What is wrong; empty if nothing is."""
        name = self.signature.partition("(")[0]
        function = getattr(module, name, None)
        if not callable(function):
            return f"the file has no function {name}"
        try:
            return self.tries(function)
        except NotImplementedError as error:
            return f"{name} is not written yet: {error}"
        except Exception as error:
            return f"{name} raised {type(error).__name__}: {error}"


def _windows_right(function: Callable[..., object]) -> str:
    rng = np.random.default_rng(0)
    for n, context, stride in ((20, 4, 4), (21, 4, 1), (9, 8, 3), (30, 5, 7), (5, 4, 2)):
        ids = rng.integers(0, 50, n)
        right = SlidingWindows(ids, context, stride, batch_size=10_000, shuffle=False).batch(0)
        found = function(ids, context, stride)
        if not isinstance(found, tuple) or len(found) != 2:
            return f"it returned {type(found).__name__}, expected a pair of arrays (x, y)"
        for what, got, expected in zip("xy", found, right, strict=True):
            if np.shape(got) != expected.shape:
                return f"of {n} ids, context {context}, stride {stride}: {what} {np.shape(got)}, not {expected.shape}"
            if not np.array_equal(got, expected):
                return f"of {n} ids, context {context}, stride {stride}: {what} holds other ids; y is x one further"
    return ""


def _adamw_right(function: Callable[..., object]) -> str:
    rng = np.random.default_rng(0)
    theta = start = float(rng.normal())
    m = v = 0.0
    grads = [float(g) for g in rng.normal(size=5)]
    for t, g in enumerate(grads, start=1):
        found = function(theta, g, m, v, t, 0.1, 0.8, 0.95, 0.3, 0.2)
        if not isinstance(found, tuple) or len(found) != 3:
            return "it must return theta, m and v"
        theta, m, v = (float(x) for x in found)
        right = adamw_number(start, grads[:t], 0.1, (0.8, 0.95), 0.3, 0.2)
        if abs(theta - right) > 1e-12:
            return f"after step {t} theta is {theta:.9g}, expected {right:.9g}"
    return ""


def _merge_right(function: Callable[..., object]) -> str:
    for ids, pair, right in (
        ([1, 2, 3, 1, 2], (1, 2), [9, 3, 9]),
        ([5, 5, 5], (5, 5), [9, 5]),  # from the left, and no id twice
        ([5, 5, 5, 5], (5, 5), [9, 9]),
        ([1], (1, 2), [1]),
        ([], (1, 2), []),
        ([1, 2, 1], (2, 1), [1, 9]),
    ):
        given = list(ids)
        found = function(given, pair, 9)
        if found is None or list(found) != right:  # type: ignore[call-overload]
            return f"merging {pair} in {ids} gives {found}, expected {right}"
        if given != ids:
            return "it changed the list that it was given"
    return ""


FUNCTIONS = [
    FunctionExercise(
        "windows",
        "A text as examples: what goes in, and what comes next.",
        "windows(ids, context, stride)",
        "All windows of ids as x (n, context), and as y the same one id further. The first begins at 0.",
        """starts = range(0, len(ids) - context, stride)
x = np.array([ids[start : start + context] for start in starts])
y = np.array([ids[start + 1 : start + context + 1] for start in starts])
return x, y
""",
        [
            "A window needs context + 1 ids: context to read, and one more to predict at its end.",
            "So the last start is len(ids) − context − 1, and the starts are range(0, len(ids) − context, stride).",
            "y is what x is, from start + 1 on.",
        ],
        _windows_right,
        "import numpy as np\n",
    ),
    FunctionExercise(
        "adamw",
        "One step of AdamW for one weight.",
        "adamw(theta, g, m, v, t, rate, beta1, beta2, eps, decay)",
        "The weight, its gradient, both moments, the number of the step (from 1): returns theta, m, v.",
        """m = beta1 * m + (1 - beta1) * g
v = beta2 * v + (1 - beta2) * g * g
m_hat = m / (1 - beta1**t)
v_hat = v / (1 - beta2**t)
theta = theta - rate * decay * theta
theta = theta - rate * m_hat / (v_hat**0.5 + eps)
return theta, m, v
""",
        [
            "m and v are running means, of g and of g²: m ← β₁m + (1 − β₁)g.",
            "Both began at 0 and are too small at first: divide by 1 − βᵗ.",
            "The decay acts on the weight itself, θ ← θ − ηλθ, with the θ from before the step, and not through g.",
            "Then θ ← θ − η·m̂/(√v̂ + ε): ε outside of the root.",
        ],
        _adamw_right,
    ),
    FunctionExercise(
        "bpe-merge",
        "One merge of byte-pair encoding.",
        "merge(ids, pair, new)",
        "The list with every occurrence of a pair of ids replaced by a new id, from left to right.",
        """merged = []
i = 0
while i < len(ids):
    if i + 1 < len(ids) and (ids[i], ids[i + 1]) == tuple(pair):
        merged.append(new)
        i += 2
    else:
        merged.append(ids[i])
        i += 1
return merged
""",
        [
            "Walk from the left with an index: at each place the pair is there, or it is not.",
            "If it is, the new id is appended and the index goes on by two: an id cannot be part of two pairs.",
            "5 5 5 becomes 9 5, not 9 9.",
        ],
        _merge_right,
    ),
]
