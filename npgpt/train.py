# B batch, T time
"""Training: one step, many steps, and the loss on validation text."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from npgpt.build import make_optimizer
from npgpt.config import TrainConfig
from npgpt.core import Array, Cache
from npgpt.core.shapes import as_ids, check_ids, check_plain, check_shape
from npgpt.core.values import whole
from npgpt.data import SlidingWindows
from npgpt.errors import ConfigError, DataError, TrainingError
from npgpt.layers import IGNORE_INDEX
from npgpt.model import GPT
from npgpt.optim import AdamW, WarmupCosine, clip_scale, largest_norm

VALIDATION_SAMPLE = 32_768  # of a long validation text, for ``evaluate`` during training
AddUp = Callable[[GPT, Callable[[int], float], int, Cache], float]  # ``add_in_order``, or that of several machines


@dataclass(frozen=True)
class Step:
    """The report of one optimizer step.

    Attributes
        number: 1 for the first step.
        loss: the loss of the batch before the step, in nats per token.
        grad_norm: the norm of the gradient before clipping.
        n_tokens: the number of targets that count.
    """

    number: int
    loss: float
    grad_norm: float
    learning_rate: float
    n_tokens: int


def add_in_order(model: GPT, gradient: Callable[[int], float], n: int, cache: Cache) -> float:
    """Set the gradients to the sum of those of n micro-batches, g₀ + g₁ + ..., and return the sum of their losses.

    Each is computed from zero. So the sum has the same bits on several machines, which compute them at the same time.

    Args
        gradient: sets the gradients to those of one micro-batch, by its number, and returns its part of the loss.
        cache: has the memory of the sums, so later steps allocate none.
    """
    loss = gradient(0)
    if n > 1:
        grads = [model.flat.grads] if model.flat else [param.grad for param in model.parameters().values()]
        totals = [cache.scratch(f"sum {i}", grad.shape, grad.dtype) for i, grad in enumerate(grads)]
        for total, grad in zip(totals, grads, strict=True):
            total[...] = grad
        for number in range(1, n):
            loss += gradient(number)
            for total, grad in zip(totals, grads, strict=True):
                total += grad
        for total, grad in zip(totals, grads, strict=True):
            grad[...] = total
    return loss


def training_steps(
    model: GPT,
    ids: Array,
    config: TrainConfig,
    optimizer: AdamW | None = None,
    after: int = 0,
    schedule_from: int = 0,
    add_up: AddUp = add_in_order,
) -> Iterator[Step]:
    """Train a model; each iteration does one step.

    Args
        ids: (n,) the training text.
        optimizer: by default ``optimizer_of(model, config)``.
        after: the number of steps that were done before; model and optimizer are as they were after them.
        schedule_from: the step at which the schedule of the learning rate begins; it ends with ``config.steps``.
        add_up: as in ``accumulate``.
    Raises
        DataError, at the call, if the text has fewer examples than a batch; TrainingError, at a step, if the loss or
        the gradient is not finite; ConfigError, at the call, if the optimizer is that of another model.
    """
    if optimizer and not set(optimizer.flat.params) <= set(model.parameters().values()):
        raise ConfigError(
            "the optimizer trains parameters that are not this model's, so the model would not learn; make it with "
            "optimizer_of(model, config), or copy and pickle the two together: pickle.dumps((model, optimizer))"
        )
    ids = as_ids("training_steps", "ids", ids, model.config.vocab_size)
    after = whole("training_steps", "after", after, 0, config.steps)
    schedule_from = whole("training_steps", "schedule_from", schedule_from, 0, after)
    windows = training_windows(ids, model.config.context_length, config)
    return _steps(model, windows, config, optimizer or optimizer_of(model, config), after, schedule_from, add_up)


def training_windows(ids: Array, context_length: int, config: TrainConfig) -> SlidingWindows:
    """Return the batches of training in their order: ``batch(0)`` is that of step 1."""
    B, stride = config.batch_size, config.stride
    windows = SlidingWindows(ids, context_length, stride, B, shuffle=True, seed=config.seed)
    if windows.n_examples < B:  # each step would see the whole text
        raise DataError(
            f"batch_size {B} is larger than the {windows.n_examples} examples of the text: {len(ids)} tokens, "
            f"context_length {context_length}, stride {stride}; use a batch_size of at most {windows.n_examples}, a "
            f"smaller {'stride' if stride > 1 else 'context_length'}, or a longer text"
        )
    return windows


def optimizer_of(model: GPT, config: TrainConfig) -> AdamW:
    """Make the optimizer of a configuration."""
    return make_optimizer(model, config.beta1, config.beta2, config.eps, config.weight_decay)


def _steps(
    model: GPT,
    windows: SlidingWindows,
    config: TrainConfig,
    optimizer: AdamW,
    after: int,
    schedule_from: int,
    add_up: AddUp,
) -> Iterator[Step]:
    lowest = config.learning_rate * config.min_learning_rate_ratio
    rates = WarmupCosine(config.learning_rate, lowest, config.warmup_steps, max(1, config.steps - schedule_from))
    cache = Cache(training=True, seed=config.seed)

    def passes() -> Iterator[tuple[float, int]]:
        for number in range(after + 1, config.steps + 1):
            x, y = windows.batch(number - 1)
            loss = accumulate(model, x, y, cache, config.micro_batches, number, add_up)
            yield loss, int((y != IGNORE_INDEX).sum())

    return optimizer_steps(optimizer, lambda step: rates(step - schedule_from), passes(), config.grad_clip, after)


def optimizer_steps(
    optimizer: AdamW,
    schedule: Callable[[int], float],
    passes: Iterable[tuple[float, int]],
    grad_clip: float = math.inf,
    after: int = 0,
) -> Iterator[Step]:
    """The training loop of any model: one optimizer step after each pass.

    Args
        schedule: the learning rate of each step; it is called with 0 for the first step.
        passes: each item is (loss, number of targets), after the gradients of the optimizer's parameters were set.
        grad_clip: gradients of a larger norm are scaled down to this norm.
        after: the number of steps that were done before.
    Raises
        TrainingError, at a step, if the loss or the gradient is not finite.
    """
    grad_clip = largest_norm("optimizer_steps", "grad_clip", grad_clip)
    after = whole("optimizer_steps", "after", after, 0)
    for number, (loss, n_tokens) in enumerate(passes, start=after + 1):
        norm = optimizer.grad_norm()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"step {number}: training diverged; the loss is {loss}, the norm of the gradient {norm}. "
                "Use a lower learning_rate or a longer warm-up (warmup_steps)"
            )
        learning_rate = schedule(number - 1)
        optimizer.step(learning_rate, clip_scale(norm, grad_clip))
        yield Step(number, loss, norm, learning_rate, n_tokens)


def accumulate(
    model: GPT,
    x: Array,
    y: Array,
    cache: Cache,
    micro_batches: int = 1,
    step: int = 0,
    add_up: AddUp = add_in_order,
    documents: Array | None = None,
) -> float:
    """Set the gradients to those of the mean loss of a batch, computed in parts, and return the loss.

    The loss of every part is divided by the number of targets that count in the *whole* batch. So the gradients add up
    to that of the whole batch, also if the parts ignore different numbers of targets. Dropout drops the same elements.

    Args
        x, y: (B, T) ids and targets.
        micro_batches: the number of parts, of nearly equal size; at most B.
        step: the number of the step; dropout depends on it.
        add_up: computes and adds the gradients of the parts.
        documents: (B, T), the number of each token's document, if rows hold several (``Cache``). The target of a
            document's last token is IGNORE_INDEX, unless it is known: the first token of the next does not follow.
    Raises
        DataError if every target is ignored, or if the cache has documents and none are given for this batch.
    """
    micro_batches, step = whole("accumulate", "micro_batches", micro_batches, 1), whole("accumulate", "step", step, 0)
    check_plain("accumulate", "x", x)
    y = check_ids("accumulate", "y", y, model.config.vocab_size, "vocabulary", ignore=IGNORE_INDEX)
    check_shape("accumulate", "y", y, x.shape[:2])
    micro_batches = min(micro_batches, max(1, len(x)))
    count = int((y != IGNORE_INDEX).sum())
    if count == 0:
        raise DataError("every target of the batch is ignored, so there is no loss; at least one target must count")
    if documents is None and cache.documents is not None:
        raise DataError(
            "accumulate: the cache has documents, perhaps those of another batch; give those of this one, "
            "documents=..., or reset(documents=None) first"
        )
    cache.reset(documents=documents).starts(*y.shape)  # both check them
    borders = np.cumsum([0, *map(len, np.array_split(x, micro_batches))]).tolist()

    def gradient(number: int) -> float:
        first, end = borders[number : number + 2]
        of_part = None if documents is None else documents[first:end]
        cache.reset(step=step, first_example=first, documents=of_part)
        model.zero_grad(cache)
        try:
            loss = float(model.loss(x[first:end], y[first:end], cache, count))
            model.loss_backward(1.0, cache)
        finally:  # also after an interrupted pass: the next one must add to valid gradients
            cache.clear_unwritten()
        return loss

    return add_up(model, gradient, micro_batches, cache)


def evaluate(
    model: GPT,
    ids: Array,
    batch_size: int = 16,
    at_most: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> float:
    """Return the mean cross-entropy in nats of ``ids[1:]``; each of them is a target once.

    The windows are disjoint, so tokens near the start of a window have little context. The last one may be shorter.

    Args
        at_most: of a longer text, a sample of about so many targets is measured: whole windows at equal distances, at
            least one, which are the same at every call.
        progress: called with (targets done, targets in all) after each batch.
    Raises
        DataError if there are fewer than two ids.
    """
    ids = as_ids("evaluate", "ids", ids, model.config.vocab_size)
    batch_size = whole("evaluate", "batch_size", batch_size, 1)
    n, T = len(ids) - 1, model.config.context_length
    if n < 1:
        raise DataError(f"{len(ids)} tokens are too few, evaluation needs at least 2; use a longer text")
    total, full, cache = 0.0, n - n % T, Cache(record=False)
    x, y = ids[:full].reshape(-1, T), ids[1 : full + 1].reshape(-1, T)
    rest = [(ids[None, full:-1], ids[None, full + 1 :])] if full < n else []
    kept = len(x) if at_most is None else max(1, whole("evaluate", "at_most", at_most, 1) // T)
    if kept < len(x):
        chosen = np.arange(kept) * len(x) // kept
        x, y, rest, n = x[chosen], y[chosen], [], kept * T
    parts = [(x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, len(x), batch_size)]
    done = 0
    for part_x, part_y in parts + rest:
        total += float(model.loss(part_x, part_y, cache.reset())) * part_y.size
        done += part_y.size
        if progress:
            progress(done, n)
    return total / n
