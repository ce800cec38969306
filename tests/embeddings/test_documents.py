"""Vectors of documents equal their formulas, PV-DBOW's gradients are right, and similar texts are near."""

import dataclasses
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.build import make_gpt, twin
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.embeddings.documents import (
    BagOfWords,
    array_of_state,
    common_direction,
    gpt_vectors,
    mean,
    numbers_of,
    sif,
    tf_idf,
    without,
    words_of,
)
from npgpt.embeddings.index import DocumentIndex
from npgpt.embeddings.pv_dbow import DocumentWords, PVConfig, PVModel, train_pv_dbow
from npgpt.embeddings.vectors import WordVectors, unit
from npgpt.errors import ConfigError, DataError, ShapeError
from npgpt.study.check.cases import Case, of_order_one
from npgpt.study.check.checker import check_case, gradcheck
from npgpt.study.check.laws import LAWS_OF_COMPILED, Law, laws_for
from npgpt.study.check.report import METHODS
from npgpt.tokenizer import END_OF_TEXT, CharTokenizer

TEXTS = ["the cat sat on the mat", "the dog sat on the log, the dog!", "a cat is not a dog", "war and peace and war"]
WORDS = sorted({word for text in TEXTS for word in words_of(text)})
TABLE = WordVectors(WORDS, np.random.default_rng(0).normal(size=(len(WORDS), 5)))


def by_hand(text: str, weight: dict[str, float], vector: dict[str, Array]) -> Array:
    words = list(words_of(text))
    total: Array = np.sum([weight[word] * vector[word] for word in words], axis=0) / len(words)
    return total


def test_tf_idf_equals_its_formula() -> None:
    bag = tf_idf(TEXTS)
    having = Counter(word for text in TEXTS for word in set(words_of(text)))
    one_hot = dict(zip(bag.words, np.eye(len(bag.words)), strict=True))
    idf = {word: np.log(5 / having[word]) for word in having}
    assert np.allclose(bag.encode(TEXTS), [by_hand(text, idf, one_hot) for text in TEXTS], atol=1e-6)
    assert (unit(bag.encode(["peace"])) @ unit(bag.encode(TEXTS)).T)[0].argmax() == 3
    assert tf_idf(TEXTS, max_words=2).words == ["cat", "dog"]
    with pytest.raises(DataError, match="no words"):
        tf_idf(["...", ""])


def test_mean_and_sif_equal_their_formulas() -> None:
    vector = {word: TABLE[word] for word in WORDS}
    means = [by_hand(text, dict.fromkeys(WORDS, 1.0), vector) for text in TEXTS]
    assert np.allclose(mean(TABLE).encode(TEXTS), means, atol=1e-6)
    counts = Counter(word for text in TEXTS for word in words_of(text))
    weight = {word: 0.05 / (0.05 + counts[word] / counts.total()) for word in WORDS}
    x = np.array([by_hand(text, weight, vector) for text in TEXTS])
    u = np.linalg.svd(x)[2][0]
    assert np.allclose(sif(TABLE, TEXTS, a=0.05).encode(TEXTS), x - np.outer(x @ u, u), atol=1e-5)


def test_words_are_found_as_written_or_in_lower_case() -> None:
    index = {"may": 0, "May": 1, "king": 2}
    assert numbers_of("In May the King may, MAY go", index).tolist() == [1, 2, 0, 0]
    assert numbers_of("", index).tolist() == []


def test_the_end_of_a_text_is_a_border_and_no_word() -> None:
    joined, apart = f"a cat{END_OF_TEXT}dog, the cat{END_OF_TEXT}", "a cat dog, the cat"
    assert list(words_of(joined)) == list(words_of(apart))
    assert list(words_of("endoftext")) == ["endoftext"]
    assert list(words_of("a\ud801\udc37 \ud801\udc37")) == ["a𐐷", "𐐷"]  # halves of a letter
    assert tf_idf([joined, *TEXTS]).words == tf_idf([apart, *TEXTS]).words
    for bag in (tf_idf(TEXTS), mean(TABLE), sif(TABLE, TEXTS)):
        assert np.array_equal(bag.encode([joined]), bag.encode([apart]))
    learned = train_pv_dbow([joined, *TEXTS], PVConfig(n_embd=4, min_count=1, epochs=1))
    assert "endoftext" not in learned.words


