"""The arrays that an object holds, wherever it holds them.

An object of other people's code keeps its arrays in attributes, lists, dicts, objects in objects, in its class, in
closures, in its module. ``find`` names every place that holds an array.
"""

import collections
import collections.abc
import dis
import functools
import random
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError

DEEPEST, MOST = 60, 50_000
PLAIN = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, np.dtype, np.ufunc, range)
LEAVES = (*PLAIN, np.ndarray, np.generic, np.random.Generator, np.random.RandomState, random.Random)
LIBRARIES = {"numpy", "scipy", "numba", "torch", "jax", "pandas", "sklearn", "matplotlib", "npgpt", "pytest", "_pytest"}
COMPILED = {"numba", "llvmlite", "torch", "jax", "jaxlib"}  # their objects are no containers
CODE = {
    *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType, property, classmethod, staticmethod, np.ufunc)
}
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
    if isinstance(value, dict | list | collections.deque) and hasattr(value, "__dict__"):
        for name in attributes(value):  # of a class derived from one
            yield name, getattr(value, name), functools.partial(object.__setattr__, value, name)
    if isinstance(value, type) and not is_foreign(value.__module__):
        for name, item in list(vars(value).items()):
            if _is_data(item) and not name.startswith("__"):
                yield name, item, functools.partial(setattr, value, name)
    elif isinstance(value, dict):
        for key, item in list(value.items()):
            yield str(key), item, functools.partial(value.__setitem__, key)
    elif isinstance(value, list | collections.deque):
        for i, item in enumerate(value):
            yield str(i), item, functools.partial(value.__setitem__, i)
    elif isinstance(value, types.MappingProxyType):
        for key, item in list(value.items()):
            yield str(key), item, _cannot
    elif isinstance(value, set | frozenset | collections.abc.ValuesView):
        for i, item in enumerate(value):
            yield str(i), item, _cannot
    elif isinstance(value, np.ndarray) and value.dtype == object:
        for i, item in enumerate(value.flat):
            yield str(i), item, functools.partial(value.flat.__setitem__, i)
    elif isinstance(value, functools.partial):
        yield "", value.func, _cannot
        for i, item in enumerate(value.args):
            yield str(i), item, _cannot
        for key, item in value.keywords.items():
            yield key, item, functools.partial(value.keywords.__setitem__, key)
    elif isinstance(value, types.MethodType):
        yield "", value.__self__, _cannot
    elif isinstance(value, types.FunctionType) or not isinstance(value, LEAVES):
        for name in () if isinstance(value, types.FunctionType) else attributes(value):
            yield name, getattr(value, name), functools.partial(object.__setattr__, value, name)
        for name, get, put in loose_names(value):
            yield name, get(), put


def loose_names(value: Any) -> Iterator[tuple[str, Callable[[], Any], Setter]]:
    """Yield (name, getter, setter) of what an object's code reads from its class, from closures and from its module."""
    if isinstance(value, types.FunctionType):
        yield from _own_names(value)
        yield from _names_in(value.__globals__, _global_names(value.__code__))
    elif not isinstance(value, LEAVES):
        for kind in type(value).__mro__:
            for name, item in [] if is_foreign(kind.__module__) else list(vars(kind).items()):
                if _is_data(item) and not name.startswith("__"):
                    yield name, functools.partial(vars(kind).get, name), functools.partial(setattr, kind, name)
        code: Any = type(value)
        functions, spaces = functions_of(code)
        for function in functions:
            if function.__closure__ or function.__defaults__ or function.__dict__:
                yield from _own_names(function)
        for space, names in spaces:
            yield from _names_in(space, names)


