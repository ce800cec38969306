"""Cross-entropy and its gradient in one go, over rows as wide as the vocabulary.

``plain_forward`` is the loop. The probabilities, which backward needs, are at hand when the loss is found, and depend
on nothing that comes later. So the gradient replaces the logits at once, a row at a time, in the nearest caches. No
log-probabilities are kept, and the largest array of the whole model exists once.

A power e^(x - max) below 2**-64 counts as 0. Beside 1 it is nothing; and in backward it would be multiplied by
probabilities, 1/count and weights, and become subnormal, which takes some CPUs a hundred times as long.
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
    """The loss of logits (n, V), its gradient (n, V), and the loss of each row (n,)."""
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
            logit = logits[row, target]  # before it is written over
            largest, total = exp_row(logits, row * V, V, LOWEST, out)
            scale_row(out, row * V, V, share / total)
            out[row, target] -= share
            store_some(losses, row, 1, log(splat(total)) - (logit - largest))


@entry(POOL, ROWS, INTS, INT, INT, ROWS_OUT, FLOATS_OUT)
def forward(pool: Any, logits: Any, targets: Any, ignore: int, count: int, out: Any, losses: Any) -> float:
    """The sum of the losses of all rows, divided by ``count``.

    Args
        logits: (n, V).
        targets: (n,), each 0 to V - 1, or ``ignore``: such a row counts as 0, whatever it holds.
        out: (n, V), the gradient of what is returned; may be the memory of the logits.
        losses: (n,), the loss of each row, not divided.
    """
    rows = rows_of_chunk(logits.shape[1])
    share = np.float32(1 / count)
    launch(pool, (len(logits) + rows - 1) // rows, *job(_forward, (rows, logits, targets, ignore, share, out, losses)))
    total = 0.0
    for row in range(len(losses)):
        total += losses[row]
    return total / count
