"""The derivative of each NumPy function of single numbers, and of their sums, products and maxima along an axis."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check.tape import CONSTANT, Tape, Taped, TapeError, plain_index
from npgpt.study.check.tape_products import matmul

# f(x) -> f'(x), from x and y = f(x).
OF_ONE: dict[str, Callable[[Array, Array], Any]] = {
    "negative": lambda x, y: -1.0,
    "positive": lambda x, y: 1.0,
    "conjugate": lambda x, y: 1.0,
    "absolute": lambda x, y: np.sign(x),
    "fabs": lambda x, y: np.sign(x),
    "exp": lambda x, y: y,
    "exp2": lambda x, y: y * np.log(2),
    "expm1": lambda x, y: y + 1,
    "log": lambda x, y: 1 / x,
    "log2": lambda x, y: 1 / (x * np.log(2)),
    "log10": lambda x, y: 1 / (x * np.log(10)),
    "log1p": lambda x, y: 1 / (1 + x),
    "sqrt": lambda x, y: 0.5 / y,
    "cbrt": lambda x, y: 1 / (3 * y * y),
    "square": lambda x, y: 2 * x,
    "reciprocal": lambda x, y: -y * y,
    "sin": lambda x, y: np.cos(x),
    "cos": lambda x, y: -np.sin(x),
    "tan": lambda x, y: 1 + y * y,
    "arcsin": lambda x, y: 1 / np.sqrt(1 - x * x),
    "arccos": lambda x, y: -1 / np.sqrt(1 - x * x),
    "arctan": lambda x, y: 1 / (1 + x * x),
    "sinh": lambda x, y: np.cosh(x),
    "cosh": lambda x, y: np.sinh(x),
    "tanh": lambda x, y: 1 - y * y,
    "arcsinh": lambda x, y: 1 / np.sqrt(1 + x * x),
    "arccosh": lambda x, y: 1 / np.sqrt(x * x - 1),
    "arctanh": lambda x, y: 1 / (1 - x * x),
    "deg2rad": lambda x, y: np.pi / 180,
    "radians": lambda x, y: np.pi / 180,
    "rad2deg": lambda x, y: 180 / np.pi,
    "degrees": lambda x, y: 180 / np.pi,
    **dict.fromkeys(("sign", "floor", "ceil", "rint", "trunc"), lambda x, y: 0.0),
    # SciPy's
    "erf": lambda x, y: 2 / np.sqrt(np.pi) * np.exp(-x * x),
    "erfc": lambda x, y: -2 / np.sqrt(np.pi) * np.exp(-x * x),
    "expit": lambda x, y: y * (1 - y),
    "log_expit": lambda x, y: 1 - np.exp(y),
}

# f(a, b) -> ∂f/∂a, ∂f/∂b, from a, b and y = f(a, b).
OF_TWO: dict[str, Callable[[Array, Array, Array], tuple[Any, Any]]] = {
    "add": lambda a, b, y: (1.0, 1.0),
    "subtract": lambda a, b, y: (1.0, -1.0),
    "multiply": lambda a, b, y: (b, a),
    "divide": lambda a, b, y: (1 / b, -y / b),
    "power": lambda a, b, y: (
        np.where(b == 0, 0, b * a ** np.where(b == 0, 1, b - 1)),
        y * np.log(np.where(a > 0, a, 1)),
    ),
    "float_power": lambda a, b, y: OF_TWO["power"](a, b, y),
    "maximum": lambda a, b, y: (1.0 * (a >= b), 1.0 * (a < b)),
    "minimum": lambda a, b, y: (1.0 * (a <= b), 1.0 * (a > b)),
    "fmax": lambda a, b, y: (1.0 * (a >= b), 1.0 * (a < b)),
    "fmin": lambda a, b, y: (1.0 * (a <= b), 1.0 * (a > b)),
    "hypot": lambda a, b, y: (a / y, b / y),
    "arctan2": lambda a, b, y: (b / (a * a + b * b), -a / (a * a + b * b)),
    "logaddexp": lambda a, b, y: (np.exp(a - y), np.exp(b - y)),
    "logaddexp2": lambda a, b, y: (2 ** (a - y), 2 ** (b - y)),
    "copysign": lambda a, b, y: (np.copysign(1.0, a) * np.copysign(1.0, b), 0.0),
    "remainder": lambda a, b, y: (1.0, -np.floor(a / b)),
    "fmod": lambda a, b, y: (1.0, -np.trunc(a / b)),
    "floor_divide": lambda a, b, y: (0.0, 0.0),
    "heaviside": lambda a, b, y: (0.0, 0.0),
    "xlogy": lambda a, b, y: (np.log(np.where(a == 0, 1, b)), a / b),
}
OF_THREE = {"clip": lambda x, low, high: (1.0 * ((x >= low) & (x <= high)), 1.0 * (x < low), 1.0 * (x > high))}

# They have no slope, and their results are not numbers to go on with.
PLAIN = {
    *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_and", "logical_or"),
    *("logical_not", "logical_xor", "isfinite", "isinf", "isnan", "signbit"),
}


def apply(tape: Tape, ufunc: np.ufunc, method: str, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
    """Return what NumPy's ``ufunc.method(*inputs, **options)`` returns, and write its edges."""
    name = ufunc.__name__
    inputs = tape.enter(name, inputs)
    out = options.pop("out", None)
    out = out[0] if isinstance(out, tuple) else out
    if method == "__call__":
        made = _call(tape, ufunc, name, inputs, options, out)
    elif method == "at":
        return _at(tape, name, *inputs)
    elif method == "outer":
        a, b = inputs
        made = ufunc(a[(..., *(None,) * np.ndim(b))] if np.ndim(b) else a, b)
    elif method in ("reduce", "accumulate") and name in ALONG[method]:
        x, *positional = inputs
        options |= dict(zip(("axis", "dtype", "out", "keepdims"), positional, strict=False))
        made = ALONG[method][name](tape, x, options)
    else:
        raise TapeError(f"the tape has no derivative of np.{name}.{method}")
    if out is None:
        return made
    if not isinstance(out, Taped):
        raise TapeError(f"np.{name} writes taped numbers into an array of plain ones")
    out[...] = made
    return out


