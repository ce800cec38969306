"""How many examples are in a text, and what changes when the windows over it overlap?

One window contains all prefixes of a sentence. Windows can slide by 1, by half the context, or by the whole context.
The example counts the windows, and trains a small GPT on each kind: with equal passes over the text, and with equal
steps. At the end it measures speed and memory for several batch sizes. It takes half a minute. `--plot` draws the
curves as 07_windows.png.
"""

# B batch, T time
import sys
import time
import tracemalloc
from typing import NamedTuple

import numpy as np

from npgpt import set_num_threads
from npgpt.build import make_gpt, make_optimizer
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Cache
from npgpt.data import SlidingWindows, builtin_texts, encode_texts, split_text
from npgpt.optim import clip_scale
from npgpt.tokenizer import BPETokenizer
from npgpt.train import accumulate, evaluate, training_steps

set_num_threads(1)  # for a model this small, as fast as two threads, and less disturbed by other programs

# %% 1. Prefixes: each prefix of a sentence is an example, and its target is the next word.
sentence = ["the", "cat", "sat", "on", "the", "mat"]
words = sorted(set(sentence))
ids = np.array([words.index(word) for word in sentence])
n = len(sentence) - 1
print(f"{' '.join(sentence)!r}: {len(sentence)} words, {n} examples")
for t in range(n):
    print(f"  [{' '.join(sentence[: t + 1])}] -> {sentence[t + 1]}")

windows = SlidingWindows(ids, context_length=n)
((x, y),) = windows  # one window, (1, T) each
for t in range(n):
    assert x[0, : t + 1].tolist() == ids[: t + 1].tolist()
    assert y[0, t] == ids[t + 1]
model = make_gpt(GPTConfig(len(words), n, n_layer=2, n_head=2, n_embd=16))
logits = np.copy(model.forward(x, Cache(record=False)))
for t in range(n):  # no token attends to a later one, so a prefix alone gives the same logits as in the window
    alone = model.forward(x[:, : t + 1], Cache(record=False))
    assert np.allclose(alone[0, -1], logits[0, t], atol=1e-5)
print(f"A window of T = {n} tokens holds all {n} prefixes: a GPT gives the same logits for both, up to 1e-5.")

print("\nThe windows of this text with T = 3, by stride:")
for stride in (1, 2, 3):
    found = [" ".join(words[i] for i in x[0]) for x, _ in SlidingWindows(ids, context_length=3, stride=stride)]
    print(f"  {stride}: {' | '.join(found)}")

# %% 2. A small text: the beginnings of some topics for training, their ends for validation.
T, B = 32, 16
topics: list[str] = []
for text in builtin_texts():
    if sum(map(len, topics)) < 25_000:
        topics.append(text)
