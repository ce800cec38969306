"""Can a GPT add, and why does it help to write the sum backwards?

The model sees 417+385= and writes four digits. The first digit of 0802 depends on every carry to its right, which the
model must work out before it writes anything. Backwards, 2080, each digit needs its own column, and a carry from the
column before. Models of one block differ in nothing but this order. `--plot` draws their learning as 30_sums.png.
"""

# %% The task. B examples, T tokens
import itertools
import sys

import numpy as np

from npgpt.build import make_gpt, make_optimizer
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.layers import IGNORE_INDEX
from npgpt.optim import WarmupCosine, clip_scale
from npgpt.train import accumulate

PLUS, EQUALS, DIGITS, STEPS, EVERY, SEEDS = 10, 11, 4, 2200, 100, (0, 1, 2)


def digits(numbers: Array, n: int) -> Array:
    """Return the n digits of each number, the highest first."""
    return numbers[:, None] // 10 ** np.arange(n)[::-1] % 10


def rows(a: Array, b: Array, backwards: bool) -> Array:
    """Return (B, 12): a, +, b, =, and the four digits of the sum."""
    total = digits(a + b, DIGITS)
    signs = [np.full((len(a), 1), sign) for sign in (PLUS, EQUALS)]
    return np.concatenate([digits(a, 3), signs[0], digits(b, 3), signs[1], total[:, ::-1] if backwards else total], 1)


rng = np.random.default_rng(0)
test_a, test_b = rng.integers(0, 1000, (2, 500))
in_test = {pair for a, b in zip(test_a.tolist(), test_b.tolist(), strict=True) for pair in ((a, b), (b, a))}


def new_sums(n: int) -> tuple[Array, Array]:
    """Return random sums that are not in the test."""
    a, b = rng.integers(0, 1000, (2, n))
    kept = [(x, y) not in in_test for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    return a[kept], b[kept]


# %% Two models, one for each order, with three seeds
carried = (test_a % 10 + test_b % 10 > 9) & (
    (test_a // 10 + test_b // 10) % 10 == 9
)  # a carry that goes on through a 9
curves: dict[str, list[list[float]]] = {"forwards": [], "backwards": []}
hits: dict[str, list[Array]] = {"forwards": [], "backwards": []}
for name, seed in itertools.product(curves, SEEDS):
    rng = np.random.default_rng(seed)
    model = make_gpt(GPTConfig(12, 11, n_layer=1, n_head=4, n_embd=64), seed=seed)
    optimizer, cache, rate = make_optimizer(model), Cache(training=True), WarmupCosine(3e-3, 3e-4, 100, STEPS)
    test, curve = rows(test_a, test_b, name == "backwards"), []
    for step in range(1, STEPS + 1):
        whole = rows(*new_sums(64), name == "backwards")
        x, y = whole[:, :-1], whole[:, 1:].copy()
        y[:, :-DIGITS] = IGNORE_INDEX
        accumulate(model, x, y, cache)
        optimizer.step(rate(step - 1), clip_scale(optimizer.grad_norm(), 1.0))
        if step % EVERY == 0:
            said = test[:, :-DIGITS]
            for _ in range(DIGITS):
                said = np.concatenate([said, model.forward(said, Cache(record=False))[:, -1:].argmax(-1)], 1)
            hit = said[:, -DIGITS:] == test[:, -DIGITS:]
            curve.append(float(hit.all(1).mean()))
    curves[name].append(curve)
    hits[name].append(hit[:, ::-1] if name == "backwards" else hit)
    print(f"{name:<10} seed {seed}   {curve[-1]:6.1%} of {len(test)} new sums are right")

# %% Where are the mistakes?
print("\nright, mean of the seeds:  thousands  hundreds      tens      ones    sums   sums with a carry through a 9")
right, hard = {}, {}
for name, of in hits.items():
    share = np.mean([hit.mean(0) for hit in of], 0)
    right[name] = float(np.mean([hit.all(1).mean() for hit in of]))
    hard[name] = float(np.mean([hit[carried].all(1).mean() for hit in of]))
    print(f"{name:<26}" + "".join(f"{value:>10.1%}" for value in share) + f"{right[name]:>8.1%}{hard[name]:>18.1%}")
print(
    f"\nIn {carried.mean():.0%} of the sums, such as 456 + 247, a carry of the ones goes on through tens that make 9."
)
print("Forwards the hundreds must know of it before the tens are written: there are the mistakes. Backwards the column")
half = {
    name: [next((EVERY * (i + 1) for i, c in enumerate(curve) if c > 0.5), "never") for curve in of]
    for name, of in curves.items()
}
print(f"before is written already. Half of the sums are right after {half['forwards']} steps forwards and")
print(f"{half['backwards']} backwards: the order decides what can be learned completely, not how soon it begins.")
assert right["backwards"] > 0.99 and right["backwards"] > right["forwards"]
assert hard["backwards"] > hard["forwards"]

# %% The picture
if "--plot" in sys.argv:  # in a notebook: if True
    from npgpt.support.pictures import pyplot

    figure, axes = pyplot().subplots(figsize=(7, 4), layout="constrained")
    for color, (name, of) in enumerate(curves.items()):
        for curve in of:
            label = name if curve is of[0] else None
            axes.plot(EVERY * np.arange(1, len(curve) + 1), curve, "o-", color=f"C{color}", label=label)
    axes.set(
        xlabel="steps", ylabel="sums right", ylim=(0, 1.02), title="500 sums that were not in training, three seeds"
    )
    axes.legend()
    figure.savefig("30_sums.png", dpi=110)
    print("\nThe picture is in 30_sums.png.")
