# B batch, T time, C channels, V vocabulary
import npgpt.layers as textbook
from npgpt.compiled.base import CompiledLayer, check_float32, gradient, output, rows
from npgpt.core import Array, Cache
from npgpt.kernels.matmul import matmul


class VocabularyHead(CompiledLayer, textbook.VocabularyHead):
    """The compiled twin of ``npgpt.layers.VocabularyHead``."""

    KEEPS = ("x",)

    def forward(self, x: Array, cache: Cache) -> Array:
        weight = self.weight.value
        check_float32("VocabularyHead", "x", x, (..., weight.shape[1]))
        x = cache.keep("x", x)
        logits = output(cache, (*x.shape[:-1], len(weight)), "logits")
        matmul(rows(x), weight.T, rows(logits))
        return logits

    def backward(self, dy: Array, cache: Cache) -> Array:
        x, weight = cache["x"], self.weight.value
        check_float32("VocabularyHead", "dy", dy, (*x.shape[:-1], len(weight)))
        matmul(rows(dy).T, rows(x), *cache.grad_to_fill(self.weight))  # 1.
        dx = gradient(cache, x.shape, dy)
        matmul(rows(dy), weight, rows(dx))  # 2.
        return cache.note("x", dx)
