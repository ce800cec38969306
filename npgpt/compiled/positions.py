# B batch, T time, C channels, P channels of a position
import numpy as np

import npgpt.layers as textbook
from npgpt.compiled.base import CompiledLayer, add, check_float32, flat, gradient, output, rows
from npgpt.compiled.linear import add_column_sums
from npgpt.core import Array, Cache
from npgpt.kernels import columns, embedding
from npgpt.layers.positions import in_documents
from npgpt.machine.pool import pool


class LearnedPositions(CompiledLayer, textbook.LearnedPositions):
    """The compiled twin of ``npgpt.layers.LearnedPositions``. Kernels treat an example as one row of T·C numbers."""

    def forward(self, x: Array, cache: Cache) -> Array:
        check_float32("LearnedPositions", "x", x)
        self.check(x, start=cache.n_past)
        return _add_to_each(x, self.weight.value[cache.n_past :], cache)

    def backward(self, dy: Array, cache: Cache) -> Array:
        check_float32("LearnedPositions", "dy", dy)
        self.check(dy, "dy")
        B, T, C = dy.shape
        grad, positions = cache.grad_to_add_to(self.weight), in_documents(dy, cache)
        if positions is None:
            add_column_sums(flat(dy).reshape(B, T * C), grad[:T].reshape(T * C), True, cache)  # 1.
        else:
            embedding.scatter_add(pool(), rows(dy), flat(positions), grad, True)  # 1.
        return dy  # 2.


class SinusoidalPositions(CompiledLayer, textbook.SinusoidalPositions):
    """The compiled twin of ``npgpt.layers.SinusoidalPositions``."""

    def forward(self, x: Array, cache: Cache) -> Array:
        check_float32("SinusoidalPositions", "x", x)
        self.check(x)
        return _add_to_each(x, self.table(x, cache.n_past), cache)


class ConcatenatedPositions(CompiledLayer, textbook.ConcatenatedPositions):
    """The compiled twin of ``npgpt.layers.ConcatenatedPositions``."""

    KEEPS = ("beside", "both")

    def forward(self, x: Array, cache: Cache) -> Array:
        check_float32("ConcatenatedPositions", "x", x)
        self.check(x)
        B, T, C = x.shape
        nothing = cache.scratch("nothing", (B, T, self.n_position), np.float32)
        nothing[...] = 0
        beside = cache.keep("beside", self.vectors.forward(nothing, cache.scope("vectors")))
        both = cache.keep("both", output(cache, (B, T, C + self.n_position), "both"))
        both[..., :C], both[..., C:] = x, beside
        return self.projection.forward(both, cache.scope("projection")) if self.projection else both

    def backward(self, dy: Array, cache: Cache) -> Array:
        check_float32("ConcatenatedPositions", "dy", dy, self._output_shape(cache["both"]))
        dboth = self.projection.backward(dy, cache.scope("projection")) if self.projection else dy  # 1.
        cache.note("both", dboth)
        B, T, _ = dy.shape
        dx = gradient(cache, (B, T, self.n_embd), dboth)
        dbeside = gradient(cache, (B, T, self.n_position), dboth, name="dbeside")
        dx[...], dbeside[...] = dboth[..., : self.n_embd], dboth[..., self.n_embd :]  # 2.
        self.vectors.backward(cache.note("beside", dbeside), cache.scope("vectors"))  # 3.
        return dx


class NoPositions(CompiledLayer, textbook.NoPositions):
    """The compiled twin of ``npgpt.layers.NoPositions``. There is nothing to compute."""

    def forward(self, x: Array, cache: Cache) -> Array:
        check_float32("NoPositions", "x", x)
        return x


def _add_to_each(x: Array, table: Array, cache: Cache) -> Array:
    """Return x (B, T, C) + the first T rows of a table, or, with documents, a row for each token.

    Kernels treat each example as one row of T·C numbers.
    """
    B, T, C = x.shape
    y, positions = output(cache, x.shape), in_documents(x, cache)
    if positions is None:
        columns.add_to_rows(pool(), flat(x).reshape(B, T * C), flat(table[:T]), y.reshape(B, T * C))
        return y
    embedding.gather(pool(), table, flat(positions), rows(y))
    return add(x, y, y)
