# B batch, T time
"""The training loop a second time, in plain NumPy. Training must follow it to the last bit.

Of npgpt's own code it uses the passes of the layers, ``npgpt.rng`` and ``npgpt.exact``. The rest is written again: the
order of examples, the parts of a batch, masks of dropout, initial weights, schedule, norm, clipping and AdamW.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from npgpt.build import twin
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Array, Cache, Layer
from npgpt.exact import cos_pi, fma
from npgpt.model import GPT
from npgpt.rng import make_key, normal, permutation, random_bits

IDS = permutation(make_key("reference"), 400)[:99] % 70
CONFIG: dict[str, Any] = {"vocab_size": 70, "context_length": 6, "n_layer": 3, "n_head": 4, "n_embd": 16}
TRAIN: dict[str, Any] = {
    "steps": 20, "batch_size": 5, "stride": 4, "learning_rate": 0.03, "min_learning_rate_ratio": 0.2, "warmup_steps": 4,
    "weight_decay": 0.3, "beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "grad_clip": 0.9, "seed": 3,
}  # fmt: skip
# What is changed: dropout or not, one part of each batch or three, and no clipping, decay or warm-up.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one part": ({"tie_weights": False}, {}),
    "three parts, dropout": ({"dropout": 0.2}, {"micro_batches": 3}),
    "no clipping, decay or warm-up": ({"dropout": 0.2}, {"grad_clip": 1e9, "weight_decay": 0.0, "warmup_steps": 0}),
}


class Dropout(Layer):
    """Keep number i of example b if the random bits of (seed, step, path, b) and i reach p·2³²; divide it by 1 − p."""

    def __init__(self, p: float) -> None:
        self.p = p

    def forward(self, x: Array, cache: Cache) -> Array:
        examples = range(cache.first_example, cache.first_example + len(x))
        keys = [make_key("dropout", cache.seed, cache.step, cache.path, b) for b in examples]
        numbers = np.arange(math.prod(x.shape[1:]), dtype=np.uint32)
        bits = np.array([random_bits(key, numbers) for key in keys]).reshape(x.shape)
        return x * cache.keep("mask", bits >= round(self.p * 2**32)) / (1 - self.p)

    def backward(self, dy: Array, cache: Cache) -> Array:
        return dy * cache["mask"] / (1 - self.p)


def initial_model(config: GPTConfig, seed: int, dtype: Any) -> GPT:
    """Return a textbook model with the dropout above. Positions are learned ones, or have no parameters."""
    model = GPT(config, dtype=dtype)
    for path, param in model.parameters().items():
        added_to_stream = path.endswith(("attention.projection.weight", "mlp.down.weight"))
        std = 0.02 / math.sqrt(2 * config.n_layer) if added_to_stream else 0.02
        drawn = std * normal(make_key("initialise", seed, path), param.value.shape)
        param.value[...] = 1 if path.endswith("gain") else 0 if path.endswith("bias") else drawn
    model.dropout = Dropout(config.dropout)  # type: ignore[assignment]
    for part in (part for block in model.blocks for part in (block.attention, block.mlp)):
        part.dropout = part.residual_dropout = Dropout(config.dropout)  # type: ignore[assignment, union-attr]
    return model


def batches(ids: Array, T: int, stride: int, B: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Yield (x, y) without end: each epoch has a new order of all examples; its last batch may be smaller."""
    starts = np.arange(0, len(ids) - T, stride)
    for epoch in range(10**9):
        order = starts[permutation(make_key("shuffle", seed, epoch), len(starts))]
        for some in np.split(order, range(B, len(order), B)):
            yield np.stack([ids[s : s + T] for s in some]), np.stack([ids[s + 1 : s + T + 1] for s in some])


def rate(number: int, train: TrainConfig) -> float:
    """Return the learning rate of step 1, 2, ...: it rises over the warm-up, then falls as a cosine."""
    if number <= train.warmup_steps:
        return train.learning_rate * number / train.warmup_steps
    lowest, after = train.learning_rate * train.min_learning_rate_ratio, train.steps - train.warmup_steps
    way = (number - train.warmup_steps - 1) / max(1, after - 1)
    return lowest + (train.learning_rate - lowest) * (1 + cos_pi(way)) / 2


