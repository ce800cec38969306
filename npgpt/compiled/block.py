# B batch, T time, C channels
from npgpt import layers as textbook
from npgpt.compiled.base import CompiledComposite, flat, gradient, output
from npgpt.core import Array, Cache
from npgpt.kernels import elementwise
from npgpt.kernels.pool import pool


class Block(CompiledComposite, textbook.Block):
    """The compiled twin of ``npgpt.layers.Block``."""

    KEEPS = ("x", "attention_input", "attended", "middle", "mlp_input", "transformed")

    def forward(self, x: Array, cache: Cache) -> Array:
        x = cache.keep("x", x)
        attention_input = cache.keep("attention_input", self.attention_norm.forward(x, cache.scope("attention_norm")))
        attended = cache.keep("attended", self.attention.forward(attention_input, cache.scope("attention")))
        middle = cache.keep("middle", _add(x, attended, output(cache, x.shape, "sum")))
        mlp_input = cache.keep("mlp_input", self.mlp_norm.forward(middle, cache.scope("mlp_norm")))
        transformed = cache.keep("transformed", self.mlp.forward(mlp_input, cache.scope("mlp")))
        return _add(middle, transformed, output(cache, x.shape))

    def backward(self, dy: Array, cache: Cache) -> Array:
        dtransformed = cache.note("transformed", dy)
        dmlp_input = cache.note("mlp_input", self.mlp.backward(dtransformed, cache.scope("mlp")))
        dbranch = self.mlp_norm.backward(dmlp_input, cache.scope("mlp_norm"))
        dmiddle = cache.note("middle", _add(dy, dbranch, gradient(cache, dy.shape, dy, name="dmiddle")))  # 1.
        dattended = cache.note("attended", dmiddle)
        dattention_input = self.attention.backward(dattended, cache.scope("attention"))
        dattention_input = cache.note("attention_input", dattention_input)
        dbranch = self.attention_norm.backward(dattention_input, cache.scope("attention_norm"))
        return cache.note("x", _add(dmiddle, dbranch, gradient(cache, dy.shape, dy)))  # 2.


def _add(a: Array, b: Array, out: Array) -> Array:
    elementwise.add(pool(), flat(a), flat(b), flat(out))
    return out
