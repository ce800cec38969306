"""Can the model learn one batch by heart? If it cannot, a gradient is wrong somewhere.

The first thing to try with any new layer: 8 examples of random tokens, which follow no rule, so that nothing but
remembering helps. The loss has to go from log V, that of a guess, to nearly nothing.
"""

import math

import numpy as np

from npgpt.build import make_gpt, make_optimizer
from npgpt.config import GPTConfig
from npgpt.core import Cache
from npgpt.optim import clip_scale
from npgpt.train import accumulate

config = GPTConfig(vocab_size=50, context_length=16, n_layer=2, n_head=2, n_embd=32)
model = make_gpt(config)
optimizer = make_optimizer(model, weight_decay=0.0)
cache = Cache(training=True)
ids = np.random.default_rng(0).integers(0, 50, (8, 17))
ids[:, 0] = range(8)  # two examples that begin alike could not be told apart at their first token
x, y = ids[:, :-1], ids[:, 1:]

print(f"a guess has the loss log {config.vocab_size} = {math.log(config.vocab_size):.3f}")
for step in range(201):
    loss = accumulate(model, x, y, cache)
    optimizer.step(1e-2, clip_scale(optimizer.grad_norm(), 1.0))
    if step % 25 == 0:
        print(f"step {step:>3}   loss {loss:.4f}   {'#' * round(12 * loss)}")

right = (model.forward(x, Cache()).argmax(-1) == y).mean()
print(f"of the {y.size} next tokens it now knows {right:.0%} by heart")
assert loss < 0.05
assert right == 1