def squares(g: Array, compiled: bool) -> float:
    """Sum the squares of each 8,192 numbers: as the kernel does, in two sets of 16 lanes, then the lanes by halves."""
    total = 0.0
    for chunk in np.split(g.astype(np.float64), range(8192, len(g), 8192)):
        if not compiled:
            total += (chunk**2).sum()
            continue
        lanes, pairs = np.zeros((2, 16)), len(chunk) // 32
        for i, row in enumerate(np.pad(chunk, (0, -len(chunk) % 16)).reshape(-1, 16)):
            lanes[i % 2 if i < 2 * pairs else 0] += row * row
        for width in (8, 4, 2, 1):
            lanes = lanes + np.roll(lanes, -width, axis=1)
        total += lanes[0, 0] + lanes[1, 0]
    return total


def adamw(theta: Array, g: Array, m: Array, v: Array, train: TrainConfig, eta: float, powers: list[float]) -> None:
    """Take a step, with ``powers`` = [β₁ᵗ, β₂ᵗ]. Weight decay is for matrices.

    The kernel fuses three sums, multiplies by reciprocals, and has no subnormal moments.
    """
    f, compiled = theta.dtype.type, train.layers == "compiled"
    add: Any = fma if compiled else lambda a, b, c: a * b + c
    m[...] = add(m, f(train.beta1), g * f(1 - train.beta1))
    v[...] = add(v, f(train.beta2), g * g * f(1 - train.beta2))
    rest1, rest2 = 1 - powers[0], 1 - powers[1]
    if compiled:
        m[np.abs(m) < 2.0**-126] = v[v < 2.0**-126] = 0
        step = m * f(-eta / rest1) / (np.sqrt(v * f(1 / rest2)) + f(train.eps))
    else:
        step = f(-eta) * (m / f(rest1)) / (np.sqrt(v / f(rest2)) + f(train.eps))
    theta[...] = add(theta, f(1 - eta * train.weight_decay * (theta.ndim >= 2)), step)


def train_again(config: GPTConfig, train: TrainConfig, dtype: Any) -> tuple[list[tuple[float, ...]], dict[str, Array]]:
    """Return (loss, norm, learning rate) of each step on ``IDS``, and path -> weight at the end.

    Compiled layers keep their own dropout, whose masks textbook training checks.
    """
    model, compiled = initial_model(config, train.seed, dtype), train.layers == "compiled"
    if compiled:
        weights, model = model.parameters(), twin(GPT(config))
        for path, param in model.parameters().items():
            param.value[...] = weights[path].value
    # matrices first: the order in the sum of the norm
    params = dict(sorted(model.parameters().items(), key=lambda item: item[1].value.ndim < 2))
    moments = {path: (np.zeros_like(param.value), np.zeros_like(param.value)) for path, param in params.items()}
    powers, K = [1.0, 1.0], train.micro_batches
    order = batches(IDS, config.context_length, train.stride, train.batch_size, train.seed)
    steps: list[tuple[float, ...]] = []
    for number, (x, y) in zip(range(1, train.steps + 1), order, strict=False):
        loss, first, g = 0.0, 0, np.zeros(0, dtype)
        for n in [len(x) // K + (i < len(x) % K) for i in range(K)]:
            if n:
                for param in params.values():
                    param.grad[...] = 0
                cache = Cache(training=True, seed=train.seed, step=number, first_example=first)
                loss += float(model.loss(x[first : first + n], y[first : first + n], cache, y.size))
                model.loss_backward(1.0, cache)
                part = np.concatenate([param.grad.ravel() for param in params.values()])
                g = g + part if first else part
                first += n
        norm = math.sqrt(squares(g, compiled))
        scale = np.array(train.grad_clip / norm if norm > train.grad_clip else 1.0, dtype)
        powers = [powers[0] * train.beta1, powers[1] * train.beta2]
        eta = rate(number, train)
        start = 0
        for path, param in params.items():
            grad = g[start : (start := start + param.value.size)].reshape(param.value.shape)
            adamw(param.value, grad * scale, *moments[path], train, eta, powers)
        steps.append((loss, norm, eta))
    return steps, {path: param.value for path, param in params.items()}
