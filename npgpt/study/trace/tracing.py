"""Every named tensor of one forward and backward pass: its numbers, gradient, layer and derivation.

>>> from npgpt.layers import Linear
>>> linear = Linear(2, 1)
>>> linear.weight.value[:] = [[3], [4]]
>>> t = trace(linear, np.array([[1.0, 2.0]]), dy=np.array([[10.0]]))
>>> t["weight"].grad.tolist()
[[10.0], [20.0]]
>>> print(t.ledger("x", (0, 1)))
∂L/∂ x[0,1] = 4·10 = 40
  +40 = 4 · 10   ∂L/∂ loss[0,0]
"""

import html
import inspect
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.core.shapes import check_plain
from npgpt.core.values import flag
from npgpt.errors import ConfigError, ShapeError, quote
from npgpt.model import GPT
from npgpt.study.check.cases import Case, TrainingLoss
from npgpt.study.check.checker import upstream
from npgpt.study.explain.page import page
from npgpt.study.trace.passes import TracedPass
from npgpt.tokenizer import Tokenizer


class Trace(TracedPass):
    """The tensors of a pass, in the order of the forward pass; parameters come last.

    ``trace`` returns it. Use ``t["blocks.0.attention.q"].grad``, ``list(t)``, ``t.ledger(...)``, ``t.paths(...)``. A
    notebook shows it as the page of ``npgpt explain``.
    """

    def diff(self, other: "Trace") -> dict[str, tuple[float, float]]:
        """Return tensor -> largest difference of the values and of the gradients, for tensors with equal shapes."""
        found = {}
        for tensor in self:
            theirs = other._tensors.get(tensor.name)
            if theirs is not None and theirs.value.shape == tensor.value.shape:
                of_grads = 0.0 if tensor.grad is None or theirs.grad is None else _apart(tensor.grad, theirs.grad)
                found[tensor.name] = _apart(tensor.value, theirs.value), of_grads
        return found

    def rows(self) -> list[list[str]]:
        """Return a table: tensor, layer, shape, norms of value and gradient, and their errors in float32."""
        return [
            [
                t.name,
                t.layer.__name__,
                "×".join(map(str, t.value.shape)) or "scalar",
                f"{t.norm:.3g}",
                "" if t.grad_norm is None else f"{t.grad_norm:.3g}",
                "" if t.off is None else f"{t.off:.0e}",
                "" if t.grad_off is None else f"{t.grad_off:.0e}",
            ]
            for t in self
        ]

    HEADER = ("tensor", "layer", "shape", "‖value‖", "‖gradient‖", "float32 error", "gradient error")

    def _repr_html_(self) -> str:
        """Return the page of ``npgpt explain`` in a frame."""
        frame = "width:100%;height:820px;border:1px solid #ccc;border-radius:8px"
        made = html.escape(page(self)).encode("ascii", "xmlcharrefreplace").decode()  # right in any encoding
        return f'<iframe sandbox="allow-scripts" title="npgpt explain" style="{frame}" srcdoc="{made}"></iframe>'

    def __repr__(self) -> str:
        return f"Trace of {self.case.name}: {len(self)} tensors"


def trace(
    layer: Any, *inputs: Array, dy: Array | None = None, training: bool = False, tokenizer: Tokenizer | None = None
) -> Trace:
    """Run a forward and a backward pass, and keep every tensor.

    The textbook layers run in float64. The trace also shows the error of the compiled layers in float32, for each
    tensor that they keep too.

    Args
        layer: a GPT, traced with its loss, or any other layer, for example your own.
        inputs: for a GPT, ids and targets (B, T); for another layer, the arguments of forward.
        dy: the upstream gradient; by default 1 for a GPT, random for another layer.
        training: whether dropout is active.
        tokenizer: of the ids; a notebook then shows tokens in their place.
    """
    training = flag("trace", "training", training)
    if tokenizer is not None and not isinstance(tokenizer, Tokenizer):
        raise ConfigError(f"trace: tokenizer is {quote(tokenizer)}, expected a tokenizer of npgpt.tokenizer, or None")
    for name, array in (*((f"input {n}", x) for n, x in enumerate(inputs)), *([("dy", dy)] if dy is not None else ())):
        check_plain("trace", name, array)
        if array.dtype.kind not in "fiu":
            raise ShapeError(f"trace: {name} is {array.dtype}, expected floats or ids")
    made = TrainingLoss(layer) if isinstance(layer, GPT) else layer
    names = list(inspect.signature(made.forward).parameters)
    original = Case(type(layer).__name__, made, dict(zip(names, inputs, strict=False)), training=training)
    if len(original.inputs) < len(names) - 1 and names[-1] == "cache":
        wanted = ", ".join(names[:-1])
        raise ConfigError(f"trace of {original.name} needs {wanted}; {len(inputs)} arrays were given")
    case = original.astype(np.float64)  # float64 makes it a textbook layer
    if dy is None:
        dy = np.ones(()) if isinstance(layer, GPT) else upstream(np.asarray(case.forward(case.cache())))
    return Trace(case, np.asarray(dy, float), tokenizer)


def _apart(a: Array, b: Array) -> float:
    """Return the largest difference of two corresponding numbers."""
    finite = np.isfinite(a) & np.isfinite(b)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0))
