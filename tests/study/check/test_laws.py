"""The one list of laws, over every layer, textbook and compiled, with random sizes."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npgpt.core import Array, Cache
from npgpt.layers import ReLU
from npgpt.machine.pool import set_num_threads
from npgpt.study.check.broken import LawBroken
from npgpt.study.check.cases import CASES, Sizes, compile_case, make_case
from npgpt.study.check.laws import (
    APPLIES,
    LAWS,
    LAWS_OF_COMPILED,
    Law,
    causality,
    examples_are_independent,
    gradients_are_right,
    laws_for,
    shapes_and_dtypes,
)
from npgpt.testing import sizes

OF_TEXTBOOK = [(name, law) for name in CASES for law in laws_for(make_case(name))]
OF_COMPILED = [(name, law) for name in CASES for law in laws_for(compile_case(make_case(name)), LAWS_OF_COMPILED)]


def ids(pairs: list[tuple[str, Law]]) -> list[str]:
    return [f"{name}-{law.__name__}" for name, law in pairs]


def examples_of(name: str, law: Law) -> int:
    """Return the profile's number; of all gradients of a whole model, which take a second, a tenth."""
    n = int(settings().max_examples)
    return max(1, n // 10) if law is gradients_are_right and name.startswith(("Block", "GPT")) else n


@pytest.mark.parametrize(("name", "law"), OF_TEXTBOOK, ids=ids(OF_TEXTBOOK))
def test_law(name: str, law: Law) -> None:
    @settings(max_examples=examples_of(name, law))
    @given(sizes=sizes(), seed=st.integers(0, 1000))
    def check(sizes: Sizes, seed: int) -> None:
        law(make_case(name, sizes, seed))

    check()


@pytest.mark.parametrize(("name", "law"), OF_COMPILED, ids=ids(OF_COMPILED))
def test_law_of_compiled(name: str, law: Law) -> None:
    """Sizes of more than a tile, and those of 1; any number of threads."""

    @given(sizes=sizes(T=40, D=20, V=70), seed=st.integers(0, 1000), n_threads=st.integers(1, 3))
    def check(sizes: Sizes, seed: int, n_threads: int) -> None:
        set_num_threads(n_threads)
        law(compile_case(make_case(name, sizes, seed)))

    check()


def test_a_law_that_cannot_be_broken_is_not_run() -> None:
    for pairs, laws in ((OF_TEXTBOOK, LAWS), (OF_COMPILED, LAWS_OF_COMPILED)):
        assert {law for _, law in pairs} == set(laws)
        always = set(laws) - set(APPLIES)
        assert all(always <= {law for of, law in pairs if of == name} for name in CASES)
    assert ("Attention", causality) in OF_TEXTBOOK
    assert ("CrossEntropy", causality) not in OF_TEXTBOOK  # it has no time axis
    assert ("CrossEntropy", examples_are_independent) not in OF_TEXTBOOK  # its output is one number


@pytest.mark.parametrize("number", [0.0, np.float32(1)])
def test_a_number_in_place_of_a_gradient_breaks_a_law_and_ends_none_of_them(number: float) -> None:
    class ReturnsNumber(ReLU):
        def backward(self, dy: Array, cache: Cache) -> Array:
            return number  # type: ignore[return-value]

    case = dataclasses.replace(make_case("ReLU"), layer=ReturnsNumber())
    broken = set()
    for law in laws_for(case):
        try:
            law(case)
        except LawBroken:
            broken.add(law)
    assert {shapes_and_dtypes, gradients_are_right} <= broken
