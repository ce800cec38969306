"""The one list of laws, over every layer, textbook and compiled, with random sizes."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npgpt.machine.pool import get_num_threads, set_num_threads
from npgpt.study.check.cases import CASES, Sizes, compile_case, make_case
from npgpt.study.check.laws import LAWS, LAWS_OF_COMPILED, Law
from npgpt.testing import sizes


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", CASES)
def test_law(name: str, law: Law) -> None:
    @settings(max_examples=15)
    @given(sizes=sizes(), seed=st.integers(0, 1000))
    def check(sizes: Sizes, seed: int) -> None:
        law(make_case(name, sizes, seed))

    check()


@pytest.fixture
def threads() -> Iterator[None]:
    n = get_num_threads()
    yield
    set_num_threads(n)


@pytest.mark.parametrize("law", LAWS_OF_COMPILED, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("threads")
def test_law_of_compiled(name: str, law: Law) -> None:
    """Sizes of more than a tile, and those of 1; any number of threads."""

    @settings(max_examples=15)
    @given(sizes=sizes(T=40, D=20, V=70), seed=st.integers(0, 1000), n_threads=st.integers(1, 3))
    def check(sizes: Sizes, seed: int, n_threads: int) -> None:
        set_num_threads(n_threads)
        law(compile_case(make_case(name, sizes, seed)))

    check()
