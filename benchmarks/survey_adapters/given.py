"""How an adapter says which backward pass it means, and whether that backward pass is right."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Given = tuple[Any, tuple[Any, ...], dict[str, Any]]  # what ``npgpt.gradcheck`` gets
PROJECTS: list["Project"] = []


@dataclass
class Pass:
    """A backward pass of a project.

    Attributes
        make: module -> what ``npgpt.gradcheck`` gets.
        mistake: what is wrong with it, found by hand; empty if it is right.
        kinds: the names of the mistake that are true (``npgpt.study.check.diagnosis.KINDS``).
    """

    file: str
    module: str
    layer: str
    make: Callable[[ModuleType], Given]
    mistake: str = ""
    kinds: frozenset[str] = frozenset()

    def given(self, module: ModuleType | None = None) -> Given:
        """Return what ``npgpt.gradcheck`` gets; ``module`` stands in for the project's own."""
        np.random.seed(0)  # noqa: NPY002 - theirs draw their weights from it
        return self.make(module or importlib.import_module(self.module))


@dataclass
class Project:
    """A public project.

    Attributes
        roots: folders from which its modules are imported.
        prepare: what must be done before its modules are imported.
        missing: packages that it imports and does not need here; empty modules take their places.
    """

    repository: str
    commit: str
    roots: Sequence[str] = ("",)
    missing: Sequence[str] = ()
    prepare: Callable[[], None] = lambda: None
    passes: list[Pass] = field(default_factory=list)

    def __post_init__(self) -> None:
        PROJECTS.append(self)

    def add(self, file: str, layer: str, make: Callable[[Any], Given], mistake: str = "", *kinds: str) -> None:
        """List a backward pass; ``kinds`` are the true names of its mistake."""
        inside = min((file.removeprefix(f"{root}/") for root in self.roots), key=len)
        module = inside.removesuffix(".py").replace("/", ".")
        self.passes.append(Pass(file, module, layer, make, mistake, frozenset(kinds)))


def given(layer: Any, *inputs: Any, **options: Any) -> Given:
    return layer, inputs, options


def normal(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


def softmax(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    e = np.exp(normal(*shape, seed=seed))
    return np.asarray(e / e.sum(-1, keepdims=True))


def ids(n: int, *shape: int, seed: int = 1) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, n, size=shape)


def one_hot(n: int, rows: int, seed: int = 1) -> NDArray[np.float64]:
    return np.eye(n)[ids(n, rows, seed=seed)]
