"""What does a model cost here: how many numbers, products and bytes, and how many hours for GPT-2?

The costs of the model of `npgpt train` are counted part by part, then one training step is measured on this machine.
For GPT-2 one block and the vocabulary head are measured as they are, not estimated from a smaller model. `--plot` draws
the shares as 17_what_it_costs.png.
"""

# %% The parts: L layers, C channels, H heads, V vocabulary, T context length, B examples in a step
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from npgpt.build import can_compile, make_gpt, make_optimizer, twin
from npgpt.config import GPTConfig, RunConfig
from npgpt.core import Cache
from npgpt.layers import Block
from npgpt.presets import DEFAULT, PRESETS
from npgpt.train import accumulate

default = RunConfig.from_tables(PRESETS[DEFAULT].tables)
config, B = default.model, default.train.batch_size
GPT2 = GPTConfig(vocab_size=50257, context_length=1024, n_layer=12, n_head=12, n_embd=768)
PARTS = ("embedding", "positions", "attention", "MLP", "norms", "head")


def part_of(name: str) -> str:
    """Return the part to which a parameter, or an array of the forward pass, belongs."""
    for part, of in (("norms", "norm"), ("attention", "attention."), ("MLP", "mlp"), ("embedding", "embed")):
        if of in name or (part == "norms" and name.endswith("_input")):
            return part
    return "positions" if "position" in name else "head" if "loss" in name else "residual stream"


# %% 1. Parameters, counted in the model
model = make_gpt(config)
sizes = Counter[str]()
for name, param in model.parameters().items():
    sizes[part_of(name)] += param.value.size
total = sum(sizes.values())
assert model.flat is not None and total == model.flat.values.size and set(sizes) <= set(PARTS)


# %% 2. Products: a multiplication and an addition are two operations (FLOPs)
def flops(c: GPTConfig) -> dict[str, float]:
    """Return the operations of the forward pass of one example in each part that multiplies matrices."""
    T, C, pairs = c.context_length, c.n_embd, c.context_length * (c.context_length + 1) / 2
    attention = T * 2 * (3 * C * C + C * C) + pairs * 2 * 2 * C  # four matrices; q·k and w·v of every visible pair
    return {"attention": c.n_layer * attention, "MLP": c.n_layer * T * 2 * 8 * C * C, "head": T * 2 * C * c.vocab_size}


forward = {part: B * n for part, n in flops(config).items()}
# Backward multiplies twice for each product: dx = dy·Wᵀ and dW = xᵀ·dy. A look-up multiplies nothing.
step_flops = 3 * sum(forward.values())
matrices = sum(p.value.size for name, p in model.parameters().items() if p.value.ndim == 2 and "position" not in name)
six_n = 6 * matrices * B * config.context_length  # the rule "6 operations per weight and token" leaves out q·k and w·v

# %% 3. Memory: the arrays that the forward pass keeps for the backward pass
rng = np.random.default_rng(0)
x, y = rng.integers(0, config.vocab_size, (2, B, config.context_length))
cache = Cache(training=True)
accumulate(model, x, y, cache)  # the first step compiles the kernels, or loads them
kept, seen = Counter[str](), set[int]()
model.forward(x, kept_by := Cache(training=True))
for path, value, _ in kept_by.walk():
    if (at := value.__array_interface__["data"][0]) not in seen:  # one array may be kept under two names
        seen.add(at)
        kept[part_of(path)] += value.nbytes

print(f"The model of npgpt train: {total:,} parameters. A step: {B} examples of {config.context_length} tokens.\n")
print("part             parameters   forward   backward, MFLOP   kept for backward, MB")
for part in (*PARTS, "residual stream"):
    multiplies = forward.get(part, 0.0) / 1e6
    print(f"{part:<16}{sizes[part]:>11,}{multiplies:>10.0f}{2 * multiplies:>11.0f}{kept[part] / 1e6:>24.2f}")
print(f"{'sum':<16}{total:>11,}{sum(forward.values()) / 1e6:>10.0f}{step_flops * 2 / 3e6:>11.0f}", end="")
print(f"{sum(kept.values()) / 1e6:>24.2f}")
print("The head has no parameters of its own: it shares the embedding's. The rule of six operations per weight and")
print(f"token gives {six_n / step_flops:.0%} of the sum; the rest are the products of queries, keys and values.")
bytes_each = {"weights": 4, "gradients": 4, "AdamW's two moments": 8}
print("Memory for each parameter: " + ", ".join(f"{n} bytes of {what}" for what, n in bytes_each.items()), end=";")
print(f"\ntogether {total * sum(bytes_each.values()) / 1e6:.1f} MB, beside the arrays above.\n")
assert config.tie_weights and 0.9 < six_n / step_flops < 1

