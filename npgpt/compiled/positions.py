# B batch, T time, C channels
from npgpt import layers as textbook
from npgpt.compiled.base import CompiledLayer, flat, output
from npgpt.compiled.linear import add_column_sums
from npgpt.core import Array, Cache
from npgpt.kernels import columns
from npgpt.kernels.pool import pool


class LearnedPositions(CompiledLayer, textbook.LearnedPositions):
    """The compiled twin of ``npgpt.layers.LearnedPositions``: an example is one long row."""

    def forward(self, x: Array, cache: Cache) -> Array:
        self.check(x)
        B, T, C = x.shape
        y = output(cache, x.shape)
        columns.add_to_rows(pool(), flat(x).reshape(B, T * C), flat(self.weight.value[:T]), y.reshape(B, T * C))
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        B, T, C = dy.shape
        used = self.weight.grad[:T].reshape(T * C)
        add_column_sums(flat(dy).reshape(B, T * C), used, True, cache)  # 1.
        return dy  # 2.
