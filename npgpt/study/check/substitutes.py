"""NumPy's constructors while a forward pass runs on other numbers than floats.

A forward pass may fill a buffer: ``y = np.zeros(x.shape)``, then ``y[1:] = x[:-1]``. A buffer of floats cannot hold
complex or taped numbers. So while such a pass runs, the name ``np`` in the user's modules stands for a NumPy whose
``zeros`` and siblings return buffers that can. NumPy itself stays as it is: its compiled parts call ``np.empty``, too,
and write raw floats into what they get. A function that imports NumPy inside its body meets the real one; there the
assignment fails, and the method abstains.
"""

import contextlib
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from npgpt.study.check import tape_functions  # noqa: F401 - the tape's operations
from npgpt.study.check.places import functions_of, is_foreign, walk
from npgpt.study.check.tape import Tape, Taped, joined

BUFFERS = ("zeros", "empty", "ones", "full", "eye", "identity", "zeros_like", "empty_like", "ones_like", "full_like")
CONVERTERS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
Space = dict[str, Any]


def namespaces(root: Any, *functions: Any) -> list[Space]:
    """Return the global names of the modules that an object's code, and the functions that it calls, come from."""
    found: dict[int, Space] = {}
    waiting: list[Any] = [*functions, *(node.value for node in walk(root))]
    seen: set[int] = set()
    while waiting and len(seen) < 20_000:
        value = waiting.pop()
        kind: Any = value if isinstance(value, type) else type(value)
        if id(value) in seen or isinstance(value, np.ndarray | str | int | float | bool | None):
            continue
        seen.add(id(value))
        if isinstance(value, types.ModuleType):
            spaces = [vars(value)] if not is_foreign(value.__name__) else []
        elif isinstance(value, types.FunctionType | types.MethodType):
            spaces = [getattr(getattr(value, "__func__", value), "__globals__", {})]
        else:
            spaces = [space for space, _ in functions_of(kind)[1]]
        for space in spaces:
            if id(space) not in found and not is_foreign(str(space.get("__name__", ""))):
                found[id(space)] = space
                waiting += [x for x in space.values() if isinstance(x, types.FunctionType | types.ModuleType | type)]
    return list(found.values())


class _Numpy(types.ModuleType):
    """NumPy with some other functions."""

    def __init__(self, real: Any, changed: Mapping[str, Any]) -> None:
        super().__init__(real.__name__)
        vars(self).update(changed)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@contextlib.contextmanager
def _replaced(
    spaces: Iterable[Space], changed: Mapping[str, Callable[..., Any]], strided: Any = None
) -> Iterator[None]:
    """Let ``np``, and functions imported from it, stand for others in some namespaces."""
    extra = {}
    if strided is not None:
        tricks = _Numpy(np.lib.stride_tricks, {"as_strided": strided})
        extra = {"lib": _Numpy(np.lib, {"stride_tricks": tricks})}
    proxy = _Numpy(np, {**changed, **extra})
    others: dict[int, Any] = {id(np): proxy} | {id(getattr(np, name)): new for name, new in changed.items()}
    if strided is not None:
        others |= {id(np.lib.stride_tricks.as_strided): strided, id(np.lib.stride_tricks): tricks}
    before = [(space, key, x) for space in spaces for key, x in space.items() if id(x) in others]
    try:
        for space, key, x in before:
            space[key] = others[id(x)]
        yield
    finally:
        for space, key, x in before:
            space[key] = x


def _is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and not isinstance(x, Taped) and x.dtype.kind == "f"


def _buffers(convert: Callable[[Any], Any]) -> dict[str, Callable[..., Any]]:
    def buffer(make: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            made = make(*args, **options)
            return convert(made) if _is_float(made) else made

        return run

    return {name: buffer(getattr(np, name)) for name in BUFFERS}


def taped_numbers(tape: Tape, spaces: Iterable[Space]) -> contextlib.AbstractContextManager[None]:
    """Let buffers hold taped numbers."""

    def converter(make: Callable[..., Any]) -> Callable[..., Any]:
        def run(x: Any, *args: Any, **options: Any) -> Any:
            x = joined(tape, x) if isinstance(x, list | tuple) else x
            if not isinstance(x, Taped):
                return make(x, *args, **options)
            dtype = args[0] if args else options.get("dtype")
            made = x.copy() if make is np.array and options.get("copy", True) else x
            return made if dtype is None else made.astype(dtype)

        return run

    def strided(x: Any, *args: Any, **options: Any) -> Any:
        view = np.lib.stride_tricks.as_strided
        return (
            x.moved(lambda cells: view(cells, *args, **options)) if isinstance(x, Taped) else view(x, *args, **options)
        )

    changed = _buffers(tape.constant) | {name: converter(getattr(np, name)) for name in CONVERTERS}
    return _replaced(spaces, changed, strided)


@contextlib.contextmanager
def complex_numbers(spaces: Iterable[Space]) -> Iterator[None]:
    """Let buffers hold complex numbers; a conversion that drops the imaginary part raises."""
    with _replaced(spaces, _buffers(lambda x: x.astype(np.complex128))), warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        yield
