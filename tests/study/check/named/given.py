"""Layers with a mistake whose name is known, and right layers that look suspicious."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npgpt.core import Array

Given = tuple[Any, tuple[Any, ...], dict[str, Any]]  # what ``npgpt.gradcheck`` gets
MISTAKES: list[Callable[[], Given]] = []
SOUND: list[Callable[[], Given]] = []


def mistake(tensor: str, *kinds: str) -> Callable[[Callable[[], Given]], Callable[[], Given]]:
    """List a function that makes a wrong layer.

    Args
        tensor: the first one on the way back whose gradient is wrong.
        kinds: names that are true of the mistake (``npgpt.study.check.KINDS``); none if no name is.
    """

    def listed(make: Callable[[], Given]) -> Callable[[], Given]:
        make.tensor, make.kinds = tensor, frozenset(kinds)  # type: ignore[attr-defined]
        MISTAKES.append(make)
        return make

    return listed


def sound(make: Callable[[], Given]) -> Callable[[], Given]:
    """List a function that makes a right layer."""
    SOUND.append(make)
    return make


def given(layer: Any, *inputs: Any, **options: Any) -> Given:
    return layer, inputs, options


def random(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(size=shape))
