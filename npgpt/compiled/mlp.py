# B batch, T time, C channels, F hidden
import npgpt.layers as textbook
from npgpt.compiled.activations import ACTIVATIONS, kind_of
from npgpt.compiled.base import CompiledLayer, add, check_float32, gradient, output, rows
from npgpt.compiled.dropout import Dropout
from npgpt.compiled.linear import Linear, add_column_sums, multiply_onto
from npgpt.core import Array, Cache
from npgpt.kernels.finish import ACTIVATION, SLOPE
from npgpt.kernels.matmul import matmul


class MLP(CompiledLayer, textbook.MLP):
    """The compiled twin of ``npgpt.layers.MLP``.

    Of the arrays (..., F) it keeps only ``hidden``, which saves a third of the model's memory. Backward computes the
    activation and its slope again, while the product dactive is in the CPU's cache.
    """

    KEEPS = ("hidden",)
    FUSES = (("up", (Linear,)), ("activation", ACTIVATIONS), ("down", (Linear,)), ("dropout", (Dropout,)))

    def forward(self, x: Array, cache: Cache, residual: Array | None = None) -> Array:
        weight, of_up = self.up.weight.value, cache.scope("up")
        check_float32("Linear", "x", x, (..., weight.shape[0]))
        x = of_up.keep("x", x)
        hidden = cache.keep("hidden", output(cache, (*x.shape[:-1], weight.shape[1]), "hidden"))
        active, how = self._active(hidden, cache), ACTIVATION + kind_of(self.activation)
        matmul(rows(x), weight, active, how=how, bias=self.up.bias.value, second=rows(hidden))
        projected = output(cache, x.shape)
        dropping = self.dropout.drops(cache)
        multiply_onto(active, self.down, rows(projected), None if dropping else residual)
        if not dropping:
            return projected
        dropped = self.dropout.forward(projected, cache.scope("dropout"))
        return dropped if residual is None else add(residual, dropped, output(cache, x.shape, "sum"))

    def backward(self, dy: Array, cache: Cache) -> Array:
        of_up, hidden = cache.scope("up"), cache["hidden"]
        x = of_up["x"]
        check_float32("MLP", "dy", dy, x.shape)
        upstream = rows(self.dropout.backward(dy, cache.scope("dropout")))  # 1.
        active, how = self._active(hidden, cache), SLOPE + kind_of(self.activation)
        dhidden = gradient(cache, hidden.shape, name="dhidden")  # 2. and 3.
        matmul(upstream, self.down.weight.value.T, rows(dhidden), how=how, other=rows(hidden), second=active)
        cache.note("hidden", dhidden)
        matmul(active.T, upstream, *cache.grad_to_fill(self.down.weight))
        add_column_sums(upstream, *cache.grad_to_fill(self.down.bias), cache)
        matmul(rows(x).T, rows(dhidden), *cache.grad_to_fill(self.up.weight))
        add_column_sums(rows(dhidden), *cache.grad_to_fill(self.up.bias), cache)
        dx = gradient(of_up, x.shape, dy)
        matmul(rows(dhidden), self.up.weight.value.T, rows(dx))  # 4.
        return of_up.note("x", dx)

    def _active(self, hidden: Array, cache: Cache) -> Array:
        """Return memory for the activations (n, F), shared by all blocks."""
        return gradient(cache, rows(hidden).shape, name="active")
