"""The arrays that an object holds, wherever it holds them, and the state to which it returns after a pass.

An object of other people's code keeps its arrays in attributes, lists, dicts, objects in objects, closures. ``find``
names every place that holds an array. ``Snapshot`` remembers what all containers hold, and the state of random
generators, so that every pass starts from the same state, and the object is left as it was.
"""

import functools
import random
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npgpt.core import Array

DEEPEST, MOST = 12, 20_000
PLAIN = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, np.dtype, np.ufunc, range)
Setter = Callable[[Any], None]


@dataclass
class Held:
    """An array and all places that hold it.

    Attributes
        path: the first place: ``W``, ``layers.0.weight``, ``params.W``.
        setters: put another array into each place.
    """

    path: str
    array: Array
    setters: list[Setter] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def replace(self, new: Any) -> None:
        for put in self.setters:
            put(new)


@dataclass
class Node:
    """A value that ``walk`` met: its path, and how another value takes its place."""

    path: str
    value: Any
    put: Setter


def parts(value: Any) -> Iterator[tuple[str, Any, Setter]]:
    """Yield (name, value, setter) of what a container holds."""
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield str(key), item, functools.partial(value.__setitem__, key)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield str(i), item, functools.partial(value.__setitem__, i)
    elif isinstance(value, functools.partial):
        for i, item in enumerate(value.args):
            yield str(i), item, _cannot
        for key, item in value.keywords.items():
            yield key, item, functools.partial(value.keywords.__setitem__, key)
    elif isinstance(value, types.MethodType):
        yield "", value.__self__, _cannot
    elif isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents, functools.partial(setattr, cell, "cell_contents")
            except ValueError:  # an empty cell
                continue
    elif not isinstance(value, PLAIN) and not isinstance(value, np.ndarray | np.generic | set | frozenset):
        for name in _attributes(value):
            try:
                item = getattr(value, name)
            except AttributeError:
                continue
            yield name, item, functools.partial(object.__setattr__, value, name)


def _attributes(value: Any) -> list[str]:
    found = list(getattr(value, "__dict__", ()))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        found += [slots] if isinstance(slots, str) else slots
    return [name for name in found if name not in ("__dict__", "__weakref__")]


def _cannot(_: Any) -> None:
    raise TypeError("this place cannot be set")


def walk(root: Any, name: str = "", put: Setter = _cannot) -> Iterator[Node]:
    """Yield every value that can be reached from an object; each container once."""
    seen: set[int] = set()
    waiting = [(name, root, put, 0)]
    while waiting and len(seen) < MOST:
        path, value, put, depth = waiting.pop()
        yield Node(path, value, put)
        if isinstance(value, (*PLAIN, np.ndarray)) or depth >= DEEPEST:
            continue
        if not isinstance(value, tuple):
            if id(value) in seen:
                continue
            seen.add(id(value))
        inner = _of_tuple(value, put) if isinstance(value, tuple) else parts(value)
        found = [(f"{path}.{key}".strip("."), item, setter, depth + 1) for key, item, setter in inner]
        waiting += reversed(found)


def _of_tuple(value: Any, put: Setter) -> Iterator[tuple[str, Any, Setter]]:
    """A tuple cannot be changed: another one takes its place."""
    current = list(value)

    def put_item(i: int, new: Any) -> None:
        current[i] = new
        put(value._make(current) if hasattr(value, "_make") else type(value)(current))

    for i, item in enumerate(value):
        yield (value._fields[i] if hasattr(value, "_fields") else str(i)), item, functools.partial(put_item, i)


def find(root: Any) -> dict[str, Held]:
    """Return path -> array of floats, for all arrays that can be reached; each array once, under its first path."""
    by_id: dict[int, Held] = {}
    for node in walk(root):
        x = node.value
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            held = by_id.setdefault(id(x), Held(node.path, x))
            held.setters.append(node.put)
            held.paths.append(node.path)
    return {held.path: held for held in by_id.values()}


def look_up(root: Any, path: str) -> Any:
    """Return what stands at a path, or None."""
    return next((node.value for node in walk(root) if node.path == path), None)


