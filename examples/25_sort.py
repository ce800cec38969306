"""Can a GPT learn to sort, and which of its heads does what?

Six symbols of three kinds, such as C A B B A C, are followed by the same symbols in order. The model is trained on 500
of the 729 possible inputs, and the loss counts the answer alone. Then every head is switched off in turn, and the trace
of its attention shows what it looked at. `--plot` draws the attention of every head as 25_sort.png.
"""

# %% The task. B examples, T tokens that the model sees, H heads
import itertools
import sys

import numpy as np

from npgpt.build import make_gpt, make_optimizer, twin
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.layers import IGNORE_INDEX
from npgpt.optim import WarmupCosine, clip_scale
from npgpt.train import accumulate

KINDS, N, SEED = "ABC", 6, 0  # benchmarks/purposes.py tries other seeds
inputs = np.array(list(itertools.product(range(len(KINDS)), repeat=N)))  # (729, 6)
texts = np.concatenate([inputs, np.sort(inputs, axis=1)], axis=1)  # (729, 12)
x, y = texts[:, :-1], texts[:, 1:].copy()
y[:, : N - 1] = IGNORE_INDEX  # the input is given, so nobody predicts it
rng = np.random.default_rng(SEED)
seen = np.sort(rng.permutation(len(texts))[:500])
unseen = np.setdiff1d(np.arange(len(texts)), seen)

# %% Training
model = make_gpt(GPTConfig(len(KINDS), 2 * N - 1, n_layer=2, n_head=2, n_embd=32, dropout=0.1), seed=SEED)
optimizer, cache, STEPS = make_optimizer(model, weight_decay=0.1), Cache(training=True), 1500
rate = WarmupCosine(5e-3, 5e-4, 50, STEPS)


def answers(model: object, inputs: Array) -> Array:
    """Return the likeliest six symbols after each input, one after the other."""
    written = inputs
    for _ in range(N):
        logits = model.forward(written, Cache(record=False))  # type: ignore[attr-defined]
        written = np.concatenate([written, logits[:, -1:].argmax(-1)], axis=1)
    return written[:, N:]


def share_right(model: object, of: Array) -> float:
    return float((answers(model, inputs[of]) == texts[of, N:]).all(1).mean())


for step in range(STEPS):
    some = rng.choice(seen, 64)
    loss = accumulate(model, x[some], y[some], cache)
    optimizer.step(rate(step), clip_scale(optimizer.grad_norm(), 1.0))
    if step % 300 == 0 or step == STEPS - 1:
        print(
            f"step {step:>4}   loss {loss:.4f}   sorted right: {share_right(model, seen):6.1%} of the {len(seen)}",
            end=" ",
        )
        print(f"seen, {share_right(model, unseen):6.1%} of the {len(unseen)} others")
example = 421
said = "".join(KINDS[i] for i in answers(model, inputs[example : example + 1])[0])
print(f"\n{' '.join(KINDS[i] for i in inputs[example])} -> {' '.join(said)}")
everything = np.arange(len(texts))
assert share_right(model, everything) == 1.0

# %% What each head looks at, when it writes the answer
textbook = twin(model, "textbook")  # it keeps the weights of attention, which the compiled layer never holds
cache = Cache(trace=True)
textbook.forward(x, cache)
weights = {path: value for path, value, _ in cache.walk() if path.endswith("softmax.weights")}  # each (B, H, T, T)
writes = slice(N - 1, None)  # the positions whose next token is part of the answer
same = texts[:, None, : 2 * N - 1] == texts[:, N:, None]  # (B, answer, T): is the token at T the symbol to be written?
shares, without = {}, {}
print("\nattention at the positions that write the answer    to the input   to the symbol that comes next")
for block, of_block in enumerate(weights.values()):
    for head in range(of_block.shape[1]):
        w = of_block[:, head, writes]  # (B, answer, T)
        shares[block, head] = float(w[..., :N].sum(-1).mean()), float((w * same).sum(-1).mean())
        print(f"  block {block}, head {head}{'':34}{shares[block, head][0]:10.0%}{shares[block, head][1]:24.0%}")
even = np.tri(2 * N - 1)[writes] / np.arange(N, 2 * N)[:, None]
by_chance = float(even[:, :N].sum(1).mean()), float((even * same).sum(-1).mean())
print(f"  a head that looks everywhere alike{'':20}{by_chance[0]:8.0%}{by_chance[1]:24.0%}")

# %% What breaks without it
for block, head in shares:
    projection = model.blocks[block].attention.projection.weight  # type: ignore[attr-defined]
    size = len(projection.value) // 2
    rows, kept = slice(head * size, (head + 1) * size), projection.value.copy()
    projection.value[rows] = 0
    without[block, head] = share_right(model, everything)
    projection.value[...] = kept
    print(f"without block {block}, head {head}: {without[block, head]:6.1%} of the {len(texts)} inputs are right")
needed = min(without, key=lambda key: without[key])
assert share_right(model, everything) == 1.0 and without[needed] < 0.9
looks, next_symbol = shares[needed]
print(
    f"Head {needed[1]} of block {needed[0]} is needed most. When the answer is written, {looks:.0%} of its attention is"
)
print(f"on the input, and {next_symbol:.0%} on copies of the symbol that comes next. The others alone are not enough.")

# %% The picture
if "--plot" in sys.argv:  # in a notebook: if True
    from npgpt.support.pictures import pyplot

    figure, axes = pyplot().subplots(1, 4, figsize=(14, 4.2), layout="constrained")
    labels = [KINDS[i] for i in texts[example, :-1]]
    for axis, (block, head) in zip(axes, shares, strict=True):
        axis.imshow(weights[f"blocks.{block}.attention.softmax.weights"][example, head], vmin=0, vmax=1, cmap="Blues")
        axis.set(title=f"block {block}, head {head}", xlabel="is looked at", xticks=range(11), yticks=range(11))
        axis.set_xticklabels(labels)
        axis.set_yticklabels(labels)
        axis.axhline(N - 1.5, color="C1")
        axis.axvline(N - 0.5, color="C1")
    axes[0].set_ylabel("writes the next (below the line: the answer)")
    figure.savefig("25_sort.png", dpi=110)
    print("\nThe picture is in 25_sort.png.")
