"""Scores of queries that are the last of several positions."""

import numpy as np
import pytest

from npgpt.core import Cache
from npgpt.errors import ShapeError
from npgpt.layers import Scores


def test_there_are_no_more_queries_than_keys() -> None:
    with pytest.raises(ShapeError, match="q has 3 positions and k 2"):
        Scores().forward(np.zeros((1, 1, 3, 2)), np.zeros((1, 1, 2, 2)), Cache())
