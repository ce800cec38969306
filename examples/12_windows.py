"""How many examples are in a text, and what changes when the windows over it overlap?

First the growing prefixes of one sentence, all of which are in one window; then windows that slide by 1, by half the
context and by all of it: how many there are, and what a small GPT learns from each, after equal passes over the text
and after equal steps. Last what the batch size does to speed and memory. With the name of a file (`curves.png`) and
matplotlib, the curves are drawn too. Half a minute.
"""

# B batch, T time
import sys
import time
import tracemalloc
from importlib.util import find_spec
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

set_num_threads(1)  # for so small a model as good as two, and less at the mercy of other programs

# 1. Growing prefixes: each beginning of a sentence is an example, whose answer is the next word.
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
for t in range(n):  # no token sees a later one: so a prefix alone gives what it gives as a part of the window
    alone = model.forward(x[:, : t + 1], Cache(record=False))
    assert np.allclose(alone[0, -1], logits[0, t], atol=1e-5)
print(f"A window of T = {n} tokens holds them all: a GPT's {n} answers to it are those to the {n} prefixes, to 1e-5.")

print("\nA longer text has many windows. With T = 3 this one has, by stride:")
for stride in (1, 2, 3):
    found = [" ".join(words[i] for i in x[0]) for x, _ in SlidingWindows(ids, context_length=3, stride=stride)]
    print(f"  {stride}: {' | '.join(found)}")

# 2. A small text: the beginnings of some topics to train on, their ends to validate on.
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
print("stride   windows   overlap   examples (T a window)   a token is a target   steps in a pass")
for stride in STRIDES:
    windows = SlidingWindows(ids, T, stride, B)
    n, overlap = windows.n_examples, (T - stride) / T
    assert n == (len(ids) - 1 - T) // stride + 1
    times = f"{T // stride} time{'s' * (stride < T)}"
    print(f"{stride:>6}{n:>10,}{overlap:>10.0%}{n * T:>24,}{times:>22}{len(windows):>18}")


# 3. The same model, from the same first weights, on each of them. The learning rate stays where it is after the
# warm-up, so that the beginning of a long run is what a short run would have been.
class Point(NamedTuple):
    """Losses at a step, in nats per token.

    Attributes
        seen: of training text, cut into the windows that all three strides learn from: at 0, T, 2T, ...
        shifted: of the same text, cut a quarter of a window later: only stride 1 has learned from these windows.
        new: of validation text.
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
print(f"A pass with stride 1 is {PASS[1] // PASS[T]} times the work of one with stride {T}: more steps, less loss.")

print("\nAfter as many steps each (equal work), training text | validation:\n")
print("steps" + "".join(f"{f'stride {stride}':>19}" for stride in STRIDES))
for number in SHOWN:
    points = [curves[stride][number] for stride in STRIDES]
    print(f"{number:>5}" + "".join(f"{f'{point.seen:.3f} | {point.new:.3f}':>19}" for point in points))
last = {stride: curves[stride][STEPS] for stride in STRIDES}
passes = "".join(f"{f'{STEPS / PASS[stride]:.0f} passes':>19}" for stride in STRIDES).replace(" 1 passes", "   1 pass")
print(f"{'':>5}{passes}")
print("\nand how much worse it is at training text that is cut a quarter of a window later:")
print(f"{'':>5}" + "".join(f"{last[stride].shifted - last[stride].seen:>+19.3f}" for stride in STRIDES))
assert last[T].seen < last[1].seen
assert last[T].new > last[1].new + 0.05
assert last[T].shifted - last[T].seen > 0.1 > 0.05 > abs(last[1].shifted - last[1].seen)
print(
    f"Equal work, {STEPS * B * T:,} targets each. With stride {T} a token stands at the same place of the same window\n"
    "in every pass, and the model learns these windows by heart: less loss on them than with stride 1, and more\n"
    "on new text. With stride 1 a token is met at each place, once, and where the text is cut does not matter."
)

# 4. Batch size. The arrays of a pass grow with it; the weights, their gradients and AdamW's memory do not.
SETTINGS = ((1, 1), (4, 1), (16, 1), (64, 1), (64, 4))  # examples in a step, and parts that it is computed in
model = make_gpt(GPTConfig(tokenizer.vocab_size, T, n_layer=2, n_head=2, n_embd=32))
optimizer = make_optimizer(model)
caches, memory = {}, {}
seconds = dict.fromkeys(SETTINGS, float("inf"))
for size, n_parts in SETTINGS:
    x, y = SlidingWindows(ids, T, 1, size, shuffle=True).batch(0)
    tracemalloc.start()  # it counts NumPy's arrays; the kernels compute in those that are handed to them
    caches[size, n_parts] = Cache(training=True)
    accumulate(model, x, y, caches[size, n_parts], n_parts)
    memory[size, n_parts] = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
for _ in range(8):  # they take turns, a few steps each, and the best step counts
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
    note = f"   in {n_parts} parts (micro_batches)" if n_parts > 1 else ""
    print(f"{size:>10}{took * 1e3:>12.2f}{size * T / took:>18,.0f}{memory[size, n_parts]:>15.2f}{note}")
print(f"and {4 * model.flat.values.nbytes / 1e6:.2f} MB at any size: weights, gradients, and AdamW's two averages")
assert 16 / seconds[16, 1] > 1.5 / seconds[1, 1]
assert memory[64, 1] > 3 * memory[16, 1] > 6 * memory[4, 1]
assert memory[64, 4] < 1.1 * memory[16, 1]
print(
    "Part of a step's work does not depend on the batch: Python, starting kernels, the optimizer. A larger batch\n"
    "shares it among more tokens, which helps while that part counts; memory grows on. In parts, a batch takes the\n"
    "memory of a part."
)

if sys.argv[1:] and find_spec("matplotlib"):
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
    figure.savefig(sys.argv[1])
    print(f"\nThe curves are drawn in {sys.argv[1]}.")
