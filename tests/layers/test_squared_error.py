"""What the mean squared error refuses. Its gradients: the laws, and PyTorch's in tests/peers."""

import numpy as np
import pytest

from npgpt.core import Cache
from npgpt.errors import DataError, ShapeError
from npgpt.layers import MeanSquaredError


def test_what_is_refused() -> None:
    with pytest.raises(DataError, match="MeanSquaredError: y is empty, so there is no mean"):
        MeanSquaredError().forward(np.zeros((0, 3)), np.zeros((0, 3)), Cache())
    with pytest.raises(ShapeError, match="y is int64, expected floats; convert it with"):
        MeanSquaredError().forward(np.array([1, 2]), np.array([1, 2]), Cache())
    with pytest.raises(ShapeError, match="MeanSquaredError: t"):
        MeanSquaredError().forward(np.zeros(3), np.zeros(3, np.float32), Cache())