parts = [split_text(text, validation_fraction=0.25) for text in topics]
train_texts = [train for train, _ in parts]
tokenizer = BPETokenizer.train(train_texts, vocab_size=320)
ids = encode_texts(tokenizer, train_texts)
new_ids = encode_texts(tokenizer, [end for _, end in parts])
STRIDES = (1, T // 2, T)
STEPS = len(SlidingWindows(ids, T, 1, B))  # one pass with stride 1

print(f"\n{sum(map(len, train_texts)) / 1000:.0f} kB of text, {len(ids):,} tokens, T = {T}, batches of {B}:\n")
print("stride   windows   overlap   examples (T a window)   targets per token     steps in a pass")
for stride in STRIDES:
    windows = SlidingWindows(ids, T, stride, B)
    n, overlap = windows.n_examples, (T - stride) / T
    assert n == (len(ids) - 1 - T) // stride + 1
    times = f"{T // stride} time{'s' * (stride < T)}"
    print(f"{stride:>6}{n:>10,}{overlap:>10.0%}{n * T:>24,}{times:>22}{len(windows):>18}")


# %% 3. The same model with the same initial weights, trained with each stride. The learning rate is constant after the
# warm-up, so the start of a long run equals a short run.
class Point(NamedTuple):
    """Losses at a step, in nats per token.

    Attributes
        seen: on training text, in windows that start at 0, T, 2T, ...: all three strides train on these windows.
        shifted: on training text, in windows that start T/4 later: only stride 1 trains on these windows.
        new: on validation text.
    """

    step: int
    seen: float
    shifted: float
    new: float


PASS = {stride: len(SlidingWindows(ids, T, stride, B)) for stride in STRIDES}
SHOWN = [STEPS // 2**i for i in range(5, -1, -1)]
curves: dict[int, dict[int, Point]] = {}
for stride in STRIDES:
    model = make_gpt(GPTConfig(tokenizer.vocab_size, T, n_layer=2, n_head=2, n_embd=32))
    config = TrainConfig(
        STEPS, B, stride=stride, learning_rate=3e-3, min_learning_rate_ratio=1.0, warmup_steps=20, seed=0
    )
    curves[stride] = {}
    for step in training_steps(model, ids, config):
        if step.number in {*SHOWN, *PASS.values()}:
            cuts = ids[:5001], ids[T // 4 : 5001 + T // 4], new_ids
            curves[stride][step.number] = Point(step.number, *(evaluate(model, cut) for cut in cuts))

print("\nAfter one pass each (equal passes), nats per token:\n")
print("stride   steps   training text   validation")
for stride in STRIDES:
    point = curves[stride][PASS[stride]]
    print(f"{stride:>6}{point.step:>8}{point.seen:>16.3f}{point.new:>13.3f}")
after_pass = {stride: curves[stride][PASS[stride]].new for stride in STRIDES}
assert after_pass[1] < min(after_pass[T // 2], after_pass[T]) - 0.3
print(f"A pass with stride 1 has {PASS[1] // PASS[T]} times the steps of one with stride {T}, and gives a lower loss.")

print("\nAfter equal numbers of steps (equal work), training text | validation:\n")
print("steps" + "".join(f"{f'stride {stride}':>19}" for stride in STRIDES))
for number in SHOWN:
    points = [curves[stride][number] for stride in STRIDES]
    print(f"{number:>5}" + "".join(f"{f'{point.seen:.3f} | {point.new:.3f}':>19}" for point in points))
last = {stride: curves[stride][STEPS] for stride in STRIDES}
passes = "".join(f"{f'{STEPS / PASS[stride]:.0f} passes':>19}" for stride in STRIDES).replace(" 1 passes", "   1 pass")
print(f"{'':>5}{passes}")
print("\nThe increase of the loss on training text whose windows start a quarter of a window later:")
print(f"{'':>5}" + "".join(f"{last[stride].shifted - last[stride].seen:>+19.3f}" for stride in STRIDES))
assert last[T].seen < last[1].seen
assert last[T].new > last[1].new + 0.05
assert last[T].shifted - last[T].seen > 0.1 > 0.05 > abs(last[1].shifted - last[1].seen)
print(
    f"Equal work, {STEPS * B * T:,} targets each. With stride {T} every pass has the same windows, and the model\n"
    "memorizes them: their loss is lower than with stride 1, but the loss on new text is higher. With stride 1 each\n"
    "token occurs once at every position of a window, so the start of a window does not matter."
)

# %% 4. Batch size. The arrays of a pass grow with it; the weights, their gradients and AdamW's moments do not.
SETTINGS = ((1, 1), (4, 1), (16, 1), (64, 1), (64, 4))  # (examples in a step, micro-batches)
model = make_gpt(GPTConfig(tokenizer.vocab_size, T, n_layer=2, n_head=2, n_embd=32))
optimizer = make_optimizer(model)
caches, memory = {}, {}
seconds = dict.fromkeys(SETTINGS, float("inf"))
for size, n_parts in SETTINGS:
    x, y = SlidingWindows(ids, T, 1, size, shuffle=True).batch(0)
    tracemalloc.start()  # it counts NumPy's arrays; kernels allocate no others
    caches[size, n_parts] = Cache(training=True)
    accumulate(model, x, y, caches[size, n_parts], n_parts)
    memory[size, n_parts] = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
for _ in range(8):  # the settings alternate, and the fastest step counts
    for size, n_parts in SETTINGS:
        x, y = SlidingWindows(ids, T, 1, size, shuffle=True).batch(0)
        for _ in range(5):
            start = time.perf_counter()
            accumulate(model, x, y, caches[size, n_parts], n_parts)
            optimizer.step(1e-4, clip_scale(optimizer.grad_norm(), 1.0))
            seconds[size, n_parts] = min(seconds[size, n_parts], time.perf_counter() - start)

print("\nOn one thread:\nbatch size   ms a step   tokens a second   MB of a pass")
for size, n_parts in SETTINGS:
    took = seconds[size, n_parts]
    note = f"   in {n_parts} micro-batches" if n_parts > 1 else ""
    print(f"{size:>10}{took * 1e3:>12.2f}{size * T / took:>18,.0f}{memory[size, n_parts]:>15.2f}{note}")
print(f"Weights, gradients and AdamW's moments take {4 * model.flat.values.nbytes / 1e6:.2f} MB at every batch size.")
assert 16 / seconds[16, 1] > 1.5 / seconds[1, 1]
assert memory[64, 1] > 3 * memory[16, 1] > 6 * memory[4, 1]
assert memory[64, 4] < 1.1 * memory[16, 1]
print(
    "Part of a step's work does not depend on the batch: Python, the start of kernels, the optimizer. A larger batch\n"
    "spreads this work over more tokens, but it needs more memory. With micro-batches, a batch needs the memory of\n"
    "one micro-batch."
)

# %% The picture
if "--plot" in sys.argv:  # in a notebook: if True
    from npgpt.support.pictures import pyplot

    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for color, stride in enumerate(STRIDES):
        points = sorted(curves[stride].values())
        steps = np.array([point.step for point in points])
        for axis, along in zip(axes, (steps, steps / PASS[stride]), strict=True):
            axis.plot(along, [point.new for point in points], f"C{color}o-", label=f"stride {stride}, validation")
            axis.plot(along, [point.seen for point in points], f"C{color}o--", label=f"stride {stride}, training text")
    for axis, name in zip(axes, ("steps", "passes over the text"), strict=True):
        axis.set(xlabel=name, xscale="log")
    axes[0].set(ylabel="nats per token")
    axes[0].legend()
    figure.savefig("07_windows.png")
    print("\nThe picture is in 07_windows.png.")
