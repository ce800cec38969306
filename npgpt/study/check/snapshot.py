"""The state of an object, to which it returns after each pass: all containers, arrays, names and random generators."""

import functools
import random
import types
from collections import deque
from collections.abc import Callable, ValuesView
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check.places import LEAVES, Setter, attributes, loose_names, walk


class Snapshot:
    """What all containers and random generators below an object hold at one moment; arrays with their numbers."""

    def __init__(self, root: Any) -> None:
        self.containers: list[tuple[Any, Any]] = []
        self.arrays: list[tuple[Array, Array]] = []
        self.generators: list[tuple[Any, Any]] = []
        self.names: list[tuple[Callable[[], Any], Setter, Any]] = []
        for node in walk(root):
            value = node.value
            if isinstance(value, dict | list | deque | set | bytearray):
                self.containers.append((value, value.copy()))
            elif isinstance(value, np.ndarray):
                self.arrays.append((value, value.copy()))
            elif isinstance(value, np.random.Generator):
                self.generators.append((value.bit_generator, value.bit_generator.state))
            elif isinstance(value, np.random.RandomState):
                self.generators.append((value, value.get_state()))
            elif isinstance(value, random.Random):
                self.generators.append((value, value.getstate()))
            elif not isinstance(
                value,
                (*LEAVES, tuple, set, frozenset, ValuesView, types.FunctionType, types.MethodType, functools.partial),
            ):
                self.containers.append((value, _contents(value)))
            self.names += [(get, put, get()) for _, get, put in loose_names(value)]

    def restore(self, arrays: bool = True) -> None:
        """Put everything back."""
        for container, held in self.containers:
            _restore(container, held)
        for get, put, held in self.names:
            if get() is not held:
                put(held)
        self.restore_generators()
        for x, numbers in self.arrays if arrays else ():
            if x.flags.writeable:
                x[...] = numbers

    def restore_generators(self) -> None:
        """Let random generators give the same numbers again."""
        for generator, state in self.generators:
            if isinstance(generator, np.random.RandomState):
                generator.set_state(state)
            elif isinstance(generator, random.Random):
                generator.setstate(state)
            else:
                generator.state = state

    def renewed(self) -> "Snapshot":
        """Return a snapshot of the same things as they are now."""
        other = Snapshot(None)
        other.arrays = [(x, x.copy()) for x, _ in self.arrays]
        other.containers = [(container, _contents(container)) for container, _ in self.containers]
        other.generators = list(self.generators)
        other.names = [(get, put, get()) for get, put, _ in self.names]
        return other

    def forget_unchanged(self) -> None:
        """Restore in future only what has changed by now."""
        self.arrays = [(x, old) for x, old in self.arrays if not _equal(x, old)]
        self.containers = [(container, held) for container, held in self.containers if _changed(container, held)]
        self.names = [(get, put, held) for get, put, held in self.names if get() is not held]


def _equal(x: Array, old: Array) -> bool:
    if x.dtype == object:
        return all(a is b for a, b in zip(x.flat, old.flat, strict=True))
    return np.array_equal(x, old, equal_nan=x.dtype.kind in "fc")


def _contents(container: Any) -> Any:
    if isinstance(container, dict | list | deque | set | bytearray):
        return container.copy()
    return {name: getattr(container, name) for name in attributes(container)}


def _changed(container: Any, held: Any) -> bool:
    now = container
    if isinstance(container, set | bytearray):
        return bool(now != held)
    if isinstance(container, list | deque):
        return len(now) != len(held) or any(a is not b for a, b in zip(now, held, strict=True))
    now = _contents(container)
    return now.keys() != held.keys() or any(now[key] is not held[key] for key in held)


def _restore(container: Any, held: Any) -> None:
    if not _changed(container, held):
        return
    if isinstance(container, dict | set):
        container.clear()
        container.update(held)
    elif isinstance(container, bytearray):
        container[:] = held
    elif isinstance(container, list | deque):
        container.clear()
        container.extend(held)
    else:
        for name in set(attributes(container)) - held.keys():
            object.__delattr__(container, name)
        for name, value in held.items():
            if getattr(container, name, None) is not value:
                object.__setattr__(container, name, value)
