"""Training computed a second time, without npgpt's training code: in plain numbers, by the tape, step by step."""

import math
from itertools import zip_longest
from typing import Any

import numpy as np

import npgpt.optim as optim
import npgpt.train as train
from npgpt.build import twin
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Array, Cache, FlatParams, Param
from npgpt.layers import IGNORE_INDEX, LayerNorm
from npgpt.model import GPT
from npgpt.study.check.cases import Case, TrainingLoss, of_order_one
from npgpt.study.check.subjects import LayerSubject
from npgpt.study.mutants.training_loop import CONFIG, IDS, SETTINGS, TRAIN, train_again


def adamw_number(
    theta: float, grads: list[float], rate: float, betas: tuple[float, float], eps: float, decay: float
) -> float:
    """Return one weight after a few steps of Loshchilov and Hutter 2017, algorithm 2 (with η_t = 1)."""
    m = v = 0.0
    for t, g in enumerate(grads, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        theta = theta - rate * m_hat / (math.sqrt(v_hat) + eps) - rate * decay * theta
    return theta


def adamw_is_right(kind: Any = None, dtype: Any = np.float64, tolerance: float = 1e-12) -> bool:
    """Compare four steps of clipped gradients on a matrix and a vector; ε and decay are large enough to matter."""
    rng = np.random.default_rng(0)
    start = [rng.normal(size=(3, 2)), rng.normal(size=4)]
    flat = FlatParams([Param(x.copy()) for x in start], dtype)
    adamw = (kind or optim.AdamW)(flat, 0.8, 0.95, 0.3, 0.2)
    history = []
    for _ in range(4):
        grads = rng.normal(size=flat.values.size)
        flat.grads[:] = grads
        scale = min(1.0, 2.0 / math.sqrt((grads**2).sum()))
        adamw.step(0.1, scale)
        history.append(grads * scale)
    right = [
        adamw_number(theta, [float(g[i]) for g in history], 0.1, (0.8, 0.95), 0.3, 0.2 if i < 6 else 0.0)
        for i, theta in enumerate(np.concatenate([x.ravel() for x in start]))
    ]
    return bool(np.abs(flat.values - np.array(right)).max() < tolerance)


def clipping_is_right() -> bool:
    """Check that a long gradient is scaled to the maximum norm, and that a short one stays."""
    return all(optim.clip_scale(norm, 2.0) * norm == min(norm, 2.0) for norm in (0.5, 1.0, 8.0))


def accumulation_is_right() -> bool:
    """Compare with the tape's gradient of the whole batch: three parts, unequal ignored targets, dropout, two steps."""
    rng = np.random.default_rng(0)
    gpt = of_order_one(GPT(GPTConfig(7, 3, n_layer=1, n_head=1, n_embd=2, dropout=0.3), dtype=np.float64), rng)
    ids, targets = rng.integers(0, 7, (2, 5, 3))
    targets[1:3, 1:] = IGNORE_INDEX
    # the case's seed, step and path (without the wrapper's ``gpt``) give the same dropout
    cache = Cache(training=True, seed=1)
    for _ in range(2):
        train.accumulate(gpt, ids, targets, cache, micro_batches=3, step=2)
    return _gradients_are(_by_tape(gpt, ids, targets), gpt, 1e-12)


class OwnNorm(LayerNorm):
    """A user's own layer: it has no kernel, and adds to its gradients in Python."""


def accumulation_by_kernels_is_right() -> bool:
    """Compare steps of two parts by compiled layers with the tape's gradient of their batch.

    The second batch holds vectors. So no kernel reaches the embedding, and its gradient is zero. If the head has the
    weights of the embedding, two kernels add to one gradient.
    """
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 7, (2, 4, 3))
    vectors = rng.normal(size=(4, 3, 2))
    for tied, batches in ((False, (ids, vectors)), (True, (ids,))):
        config = GPTConfig(7, 3, n_layer=1, n_head=1, n_embd=2, tie_weights=tied)
        gpt = of_order_one(GPT(config, dtype=np.float64), rng)
        gpt.norm.__class__ = OwnNorm
        compiled, cache = twin(gpt.astype(np.float32)), Cache(training=True)
        for x in batches:
            given = x.astype(np.float32) if x.dtype.kind == "f" else x
            train.accumulate(compiled, given, targets, cache, micro_batches=2)
            if not _gradients_are(_by_tape(gpt, x, targets), compiled, 1e-5):
                return False
    return True


def _by_tape(gpt: GPT, x: Array, targets: Array) -> dict[str, Array]:
    """Return parameter -> the gradient of a whole batch's loss."""
    subject = LayerSubject(Case("whole", TrainingLoss(gpt), {"ids": x, "targets": targets}, training=True))
    return {name.removeprefix("param gpt."): grad for name, grad in subject.gradients_by_tape(np.array(1.0)).items()}


def _gradients_are(right: dict[str, Array], gpt: GPT, tolerance: float) -> bool:
    return all(np.abs(param.grad - right[name]).max() < tolerance for name, param in gpt.parameters().items())


def training_is_right(layers: str = "textbook") -> bool:
    """Compare twenty steps with ``training_loop.py``, to the last bit, for each of its settings."""
    dtype = np.float64 if layers == "textbook" else np.float32
    return not any(difference_in_training(*changes, layers, dtype) for changes in SETTINGS.values())


def difference_in_training(of_model: dict[str, Any], of_train: dict[str, Any], layers: str, dtype: Any) -> str:
    """Train, and return where the bits first differ from those of ``training_loop.py``; empty if they do not."""
    config, settings = GPTConfig(**CONFIG | of_model), TrainConfig(**TRAIN | of_train | {"layers": layers})
    expected, weights = train_again(config, settings, dtype)
    model = twin(GPT(config, settings.seed, dtype), layers)
    steps = [(step.loss, step.grad_norm, step.learning_rate) for step in train.training_steps(model, IDS, settings)]
    for number, (ours, right) in enumerate(zip_longest(steps, expected), start=1):
        if ours != right:
            return f"step {number}: (loss, norm, learning rate) is {ours}, expected {right}"
    params = model.parameters()
    return next((path for path, right in weights.items() if not np.array_equal(params[path].value, right)), "")


def evaluation_is_right() -> bool:
    """Compare with one window after the other; the last one is shorter, and the model has dropout."""
    gpt, T = GPT(GPTConfig(**CONFIG | {"dropout": 0.2}), dtype=np.float64), CONFIG["context_length"]
    total, n = 0.0, len(IDS) - 1
    for start in range(0, n, T):
        x, y = IDS[None, start : min(n, start + T)], IDS[None, start + 1 : start + T + 1]
        total += float(gpt.loss(x, y, Cache())) * y.size
    return n % T > 0 and abs(train.evaluate(gpt, IDS, batch_size=4) - total / n) < 1e-12
