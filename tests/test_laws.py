"""The one list of laws, over every layer, with random sizes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npgpt.study.cases import CASES, Sizes, make_case
from npgpt.testing import LAWS, Law, sizes


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", CASES)
def test_law(name: str, law: Law) -> None:
    @settings(max_examples=15)
    @given(sizes=sizes(), seed=st.integers(0, 1000))
    def check(sizes: Sizes, seed: int) -> None:
        law(make_case(name, sizes, seed))

    check()
