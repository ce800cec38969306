"""What the checker can check: a layer of npgpt's kind, an object that saves on itself, or a pair of functions.

The checker asks each of them for three things: its tensors, a forward pass with something added to some of them, and
the gradients that its backward pass gives. So every method of checking works on every kind.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from npgpt.core import Array, Cache
from npgpt.errors import ConfigError
from npgpt.study.check.cases import Case

Nudges = Mapping[str, Array]  # tensor -> what is added to it


class Subject(Protocol):
    """What is checked.

    Attributes
        name: for the report.
        tensors: ``input x``, ``param weight``, ``kept xhat`` -> value. These have gradients.
        constants: other arrays that go in: ids, targets.
        sizes: letter -> size, to put a name to a factor; may be empty.
    """

    name: str
    tensors: dict[str, Array]
    constants: dict[str, Array]
    sizes: dict[str, int]

    def forward(self, nudges: Nudges) -> Array:
        """Run forward with something added to tensors: of float64, of complex numbers, or of taped ones."""
        ...

    def gradients(self, dy: Array) -> dict[str, Array]:
        """What backward says that the gradients of Σ dy ⊙ y are; of every tensor, NaN where it says nothing."""
        ...


class LayerSubject:
    """A layer of npgpt's kind, in a case; its kept arrays are tensors too."""

    def __init__(self, case: Case) -> None:
        self.case, self.name = case, case.name
        self.params = case.layer.parameters()
        self.sizes = case.sizes
        cache = case.cache()
        case.forward(cache)
        self.kept = {path: value for path, value, _ in cache.walk() if value.dtype.kind == "f"}
        self.tensors = {
            **{f"input {name}": x for name, x in case.float_inputs().items()},
            **{f"param {path}": param.value for path, param in self.params.items()},
            **{f"kept {path}": value for path, value in self.kept.items()},
        }
        floats = case.float_inputs()
        self.constants = {n: x for n, x in case.inputs.items() if isinstance(x, np.ndarray) and n not in floats}
        self.cache = NudgedCache(case)

    def forward(self, nudges: Nudges) -> Array:
        changed = {n: x + nudges[f"input {n}"] for n, x in self.case.float_inputs().items() if f"input {n}" in nudges}
        self.cache.nudges = {name[5:]: nudge for name, nudge in nudges.items() if name.startswith("kept ")}
        params = [(param, nudges[f"param {path}"]) for path, param in self.params.items() if f"param {path}" in nudges]
        values = [param.value for param, _ in params]
        try:
            for param, nudge in params:
                param.value = param.value + nudge
            return np.asarray(self.case.forward(self.cache.reset(), **changed))
        finally:
            for (param, _), value in zip(params, values, strict=True):
                param.value = value

    def gradients(self, dy: Array) -> dict[str, Array]:
        cache = self.case.cache(trace=True)
        self.case.layer.zero_grad()
        self.case.forward(cache)
        dinputs = self.case.backward(dy, cache)
        noted = {path: grad for path, _, grad in cache.walk() if path in self.kept and grad is not None}
        return {
            **{f"input {name}": np.array(dx) for name, dx in dinputs.items()},
            **{f"param {path}": param.grad.copy() for path, param in self.params.items()},
            **{f"kept {p}": np.array(noted.get(p, np.full_like(x, np.nan))) for p, x in self.kept.items()},
        }


class NudgedCache(Cache):
    """A cache that adds something to kept arrays of a pass: whatever forward makes of them afterwards feels it.

    Attributes
        nudges: path of a kept array -> what is added to it.
    """

    def __init__(self, case: Case) -> None:
        settings = case.cache()
        super().__init__(training=settings.training, seed=settings.seed, step=settings.step)
        self.nudges: Nudges = {}

    def scope(self, name: str, role: str | None = None) -> "NudgedCache":
        child = super().scope(name, role)
        child.nudges = self.nudges
        return child

    def keep(self, name: str, array: Array) -> Array:
        path = self._full(name)
        return super().keep(name, array + self.nudges[path] if path in self.nudges else array)


class FunctionSubject:
    """A pair of functions: ``forward(*inputs)`` and ``backward(dy, *inputs)``, which returns one gradient per input."""

    def __init__(
        self, forward: Callable[..., Array], backward: Callable[..., Any], inputs: Mapping[str, Any], name: str = ""
    ) -> None:
        self.name = name or getattr(forward, "__name__", "function")
        self.run, self.run_back, self.inputs = forward, backward, {n: _floats(x) for n, x in inputs.items()}
        self.tensors = {f"input {n}": x for n, x in self.inputs.items() if _is_float(x)}
        self.constants = {n: x for n, x in self.inputs.items() if isinstance(x, np.ndarray) and not _is_float(x)}
        self.sizes: dict[str, int] = {}

    def forward(self, nudges: Nudges) -> Array:
        key = "input {}".format
        return np.asarray(self.run(*(x + nudges[key(n)] if key(n) in nudges else x for n, x in self.inputs.items())))

    def gradients(self, dy: Array) -> dict[str, Array]:
        given = self.run_back(dy, *self.inputs.values())
        return _by_name(self.name, given, list(self.tensors))


