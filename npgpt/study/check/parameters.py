"""Which array of an object is the gradient of which: by name, by place, by method."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check.conventions import gradient_stems, stem
from npgpt.study.check.places import Held, look_up, walk

VALUES = {"data", "value", "val", "array", "tensor", "values", "param"}
GRADIENTS = {"grad", "gradient", "diff", "grads", "gradients", "dvalue", "ddata"}
HOLDERS = {"params", "parameters", "param", "p", "weights", "trainable", "vars", "variables", "theta"}
GRADIENT_HOLDERS = {
    "grads",
    "gradients",
    "grad",
    "dparams",
    "g",
    "derivatives",
    "param_grads",
    "gradient",
    "dweights",
    "_grads",
}
LISTS = ("params", "parameters", "get_params", "get_parameters", "trainable_params", "weights", "trainable_parameters")
GRADIENT_LISTS = ("grads", "gradients", "get_grads", "get_gradients", "param_grads", "gradient", "grad")


def pair_up(params: Mapping[str, Held], after: Mapping[str, Any]) -> dict[str, str]:
    """Return path of a parameter -> path of its gradient.

    Args
        params: arrays that forward reads.
        after: path -> number or array, of all that the object holds after backward.
    """
    return {path: best for path, held in params.items() if (best := _best(held, params, after)) is not None}


def all_of_tied(held: Held, params: Mapping[str, Held], after: Mapping[str, Any]) -> list[str]:
    """Return the paths of all gradients of an array that stands in several places: one for each place."""
    found: list[str] = []
    for path in held.paths:
        best = _best(
            Held(path, held.array, paths=[path]), params, {p: x for p, x in after.items() if p not in held.paths}
        )
        if best is not None and not any(after[best] is after[other] for other in found):
            found.append(best)
    return found


def _best(held: Held, params: Mapping[str, Held], after: Mapping[str, Any]) -> str | None:
    ranked = candidates(held, params, after)
    return ranked[0] if ranked else None


def candidates(held: Held, params: Mapping[str, Held], after: Mapping[str, Any]) -> list[str]:
    """Return the paths of all numbers that may be an array's gradient by their names, the likeliest first."""
    ranked = []
    for other, x in after.items():
        if np.size(x) != held.array.size or other in held.paths:
            continue
        rank = max((_rank(path, other) for path in held.paths), default=0)
        if rank:
            ranked.append((rank, other))
    return [
        other for _, other in sorted(ranked, key=lambda pair: (-pair[0], pair[1].count(".")))
    ]  # the outermost counts


@functools.lru_cache(4096)
def _rank(param: str, grad: str) -> int:
    """Return how well a path fits as that of a parameter's gradient; 0 if it does not."""
    *home, name = param.split(".")
    *grad_home, grad_name = grad.split(".")
    if home == grad_home:
        if grad_name.lower() in GRADIENTS and name.lower() in VALUES:
            return 10
        return _named(name, grad_name)
    if len(home) == len(grad_home):
        differ = [(a, b) for a, b in zip(home, grad_home, strict=True) if a != b]
        if len(differ) == 1:
            a, b = differ[0]
            holder = _named(a, b) or (_holds_gradients(b) and (a.lower() in HOLDERS or not _holds_gradients(a)))
            if holder:
                return 9 if name == grad_name else _named(name, grad_name)
    if grad_home[: len(home)] == home and len(grad_home) == len(home) + 1 and _holds_gradients(grad_home[-1]):
        return 8 if name == grad_name else max(0, _named(name, grad_name) - 1)
    if home[: len(grad_home)] == grad_home and len(home) == len(grad_home) + 1 and home[-1].lower() in HOLDERS:
        return max(0, _named(name, grad_name) - 2)
    if home[: len(grad_home)] == grad_home and len(home) == len(grad_home) + 1 and name.isdigit():
        return 0
    return 0


def _holds_gradients(name: str) -> bool:
    return name.strip("_").lower() in GRADIENT_HOLDERS or bool(gradient_stems(name) & HOLDERS)


def _named(name: str, grad_name: str) -> int:
    if not gradient_stems(grad_name):
        return 0
    plain = name.strip("_")
    for cut in (grad_name.strip("_"),):
        low = cut.lower().replace("_", "")
        exact = plain.lower().replace("_", "")
        if low in (
            f"d{exact}",
            f"grad{exact}",
            f"{exact}grad",
            f"gradient{exact}",
            f"{exact}gradient",
            f"dl{exact}",
            f"dld{exact}",
        ):
            return 9
    return 7 if stem(name) in gradient_stems(grad_name) else 0


def by_methods(root: Any, params: Mapping[str, Held], memo: dict[Any, Any]) -> dict[str, Callable[[], Any]]:
    """Return path of a parameter -> a function that returns its gradient, where an object has both methods.

    Args
        memo: remembers what a method returned, until it is cleared: a method may reset what it returns.
    """
    found: dict[str, Callable[[], Any]] = {}
    for node in [node for node in walk(root) if not isinstance(node.value, type)]:
        values, grads = _listed(node.value, LISTS), _listed(node.value, GRADIENT_LISTS)
        for key, x in (values or {}).items():
            if isinstance(x, tuple | list) and len(x) == 2 and all(isinstance(part, np.ndarray) for part in x):
                owner, get = _owner(x[0], params), _getter(root, memo, node.path, LISTS, key, 1)
            elif grads is not None and key in grads:
                owner, get = _owner(x, params), _getter(root, memo, node.path, GRADIENT_LISTS, key)
            else:
                continue
            if owner is not None:
                found.setdefault(owner, get)  # the outermost object counts
    return found


def _owner(x: Any, params: Mapping[str, Held]) -> str | None:
    return next((path for path, held in params.items() if held.array is x), None)


def _listed(value: Any, names: tuple[str, ...]) -> dict[Any, Any] | None:
    """Return what a method of one of these names returns, by key or by position."""
    for name in names:
        item: Any = getattr(value, name, None) if not isinstance(value, np.ndarray | dict | list | tuple) else None
        if not callable(item):
            continue  # lists and dicts have paths
        try:
            item = item()
        except Exception:  # there may be no gradients yet
            continue
        if isinstance(item, dict):
            return dict(item)
        if isinstance(item, list | tuple) or hasattr(item, "__next__"):
            return dict(enumerate(item))
    return None


def _getter(
    root: Any, memo: dict[Any, Any], path: str, names: tuple[str, ...], key: Any, part: int | None = None
) -> Callable[[], Any]:
    def get() -> Any:
        if (path, names) not in memo:
            memo[path, names] = _listed(look_up(root, path), names) or {}
        item = memo[path, names].get(key)
        return item if part is None or item is None else item[part]

    return get


def numbers_of(root: Any) -> dict[str, Any]:
    """Return path -> array or number, of all floats that an object holds."""
    found: dict[str, Any] = {}
    for node in walk(root):
        x = node.value
        if (isinstance(x, np.ndarray) and x.dtype.kind == "f") or isinstance(x, float | np.floating):
            found.setdefault(node.path, x)
    return found


def as_array(x: Any, shape: tuple[int, ...]) -> Array:
    """Return a gradient as an array; with axes of length 1 more or less, in the shape of its tensor."""
    made = np.array(x, np.float64)
    if made.shape != shape and made.size == int(np.prod(shape, dtype=int)):
        try:  # ``b − db`` must not be larger than b, as it is for (3, 1) and (3,)
            fits = np.prod(np.broadcast_shapes(made.shape, shape), dtype=int) == made.size
        except ValueError:
            return made
        return made.reshape(shape) if fits else made
    return made
