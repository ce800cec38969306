"""The tensors of one forward and backward pass."""

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from npgpt.build import twin, why_not_compiled
from npgpt.core import Array, Cache, Layer
from npgpt.errors import ConfigError, did_you_mean
from npgpt.study.check.cases import Case, TrainingLoss
from npgpt.study.check.subjects import LayerSubject
from npgpt.study.trace.ledger import LARGEST, Entry, Ledger, cells_of, operations
from npgpt.study.trace.local_ledger import LocalLedger
from npgpt.tokenizer import Tokenizer


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


class TracedPass:
    """The tensors of a pass, in the order of the forward pass; parameters come last.

    Attributes
        case, dy: the layer with its inputs, and the upstream gradient.
        tokenizer: of the ids, to show tokens; None if there is none.
        output: what forward returned.
        aliases: second name of a kept array -> first name. The gradient under the first name is the sum over all uses.
    """

    def __init__(self, case: Case, dy: Array, tokenizer: Tokenizer | None = None) -> None:
        self.case, self.dy, self.tokenizer = case, dy, tokenizer
        cache, self.output, dinputs = _run(case, dy)
        self.aliases = _aliases(cache)
        self._tensors = {tensor.name: tensor for tensor in _tensors(case, dy, cache, dinputs)}

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


def in_float32(case: Case, layers: str, dy: Array) -> dict[str, tuple[Array, Array | None]]:
    """Return tensor -> value and gradient, as "textbook" or "compiled" layers compute them in float32."""
    case = case.astype(np.float32)
    case = dataclasses.replace(case, layer=twin(case.layer, layers))
    cache, _, _ = _run(case, dy.astype(np.float32))
    found = {path: (value, grad) for path, value, grad in cache.walk()}
    return found | {
        _without_wrapper(path): (param.value, param.grad) for path, param in case.layer.parameters().items()
    }


def _tensors(case: Case, dy: Array, cache: Cache, dinputs: dict[str, Array]) -> Iterator[Traced]:
    beside = {} if why_not_compiled() else in_float32(case, "compiled", dy)
    inside = owners(case.layer)
    for name, x in case.arrays().items():
        yield Traced(name, "input", x, dinputs.get(name), inside[""])
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
        yield Traced(name, kind, value, grad, inside.get(name.rpartition(".")[0], inside[""]), off, grad_off)


def _run(case: Case, dy: Array) -> tuple[Cache, Array, dict[str, Array]]:
    """Return the cache, the output and the gradients of the inputs of a forward and a backward pass."""
    cache = case.cache(trace=True)
    case.layer.zero_grad()
    output = np.array(case.forward(cache))
    return cache, output, case.backward(dy, cache)


def _aliases(cache: Cache) -> dict[str, str]:
    first: dict[object, str] = {}
    found = {}
    for path, value, _ in cache.walk():
        if (name := first.setdefault(cells_of(value), path)) != path:
            found[path] = name
    return found


def owners(layer: Layer) -> dict[str, type[Layer]]:
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