@given(st.lists(st.sampled_from([*WORDS, "unknown", "THE", "?!"]), max_size=8), st.randoms())
def test_a_bag_ignores_order_and_length(words: list[str], random: object) -> None:
    shuffled = sorted(words, key=lambda word: hash((word, str(random))))
    for bag in (tf_idf(TEXTS), mean(TABLE), sif(TABLE, TEXTS)):
        once, again, twice, none = bag.encode([" ".join(words), " ".join(shuffled), " ".join(words * 2), "?!"])
        assert np.allclose(once, again, atol=1e-6) and np.allclose(once, twice, atol=1e-6)
        assert not none.any() and np.isfinite(once).all()


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_the_common_direction_is_the_first_singular_vector(D: int, C: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(D, C))
    u = common_direction(x)
    assert np.linalg.norm(u) == pytest.approx(1)
    assert np.linalg.norm(x @ u) == pytest.approx(np.linalg.svd(x)[1][0])
    assert np.abs(without(x, u) @ u).max() < 1e-9


def test_unit_vectors_of_tiny_and_huge_vectors() -> None:
    x = np.array([[3e-30, 4e-30], [3e30, 4e30], [0, 0]], np.float32)
    expected = np.array([[0.6, 0.8], [0.6, 0.8], [0, 0]])
    assert np.allclose(unit(x), expected) and unit(x).dtype == np.float32
    x = np.array([[3e-200, 4e-200], [3e200, 4e200], [0, 0]])
    assert np.allclose(unit(x), expected) and unit(x[0]).shape == (2,)


def test_a_state_restores_the_encoder_and_a_wrong_state_is_rejected() -> None:
    for bag in (tf_idf(TEXTS), mean(TABLE), sif(TABLE, TEXTS)):
        assert np.array_equal(BagOfWords.from_state(*bag.state()).encode(TEXTS), bag.encode(TEXTS))
    with pytest.raises(ShapeError, match=r"weights has shape \(3,\), expected \(2,\)"):
        BagOfWords(["a", "b"], np.ones(3))
    with pytest.raises(ShapeError, match="direction has shape"):
        BagOfWords(["a", "b"], np.ones(2), np.ones((2, 4)), np.ones(3))
    with pytest.raises(DataError, match="vectors must be finite"):
        BagOfWords(["a"], np.ones(1), np.array([[np.nan]]))
    with pytest.raises(DataError, match="is repeated"):
        BagOfWords(["a", "a"], np.ones(2))


