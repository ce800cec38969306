# B batch, T time, C channels
"""Facts about the gradients of particular layers that follow from the layer's definition.

Each function takes a float64 layer, its input and an upstream gradient. It raises LawBroken if the fact is false.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from npgpt.core import Array, Cache, Layer
from npgpt.study.check.broken import require

SMALL = 1e-10


def _back(layer: Layer, dy: Any, *inputs: Any) -> Any:
    """Run forward and backward; return the gradients of the inputs."""
    cache = Cache()
    layer.forward(*inputs, cache)
    return layer.backward(dy, cache)


def rows_of_dlogits_sum_to_zero(loss: Layer, logits: Array, targets: Array) -> None:
    """A constant added to all logits of a token does not change the loss, so their gradients sum to zero."""
    sums = _back(loss, 1.0, logits, targets, None).sum(-1)
    largest = np.abs(sums).max(initial=0)
    require(largest < SMALL, f"a row of dlogits sums to {largest:.1e}")


def layer_norm_sends_nothing_along_ones_and_xhat(norm: Layer, x: Array, dy: Array) -> None:
    """Shifting or scaling a row does not change the output (if ε is 0), so dx is orthogonal to 1 and to x̂."""
    dx = _back(norm, dy, x)
    scale = 1 + np.abs(dx).sum(-1)
    xhat = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    for name, along in (("1", np.ones_like(x)), ("x̂", xhat)):
        product = (np.abs((dx * along).sum(-1)) / scale).max(initial=0)
        require(product < 1e-8, f"dx·{name} is {product:.1e}")


def key_bias_has_no_gradient(attention: Layer, x: Array, dy: Array) -> None:
    """The keys' bias adds the same number to every score of a row, so its gradient is zero."""
    attention.zero_grad()
    _back(attention, dy, x)
    q, k, v = np.split(attention.parameters()["qkv.bias"].grad, 3)
    size = 1 + np.abs(np.concatenate([q, v])).max()
    require(np.abs(k).max() < SMALL * size, f"the gradient of the keys' bias is {np.abs(k).max():.1e}, not 0")


def nothing_reaches_the_future(layer: Layer, x: Array, dy: Array) -> None:
    """An output sends no gradient to inputs that come later."""
    for t in range(x.shape[1] - 1):
        upstream = np.zeros_like(dy)
        upstream[:, t] = dy[:, t]
        later = _back(layer, upstream, x)[:, t + 1 :]
        require(not later.any(), f"output {t} sends a gradient to a later input")


def softmax_does_not_see_a_shift(softmax: Layer, s: Array, dw: Array) -> None:
    """A constant added to all scores of a row changes neither weights nor gradients; these gradients sum to zero."""
    cache, shifted = Cache(), Cache()
    w, again = softmax.forward(s, cache), softmax.forward(s + 2.5, shifted)
    ds, ds_again = softmax.backward(dw, cache), softmax.backward(dw, shifted)
    same = np.allclose(w, again, rtol=0, atol=SMALL) and np.allclose(ds, ds_again, rtol=0, atol=SMALL)
    require(same, "a shift of the scores changes the weights or their gradients")
    require(np.abs(ds.sum(-1)).max(initial=0) < SMALL, "a row of ds does not sum to zero")


INVARIANTS: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        rows_of_dlogits_sum_to_zero,
        layer_norm_sends_nothing_along_ones_and_xhat,
        key_bias_has_no_gradient,
        nothing_reaches_the_future,
        softmax_does_not_see_a_shift,
    )
}
