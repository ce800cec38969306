"""Layers as other people write them, each made by one function: those that are right, and those that are wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npgpt.core import Array

Given = tuple[Any, tuple[Any, ...], dict[str, Any]]  # what ``npgpt.gradcheck`` gets
RIGHT: list[Callable[[], Given]] = []
WRONG: list[Callable[[], Given]] = []


def right(make: Callable[[], Given]) -> Callable[[], Given]:
    """List a function that makes a layer whose gradients are all right."""
    RIGHT.append(make)
    return make


def wrong(make: Callable[[], Given]) -> Callable[[], Given]:
    """List a function that makes a layer with a mistake; its docstring says which one."""
    WRONG.append(make)
    return make


def given(layer: Any, *inputs: Any, **options: Any) -> Given:
    return layer, inputs, options


def random(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(size=shape))
