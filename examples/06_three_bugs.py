"""Which of the gradients of this layer are wrong, and what is wrong with them?

A layer written from scratch, a gated linear unit with a norm, with three mistakes in its backward pass. The checker
finds the tensors, and says what the matter is. Then a mistake that stood in a published NumPy GPT: the gradient of the
keys, computed as qᵀ·dS and reshaped, because the shapes did not fit otherwise. At weights of 0.02 it is hard to see.
"""

import math

import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.layers import Attention, Scores, visible
from npgpt.study.check.cases import of_order_one
from npgpt.study.check.checker import gradcheck


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


rng = np.random.default_rng(0)
x = rng.normal(size=(2, 3, 4))
report = gradcheck(of_order_one(GatedUnit(4), rng), x)
print(report)
kinds = {found.tensor: found.kind for found in report.findings}
assert kinds["param g"] == "one example"
assert kinds["param W"] == "transposed"
assert kinds["input x"] == "lost term"

print("\nThe published mistake:\n")


class ReshapedKeys(Scores):
    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        q, k = cache["q"], cache["k"]
        ds = ds * visible(q.shape[-2]) / math.sqrt(q.shape[-1])
        dk = (q.swapaxes(-1, -2) @ ds).reshape(k.shape)  # it should be dsᵀ·q
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
print(f"With weights at a 25th of that the error of dx is {worst:.0e}: a test that allows 1e-2 sees nothing.")