# %% 4. One step, measured


def seconds(call: Callable[[], Any], least: int = 5) -> float:
    """Return the median time of a call."""
    times: list[float] = []
    while len(times) < least or (sum(times) < 1 and len(times) < 50):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


optimizer = make_optimizer(model)
both = seconds(lambda: accumulate(model, x, y, cache))
update = seconds(lambda: optimizer.step(1e-4, min(1.0, 1 / optimizer.grad_norm())))
rate = step_flops / both
per_second = B * config.context_length / (both + update)
print(f"One step takes {(both + update) * 1e3:.1f} ms here: forward and backward {both * 1e3:.1f} ms, AdamW", end=" ")
print(f"{update * 1e3:.1f} ms.\nThat is {rate / 1e9:.0f} billion operations and {per_second:,.0f} tokens a second.")

# %% 5. GPT-2: one of its blocks and its head, measured as they are
C, T = GPT2.n_embd, GPT2.context_length
block = Block(C, GPT2.n_head).astype(np.float32).initialise(0)
block = twin(block) if can_compile() else block
stream = rng.standard_normal((1, T, C), np.float32)
block_cache = Cache(training=True)


def block_step() -> None:
    block_cache.reset()
    block.forward(stream, block_cache)
    block.backward(stream, block_cache)


alone = make_gpt(GPTConfig(GPT2.vocab_size, T, n_layer=1, n_head=GPT2.n_head, n_embd=C))
ids, targets = rng.integers(0, GPT2.vocab_size, (2, 1, T))
alone_cache = Cache(training=True)
of_block, of_one = (seconds(call, 3) for call in (block_step, lambda: accumulate(alone, ids, targets, alone_cache)))
alone_optimizer = make_optimizer(alone)
assert alone.flat is not None
of_update = seconds(lambda: alone_optimizer.step(1e-4, min(1.0, 1 / alone_optimizer.grad_norm())), 3)
size = sum(param.value.size for param in block.parameters().values())
parameters = alone.flat.values.size + (GPT2.n_layer - 1) * size
per_example = of_one + (GPT2.n_layer - 1) * of_block  # the head, the embedding and one block, then the other blocks
whole_update = of_update * parameters / alone.flat.values.size  # AdamW goes over all numbers once
gpt2_flops = 3 * sum(flops(GPT2).values())
print(
    f"\nGPT-2 has {parameters:,} parameters; with gradients and moments {parameters * 16 / 2**30:.1f} GiB. One example"
)
print(f"of {T:,} tokens takes {per_example:.2f} s: {of_one - of_block:.2f} s for embedding and head, 12 times", end=" ")
print(f"{of_block:.3f} s")
print(f"for the blocks. That is {gpt2_flops / per_example / 1e9:.0f} billion operations a second.", end=" ")
print(f"AdamW takes {whole_update:.2f} s a step.")
print("\nHours on this machine, in steps of 32 examples:")
for tokens, what in ((20 * parameters, "20 tokens for each parameter"), (300e9, "300 billion, as GPT-3's models")):
    hours = tokens / T * (per_example + whole_update / 32) / 3600
    print(f"  {tokens / 1e9:>6.1f} billion tokens ({what + ')':<32}{hours:>10,.0f} h = {hours / 24:,.0f} days")
assert parameters == 124_439_808
assert math.isclose(flops(GPT2)["MLP"], GPT2.n_layer * T * 2 * 8 * C * C)

# %% The picture
if "--plot" in sys.argv:  # in a notebook: if True
    from npgpt.support.pictures import pyplot

    plt = pyplot()
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    gpt2_sizes = {"embedding": 50257 * C, "positions": T * C, "attention": 12 * (4 * C * C + 4 * C)}
    gpt2_sizes |= {"MLP": 12 * (8 * C * C + 5 * C), "norms": 25 * 2 * C}
    assert sum(gpt2_sizes.values()) == parameters
    rows = {"parameters": sizes, "operations": Counter(forward), "kept arrays": kept}
    rows |= {"GPT-2: parameters": Counter(gpt2_sizes), "GPT-2: operations": Counter(flops(GPT2))}
    for color, part in enumerate((*PARTS, "residual stream")):
        left = [sum(row[p] for p in PARTS[:color]) / sum(row.values()) for row in rows.values()]
        shares = [row[part] / sum(row.values()) for row in rows.values()]
        axes.barh(list(rows), shares, left=left, color=f"C{color}", label=part)
    axes.invert_yaxis()
    axes.set(xlabel="share", xlim=(0, 1))
    axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.45, 1.2), fontsize=8)
    figure.savefig("17_what_it_costs.png", dpi=110)
    print("\nThe picture is in 17_what_it_costs.png.")
