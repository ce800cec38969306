"""The short check: right layers pass at a glance, and what does not is judged at length."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit_layers import RIGHT_AT_A_GLANCE, WRONG_AT_A_GLANCE, Dropout, LayerNorm, Linear

import npgpt
from npgpt import layers
from npgpt.study.check.glance import GLANCE

X = np.random.default_rng(0).normal(size=(3, 5))


@pytest.mark.parametrize("make", RIGHT_AT_A_GLANCE, ids=lambda make: make.__name__)
def test_right_layer_passes_at_a_glance(make: Any) -> None:
    report = npgpt.gradcheck(make(), X, methods="fast")
    assert report.passed and {check.method for check in report} == {"tape"}
    assert all(verdict.by == GLANCE for verdict in report.verdicts.values())


@pytest.mark.parametrize("make", WRONG_AT_A_GLANCE, ids=lambda make: make.__name__)
def test_wrong_layer_is_judged_at_length(make: Any) -> None:
    report = npgpt.gradcheck(make(), X, methods="fast")
    assert report.verdict == "wrong" and report.findings
    assert {check.method for check in report} == {"tape", "differences", "complex"}


def test_layers_of_npgpt_and_losses_are_judged_too() -> None:
    assert npgpt.gradcheck(layers.LayerNorm(5), X[None], methods="fast").passed
    assert npgpt.gradcheck(lambda p, t: ((p - t) ** 2).mean(), X, X + 1, backward=lambda p, t: 2 * (p - t) / p.size,
                           constants=["t"], methods="fast").passed  # fmt: skip


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 1000))
def test_it_runs_inside_hypothesis(n: int, m: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(n, m))
    assert npgpt.gradcheck(Linear(m, 3), x, methods="fast").passed
    assert npgpt.gradcheck(LayerNorm(m), x, methods="fast").passed


def test_it_judges_the_given_weights_alone() -> None:
    class Forgets(LayerNorm):
        def backward(self, dy: Any) -> Any:
            gain, self.gain = self.gain, np.ones(5)
            dx = super().backward(dy)
            self.gain = gain
            return dx

    assert npgpt.gradcheck(Forgets(), X, methods="fast").passed  # its gains are 1
    assert not npgpt.gradcheck(Forgets(), X).passed


def test_masks_that_are_equal_by_chance_hide_no_dropout() -> None:
    for seed in range(20):
        np.random.seed(seed)  # noqa: NPY002
        report = npgpt.gradcheck(Dropout(), X[:1, :1])
        assert report.passed and any("random numbers" in says for says in report.remarks), f"{seed}\n{report}"
