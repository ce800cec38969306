"""AdamW compared with the paper's algorithm on scalars, clipping, and the schedule."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.core import FlatParams, Param
from npgpt.exact import cos_pi
from npgpt.optim import AdamW, WarmupCosine, clip_scale


def paper(theta: float, grads: list[float], lr: float, decay: float, b1: float, b2: float, eps: float) -> float:
    """Algorithm 2 of Loshchilov and Hutter, for one number."""
    m = v = 0.0
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat = m / (1 - b1**t)
        v_hat = v / (1 - b2**t)
        theta = theta - lr * (m_hat / (math.sqrt(v_hat) + eps) + decay * theta)
    return theta


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=5), st.floats(0, 0.5))
def test_adamw_equals_the_papers_algorithm(grads: list[float], decay: float) -> None:
    flat = FlatParams([Param(np.array([0.7])), Param(np.array([[1.5]]))], np.float64)  # a vector and a matrix
    optimizer = AdamW(flat, 0.8, 0.95, 1e-3, decay)
    for g in grads:
        flat.grads[:] = g
        optimizer.step(0.1)
    matrix, vector = flat.values
    assert matrix == pytest.approx(paper(1.5, grads, 0.1, decay, 0.8, 0.95, 1e-3), rel=1e-12)
    assert vector == pytest.approx(paper(0.7, grads, 0.1, 0.0, 0.8, 0.95, 1e-3), rel=1e-12)  # no decay


def test_clipping_scales_the_whole_gradient() -> None:
    flat = FlatParams([Param(np.zeros((2, 2)))], np.float64)
    flat.grads[:] = [1, 2, 2, 4]
    norm = AdamW(flat).grad_norm()
    assert norm == 5
    assert clip_scale(norm, 10.0) == 1
    assert (flat.grads * clip_scale(norm, 2.5)).tolist() == [0.5, 1, 1, 2]


def test_schedule_rises_then_falls() -> None:
    schedule = WarmupCosine(1e-3, 1e-4, warmup=10, steps=100)
    rates = [schedule(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == 1e-3
    assert rates[10] == pytest.approx(1e-3)
    assert rates[99] == pytest.approx(1e-4)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert WarmupCosine(1.0, 0.0, warmup=0, steps=1)(0) == pytest.approx(1.0)
    assert WarmupCosine(1.0, 0.0, warmup=5, steps=3)(2) == 0.6  # the run ends during the warm-up


@given(st.floats(0, 1))
def test_cosine(t: float) -> None:
    assert cos_pi(t) == pytest.approx(math.cos(math.pi * t), abs=1e-11)
