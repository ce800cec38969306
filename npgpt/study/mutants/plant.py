"""A mutant: a small realistic mistake in our own code, planted for a while."""

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
        name: begins with the part that it is in.
        target: ``module:Class.method`` or ``module:function``.
        old, new: what stands there once, and what is put in its place.
        says: what someone would say who finds it.
        kind: what a diagnosis should call it (``npgpt.study.check.diagnosis.KINDS``), or "law" or "reference".
        case: where it is looked for (``check/cases.py``); of training a reference (``mutants/verdict.py``).
        compiled: whether it is in a compiled layer.
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
        """Whether the diagnosis was written without looking at it: half of them, by a hash of the name."""
        return bool(zlib.crc32(self.name.encode()) & 1)


def owner_of(target: str) -> tuple[Any, str]:
    """The class or module that holds what a target names, and the name."""
    module_name, _, path = target.partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def source_of(target: str) -> str:
    """The source of a method or function, at the left margin."""
    owner, name = owner_of(target)
    return textwrap.dedent(inspect.getsource(getattr(owner, name)))


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Our code with a mistake in it."""
    source = source_of(mutant.target)
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.old!r} stands {source.count(mutant.old)} times in {mutant.target}")
    with replaced(mutant.target, source.replace(mutant.old, mutant.new)):
        yield


@contextmanager
def replaced(target: str, source: str) -> Iterator[None]:
    """A method or function made anew from other source, among the names of its own module."""
    owner, name = owner_of(target)
    right = vars(owner)[name]
    scope = dict(vars(importlib.import_module(target.partition(":")[0])))
    exec(compile(source, f"<{target}>", "exec"), scope)
    setattr(owner, name, scope[name])
    try:
        yield
    finally:
        setattr(owner, name, right)
