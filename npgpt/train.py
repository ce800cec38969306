# B batch, T time
"""Training: one step, many steps, and the loss on text that was not trained on."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from npgpt.build import make_optimizer
from npgpt.config import TrainConfig
from npgpt.core import Array, Cache
from npgpt.data import SlidingWindows
from npgpt.errors import DataError, TrainingError
from npgpt.layers import IGNORE_INDEX
from npgpt.model import GPT
from npgpt.optim import AdamW, WarmupCosine, clip_scale


@dataclass(frozen=True)
class Step:
    """What one optimizer step reports.

    Attributes
        number: 1 for the first.
        loss: of the batch, before the step, in nats per token.
        grad_norm: before clipping.
        n_tokens: targets that counted.
    """

    number: int
    loss: float
    grad_norm: float
    learning_rate: float
    n_tokens: int


def training_steps(model: GPT, ids: Array, config: TrainConfig, optimizer: AdamW | None = None) -> Iterator[Step]:
    """Train a model, a step each time that the next one is asked for.

    Args
        ids: (n,) the training text.
        optimizer: to look at between steps; ``optimizer_of(model, config)``, if not said.
    Raises
        DataError, at once, if the text is shorter than one example; TrainingError, at its step, if the loss or the
        gradient is no longer finite.
    """
    windows = SlidingWindows(
        ids, model.config.context_length, config.stride, config.batch_size, shuffle=True, seed=config.seed
    )
    return _steps(model, windows, config, optimizer or optimizer_of(model, config))


def optimizer_of(model: GPT, config: TrainConfig) -> AdamW:
    """The optimizer that a configuration asks for."""
    return make_optimizer(model, config.beta1, config.beta2, config.eps, config.weight_decay)


def _steps(model: GPT, windows: SlidingWindows, config: TrainConfig, optimizer: AdamW) -> Iterator[Step]:
    lowest = config.learning_rate * config.min_learning_rate_ratio
    schedule = WarmupCosine(config.learning_rate, lowest, config.warmup_steps, config.steps)
    cache = Cache(training=True, seed=config.seed)

    def passes() -> Iterator[tuple[float, int]]:
        for number in range(1, config.steps + 1):
            x, y = windows.batch(number - 1)
            loss = accumulate(model, x, y, cache, config.micro_batches, step=number)
            yield loss, int((y != IGNORE_INDEX).sum())

    return optimizer_steps(optimizer, schedule, passes(), config.grad_clip)


def optimizer_steps(
    optimizer: AdamW, schedule: WarmupCosine, passes: Iterable[tuple[float, int]], grad_clip: float = math.inf
) -> Iterator[Step]:
    """A step of the optimizer after each pass: the training loop, whatever is trained.

    Args
        passes: each leaves its gradients with the optimizer's parameters, and gives the loss and the number of targets.
        grad_clip: largest norm of the gradient.
    Raises
        TrainingError, at its step, if the loss or the gradient is no longer finite.
    """
    for number, (loss, n_tokens) in enumerate(passes, start=1):
        norm = optimizer.grad_norm()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"step {number}: the loss is {loss}, the gradient's norm {norm}. "
                "A lower learning_rate or a longer warm-up (warmup_steps) mostly helps"
            )
        learning_rate = schedule(number - 1)
        optimizer.step(learning_rate, clip_scale(norm, grad_clip))
        yield Step(number, loss, norm, learning_rate, n_tokens)


def accumulate(model: GPT, x: Array, y: Array, cache: Cache, micro_batches: int = 1, step: int = 0) -> float:
    """Set the gradients to those of the mean loss of a batch, computed in parts, and return the loss.

    Every part is divided by the number of targets that count in the *whole* batch. So the parts add up to the gradient
    of the whole, whatever each part ignores, and dropout drops the same numbers.

    Args
        x, y: (B, T) ids and targets.
        micro_batches: number of parts, as equal as may be; no more than B.
        step: for dropout.
    Raises
        DataError if no target counts.
    """
    count = int((y != IGNORE_INDEX).sum())
    if count == 0:
        raise DataError("every target of the batch is ignored: there is no loss")
    model.zero_grad(cache)
    loss, first = 0.0, 0
    try:
        for part_x, part_y in zip(np.array_split(x, micro_batches), np.array_split(y, micro_batches), strict=True):
            if len(part_x):
                cache.reset(step=step, first_example=first)
                loss += float(model.loss(part_x, part_y, cache, count))
                model.loss_backward(1.0, cache)
                first += len(part_x)
    finally:  # a pass that was stopped leaves a cache behind whose next pass adds
        cache.clear_unwritten()
    return loss


def evaluate(model: GPT, ids: Array, batch_size: int = 16) -> float:
    """Mean cross-entropy, in nats, of every one of ``ids[1:]``, each a target once.

    The windows are disjoint, so a token at the start of one sees little before it. The last one may be shorter.

    Raises
        DataError if there are fewer than two ids.
    """
    n, T = len(ids) - 1, model.config.context_length
    if n < 1:
        raise DataError(f"{len(ids)} tokens are too few to evaluate on; take a longer text")
    total, full = 0.0, n - n % T
    cache = Cache(record=False)
    x, y = ids[:full].reshape(-1, T), ids[1 : full + 1].reshape(-1, T)
    parts = [(x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, len(x), batch_size)]
    if full < n:
        parts.append((ids[None, full:-1], ids[None, full + 1 :]))
    for part_x, part_y in parts:
        total += float(model.loss(part_x, part_y, cache.reset())) * part_y.size
    return total / n
