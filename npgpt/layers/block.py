# B batch, T time, C channels
from npgpt.core import Array, Cache, Layer
from npgpt.core.shapes import check_array, check_gradient
from npgpt.layers.attention import Attention, Scores
from npgpt.layers.layernorm import LayerNorm
from npgpt.layers.mlp import MLP


class Block(Layer):
    """A pre-norm transformer block: the residual stream x, to which attention and then the MLP add their outputs.

    Forward   middle = x + Attention(norm₁(x)),  y = middle + MLP(norm₂(middle))
    Backward  given dy = ∂L/∂y:
      1. middle is in y directly and through the MLP     ⇒ dmiddle = dy + norm₂.backward(MLP.backward(dy))
      2. x is in middle directly and through attention   ⇒ dx = dmiddle + norm₁.backward(Attention.backward(dmiddle))
    Shapes    x, y, dx, dy and all kept arrays (B, T, C)
    Keeps     x, attention_input, attended, middle, mlp_input, transformed
    Raises    ShapeError if x.shape[-1] != n_embd
    Source    He et al. 2016, arXiv:1603.05027 (pre-activation); Radford et al. 2019 (GPT-2)

    Args
        dropout, activation, residual_std, score, attention_dropout, n_inner: as in Attention and MLP.
        eps: as in LayerNorm.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        dropout: float = 0.0,
        activation: str = "gelu_tanh",
        residual_std: float = 0.02,
        score: Scores | None = None,
        attention_dropout: float | None = None,
        n_inner: int | None = None,
        eps: float = 1e-5,
    ) -> None:
        self.attention_norm = LayerNorm(n_embd, eps)
        self.attention = Attention(n_embd, n_head, dropout, residual_std, score, attention_dropout)
        self.mlp_norm = LayerNorm(n_embd, eps)
        self.mlp = MLP(n_embd, dropout, activation, residual_std, n_inner)

    def forward(self, x: Array, cache: Cache) -> Array:
        gain = self.attention_norm.gain.value
        check_array("Block", "x", x, ("B", "T", len(gain)), like=gain)
        x = cache.keep("x", x)
        attention_input = cache.keep("attention_input", self.attention_norm.forward(x, cache.scope("attention_norm")))
        attended = cache.scope("attention").for_each_text(self.attention.forward, attention_input)
        attended = cache.keep("attended", attended)
        middle = cache.keep("middle", x + attended)
        mlp_input = cache.keep("mlp_input", self.mlp_norm.forward(middle, cache.scope("mlp_norm")))
        transformed = cache.keep("transformed", self.mlp.forward(mlp_input, cache.scope("mlp")))
        return middle + transformed

    def backward(self, dy: Array, cache: Cache) -> Array:
        check_gradient("Block", "dy", dy, cache["x"].shape, like=cache["x"])
        dtransformed = cache.note("transformed", dy)
        dmlp_input = cache.note("mlp_input", self.mlp.backward(dtransformed, cache.scope("mlp")))
        dmiddle = cache.note("middle", dy + self.mlp_norm.backward(dmlp_input, cache.scope("mlp_norm")))  # 1.
        dattended = cache.note("attended", dmiddle)
        dattention_input = self.attention.backward(dattended, cache.scope("attention"))
        dattention_input = cache.note("attention_input", dattention_input)
        dbranch = self.attention_norm.backward(dattention_input, cache.scope("attention_norm"))
        return cache.note("x", dmiddle + dbranch)  # 2.
