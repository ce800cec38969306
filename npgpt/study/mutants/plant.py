"""A mutant: a small realistic mistake, planted in npgpt's own code for the time of a test."""

import importlib
import inspect
import textwrap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """A mistake.

    Attributes
        name: begins with the layer or function that holds the mistake.
        target: ``module:Class.method`` or ``module:function``.
        old, new: text that occurs once in the target's source, and its replacement.
        says: a description of the mistake.
        kind: the diagnosis expected (``npgpt.study.check.diagnosis.KINDS``), or "law", "reference" or "border".
        case: the case that must find it (``check/cases.py``); for training, a reference (``mutants/verdict.py``).
        compiled: whether the mistake is in a compiled layer.
    """

    name: str
    target: str
    old: str
    new: str
    says: str
    kind: str
    case: str
    compiled: bool = False

    @property
    def held_out(self) -> bool:
        """Whether the diagnosis was written without this mutant: true for half of them, by a hash of the name."""
        return bool(zlib.crc32(self.name.encode()) & 1)


def owner_of(target: str) -> tuple[Any, str]:
    """Return the class or module that holds a target, and the target's name in it."""
    module_name, _, path = target.partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def source_of(target: str) -> str:
    """Return the source of a method or function, dedented."""
    owner, name = owner_of(target)
    return textwrap.dedent(inspect.getsource(getattr(owner, name)))


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Plant a mistake in npgpt's code within a ``with`` block."""
    source = source_of(mutant.target)
    if (n := source.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.name}: {mutant.old!r} stands {n} times in {mutant.target}, expected once")
    with replaced(mutant.target, source.replace(mutant.old, mutant.new)):
        yield


@contextmanager
def replaced(target: str, source: str) -> Iterator[None]:
    """Replace a method or function within a ``with`` block by other source, compiled in its own module's names."""
    owner, name = owner_of(target)
    function = vars(owner)[name]
    scope = dict(vars(importlib.import_module(target.partition(":")[0])))
    exec(compile(source, f"<{target}>", "exec"), scope)
    right = function.__code__
    function.__code__ = scope[name].__code__  # in place: other modules may have imported the function by its name
    try:
        yield
    finally:
        function.__code__ = right