def _call(tape: Tape, ufunc: np.ufunc, name: str, inputs: Sequence[Any], options: dict[str, Any], out: Any) -> Any:
    where = plain_index(options.pop("where", True))
    options.pop("casting", None), options.pop("dtype", None)
    values = [x.value if isinstance(x, Taped) else x for x in inputs]
    if name in PLAIN:
        return ufunc(*values, **options)
    if name == "matmul":
        return matmul(tape, *inputs)
    with np.errstate(all="ignore"):
        y = np.asarray(ufunc(*values), np.float64)
        numbers = [np.asarray(x, np.float64) for x in values]
        if name in OF_ONE:
            partial: tuple[Any, ...] = (OF_ONE[name](numbers[0], y),)
        elif name in OF_TWO:
            partial = OF_TWO[name](numbers[0], numbers[1], y)
        elif name in OF_THREE:
            partial = OF_THREE[name](*numbers)
        else:
            raise TapeError(f"the tape has no derivative of np.{name}")
    made = tape.operation(y, *zip(inputs, partial, strict=True))
    if where is not True:
        made = chosen(tape, where, made, out if out is not None else np.full(y.shape, np.nan))
    return made


def chosen(tape: Tape, where: Any, a: Any, b: Any) -> Taped:
    """Return cells of a where a condition holds, and cells of b elsewhere."""
    where = plain_index(where)
    value = np.where(where, *(x.value if isinstance(x, Taped) else x for x in (a, b)))
    ids = np.where(where, *(x.ids if isinstance(x, Taped) else CONSTANT for x in (a, b)))
    return Taped(tape, value.astype(np.float64), np.asarray(ids))


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(int(a) % max(1, x.ndim) for a in axes)


def add_up(tape: Tape, x: Any, options: dict[str, Any]) -> Any:
    """Return a sum along some axes: every cell has the slope 1."""
    axes = _axes(x, options.get("axis"))
    if options.get("where", True) is not True:
        x = chosen(tape, np.broadcast_to(options["where"], x.shape), x, 0.0)
    kept = x.value.sum(axes, keepdims=True) if x.ndim else x.value
    children = tape.numbers(kept)
    tape.edges(children, (x.ids, 1.0))
    made = Taped(tape, kept, children)
    return made if options.get("keepdims") or not x.ndim else made.squeeze(axes)


