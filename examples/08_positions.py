"""Why are positions added to the tokens, not concatenated, and does the position scheme matter?

First the algebra: concatenation followed by a matrix *is* a sum, in which each part has its own matrix. Then small
models train on Python's documentation, in a minute. They compare the costs and losses of both ways, and of all position
schemes, at the trained length and at twice that length. `--plot` draws the sinusoids and the similarities of
the learned vectors as 08_positions.png.
"""

import math
import sys
import time
import tracemalloc
import warnings
from typing import Any

import numpy as np

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Array, Cache
from npgpt.data import builtin_texts, encode_texts, split_text
from npgpt.layers import ConcatenatedPositions, LearnedPositions, SinusoidalPositions
from npgpt.layers.schemes import SCHEMES
from npgpt.model import GPT
from npgpt.study.check.cases import of_order_one
from npgpt.tokenizer import BPETokenizer
from npgpt.train import training_steps

T, C, SHORT, LONG = 32, 48, 400, 1000  # SHORT, LONG: steps of training

# %% 1. The algebra. The first rows of W belong to the channels of x (W_x), the others to the channels of P (W_p).
rng = np.random.default_rng(0)
layer = of_order_one(ConcatenatedPositions(LearnedPositions(6, 3), n_embd=5, n_position=3), rng)
weight = {name: param.value for name, param in layer.parameters().items()}
W, b, P = weight["projection.weight"], weight["projection.bias"], weight["vectors.weight"]
x = rng.normal(size=(2, 6, 5))
concatenated, added = layer.forward(x, Cache()), x @ W[:5] + (P @ W[5:] + b)
assert np.abs(concatenated - added).max() < 1e-14
print("(x, P)·W + b = x·W_x + (P·W_p + b): a concatenation is a sum. The embedding can learn x·W_x itself, so W_x is")
print(f"not needed. Here the largest difference of the two is {np.abs(concatenated - added).max():.0e}.\n")

# %% 2. The training text and the validation set.
parts = [split_text(text, validation_fraction=0.1) for text in builtin_texts()]
tokenizer = BPETokenizer.train([train for train, _ in parts], vocab_size=300)
ids = encode_texts(tokenizer, [train for train, _ in parts])
validation_ids = encode_texts(tokenizer, [end for _, end in parts])[: 256 * T + 1]


def validation_loss(model: GPT, length: int) -> float:
    """Return the loss in nats per token, over windows of a length that may exceed the trained length."""
    x, y = validation_ids[:-1].reshape(-1, length), validation_ids[1:].reshape(-1, length)
    parts = zip(np.array_split(x, 8), np.array_split(y, 8), strict=True)
    return float(np.mean([model.loss(x, y, Cache(record=False)) for x, y in parts]))


class Trained:
    """A model after ``SHORT`` steps of training or more: its losses, its time per step, and its peak memory.

    Attributes
        losses: number of steps -> validation loss at the trained length and at twice that length (NaN for a model
            that cannot read so many tokens).
    """

    def __init__(self, steps: int = SHORT, **choices: Any) -> None:
        tracemalloc.start()
        self.model = make_gpt(GPTConfig(tokenizer.vocab_size, T, n_layer=2, n_head=4, n_embd=C, **choices))
        self.losses: dict[int, tuple[float, float]] = {}
        config = TrainConfig(steps=steps, batch_size=12, learning_rate=3e-3, warmup_steps=20)
        times = [time.perf_counter()]
        for step in training_steps(self.model, ids, config):
            times.append(time.perf_counter())
            if step.number == 2:
                self.megabytes = tracemalloc.get_traced_memory()[1] / 1e6
                tracemalloc.stop()  # it slows training down
            if step.number in (SHORT, steps):
                twice = validation_loss(self.model, 2 * T) if self.model.config.any_length else math.nan
                self.losses[step.number] = validation_loss(self.model, T), twice
        self.milliseconds = 1e3 * float(np.median(np.diff(times)))


