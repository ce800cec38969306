# B batch, T time, C channels
import numpy as np

import npgpt.layers as textbook
from npgpt.compiled.base import CompiledLayer, check_float32, gradient, output, rows
from npgpt.core import Array, Cache
from npgpt.kernels import columns
from npgpt.kernels.finish import BIAS, RESIDUAL
from npgpt.kernels.matmul import matmul
from npgpt.machine.pool import pool


class Linear(CompiledLayer, textbook.Linear):
    """The compiled twin of ``npgpt.layers.Linear``: the bias is added while the product is in the CPU's cache.

    A block can pass ``residual``, which is added in the same way. This saves a pass over three arrays.
    """

    KEEPS = ("x",)

    def forward(self, x: Array, cache: Cache, residual: Array | None = None) -> Array:
        weight = self.weight.value
        check_float32("Linear", "x", x, (..., weight.shape[0]))
        x = cache.keep("x", x)
        y = output(cache, (*x.shape[:-1], weight.shape[1]))
        multiply_onto(rows(x), self, rows(y), residual)
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        x, weight = cache["x"], self.weight.value
        check_float32("Linear", "dy", dy, (*x.shape[:-1], weight.shape[1]))
        matmul(rows(x).T, rows(dy), *cache.grad_to_fill(self.weight))  # 1.
        add_column_sums(rows(dy), *cache.grad_to_fill(self.bias), cache)  # 2.
        dx = gradient(cache, x.shape, dy)
        matmul(rows(dy), weight.T, rows(dx))  # 3.
        return cache.note("x", dx)


def multiply_onto(x: Array, linear: textbook.Linear, y: Array, residual: Array | None) -> None:
    """Compute y = x·W + b, plus the residual if there is one."""
    if residual is None:
        matmul(x, linear.weight.value, y, how=BIAS, bias=linear.bias.value)
    else:
        matmul(x, linear.weight.value, y, how=RESIDUAL, bias=linear.bias.value, other=rows(residual))


def add_column_sums(dy: Array, grad: Array, add: bool, cache: Cache) -> None:
    """Write the sum of the rows of dy (n, C) into a gradient (C,), or add it."""
    partial = cache.scratch("column_sums", (columns.groups(len(dy)), dy.shape[1]), np.float32)
    columns.column_sums(pool(), dy, partial, grad, add)
