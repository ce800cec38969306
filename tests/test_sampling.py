"""The filters of sampling, stop strings, and keys and values in generation."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.build import make_gpt
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.errors import ConfigError, DataError
from npgpt.layers import MLP
from npgpt.layers.schemes import SCHEMES
from npgpt.model import GPT
from npgpt.sampling import Drawn, draw, generate, generate_batch, keep_top_k, keep_top_p, softmax, until

some_logits = st.lists(st.floats(-30, 30), min_size=1, max_size=40).map(np.array)


def check_filtered(p: Array, kept: Array) -> None:
    """A filter keeps some of the likeliest ids, in their order and in their ratios."""
    assert kept.sum() == pytest.approx(1)
    inside = kept > 0
    assert inside.any() and p[inside].min() >= p[~inside].max(initial=0)
    assert np.allclose(kept[inside] * p[inside].sum(), p[inside])


@given(some_logits, st.floats(0.01, 100))
def test_softmax_sums_to_1_and_keeps_the_order(logits: Array, temperature: float) -> None:
    p = softmax(logits, temperature)
    assert p.sum() == pytest.approx(1) and (np.diff(p[np.argsort(logits)]) >= 0).all()


@given(some_logits)
def test_temperature_0_is_argmax(logits: Array) -> None:
    assert softmax(logits, 0).tolist() == [float(i == np.argmax(logits)) for i in range(len(logits))]


@given(some_logits, st.integers(1, 50))
def test_top_k_keeps_k_ids_and_those_as_likely(logits: Array, k: int) -> None:
    p = softmax(logits)
    kept = keep_top_k(p, k)
    check_filtered(p, kept)
    least = np.sort(p)[-min(k, len(p))]
    assert (kept > 0).sum() == ((p >= least) & (p > 0)).sum()


@given(some_logits, st.floats(0, 1, exclude_min=True))
def test_top_p_keeps_the_fewest_ids_that_reach_the_sum(logits: Array, least: float) -> None:
    p = softmax(logits)
    kept = keep_top_p(p, least)
    check_filtered(p, kept)
    inside = np.sort(p[kept > 0])
    assert inside.sum() >= least - 1e-12
    assert inside[1:].sum() < least + 1e-12  # without the least likely one, it is too little


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_text_ends_before_the_first_complete_stop(text: str, stops: list[str], data: Any) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    pieces = [text[a:b] for a, b in pairwise(cuts)]
    ends = [
        (text[:n].find(stop) + len(stop), text.find(stop))
        for n in range(len(text) + 1)
        for stop in stops
        if stop in text[:n]
    ]
    expected = text[: min(ends)[1]] if ends else text
    assert "".join(until(pieces, stops)) == expected


def model_of(positions: str, **changed: Any) -> GPT:
    sizes = {"vocab_size": 9, "context_length": 12, "n_layer": 2, "n_head": 2, "n_embd": 16, "positions": positions}
    model = make_gpt(GPTConfig(**(sizes | changed)), "textbook", seed=2)
    model.flat.values[:] += 0.3 * np.random.default_rng(0).standard_normal(model.flat.values.size)
    return model


@pytest.mark.parametrize("positions", SCHEMES)
@pytest.mark.parametrize("context", [1, 2, 5, 12])
@pytest.mark.parametrize("n_prompt", [1, 7, 30])
def test_the_window_moves_at_the_same_places_with_and_without_keys(positions: str, context: int, n_prompt: int) -> None:
    model, prompt = model_of(positions), (np.arange(n_prompt) % 9).tolist()
    kept = list(draw(model, prompt, 40, seed=1, context=context))
    model.__class__ = type("Mine", (GPT,), {})  # a user's own class runs whole windows
    whole = list(draw(model, prompt, 40, seed=1, context=context))
    assert [each.token for each in kept] == [each.token for each in whole]
    assert max(np.abs(a.logits - b.logits).max() for a, b in zip(kept, whole, strict=True)) < 1e-5


@pytest.mark.parametrize("positions", SCHEMES)
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 4, "stop": 3}, {"context": 5, "top_p": 0.9}])
def test_a_batch_writes_what_each_prompt_writes_alone(positions: str, settings: dict[str, Any]) -> None:
    model = model_of(positions)
    prompts, seeds = [[1], [2, 3, 4, 5, 6, 7, 8], [0] * 30, [5, 1]], [7, 1, 1, 0]
    alone = [[*generate(model, ids, 25, seed=seed, **settings)] for ids, seed in zip(prompts, seeds, strict=True)]
    assert generate_batch(model, prompts, 25, seeds=seeds, **settings) == alone
    model.__class__ = type("Mine", (GPT,), {})
    assert generate_batch(model, prompts, 25, seeds=seeds, **settings) == alone


def test_a_batch_has_a_seed_for_each_prompt() -> None:
    model = model_of("learned")
    assert generate_batch(model, [[1], [1]], 9) == [[*generate(model, [1], 9, seed=seed)] for seed in (0, 1)]
    assert generate_batch(model, [], 9) == [] and generate_batch(model, [[1]], 0) == [[]]
    for wrong in ([1, 2], 5, "ab", ["ab"]):
        with pytest.raises(DataError, match=r"a list of ids for each text, such as \[\[1, 2\], \[3\]\]"):
            generate_batch(model, wrong, 9)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="seeds must be a list with a number for each prompt, not 5"):
        generate_batch(model, [[1]], 9, seeds=5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="1 seeds for 2 prompts"):
        generate_batch(model, [[1], [1]], 9, seeds=[1])
    with pytest.raises(DataError, match="prompt is empty"):
        generate_batch(model, [[1], []], 9)


def test_a_model_with_a_users_layer_runs_its_whole_window() -> None:
    class Shifting(MLP):
        """It adds the token before, so it cannot go on from keys and values."""

        def forward(self, x: Array, cache: Cache) -> Array:
            before = np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1)
            return super().forward(x + before, cache)

    model = model_of("learned")
    model.blocks[0].mlp.__class__ = Shifting
    ids = [1, 2, 3]
    for token in generate(model, ids, 8, temperature=0):
        logits = model.forward(np.array([ids]), Cache(record=False))[0, -1]
        assert token == np.argmax(logits)
        ids.append(token)


def test_probabilities_are_those_of_the_model() -> None:
    model = model_of("rotary")
    first = next(draw(model, [1, 2], 1, temperature=3.0, top_k=2, top_p=0.9))
    p = softmax(model.forward(np.array([[1, 2]]), Cache())[0, -1].astype(float))
    assert math.exp(first.log_probability) == pytest.approx(p[first.token], abs=1e-6)
    likeliest = first.likeliest(3)
    assert [token for token, _ in likeliest] == np.argsort(-p)[:3].tolist()
    assert [q for _, q in likeliest] == pytest.approx(np.sort(p)[::-1][:3].tolist(), abs=1e-6)


def test_the_log_probability_of_a_hopeless_token_is_finite() -> None:
    drawn = Drawn(1, np.array([0.0, -2000.0]))
    assert drawn.log_probability == -2000 and drawn.likeliest(1) == [(0, 1.0)]


@pytest.mark.parametrize("top_p", [0.0, 1.5, -1, float("nan")])
def test_top_p_is_a_fraction(top_p: float) -> None:
    with pytest.raises(ConfigError, match="top_p must be"):
        generate(model_of("learned"), [1], 1, top_p=top_p)


def test_a_model_continues_a_text_itself() -> None:
    model = GPT(GPTConfig(vocab_size=9, context_length=8, n_layer=1, n_head=2, n_embd=8))
    for temperature in (0, 1):
        assert [*model.generate([1, 2], 6, temperature)] == [*generate(model, [1, 2], 6, temperature)]
    with pytest.raises(ConfigError, match="temperature"):
        model.generate([1], 2, temperature=-1)


@pytest.mark.parametrize("top_k", [None, 3])
def test_the_likeliest_id_is_drawn_at_temperature_0_whatever_is_kept(top_k: int | None) -> None:
    model = GPT(GPTConfig(vocab_size=9, context_length=8, n_layer=1, n_head=2, n_embd=8))
    for each in draw(model, [1], 6, temperature=0, top_k=top_k, top_p=0.5):
        assert each.token == int(np.argmax(each.logits)) == each.likeliest(1)[0][0]
