"""Subjects of the checker: a layer of npgpt, an object with its own state, or a pair of functions.

The checker uses three things of a subject: its tensors, a forward pass with nudges added to some of them, and the
gradients of its backward pass. So every method works on every kind of subject.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npgpt.core import Array, Cache
from npgpt.errors import ConfigError
from npgpt.study.check.cases import Case
from npgpt.study.check.tape import gradients, taped

Nudges = Mapping[str, Array]  # tensor -> the array added to it
Place = tuple[dict[str, Any], str]  # the dict that holds a parameter (``vars`` of an object), and its key


class Subject:
    """A computation whose gradients are checked.

    Args
        run: takes the inputs, and returns the output.
        places: ``param weight`` -> the place where forward reads it.
    Attributes
        name: for the report.
        tensors: ``input x``, ``param weight``, ``kept xhat`` -> value. These have gradients.
        constants: the inputs without gradients, for example ids and targets.
        sizes: letter -> size, to name a factor; may be empty.
        composite: whether the subject is a layer with sub-layers.
    """

    composite = False

    def __init__(
        self,
        name: str,
        run: Callable[..., Any],
        inputs: Mapping[str, Any],
        places: Mapping[str, Place] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.name, self.run, self.inputs, self.places, self.sizes = name, run, inputs, places or {}, sizes or {}
        self.tensors: dict[str, Array] = {f"input {n}": x for n, x in inputs.items() if _is_float(x)}
        self.tensors |= {n: holder[key] for n, (holder, key) in self.places.items()}
        self.constants = {n: x for n, x in inputs.items() if isinstance(x, np.ndarray) and not _is_float(x)}

    def forward(self, nudges: Nudges) -> Array:
        """Run forward with nudges added to tensors: nudges of float64, complex or taped numbers."""
        places = {name: place for name, place in self.places.items() if name in nudges}
        values = {name: holder[key] for name, (holder, key) in places.items()}
        inputs = (x + nudges[f"input {n}"] if f"input {n}" in nudges else x for n, x in self.inputs.items())
        try:
            for name, (holder, key) in places.items():
                holder[key] = values[name] + nudges[name]
            return np.asarray(self.run(*inputs))
        finally:
            for name, (holder, key) in places.items():
                holder[key] = values[name]

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Return the backward pass's gradients of Σ dy ⊙ y for every tensor; NaN for tensors that it leaves out."""
        raise NotImplementedError

    def taped(self) -> tuple[Array, dict[str, Array]]:
        """Return the output of a forward pass on taped numbers, and the taped zeros that are added to the tensors.

        The gradient of such a zero is the gradient of its tensor.
        """
        nudges = {name: taped(np.zeros(x.shape)) for name, x in self.tensors.items()}
        return self.forward(nudges), nudges

    def gradients_by_tape(self, dy: Array) -> dict[str, Array]:
        """Return the gradients by the chain rule, operation by operation.

        Raises
            TypeError if forward converts taped numbers to another type.
        """
        y, nudges = self.taped()
        if y.dtype != object:
            raise TypeError(f"its result is {y.dtype}")
        return gradients(y, dy, nudges)

    def _of_inputs(self, given: Any) -> dict[str, Array]:
        """Return input -> gradient, from the return value of a backward pass."""
        grads = () if given is None else given if isinstance(given, tuple | list) else (given,)
        names = [name for name in self.tensors if name.startswith("input ")]
        if len(grads) != len(names):
            wanted = ", ".join(names) or "none"
            raise ConfigError(f"{self.name}: backward returned {len(grads)} gradients, expected {len(names)}: {wanted}")
        return {name: np.array(grad, float) for name, grad in zip(names, grads, strict=True)}


