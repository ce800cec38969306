"""The Numba types of the arguments of kernels. Inputs may be read-only; outputs must be writeable."""

from typing import Any

from numba import types


def _array(number: Any, n_axes: int, layout: Any, written: bool) -> Any:
    return types.Array(number, n_axes, layout, readonly=not written)


INT, FLOAT, FLAG = types.int64, types.float64, types.boolean
POOL = _array(types.int64, 1, "C", written=True)  # ``pool.pool()``
INTS = _array(types.int64, 1, "C", written=False)
FLOATS = _array(types.float32, 1, "C", written=False)
FLOATS_OUT = _array(types.float32, 1, "C", written=True)
DOUBLES_OUT = _array(types.float64, 1, "C", written=True)
ROWS = _array(types.float32, 2, "C", written=False)  # one row after another
ROWS_OUT = _array(types.float32, 2, "C", written=True)
MATRIX = _array(types.float32, 2, "A", written=False)  # any strides
MATRIX_OUT = _array(types.float32, 2, "A", written=True)
