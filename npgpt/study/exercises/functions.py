"""Exercises on functions: sliding windows, a step of AdamW, a merge of byte-pair encoding."""

from collections.abc import Iterator

import numpy as np

from npgpt.data import SlidingWindows
from npgpt.study.exercises.function_exercise import Example, FunctionExercise, Mistake
from npgpt.study.mutants.references import adamw_number


def _windows_examples() -> Iterator[Example]:
    rng = np.random.default_rng(0)
    for n, context, stride in ((20, 4, 4), (21, 4, 1), (9, 8, 3), (30, 5, 7), (5, 4, 2)):
        # The first two are easy to read. With other ids, y = x + 1 is not right by chance.
        ids = np.arange(100, 100 + n) if n in (20, 21) else rng.integers(0, 50, n)
        yield ((ids, context, stride), SlidingWindows(ids, context, stride, batch_size=10_000, shuffle=False).batch(0))


def _adamw_examples() -> Iterator[Example]:
    start, rate, beta1, beta2, eps, decay = 2.0, 0.1, 0.8, 0.95, 0.3, 0.2
    grads = [0.5, -0.3, 0.2, 0.7, -0.1]
    theta, m, v = start, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        after = adamw_number(start, grads[:t], rate, (beta1, beta2), eps, decay)
        right = (after, beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g)
        yield (theta, g, m, v, t, rate, beta1, beta2, eps, decay), right
        theta, m, v = right


def _merge_examples() -> Iterator[Example]:
    yield ([1, 2, 3, 1, 2], (1, 2), 9), [9, 3, 9]
    yield ([5, 5, 5], (5, 5), 9), [9, 5]  # from the left; each id is merged once
    yield ([5, 5, 5, 5], (5, 5), 9), [9, 9]
    yield ([1], (1, 2), 9), [1]
    yield ([], (1, 2), 9), []
    yield ([1, 2, 1], (2, 1), 9), [1, 9]


