"""Subjects of the checker: what the witnesses and the judge use of a computation.

A subject has tensors; a forward pass on floats, on complex numbers and on the tape, with some tensors changed; and
the gradients that its backward pass gives. So every witness judges every kind of subject. ``LayerSubject`` is a
layer of npgpt. ``strangers`` has the subjects for other people's objects and functions.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from npgpt.core import Array, Cache
from npgpt.errors import ConfigError
from npgpt.study.check.cases import Case
from npgpt.study.check.places import find
from npgpt.study.check.substitutes import complex_numbers, namespaces, taped_numbers
from npgpt.study.check.tape import CONSTANT, Tape, Taped
from npgpt.study.check.tape_gradients import gradients

Nudges = Mapping[str, Array]  # tensor -> the array added to it


class Subject:
    """A computation whose gradients are checked.

    Attributes
        name: for the report.
        tensors: ``input x``, ``param weight``, ``kept xhat`` -> value. These have gradients.
        constants: the inputs without gradients, for example ids and targets.
        unchecked: tensor -> what the user can do, for arrays that forward depends on and backward gives no gradient of.
        unused: arrays that forward does not depend on, and those that the user calls constants.
        remarks: sentences on how the computation behaves.
        sizes: letter -> size, to name a factor; may be empty.
        strict: whether its backward pass must compute in float64.
        single: whether its parameters were given in float32.
        coarse: tensors whose gradient came in float32.
        spaces: global names of the modules that its code comes from.
        is_end: whether backward takes no upstream gradient: the output is the loss, and its gradient is 1.
        coarsest: rounding error of one number, by the type of the output.
    """

    strict = single = False

    def __init__(self, name: str, sizes: Mapping[str, int] | None = None) -> None:
        self.name, self.sizes = name, sizes or {}
        self.tensors: dict[str, Array] = {}
        self.constants: dict[str, Array] = {}
        self.unchecked: dict[str, str] = {}
        self.unused: list[str] = []
        self.remarks: list[str] = []
        self.spaces: list[dict[str, Any]] = []
        self.coarse: set[str] = set()
        self.is_end, self.coarsest = False, 0.0

    def forward(self, nudges: Nudges) -> Array:
        """Run forward with nudges added to tensors: nudges of float64 or of complex numbers."""
        raise NotImplementedError

    def taped(self) -> tuple[Any, dict[str, Taped]]:
        """Return the output of a forward pass on the tape, and the taped tensors."""
        raise NotImplementedError

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Return the backward pass's gradients of Σ dy ⊙ y for every tensor; NaN for tensors that it leaves out."""
        raise NotImplementedError

    def gradients_by_tape(self, dy: Array) -> dict[str, Array]:
        y, leaves = self.taped()
        return gradients(y, dy, leaves)

    def habits(self, dy: Array) -> tuple[list[str], dict[str, Array]]:
        """Return sentences on what a pass writes into, and the gradients of a pass that follows another one."""
        return [], {}

    def output_sizes(self) -> dict[str, int]:
        """Return the size of each output, if there are several."""
        return {}

    def put(self, values: Mapping[str, Array]) -> None:
        """Give inputs and parameters other numbers, until further notice."""
        raise NotImplementedError

    @contextmanager
    def shifted(self, deltas: Mapping[str, Array]) -> Iterator[None]:
        """Add something to inputs and parameters, for a while."""
        before = {name: self.tensors[name].copy() for name in deltas}
        try:
            self.put({name: x + deltas[name] for name, x in before.items()})
            yield
        finally:
            self.put(before)

    def complex_forward(self, nudges: Nudges) -> Array:
        with complex_numbers(self.spaces):
            y = self.forward(nudges)
        if y.dtype.kind != "c":
            raise TypeError(f"its result is {y.dtype}")
        return y


