# B batch, T time, C channels, V vocabulary
import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.shapes import check_gradient, check_ids
from npgpt.core.values import zeros


class Embedding(Layer):
    """Look up a row of a table for each id: a one-hot vector times a matrix, without the multiplications by 0.

    Forward   y_bt = W[ids_bt] = onehot(ids_bt)·W
    Backward  given dy = ∂L/∂y:
      1. row v is copied to all b, t with ids_bt = v     ⇒ dW_v = Σ dy_bt over these b, t,  that is dW = onehot(ids)ᵀ·dy
         Each occurrence of an id must add; ``dW[ids] += dy`` would keep only the last.
      2. ids are integers                                ⇒ they have no gradient
    Shapes    ids any shape of integers; y, dy (*ids.shape, n_embd); weight (vocab_size, n_embd)
    Keeps     ids
    Raises    ShapeError if ids are not integers in 0 to vocab_size - 1

    >>> embedding, cache = Embedding(3, 2), Cache()
    >>> embedding.forward(np.array([2, 0, 2]), cache).shape
    (3, 2)
    >>> embedding.backward(np.array([[1., 1.], [5., 5.], [2., 2.]]), cache)
    >>> embedding.weight.grad                           # row 2 was used twice: 1 + 2
    array([[5., 5.],
           [0., 0.],
           [3., 3.]])
    """

    def __init__(self, vocab_size: int, n_embd: int, std: float = 0.02) -> None:
        self.weight = Param(zeros("Embedding", vocab_size=vocab_size, n_embd=n_embd), std)

    def forward(self, ids: Array, cache: Cache) -> Array:
        check_ids("Embedding", "ids", ids, len(self.weight.value), "vocabulary")
        ids = cache.keep("ids", ids)
        rows: Array = self.weight.value[ids]
        return rows

    def backward(self, dy: Array, cache: Cache) -> None:
        ids, weight = cache["ids"], self.weight.value
        check_gradient("Embedding", "dy", dy, (*ids.shape, weight.shape[1]), like=weight)
        np.add.at(self.weight.grad, ids, dy)  # 1.; no gradient to return: 2.
