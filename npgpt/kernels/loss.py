"""Cross-entropy and its gradient in one pass, over rows as wide as the vocabulary.

``plain_forward`` is the loop. The forward pass computes the probabilities, and the gradient needs no later result. So
the gradient replaces the logits at once, a row at a time, while the row is in the cache. No log-probabilities are
stored, and the largest array of the model exists only once.

An exponential e^(x - max) below 2**-64 becomes 0. The sum is at least 1, so the change is negligible. In the backward
pass its products with 1/count and weights could be subnormal, which makes some CPUs a hundred times slower.
"""

import math
from typing import Any

import numpy as np

from npgpt.kernels.softmax import exp_row, rows_of_chunk, scale_row
from npgpt.machine.atomics import job
from npgpt.machine.compile import entry, kernel
from npgpt.machine.functions import log
from npgpt.machine.kinds import FLOATS_OUT, INT, INTS, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import launch
from npgpt.machine.vector import splat, store_some

LOWEST = np.float32(-44.3)  # just above -64·ln 2


def plain_forward(logits: Any, targets: Any, ignore: int, count: int) -> Any:
    """Return the loss of logits (n, V), its gradient (n, V), and the loss of each row (n,)."""
    gradient, losses = np.zeros_like(logits), np.zeros(len(logits))
    for i in range(len(logits)):
        if targets[i] != ignore:
            e = np.exp(logits[i] - max(logits[i]))
            losses[i] = math.log(sum(e)) - (logits[i, targets[i]] - max(logits[i]))
            gradient[i] = e / sum(e) / count
            gradient[i, targets[i]] -= 1 / count
    return sum(losses) / count, gradient, losses


@kernel
def _forward(
    thread: int, chunk: int, rows: int, logits: Any, targets: Any, ignore: int, share: Any, out: Any, losses: Any
) -> None:
    n, V = logits.shape
    for row in range(chunk * rows, min(n, (chunk + 1) * rows)):
        target = targets[row]
        if target == ignore:
            out[row] = 0
            losses[row] = 0
        else:
            logit = logits[row, target]  # before it is overwritten
            largest, total = exp_row(logits, row * V, V, LOWEST, out)
            scale_row(out, row * V, V, share / total)
            out[row, target] -= share
            store_some(losses, row, 1, log(splat(total)) - (logit - largest))


@entry(POOL, ROWS, INTS, INT, INT, ROWS_OUT, FLOATS_OUT)
def forward(pool: Any, logits: Any, targets: Any, ignore: int, count: int, out: Any, losses: Any) -> float:
    """Return the sum of the losses of all rows, divided by ``count``; write its gradient.

    Args
        logits: (n, V).
        targets: (n,), each 0 to V - 1, or ``ignore``: the loss and the gradient of such a row are 0.
        out: (n, V), the gradient of the returned loss; may be the logits.
        losses: (n,), the loss of each row, not divided by ``count``.
    """
    rows = rows_of_chunk(logits.shape[1])
    share = np.float32(1 / count)
    launch(pool, (len(logits) + rows - 1) // rows, *job(_forward, (rows, logits, targets, ignore, share, out, losses)))
    total = 0.0
    for row in range(len(losses)):
        total += losses[row]
    return total / count