# %% 3. Added or concatenated.
Trained(steps=2)  # kernels are compiled, or loaded, before the measurements
print(f"positions, how combined          parameters  ms a step   MB  validation loss at {SHORT}, at {LONG} steps")
found = {}
for name in ("learned, add", "learned, concatenate", "learned, concatenate-unprojected"):
    positions, combine = name.split(", ")
    tied = combine != "concatenate-unprojected"  # its embedding is too narrow for a tied head
    one = found[name] = Trained(LONG, positions=positions, combine=combine, n_position=16, tie_weights=tied)
    costs = f"{one.model.flat.values.size:>9,} {one.milliseconds:>10.1f} {one.megabytes:>4.1f}"
    print(f"{name:<33} {costs} {one.losses[SHORT][0]:>23.3f} {one.losses[LONG][0]:>14.3f}")
added, beside = found["learned, add"], found["learned, concatenate"]
more = beside.model.flat.values.size - added.model.flat.values.size
assert more == (C + 16) * C + C - T * (C - 16)  # W and b, minus the narrower vectors
early, late = (added.losses[n][0] - beside.losses[n][0] for n in (SHORT, LONG))
print(f"Addition needs no W, because the added tables can include it. This saves {more:,} parameters and a product.")
print("Both ways can represent the same functions, but they do not learn them equally fast: added vectors are")
print(f"{early:.2f} nats behind after {SHORT} steps, {late:.2f} after {LONG}.\n")
assert abs(late) < 0.3

# %% 4. Every scheme, at the trained length and at twice that length.
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    print(f"{SHORT} steps     loss at {T} tokens (trained)      at {2 * T} tokens")
    table = {}
    for positions in SCHEMES:
        table[positions] = Trained(positions=positions).losses[SHORT]
        seen = "no vectors" if positions == "learned" else f"{table[positions][1]:.3f}"
        print(f"{positions:<20} {table[positions][0]:>20.3f}   {seen:>15}")
for note in sorted({str(warning.message).split(" (")[0] for warning in said}):
    print(f"(warning: {note})")
best, farther = (min(table, key=lambda p: np.nan_to_num(table[p][i], nan=np.inf)) for i in (0, 1))
without, vectors = table["none"][0], min(table["learned"][0], table["sinusoidal"][0])
ahead = vectors - max(table["rotary"][0], table["relative-keys"][0])
print(f"\nBest at the trained length: {best}; at twice the length: {farther}. In rotary scores and relative keys")
print(
    f"queries interact with distances: they are {ahead:.2f} nats ahead of position vectors. A model without positions"
)
print(f"reaches {without:.2f}: the causal mask alone gives it some information about order.")
assert ahead > 0.05
assert table["alibi"][1] < table["alibi"][0] + 0.03  # ALiBi gives small weights to distant keys


def similarity(vectors: Array) -> Array:
    """Return the cosine similarity of every two vectors."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


learned = added.model.parameters()["positions.weight"].value
near, far = (float(np.mean(np.diagonal(similarity(learned), n))) for n in (1, 16))
print(f"Learned vectors have a cosine similarity of {near:.2f} for neighbours and {far:.2f} at distance 16: the model")
print("learned the order of the positions.")
assert near > far

# %% The picture
if "--plot" in sys.argv:  # in a notebook: if True
    from npgpt.support.pictures import pyplot

    plt = pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    sinusoids = SinusoidalPositions(C).table(np.zeros((1, T, C)))
    for ax, matrix, title in (
        (axes[0], sinusoids, "sinusoids: position down, channel across"),
        (axes[1], similarity(sinusoids), "cosine similarity of sinusoids"),
        (axes[2], similarity(learned), "cosine similarity of learned positions"),
    ):
        figure.colorbar(ax.imshow(matrix, aspect="auto", cmap="RdBu", vmin=-1, vmax=1), ax=ax)
        ax.set_title(title, fontsize=10)
    figure.savefig("08_positions.png", dpi=110)
    print("\nThe picture is in 08_positions.png.")
