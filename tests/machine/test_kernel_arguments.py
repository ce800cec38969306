"""Every kernel that Python calls refuses every argument of another type, at its first call and at every later one.

Numba itself does not check the arguments of the call that compiles, and takes read-only arrays of either byte order for
one type. So the calls are made in a process of their own.
"""

import subprocess
import sys

CALLS = '''
import importlib, inspect, pkgutil
from pathlib import Path

import numba
import numpy as np

import npgpt
from npgpt.errors import ShapeError
from npgpt.machine.compile import ENTRIES

for module in pkgutil.walk_packages(npgpt.__path__, "npgpt."):
    if "kernels" in module.name or module.name.startswith("npgpt.machine"):
        importlib.import_module(module.name)


def good(kind):
    """Return an argument of a type."""
    if isinstance(kind, numba.types.Array):
        return np.zeros((3,) * kind.ndim, np.dtype(str(kind.dtype)))
    if isinstance(kind, numba.types.BaseTuple):
        return tuple(map(good, kind))
    return {"int64": 1, "float64": 1.0, "boolean": True, "bool": True}[str(kind)]


def wrong(kind):
    """Yield (what it is, an argument that must be refused)."""
    for value in (None, "3", b"3", [1.0], {}, 1j, np.float32):
        yield repr(value), value
    if not isinstance(kind, numba.types.Array):
        yield "an array", np.zeros(3)
        if str(kind) == "int64":
            yield "a fraction", 1.5
            yield "a fraction of NumPy", np.float32(1.5)
        return
    right = good(kind)
    yield "a number", 1.0
    yield "no axis", right[(0,) * kind.ndim]
    yield "no axis, array", np.array(right[(0,) * kind.ndim])
    yield "one axis more", right[None]
    for dtype in "? i1 u1 i2 i4 u4 i8 u8 f2 f4 f8 g F D O S4 U4 M8[s] V4 f4,i4".split():
        if np.dtype(dtype) != right.dtype:
            yield dtype, np.zeros(right.shape, dtype)
    swapped = right.dtype.newbyteorder()
    if swapped != right.dtype:
        for writeable in (True, False):
            array = right.astype(swapped)
            array.flags.writeable = writeable
            yield f"swapped bytes, writeable {writeable}", array
    if kind.layout == "C":
        yield "with gaps", np.zeros((6,) * kind.ndim, right.dtype)[(slice(None, None, 2),) * kind.ndim]
        if kind.ndim == 2:
            yield "Fortran", np.asfortranarray(right)
    if kind.mutable:
        right.flags.writeable = False
        yield "read-only", right


def try_all(entry, kinds, when):
    tried = 0
    names = list(inspect.signature(entry.py_func).parameters)
    for place, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if isinstance(kind, numba.types.BaseTuple):
            continue
        for what, value in wrong(kind):
            arguments = [value if i == place else good(other) for i, other in enumerate(kinds)]
            try:
                entry(*arguments)
            except ShapeError as error:
                assert f"kernel {entry.py_func.__name__}: {name} is " in str(error), error
            except BaseException as error:
                print(when, entry.py_func.__qualname__, name, what, type(error), error)
            else:
                print(when, entry.py_func.__qualname__, name, what, "was accepted")
            tried += 1
    return tried


@numba.njit
def know_read_only_arrays(x):  # from now on Numba recognises them without a look in Python
    pass

before = sum(try_all(entry, entry.kinds, "first call:") for entry in ENTRIES)
assert not any(entry.overloads for entry in ENTRIES)
for entry in ENTRIES:
    entry.compile_form()
    for kind in entry.kinds:
        if isinstance(kind, numba.types.Array):
            array = good(kind)
            array.flags.writeable = False
            know_read_only_arrays(array)
assert before == sum(try_all(entry, entry.kinds, "later call:") for entry in ENTRIES)
assert all(len(entry.overloads) == 1 for entry in ENTRIES)
print(len(ENTRIES), "kernels", before, "calls")
'''


def test_every_kernel_refuses_every_argument_of_another_type() -> None:
    done = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *wrong, last = done.stdout.splitlines()
    assert not wrong, "\n".join(wrong)
    kernels, calls = (int(word) for word in last.split() if word.isdecimal())
    assert kernels >= 22
    assert calls > 2000
