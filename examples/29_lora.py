"""What does fine-tuning with LoRA save, and what does it cost?

The package's model learned from speeches. It is tuned to Python's documentation in two ways: all weights, or LoRA, a
trained update of rank 4 beside every frozen matrix of the blocks. The example compares losses, trained parameters, the
memory of gradients and moments, and time. Both ways use the textbook layers.
"""

# %% The model and the text. T tokens
import copy
import time

import numpy as np

from npgpt.core import Cache, FlatParams
from npgpt.data import SlidingWindows, builtin_texts, encode_texts, split_text
from npgpt.layers import add_lora, merge_lora, remove_lora
from npgpt.model import GPT
from npgpt.optim import AdamW, WarmupCosine, clip_scale
from npgpt.runs import load_run
from npgpt.runs.run import PRETRAINED
from npgpt.train import evaluate

T, STEPS, RANK, SEED = 64, 120, 4, 0  # benchmarks/purposes.py tries other seeds
base = load_run(PRETRAINED)
parts = [split_text(text, validation_fraction=0.1) for text in builtin_texts()]
ids = encode_texts(base.tokenizer, [train for train, _ in parts])
validation_ids = encode_texts(base.tokenizer, [end for _, end in parts])[: 64 * T + 1]
start = base.tokenizer.encode("Fellow citizens of the Senate")
own_ids = np.array([*start, *base.model.generate(start, 400, seed=1)])  # a text that the model wrote itself


def fresh() -> GPT:
    return base.model.astype(np.float64).astype(np.float32)  # textbook layers, with the weights of the package


def tuned(model: GPT, flat: FlatParams, highest: float) -> float:
    """Train the given parameters, and return the seconds of a step."""
    optimizer, cache = AdamW(flat, weight_decay=0.0), Cache(training=True)
    rate, times = WarmupCosine(highest, highest / 10, 10, STEPS), []
    windows = SlidingWindows(ids, T, 1, 8, shuffle=True, seed=SEED)
    for step in range(STEPS):
        x, y = windows.batch(step)
        start = time.perf_counter()
        model.zero_grad()
        model.loss(x, y, cache.reset())
        model.loss_backward(1.0, cache)
        optimizer.step(rate(step), clip_scale(optimizer.grad_norm(), 1.0))
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def of(model: GPT) -> list[float]:
    return [evaluate(model, validation_ids), evaluate(model, own_ids)]


# %% Three models: as it is, all weights tuned, LoRA
untouched = fresh()
rows: dict[str, list[float]] = {"as it is": [0, 0.0, *of(untouched)]}
full = fresh()
assert full.flat is not None
rows["all weights"] = [full.flat.values.size, tuned(full, full.flat, 1e-3), *of(full)]
adapted = fresh()
frozen = {name: param.value.copy() for name, param in adapted.parameters().items()}
loras = add_lora(adapted, RANK, seed=100 * SEED)
flat = FlatParams([param for lora in loras for param in lora.parameters().values()], np.float32)
assert np.array_equal(adapted.forward(ids[None, :T], Cache()), untouched.forward(ids[None, :T], Cache()))  # B is 0
rows[f"LoRA, rank {RANK}"] = [flat.values.size, tuned(adapted, flat, 5e-3), *of(adapted)]

print(f"{'':<16}trained numbers   their memory   ms a step   loss: documentation   its own text")
for name, (n, seconds, loss, own) in rows.items():
    print(f"{name:<16}{n:>15,.0f}{n * 12 / 1e6:>12.2f} MB{seconds * 1e3:>12.0f}{loss:>22.3f}{own:>15.3f}")
print(
    "Memory: a gradient and two moments of 4 bytes for each trained number. LoRA adds its own weights to those of the"
)
print("model; the gradients of embedding, positions and norms are computed in both, and not counted here.")

# %% The update can be merged into the weights, and taken out again
before = adapted.forward(ids[None, :T], Cache())
removed = copy.deepcopy(adapted)
merge_lora(adapted)
off = float(np.abs(adapted.forward(ids[None, :T], Cache()) - before).max())
print(f"\nMerged, the model has no extra products, and the logits differ by {off:.0e} (float32).")
remove_lora(removed)
assert all(np.array_equal(param.value, frozen[name]) for name, param in removed.parameters().items())
print("Removed, the model has the very bits that it had: the frozen matrices were never changed.")
full_loss, lora_loss, start_loss = rows["all weights"][2], rows[f"LoRA, rank {RANK}"][2], rows["as it is"][2]
part = (start_loss - lora_loss) / (start_loss - full_loss)
share = flat.values.size / full.flat.values.size
print(f"LoRA trains {share:.0%} of the numbers, and reaches {part:.0%} of the improvement in as many steps.")
print("Both forget: the loss of a text that the model wrote before rises.")
assert min(rows["all weights"][3], rows[f"LoRA, rank {RANK}"][3]) > rows["as it is"][3]
assert lora_loss < start_loss - 0.5 and flat.values.size < full.flat.values.size / 8 and off < 1e-3
