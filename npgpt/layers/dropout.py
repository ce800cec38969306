# B batch, T time, C channels, p probability of dropping
import math

import numpy as np

from npgpt.core import Array, Cache, Layer
from npgpt.core.shapes import check_array, check_gradient
from npgpt.core.values import real
from npgpt.rng import make_key, random_bits


class Dropout(Layer):
    """In training, set each element to 0 with probability p and divide the others by 1 − p. Otherwise return x.

    Forward   y = x ⊙ m/(1 − p),  m = 1 with probability 1 − p, else 0; so the expectation of y is x
    Backward  given dy = ∂L/∂y:
      1. y is x times a number that does not depend on x    ⇒ dx = dy ⊙ m/(1 − p), with the same m
    Shapes    x, y, dx, dy (B, ...), all the same
    Keeps     mask (booleans), in training with p > 0
    Raises    ConfigError if p is not in 0 <= p < 1
    Source    Srivastava et al. 2014

    Each bit of the mask is a pure function of (seed, step, path of the layer, index of the example in the whole batch,
    flat index within the example). So it is the same for any split of the batch and any number of threads.

    >>> dropout, x = Dropout(0.5), np.ones((1, 6))
    >>> dropout.forward(x, Cache(training=True))
    array([[2., 2., 0., 2., 0., 0.]])
    >>> dropout.forward(x, Cache())
    array([[1., 1., 1., 1., 1., 1.]])
    """

    def __init__(self, p: float) -> None:
        self.p = real("Dropout", "p", p, least=0, below=1)

    def forward(self, x: Array, cache: Cache) -> Array:
        check_array("Dropout", "x", x, (..., "B"), like=x)
        if not self.drops(cache):
            return x
        mask = cache.keep("mask", self.mask(x.shape, cache))
        return x * mask / (1 - self.p)

    def backward(self, dy: Array, cache: Cache) -> Array:
        if not self.drops(cache):
            check_gradient("Dropout", "dy", dy, (..., "B"), like=dy)
            return dy
        check_gradient("Dropout", "dy", dy, cache["mask"].shape, like=dy)
        return dy * cache["mask"] / (1 - self.p)  # 1.

    def drops(self, cache: Cache) -> bool:
        """Whether dropout is active in this pass."""
        return cache.training and self.p > 0

    def mask(self, shape: tuple[int, ...], cache: Cache) -> Array:
        """Return the mask for a batch of this shape: True where an element is kept."""
        counters = np.arange(math.prod(shape[1:]), dtype=np.uint32)
        mask = [random_bits(int(key), counters) >= self.threshold for key in self.keys(shape[0], cache)]
        return np.array(mask, bool).reshape(shape)

    @property
    def threshold(self) -> int:
        """An element is dropped if its random integer, from 0 to 2³² − 1, is below this number."""
        return min(round(self.p * 2.0**32), 2**32 - 1)

    def keys(self, B: int, cache: Cache) -> Array:
        """Return the key of the random bits of each example (B,)."""
        examples = range(cache.first_example, cache.first_example + B)
        return np.array([make_key("dropout", cache.seed, cache.step, cache.path, b) for b in examples], np.uint64)
