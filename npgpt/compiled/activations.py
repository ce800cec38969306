# every layer here works on any shape
import npgpt.layers as textbook
from npgpt.compiled.base import CompiledLayer, check_float32, flat, gradient, output
from npgpt.core import Array, Cache, Layer
from npgpt.kernels import elementwise
from npgpt.machine.pool import pool


class _Activation(CompiledLayer):
    """Forward also stores the slope, so that backward is one multiplication."""

    KEEPS = ("x",)
    kind: int

    def forward(self, x: Array, cache: Cache) -> Array:
        check_float32(type(self).__name__, "x", x)
        x = cache.keep("x", x)
        y, slope = output(cache, x.shape), output(cache, x.shape, "slope")
        elementwise.activate(pool(), self.kind, flat(x), flat(y), flat(slope))
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        x = cache["x"]
        check_float32(type(self).__name__, "dy", dy, x.shape)
        dx = gradient(cache, x.shape, dy)
        elementwise.multiply(pool(), flat(dy), flat(output(cache, x.shape, "slope")), flat(dx))
        return cache.note("x", dx)


class ReLU(_Activation, textbook.ReLU):
    """The compiled twin of ``npgpt.layers.ReLU``."""

    kind = elementwise.RELU


class TanhGELU(_Activation, textbook.TanhGELU):
    """The compiled twin of ``npgpt.layers.TanhGELU``, by the logistic function: (1 + tanh u)/2 = σ(2u)."""

    kind = elementwise.TANH_GELU


class GELU(_Activation, textbook.GELU):
    """The compiled twin of ``npgpt.layers.GELU``."""

    kind = elementwise.GELU


ACTIVATIONS = ReLU, TanhGELU, GELU


def kind_of(activation: Layer) -> int:
    """Return the number by which kernels select this activation function."""
    assert isinstance(activation, _Activation)
    return activation.kind
