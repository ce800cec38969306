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

import dataclasses
import functools
import html
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npgpt.build import twin, why_not_compiled
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache, Layer
from npgpt.core.shapes import check_plain
from npgpt.core.values import flag
from npgpt.errors import ConfigError, DataError, ShapeError, did_you_mean
from npgpt.model import GPT
from npgpt.study.check.cases import Case, TrainingLoss, of_order_one
from npgpt.study.check.checker import upstream
from npgpt.study.check.subjects import LayerSubject
from npgpt.study.trace.ledger import LARGEST, Entry, Ledger, operations
from npgpt.study.trace.local_ledger import LocalLedger
from npgpt.tokenizer import CharTokenizer, Tokenizer


@dataclass(frozen=True)
class Traced:
    """One tensor.

    Attributes
        kind: "input", "param" or "kept".
        value, grad: in float64; grad is None for tensors without a gradient, for example ids.
        layer: the class of the layer that holds the tensor.
        off, grad_off: the relative error of the value and the gradient that the compiled layers compute in float32;
            None if the compiled layers do not keep this tensor.
    """

    name: str
    kind: str
    value: Array
    grad: Array | None
    layer: type[Layer]
    off: float | None = None
    grad_off: float | None = None

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(np.where(np.isfinite(self.value), self.value, 0)))

    @property
    def grad_norm(self) -> float | None:
        return None if self.grad is None else float(np.linalg.norm(self.grad))

    @property
    def derivation(self) -> str:
        """The docstring of the layer, with the numbered steps."""
        return inspect.getdoc(self.layer) or ""

    @property
    def source(self) -> dict[str, str]:
        """ "forward" and "backward" -> ``file:line`` and the code."""
        found = {}
        for way in ("forward", "backward"):
            function = getattr(self.layer, way)
            lines, first = inspect.getsourcelines(function)
            found[way] = f"{inspect.getsourcefile(function)}:{first}\n{''.join(lines)}"
        return found


