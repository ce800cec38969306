"""What is computed twice when a model writes a text, and what does it cost to keep it?

Rung 0: the whole text runs again for each new token.
Rung 1: the keys and values of earlier tokens come out the same each time, so they need not be computed again.
Rung 2: one query, and the keys and values that were kept, give the output of the new token.
Rung 3: the same in a whole model, with ``KeyValues``: the same logits, to the bit.
"""

import math
import time

import numpy as np

from npgpt import Cache, GPTConfig, make_gpt
from npgpt.core import KeyValues
from npgpt.layers import Attention

# %% Keys and values of earlier tokens do not change
rng = np.random.default_rng(0)
T, C, H = 6, 8, 2
attention = Attention(C, H)
attention.initialise(0)
x = rng.standard_normal((1, T, C))

shorter, longer = Cache(), Cache()
attention.forward(x[:, : T - 1], shorter)
y = attention.forward(x, longer)
for name in ("k", "v"):  # (1, H, T, D)
    assert np.allclose(shorter[name], longer[name][:, :, : T - 1], atol=1e-14)
print(f"rung 1: with token {T} the keys and values of tokens 1 to {T - 1} are what they were")

# %% One query is enough
k, v = longer["k"], longer["v"]  # of all tokens: T - 1 were kept, one is new
q = longer["q"][:, :, -1:]  # of the new token alone
scores = q @ k.swapaxes(-1, -2) / math.sqrt(C // H)
weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(1, 1, C)
by_hand = mixed @ attention.projection.weight.value + attention.projection.bias.value
assert np.allclose(by_hand, y[:, -1:], atol=1e-12)
print(f"rung 2: one query and {T} keys give the new token's output; {T - 1} queries were not needed")

# %% A whole model
N = 128
model = make_gpt(GPTConfig(vocab_size=65, context_length=N, n_layer=4, n_head=4, n_embd=128))
ids = rng.integers(0, 65, (1, N))


def again() -> list[np.ndarray]:
    cache = Cache(record=False)
    return [model.forward(ids[:, : t + 1], cache.reset())[0, -1].copy() for t in range(N)]


def kept() -> list[np.ndarray]:
    cache, found = Cache(record=False, past=past), []
    for t in range(N):
        found.append(model.forward(ids[:, t : t + 1], cache.reset())[0, -1].copy())
        past.advance(1)
    return found


seconds, logits = {}, {}
for write in (again, kept, again, kept):  # the first two compile, or read what was compiled
    past = KeyValues()
    start = time.perf_counter()
    logits[write] = write()
    seconds[write] = time.perf_counter() - start
assert np.array_equal(logits[again], logits[kept])
faster = seconds[again] / seconds[kept]
print(f"rung 3: {N} tokens in {N * (N + 1) // 2:,} places, or in {N}: {faster:.1f} times as fast")

numbers = 2 * 4 * N * 128  # keys and values, layers, tokens, channels
assert past.nbytes == 4 * numbers
print(f"        the same logits; the memory is 2 · layers · tokens · channels numbers, {past.nbytes / 1e6:.1f} MB")
