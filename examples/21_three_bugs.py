"""Which gradients of this layer are wrong, and why?

The layer is a gated linear unit with a gain. Its backward pass has three mistakes. The checker finds the wrong tensors
and names the mistakes. A second layer has a mistake from a published NumPy GPT: it computes the keys' gradient as qᵀ·dS
and reshapes it to fit. With weights of about 0.02 a test hardly sees it.
"""

import math

import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.layers import Attention, Scores, visible
from npgpt.study.check.cases import of_order_one
from npgpt.study.check.checker import gradcheck


# %% A layer with three mistakes
class GatedUnit(Layer):
    """y = (x·W) ⊙ tanh(x·U) ⊙ g, with W and U (C, C) and g (C,)."""

    def __init__(self, C: int) -> None:
        self.W, self.U, self.g = Param(np.zeros((C, C))), Param(np.zeros((C, C))), Param(np.zeros(C))

    def forward(self, x: Array, cache: Cache) -> Array:
        x = cache.keep("x", x)
        value = cache.keep("value", x @ self.W.value)
        gate = cache.keep("gate", np.tanh(x @ self.U.value))
        y: Array = value * gate * self.g.value
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        x, value, gate = cache["x"], cache["value"], cache["gate"]
        self.g.grad += (dy * value * gate)[0].sum(0)  # the first mistake
        dvalue = cache.note("value", dy * gate * self.g.value)
        dgate = cache.note("gate", dy * value * self.g.value)
        dz = dgate * (1 - gate * gate)
        self.W.grad += np.einsum("btc,btd->dc", x, dvalue)  # the second
        self.U.grad += np.einsum("btc,btd->cd", x, dz)
        return cache.note("x", dvalue @ self.W.value.T)  # the third


# %% What the checker finds
rng = np.random.default_rng(0)
x = rng.normal(size=(2, 3, 4))
report = gradcheck(of_order_one(GatedUnit(4), rng), x)
print(report)
kinds = {found.tensor: found.kind for found in report.findings}
assert kinds["param g"] == "one example"
assert kinds["param W"] == "transposed"
assert kinds["input x"] == "lost term"

# %% A published mistake
print("\nThe mistake in a published NumPy GPT:\n")


class ReshapedKeys(Scores):
    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        q, k = cache["q"], cache["k"]
        ds = ds * visible(q.shape[-2]) / math.sqrt(q.shape[-1])
        dk = (q.swapaxes(-1, -2) @ ds).reshape(k.shape)  # right: dsᵀ·q
        return cache.note("q", ds @ k), cache.note("k", dk)


attention = of_order_one(Attention(4, 2), rng)
attention.score = ReshapedKeys()  # type: ignore[attr-defined]
report = gradcheck(attention, x)
for found in report.findings[:1]:
    print(f"{found.tensor}: {found.says}")
assert report.findings[0].kind == "transposed"
small = of_order_one(Attention(4, 2), rng)
small.score = ReshapedKeys()  # type: ignore[attr-defined]
for param in small.parameters().values():
    param.value *= 0.04
worst = max(check.error for check in gradcheck(small, x) if check.method == "differences" and "input" in check.tensor)
print(f"With weights 25 times smaller the error of dx is {worst:.0e}: a test with tolerance 1e-2 does not find it.")
assert 1e-7 < worst < 1e-2
