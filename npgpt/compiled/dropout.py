# B batch, p probability of dropping
import math

import numpy as np

import npgpt.layers as textbook
from npgpt.compiled.base import CompiledLayer, check_float32, flat, gradient, output
from npgpt.core import Array, Cache
from npgpt.kernels import dropout
from npgpt.machine.pool import pool


class Dropout(CompiledLayer, textbook.Dropout):
    """The compiled twin of ``npgpt.layers.Dropout``: backward draws the same bits again; they are not stored."""

    def forward(self, x: Array, cache: Cache) -> Array:
        check_float32("Dropout", "x", x, (..., "B"))
        if not self.drops(cache):
            return x
        keys = cache.buffer("keys", x.shape[:1], np.int64)
        keys[:] = self.keys(x.shape[0], cache).view(np.int64)
        y = cache.keep_unlisted("y", output(cache, x.shape))  # backward needs its shape
        return self._drop(x, y, keys)

    def backward(self, dy: Array, cache: Cache) -> Array:
        drops = self.drops(cache)
        check_float32("Dropout", "dy", dy, cache["y"].shape if drops else (..., "B"))
        if not drops:
            return dy
        return self._drop(dy, gradient(cache, dy.shape, dy), cache.buffer("keys", dy.shape[:1], np.int64))  # 1.

    def _drop(self, x: Array, y: Array, keys: Array) -> Array:
        shape = len(keys), math.prod(x.shape[1:])
        dropout.dropout(pool(), flat(x).reshape(shape), keys, self.threshold, 1 / (1 - self.p), flat(y).reshape(shape))
        return y
