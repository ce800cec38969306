"""NumPy's functions of whole arrays on the tape: those that move cells, and those with a derivative."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npgpt.study.check.tape import CONSTANT, Tape, Taped, TapeError, joined, plain_index
from npgpt.study.check.tape_products import dot, einsum, tensordot
from npgpt.study.check.tape_ufuncs import add_up, apply, choose_extreme, chosen, multiply_up

# They move the cells of their first argument, or join those of a list.
MOVES = {
    *("reshape", "transpose", "permute_dims", "matrix_transpose", "swapaxes", "moveaxis", "rollaxis", "squeeze"),
    *("expand_dims", "ravel", "roll", "flip", "fliplr", "flipud", "rot90", "repeat", "tile", "take", "take_along_axis"),
    *("broadcast_to", "atleast_1d", "atleast_2d", "atleast_3d", "diagonal", "copy", "delete", "compress", "extract"),
    *("split", "array_split", "hsplit", "vsplit", "dsplit", "sliding_window_view", "resize", "unstack"),
}
JOINS = {"concatenate", "concat", "stack", "hstack", "vstack", "row_stack", "dstack", "column_stack", "block", "append"}
# Their results are plain: sizes, indices and conditions.
READS = {
    *("shape", "ndim", "size", "argmax", "argmin", "argsort", "argpartition", "nonzero", "flatnonzero", "argwhere"),
    *("any", "all", "count_nonzero", "isclose", "allclose", "array_equal", "iscomplexobj", "isrealobj", "searchsorted"),
    *("digitize", "bincount", "unique", "result_type", "can_cast", "common_type", "min_scalar_type", "isposinf"),
    *("isneginf", "array_repr", "array_str", "array2string", "shares_memory", "may_share_memory", "lexsort", "isin"),
    *("iscomplex", "isreal", "histogram", "unravel_index"),
}


def call(tape: Tape, function: Any, inputs: Any, options: dict[str, Any]) -> Any:
    """Return what ``function(*inputs, **options)`` of NumPy returns, and write its edges."""
    name = function.__name__
    inputs = tape.enter(name, inputs)
    if name in READS:
        return function(*_values(inputs), **_values(options))
    if name in MOVES:
        x, *rest = inputs if inputs else (options.pop("a"),)
        if not isinstance(x, Taped):
            raise TapeError(f"np.{name} was called with a taped number where an index is expected")
        rest, options = _values(rest), _values(options)
        moved = x.moved(lambda cells: function(cells, *rest, **options))
        return moved.told_apart() if name in ("take", "take_along_axis", "repeat", "tile") else moved
    if name in JOINS:
        return _join(tape, function, inputs, options)
    if name in FUNCTIONS:
        return FUNCTIONS[name](tape, *inputs, **options)
    plain = getattr(function, "_implementation", None)
    if plain is None:
        raise TapeError(f"the tape has no derivative of np.{name}")
    try:  # it may be made of functions that the tape has
        return plain(*inputs, **options)
    except (TypeError, AttributeError, ValueError) as error:
        raise TapeError(f"the tape has no derivative of np.{name}") from error


def _values(x: Any) -> Any:
    if isinstance(x, dict):
        return {key: _values(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(map(_values, x))
    return x.value if isinstance(x, Taped) else x


def _ids(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)(map(_ids, x))
    return x.ids if isinstance(x, Taped) else np.full(np.shape(x), CONSTANT)


def _join(tape: Tape, function: Any, inputs: Any, options: dict[str, Any]) -> Any:
    options = {key: value for key, value in options.items() if key not in ("dtype", "casting")}
    out = options.pop("out", None)
    n = 2 if function.__name__ == "append" else 1
    parts, rest = list(inputs[:n]), inputs[n:]
    parts[0] = list(parts[0]) if n == 1 else parts[0]
    value, ids = function(*_values(parts), *rest, **options), function(*_ids(parts), *rest, **options)
    made = Taped(tape, np.asarray(value, np.float64), ids)
    if out is None:
        return made
    out[...] = made
    return out


def inv(tape: Tape, a: Any) -> Any:
    """Return A⁻¹: dA⁻¹ = −A⁻¹·dA·A⁻¹."""
    n = a.shape[-1]
    if n > 8:
        raise TapeError("the tape inverts matrices of at most 8 by 8 numbers")
    value = np.linalg.inv(a.value)
    slope = -np.einsum("...ik,...lj->...ijkl", value, value)
    children = tape.numbers(value)
    tape.edges(children[..., None, None], (a.ids[..., None, None, :, :], slope))
    return Taped(tape, value, children)


def solve(tape: Tape, a: Any, b: Any) -> Any:
    inverse = inv(tape, a) if isinstance(a, Taped) else np.linalg.inv(a)
    return inverse @ b


def det(tape: Tape, a: Any) -> Any:
    """Return det A: ∂det A/∂A = det A · A⁻ᵀ."""
    value = np.linalg.det(a.value)
    slope = np.asarray(value)[..., None, None] * np.linalg.inv(a.value).swapaxes(-1, -2)
    children = tape.numbers(np.asarray(value))
    tape.edges(children[..., None, None], (a.ids, slope))
    return Taped(tape, np.asarray(value), children)


def norm(tape: Tape, x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord in (None, "fro") or (ord == 2 and (x.ndim == 1 or isinstance(axis, int))):
        return np.sqrt((x * x).sum(axis, keepdims=keepdims))
    if ord in (1, np.inf) and (x.ndim == 1 or isinstance(axis, int)):
        size = np.abs(x)
        return size.sum(axis, keepdims=keepdims) if ord == 1 else size.max(axis, keepdims=keepdims)
    raise TapeError(f"the tape has no derivative of np.linalg.norm with ord={ord!r}")


def _options(axis: Any, keepdims: Any, where: Any = True, initial: Any = None) -> dict[str, Any]:
    no_value = np._NoValue
    keepdims, where = (default if x is no_value else x for x, default in ((keepdims, False), (where, True)))
    initial = None if initial is no_value else initial
    return {"axis": axis, "keepdims": keepdims, "where": plain_index(where), "initial": initial}


def _reduction(reduce: Callable[..., Any]) -> Callable[..., Any]:
    def run(
        tape: Tape, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
        initial: Any = None, where: Any = True,
    ) -> Any:  # fmt: skip
        made = reduce(tape, a, _options(axis, keepdims, where, initial))
        if out is not None:
            out[...] = made
        return made

    return run


def _extreme(name: str) -> Callable[..., Any]:
    run = _reduction(choose_extreme(name))
    return lambda tape, a, axis=None, out=None, keepdims=False, initial=None, where=True: run(
        tape, a, axis, None, out, keepdims, initial, where
    )


def mean(
    tape: Tape,
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    *,
    where: Any = True,
) -> Any:
    options = _options(axis, keepdims, where)
    axes = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    n = int(np.prod([a.shape[i] for i in axes], dtype=int))
    if options["where"] is not True:
        n = np.broadcast_to(options["where"], a.shape).sum(axis, keepdims=options["keepdims"])
    return add_up(tape, a, options) / n


def var(
    tape: Tape, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False,
    *, where: Any = True, mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    options = _options(axis, keepdims, where)
    if options["where"] is not True:
        raise TapeError("the tape has no derivative of np.var with where")
    centred = a - a.mean(axis, keepdims=True)
    axes = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    n = int(np.prod([a.shape[i] for i in axes], dtype=int))
    return add_up(tape, centred * centred, options) / (n - ddof)


def sort(tape: Tape, a: Any, axis: Any = -1, **_: Any) -> Any:
    a, axis = (a.reshape(-1), 0) if axis is None else (a, axis)
    return np.take_along_axis(a, a.value.argsort(axis, kind="stable"), axis)


def pad(tape: Tape, array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    if mode == "constant":
        value = np.pad(array.value, pad_width, mode, **options)
        return Taped(tape, value, np.pad(array.ids, pad_width, mode, constant_values=CONSTANT))
    if mode not in ("edge", "reflect", "symmetric", "wrap") or options:
        raise TapeError(f"the tape has no derivative of np.pad with mode={mode!r}")
    return array.moved(lambda cells: np.pad(cells, pad_width, mode))


def where(tape: Tape, condition: Any, a: Any = None, b: Any = None) -> Any:
    return np.where(plain_index(condition)) if a is None else chosen(tape, condition, a, b)


def select(tape: Tape, conditions: Any, choices: Any, default: Any = 0) -> Any:
    made = default
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        made = chosen(tape, condition, choice, made)
    return made


def triangle(name: str) -> Callable[..., Any]:
    def run(tape: Tape, m: Any, k: int = 0) -> Any:
        return chosen(tape, getattr(np, name)(np.ones(m.shape[-2:], bool), k), m, 0.0)

    return run


def diag(tape: Tape, v: Any, k: int = 0) -> Any:
    if v.ndim == 2:
        return np.diagonal(v, k)
    return Taped(tape, np.diag(v.value, k), np.where(np.diag(np.ones(v.shape), k) > 0, np.diag(v.ids, k), CONSTANT))


def copyto(tape: Tape, dst: Any, src: Any, where: Any = True, **_: Any) -> None:
    if not isinstance(dst, Taped):
        raise TapeError("np.copyto writes taped numbers into an array of plain ones")
    dst[...] = src if where is True else chosen(tape, where, src, dst)


def put_along_axis(tape: Tape, arr: Any, indices: Any, values: Any, axis: Any = -1) -> None:
    if not isinstance(arr, Taped):
        raise TapeError("np.put_along_axis writes taped numbers into an array of plain ones")
    new = np.broadcast_to(values, indices.shape) if not isinstance(values, Taped) else values
    np.put_along_axis(arr.value, indices, _values(new), axis)
    np.put_along_axis(arr.ids, indices, _ids(new), axis)


def diff(tape: Tape, a: Any, n: int = 1, axis: int = -1, **_: Any) -> Any:
    for _i in range(n):
        a = np.moveaxis(a, axis, 0)
        a = np.moveaxis(a[1:] - a[:-1], 0, axis)
    return a


def convolve(tape: Tape, a: Any, v: Any, mode: str = "full") -> Any:
    a, v = np.asanyarray(a), np.asanyarray(v)
    whole = tape.constant(np.zeros(len(a) + len(v) - 1))
    for i in range(len(v)):
        whole[i : i + len(a)] += a * v[i]
    n, m = max(len(a), len(v)), min(len(a), len(v))
    first, last = {"full": (0, n + m - 1), "same": ((m - 1) // 2, (m - 1) // 2 + n), "valid": (m - 1, n)}[mode]
    return whole[first:last]


def correlate(tape: Tape, a: Any, v: Any, mode: str = "valid") -> Any:
    return convolve(tape, a, v[::-1], mode)


def _cumulative(ufunc: np.ufunc) -> Callable[..., Any]:
    return lambda tape, a, axis=None, **_: ufunc.accumulate(
        a.reshape(-1) if axis is None else a, 0 if axis is None else axis
    )


def _filled(value: float | None) -> Callable[..., Any]:
    def run(tape: Tape, a: Any, fill: Any = None, dtype: Any = None, shape: Any = None, **options: Any) -> Any:
        if value is not None:
            dtype, fill = fill if dtype is None else dtype, value
        kind = np.dtype(dtype or np.float64)
        made = np.full(np.shape(a) if shape is None else shape, _values(fill))
        return tape.constant(made) if kind.kind == "f" else made.astype(kind)

    return run


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sum": _reduction(add_up),
    "prod": _reduction(multiply_up),
    **dict.fromkeys(("max", "amax"), _extreme("maximum")),
    **dict.fromkeys(("min", "amin"), _extreme("minimum")),
    "mean": mean,
    "var": var,
    "std": lambda *args, **options: np.sqrt(var(*args, **options)),
    "cumsum": _cumulative(np.add),
    "cumprod": _cumulative(np.multiply),
    "clip": lambda tape, a, a_min=None, a_max=None, out=None, **_: np.minimum(
        np.maximum(a, -np.inf if a_min is None else a_min), np.inf if a_max is None else a_max, out=out
    ),
    "where": where,
    "select": select,
    "sort": sort,
    "partition": lambda tape, a, kth, axis=-1, **_: sort(tape, a, axis),
    "pad": pad,
    "einsum": einsum,
    "dot": dot,
    "vdot": lambda tape, a, b: (np.ravel(a) * np.ravel(b)).sum(),
    "inner": lambda tape, a, b: tensordot(tape, a, b, ((np.ndim(a) - 1,), (np.ndim(b) - 1,))),
    "outer": lambda tape, a, b, out=None: np.ravel(a)[:, None] * np.ravel(b)[None, :],
    "tensordot": tensordot,
    "kron": lambda tape, a, b: (
        np.reshape(a[:, None, :, None] * b[None, :, None, :], (a.shape[0] * b.shape[0], a.shape[1] * b.shape[1]))
        if np.ndim(a) == 2
        else np.ravel(np.outer(a, b))
    ),
    "trace": lambda tape, a, offset=0, axis1=0, axis2=1, **_: np.diagonal(a, offset, axis1, axis2).sum(-1),
    "inv": inv,
    "solve": solve,
    "det": det,
    "norm": norm,
    "vector_norm": lambda tape, x, axis=None, keepdims=False, ord=2: norm(tape, x, ord, axis, keepdims),
    "diff": diff,
    "convolve": convolve,
    "correlate": correlate,
    "tril": triangle("tril"),
    "triu": triangle("triu"),
    "diag": diag,
    "copyto": copyto,
    "put_along_axis": put_along_axis,
    "zeros_like": _filled(0.0),
    "ones_like": _filled(1.0),
    "empty_like": _filled(0.0),
    "full_like": _filled(None),
    "real": lambda tape, a: a,
    "imag": lambda tape, a: np.zeros(a.shape),
    "broadcast_arrays": lambda tape, *xs, **_: [
        np.broadcast_to(x, np.broadcast_shapes(*(np.shape(x) for x in xs))) for x in xs
    ],
    "round": lambda tape, a, decimals=0, out=None: np.rint(a * 10.0**decimals) / 10.0**decimals,
    "around": lambda tape, a, decimals=0, out=None: np.rint(a * 10.0**decimals) / 10.0**decimals,
    "nan_to_num": lambda tape, x, copy=True, nan=0.0, posinf=None, neginf=None: chosen(
        tape, np.isfinite(x.value), x, np.nan_to_num(x.value, nan=nan, posinf=posinf, neginf=neginf)
    ),
    "array": lambda tape, x, *_, **__: joined(tape, x),
}


Taped.run_ufunc, Taped.run_function = staticmethod(apply), staticmethod(call)
