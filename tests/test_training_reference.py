"""Training follows a training loop in plain NumPy (``npgpt/study/mutants/training_loop.py``), to the last bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.build import make_gpt
from npgpt.config import GPTConfig
from npgpt.study.mutants.references import difference_in_training, evaluation_is_right
from npgpt.study.mutants.training_loop import CONFIG, SETTINGS, initial_model


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    ("layers", "dtype"), [("textbook", np.float64), ("textbook", np.float32), ("compiled", np.float32)]
)
def test_twenty_steps_have_the_bits_of_the_reference(name: str, layers: str, dtype: type) -> None:
    assert difference_in_training(*SETTINGS[name], layers, dtype) == ""


@given(
    model=st.fixed_dictionaries({"dropout": st.sampled_from([0.0, 0.2]), "tie_weights": st.booleans()}),
    train=st.fixed_dictionaries(
        {
            "steps": st.integers(1, 7),
            "batch_size": st.integers(3, 30),
            "micro_batches": st.integers(1, 3),
            "stride": st.integers(1, 7),
            "warmup_steps": st.integers(0, 8),
            "min_learning_rate_ratio": st.sampled_from([0.0, 0.1, 1.0]),
            "grad_clip": st.sampled_from([0.1, 1.0, 100.0]),
            "weight_decay": st.sampled_from([0.0, 0.1]),
            "seed": st.integers(0, 3),
        }
    ).filter(lambda train: train["batch_size"] <= (99 - 6 - 1) // train["stride"] + 1),  # the examples of the text
    layers=st.sampled_from(["textbook", "compiled"]),
)
def test_any_settings_have_the_bits_of_the_reference(model: dict[str, Any], train: dict[str, Any], layers: str) -> None:
    assert difference_in_training(model, train, layers, np.float32) == ""


@pytest.mark.parametrize("tie_weights", [True, False])
def test_initial_weights_are_the_references_and_differ_in_each_block(tie_weights: bool) -> None:
    config = GPTConfig(**CONFIG | {"tie_weights": tie_weights})
    model, again = make_gpt(config, seed=5), initial_model(config, 5, np.float32)
    weights = {path: param.value for path, param in model.parameters().items()}
    for path, param in again.parameters().items():
        assert np.array_equal(weights.pop(path), param.value), path
    assert not weights
    for name in ("attention.qkv", "attention.projection", "mlp.up", "mlp.down"):
        first, *others = (again.parameters()[f"blocks.{i}.{name}.weight"].value for i in range(3))
        std = 0.02 / np.sqrt(6) if name in ("attention.projection", "mlp.down") else 0.02
        assert first.std() == pytest.approx(std, rel=0.1)
        assert all(abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.2 for other in others)


def test_evaluation_equals_one_window_after_the_other() -> None:
    assert evaluation_is_right()
