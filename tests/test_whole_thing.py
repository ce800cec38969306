"""The GPT on one page, ``examples/00_the_whole_thing.py``, computes what npgpt's layers and optimizer compute."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.model import GPT
from npgpt.optim import AdamW

PATH = Path(__file__).parents[1] / "examples" / "00_the_whole_thing.py"


@pytest.fixture(scope="module")
def page() -> Any:
    spec = importlib.util.spec_from_file_location("the_whole_thing", PATH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def both(page: Any, V: int = 11) -> tuple[GPT, dict[str, Array]]:
    """The same weights, of order one, in npgpt's model and on the page."""
    config = GPTConfig(V, page.T, page.N_LAYER, page.N_HEAD, page.C)
    gpt, rng = GPT(config, dtype=np.float64), np.random.default_rng(0)
    for param in gpt.parameters().values():
        param.value[...] = 0.2 * rng.normal(size=param.value.shape)
    return gpt, {name: param.value.copy() for name, param in gpt.parameters().items()}


def test_weights_have_the_names_and_shapes_of_npgpt(page: Any) -> None:
    gpt, _ = both(page)
    made = page.make_weights(11)
    assert {name: x.shape for name, x in made.items()} == {n: p.value.shape for n, p in gpt.parameters().items()}
    assert all(x.dtype == np.float32 for x in made.values())


@pytest.mark.parametrize("length", [1, 7, 64])
def test_loss_and_every_gradient_agree(page: Any, length: int) -> None:
    gpt, weights = both(page)
    ids, targets = np.random.default_rng(1).integers(0, 11, (2, 3, length))
    loss, grads = page.loss_and_gradients(weights, ids, targets)
    cache = Cache()
    right = float(gpt.loss(ids, targets, cache))
    gpt.loss_backward(1.0, cache)
    assert abs(loss - right) < 1e-13
    assert grads.keys() == gpt.parameters().keys()
    for name, param in gpt.parameters().items():
        assert np.abs(grads[name] - param.grad).max() < 1e-12, name


def test_training_agrees(page: Any) -> None:
    gpt, weights = both(page)
    optimizer, state = AdamW(gpt.flat, 0.9, 0.99), {}  # type: ignore[var-annotated]
    ids, targets = np.random.default_rng(2).integers(0, 11, (2, 2, 16))
    for step in range(1, 6):
        cache = Cache()
        gpt.zero_grad()
        gpt.loss(ids, targets, cache)
        gpt.loss_backward(1.0, cache)
        optimizer.step(1e-3)
        _, grads = page.loss_and_gradients(weights, ids, targets)
        page.adamw(weights, grads, state, step, 1e-3)
    for name, param in gpt.parameters().items():
        assert np.abs(weights[name] - param.value).max() < 1e-9, name


def test_page_is_one_page_of_numpy(page: Any) -> None:
    text = PATH.read_text(encoding="utf-8")
    code = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(code) < 150 and not any(line.startswith(("import npgpt", "from npgpt")) for line in code)