def choose_extreme(name: str) -> Callable[..., Any]:
    """Return a function that picks the largest or smallest cell; of equal ones the first."""

    def choose(tape: Tape, x: Any, options: dict[str, Any]) -> Any:
        axes = _axes(x, options.get("axis"))
        if options.get("where", True) is not True:
            x = chosen(tape, np.broadcast_to(options["where"], x.shape), x, options["initial"])
        elif options.get("initial") is not None and np.isfinite(options["initial"]):
            raise TapeError("the tape has no maximum with an initial value")
        rest = [a for a in range(x.ndim) if a not in axes]
        rows = x.transpose(*rest, *axes).reshape([x.shape[a] for a in rest] + [-1])
        where = (np.argmax if name == "maximum" else np.argmin)(rows.value, -1)
        made = rows.moved(lambda cells: np.take_along_axis(cells, where[..., None], -1)[..., 0])
        return made.reshape([1 if a in axes else n for a, n in enumerate(x.shape)]) if options.get("keepdims") else made

    return choose


def multiply_up(tape: Tape, x: Any, options: dict[str, Any]) -> Any:
    """Return a product along some axes, cell by cell."""
    made = x
    for axis in sorted(_axes(x, options.get("axis")), reverse=True):
        total = made[(slice(None),) * axis + (slice(0, 1),)]
        for i in range(1, made.shape[axis]):
            total = total * made[(slice(None),) * axis + (slice(i, i + 1),)]
        made = total if options.get("keepdims") else total.squeeze(axis)
    return made


def step_by_step(ufunc: np.ufunc) -> Callable[..., Any]:
    """Return the cumulative form of a function of two numbers."""

    def run(tape: Tape, x: Any, options: dict[str, Any]) -> Any:
        axis = options.get("axis", 0)
        x, axis = (x.reshape(-1), 0) if axis is None else (x, axis % x.ndim)
        parts = [x[(slice(None),) * axis + (slice(i, i + 1),)] for i in range(x.shape[axis])]
        for i in range(1, len(parts)):
            parts[i] = ufunc(parts[i - 1], parts[i])
        return np.concatenate(parts, axis)

    return run


def _logaddexp(tape: Tape, x: Any, options: dict[str, Any]) -> Any:
    largest = np.asarray(x.value.max(options.get("axis", 0), keepdims=True))
    total = np.log(add_up(tape, np.exp(x - largest), options | {"axis": options.get("axis", 0), "keepdims": True}))
    made = total + largest
    return made if options.get("keepdims") else made.squeeze(options.get("axis", 0))


def _first_axis(reduce: Callable[..., Any]) -> Callable[..., Any]:
    return lambda tape, x, options: reduce(tape, x, {"axis": 0} | options)


ALONG: dict[str, dict[str, Callable[..., Any]]] = {
    "reduce": {
        "add": _first_axis(add_up),
        "multiply": _first_axis(multiply_up),
        "maximum": _first_axis(choose_extreme("maximum")),
        "minimum": _first_axis(choose_extreme("minimum")),
        "logaddexp": _logaddexp,
    },
    "accumulate": {n: step_by_step(getattr(np, n)) for n in ("add", "multiply", "maximum", "minimum", "logaddexp")},
}


def _at(tape: Tape, name: str, x: Any, where: Any, new: Any = None) -> None:
    """Add or subtract at cells that may be named twice."""
    if name not in ("add", "subtract"):
        raise TapeError(f"the tape has no derivative of np.{name}.at")
    if not isinstance(x, Taped):
        raise TapeError(f"np.{name}.at writes taped numbers into an array of plain ones")
    where, sign = plain_index(where), 1.0 if name == "add" else -1.0
    cells = np.arange(x.size).reshape(x.shape)[where]
    touched = np.unique(cells)
    value = np.broadcast_to(new.value if isinstance(new, Taped) else new, cells.shape)
    np.add.at(x.value, where, sign * value)
    new_ids, flat_ids = tape.numbers(x.value.reshape(-1)[touched]), x.ids.reshape(-1)
    ids = np.broadcast_to(new.ids if isinstance(new, Taped) else CONSTANT, cells.shape)
    old, added = flat_ids[touched], new_ids[np.searchsorted(touched, cells)]
    alive = np.zeros(touched.shape, bool)
    for child, parent, slope in ((new_ids, old, 1.0), (added, ids, sign)):
        known = parent >= 0
        alive[child[known] - new_ids[:1]] = True
        tape.edges(child[known], (parent[known], slope))
    here = np.unravel_index(touched, x.shape)
    x.ids[here] = np.where(alive, new_ids, CONSTANT)
