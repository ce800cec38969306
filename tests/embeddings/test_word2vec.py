"""The kernel equals the layer, the layer's gradients are right, and the bits do not depend on threads."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.embeddings.negative_sampling import NegativeSampling
from npgpt.embeddings.pv_dbow import train_pv_dbow
from npgpt.embeddings.word2vec import Corpus, Word2VecConfig, examples, to_sentences, train_word2vec
from npgpt.errors import ConfigError, DataError
from npgpt.machine.pool import get_num_threads, set_num_threads
from npgpt.study.check.cases import Case, of_order_one
from npgpt.study.check.checker import check_case
from npgpt.study.check.laws import laws_for


def sentences(seed: int, n: int = 30) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [[f"w{min(int(rng.exponential(6)), 20)}" for _ in range(rng.integers(1, 30))] for _ in range(n)]


@pytest.mark.parametrize("neighbours", [1, 3])
def test_gradients_of_negative_sampling(neighbours: int) -> None:
    rng = np.random.default_rng(0)
    layer = of_order_one(NegativeSampling(7, 4), rng)
    labels = np.array([[1, 0, 0, 0]] * 3)
    inputs = {"rows": rng.integers(0, 7, (3, neighbours)), "words": rng.integers(0, 7, (3, 4)), "labels": labels}
    case = Case("NegativeSampling", layer, inputs)
    report = check_case(case)
    assert report.passed, f"\n{report}"
    for law in laws_for(case):
        law(case)


def test_large_scores_do_not_overflow() -> None:
    from npgpt.core import Cache

    layer, cache = NegativeSampling(2, 1), Cache()
    layer.inputs.value[:], layer.outputs.value[:] = [[1000], [0]], [[-1], [1]]
    loss = layer.forward(np.array([[0]]), np.array([[0, 1]]), np.array([[1, 0]]), cache)
    assert float(loss) == pytest.approx(2000)
    layer.backward(1.0, cache)
    assert np.isfinite(layer.inputs.grad).all()


@given(
    seed=st.integers(0, 100),
    algorithm=st.sampled_from(["skip-gram", "cbow"]),
    n_embd=st.integers(1, 40),
    window=st.integers(1, 6),
    negative=st.integers(1, 15),
    sample=st.sampled_from([0.0, 1e-2, 1e-1]),
)
def test_the_kernel_equals_the_textbook(
    seed: int, algorithm: str, n_embd: int, window: int, negative: int, sample: float
) -> None:
    config = Word2VecConfig(
        n_embd, window, 1, negative, sample, epochs=2, learning_rate=0.05, algorithm=algorithm, seed=seed
    )
    text = sentences(seed, 8)
    compiled, textbook = train_word2vec(text, config), train_word2vec(text, config, layers="textbook")
    assert compiled.words == textbook.words
    assert np.allclose(compiled.vectors, textbook.vectors, rtol=0, atol=2e-6)


def test_a_seed_gives_the_same_bits_for_any_number_of_threads() -> None:
    text, before = sentences(1), get_num_threads()
    config = Word2VecConfig(n_embd=20, min_count=1, epochs=2)
    try:
        made = []
        for threads in (1, 3):
            set_num_threads(threads)
            made.append(train_word2vec(text, config).vectors)
        assert np.array_equal(*made)
        other = train_word2vec(text, dataclasses.replace(config, seed=2)).vectors
        assert not np.array_equal(made[0], other)
    finally:
        set_num_threads(before)


def test_noise_has_the_right_distribution() -> None:
    corpus = Corpus([["a"] * 81 + ["b"] * 16 + ["c"]], Word2VecConfig(min_count=1))
    keep, other = corpus.alias_table()
    share = (keep.astype(float) + 1) / 2**32
    drawn = np.zeros(3)
    for word in range(3):
        drawn[word] += share[word] / 3
        drawn[other[word]] += (1 - share[word]) / 3
    assert np.allclose(drawn, np.array([27, 8, 1]) / 36, atol=1e-8)  # counts to the power ¾


def test_frequent_words_are_left_out_more_often() -> None:
    corpus = Corpus([["a"] * 900 + ["b"] * 100], Word2VecConfig(min_count=1))
    keep = corpus.keep_thresholds(0.01) / 2**32
    ratio = 0.01 / np.array([0.9, 0.1])
    assert np.allclose(keep, np.sqrt(ratio) + ratio, atol=1e-6)
    assert (corpus.keep_thresholds(0) == 2**32 - 1).all()


def test_windows_do_not_cross_sentences() -> None:
    config = Word2VecConfig(min_count=1, window=5, sample=0)
    corpus = Corpus([["a", "b"], ["c", "d"]], config)
    pairs = {(example.rows[0], example.words[0]) for example in examples(corpus, config, 0)}
    number = {word: i for i, word in enumerate(corpus.words)}
    assert pairs == {(number[x], number[y]) for x, y in ("ab", "ba", "cd", "dc")}


def test_the_halves_of_a_letter_are_one_letter_of_a_sentence() -> None:
    assert list(to_sentences("a\ud801\udc37 b. \ud801\udc0f", keep_case=True)) == [["a𐐷", "b"], ["𐐏"]]
    assert list(to_sentences("\ud801\udc0f")) == [["𐐷"]]  # in lower case


def test_words_that_occur_together_become_similar() -> None:
    rng = np.random.default_rng(0)
    groups = [["red", "green", "blue"], ["one", "two", "three"]]
    text = [list(rng.choice(groups[i % 2], 8)) for i in range(600)]
    for algorithm in ("skip-gram", "cbow"):
        config = Word2VecConfig(16, window=3, sample=0, epochs=5, learning_rate=0.05, algorithm=algorithm)
        made = train_word2vec(text, config)
        vectors = made.vectors / np.linalg.norm(made.vectors, axis=1, keepdims=True)
        index = {word: i for i, word in enumerate(made.words)}
        inside = vectors[index["red"]] @ vectors[index["green"]]
        across = vectors[index["red"]] @ vectors[index["two"]]
        assert inside > across + 0.3, algorithm


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"algorithm": "skipgram"}, "skip-gram"),
        ({"window": 0}, "window must be at least 1, not 0"),
        ({"negative": 16}, "negative must be at most 15, not 16"),
        ({"sample": 1.0}, "sample"),
    ],
)
def test_invalid_settings_are_rejected(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Word2VecConfig(**changed)  # type: ignore[arg-type]


def test_too_short_a_text_is_rejected() -> None:
    with pytest.raises(DataError, match="min_count"):
        train_word2vec([["a", "b", "c"]])
    with pytest.raises(DataError, match="only 0 of 0"):
        train_word2vec([])


def test_unknown_layers_are_rejected() -> None:
    for train in (train_word2vec, train_pv_dbow):
        with pytest.raises(ConfigError, match="'quick' are unknown; known: compiled, textbook"):
            train([["a", "b"]], layers="quick")  # type: ignore[operator]
