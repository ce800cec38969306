# B batch, T time, C channels, V vocabulary
import numpy as np  # noqa: F401  # for the example below

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.shapes import check_array, check_gradient
from npgpt.core.values import zeros
from npgpt.layers.linear import rows


class VocabularyHead(Layer):
    """The vocabulary head: one logit for each id, the dot product of the final vector with a row of a table.

    Forward   logits = x·Wᵀ, in numbers logits_btv = Σ_c x_btc W_vc
    Backward  given dy = ∂L/∂logits:
      1. W_v is in logits_btv for every b, t    ⇒ dW_v = Σ_bt dy_btv x_bt,  that is dW = dyᵀ·x over all rows
      2. x_bt is in logits_btv for every v      ⇒ dx_bt = Σ_v dy_btv W_v,   that is dx = dy·W
    Shapes    x, dx (..., C); logits, dy (..., V); weight (V, C), as in Embedding
    Keeps     x
    Raises    ShapeError if x.shape[-1] != C, or if x and the weight differ in precision
    Source    weight tying: Press and Wolf 2016, arXiv:1608.05859

    Args
        weight: the Param of an Embedding, to share it (tied weights); both layers add to its gradient.

    >>> head, cache = VocabularyHead(2, 1), Cache()
    >>> head.weight.value[:] = [[3], [4]]
    >>> head.forward(np.array([[2.]]), cache)
    array([[6., 8.]])
    """

    def __init__(self, vocab_size: int, n_embd: int, std: float = 0.02, weight: Param | None = None) -> None:
        if weight is None:
            weight = Param(zeros("VocabularyHead", vocab_size=vocab_size, n_embd=n_embd), std)
        self.weight = weight

    def forward(self, x: Array, cache: Cache) -> Array:
        weight = self.weight.value
        check_array("VocabularyHead", "x", x, (..., weight.shape[1]), like=weight)
        x = cache.keep("x", x)
        return (rows(x) @ weight.T).reshape(*x.shape[:-1], len(weight))

    def backward(self, dy: Array, cache: Cache) -> Array:
        x, weight = cache["x"], self.weight.value
        check_gradient("VocabularyHead", "dy", dy, (*x.shape[:-1], len(weight)), like=x)
        self.weight.grad += rows(dy).T @ rows(x)  # 1.
        return cache.note("x", (rows(dy) @ weight).reshape(x.shape))  # 2.