class Snapshot:
    """What all containers and random generators below an object hold at one moment; arrays with their numbers."""

    def __init__(self, root: Any) -> None:
        self.containers: list[tuple[Any, Any]] = []
        self.arrays: list[tuple[Array, Array]] = []
        self.generators: list[tuple[Any, Any]] = []
        for node in walk(root):
            value = node.value
            if isinstance(value, dict | list):
                self.containers.append((value, value.copy()))
            elif isinstance(value, np.ndarray):
                self.arrays.append((value, value.copy()))
            elif isinstance(value, np.random.Generator):
                self.generators.append((value.bit_generator, value.bit_generator.state))
            elif isinstance(value, np.random.RandomState):
                self.generators.append((value, value.get_state()))
            elif isinstance(value, random.Random):
                self.generators.append((value, value.getstate()))
            elif not isinstance(value, (*PLAIN, tuple, types.FunctionType, types.MethodType, functools.partial)):
                self.containers.append((value, _contents(value)))

    def restore(self, arrays: bool = True) -> None:
        """Put everything back."""
        for container, held in self.containers:
            _restore(container, held)
        for generator, state in self.generators:
            if isinstance(generator, np.random.RandomState):
                generator.set_state(state)
            elif isinstance(generator, random.Random):
                generator.setstate(state)
            else:
                generator.state = state
        for x, numbers in self.arrays if arrays else ():
            if x.flags.writeable:
                x[...] = numbers

    def renewed(self) -> "Snapshot":
        """Return a snapshot of the same things as they are now."""
        other = Snapshot(None)
        other.arrays = [(x, x.copy()) for x, _ in self.arrays]
        other.containers = [(container, _contents(container)) for container, _ in self.containers]
        other.generators = list(self.generators)
        return other

    def forget_unchanged(self) -> None:
        """Restore in future only what has changed by now."""
        self.arrays = [(x, old) for x, old in self.arrays if not _equal(x, old)]
        self.containers = [(container, held) for container, held in self.containers if _changed(container, held)]


def _equal(x: Array, old: Array) -> bool:
    return np.array_equal(x, old, equal_nan=x.dtype.kind in "fc")


def _contents(container: Any) -> Any:
    if isinstance(container, dict | list):
        return container.copy()
    return {name: getattr(container, name, None) for name in _attributes(container)}


def _changed(container: Any, held: Any) -> bool:
    now = container
    if isinstance(container, list):
        return len(now) != len(held) or any(a is not b for a, b in zip(now, held, strict=True))
    now = _contents(container)
    return now.keys() != held.keys() or any(now[key] is not held[key] for key in held)


def _restore(container: Any, held: Any) -> None:
    if not _changed(container, held):
        return
    if isinstance(container, dict):
        container.clear()
        container.update(held)
    elif isinstance(container, list):
        container[:] = held
    else:
        attributes = getattr(container, "__dict__", {})
        for name in attributes.keys() - held.keys():
            del attributes[name]
        for name, value in held.items():
            if getattr(container, name, None) is not value:
                object.__setattr__(container, name, value)


class Memory:
    """Arrays that share memory, so that all of them see a number that changes in one.

    Args
        members: arrays of float64 that overlap each other.
    """

    def __init__(self, members: list[Held]) -> None:
        self.members = members  # all of float64
        bounds = [np.lib.array_utils.byte_bounds(held.array) for held in members]
        self.low = min(low for low, _ in bounds)
        size = (max(high for _, high in bounds) - self.low) // 8
        self.size = size

    def numbers(self) -> Array:
        """Return the present numbers of the whole memory, in a new vector."""
        made = np.zeros(self.size)
        for held in self.members:
            self.view(made, held)[...] = held.array
        return made

    def view(self, numbers: Array, held: Held) -> Array:
        """Return the view of other numbers of 8 or 16 bytes that stands where an array stands in the memory."""
        wide = numbers.itemsize // 8
        start = held.array.__array_interface__["data"][0] - self.low
        strides = tuple(wide * n for n in held.array.strides)
        made: Array = np.ndarray(held.array.shape, numbers.dtype, numbers, start * wide, strides)
        return made


def memories(held: list[Held]) -> list[Memory]:
    """Group arrays by the memory that they share."""
    spans = sorted(((*np.lib.array_utils.byte_bounds(h.array), i, h) for i, h in enumerate(held)), key=lambda s: s[:3])
    groups: list[list[Held]] = []
    end = -1
    for low, high, _, h in spans:
        if low < end:
            groups[-1].append(h)
        else:
            groups.append([h])
        end = max(end, high)
    return [Memory(group) for group in groups]
