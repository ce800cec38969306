"""How people call a backward pass, and in what form it returns gradients.

``plans`` lists the ways in which a backward pass may want its arguments, the likeliest first: the upstream gradient and
nothing else; with the cache that forward returned beside its output; with the inputs, before or after it; with a
learning rate. ``sorted_out`` assigns what it returned to the inputs and parameters.
"""

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check.trees import leaves

DY, CACHE, OUTPUT, RATE = "dy", "cache", "output", "rate"
CACHES = {
    "cache",
    "caches",
    "ctx",
    "context",
    "saved",
    "memory",
    "mem",
    "residuals",
    "stored",
    "store",
    "aux",
    "intermediates",
}
RATES = {"lr", "learning_rate", "learningrate", "rate", "eta", "alpha", "step_size", "l_rate"}
OUTPUTS = {"y", "out", "output", "a", "z", "result"}
UPSTREAM = re.compile(
    r"d[A-Z_a-z]?.*|g|gy|gz|g_.*|grad.*|.*grad|.*gradient|.*gradients|delta.*|upstream.*|error|err|top_diff|.*_bar",
    re.I,
)
PREFIX = re.compile(
    r"^(?:dl_?d|dl?oss_?d|dj_?d|de_?d|delta_?|gradients?_?(?:of_|wrt_)?|grad_?|nabla_?|partial_?|d_|d|g_|g)(?=.)", re.I
)
SUFFIX = re.compile(r"(?<=.)(?:_?gradients?|_?grads?|_?diff|_?delta|_?bar|_g|_d)$", re.I)
SAME = {"weights": "w", "weight": "w", "kernel": "w", "kernels": "w", "filters": "w", "biases": "b", "bias": "b"}


def stem(name: str) -> str:
    """Return a name without underscores and case, in its shortest form: ``W`` and ``weights`` are one."""
    plain = name.strip("_").lower().replace("_", "")
    return SAME.get(plain, plain)


def gradient_stems(name: str) -> set[str]:
    """Return the stems of the tensors whose gradient may have this name; empty if it is no name of a gradient."""
    name = name.strip("_")
    found = {stem(name[m.end() :]) for m in (PREFIX.match(name), re.match(r"^[dg](?=.)", name, re.I)) if m}
    found |= {stem(name[: m.start()]) for m in (SUFFIX.search(name),) if m}
    return found - {""}


