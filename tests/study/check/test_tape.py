"""The tape against complex step and against what can be worked out by hand."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npgpt.study.check.tape import Taped, gradients, taped


def f(x: Any, y: Any) -> Any:
    """Every operation that the tape has, of either side."""
    a = (2 + x) * y - x / (3 + y * y) + 1 / (4 + x * x)
    b = np.exp(-x * x / 2) - np.tanh(y - 0.5) * 3 + np.sqrt(2 + x * x) / 2
    return (a - b) ** 2 + np.log(5 + a * a) - (1.5 - b) ** 3


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_every_operation_equals_complex_step(x: float, y: float) -> None:
    cells = taped(np.array([x, y]))
    found = gradients(np.array(f(cells[0], cells[1])), np.array(1.0), {"cells": cells})["cells"]
    h = 1e-30
    expected = [f(x + 1j * h, y + 0j).imag / h, f(x + 0j, y + 1j * h).imag / h]
    assert np.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_gradient_of_a_reused_number_sums_both_uses() -> None:
    x = taped(np.array([3.0]))
    y = x[0] * x[0] + x[0]
    assert gradients(np.array(y), np.array(2.0), {"x": x})["x"] == [14.0]


def test_unused_numbers_have_zero_gradient() -> None:
    x = taped(np.ones((2, 3)))
    y = x[0].sum()
    assert np.array_equal(gradients(np.array(y), np.array(1.0), {"x": x})["x"], [[1, 1, 1], [0, 0, 0]])


def test_comparisons_have_no_slope() -> None:
    x = taped(np.array([-1.0, 2.0]))
    assert (x > 0).tolist() == [False, True]
    y = x * (x > 0)
    assert gradients(y, np.ones(2), {"x": x})["x"].tolist() == [0.0, 1.0]
    assert float(abs(Taped(-2.0))) == 2.0 and float(np.array([Taped(1.0), Taped(3.0)]).max()) == 3.0


def test_long_chain_needs_no_recursion() -> None:
    x = taped(np.array(1.0))
    y = x[()]
    for _ in range(20_000):
        y = y + 1e-9
    assert gradients(np.array(y), np.array(1.0), {"x": x})["x"] == 1.0
