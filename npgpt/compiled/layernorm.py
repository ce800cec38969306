# B batch, T time, C channels
import numpy as np

import npgpt.layers as textbook
from npgpt.compiled.base import CompiledLayer, check_float32, gradient, output, rows
from npgpt.core import Array, Cache
from npgpt.kernels import layernorm
from npgpt.machine.pool import pool


class LayerNorm(CompiledLayer, textbook.LayerNorm):
    """The compiled twin of ``npgpt.layers.LayerNorm``, in one pass over memory. Backward computes x̂ again from x."""

    KEEPS = ("x",)

    def forward(self, x: Array, cache: Cache) -> Array:
        gain = self.gain.value
        check_float32("LayerNorm", "x", x, (..., len(gain)))
        check_float32("LayerNorm", "bias", self.bias.value, gain.shape)  # the kernel would read beyond its end
        x = cache.keep("x", x)
        y = output(cache, x.shape)
        layernorm.forward(pool(), rows(x), gain, self.bias.value, self.eps, rows(y), *_statistics(x, cache))
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        x, gain = cache["x"], self.gain.value
        check_float32("LayerNorm", "dy", dy, x.shape)
        mean, rstd = _statistics(x, cache)
        dx = gradient(cache, x.shape, dy)
        partial = cache.scratch("norm_sums", (2 * layernorm.groups(len(mean)), len(gain)), np.float32)
        (dgain, add), (dbias, add_bias) = cache.grad_to_fill(self.gain), cache.grad_to_fill(self.bias)
        if add != add_bias:  # another layer shares one of the two, and has already written its gradient
            (dbias if add else dgain)[...] = 0
            add = True
        layernorm.backward(pool(), rows(dy), rows(x), gain, mean, rstd, rows(dx), partial, dgain, dbias, add)
        return cache.note("x", dx)


def _statistics(x: Array, cache: Cache) -> tuple[Array, Array]:
    """Return memory for the mean and the reciprocal standard deviation of each row."""
    n = x.size // max(1, x.shape[-1])
    return cache.buffer("mean", (n,), np.float32), cache.buffer("rstd", (n,), np.float32)