class LayerSubject(Subject):
    """A layer of npgpt in a case; its kept arrays are tensors too."""

    strict = True

    def __init__(self, case: Case) -> None:
        super().__init__(case.name, case.sizes)
        self.case = case = dataclasses.replace(case, inputs=dict(case.inputs))
        self.params = {f"param {path}": param for path, param in case.layer.parameters().items()}
        self.spaces = namespaces(case.layer)
        self.cache = NudgedCache(case)
        self.constants = {name: x for name, x in case.arrays().items() if x.dtype.kind != "f"}
        self.tensors = {f"input {name}": x for name, x in case.float_inputs().items()}
        self.tensors |= {name: param.value for name, param in self.params.items()}
        self.forward({})
        self.tensors |= {f"kept {path}": np.array(x) for path, x, _ in self.cache.walk() if x.dtype.kind == "f"}
        self._look_for_plain_arrays()

    def forward(self, nudges: Nudges) -> Array:
        self.cache.nudges = {name[5:]: nudge for name, nudge in nudges.items() if name.startswith("kept ")}
        params = {name: (param, param.value) for name, param in self.params.items() if name in nudges}
        inputs = {n: x + nudges[f"input {n}"] if f"input {n}" in nudges else x for n, x in self.case.inputs.items()}
        y: Array = self._run(inputs, {name: (param, value + nudges[name]) for name, (param, value) in params.items()})
        return y

    def _run(self, inputs: dict[str, Any], params: dict[str, tuple[Any, Any]]) -> Any:
        before = [(param, param.value) for param, _ in params.values()]
        try:
            for param, value in params.values():
                param.value = value
            return np.asanyarray(self.case.layer.forward(*inputs.values(), self.cache.reset()))
        finally:
            for param, value in before:
                param.value = value

    def taped(
        self, names: Iterable[str] | None = None, cell: tuple[int, ...] | None = None
    ) -> tuple[Any, dict[str, Taped]]:
        """Return the output of a forward pass on the tape, and the taped tensors: all, or some, or one cell of each."""
        tape = Tape()
        chosen = self.tensors if names is None else {name: self.tensors[name] for name in names}
        leaves = {name: tape.leaf(x if name[:5] != "kept " else np.zeros(x.shape)) for name, x in chosen.items()}
        for leaf in leaves.values() if cell is not None else ():
            number = leaf.ids[cell]
            leaf.ids[...] = CONSTANT
            leaf.ids[cell] = number
        self.cache.leaves = leaves
        self.cache.nudges = {name[5:]: x for name, x in leaves.items() if name.startswith("kept ")}
        inputs = {name: leaves.get(f"input {name}", x) for name, x in self.case.inputs.items()}
        with taped_numbers(tape, self.spaces):
            params = {name: (param, leaves[name]) for name, param in self.params.items() if name in leaves}
            return self._run(inputs, params), leaves

    def gradients(self, dy: Array) -> dict[str, Array]:
        cache = self.case.cache(trace=True)
        self.case.layer.zero_grad()
        self.case.forward(cache)
        found = {f"input {name}": dx for name, dx in self.case.backward(dy, cache).items()}
        found |= {name: param.grad for name, param in self.params.items()}
        found |= {f"kept {path}": grad for path, _, grad in cache.walk() if grad is not None}
        return {name: np.array(found.get(name, np.full_like(x, np.nan))) for name, x in self.tensors.items()}

    def habits(self, dy: Array) -> tuple[list[str], dict[str, Array]]:
        cache, before = self.case.cache(), {name: x.copy() for name, x in self.tensors.items() if name[:5] != "kept "}
        upstream, said = dy.copy(), []
        for way in ("forward", "backward"):
            self.case.forward(cache) if way == "forward" else self.case.backward(upstream, cache)
            said += [
                f"{way} writes into {name}" for name, x in before.items() if not np.array_equal(self.tensors[name], x)
            ]
            self.put(before)
        return said + ["backward writes into dy"] * (not np.array_equal(upstream, dy)), {}

    def redraw(self, rng: np.random.Generator, init: Any = None) -> None:
        """Draw other weights, in place: spread around the present ones. Inputs that hide mistakes are moved, too."""
        dull = {name: x for name, x in self.tensors.items() if name.startswith("input ") and is_dull(x)}
        self.put({name: x + 0.5 * rng.normal(size=x.shape) for name, x in dull.items()})
        for name, param in self.params.items():
            param.value[...] = redrawn(param.value, rng, init, name[6:])

    def put(self, values: Mapping[str, Array]) -> None:
        for name, x in values.items():
            if name in self.params:
                self.params[name].value[...] = x
            else:
                self.case.inputs[name.removeprefix("input ")] = self.tensors[name] = x

    def _look_for_plain_arrays(self) -> None:
        """Find arrays of floats that are no Param: forward may depend on them, and nobody would train them."""
        known = [x for param in self.params.values() for x in (param.value, param.grad)]
        y = self.forward({})
        for path, held in find(self.case.layer).items():
            if not held.array.size or any(np.may_share_memory(held.array, x) for x in known):
                continue
            if not held.array.flags.writeable:
                self.unused.append(path)
                continue
            before = held.array.copy()
            held.array += 1e-3 * (np.abs(before).max() or 1.0) * np.random.default_rng(5).normal(size=before.shape)
            same = np.array_equal(self.forward({}), y, equal_nan=True)
            held.array[...] = before
            if same:
                self.unused.append(path)
            else:
                self.unchecked[f"array {path}"] = f"make {path} a Param, or name it in constants= if it is not trained"


def is_dull(x: Array) -> bool:
    """Return whether all numbers, or all rows, of an input are equal, which hides mistakes."""
    return x.size > 1 and bool((x == x.flat[0]).all() or (len(x) > 1 and (x == x[:1]).all()))


def redrawn(x: Array, rng: np.random.Generator, init: Any, path: str) -> Array:
    """Return other numbers for a parameter: by ``init`` if it names it, else spread around the present ones."""
    how = init
    if isinstance(init, Mapping):
        how = init.get(path, init.get(path.rpartition(".")[2]))
    if how is None:
        spread = float(x.std())
        spread = max(spread, 0.1) if spread > 1e-6 * float(np.abs(x).max(initial=0)) else 0.5
        return np.asarray(x + spread * rng.normal(size=x.shape))
    made = np.asarray(how(rng, x.shape) if callable(how) else how, float)
    if made.shape != x.shape:
        raise ConfigError(f"init: {path} has shape {x.shape}, and what was drawn has {made.shape}")
    return made


class NudgedCache(Cache):
    """A cache that adds nudges to kept arrays; the rest of the forward pass uses the sums.

    Attributes
        nudges: path of a kept array -> the array added to it.
        leaves: tensor -> its taped array, during a pass on the tape.
        asked: not empty if forward asked for ``training``.
    """

    def __init__(self, case: Case) -> None:
        settings = case.cache()
        super().__init__(
            training=settings.training, seed=settings.seed, step=settings.step, documents=settings.documents
        )
        self.nudges: Nudges = {}
        self.leaves: dict[str, Taped] = {}
        self.asked: list[bool] = []

    @property
    def training(self) -> bool:
        self.asked.append(True)
        return super().training

    def scope(self, name: str, role: str | None = None) -> "NudgedCache":
        child = super().scope(name, role)
        child.nudges = self.nudges
        return child

    def keep(self, name: str, array: Array) -> Array:
        path = self._full(name)
        return super().keep(name, array + self.nudges[path] if path in self.nudges else array)