HUGE = np.full((2, 3), 1e38, np.float32)
ONES = np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BagOfWords(["a", "b"], HUGE[:, 0], HUGE), "could be too large for float32"),
        (lambda: BagOfWords(["a", "b"], ONES * 1e-3, HUGE, np.full(3, 1e38)), "direction must be a unit vector"),
        (lambda: PVModel(["a", "b"], HUGE, ONES, ONES / 2, 5, 0.1), "numbers of table must be at most 1,000,000"),
        (
            lambda: PVModel(["a", "b"], HUGE * 1e-38, ONES, ONES / 2, 10**30, 0.1),
            "negative must be at most 1000000, not",
        ),
        (lambda: PVModel(["a", "b"], HUGE * 1e-38, ONES, ONES / 2, 5, 1e-300), "pull 1e-30 to 1,000,000"),
        (lambda: PVModel(["a", "b"], HUGE * 1e-38, ONES * 2, ONES / 2, 5, 0.1), "keep and noise are shares"),
        (lambda: PVModel(["a", "b"], HUGE * np.nan, ONES, ONES / 2, 5, 0.1), "numbers of table"),
        (lambda: array_of_state({"table": HUGE.astype(int)}, "table"), "table must hold floats, not int64"),
        (lambda: PVModel(["a", "b"], HUGE, ONES, ONES[:1], 5, 0.1), "a row for each of 2"),
        (lambda: BagOfWords.from_state({"words": "ab"}, {"weights": ONES}), "words must be a list, not 'ab'"),
        (lambda: BagOfWords.from_state({"words": ["a", 2]}, {"weights": ONES}), "words is not a list of strings"),
        (lambda: BagOfWords.from_state({"words": ["a", "b"]}, {}), "the tensor weights is missing"),
    ],
)
def test_an_encoder_that_could_overflow_is_refused(make: Callable[[], object], says: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(DataError, match=says):
        make()


def test_few_words_with_many_channels_are_encoded_fast() -> None:
    rng = np.random.default_rng(0)
    model = PVModel(["a", "b"], rng.normal(size=(2, 50_000)) / 100, ONES, ONES / 2, 5, 0.1)  # a square of it: 20 GB
    assert np.isfinite(model.encode(["a b"])).all() and model.encode(["a"]).any()
    table, noise = rng.normal(size=(3, 4)), np.array([0.25, 0.5, 0.25])
    wide, padded = (PVModel(["a", "b", "c", *more], np.pad(table, [(0, len(more)), (0, 0)]), np.ones(3 + len(more)),
                    np.pad(noise, (0, len(more))), 5, 0.1) for more in ([], ["d"]))  # fmt: skip
    assert np.allclose(wide.encode(["a b", "c"]), padded.encode(["a b", "c"]), atol=1e-6)


def test_large_vectors_below_the_limit_are_encoded() -> None:
    large = np.random.default_rng(0).normal(size=(len(WORDS), 3)).astype(np.float32) * np.float32(1e36)
    table = WordVectors(WORDS, large)
    for bag in (mean(table), sif(table, TEXTS)):
        assert np.isfinite(bag.encode(TEXTS)).all() and bag.encode(TEXTS).any()
        assert np.isfinite(DocumentIndex(TEXTS, TEXTS, bag.encode(TEXTS)).vectors).all()


def test_all_vectors_of_documents_are_float32() -> None:
    tokenizer = CharTokenizer.train("".join(TEXTS))
    model = make_gpt(GPTConfig(tokenizer.vocab_size, 4, n_layer=1, n_head=2, n_embd=8), "textbook")
    bag = BagOfWords(WORDS, np.ones(len(WORDS)), TABLE.vectors, common_direction(np.eye(5)))  # a float64 direction
    for encoder in (tf_idf(TEXTS), mean(TABLE), sif(TABLE, TEXTS), bag, train_pv_dbow(TEXTS, PVConfig(min_count=1))):
        assert encoder.encode(TEXTS).dtype == np.float32
    assert gpt_vectors(model, tokenizer, TEXTS).dtype == np.float32
    for dtype in (np.float32, np.float64):
        x = np.eye(3, dtype=dtype)
        assert common_direction(x).dtype == without(x, common_direction(x)).dtype == dtype


# ---- A GPT's final hidden states.


def test_gpt_vectors_are_means_over_windows_for_any_batch_size() -> None:
    texts = ["abcabc", "", "a", f"abcd{END_OF_TEXT}efghijk", "bb"]
    tokenizer = CharTokenizer.train("".join(texts))
    model = make_gpt(GPTConfig(tokenizer.vocab_size, 4, n_layer=1, n_head=2, n_embd=8), "textbook")
    for param in model.parameters().values():
        param.value += np.random.default_rng(0).normal(size=param.value.shape).astype(np.float32) / 3
    expected = np.zeros((5, 8))
    for d, text in enumerate(texts):
        ids = tokenizer.encode(text, {END_OF_TEXT})
        rows = []
        for start in range(0, len(ids), 4):
            cache = Cache()
            model.forward(np.array([ids[start : start + 4]]), cache)
            rows.append(cache["normed"][0])
        expected[d] = np.concatenate(rows).mean(0) if rows else 0
    for batch_size in (1, 2, 50):
        assert np.allclose(gpt_vectors(model, tokenizer, texts, batch_size), expected, atol=1e-5)
    assert np.allclose(gpt_vectors(twin(model), tokenizer, texts), expected, atol=1e-4)


# ---- PV-DBOW.


def document_words() -> Case:
    rng = np.random.default_rng(0)
    inputs = {"documents": np.array([0, 1, 0]), "words": rng.integers(0, 7, (3, 4))}
    inputs["words"][0, :2] = 3  # the word itself drawn as noise
    wrong = inputs | {"words": inputs["words"] + 7}
    return Case("DocumentWords", of_order_one(DocumentWords(2, 7, 5), rng), inputs, wrong)


def compiled_document_words() -> Case:
    case = document_words().astype(np.float32)
    return dataclasses.replace(case, layer=twin(case.layer))


def test_all_methods_confirm_the_gradients_of_pv_dbow() -> None:
    report = check_case(document_words())
    assert {check.method for check in report} == set(METHODS)
    assert report.passed and not any(check.skipped for check in report), f"\n{report}"


@pytest.mark.parametrize("law", laws_for(document_words()), ids=lambda law: law.__name__)
def test_pv_dbow_obeys_the_laws(law: Law) -> None:
    law(document_words())


@pytest.mark.parametrize("law", laws_for(compiled_document_words(), LAWS_OF_COMPILED), ids=lambda law: law.__name__)
def test_pv_dbow_over_compiled_tables_obeys_the_laws(law: Law) -> None:
    law(compiled_document_words())


def test_the_loss_equals_the_papers_and_does_not_overflow() -> None:
    case = document_words()
    d = case.layer.parameters()["documents.weight"].value[case.inputs["documents"]]
    w = case.layer.parameters()["words.weight"].value[case.inputs["words"]]
    s = np.einsum("nc,nkc->nk", d, w)
    sigmoid = 1 / (1 + np.exp(-s))
    plain = -(np.log(sigmoid[:, 0]).sum() + np.log(1 - sigmoid[:, 1:]).sum()) / 3
    assert float(case.forward(case.cache())) == pytest.approx(plain)
    for param in case.layer.parameters().values():
        param.value *= 1e3
    with np.errstate(all="raise", under="ignore"):
        cache = case.cache()
        assert np.isfinite(case.forward(cache)) and case.forward(cache.reset()) > 1e3
        case.layer.backward(1.0, cache)


def small_model() -> PVModel:
    rng = np.random.default_rng(0)
    noise = rng.random(6)
    words = [f"w{i}" for i in range(6)]
    return PVModel(words, rng.normal(size=(6, 3)), rng.random(6), noise / noise.sum(), negative=2, pull=0.3)


def test_the_gradient_for_a_new_document() -> None:
    model = small_model()
    share = model.shares(["w0 w3 w3", "w5"]).astype(np.float64)
    assert np.allclose(share.sum(1), 1)
    d = np.random.default_rng(1).normal(size=(2, 3))
    report = gradcheck(
        lambda d: model.loss(d, share),
        d,
        backward=lambda dy, d: dy[:, None] * model.gradient(d, share),
        methods=("differences", "sweep", "Taylor"),
        constants=["*"],
    )
    assert report.passed, f"\n{report}"


def test_the_vector_of_a_new_document_is_the_optimum() -> None:
    model = small_model()
    texts = ["w0 w3 w3", "w5 unknown", "nothing known"]
    d, share = model.encode(texts, steps=300), model.shares(texts)
    assert not d[2].any()
    assert np.abs(model.gradient(d, share)[:2]).max() < 1e-5
    best, rng = model.loss(d, share), np.random.default_rng(2)
    for size in (1e-1, 1.0, 10.0):
        assert (model.loss(d + size * rng.normal(size=d.shape), share)[:2] > best[:2]).all()
    assert np.array_equal(PVModel.from_state(*model.state()).encode(texts, steps=300), d)


def topics(seed: int, n: int, length: int) -> list[str]:
    """Return texts that draw half of their words from one of four topics."""
    rng = np.random.default_rng(seed)
    texts = []
    for d in range(n):
        numbers, own = rng.integers(0, 30, length), rng.random(length) < 0.5
        texts.append(" ".join(f"t{d % 4}w{k}" if mine else f"any{k}" for k, mine in zip(numbers, own, strict=True)))
    return texts


def test_pv_dbow_finds_the_topic() -> None:
    texts, new = topics(0, 24, 300), topics(1, 24, 12)
    config = PVConfig(n_embd=8, epochs=30, sample=1.0)
    model = train_pv_dbow(texts, config)
    x, q = unit(model.encode(texts)), unit(model.encode(new))
    nearest = (q @ x.T).argmax(1)
    assert ((nearest - np.arange(24)) % 4 == 0).mean() > 0.9
    again = train_pv_dbow(texts, config)
    assert np.array_equal(model.table, again.table)
    assert not np.array_equal(model.table, train_pv_dbow(texts, dataclasses.replace(config, seed=2)).table)
    assert np.allclose(model.table, train_pv_dbow(texts, config, layers="textbook").table, atol=1e-5)


def test_pv_dbow_rejects_invalid_arguments() -> None:
    with pytest.raises(DataError, match="only 1 of 13 different words occur at least 5 times"):
        train_pv_dbow(TEXTS)
    with pytest.raises(ConfigError, match="epochs must be at least 1, not 0"):
        PVConfig(epochs=0)
    with pytest.raises(ConfigError, match="pull must be above 0, not nan"):
        PVConfig(pull=float("nan"))
    with pytest.raises(DataError, match="a row for each of 2"):
        PVModel(["a", "b"], np.ones((3, 2)), np.ones(2), np.ones(2), 5, 0.1)
