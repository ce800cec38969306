"""Layers in a person's file: it is imported, and its classes, its objects and its pairs of functions are found.

A pair of functions is known by its names: ``norm_forward`` and ``norm_backward``, ``gelu`` and ``gelu_grad``.
"""

import contextlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from npgpt.errors import ConfigError, DataError, brief, did_you_mean
from npgpt.study.check.rounds import BACKWARDS, FORWARDS
from npgpt.support.files import UTF_16, decode_text

HALVES = {"forward": "backward", "Forward": "Backward", "fwd": "bwd", "fprop": "bprop"}
OF_PLAIN_NAMES = (
    "{}_backward", "{}_grad", "d_{}", "backward_{}", "grad_{}", "{}_bwd", "{}_gradient", "{}_derivative", "{}_deriv",
    "{}_prime", "d{}", "{}Backward"
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Something in a file that may be checked.

    Attributes
        name: its name in the file; of a pair of functions, that of forward.
        thing: a class, an object or the forward function.
        backward: the backward function of a pair.
        objects: name -> object of this class that the file makes.
    """

    name: str
    thing: Any
    backward: Callable[..., Any] | None = None
    objects: tuple[tuple[str, Any], ...] = ()


def load(path: Path) -> ModuleType:
    """Import a file as a module, not as ``__main__``, with its folder first on ``sys.path``, as Python would.

    Raises
        DataError that names the line of the file at which the import failed.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file")
    shown, path = path, path.resolve()
    name, folders = module_name(path), [str(path.parent)]
    if "." in name:
        folders.append(str(path.parents[name.count(".")]))
    spec = spec_from_file_location(name, path)
    assert spec is not None
    module = module_from_spec(spec)
    sys.path[:0] = folders
    sys.modules[name] = module  # dataclasses and inspect look for it there
    arguments, sys.argv = sys.argv, [str(path)]
    try:
        with np.errstate(), without_input():  # the file may set them
            source = path.read_bytes()
            if source[:2] in UTF_16:
                decode_text(source, str(shown))  # raises
            exec(compile(source, str(path), "exec"), vars(module))
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno and error.filename == str(path) else ""
        line = f": `{brief(error.text.strip(), 100)}`" if error.text else ""
        raise DataError(f"{shown}{where} is not Python: {brief(error.msg)}{line}") from error
    except (KeyboardInterrupt, DataError):
        raise
    except BaseException as error:  # also SystemExit, and what pytest raises to skip a file
        raise DataError(_why(shown, error)) from error
    finally:
        sys.argv = arguments
    return module


def module_name(path: Path) -> str:
    """Return the name by which a file is imported: with those of its packages, if it stands in one."""
    name, folder = path.stem, path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        name, folder = f"{folder.name}.{name}", folder.parent
    return name


@contextlib.contextmanager
def without_input() -> Iterator[None]:
    """Let ``input()`` raise EOFError instead of waiting."""
    before = sys.stdin
    with open(os.devnull) as sys.stdin:
        try:
            yield
        finally:
            sys.stdin = before


def _why(path: Path, error: BaseException) -> str:
    """Return why a file could not be imported, with the line of the file itself that led there."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())]
    says = f"{path}, line {frames[-1].lineno}: `{brief(frames[-1].line, 100)}`" if frames else str(path)
    if isinstance(error, SystemExit):
        return f'{says} ends Python; remove it, or put it below `if __name__ == "__main__":`'
    if isinstance(error, EOFError):
        return f'{says} asks for input; put it below `if __name__ == "__main__":`'
    says += f" raised {brief(type(error).__name__, 60)}: {brief(error)}"
    if isinstance(error, FileNotFoundError) and path.parent.resolve() != Path.cwd():
        says += f"; if the path starts at the folder of the file, run the command there: cd {path.parent}"
    return says


def find_layers(module: ModuleType) -> list[Found]:
    """Return the layers of a module, in the order of the file: classes, pairs of functions, objects."""
    own = {key: x for key, x in vars(module).items() if getattr(x, "__module__", None) == module.__name__}
    classes = {key: x for key, x in own.items() if isinstance(x, type) and key == x.__name__ and has_passes(x)}
    bases = {base for kind in classes.values() for base in kind.__mro__[1:]}
    objects = [(key, x) for key, x in vars(module).items() if not isinstance(x, type) and has_passes(type(x))]
    found = [
        Found(key, kind, objects=tuple((name, x) for name, x in objects if type(x) is kind))
        for key, kind in classes.items()
        if not inspect.isabstract(kind) and not (kind in bases and _is_empty(kind))
    ]
    functions = {key: x for key, x in own.items() if inspect.isfunction(x) and key == x.__name__}
    found += [Found(one, functions[one], functions[other]) for one, other in pairs(functions).items()]
    found += [Found(name, x) for name, x in objects if type(x) not in classes.values()]
    return sorted(found, key=_line)


def pick(found: list[Found], name: str, path: Path) -> list[Found]:
    """Return what a person means by a name of the file."""
    chosen = [
        item
        for item in found
        if name in (item.name, getattr(item.backward, "__name__", None), *(known for known, _ in item.objects))
    ]
    if not chosen:
        raise ConfigError(f"{path} has no layer {name!r}; {did_you_mean(name, [item.name for item in found])}")
    return [
        replace(item, objects=tuple((key, x) for key, x in item.objects if name in (item.name, key))) for item in chosen
    ]


def has_passes(kind: type) -> bool:
    """Return whether objects of a class have a forward and a backward."""

    def has(names: tuple[str, ...]) -> bool:
        return any(callable(getattr(kind, name, None)) for name in names if name != "__call__")

    own_call = any("__call__" in vars(base) for base in kind.__mro__)
    return (has(FORWARDS) or own_call) and has(BACKWARDS)


def pairs(functions: dict[str, Any]) -> dict[str, str]:
    """Return name of a forward function -> name of its backward function."""
    found: dict[str, str] = {}
    halves = [(name, name.replace(*half)) for half in HALVES.items() for name in functions if half[0] in name]
    plain = [(name, pattern.format(name)) for pattern in OF_PLAIN_NAMES for name in functions]
    for one, other in halves + plain:
        if other in functions and one not in found and other not in found.values():
            found[one] = other
    return found


def _is_empty(kind: type) -> bool:
    """Return whether the forward of a class only raises NotImplementedError, passes, or does not exist: of a base."""
    for name in FORWARDS:
        method = inspect.getattr_static(kind, name, None)
        if inspect.isfunction(method):
            code = method.__code__
            return "NotImplementedError" in code.co_names or len(code.co_code) <= len((lambda: None).__code__.co_code)
    return True


def _line(item: Found) -> float:
    code = getattr(item.thing, "__code__", None)
    if code is not None:
        return float(code.co_firstlineno)
    try:
        return float(inspect.getsourcelines(item.thing)[1]) if isinstance(item.thing, type) else np.inf
    except (OSError, TypeError):
        return np.inf
