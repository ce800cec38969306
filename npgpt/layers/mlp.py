# B batch, T time, C channels, F hidden
from npgpt.core import Array, Cache, Layer
from npgpt.core.values import one_of, whole
from npgpt.layers.activations import ACTIVATIONS
from npgpt.layers.dropout import Dropout
from npgpt.layers.linear import Linear


class MLP(Layer):
    """Two linear maps with an activation function between them, applied to each token separately.

    Forward   hidden = x·W_up + b_up,  active = a(hidden), a the activation function,
              projected = active·W_down + b_down,  y = Dropout(projected)
    Backward  given dy = ∂L/∂y: a chain without branches; the gradient from each step is the input of the next:
      1. y = Dropout(projected)                ⇒ dprojected = Dropout.backward(dy)
      2. projected = active·W_down + b_down    ⇒ dactive = dprojected·W_downᵀ
      3. active = a(hidden)                    ⇒ dhidden = dactive ⊙ a′(hidden)
      4. hidden = x·W_up + b_up                ⇒ dx = dhidden·W_upᵀ
    Shapes    x, y, dx, dy (..., C); hidden, active (..., F)
    Keeps     hidden, active, projected
    Raises    ConfigError if the activation is unknown; ShapeError if x.shape[-1] != n_embd (by ``up``)
    Source    Vaswani et al. 2017, arXiv:1706.03762, section 3.3

    Args
        activation: "gelu_tanh", "gelu" or "relu".
        dropout: probability of dropping, for the output.
        residual_std: standard deviation of the initial weight of ``down``.
        n_inner: the hidden size F, by default 4 C.
    """

    def __init__(
        self,
        n_embd: int,
        dropout: float = 0.0,
        activation: str = "gelu_tanh",
        residual_std: float = 0.02,
        n_inner: int | None = None,
    ) -> None:
        n_embd = whole("MLP", "n_embd", n_embd, 1)
        n_inner = 4 * n_embd if n_inner is None else whole("MLP", "n_inner", n_inner, 1)
        self.up = Linear(n_embd, n_inner)
        self.activation = ACTIVATIONS[one_of("activation", activation, ACTIVATIONS)]()
        self.down = Linear(n_inner, n_embd, residual_std)
        self.dropout = Dropout(dropout)

    def forward(self, x: Array, cache: Cache) -> Array:
        hidden = cache.keep("hidden", self.up.forward(x, cache.scope("up")))  # (..., F)
        active = cache.keep("active", self.activation.forward(hidden, cache.scope("activation")))
        projected = cache.keep("projected", self.down.forward(active, cache.scope("down")))
        return self.dropout.forward(projected, cache.scope("dropout"))

    def backward(self, dy: Array, cache: Cache) -> Array:
        dprojected = cache.note("projected", self.dropout.backward(dy, cache.scope("dropout")))  # 1.
        dactive = cache.note("active", self.down.backward(dprojected, cache.scope("down")))  # 2.
        dhidden = cache.note("hidden", self.activation.backward(dactive, cache.scope("activation")))  # 3.
        return self.up.backward(dhidden, cache.scope("up"))  # 4.