FUNCTIONS = [
    FunctionExercise(
        "windows",
        "How does a text become pairs of inputs and targets?",
        "windows(ids, context, stride)",
        """Return arrays x and y of the shape (n, context): all windows of ids.

A row of x holds ids[start : start + context], with start = 0, stride,
2·stride, ... A row of y holds the same window one id later: what a model
must predict. Only windows whose row of y is complete count.

windows([10, 11, 12, 13, 14], 2, 2) gives
    x = [[10, 11], [12, 13]]  and  y = [[11, 12], [13, 14]]
""",
        """starts = range(0, len(ids) - context, stride)
x = np.array([ids[start : start + context] for start in starts])
y = np.array([ids[start + 1 : start + context + 1] for start in starts])
return x, y
""",
        [
            "A window needs context + 1 ids: context ids to read, and one more to predict.",
            "So the last start is at most len(ids) − context − 1. range excludes its end:\n"
            "the starts are range(0, len(ids) − context, stride).",
            "A row of y is ids[start + 1 : start + context + 1].",
        ],
        _windows_examples,
        ("x", "y"),
        {
            "x": "A row of x must be ids[start : start + context], for each start 0, stride, 2·stride, ... "
            "that leaves an id to predict.",
            "y": "A row of y must hold the ids of the same row of x, each replaced by the next id of the text.",
        },
        [
            Mistake(
                "y holds the same ids as x: shift it by one.",
                (("start + 1 : start + context + 1", "start : start + context"),),
            ),
            Mistake(
                "y holds the window after that of x: shift it by one id, not by context.",
                (("start + 1 : start + context + 1", "start + context : start + 2 * context"),),
            ),
            Mistake(
                "y holds one id for each window: it must hold the next id of every id of x.",
                (("ids[start + 1 : start + context + 1]", "ids[start + context]"),),
            ),
            Mistake("a row of y ends one id early.", (("start + context + 1]", "start + context]"),)),
            Mistake("x and y are swapped.", (("return x, y", "return y, x"),)),
            Mistake(
                "the last window is missing: range excludes its end, so the end is len(ids) - context.",
                (("len(ids) - context,", "len(ids) - context - 1,"),),
            ),
            Mistake(
                "there is one window too many: its last id has no next id.",
                (("len(ids) - context,", "len(ids) - context + 1,"),),
            ),
            Mistake(
                "there is one window too many: its last id has no next id.",
                (("len(ids) - context,", "len(ids) - context + 1,"), ("np.array(", "list(")),
            ),
            Mistake("the stride is ignored: it is the third argument of range.", ((", stride)", ")"),)),
            Mistake("the windows do not overlap: they must start every stride ids.", ((", stride)", ", context)"),)),
        ],
        "import numpy as np\n",
    ),
    FunctionExercise(
        "adamw",
        "What does one step of AdamW do to one weight?",
        "adamw(theta, g, m, v, t, rate, beta1, beta2, eps, decay)",
        """Return theta, m and v after a step. All are numbers.

theta is the weight, and g its gradient. m and v are the running means of
g and of g². t is the number of the step: 1 in the first, in which m and v
come in as 0. rate is the learning rate, decay the factor of weight decay.
""",
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
            "Both start at 0, so they are too small at first: the step uses m̂ = m/(1 − β₁ᵗ)\n"
            "and v̂ = v/(1 − β₂ᵗ). m and v themselves are returned without this correction.",
            "Weight decay changes the weight itself, not g: θ ← θ − ηλθ, with the θ from\n"
            "before the step. η is the rate, λ the decay.",
            "Then θ ← θ − η·m̂/(√v̂ + ε): ε is added outside the root.",
        ],
        _adamw_examples,
        ("theta", "m", "v"),
        {
            "m": "It is a running mean of g: beta1 of the old m, and 1 - beta1 of g.",
            "v": "It is a running mean of g²: beta2 of the old v, and 1 - beta2 of g².",
            "theta": "It is the old theta minus rate·decay·theta minus rate·m̂/(√v̂ + eps), with the corrected m̂ and v̂.",
        },
        [
            Mistake(
                "the bias correction is missing: divide m by 1 - beta1**t and v by 1 - beta2**t.",
                (("m / (1 - beta1**t)", "m"), ("v / (1 - beta2**t)", "v")),
            ),
            Mistake("v is not divided by 1 - beta2**t.", (("v / (1 - beta2**t)", "v"),)),
            Mistake("m is not divided by 1 - beta1**t.", (("m / (1 - beta1**t)", "m"),)),
            Mistake(
                "the correction uses t + 1: t is 1 in the first step already.",
                (("beta1**t", "beta1 ** (t + 1)"), ("beta2**t", "beta2 ** (t + 1)")),
            ),
            Mistake(
                "the correction uses t - 1: t is 1 in the first step, not 0.",
                (("beta1**t", "beta1 ** (t - 1)"), ("beta2**t", "beta2 ** (t - 1)")),
            ),
            Mistake(
                "the corrected m̂ and v̂ are returned: return m and v themselves.",
                (("theta, m, v", "theta, m_hat, v_hat"),),
            ),
            Mistake(
                "weight decay is added to g, as in Adam with L2: AdamW subtracts it from theta itself.",
                (("m = beta1", "g = g + decay * theta\nm = beta1"), ("theta = theta - rate * decay * theta\n", "")),
            ),
            Mistake(
                "weight decay uses the theta after the step: it must use the one from before.",
                (
                    ("theta = theta - rate * decay * theta\n", ""),
                    ("return", "theta = theta - rate * decay * theta\nreturn"),
                ),
            ),
            Mistake("weight decay is not multiplied by the rate.", (("rate * decay * theta", "decay * theta"),)),
            Mistake("weight decay is missing.", (("theta = theta - rate * decay * theta\n", ""),)),
            Mistake("weight decay is added: it must be subtracted.", (("- rate * decay", "+ rate * decay"),)),
            Mistake(
                "eps is under the root: add it to the root of v̂.", (("(v_hat**0.5 + eps)", "(v_hat + eps) ** 0.5"),)
            ),
            Mistake("the root of v̂ is missing.", (("v_hat**0.5", "v_hat"),)),
            Mistake("eps is missing.", (("(v_hat**0.5 + eps)", "v_hat**0.5"),)),
            Mistake("the step uses g itself: it must use m̂.", (("m_hat /", "g /"),)),
            Mistake("the step is added: it must go against the gradient.", (("- rate * m_hat", "+ rate * m_hat"),)),
            Mistake("v is a mean of g: it must be one of g².", (("* g * g", "* g"),)),
            Mistake("g is not multiplied by 1 - beta1.", (("(1 - beta1) * g", "g"),)),
            Mistake("g² is not multiplied by 1 - beta2.", (("(1 - beta2) * g * g", "g * g"),)),
            Mistake("beta1 and beta2 are swapped.", (("beta1", "beta3"), ("beta2", "beta1"), ("beta3", "beta2"))),
            Mistake("the results are in another order: return theta, m, v.", (("theta, m, v", "m, v, theta"),)),
        ],
    ),
    FunctionExercise(
        "bpe-merge",
        "What does one merge of byte-pair encoding do to a list of ids?",
        "merge(ids, pair, new)",
        """Return a new list: the id new replaces each pair, from left to right.

ids is a list of integers, pair a tuple of two, new an integer.
merge([1, 2, 3, 1, 2], (1, 2), 9) gives [9, 3, 9]
""",
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
            "Walk from the left with an index. At each index, compare the next two ids with\n"
            "the pair. The last id has no id after it.",
            "If they are equal, append the new id and add two to the index: an id cannot be\n"
            "part of two pairs. If not, append the id, and add one.",
            "Example: merging (5, 5) to 9 turns 5 5 5 into 9 5, not 9 9.",
        ],
        _merge_examples,
        ("result",),
        {"result": "Walk from the left: put new for each pair and skip both of its ids; copy every other id."},
        [
            Mistake("the second id of a pair stays: after a merge, go on two ids later.", (("i += 2", "i += 1"),)),
            Mistake(
                "the last id is lost: it has no id after it, but it must be copied.",
                (("while i < len(ids)", "while i + 1 < len(ids)"),),
            ),
            Mistake(
                "the second id of a pair stays, and the last id is lost: go on two ids later, and copy the last.",
                (("i += 2", "i += 1"), ("while i < len(ids)", "while i + 1 < len(ids)")),
            ),
            Mistake(
                "the last id is compared too: it has no id after it. Test i + 1 < len(ids) first.",
                (("i + 1 < len(ids) and ", ""),),
            ),
            Mistake("only the first pair is merged.", (("i += 2", "return merged + ids[i + 2 :]"),)),
            Mistake(
                "no pair is found: pair is a tuple, and a tuple never equals a list. Compare (ids[i], ids[i + 1]).",
                (("tuple(pair)", "list(pair)"),),
            ),
            Mistake(
                "the pair is found in either order: (1, 2) is not (2, 1).",
                (("(ids[i], ids[i + 1]) == tuple(pair)", "{ids[i], ids[i + 1]} == set(pair)"),),
            ),
            Mistake(
                "the merges go from right to left.",
                (
                    ("merged = []", "ids, pair = ids[::-1], pair[::-1]\nmerged = []"),
                    ("return merged", "return merged[::-1]"),
                ),
            ),
            Mistake("the pair's first id is copied as well.", (("append(new)", "extend([ids[i], new])"),)),
        ],
    ),
]
