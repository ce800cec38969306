# B batch, T time, C channels
import npgpt.layers as textbook
from npgpt.compiled.attention import Attention
from npgpt.compiled.base import CompiledLayer, add, check_float32, gradient
from npgpt.compiled.mlp import MLP
from npgpt.core import Array, Cache


class Block(CompiledLayer, textbook.Block):
    """The compiled twin of ``npgpt.layers.Block``: each branch adds the residual while it writes its output."""

    KEEPS = ("x", "attention_input", "middle", "mlp_input")
    FUSES = (("attention", (Attention,)), ("mlp", (MLP,)))  # both accept a residual
    attention: Attention
    mlp: MLP

    def forward(self, x: Array, cache: Cache) -> Array:
        check_float32("Block", "x", x, ("B", "T", len(self.attention_norm.gain.value)))
        x = cache.keep("x", x)
        attention_input = cache.keep("attention_input", self.attention_norm.forward(x, cache.scope("attention_norm")))
        middle = cache.keep("middle", self.attention.forward(attention_input, cache.scope("attention"), x))
        mlp_input = cache.keep("mlp_input", self.mlp_norm.forward(middle, cache.scope("mlp_norm")))
        return self.mlp.forward(mlp_input, cache.scope("mlp"), middle)

    def backward(self, dy: Array, cache: Cache) -> Array:
        check_float32("Block", "dy", dy, cache["x"].shape)
        dmlp_input = cache.note("mlp_input", self.mlp.backward(dy, cache.scope("mlp")))
        dbranch = self.mlp_norm.backward(dmlp_input, cache.scope("mlp_norm"))
        dmiddle = cache.note("middle", add(dy, dbranch, gradient(cache, dy.shape, dy, name="dmiddle")))  # 1.
        dattention_input = self.attention.backward(dmiddle, cache.scope("attention"))
        dattention_input = cache.note("attention_input", dattention_input)
        dbranch = self.attention_norm.backward(dattention_input, cache.scope("attention_norm"))
        return cache.note("x", add(dmiddle, dbranch, gradient(cache, dy.shape, dy)))  # 2.