class ObjectSubject:
    """An object of the kind that keeps everything on itself: ``forward(x)`` saves what ``backward(dy)`` needs.

    Parameters are float arrays among its attributes, or in a dict ``params`` (or ``parameters``), whose gradient
    backward leaves in an attribute ``dW``, ``grad_W`` or ``W_grad``, or under ``W`` or ``dW`` in a dict ``grads`` (or
    ``gradients``), for a parameter W. What has no gradient of such a name is taken for a constant.
    """

    def __init__(self, made: Any, inputs: Mapping[str, Any]) -> None:
        self.made, self.name = copy.deepcopy(made), type(made).__name__
        self.inputs = {name: _floats(x) for name, x in inputs.items()}
        self.sizes: dict[str, int] = {}
        self.holders: dict[str, tuple[Any, str]] = {}  # parameter -> the object or dict that holds it, its key
        for name, value in list(vars(self.made).items()):
            items = value.items() if isinstance(value, dict) and name in ("params", "parameters") else [(name, value)]
            for key, array in items:
                if _is_float(array):
                    holder = value if isinstance(value, dict) else self.made
                    _put(holder, key, _floats(array))
                    self.holders[key] = holder, key
        y = self.forward({})
        self.made.backward(np.zeros_like(y))
        self.holders = {name: place for name, place in self.holders.items() if self._gradient(name) is not None}
        self.constants = {n: x for n, x in self.inputs.items() if isinstance(x, np.ndarray) and not _is_float(x)}
        self.tensors = {
            **{f"input {n}": x for n, x in self.inputs.items() if _is_float(x)},
            **{f"param {name}": _get(*place) for name, place in self.holders.items()},
        }

    def forward(self, nudges: Nudges) -> Array:
        key = "input {}".format
        with self._nudged(nudges):
            inputs = (x + nudges[key(n)] if key(n) in nudges else x for n, x in self.inputs.items())
            return np.asarray(self.made.forward(*inputs))

    def gradients(self, dy: Array) -> dict[str, Array]:
        self.forward({})
        for name in self.holders:
            grad = self._gradient(name)
            if isinstance(grad, np.ndarray):
                grad[...] = 0  # some add to it, some put another in its place
        given = self.made.backward(dy)
        inputs = [name for name in self.tensors if name.startswith("input ")]
        found = _by_name(self.name, given, inputs)
        return {**found, **{f"param {name}": np.array(self._gradient(name), float) for name in self.holders}}

    def _gradient(self, name: str) -> Any:
        attributes = vars(self.made)
        for key in (f"d{name}", f"grad_{name}", f"{name}_grad", f"d_{name}"):
            if key in attributes:
                return attributes[key]
        for grads in (attributes.get("grads"), attributes.get("gradients")):
            if isinstance(grads, dict):
                for key in (name, f"d{name}"):
                    if key in grads:
                        return grads[key]
        return None

    @contextmanager
    def _nudged(self, nudges: Nudges) -> Iterator[None]:
        places = {name: self.holders[name[6:]] for name in nudges if name.startswith("param ")}
        values = {name: _get(*place) for name, place in places.items()}
        try:
            for name, place in places.items():
                _put(*place, values[name] + nudges[name])
            yield
        finally:
            for name, place in places.items():
                _put(*place, values[name])


def _by_name(who: str, given: Any, names: list[str]) -> dict[str, Array]:
    """What backward returned, one gradient for each input that has one."""
    grads = () if given is None else given if isinstance(given, tuple | list) else (given,)
    if len(grads) != len(names):
        wanted = ", ".join(names) or "none"
        raise ConfigError(f"{who}: backward returned {len(grads)} gradients, expected {len(names)}: {wanted}")
    return {name: np.array(grad, float) for name, grad in zip(names, grads, strict=True)}


def _is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def _floats(x: Any) -> Any:
    return x.astype(np.float64) if _is_float(x) else x


def _get(holder: Any, key: str) -> Array:
    value: Array = holder[key] if isinstance(holder, dict) else getattr(holder, key)
    return value


def _put(holder: Any, key: str, value: Array) -> None:
    if isinstance(holder, dict):
        holder[key] = value
    else:
        setattr(holder, key, value)