def required(function: Callable[..., Any]) -> tuple[list[str], list[str], bool, list[str]]:
    """Return the parameters that a function must be given, those with a default, whether it takes any number, and those
    that are given by name; ``**`` stands for any."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return [], [], True, []
    usual = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in usual if p.default is p.empty]
    by_name = [
        "**" if p.kind is p.VAR_KEYWORD else p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD)
    ]
    any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return needed, [p.name for p in usual if p.default is not p.empty], any_number, by_name


def plans(backward: Callable[..., Any], inputs: Sequence[str], n_outputs: int, has_cache: bool) -> list[list[str]]:
    """Return ways to call a backward pass; each is a list of DY, CACHE, OUTPUT, RATE and names of inputs.

    Args
        inputs: names of the arguments of forward.
        n_outputs: number of arrays that forward returned; with several, DY may stand several times.
        has_cache: whether forward may have returned a cache.
    """
    needed, optional, any_number, _ = required(backward)
    optional_rate = [RATE for name in optional if name.lower() in RATES]
    by_name = [_role(name, inputs, has_cache) for name in needed]
    tail = [CACHE] if has_cache else []
    found = []
    if needed and not any_number:
        found.append(_completed(by_name, inputs, has_cache, n_outputs))
        found.append([DY] * n_outputs + tail)
    found += [
        [DY, *tail],
        [DY],
        [DY] * n_outputs,
        [*tail, DY],
        [DY, *inputs],
        [*inputs, DY],
        *([[DY, OUTPUT]] if needed[1:] and needed[1].lower() in OUTPUTS else []),
        [DY, *inputs[:1]],
        [*inputs[:1], DY],
        [DY, RATE],
        [],
    ]
    unique: list[list[str]] = []
    known = by_name if by_name.count(DY) in (0, 1, n_outputs) else [None] * len(by_name)
    for plan in found:
        fits = any_number or len(needed) <= len(plan) <= len(needed) + len(optional)
        as_named = all(role in (None, OUTPUT, given) for role, given in zip(known, plan, strict=False))
        if fits and as_named and plan not in unique:  # a name that says what it wants gets nothing else
            unique.append(plan)
    first = unique[:1]
    if first and optional_rate and RATE not in first[0] and len(first[0]) == len(needed):
        unique.insert(0, [*first[0], RATE])  # the caller names it
    return unique


def _role(name: str, inputs: Sequence[str], has_cache: bool) -> str | None:
    low = name.lower()
    if has_cache and low in CACHES:
        return CACHE
    if low in RATES and name not in inputs:
        return RATE
    if name in inputs:
        return name
    if low in OUTPUTS:
        return OUTPUT
    return DY if UPSTREAM.fullmatch(name) else None


def _completed(roles: list[str | None], inputs: Sequence[str], has_cache: bool, n_outputs: int) -> list[str]:
    """Give a role to each parameter whose name says nothing."""
    made = list(roles)
    if DY not in made and None in made:
        made[made.index(None)] = DY
    elif DY not in made and OUTPUT in made:
        made[made.index(OUTPUT)] = DY
    for i, role in enumerate(made):
        if role is None and has_cache and CACHE not in made:
            made[i] = CACHE
        elif role is None:
            left = [name for name in inputs if name not in made]
            made[i] = left[0] if left else DY
    return [role for role in made if role is not None]


def returned_names(backward: Callable[..., Any]) -> list[str]:
    """Return the names in the last ``return dx, dW, db`` of a function; empty if they cannot be known."""
    code = getattr(inspect.unwrap(backward), "__code__", None)
    return [] if code is None else _names_returned(code)


@functools.lru_cache(1024)
def _names_returned(code: types.CodeType) -> list[str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return []
    returns = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value is not None]
    if not returns or not isinstance(returns[-1], ast.Tuple | ast.List):
        return []
    return [
        item.id if isinstance(item, ast.Name) else item.attr if isinstance(item, ast.Attribute) else ""
        for item in returns[-1].elts
    ]


Gradients = dict[str, Any]  # tensor -> what came as its gradient


def sorted_out(
    given: Any, arguments: Mapping[str, Any], wanted: Iterable[str], params: Mapping[str, Array], names: Sequence[str]
) -> Gradients | None:
    """Return tensor -> gradient, from what a backward pass returned; None if it cannot be assigned.

    Args
        arguments: argument of forward -> its value, a tree.
        wanted: paths of the inputs that are floats.
        params: path -> parameter, for gradients that are returned beside those of the inputs.
        names: the names of the returned values in the source of backward.
    """
    wanted = list(wanted)
    floats = [key for key in arguments if any(path == key or path.startswith(f"{key}.") for path in wanted)]
    if given is None:
        return {}
    given = tuple(given) if hasattr(given, "__next__") else given
    given = vars(given) if dataclasses.is_dataclass(given) and not isinstance(given, type) else given
    if isinstance(given, Mapping) or hasattr(given, "_fields"):
        items = dict(given) if isinstance(given, Mapping) else given._asdict()
        return _by_key(items, arguments, floats, params)
    if not isinstance(given, tuple | list):
        if len(floats) == 1:
            return _of_tree(given, floats[0], arguments[floats[0]])
        if not floats:  # of an input of integers, or of the one parameter
            taken = {np.shape(x) for x in arguments.values()}
            only = [path for path, x in params.items() if np.shape(x) == np.shape(given) and np.shape(x) not in taken]
            return {f"param {only[0]}": given} if len(params) == len(only) == 1 else {}
        return _in_order([given], _fitting([given], floats, arguments), arguments) if floats else None
    is_tree = len(floats) == 1 and isinstance(arguments[floats[0]], list | tuple | Mapping) and len(given) != 1
    if is_tree and (found := _of_tree(given, floats[0], arguments[floats[0]])) is not None:
        return found
    if len(given) == len(floats):
        order = [next((k for k in floats if stem(k) in gradient_stems(n)), "") for n in names]
        return _in_order(given, order if sorted(order) == sorted(floats) else floats, arguments)
    if len(given) == len(arguments):
        pairs = [(item, key) for item, key in zip(given, arguments, strict=True) if key in floats]
        return _in_order([item for item, _ in pairs], floats, arguments)
    if len(given) == len(floats) + 1 and isinstance(given[-1], list | tuple | Mapping):
        own, first = given[-1], _in_order(given[: len(floats)], floats, arguments)
        if isinstance(own, Mapping):
            return None if first is None else {**_by_key(own, {}, [], params), **first}
        fits = [np.shape(x) for x in own] == [np.shape(x) for x in params.values()]
        if first is not None and (fits or not own):
            return first | {f"param {key}": x for key, x in zip(params, own, strict=False)}
    if len(names) == len(given) and all(names):
        found = _by_key(dict(zip(names, given, strict=True)), arguments, floats, params)
        if len(found) >= len(floats):
            return found
    if len(given) == len(floats) + len(params):
        found = _in_order(given[: len(floats)], floats, arguments)
        shapes = [np.shape(x) for x in params.values()]
        if found is not None and [np.shape(x) for x in given[len(floats) :]] == shapes:
            return found | {f"param {key}": x for key, x in zip(params, given[len(floats) :], strict=True)}
    return _in_order(given, _fitting(given, floats, arguments), arguments) if len(given) < len(floats) else None


def _fitting(given: Sequence[Any], floats: Sequence[str], arguments: Mapping[str, Any]) -> list[str]:
    """Return the first arguments, in order, whose shapes are those of fewer gradients."""
    left, found = list(floats), []
    for x in given:
        key = (
            next((k for k in left if np.shape(x) == np.shape(arguments[k])), None)
            if np.ndim(x) or not left
            else left[0]
        )
        if key is None:
            return list(floats[: len(given)])
        found.append(key)
        left = left[left.index(key) + 1 :]
    return found


def _in_order(given: Sequence[Any], floats: Sequence[str], arguments: Mapping[str, Any]) -> Gradients | None:
    found: Gradients = {}
    for item, key in zip(given, floats, strict=True):
        part = _of_tree(item, key, arguments[key])
        if part is None:
            return None
        found |= part
    return found


def _of_tree(given: Any, key: str, value: Any) -> Gradients | None:
    """Return the gradients of one argument: an array, or a tree of the same form."""
    if not isinstance(value, list | tuple | Mapping):
        if isinstance(given, list | tuple) and len(given) == 1:
            given = given[0]
        return None if isinstance(given, Mapping) else {f"input {key}": given}
    ours = leaves(value, key)
    if isinstance(value, Mapping) and isinstance(given, Mapping):
        given = {k: given.get(k, _named(given, str(k))) for k in value}
    elif not isinstance(given, list | tuple) and not isinstance(given, Mapping):
        floats = [path for path, x in ours.items() if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
        return {f"input {floats[0]}": given} if len(floats) == 1 else None
    theirs = leaves(given, key)
    if isinstance(value, list | tuple) and isinstance(given, list | tuple) and len(value) != len(given):
        return None
    if len(theirs) == len(ours) and theirs.keys() != ours.keys():
        theirs = dict(zip(ours, theirs.values(), strict=True))
    if not theirs.keys() & ours.keys():
        return None
    return {f"input {path}": x for path, x in theirs.items() if path in ours and x is not None}


def _named(items: Mapping[Any, Any], name: str) -> Any:
    return next((x for key, x in items.items() if stem(name) in gradient_stems(str(key))), None)


def _by_key(items: Mapping[Any, Any], arguments: Mapping[str, Any], floats: Sequence[str], params: Any) -> Gradients:
    """Assign gradients by name: ``x``, ``dx`` or ``grad_x`` is that of ``x``."""
    if len(floats) == 1 and isinstance(arguments[floats[0]], Mapping):
        inner = _of_tree(items, floats[0], arguments[floats[0]])
        if inner:
            return inner
    found: Gradients = {}
    for key, x in items.items():
        name = str(key)
        exact = [n for n in floats if n == name] or [n for n in floats if stem(n) in gradient_stems(name)]
        if exact:
            found |= _of_tree(x, exact[0], arguments[exact[0]]) or {}
            continue
        ends = {path: path.rpartition(".")[2] for path in params}
        fits = [p for p in ends if name in (p, ends[p])] or [p for p in ends if stem(ends[p]) in gradient_stems(name)]
        if fits:
            found[f"param {fits[0]}"] = x
        elif isinstance(x, Mapping):
            found |= _by_key(x, arguments, floats, params)
    if len(floats) == 1 and not any(path.startswith("input ") for path in found):
        left = [
            x for key, x in items.items() if str(key).lower() in ("input", "inputs", "dinput", "dinputs", "dx", "x")
        ]
        found |= _of_tree(left[0], floats[0], arguments[floats[0]]) or {} if left else {}
    return found