class LayerSubject(Subject):
    """A layer of npgpt in a case; its kept arrays are tensors too."""

    def __init__(self, case: Case) -> None:
        self.case, self.composite = case, bool(case.layer.children())
        places = {f"param {path}": (vars(param), "value") for path, param in case.layer.parameters().items()}
        super().__init__(case.name, self._run, case.inputs, places, case.sizes)
        cache = case.cache()
        case.forward(cache)
        self.tensors |= {f"kept {path}": value for path, value, _ in cache.walk() if value.dtype.kind == "f"}
        self.cache = NudgedCache(case)

    def _run(self, *inputs: Any) -> Array:
        return self.case.layer.forward(*inputs, self.cache.reset())

    def forward(self, nudges: Nudges) -> Array:
        self.cache.nudges = {name[5:]: nudge for name, nudge in nudges.items() if name.startswith("kept ")}
        return super().forward(nudges)

    def gradients(self, dy: Array) -> dict[str, Array]:
        cache = self.case.cache(trace=True)
        self.case.layer.zero_grad()
        self.case.forward(cache)
        found = {f"input {name}": dx for name, dx in self.case.backward(dy, cache).items()}
        found |= {f"param {path}": param.grad for path, param in self.case.layer.parameters().items()}
        found |= {f"kept {path}": grad for path, _, grad in cache.walk() if grad is not None}
        return {name: np.array(found.get(name, np.full_like(x, np.nan))) for name, x in self.tensors.items()}


class NudgedCache(Cache):
    """A cache that adds nudges to kept arrays; the rest of the forward pass uses the sums.

    Attributes
        nudges: path of a kept array -> the array added to it.
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


class FunctionSubject(Subject):
    """A pair of functions: ``forward(*inputs)``, and ``backward(dy, *inputs)`` with one gradient per input."""

    def __init__(self, forward: Callable[..., Array], backward: Callable[..., Any], inputs: Mapping[str, Any]) -> None:
        inputs = {name: _floats(x) for name, x in inputs.items()}
        super().__init__(getattr(forward, "__name__", "function"), forward, inputs)
        self.run_back = backward

    def gradients(self, dy: Array) -> dict[str, Array]:
        return self._of_inputs(self.run_back(dy, *self.inputs.values()))


class ObjectSubject(Subject):
    """An object with its own state: ``forward(x)`` saves attributes that ``backward(dy)`` reads.

    Parameters are float arrays among its attributes or in a dict ``params`` (or ``parameters``). After backward, the
    gradient of a parameter W is in an attribute ``dW``, ``grad_W``, ``W_grad`` or ``d_W``, or under ``W`` or ``dW`` in
    a dict ``grads`` (or ``gradients``). An array without a gradient of such a name is a constant.
    """

    def __init__(self, made: Any, inputs: Mapping[str, Any]) -> None:
        self.made = made = copy.deepcopy(made)
        places: dict[str, Place] = {}
        for name, value in list(vars(made).items()):
            items = value.items() if isinstance(value, dict) and name in ("params", "parameters") else [(name, value)]
            for key, array in items:
                if _is_float(array):
                    holder = value if isinstance(value, dict) else vars(made)
                    holder[key] = _floats(array)
                    places[f"param {key}"] = holder, key
        super().__init__(type(made).__name__, made.forward, {n: _floats(x) for n, x in inputs.items()}, places)
        made.backward(np.zeros_like(self.forward({})))
        for name in [name for name in places if self._gradient(name) is None]:
            del places[name], self.tensors[name]

    def gradients(self, dy: Array) -> dict[str, Array]:
        self.forward({})
        for name in self.places:
            grad = self._gradient(name)
            if isinstance(grad, np.ndarray):
                grad[...] = 0  # some objects add to it, others replace it
        found = self._of_inputs(self.made.backward(dy))
        return found | {name: np.array(self._gradient(name), float) for name in self.places}

    def _gradient(self, name: str) -> Any:
        name, attributes = name.removeprefix("param "), vars(self.made)
        for key in (f"d{name}", f"grad_{name}", f"{name}_grad", f"d_{name}"):
            if key in attributes:
                return attributes[key]
        for grads in (attributes.get("grads"), attributes.get("gradients")):
            if isinstance(grads, dict):
                for key in (name, f"d{name}"):
                    if key in grads:
                        return grads[key]
        return None


def _is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def _floats(x: Any) -> Any:
    return x.astype(np.float64) if _is_float(x) else x
