# B batch, T time, V vocabulary
import numpy as np

import npgpt.layers as textbook
from npgpt.compiled.base import CompiledLayer, check_float32, flat, gradient, output, rows
from npgpt.core import Array, Cache
from npgpt.core.values import real
from npgpt.kernels import elementwise, loss
from npgpt.layers.loss import IGNORE_INDEX, keep_targets
from npgpt.machine.pool import pool


class CrossEntropy(CompiledLayer, textbook.CrossEntropy):
    """The compiled twin of ``npgpt.layers.CrossEntropy``: forward computes (p − onehot)/N, and backward scales it."""

    KEEPS = ("targets", "count")

    def forward(self, logits: Array, targets: Array, count: int | None, cache: Cache) -> Array:
        check_float32("CrossEntropy", "logits", logits, (..., "V"))
        _width(cache)[0] = logits.shape[-1]
        return turn_logits(logits, targets, count, output(cache, logits.shape, "dlogits"), cache)

    def backward(self, dloss: Array | float, cache: Cache) -> Array:
        dloss = real("CrossEntropy", "dloss", dloss)
        shape = *cache["targets"].shape, int(_width(cache)[0])
        dlogits = gradient(cache, shape)
        elementwise.scale(pool(), flat(output(cache, shape, "dlogits")), float(dloss), flat(dlogits))
        return dlogits


def _width(cache: Cache) -> Array:
    """Return memory that passes the size of the vocabulary to backward."""
    return cache.buffer("width", (1,), np.int64)


def turn_logits(logits: Array, targets: Array, count: int | None, out: Array, cache: Cache) -> Array:
    """Return the loss, and write dlogits for dloss = 1 into ``out``, which may be the memory of the logits."""
    targets, count = keep_targets(targets, count, logits.shape, cache)
    losses = cache.scratch("losses", (targets.size,), np.float32)
    of_row = np.ascontiguousarray(targets, np.int64).reshape(-1)
    mean = loss.forward(pool(), rows(logits), of_row, IGNORE_INDEX, count, rows(out), losses)
    return np.asarray(mean, np.float32)
