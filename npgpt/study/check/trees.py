"""Nested lists, tuples and dicts of arrays, as one flat dict and back; as one vector and back."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check.tape import Taped, joined


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def leaves(tree: Any, name: str = "") -> dict[str, Any]:
    """Return path -> leaf: ``x``, ``x.0``, ``state.h``."""
    if isinstance(tree, Mapping):
        items = [(str(key), item) for key, item in tree.items()]
    elif isinstance(tree, list | tuple):
        fields = getattr(tree, "_fields", None) or range(len(tree))
        items = [(str(key), item) for key, item in zip(fields, tree, strict=True)]
    else:
        return {name: tree}
    found: dict[str, Any] = {}
    for key, item in items:
        found |= leaves(item, f"{name}.{key}" if name else key)
    return found


def rebuilt(tree: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """Return the same tree with other leaves."""

    def inner(key: Any, item: Any) -> Any:
        return rebuilt(item, change, f"{name}.{key}" if name else str(key))

    if isinstance(tree, Mapping):
        changed = {key: inner(key, item) for key, item in tree.items()}
        return changed if type(tree) is dict else _same_kind(tree, changed)
    if isinstance(tree, list | tuple):
        fields = getattr(tree, "_fields", None)
        items = [inner(key, item) for key, item in zip(fields or range(len(tree)), tree, strict=True)]
        return tree._make(items) if fields else type(tree)(items)  # type: ignore[union-attr]
    return change(name, tree)


def _same_kind(tree: Any, changed: dict[Any, Any]) -> Any:
    try:
        return type(tree)(changed)
    except TypeError:
        return changed


class Output:
    """What a forward pass returned, as one array, and an upstream gradient of that array in the form of the output.

    Attributes
        tree: the output.
        y: all its floats: the array itself if there is one, else a vector.
        numbers: the leaves that are floats.
    """

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.numbers = {path: x for path, x in leaves(tree).items() if _is_number(x)}
        parts = [_as_array(x) for x in self.numbers.values()]
        self.y: Any = parts[0] if len(parts) == 1 else _vector(parts)

    def upstream(self, dy: Array) -> Any:
        """Return an upstream gradient of ``y`` in the form of the output."""
        parts, start = {}, 0
        for path, x in self.numbers.items():
            size = int(np.size(x))
            part = np.array(np.ravel(dy)[start : start + size].reshape(np.shape(x)))
            parts[path] = part if isinstance(x, np.ndarray) else float(part)
            start += size
        return rebuilt(self.tree, lambda path, x: parts.get(path, x))


def _is_number(x: Any) -> bool:
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "fc" or (x.dtype == object and any(isinstance(cell, Taped) for cell in x.flat))
    return isinstance(x, float | complex | np.floating | np.complexfloating)


def _as_array(x: Any) -> Any:
    if isinstance(x, np.ndarray) and not isinstance(x, Taped) and x.dtype == object:
        tape = next(cell.tape for cell in x.flat if isinstance(cell, Taped))
        return joined(tape, x.tolist())
    return x if isinstance(x, np.ndarray) else np.asarray(x)


def _vector(parts: list[Any]) -> Any:
    if not parts:
        return np.zeros(0)
    return np.concatenate([part.reshape(-1) for part in parts])
