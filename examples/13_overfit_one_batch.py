"""Can the model memorize one batch? If it cannot, a gradient is probably wrong.

This is the first test for any new layer. The batch has 8 examples of random tokens. They follow no rule, so the model
can only memorize them. The loss must fall from log V, the loss of a uniform guess, to nearly zero.
"""

import math

import numpy as np

from npgpt.build import make_gpt, make_optimizer
from npgpt.config import GPTConfig
from npgpt.core import Cache
from npgpt.optim import clip_scale
from npgpt.train import accumulate

# %% A batch of random tokens
config = GPTConfig(vocab_size=50, context_length=16, n_layer=2, n_head=2, n_embd=32)
model = make_gpt(config)
optimizer = make_optimizer(model, weight_decay=0.0)
cache = Cache(training=True)
ids = np.random.default_rng(0).integers(0, 50, (8, 17))
ids[:, 0] = range(8)  # examples with equal first tokens could not be told apart there
x, y = ids[:, :-1], ids[:, 1:]

# %% Training on it again and again
print(f"the loss of a uniform guess is log {config.vocab_size} = {math.log(config.vocab_size):.3f}")
for step in range(201):
    loss = accumulate(model, x, y, cache)
    optimizer.step(1e-2, clip_scale(optimizer.grad_norm(), 1.0))
    if step % 25 == 0:
        print(f"step {step:>3}   loss {loss:.4f}   {'#' * round(12 * loss)}")

right = (model.forward(x, Cache()).argmax(-1) == y).mean()
print(f"the model predicts {right:.0%} of the {y.size} next tokens")
assert loss < 0.05
assert right == 1
