"""Other people's layers as subjects: objects that hold their own state, and pairs of functions.

A pass starts from the state in which the object was found, on copies of the inputs, and with the same random numbers.
``discovery`` finds out how backward is called, and which arrays are parameters with a gradient.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError
from npgpt.study.check import habits
from npgpt.study.check.conventions import CACHE, DY, OUTPUT, RATE, required, sorted_out
from npgpt.study.check.parameters import as_array
from npgpt.study.check.places import Held, Memory, look_up
from npgpt.study.check.snapshot import Snapshot
from npgpt.study.check.subjects import Nudges, Subject, is_dull, redrawn
from npgpt.study.check.substitutes import taped_numbers
from npgpt.study.check.tape import CONSTANT, Tape, Taped
from npgpt.study.check.trees import Output, is_float, leaves, rebuilt

SEED = 20_000


class StrangerSubject(Subject):
    """An object with forward and backward, or a pair of functions.

    Args
        root: the object, or a dict of the functions.
        call, back: forward and backward.
        arguments: argument of forward -> value, a tree of arrays and other things.
        keywords: names of the arguments that are given by keyword.
        spaces: global names of the modules that the code comes from.
    Attributes
        held: path -> array of the object, for all that have a gradient.
        memories: the same arrays, and those that share memory with them, by memory.
        plan: how backward is called, see ``conventions.plans``.
        n_cached: number of results of forward, the last ones, that are no output but a cache.
        getters: ``param W`` -> a function that returns its gradient after backward.
        doubtful: tensor -> why the gradient that was found by its name may be another one.
        places: tensor -> path of its gradient, if it was found by its name.
        alternatives: tensor -> path -> gradients that it may have instead; under "" the sum of all uses of a tied one.
        memo: what methods such as ``grads()`` returned after the last backward.
        gradient_paths: paths of arrays that hold zeros when a pass starts, because backward may add to them.
        returned_names: the names in the return statement of backward.
        guessed: tensors whose gradient was found by its behaviour alone.
        takes_steps: whether backward itself changes the parameters.
        from_step: tensors whose gradient was worked out from the step that backward took.
        seeded: whether random numbers must be the same in every pass.
        laid_out: puts the arrays that a pass is given into a memory layout.
    """

    def __init__(
        self,
        name: str,
        root: Any,
        call: Callable[..., Any],
        back: Callable[..., Any],
        arguments: Mapping[str, Any],
        keywords: Sequence[str] = (),
        spaces: Sequence[dict[str, Any]] = (),
    ) -> None:
        super().__init__(name)
        self.root, self.call, self.back, self.keywords = root, call, back, set(keywords)
        self.asks = required(back)
        self.original = Snapshot([root, arguments])
        self.original_random = np.random.get_state(), random.getstate()  # noqa: NPY002 - the layer may use it
        self.given_inputs = [
            x for tree in arguments.values() for x in leaves(tree).values() if isinstance(x, np.ndarray)
        ]
        self.arguments = {key: rebuilt(tree, lambda _, x: _doubled(x)) for key, tree in arguments.items()}
        self.held: dict[str, Held] = {}
        self.memories: list[Memory] = []
        self.plan: list[str] = [DY]
        self.rate_name = ""
        self.n_cached, self.seeded = 0, False
        self.laid_out: Callable[[Array], Array] = lambda x: x
        self.getters: dict[str, Callable[[], Any]] = {}
        self.places: dict[str, str] = {}
        self.doubtful: dict[str, str] = {}
        self.alternatives: dict[str, dict[str, Callable[[], Any]]] = {}
        self.memo: dict[Any, Any] = {}
        self.gradient_paths: list[str] = []
        self.returned_names: list[str] = []
        self.guessed: set[str] = set()
        self.from_step: set[str] = set()
        flat = {path: x for key, tree in self.arguments.items() for path, x in leaves(tree, key).items()}
        self.inputs = {path: x for path, x in flat.items() if is_float(x)}
        self.constants = {path: x for path, x in flat.items() if isinstance(x, np.ndarray) and not is_float(x)}
        self.spaces = list(spaces)
        self.settled = self.takes_steps = False
        self.state = self.original

    def close(self) -> None:
        """Leave the object as it was."""
        self.original.restore()
        np.random.set_state(self.original_random[0])  # noqa: NPY002
        random.setstate(self.original_random[1])

    def begin(self) -> None:
        """Take the present state as the one from which every pass starts."""
        self.state = self.state.renewed() if self.settled else Snapshot([self.root, self.arguments])
        self.tensors = {f"input {path}": x for path, x in self.inputs.items()}
        self.tensors |= {f"param {path}": held.array.view(np.ndarray) for path, held in self.held.items()}

    def settle(self) -> None:
        """Restore from now on only what the last pass has changed."""
        self.state.forget_unchanged()
        self.settled = True

    def run(self, change: Callable[[str, Any], Any] | None = None, again: bool = False) -> Any:
        """Run forward on copies of the inputs, with some leaves changed; return what it returned.

        Args
            again: go on from the state that the last pass left, with the same random numbers.
        """
        self.state.restore_generators() if again else self.state.restore()

        def copied(path: str, x: Any) -> Any:
            x = x if change is None else change(path, x)
            return self.laid_out(x.copy(order="K")) if type(x) is np.ndarray else x

        self.passed = {key: rebuilt(tree, copied, key) for key, tree in self.arguments.items()}
        by_order = [x for key, x in self.passed.items() if key not in self.keywords]
        by_name = {key: x for key, x in self.passed.items() if key in self.keywords}
        with self.same_random_numbers(first=True):
            return self.call(*by_order, **by_name)

    @contextmanager
    def same_random_numbers(self, first: bool) -> Iterator[None]:
        """Let random numbers be the same in every pass; backward goes on where forward stopped."""
        if not self.seeded:
            yield
            return
        if first:
            np.random.seed(SEED)  # noqa: NPY002
            random.seed(SEED)
            self._seeds = itertools.count(SEED)
        make = np.random.default_rng
        np.random.default_rng = lambda seed=None: make(next(self._seeds) if seed is None else seed)
        try:
            yield
        finally:
            np.random.default_rng = make

    def output(self, returned: Any) -> Output:
        """Return the output in what forward returned; the rest is the cache."""
        n = len(returned) - self.n_cached if self.n_cached else 0
        return Output(returned if not n else returned[0] if n == 1 else tuple(returned[:n]))

    def output_sizes(self) -> dict[str, int]:
        return {path: int(np.size(x)) for path, x in self.output(self.run()).numbers.items()}

    def forward(self, nudges: Nudges) -> Array:
        inputs = {name[6:]: nudge for name, nudge in nudges.items() if name.startswith("input ")}
        params = {name[6:]: nudge for name, nudge in nudges.items() if name.startswith("param ")}
        self.state.restore()
        with self._nudged(params):
            y = self.output(self.run(lambda path, x: _added(x, inputs[path]) if path in inputs else x, again=True)).y
        if y.dtype.kind == "f" and y.dtype.itemsize < 8:
            self.coarsest = float(np.finfo(y.dtype).eps) / 4
        return np.array(y, np.complex128 if y.dtype.kind == "c" else np.float64)  # it may be a buffer of the layer's

    @contextmanager
    def _nudged(self, nudges: Nudges) -> Iterator[None]:
        """Add nudges to parameters: in place if they are floats, else in arrays that take the places of theirs."""
        if all(nudge.dtype.kind == "f" for nudge in nudges.values()):
            before = {path: self.held[path].array.copy() for path in nudges}
            try:
                for path, nudge in nudges.items():
                    self.held[path].array += nudge
                yield
            finally:
                for path, old in before.items():
                    self.held[path].array[...] = old
            return
        made = []
        for memory in self.memories:
            if any(held.path in nudges for held in memory.members):
                numbers = memory.numbers().astype(np.complex128)
                for held in memory.members:
                    if held.path in nudges:
                        memory.view(numbers, held)[...] += nudges[held.path]
                made += [(held, memory.view(numbers, held)) for held in memory.members]
        with _replaced(made):
            yield

    def taped(self) -> tuple[Any, dict[str, Taped]]:
        tape = Tape()
        self.state.restore()
        found = {f"input {path}": tape.leaf(x) for path, x in self.inputs.items()}
        made: list[tuple[Held, Any]] = []
        for memory in self.memories:
            numbers, ids = memory.numbers(), np.full(memory.size, CONSTANT)
            wanted = [held for held in memory.members if f"param {held.path}" in self.tensors]
            for held in wanted:
                memory.view(ids, held)[...] = tape.numbers(held.array)
            views = [(held, Taped(tape, memory.view(numbers, held), memory.view(ids, held))) for held in memory.members]
            found |= {f"param {held.path}": view.copy() for held, view in views if held in wanted}
            made += views
        with _replaced(made), taped_numbers(tape, self.spaces):
            y = self.output(
                self.run(lambda path, x: found[f"input {path}"].copy() if path in self.inputs else x, True)
            ).y
        return y, found

    def gradients(self, dy: Array) -> dict[str, Array]:
        return self.gradients_after(self.run(), dy)

    def gradients_after(self, returned: Any, dy: Array) -> dict[str, Array]:
        """Return the gradients of the pass that has just run."""
        self.memo.clear()
        before = {path: held.array.copy() for path, held in self.held.items()} if self.takes_steps else {}
        found = self.assigned(self.call_back(returned, dy))
        try:
            found |= {name: get() for name, get in self.getters.items() if found.get(name) is None}
        except Exception as error:
            raise ConfigError(f"grads: {type(error).__name__}: {error}") from error
        for path, old in before.items():
            if f"param {path}" not in found:
                found[f"param {path}"] = old - np.asarray(look_up(self.root, path))
                self.from_step.add(f"param {path}")
        single = [name for name, x in found.items() if getattr(x, "dtype", None) in (np.float32, np.float16)]
        self.coarse |= self.tensors.keys() & single
        return {name: _gradient(found.get(name), x.shape) for name, x in self.tensors.items()}

    def call_back(self, returned: Any, dy: Array) -> Any:
        """Call backward after a pass, and return what it returns."""
        output = self.output(returned)
        upstream = rebuilt(output.upstream(dy), lambda _, x: self.laid_out(x) if isinstance(x, np.ndarray) else x)
        several = self.plan.count(DY) > 1
        parts = iter(upstream.values() if isinstance(upstream, Mapping) else upstream) if several else iter([upstream])
        arguments, named = [], {}
        for role in self.plan:
            if role == DY:
                arguments.append(next(parts))
            elif role == CACHE:
                arguments.append(returned[-1] if self.n_cached == 1 else tuple(returned[-self.n_cached :]))
            elif role == OUTPUT:
                arguments.append(output.tree)
            elif role == RATE and self.rate_name:
                named[self.rate_name] = 1.0
            else:
                arguments.append(1.0 if role == RATE else self.passed[role])
        needed, optional, _, by_name = self.asks
        by_name += [
            *(needed + optional)[len(arguments) :],
            *(self.passed.keys() & self.keywords if "**" in by_name else ()),
        ]
        named |= {name: self.passed[name] for name in by_name if name in self.passed and name not in named}
        with self.same_random_numbers(first=False):
            return self.back(*arguments, **named)

    def assigned(self, given: Any) -> dict[str, Any]:
        """Return tensor -> gradient, of what backward returned."""
        params = {path: held.array for path, held in self.held.items()}
        found = sorted_out(given, self.arguments, self.inputs, params, self.returned_names)
        if found is None:
            n = len(given) if isinstance(given, tuple | list) else 1
            wanted = ", ".join(f"input {path}" for path in self.inputs) or "none"
            raise ConfigError(f"{self.name}: backward returned {n} gradients, expected {len(self.inputs)}: {wanted}")
        return found

    def habits(self, dy: Array) -> tuple[list[str], dict[str, Array]]:
        return habits.of_stranger(self, dy)

    def put(self, values: Mapping[str, Array]) -> None:
        for name, x in values.items():
            kind, path = name.split(" ", 1)
            if kind == "param":
                self.held[path].array[...] = x
            else:
                self.inputs[path] = x
        self.state.restore()
        for name, x in values.items():
            if name.startswith("param "):
                self.held[name[6:]].array[...] = x
        self.arguments = {
            key: rebuilt(tree, lambda path, x: self.inputs.get(path, x), key) for key, tree in self.arguments.items()
        }
        self.begin()

    def redraw(self, rng: np.random.Generator, init: Any = None) -> None:
        """Draw other numbers for the arrays with a gradient, in place: spread around the present ones.

        Inputs that hide mistakes, of equal numbers or of equal rows, are moved, too.
        """
        self.state.restore()
        dull = {path: x for path, x in self.inputs.items() if is_dull(x)}
        self.put({f"input {path}": x + 0.5 * rng.normal(size=x.shape) for path, x in dull.items()})
        for path, held in self.held.items():
            held.array[...] = redrawn(held.array, rng, init, path)
        self.begin()


@contextmanager
def _replaced(pairs: Sequence[tuple[Held, Any]]) -> Iterator[None]:
    """Let other arrays take the places of some."""
    try:
        for held, new in pairs:
            held.replace(new)
        yield
    finally:
        for held, _ in pairs:
            held.replace(held.array)


def _added(x: Array, nudge: Array) -> Array:
    """Return a sum in the memory layout of an input."""
    made = x.astype(np.result_type(x, nudge), order="K")
    made += nudge
    return made


def _doubled(x: Any) -> Any:
    return x.astype(np.float64) if is_float(x) else x


def _gradient(x: Any, shape: tuple[int, ...]) -> Array:
    try:
        return np.full(shape, np.nan) if x is None else as_array(x, shape)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a gradient is {type(x).__name__}, not an array of numbers") from error
