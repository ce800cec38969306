# B batch, T time, C channels, V vocabulary
import npgpt.layers as textbook
from npgpt.compiled.base import CompiledLayer, check_float32, flat, gradient, output, rows
from npgpt.compiled.head import VocabularyHead
from npgpt.compiled.loss import CrossEntropy, turn_logits
from npgpt.core import Array, Cache
from npgpt.core.values import real
from npgpt.kernels import elementwise
from npgpt.kernels.matmul import matmul
from npgpt.machine.pool import pool


class HeadLoss(CompiledLayer, textbook.HeadLoss):
    """The compiled twin of ``npgpt.layers.HeadLoss``.

    Forward overwrites the logits with their gradient (p − onehot)/N, and backward only reads it: there is one array
    (..., V), not two or three. (Blocks of the vocabulary would need none, but compute the logits twice: a third more
    work in the largest product of a small model.)
    """

    FUSES = (("lm_head", (VocabularyHead,)), ("cross_entropy", (CrossEntropy,)))

    def forward(self, x: Array, targets: Array, count: int | None, cache: Cache) -> Array:
        weight, of_head = self.lm_head.weight.value, cache.scope("lm_head")
        check_float32("VocabularyHead", "x", x, (..., weight.shape[1]))
        x = of_head.keep("x", x)
        logits = self._dlogits(x, of_head)
        matmul(rows(x), weight.T, rows(logits))
        return turn_logits(logits, targets, count, logits, cache.scope("cross_entropy"))

    def backward(self, dloss: Array | float, cache: Cache) -> Array:
        dloss = real("HeadLoss", "dloss", dloss)
        weight, of_head = self.lm_head.weight.value, cache.scope("lm_head")
        x = of_head["x"]
        dlogits, scale = rows(self._dlogits(x, of_head)), dloss  # 1. without the factor dloss, which multiplies
        scaled = gradient(of_head, x.shape, name="scaled")  # x and dx instead: they are smaller than dlogits
        elementwise.scale(pool(), flat(x), scale, flat(scaled))
        matmul(dlogits.T, rows(scaled), *cache.grad_to_fill(self.lm_head.weight))  # 2.
        dx = gradient(of_head, x.shape)
        matmul(dlogits, weight, rows(dx))
        elementwise.scale(pool(), flat(dx), scale, flat(dx))
        return of_head.note("x", dx)

    def _dlogits(self, x: Array, cache: Cache) -> Array:
        return output(cache, (*x.shape[:-1], len(self.lm_head.weight.value)), "logits")