class Trace:
    """The tensors of a pass, in the order of the forward pass; parameters come last.

    ``trace`` returns it. Use ``t["blocks.0.attention.q"].grad``, ``list(t)``, ``t.ledger(...)``, ``t.paths(...)``.
    """

    def __init__(self, case: Case, dy: Array) -> None:
        self.case, self.dy = case, dy
        self._tensors = {tensor.name: tensor for tensor in _tensors(case, dy)}

    def __getitem__(self, name: str) -> Traced:
        if name not in self._tensors:
            raise ConfigError(f"there is no tensor {name!r} in this pass; {did_you_mean(name, self._tensors)}")
        return self._tensors[name]

    def __iter__(self) -> Iterator[Traced]:
        return iter(self._tensors.values())

    def __len__(self) -> int:
        return len(self._tensors)

    @functools.cached_property
    def books(self) -> Ledger:
        """The ledger of the whole pass; for a large pass, a ledger of one tensor at a time (``LocalLedger``)."""
        if operations(LayerSubject(self.case)) > LARGEST:
            return LocalLedger(self.case, self.dy, {t.name: t.grad for t in self if t.grad is not None})
        return Ledger(self.case, self.dy)

    def ledger(self, name: str, cell: Sequence[int]) -> Entry:
        """Return one gradient as a sum of terms."""
        return self.books.entry(name, cell)

    def paths(self, name: str) -> dict[str, Array]:
        """Return the share of a tensor's gradient through each part that it feeds; the shares sum to the gradient."""
        return self.books.paths(name)

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
        """Return the table as HTML for a notebook."""
        head = "".join(f"<th style='text-align:left'>{html.escape(name)}</th>" for name in self.HEADER)
        rows = (
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"

    def __repr__(self) -> str:
        return f"Trace of {self.case.name}: {len(self)} tensors"


def trace(layer: Any, *inputs: Array, dy: Array | None = None, training: bool = False) -> Trace:
    """Run a forward and a backward pass, and keep every tensor.

    The textbook layers run in float64. The trace also shows the error of the compiled layers in float32, for each
    tensor that they keep too.

    Args
        layer: a GPT, traced with its loss, or any other layer, for example your own.
        inputs: for a GPT, ids and targets (B, T); for another layer, the arguments of forward.
        dy: the upstream gradient; by default 1 for a GPT, random for another layer.
        training: whether dropout is active.
    """
    training = flag("trace", "training", training)
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
    return Trace(case, np.asarray(dy, float))


def small_model(text: str) -> tuple[GPT, Tokenizer]:
    """Return an untrained model of one block with random weights, and a tokenizer of the text's characters.

    Raises
        DataError if the text is empty.
    """
    if not text:
        raise DataError('the text is empty; give one, for example: npgpt trace "to be or not"')
    tokenizer = CharTokenizer.train(text)
    config = GPTConfig(tokenizer.vocab_size, 8, n_layer=1, n_head=2, n_embd=8)
    return of_order_one(GPT(config, dtype=np.float64), np.random.default_rng(0)), tokenizer


def in_float32(case: Case, layers: str, dy: Array) -> dict[str, tuple[Array, Array | None]]:
    """Return tensor -> value and gradient, as "textbook" or "compiled" layers compute them in float32."""
    case = case.astype(np.float32)
    case = dataclasses.replace(case, layer=twin(case.layer, layers))
    cache, _ = _run(case, dy.astype(np.float32))
    found = {path: (value, grad) for path, value, grad in cache.walk()}
    return found | {
        _without_wrapper(path): (param.value, param.grad) for path, param in case.layer.parameters().items()
    }


def _tensors(case: Case, dy: Array) -> Iterator[Traced]:
    cache, dinputs = _run(case, dy)
    beside = {} if why_not_compiled() else in_float32(case, "compiled", dy)
    owners = _owners(case.layer)
    for name, x in case.arrays().items():
        yield Traced(name, "input", x, dinputs.get(name), owners[""])
    found = [(path, "kept", value, grad) for path, value, grad in cache.walk() if path not in case.inputs]
    for path, param in case.layer.parameters().items():
        found.append((_without_wrapper(path), "param", param.value, param.grad))
    for name, kind, value, grad in found:
        value, grad = value.copy(), None if grad is None else grad.copy()
        theirs, dtheirs = beside.get(name, (None, None))
        off = grad_off = None
        if theirs is not None and theirs.shape == value.shape and value.dtype.kind == "f":
            off = relative_error(theirs, value)
            grad_off = None if grad is None or dtheirs is None else relative_error(dtheirs, grad)
        yield Traced(name, kind, value, grad, owners.get(name.rpartition(".")[0], owners[""]), off, grad_off)


def _run(case: Case, dy: Array) -> tuple[Cache, dict[str, Array]]:
    cache = case.cache(trace=True)
    case.layer.zero_grad()
    case.forward(cache)
    return cache, case.backward(dy, cache)


def _owners(layer: Layer) -> dict[str, type[Layer]]:
    """Return scope of the cache -> the class of the layer that runs in it."""
    found = {}

    def add(inner: Layer, path: str) -> None:
        found[path] = type(inner)
        for name, child in inner.children().items():
            add(child, f"{path}.{name}" if path else name)

    add(layer.gpt if isinstance(layer, TrainingLoss) else layer, "")
    return found


def _without_wrapper(path: str) -> str:
    return path.removeprefix("gpt.")


def relative_error(got: Array, right: Array) -> float:
    """Return ‖got − right‖/‖right‖, over the numbers that are finite in both."""
    finite = np.isfinite(got) & np.isfinite(right)
    return float(np.linalg.norm(got[finite] - right[finite]) / (np.linalg.norm(right[finite]) or 1.0))


def _apart(a: Array, b: Array) -> float:
    """Return the largest difference of two corresponding numbers."""
    finite = np.isfinite(a) & np.isfinite(b)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0))
