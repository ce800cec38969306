"""A text that is continued with its keys and values has the logits of the whole text."""

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.build import make_gpt
from npgpt.config import GPTConfig
from npgpt.core import Cache, KeyValues
from npgpt.errors import DataError, ShapeError
from npgpt.layers.schemes import SCHEMES
from npgpt.model import GPT

CONFIGS = {name: {"positions": name} for name in SCHEMES}
CONFIGS |= {"concatenated": {"positions": "learned", "combine": "concatenate"}}
CONFIGS |= {"beside": {"positions": "sinusoidal", "combine": "concatenate-unprojected", "tie_weights": False}}
schemes = pytest.mark.parametrize("scheme", CONFIGS)


def model_of(scheme: str, layers: str, context_length: int = 150) -> GPT:
    sizes: dict[str, Any] = {"vocab_size": 11, "n_layer": 2, "n_head": 2, "n_embd": 24, "n_position": 6}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # relative keys have no tiled kernel
        model = make_gpt(GPTConfig(**(sizes | CONFIGS[scheme]), context_length=context_length), layers, seed=1)
    rng = np.random.default_rng(0)
    for param in model.parameters().values():  # biases too, and scores that are not all alike
        param.value[...] += 0.3 * rng.standard_normal(param.value.shape).astype(param.value.dtype)
    return model


def in_parts(model: GPT, ids: Any, ends: list[int]) -> Any:
    past = KeyValues()
    cache, found = Cache(record=False, past=past), []
    for start, end in pairwise([0, *ends]):
        found.append(model.forward(ids[:, start:end], cache.reset()).copy())
        past.advance(end - start)
    return np.concatenate(found, axis=1)


MODELS = {
    (scheme, layers): model_of(scheme, layers) if layers == "compiled" else model_of(scheme, layers).astype(np.float64)
    for scheme in CONFIGS
    for layers in ("compiled", "textbook")
}


@schemes
@pytest.mark.parametrize("layers", ["compiled", "textbook"])
@given(data=st.data(), B=st.integers(1, 8), T=st.integers(1, 140), seed=st.integers(0, 99))
def test_logits_in_parts_are_those_of_the_whole(scheme: str, layers: str, data: Any, B: int, T: int, seed: int) -> None:
    model = MODELS[scheme, layers]
    ids = np.random.default_rng(seed).integers(0, 11, (B, T))
    ends = data.draw(st.sets(st.integers(1, T), max_size=6).map(lambda ends: sorted({*ends, T})))
    whole = model.forward(ids, Cache(record=False))
    parts = in_parts(model, ids, ends)
    if layers == "compiled":
        assert (parts == whole).all()
    else:
        assert np.abs(parts - whole).max() <= 1e-12


@schemes
def test_one_token_at_a_time_gives_the_same_bits(scheme: str) -> None:
    model = MODELS[scheme, "compiled"]
    ids = np.random.default_rng(3).integers(0, 11, (2, 130))
    assert (in_parts(model, ids, list(range(1, 131))) == model.forward(ids, Cache(record=False))).all()


def test_the_memory_grows_and_is_used_again() -> None:
    model, past = MODELS["learned", "compiled"], KeyValues()
    cache = Cache(record=False, past=past)
    ids = np.arange(130)[None] % 11
    for _ in range(2):
        model.forward(ids[:, :60], cache.reset())
        past.advance(60)
        model.forward(ids[:, 60:], cache.reset())
        size = past.nbytes
        past.clear()
    assert past.nbytes == size == 2 * 2 * 256 * 24 * 4  # layers, keys and values, room, channels, bytes


@pytest.mark.parametrize("change", ["batch", "precision", "model"])
def test_another_batch_or_model_cannot_go_on(change: str) -> None:
    past = KeyValues()
    cache = Cache(record=False, past=past)
    MODELS["none", "compiled"].forward(np.zeros((2, 3), int), cache)
    past.advance(3)
    model = MODELS["none", "textbook" if change == "precision" else "compiled"]
    if change == "model":
        model = make_gpt(GPTConfig(vocab_size=11, n_layer=3, n_head=2, n_embd=24, positions="none"))
    with pytest.raises(ShapeError, match="KeyValues: blocks.* of earlier tokens, but this pass gives"):
        model.forward(np.zeros((1 if change == "batch" else 2, 1), int), cache.reset())


def test_a_text_longer_than_learned_positions_is_refused() -> None:
    model, past = model_of("learned", "textbook", context_length=8), KeyValues()
    cache = Cache(record=False, past=past)
    model.forward(np.zeros((1, 6), int), cache)
    past.advance(6)
    with pytest.raises(ShapeError, match="9 tokens in a row, expected 1 to 8"):
        model.forward(np.zeros((1, 3), int), cache.reset())


@pytest.mark.parametrize("settings", [{"record": True}, {"record": False, "training": True}])
def test_a_pass_for_backward_has_no_past(settings: dict[str, bool]) -> None:
    with pytest.raises(DataError, match="record=False"):
        Cache(past=KeyValues(), **settings)


@schemes
@pytest.mark.parametrize("layers", ["compiled", "textbook"])
@given(lengths=st.lists(st.integers(0, 120), min_size=1, max_size=9), T=st.integers(1, 3), seed=st.integers(0, 99))
def test_texts_of_different_lengths_go_on_together(
    scheme: str, layers: str, lengths: list[int], T: int, seed: int
) -> None:
    model, rng = MODELS[scheme, layers], np.random.default_rng(seed)
    pasts, alone = [KeyValues() for _ in lengths], []
    new = rng.integers(0, 11, (len(lengths), 2 * T))
    for past, n, ids in zip(pasts, lengths, new, strict=True):
        before = rng.integers(0, 11, (1, n))
        if n:
            model.forward(before, Cache(record=False, past=past))
            past.advance(n)
        alone.append(model.forward(np.concatenate([before, ids[None]], axis=1), Cache(record=False))[0, n:])
    cache = Cache(record=False, past=pasts)
    together = []
    for part in (new[:, :T], new[:, T:]):
        together.append(model.forward(part, cache.reset()).copy())
        for past in pasts:
            past.advance(T)
    found = np.concatenate(together, axis=1)
    if layers == "compiled":
        assert (found == alone).all()
    else:
        assert np.abs(found - alone).max() <= 1e-12


def test_a_batch_has_as_many_texts_as_rows() -> None:
    cache = Cache(record=False, past=[KeyValues(), KeyValues()])
    with pytest.raises(ShapeError, match="past has 2 texts, but the batch has 3 rows"):
        MODELS["learned", "compiled"].forward(np.ones((3, 1), int), cache)
    with pytest.raises(DataError, match="for_each_text"):
        cache.with_past("k", np.ones((2, 1, 1, 1)))
    with pytest.raises(DataError, match="a KeyValues, or a list of them"):
        Cache(record=False, past=[1])  # type: ignore[list-item]
