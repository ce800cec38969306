"""Exercises on functions: sliding windows, a step of AdamW, a merge of byte-pair encoding."""

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
        asks: the question, in one line.
        signature, doc, body: of the function; the body is the solution.
        hints: in the order in which they are shown.
        tries: returns the first mistake of a function; empty if there is none.
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
        """Return the first lines of the file, and the function up to its docstring."""
        doc = textwrap.indent(f'"""{self.doc}"""\n', "    ")
        top = f"# npgpt exercise: {self.name}\n# {self.asks}\n# Then run: npgpt exercise check {self.name}.py\n"
        return f"{top}{self.imports}\n\ndef {self.signature}:\n{doc}"

    def template(self) -> str:
        """Return the file to start from."""
        return self.head() + '    raise NotImplementedError("write it here")\n'

    def solution(self) -> str:
        """Return the file with a right solution."""
        return self.head() + textwrap.indent(self.body, "    ")

    def judge(self, module: types.ModuleType) -> str:
        """Return a description of the first mistake; empty if there is none."""
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
        given = f"with {n} ids, context {context}, stride {stride}"
        found = function(ids, context, stride)
        if not isinstance(found, tuple) or len(found) != 2:
            return f"the function returned {type(found).__name__}, expected a pair of arrays (x, y)"
        for what, got, expected in zip("xy", found, right, strict=True):
            if np.shape(got) != expected.shape:
                return f"{given}: {what} has the shape {np.shape(got)}, expected {expected.shape}"
            if not np.array_equal(got, expected):
                return f"{given}: {what} holds wrong ids; y must hold the ids of x shifted by one"
    return ""


def _adamw_right(function: Callable[..., object]) -> str:
    rng = np.random.default_rng(0)
    theta = start = float(rng.normal())
    m = v = 0.0
    grads = [float(g) for g in rng.normal(size=5)]
    for t, g in enumerate(grads, start=1):
        found = function(theta, g, m, v, t, 0.1, 0.8, 0.95, 0.3, 0.2)
        if not isinstance(found, tuple) or len(found) != 3:
            return "the function must return theta, m and v"
        theta, m, v = (float(x) for x in found)
        right = adamw_number(start, grads[:t], 0.1, (0.8, 0.95), 0.3, 0.2)
        if abs(theta - right) > 1e-12:
            return f"after step {t} theta is {theta:.9g}, expected {right:.9g}"
    return ""


def _merge_right(function: Callable[..., object]) -> str:
    for ids, pair, right in (
        ([1, 2, 3, 1, 2], (1, 2), [9, 3, 9]),
        ([5, 5, 5], (5, 5), [9, 5]),  # from the left; each id is merged once
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
            return "the function changed its argument ids; it must return a new list"
    return ""


FUNCTIONS = [
    FunctionExercise(
        "windows",
        "How does a text become pairs of inputs and targets?",
        "windows(ids, context, stride)",
        "Return all windows of ids as x (n, context), and y, the same windows one id later. The first starts at 0.",
        """starts = range(0, len(ids) - context, stride)
x = np.array([ids[start : start + context] for start in starts])
y = np.array([ids[start + 1 : start + context + 1] for start in starts])
return x, y
""",
        [
            "A window needs context + 1 ids: context ids to read, and one more to predict.",
            "So the last start is len(ids) − context − 1, and the starts are range(0, len(ids) − context, stride).",
            "A row of y is ids[start + 1 : start + context + 1].",
        ],
        _windows_right,
        "import numpy as np\n",
    ),
    FunctionExercise(
        "adamw",
        "What does one step of AdamW do to one weight?",
        "adamw(theta, g, m, v, t, rate, beta1, beta2, eps, decay)",
        "Return the new weight theta and moments m, v. g is the gradient, t the number of the step, from 1.",
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
            "Both start at 0, so they are too small at first: divide them by 1 − βᵗ.",
            "Weight decay changes the weight itself, not g: θ ← θ − ηλθ, with the θ from before the step.",
            "Then θ ← θ − η·m̂/(√v̂ + ε): ε is added outside the root.",
        ],
        _adamw_right,
    ),
    FunctionExercise(
        "bpe-merge",
        "What does one merge of byte-pair encoding do to a list of ids?",
        "merge(ids, pair, new)",
        "Return a list in which the new id replaces every occurrence of the pair, from left to right.",
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
            "Walk from the left with an index. At each index, compare the next two ids with the pair.",
            "If they are equal, append the new id and add two to the index: an id cannot be part of two pairs.",
            "Example: merging (5, 5) to 9 turns 5 5 5 into 9 5, not 9 9.",
        ],
        _merge_right,
    ),
]
