# N numbers in all
import numpy as np  # noqa: F401  # for the example below

from npgpt.core import Array, Cache, Layer
from npgpt.core.shapes import check_array, check_plain
from npgpt.core.values import real
from npgpt.errors import DataError, ShapeError


class MeanSquaredError(Layer):
    """The mean of the squared differences, the loss of predicted numbers.

    Forward   L = (1/N) Σ_i (y_i − t_i)²
    Backward  given dloss, the gradient of L (1 if L itself is minimised):
      1. y_i is in one of the N terms, whose slope is 2(y_i − t_i)    ⇒ dy = dloss·2(y − t)/N
      2. t_i is there with the opposite sign                          ⇒ dt = −dy
    Shapes    y, t, dy, dt any, all the same; L a scalar
    Keeps     y, t
    Raises    ShapeError if y and t differ in shape or precision; DataError if they are empty

    >>> loss, cache = MeanSquaredError(), Cache()
    >>> print(loss.forward(np.array([1., 5.]), np.array([1., 2.]), cache))     # (0 + 9)/2
    4.5
    >>> loss.backward(1., cache)[0]                                            # 0, 2·3/2
    array([0., 3.])
    """

    def forward(self, y: Array, t: Array, cache: Cache) -> Array:
        check_plain("MeanSquaredError", "y", y)
        if y.dtype.kind not in "fc":
            raise ShapeError(f"MeanSquaredError: y is {y.dtype}, expected floats; convert it with .astype(np.float64)")
        check_array("MeanSquaredError", "t", t, y.shape, like=y)
        if not y.size:
            raise DataError("MeanSquaredError: y is empty, so there is no mean")
        y, t = cache.keep("y", y), cache.keep("t", t)
        loss: Array = ((y - t) ** 2).sum() / y.size
        return loss

    def backward(self, dloss: Array | float, cache: Cache) -> tuple[Array, Array]:
        y, t = cache["y"], cache["t"]
        dy = real("MeanSquaredError", "dloss", dloss) * 2 / y.size * (y - t)  # 1.
        return cache.note("y", dy), cache.note("t", -dy)  # 2.
