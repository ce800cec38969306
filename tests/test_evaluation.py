"""Surprisals and what is made of them: every token is scored once, by the prediction that a single pass gives."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npgpt
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.data import encode_texts
from npgpt.errors import ConfigError, DataError, NpgptError, ShapeError, TrainingError
from npgpt.evaluation import bits_per_byte, count_bytes, evaluate, surprisals_of
from npgpt.model import GPT
from npgpt.tokenizer import BPETokenizer, CharTokenizer, WordTokenizer
from npgpt.train import evaluate as disjoint_loss

V = 5
lengths, contexts = st.integers(2, 40), st.integers(1, 9)


class Recorder(GPT):
    """A model that predicts the next id of ``np.arange`` with all certainty, and records what it is given."""

    def __init__(self, context: int, vocab_size: int) -> None:
        super().__init__(GPTConfig(vocab_size, context, n_layer=1, n_head=1, n_embd=2))
        self.windows: list[list[int]] = []

    def forward(self, ids: Array, cache: Cache) -> Array:
        self.windows += ids.tolist()
        return 100.0 * np.eye(self.config.vocab_size)[(ids + 1) % self.config.vocab_size]


def model(context: int, seed: int = 0, vocab_size: int = V) -> GPT:
    """Return a model whose predictions differ much between tokens."""
    made = GPT(GPTConfig(vocab_size, context, n_layer=1, n_head=2, n_embd=4), seed, np.float64)
    made.flat.values *= 30
    return made


def one_by_one(gpt: GPT, ids: Array) -> Array:
    """Return the surprisals from one forward pass for each token, over as much context as the model takes."""
    found = []
    for i in range(1, len(ids)):
        logits = gpt.forward(ids[None, max(0, i - gpt.config.context_length) : i], Cache(record=False))[0, -1]
        p = np.exp(logits - logits.max())
        found.append(-math.log2(p[ids[i]] / p.sum()))
    return np.array(found)


@given(n=lengths, context=contexts, data=st.data())
def test_each_token_is_scored_once_and_after_enough_others(n: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    gpt, ids = Recorder(context, n), np.arange(n)
    assert surprisals_of(gpt, ids, stride) == pytest.approx(np.zeros(n - 1))
    scored = 0
    for window in gpt.windows:
        assert window == list(range(window[0], window[-1] + 1)) and len(window) <= context
        new = window[-1] + 1 - scored  # each id is predicted from the one before it
        assert 0 < new <= (context if scored == 0 else stride)
        assert window[0] == 0 or scored - window[0] >= context - stride
        scored += new
    assert scored == n - 1


@given(n=lengths, context=contexts, seed=st.integers(0, 99))
def test_stride_1_equals_one_forward_pass_for_each_token(n: int, context: int, seed: int) -> None:
    gpt, ids = model(context, seed), np.random.default_rng(seed).integers(0, V, n)
    np.testing.assert_allclose(surprisals_of(gpt, ids, 1), one_by_one(gpt, ids), atol=1e-10)


@given(context=contexts, seed=st.integers(0, 99), data=st.data())
def test_a_window_longer_than_the_text_equals_one_forward_pass(context: int, seed: int, data: st.DataObject) -> None:
    n, stride = data.draw(st.integers(1, context)), data.draw(st.integers(1, context))
    gpt, ids = model(context, seed), np.random.default_rng(seed).integers(0, V, n + 1)
    logits = gpt.forward(ids[None, :-1], Cache(record=False))[0]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(surprisals_of(gpt, ids, stride), -np.log2(p[np.arange(n), ids[1:]]), atol=1e-10)


@given(n=lengths, context=contexts, seed=st.integers(0, 99))
def test_disjoint_windows_give_the_loss_of_training(n: int, context: int, seed: int) -> None:
    gpt, ids = model(context, seed), np.random.default_rng(seed).integers(0, V, 1 + context * n)
    nats = surprisals_of(gpt, ids, context).mean() * math.log(2)
    assert nats == pytest.approx(disjoint_loss(gpt, ids))


@given(texts=st.lists(st.text("ab é<", min_size=1), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_the_numbers_are_made_from_the_surprisals(texts: list[str], seed: int) -> None:
    tokenizer = CharTokenizer("ab é<")
    made = evaluate(model(4, seed, tokenizer.vocab_size), tokenizer, texts, stride=3)
    total = math.fsum(made.surprisals)
    assert made.bytes == sum(len(text.encode()) for text in texts)
    assert made.tokens == len(made.ids) == len(made.surprisals) == sum(map(len, texts)) + len(texts)
    assert made.ids.tolist() == encode_texts(tokenizer, texts).tolist()
    assert made.bits_per_byte == pytest.approx(total / made.bytes)
    assert made.bits_per_byte == pytest.approx(bits_per_byte(made.loss, made.tokens, made.bytes))
    assert made.loss * made.tokens / math.log(2) == pytest.approx(total)
    assert made.perplexity == pytest.approx(math.exp(made.loss)) == pytest.approx(2 ** (total / made.tokens))
    assert (made.context, made.stride) == (4, 3)


@given(text=st.text("the cat", min_size=1).filter(str.strip))
def test_uniform_predictions_give_log2_v_bits_for_each_token(text: str) -> None:
    pairs = BPETokenizer.train(["the cat the cat"], 262)
    for tokenizer in (CharTokenizer("the cat"), pairs, WordTokenizer(["the", "cat"])):
        size = tokenizer.vocab_size
        uniform = model(4, vocab_size=size)
        uniform.flat.values[:] = 0
        made = evaluate(uniform, tokenizer, text)
        assert made.bits_per_byte == pytest.approx(math.log2(size) * made.tokens / len(text.encode()))
        assert made.perplexity == pytest.approx(size)


@pytest.mark.parametrize("layers", ["textbook", "compiled"])
def test_any_number_of_windows_at_once_gives_the_same(layers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpt, ids = npgpt.make_gpt(GPTConfig(50, 8, n_layer=2, n_head=2, n_embd=8), layers), np.arange(77) % 50
    seen: list[tuple[int, int]] = []
    together = surprisals_of(gpt, ids, 3, lambda done, total: seen.append((done, total)))
    monkeypatch.setattr("npgpt.evaluation.AT_ONCE", 1)
    np.testing.assert_allclose(surprisals_of(gpt, ids, 3), together, rtol=1e-6)
    assert seen == [(76, 76)]


def test_end_of_text_is_scored_and_has_no_bytes() -> None:
    tokenizer = CharTokenizer("ab")
    gpt, end = model(4, vocab_size=4), tokenizer.special_tokens["<|endoftext|>"]
    for texts in (["ab", "b"], ["ab<|endoftext|>b"], ["ab<|endoftext|>", "b<|endoftext|>"]):
        made = evaluate(gpt, tokenizer, texts)
        assert made.ids.tolist() == [0, 1, end, 1, end] and made.bytes == 3
    assert count_bytes(["é\ud83d\ude00", "\ud800"]) == 2 + 4 + 3


def test_a_run_and_its_model_give_the_same() -> None:
    train = npgpt.TrainConfig(steps=1, batch_size=2, layers="textbook")
    config = npgpt.RunConfig(npgpt.DataConfig(tokenizer="char"), npgpt.GPTConfig(context_length=4, n_layer=1), train)
    run = npgpt.train_run(config, ["the cat sat on the mat. " * 9])
    of_run, of_model = (npgpt.evaluate(each, run.tokenizer, "the mat") for each in (run, run.model))
    assert of_run.surprisals.tolist() == of_model.surprisals.tolist()
    assert (of_run.context, of_run.stride) == (4, 2)
    assert run.metrics[-1]["val_bits_per_byte"] == pytest.approx(
        run.metrics[-1]["val_loss"] / math.log(2) * len(run.validation_ids) / run.validation_bytes
    )


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"text": ""}, DataError, "no token in this vocabulary; give one"),
        ({"text": "<|endoftext|>"}, DataError, "no token in this vocabulary"),
        ({"text": []}, DataError, "no token in this vocabulary"),
        ({"stride": 5}, ConfigError, "stride must be 1 to 4, the context of the model, not 5"),
        ({"stride": 0}, ConfigError, "stride must be 1 to 4"),
        ({"tokenizer": CharTokenizer("abcdef")}, ShapeError, "but the vocabulary has 4 ids"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(changed: dict[str, Any], error: type[NpgptError], says: str) -> None:
    given = {"model": model(4, vocab_size=4), "tokenizer": CharTokenizer("ab"), "text": "abff"} | changed
    with pytest.raises(error, match=says):
        evaluate(**given)


def test_damaged_weights_and_a_text_without_bytes_are_refused() -> None:
    gpt = model(4, vocab_size=4)
    gpt.flat.values[:] = np.nan
    with pytest.raises(TrainingError, match="logits are not finite"):
        evaluate(gpt, CharTokenizer("ab"), "ab")
    with pytest.raises(DataError, match="2"):
        surprisals_of(gpt, np.array([1]), 1)
    with pytest.raises(DataError, match="no byte"):
        bits_per_byte(1.0, 1, 0)
