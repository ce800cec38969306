"""Why does a row look-up equal a matrix product, and why is the look-up preferred?

First a 3 x 2 matrix by hand, forward and backward. Then both ways as layers, with equal outputs and gradients. Then the
time and memory of each way as the vocabulary grows. `benchmarks/bench_lookup.py` measures this with more care.
"""

# V vocabulary, C channels, n number of ids
import os
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # NumPy reads these at import

import numpy as np

from npgpt import set_num_threads
from npgpt.core import Cache
from npgpt.embeddings.lookup import WAYS, OneHotEmbedding, one_hot
from npgpt.layers import Embedding
from npgpt.study.check.checker import gradcheck

# %% A small table by hand
set_num_threads(1)
W = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
ids = np.array([2, 0, 2])
dy = np.array([[1.0, 1.0], [5.0, 5.0], [2.0, 2.0]])  # the upstream gradient, a row for each id
onehot = one_hot(ids, 3)

print(f"A table of three rows of two: {W.astype(int).tolist()}. The ids are {ids.tolist()}.\n")
print("Forward: a one-hot row, with a one at the id, times the table.")
for i in range(len(ids)):
    row = onehot[i].astype(int)
    print(f"  [{' '.join(map(str, row))}]", end="")
    for c in (0, 1):
        sum_of = " + ".join(f"{o}·{w:.0f}" for o, w in zip(row, W[:, c], strict=True))
        print(f"   y[{i},{c}] = {sum_of} = {onehot[i] @ W[:, c]:.0f}", end="")
    print(f"   = row {ids[i]}")
y = onehot @ W
assert np.array_equal(y, W[ids])

print("\nBackward: row v of the gradient is the sum of the rows of dy at which v was looked up.")
grad = onehot.T @ dy
for v in range(3):
    sum_of = " + ".join(f"{o:.0f}·{d:.0f}" for o, d in zip(onehot[:, v], dy[:, 0], strict=True))
    print(f"  dW[{v},0] = {sum_of} = {grad[v, 0]:.0f}   looked up: {int(onehot[:, v].sum())}")
lost = np.zeros_like(W)
lost[ids] += dy
print(f"  `dW[ids] += dy` gives dW[2,0] = {lost[2, 0]:.0f}: it keeps only the last row of dy for a repeated id.")
assert grad[2, 0] == 3
assert lost[2, 0] == 2

# %% Both as layers with equal weights.
rng = np.random.default_rng(0)
V, C = 50, 8
lookup, product = Embedding(V, C), OneHotEmbedding(V, C)
lookup.weight.value[:] = product.weight.value[:] = rng.normal(size=(V, C))
ids, dy = rng.integers(0, V, (4, 16)), rng.normal(size=(4, 16, C))
cache, other = Cache(), Cache(trace=True)
assert np.array_equal(lookup.forward(ids, cache), product.forward(ids, other))
lookup.backward(dy, cache)
product.backward(dy, other)
off = np.abs(lookup.weight.grad - product.weight.grad).max()
print(f"\nAs layers, {ids.size} ids of {V}: the outputs are equal, and the gradients of the table up to {off:.0e}.")
assert off < 1e-13
of_onehot = next(grad for path, _, grad in other.walk() if path == "onehot")
assert of_onehot is not None
assert np.allclose(of_onehot, dy @ product.weight.value.T)
print(f"The product has one more gradient, that of the one-hot rows: dy·Wᵀ {of_onehot.shape}. It says how the loss")
print("changes with a small amount of any other token. An id is an integer, so a look-up has no such gradient.")
for layer in (lookup, product):
    report = gradcheck(layer, ids)
    assert report.passed
    tensors = sorted({check.tensor for check in report})
    print(f"The checker finds the gradients of {type(layer).__name__} right: {', '.join(tensors)}.")


# %% Time and memory as V grows.
def milliseconds(call: Callable[[], Any]) -> float:
    """Return the shortest of several runs."""
    call()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 0.1 and len(times) < 100):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def megabytes(call: Callable[[], Any]) -> float:
    """Return the peak memory of NumPy's arrays."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def ways(V: int) -> dict[str, Callable[[], Any]]:
    """Return each way as a call, after a comparison of the results."""
    ids = rng.integers(0, V, n)
    table, dy = rng.standard_normal((V, C), np.float32), rng.standard_normal((n, C), np.float32)
    grads = {name: np.zeros_like(table) for name in WAYS}
    calls: dict[str, Callable[[], Any]] = {
        "lookup": lambda: table[ids],
        "one-hot·W": lambda: one_hot(ids, V, np.float32) @ table,
    }
    assert np.array_equal(calls["lookup"](), calls["one-hot·W"]())
    for name, way in WAYS.items():
        calls[name] = partial(way, dy, ids, grads[name])
        calls[name]()
    assert all(np.allclose(grad, grads["add.at"], atol=1e-5) for grad in grads.values())
    return calls


n, C = 512, 64
NAMES = ["lookup", "one-hot·W", *WAYS]
took: dict[int, dict[str, float]] = {}
print(f"\n{n} ids, {C} channels, float32, one thread; milliseconds and, in brackets, peak MB of a call:\n")
print(f"{'':>7}{'forward':>17}{'':>17}{'backward':>17}")
print(f"{'V':>7}" + "".join(f"{name:>17}" for name in NAMES))
for V in (100, 1_000, 10_000, 100_000):
    calls = ways(V)
    took[V] = {name: milliseconds(calls[name]) for name in NAMES}
    cells = [f"{took[V][name]:.3f} ({megabytes(calls[name]):.2f})" for name in NAMES]
    print(f"{V:>7,}" + "".join(f"{cell:>17}" for cell in cells), flush=True)

growth = {name: took[100_000][name] / took[1_000][name] for name in NAMES}
others = ", ".join(f"{name} {growth[name]:.1f}" for name in NAMES if "one-hot" not in name)
print(
    f"\nFrom V = 1,000 to 100,000 the time of the product grows {growth['one-hot·W']:.0f} times, and that of its "
    f"backward {growth['one-hot']:.0f} times:\nthe one-hot matrix has {n * 99_999:,} zeros and {n} ones. "
    f"The other ways access {n} rows for every V.\nTheir times grow by: {others}."
)
assert growth["one-hot·W"] > 10
assert growth["one-hot"] > 10
assert took[100_000]["one-hot"] > 10 * max(took[100_000][name] for name in WAYS if name != "one-hot")
