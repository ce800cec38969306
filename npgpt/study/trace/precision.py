"""Where the digits go: a pass of the textbook in float32 beside the one in float64."""

import numpy as np

from npgpt.build import twin
from npgpt.core import Array, Cache
from npgpt.model import GPT
from npgpt.study.trace.tracing import Trace, relative_error

HEADER = ("tensor", "layer", "shape", "float32 off", "its gradient")


def precision_rows(made: Trace, model: GPT, x: Array, y: Array) -> list[list[str]]:
    """A table: tensor, layer, shape, and how far value and gradient are off in float32.

    Args
        made: the trace of this pass.
        x, y: (B, T) ids and targets.
    """
    single = trace_in_float32(model, x, y)
    rows = []
    for tensor in made:
        theirs = single.get(tensor.name)
        if theirs is not None and tensor.grad is not None:
            offs = [relative_error(theirs[0], tensor.value), relative_error(theirs[1], tensor.grad)]
            shape = "×".join(map(str, tensor.value.shape)) or "scalar"
            rows.append([tensor.name, tensor.layer.__name__, shape, *(f"{off:.0e}" for off in offs)])
    return rows


def trace_in_float32(model: GPT, x: Array, y: Array) -> dict[str, tuple[Array, Array]]:
    """Tensor -> value and gradient, of a textbook pass in float32."""
    single = twin(model, "textbook").astype(np.float32)
    cache = Cache(trace=True)
    single.zero_grad()
    single.loss(x, y, cache)
    single.loss_backward(1.0, cache)
    found = {path: (value, grad) for path, value, grad in cache.walk() if grad is not None}
    return found | {path: (param.value, param.grad) for path, param in single.parameters().items()}
