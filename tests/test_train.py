"""Training: micro-batches, dropout, evaluation, convergence, divergence; and sampling."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Cache
from npgpt.errors import ConfigError, DataError, TrainingError
from npgpt.layers import IGNORE_INDEX
from npgpt.model import GPT
from npgpt.sampling import generate
from npgpt.train import accumulate, evaluate, training_steps

TINY = GPTConfig(vocab_size=7, context_length=4, n_layer=2, n_head=2, n_embd=8, dropout=0.1)


def tiny_model(dtype: type = np.float64, **changes: object) -> GPT:
    return GPT(dataclasses.replace(TINY, **changes), dtype=dtype)


@given(B=st.integers(1, 6), parts=st.integers(1, 6), seed=st.integers(0, 99))
def test_micro_batch_gradients_add_up_to_the_batch_gradient(B: int, parts: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    model = tiny_model()
    x, y = random.integers(0, 7, (2, B, 4))
    y[random.random(y.shape) < 0.5] = IGNORE_INDEX  # unequal counts in the parts, also zero
    y[0, 0] = 1
    cache = Cache(training=True, seed=seed)
    whole = accumulate(model, x, y, cache, step=3)
    grads = model.flat.grads.copy()
    assert accumulate(model, x, y, cache, min(parts, B), step=3) == pytest.approx(whole, rel=1e-12)
    assert np.allclose(model.flat.grads, grads, rtol=0, atol=1e-13)
    assert np.abs(grads).max() > 1e-6


def test_batch_without_targets_is_rejected() -> None:
    nothing = np.full((2, 4), IGNORE_INDEX)
    with pytest.raises(DataError, match="every target of the batch is ignored"):
        accumulate(tiny_model(), np.zeros((2, 4), int), nothing, Cache())


@pytest.mark.parametrize("n", [2, 4, 5, 6, 9, 30])
def test_evaluation_counts_every_token_once(n: int) -> None:
    model, ids = tiny_model(), np.random.default_rng(0).integers(0, 7, n)
    total = 0.0
    for start in range(0, n - 1, 4):  # window by window
        x, y = ids[None, start : start + 4][:, : n - 1 - start], ids[None, start + 1 : start + 5]
        total += float(model.loss(x, y, Cache())) * y.size
    assert evaluate(model, ids, batch_size=2) == pytest.approx(total / (n - 1), rel=1e-12)


@pytest.mark.parametrize("n", [2, 9, 30, 41, 400])
@pytest.mark.parametrize("at_most", [1, 4, 11, 40, 41, 1000])
def test_a_sample_is_of_whole_windows_at_equal_distances(n: int, at_most: int) -> None:
    model, ids = tiny_model(), np.random.default_rng(0).integers(0, 7, n)
    kept, windows = max(1, at_most // 4), (n - 1) // 4
    told: list[tuple[int, int]] = []
    found = evaluate(model, ids, 3, at_most, lambda done, in_all: told.append((done, in_all)))
    if kept >= windows:
        assert found == evaluate(model, ids, 3)
        in_all = n - 1
    else:
        starts = [4 * (k * windows // kept) for k in range(kept)]
        parts = [evaluate(model, ids[start : start + 5]) for start in starts]
        assert found == pytest.approx(np.mean(parts), rel=1e-12)
        assert len(set(np.diff(starts))) <= 2 and np.ptp(np.diff(starts)) <= 4 if kept > 1 else starts == [0]
        in_all = 4 * kept
    assert told[-1] == (in_all, in_all) and [done for done, _ in told] == sorted({done for done, _ in told})
    assert {total for _, total in told} == {in_all}


def test_evaluation_of_one_token_is_rejected() -> None:
    with pytest.raises(DataError, match="1 tokens are too few"):
        evaluate(tiny_model(), np.array([1]))


def test_untrained_model_has_the_loss_of_a_uniform_distribution() -> None:
    model = make_gpt(dataclasses.replace(TINY, dropout=0.0))
    ids = np.random.default_rng(0).integers(0, 7, 200)
    assert evaluate(model, ids) == pytest.approx(np.log(7), abs=0.02)


def test_periodic_text_is_learned_and_training_is_reproducible() -> None:
    ids = np.tile([1, 2, 3, 4, 5], 40)
    config = TrainConfig(steps=150, batch_size=4, learning_rate=1e-2, warmup_steps=5, seed=3)

    def run() -> tuple[list[float], GPT]:
        model = make_gpt(TINY, seed=3)
        return [step.loss for step in training_steps(model, ids, config)], model

    losses, model = run()
    assert losses[0] == pytest.approx(np.log(7), abs=0.1)
    assert evaluate(model, ids) < 0.1
    assert run()[0] == losses
    assert list(generate(model, [1, 2], 6, temperature=0)) == [3, 4, 5, 1, 2, 3]


def test_micro_batches_train_the_same_model() -> None:
    ids = np.random.default_rng(0).integers(0, 7, 60)

    def weights(micro_batches: int) -> np.ndarray:
        model = tiny_model()
        config = TrainConfig(steps=4, batch_size=6, micro_batches=micro_batches)
        list(training_steps(model, ids, config))
        return model.flat.values

    assert np.allclose(weights(1), weights(4), atol=1e-9)


def test_a_batch_larger_than_the_text_is_refused_with_the_arithmetic() -> None:
    message = (
        "batch_size 64 is larger than the 29 examples of the text: 33 tokens, context_length 4, stride 1; use a "
        "batch_size of at most 29, a smaller context_length, or a longer text"
    )
    with pytest.raises(DataError, match=message):
        training_steps(tiny_model(), np.zeros(33, int), TrainConfig(batch_size=64))  # at the call
    with pytest.raises(DataError, match="8 examples .* stride 4; use a batch_size of at most 8, a smaller stride"):
        training_steps(tiny_model(), np.zeros(33, int), TrainConfig(batch_size=9, stride=4))
    assert next(training_steps(tiny_model(), np.zeros(33, int), TrainConfig(batch_size=8, stride=4))).number == 1


def test_diverged_training_raises() -> None:
    model = make_gpt(TINY)
    model.flat.values[5] = np.nan
    with pytest.raises(TrainingError, match="step 1: training diverged; the loss is nan"):
        list(training_steps(model, np.tile([1, 2], 20), TrainConfig(steps=2)))


# ---- Sampling


def test_sampling_follows_the_probabilities() -> None:
    model = tiny_model(dropout=0.0)
    model.flat.values[:] = np.random.default_rng(0).normal(size=model.flat.values.size)
    logits = model.forward(np.array([[3]]), Cache())[0, -1]
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    drawn = [next(generate(model, [3], 1, seed=seed)) for seed in range(3000)]
    assert np.allclose(np.bincount(drawn, minlength=7) / 3000, p, atol=0.04)


def test_temperature_0_and_top_1_take_the_most_likely_id() -> None:
    model = tiny_model()
    model.flat.values[:] = np.random.default_rng(1).normal(size=model.flat.values.size)
    greedy = list(generate(model, [1], 8, temperature=0))
    assert list(generate(model, [1], 8, top_k=1, seed=9)) == greedy
    assert list(generate(model, [1], 8, temperature=1e-300)) == greedy
    few = {next(generate(model, [1], 1, temperature=5.0, top_k=3, seed=seed)) for seed in range(200)}
    assert few == set(np.argsort(model.forward(np.array([[1]]), Cache())[0, -1])[-3:].tolist())


def test_sampling_continues_beyond_the_context_and_ends_at_stop() -> None:
    model = make_gpt(TINY)
    ids = list(generate(model, [1, 2, 3, 4, 5, 6], 20, seed=1))
    assert len(ids) == 20
    assert list(generate(model, [1, 2, 3, 4, 5, 6], 20, seed=1, stop=ids[7])) == ids[: ids.index(ids[7])]
    assert list(generate(model, [1], 0)) == []


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"max_tokens": -1}, ConfigError, "max_tokens must be at least 0"),
        ({"temperature": -0.5}, ConfigError, "temperature must be at least 0"),
        ({"temperature": float("nan")}, ConfigError, "temperature must be"),
        ({"top_k": 0}, ConfigError, "top_k must be at least 1"),
        ({"seed": 10**5000}, ConfigError, "seed must be at most 18446744073709551615, not an integer of 16610 bits"),
        ({"seed": -(10**5000)}, ConfigError, "seed must be at least -18446744073709551615, not an integer of 16610"),
        ({"context": 10**5000}, ConfigError, "context must be at most 18446744073709551615, not an integer of 16610"),
        ({"seed": np.timedelta64(3)}, ConfigError, "seed must be a whole number, not np.timedelta64"),
        ({"ids": []}, DataError, "the prompt is empty"),
    ],
)
def test_invalid_sampling_settings_are_rejected(arguments: dict[str, object], kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        list(generate(make_gpt(TINY), **{"ids": [1], "max_tokens": 1} | arguments))


def test_sampling_from_damaged_weights_raises() -> None:
    model = make_gpt(TINY)
    model.flat.values[:] = np.nan
    with pytest.raises(TrainingError, match="weights are damaged"):
        list(generate(model, [1], 1))


def test_unknown_layers_are_rejected() -> None:
    with pytest.raises(ConfigError, match="did you mean textbook"):
        make_gpt(TINY, layers="text-book")
