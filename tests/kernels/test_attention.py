"""The attention kernels against the textbook, where blocks begin and end, and with dropout."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from npgpt.core import Cache
from npgpt.kernels.attention import forward_size
from npgpt.kernels.attention_backward import backward_size
from npgpt.machine.pool import get_num_threads, set_num_threads
from npgpt.study.check.cases import Sizes, compile_case, make_case
from npgpt.study.check.laws import equals_its_textbook_twin


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    n = get_num_threads()
    yield
    set_num_threads(n)


@pytest.mark.parametrize("name", ["Attention", "Attention-dropout"])
@pytest.mark.parametrize("T", [1, 2, 31, 32, 33, 95, 96, 97, 128, 200])
def test_lengths_around_the_blocks(name: str, T: int) -> None:
    for D in (1, 5, 16, 33):
        equals_its_textbook_twin(compile_case(make_case(name, Sizes(B=2, T=T, H=2, D=D))))


@pytest.mark.parametrize("name", ["Attention", "Attention-dropout"])
def test_the_same_bits_for_any_number_of_threads(name: str) -> None:
    case, found = compile_case(make_case(name, Sizes(B=3, T=130, H=2, D=20))), []
    for n in (1, 2, 3):
        set_num_threads(n)
        cache = case.cache()
        y = np.copy(case.forward(cache))
        found.append((y, np.copy(case.backward(y, cache)["x"])))
    for y, dx in found[1:]:
        assert np.array_equal(y, found[0][0])
        assert np.array_equal(dx, found[0][1])


def test_what_comes_later_changes_no_bit() -> None:
    case = compile_case(make_case("Attention", Sizes(B=1, T=150, H=2, D=8)))
    x = case.inputs["x"].copy()
    y = np.copy(case.forward(Cache()))
    x[:, 77:] = 1e6
    assert np.array_equal(case.forward(Cache(), x=x)[:, :77], y[:, :77])


def test_large_scores_overflow_nothing() -> None:
    case = compile_case(make_case("Attention", Sizes(B=1, T=200, H=1, D=16)))
    large = dataclasses.replace(case, inputs={"x": 100 * case.inputs["x"]})
    cache = large.cache()
    y = large.forward(cache)
    assert np.isfinite(y).all()
    assert np.isfinite(large.backward(y, cache)["x"]).all()


def test_memory_grows_with_the_length_not_with_its_square() -> None:
    for size in (forward_size, backward_size):
        assert size(4096, 64) < 2.2 * size(2048, 64)
