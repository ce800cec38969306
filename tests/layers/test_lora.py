"""LoRA in a whole model: it begins as the model was, trains its update alone, and goes in and out without a trace."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.build import twin
from npgpt.config import GPTConfig
from npgpt.core import Cache, FlatParams, Layer
from npgpt.errors import ConfigError, ShapeError
from npgpt.layers import IGNORE_INDEX, Linear, LoRA, add_lora, merge_lora, remove_lora
from npgpt.model import GPT
from npgpt.optim import AdamW
from npgpt.study.check.cases import of_order_one

CONFIG = GPTConfig(vocab_size=20, context_length=8, n_layer=2, n_head=2, n_embd=12)
IDS = np.random.default_rng(0).integers(0, 20, (3, 9))


def model() -> GPT:
    return of_order_one(GPT(CONFIG, dtype=np.float64), np.random.default_rng(1))


def step(gpt: GPT, flat: FlatParams) -> None:
    optimizer = AdamW(flat)
    for _ in range(3):
        cache = Cache(training=True)
        gpt.zero_grad()
        gpt.loss(IDS[:, :-1], IDS[:, 1:], cache)
        gpt.loss_backward(1.0, cache)
        optimizer.step(0.1)


def test_training_changes_the_update_alone() -> None:
    gpt = model()
    frozen = {name: param.value.copy() for name, param in gpt.parameters().items()}
    before = gpt.forward(IDS[:, :-1], Cache())
    loras = add_lora(gpt, rank=2, alpha=4.0)
    assert len(loras) == 4 * CONFIG.n_layer and gpt.flat is None
    assert np.array_equal(gpt.forward(IDS[:, :-1], Cache()), before)
    assert len({lora.A.value.tobytes() for lora in loras}) == len(loras)
    flat = FlatParams([param for lora in loras for param in lora.parameters().values()], np.float64)
    step(gpt, flat)
    after = gpt.forward(IDS[:, :-1], Cache())
    assert np.abs(after - before).max() > 0.1
    others = {name: param.value for name, param in gpt.parameters().items() if not name.endswith((".A", ".B"))}
    assert others and all(np.array_equal(value, frozen[name]) for name, value in others.items())

    merged, removed = copy.deepcopy(gpt), copy.deepcopy(gpt)
    merge_lora(merged)
    assert merged.parameters().keys() == frozen.keys()
    assert np.abs(merged.forward(IDS[:, :-1], Cache()) - after).max() < 1e-12
    remove_lora(removed)
    assert all(np.array_equal(param.value, frozen[name]) for name, param in removed.parameters().items())
    assert np.array_equal(removed.forward(IDS[:, :-1], Cache()), before)
    assert np.array_equal(gpt.forward(IDS[:, :-1], Cache()), after)  # the copies share only the constants


def test_copies_and_other_precisions_keep_the_constants() -> None:
    rng = np.random.default_rng(0)
    lora = of_order_one(LoRA(of_order_one(Linear(3, 4), rng), 2), rng)
    again = copy.deepcopy(lora)
    assert again.W is lora.W and again.A is not lora.A and not lora.W.flags.writeable
    x = rng.normal(size=(5, 3))
    near = lora.astype(np.float32)
    assert near.forward(x.astype(np.float32), Cache()).dtype == np.float32
    assert np.abs(near.forward(x.astype(np.float32), Cache()) - lora.forward(x, Cache())).max() < 1e-5
    with pytest.raises(ValueError, match="read-only"):
        lora.W[0, 0] = 1.0


def test_a_model_in_another_precision_is_merged_and_freed_in_it() -> None:
    gpt = model().astype(np.float32)
    add_lora(gpt, rank=2)
    for change in (merge_lora, remove_lora):
        wide = gpt.astype(np.float64)
        change(wide)
        assert wide.forward(IDS[:, :-1], Cache()).dtype == np.float64
        assert np.abs(wide.forward(IDS[:, :-1], Cache()) - gpt.forward(IDS[:, :-1], Cache())).max() < 1e-4


def test_a_linear_that_is_used_twice_gets_one_update() -> None:
    class Twice(Layer):
        def __init__(self) -> None:
            self.first = self.second = of_order_one(Linear(3, 3), np.random.default_rng(0))

    layer = Twice()
    assert len(add_lora(layer, 1)) == 1 and layer.first is layer.second
    merge_lora(layer)
    assert isinstance(layer.first, Linear) and layer.first is layer.second


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="add_lora: GPT has no npgpt.layers.Linear inside.*twin"):
        add_lora(twin(model().astype(np.float32)), 1)
    with pytest.raises(ConfigError, match="LoRA: rank must be at least 1, not 0"):
        LoRA(Linear(3, 4), 0)
    with pytest.raises(ShapeError, match="LoRA: x has shape"):
        LoRA(Linear(3, 4), 1).forward(np.zeros((2, 4)), Cache())


@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    extra=st.integers(0, 3),
    positions=st.sampled_from(["learned", "sinusoidal", "rotary", "alibi", "relative-bias", "relative-keys", "none"]),
    seed=st.integers(0, 99),
)
def test_padding_on_the_right_gives_the_gradients_of_unpadded_texts(
    lengths: list[int], extra: int, positions: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    gpt = of_order_one(
        GPT(GPTConfig(11, 12, n_layer=1, n_head=2, n_embd=8, positions=positions), dtype=np.float64), rng
    )
    T, count = max(lengths) + extra, sum(lengths)
    ids, targets = rng.integers(0, 11, (2, len(lengths), T))
    for b, n in enumerate(lengths):
        targets[b, n:] = IGNORE_INDEX  # what stands there does not matter
    cache = Cache()
    loss = float(gpt.loss(ids, targets, cache))
    gpt.loss_backward(1.0, cache)
    padded = {name: param.grad.copy() for name, param in gpt.parameters().items()}
    gpt.zero_grad()
    alone = 0.0
    for b, n in enumerate(lengths):
        cache = Cache()
        alone += float(gpt.loss(ids[b : b + 1, :n], targets[b : b + 1, :n], cache, count))
        gpt.loss_backward(1.0, cache)
    assert loss == pytest.approx(alone, abs=1e-12)
    for name, param in gpt.parameters().items():
        assert np.abs(padded[name] - param.grad).max() < 1e-11, name
