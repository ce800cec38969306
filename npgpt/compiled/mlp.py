# B batch, T time, C channels, F hidden
from npgpt import layers as textbook
from npgpt.compiled.activations import kind_of
from npgpt.compiled.base import CompiledComposite, gradient, output, rows
from npgpt.compiled.linear import add_column_sums
from npgpt.core import Array, Cache, check_array
from npgpt.kernels.matmul import ACTIVATION, BIAS, FACTOR, matmul


class MLP(CompiledComposite, textbook.MLP):
    """The compiled twin of ``npgpt.layers.MLP``.

    The activation is computed while the product is in the cache, which spares two passes over ``hidden``, the largest
    array of a block. It leaves its slope, so that backward multiplies by it in the same way.
    """

    KEEPS = ("projected",)

    def forward(self, x: Array, cache: Cache) -> Array:
        weight, of_up = self.up.weight.value, cache.scope("up")
        check_array("Linear", "x", x, (..., weight.shape[0]), like=weight)
        x = of_up.keep("x", x)
        active, slope = self._memory(x, cache)
        how = ACTIVATION + kind_of(self.activation)
        matmul(rows(x), weight, active, how=how, bias=self.up.bias.value, slope=slope)
        projected = cache.keep("projected", output(cache, (*x.shape[:-1], self.down.weight.value.shape[1])))
        matmul(active, self.down.weight.value, rows(projected), how=BIAS, bias=self.down.bias.value)
        return self.dropout.forward(projected, cache.scope("dropout"))

    def backward(self, dy: Array, cache: Cache) -> Array:
        of_up = cache.scope("up")
        x, (active, slope) = of_up["x"], self._memory(of_up["x"], cache)
        dprojected = cache.note("projected", self.dropout.backward(dy, cache.scope("dropout")))  # 1.
        upstream = rows(dprojected)
        matmul(active.T, upstream, *self.down.weight.grad_to_fill())  # 2.
        add_column_sums(upstream, *self.down.bias.grad_to_fill(), cache)
        dhidden = gradient(cache, active.shape, name="dhidden")  # 3.
        matmul(upstream, self.down.weight.value.T, dhidden, how=FACTOR, other=slope)
        matmul(rows(x).T, dhidden, *self.up.weight.grad_to_fill())
        add_column_sums(dhidden, *self.up.bias.grad_to_fill(), cache)
        dx = gradient(of_up, x.shape, dy)
        matmul(dhidden, self.up.weight.value.T, rows(dx))
        return of_up.note("x", dx)

    def _memory(self, x: Array, cache: Cache) -> tuple[Array, Array]:
        """What backward reads besides x: activations and slopes, (n, F)."""
        shape = x.size // max(1, x.shape[-1]), self.up.weight.value.shape[1]
        return output(cache, shape, "active"), output(cache, shape, "slope")