def _own_names(function: types.FunctionType) -> Iterator[tuple[str, Callable[[], Any], Setter]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if not _is_empty(cell):
            yield name, functools.partial(_content, cell), functools.partial(setattr, cell, "cell_contents")
    for i in range(len(function.__defaults__ or ())):
        yield f"default {i}", functools.partial(_default, function, i), functools.partial(_set_default, function, i)
    for name in vars(function):
        yield name, functools.partial(getattr, function, name), functools.partial(setattr, function, name)


def _names_in(space: dict[str, Any], names: Iterable[str]) -> Iterator[tuple[str, Callable[[], Any], Setter]]:
    if is_foreign(str(space.get("__name__", ""))):
        return
    for name in names:
        if name in space and (_is_data(space[name]) or isinstance(space[name], types.FunctionType)):
            yield name, functools.partial(space.get, name), functools.partial(space.__setitem__, name)


@functools.cache
def _global_names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that a function reads from its module; an attribute may have the same name."""
    return tuple(dict.fromkeys(i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"))


@functools.cache
def functions_of(kind: type) -> tuple[list[types.FunctionType], list[tuple[dict[str, Any], list[str]]]]:
    """Return the methods of a class and what its properties run, and the names that they read from each module."""
    found = []
    for c in kind.__mro__:
        for item in [] if is_foreign(c.__module__) else vars(c).values():
            item = item.fget if isinstance(item, property) else getattr(item, "__func__", item)
            found += [item] if isinstance(item, types.FunctionType) else []
    spaces: dict[int, tuple[dict[str, Any], list[str]]] = {}
    for function in found:
        names = spaces.setdefault(id(function.__globals__), (function.__globals__, []))[1]
        names += [name for name in _global_names(function.__code__) if name not in names]
    return found, list(spaces.values())


def _is_data(x: Any) -> bool:
    kind = type(x)
    if kind in CODE:
        return False
    if isinstance(x, np.ndarray | list | dict | collections.deque | bool | int | float | str | None):
        return True
    if isinstance(x, type):
        return not is_foreign(x.__module__)
    return not isinstance(x, PLAIN) and not is_foreign(kind.__module__)


def _holds_objects(value: Any) -> bool:
    if isinstance(value, type):
        return not is_foreign(value.__module__)
    return isinstance(value, np.ndarray) and value.dtype == object and type(value) is np.ndarray


def _default(function: types.FunctionType, i: int) -> Any:
    return (function.__defaults__ or ())[i]


def _set_default(function: types.FunctionType, i: int, new: Any) -> None:
    defaults = list(function.__defaults__ or ())
    defaults[i] = new
    function.__defaults__ = tuple(defaults)


def _is_empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is cell
    except ValueError:
        return True


def _content(cell: types.CellType) -> Any:
    return cell.cell_contents


@functools.cache
def is_foreign(module: str) -> bool:
    """Return whether a module belongs to Python or to a library, so that its objects hold no parameters of a layer."""
    top = module.partition(".")[0]
    return top in LIBRARIES or (top in sys.stdlib_module_names and top != "__main__")


def attributes(value: Any) -> list[str]:
    """Return the names of the attributes that an object itself has."""
    if type(value).__module__.partition(".")[0] in COMPILED:
        return []
    kind: Any = type(value)
    return [*getattr(value, "__dict__", ()), *(name for name in _slots(kind) if hasattr(value, name))]


@functools.cache
def _slots(kind: type) -> tuple[str, ...]:
    found: list[str] = []
    for c in kind.__mro__:
        slots = vars(c).get("__slots__", ())
        found += [slots] if isinstance(slots, str) else slots
    return tuple(name for name in found if name not in ("__dict__", "__weakref__"))


def _cannot(_: Any) -> None:
    raise TypeError("this place cannot be set")


def walk(root: Any, name: str = "", put: Setter = _cannot) -> Iterator[Node]:
    """Yield every value that can be reached from an object; each container once."""
    seen: set[int] = set()
    waiting = [(name, root, put, 0)]
    while waiting:
        if len(seen) > MOST:
            raise ConfigError(f"the layer holds more than {MOST:,} objects; give its parts one by one")
        path, value, put, depth = waiting.pop()
        yield Node(path, value, put)
        if isinstance(value, LEAVES) and not _holds_objects(value):
            continue
        if depth >= DEEPEST:
            raise ConfigError(f"{path} is nested more than {DEEPEST} deep; give the layers one by one")
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


def odd_arrays(root: Any) -> dict[str, Array]:
    """Return path -> array, for arrays of records, of objects and of complex numbers: they may hold parameters."""
    found = {node.path: node.value for node in walk(root) if isinstance(node.value, np.ndarray)}
    return {path: x for path, x in found.items() if x.dtype.kind in "VOc"}


def find(root: Any) -> dict[str, Held]:
    """Return path -> array of floats, for all arrays that can be reached; each array once, under its first path."""
    by_id: dict[int, Held] = {}
    for node in walk(root):
        x = node.value
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            held = by_id.setdefault(id(x), Held(node.path, x))
            held.setters.append(node.put)
            held.paths.append(node.path)
    found: dict[str, Held] = {}
    for held in by_id.values():
        while held.path in found:  # a closure and an attribute may have one name
            held.path += "'"
        found[held.path] = held
    return found


def look_up(root: Any, path: str) -> Any:
    """Return what stands at a path, or None."""
    own = getattr(root, "__dict__", {})
    if path in own and not isinstance(root, LEAVES):
        return own[path]  # most gradients
    return next((node.value for node in walk(root) if node.path == path), None)


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
