# B batch, T time, C channels
import numpy as np

from npgpt import layers as textbook
from npgpt.compiled.base import CompiledLayer, gradient, output, rows
from npgpt.core import Array, Cache, check_array
from npgpt.kernels import columns
from npgpt.kernels.matmul import BIAS, matmul
from npgpt.kernels.pool import pool


class Linear(CompiledLayer, textbook.Linear):
    """The compiled twin of ``npgpt.layers.Linear``: the bias is added while the product is in the cache."""

    KEEPS = ("x",)

    def forward(self, x: Array, cache: Cache) -> Array:
        weight = self.weight.value
        check_array("Linear", "x", x, (..., weight.shape[0]), like=weight)
        x = cache.keep("x", x)
        y = output(cache, (*x.shape[:-1], weight.shape[1]))
        matmul(rows(x), weight, rows(y), how=BIAS, bias=self.bias.value)
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        x, weight = cache["x"], self.weight.value
        check_array("Linear", "dy", dy, (*x.shape[:-1], weight.shape[1]), like=x)
        matmul(rows(x).T, rows(dy), *self.weight.grad_to_fill())  # 1.
        add_column_sums(rows(dy), *self.bias.grad_to_fill(), cache)  # 2.
        dx = gradient(cache, x.shape, dy)
        matmul(rows(dy), weight.T, rows(dx))  # 3.
        return cache.note("x", dx)


def add_column_sums(dy: Array, grad: Array, add: bool, cache: Cache) -> None:
    """The sum of all rows of dy (n, C) into a gradient (C,), or added to it."""
    partial = cache.scratch("column_sums", (columns.groups(len(dy)), dy.shape[1]), np.float32)
    columns.column_sums(pool(), dy, partial, grad, add)
