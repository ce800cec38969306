"""Rows that hold several documents: each gets the logits and the gradients that it gets alone."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npgpt
from npgpt.build import make_gpt
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache, KeyValues, Layer
from npgpt.data import pack_rows
from npgpt.errors import DataError, NpgptError, ShapeError
from npgpt.layers import IGNORE_INDEX, Attention, Scores
from npgpt.layers.schemes import SCHEMES
from npgpt.model import GPT
from npgpt.study.check.cases import Case, TrainingLoss, of_order_one
from npgpt.study.check.checker import check_case
from npgpt.train import accumulate

V = 11
CHOICES: dict[str, dict[str, Any]] = {
    **{positions: {"positions": positions} for positions in SCHEMES},
    "concatenated": {"combine": "concatenate", "n_position": 3},
    "sinusoids concatenated": {"positions": "sinusoidal", "combine": "concatenate", "n_position": 3},
    "unprojected": {"combine": "concatenate-unprojected", "n_position": 3, "tie_weights": False},
}
ALLOWED = {"textbook": 1e-12, "compiled": 2e-6}


def model_of(name: str, kernels: str, T: int, n_layer: int = 2) -> GPT:
    """A model with weights of order one; the textbook's in float64."""
    config = GPTConfig(V, T, n_layer, n_head=2, n_embd=8, **CHOICES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = of_order_one(make_gpt(config, kernels), np.random.default_rng(0))
    return model if kernels == "compiled" else model.astype(np.float64)


def pieces(documents: Array) -> list[tuple[slice, slice]]:
    """The row and the place of each document."""
    found = []
    for b, row in enumerate(documents):
        starts = np.flatnonzero(np.diff(row, prepend=row[0] - 1))
        found += [(slice(b, b + 1), slice(*ends)) for ends in zip(starts, [*starts[1:], len(row)], strict=True)]
    return found


def numbered(*lengths: list[int]) -> Array:
    return np.array([np.repeat(np.arange(len(row)), row) for row in lengths])


def each_document_is_alone(model: GPT, documents: Array, allowed: float) -> None:
    rng = np.random.default_rng(1)
    ids, dlogits = rng.integers(0, V, documents.shape), rng.normal(size=(*documents.shape, V))
    dlogits = dlogits.astype(model.flat.values.dtype)
    cache = Cache(documents=documents)
    model.zero_grad()
    logits = model.forward(ids, cache).copy()
    model.backward(dlogits, cache)
    packed = model.flat.grads.copy()
    model.zero_grad()
    alone = np.empty_like(logits)
    for piece in pieces(documents):
        cache = Cache()
        alone[piece] = model.forward(ids[piece], cache)
        model.backward(dlogits[piece], cache)
    assert np.abs(alone - logits).max() < allowed * np.abs(logits).max()
    assert np.linalg.norm(packed - model.flat.grads) < allowed * np.linalg.norm(packed)
    for path, param in model.parameters().items():  # also of a small tensor beside large ones
        assert np.isfinite(param.grad).all(), path


@pytest.mark.parametrize("kernels", ["textbook", "compiled"])
@pytest.mark.parametrize("name", CHOICES)
def test_each_document_gets_what_it_gets_alone(name: str, kernels: str) -> None:
    """With documents of one token, and beyond the tiled kernel's 32 queries and 96 keys."""
    for documents in (numbered([100, 1, 33, 32, 1, 1, 62], [7, 25, 97, 101]), numbered([3, 1, 4], [1] * 8)):
        each_document_is_alone(model_of(name, kernels, documents.shape[1]), documents, ALLOWED[kernels])


@given(
    st.sampled_from(list(CHOICES)), st.sampled_from(list(ALLOWED)), st.integers(1, 3), st.integers(1, 140),
    st.sampled_from([0.01, 0.1, 0.9]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_documents_in_any_places(name: str, kernels: str, B: int, T: int, p: float, seed: int) -> None:
    documents = (np.random.default_rng(seed).random((B, min(T, 30) if p == 0.9 else T)) < p).cumsum(1) + 5
    each_document_is_alone(model_of(name, kernels, T, n_layer=1), documents, ALLOWED[kernels])


@pytest.mark.parametrize("name", ["learned", "relative-keys", "rotary", "alibi", "sinusoids concatenated"])
def test_gradients_are_those_of_differences(name: str) -> None:
    gpt = model_of(name, "textbook", 5, n_layer=1)
    ids = np.random.default_rng(1).integers(0, V, (2, 2, 5))
    case = Case(name, TrainingLoss(gpt), {"ids": ids[0], "targets": ids[1]}, documents=numbered([2, 1, 2], [4, 1]))
    assert check_case(case).passed


def test_vectors_in_place_of_ids_and_another_head() -> None:
    model, documents = model_of("learned", "textbook", 6), numbered([2, 4])
    x, dnormed = np.random.default_rng(0).normal(size=(2, 1, 6, 8))
    cache = Cache(documents=documents)
    normed = model.forward_to_head(x, cache)
    dx = model.backward_from_head(dnormed, cache)
    for piece in pieces(documents):
        cache = Cache()
        assert np.abs(model.forward_to_head(x[piece], cache) - normed[piece]).max() < 1e-12
        assert np.abs(model.backward_from_head(dnormed[piece], cache) - dx[piece]).max() < 1e-12


class LastTwo(Scores):
    """A reader's own scores: a token attends to itself and to the one before it."""

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        T = q.shape[2]
        return np.where(np.tri(T, k=-2, dtype=bool), -np.inf, super().forward(q, k, cache))

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        return super().backward(ds, cache)


def test_scores_of_a_users_own_class_see_their_own_document() -> None:
    layer: Layer = of_order_one(Attention(4, 2, score=LastTwo()), np.random.default_rng(0))
    x, documents = np.random.default_rng(1).normal(size=(1, 5, 4)), numbered([3, 2])
    y = layer.forward(x, Cache(documents=documents))
    for piece in pieces(documents):
        assert np.abs(layer.forward(x[piece], Cache()) - y[piece]).max() < 1e-13


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("kernels", ["textbook", "compiled"])
def test_a_packed_batch_trains_as_the_padded_one(kernels: str, micro_batches: int) -> None:
    rng, T = np.random.default_rng(0), 12
    texts = [rng.integers(0, V, n + 1) for n in rng.integers(1, T + 1, 17)]
    padded = np.zeros((2, len(texts), T), int)
    padded[1] = IGNORE_INDEX
    for i, text in enumerate(texts):
        padded[0, i, : len(text) - 1], padded[1, i, : len(text) - 1] = text[:-1], text[1:]
    x, y, documents = pack_rows([text[:-1] for text in texts], [text[1:] for text in texts], T)
    assert len(x) < len(texts) and (y != IGNORE_INDEX).sum() == (padded[1] != IGNORE_INDEX).sum()
    model, cache = model_of("learned", kernels, T), Cache(training=True)
    loss = accumulate(model, *padded, cache, micro_batches)
    right = model.flat.grads.copy()
    assert accumulate(model, x, y, cache, micro_batches, documents=documents) == pytest.approx(loss, rel=1e-6)
    assert np.linalg.norm(model.flat.grads - right) < ALLOWED[kernels] * np.linalg.norm(right)
    with pytest.raises(DataError, match="the cache has documents, perhaps those of another batch"):
        accumulate(model, *padded, cache)
    cache.reset(documents=None)
    assert accumulate(model, *padded, cache, micro_batches) == loss


def test_packed_rows_hold_every_document_once() -> None:
    texts = [[i + 1] * n for i, n in enumerate([3, 1, 7, 2, 4, 4])]
    x, y, documents = pack_rows(texts, [np.array(text) for text in texts], 7)
    assert x.tolist() == y.tolist() == [[3] * 7, [5, 5, 5, 5, 1, 1, 1], [6, 6, 6, 6, 4, 4, 2]]
    assert documents.tolist() == [[0] * 7, [0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1, 2]]
    assert [array.shape for array in pack_rows([], [], 7)] == [(0, 0)] * 3


@pytest.mark.parametrize(
    ("ids", "targets", "message"),
    [
        ([[1]], [], "two lists with one list for each document"),
        ("12", "12", r"ids\[0\] must be an array"),
        (3, [[1]], "two lists"),
        ([[1, 2]], [[1]], "document 0 has 2 ids and 1 targets; both need the same number, 1 to 4"),
        ([[1], []], [[1], []], "document 1 has 0 ids"),
        ([[1] * 5], [[1] * 5], "document 0 has 5 ids and 5 targets"),
        ([[1.5]], [[1]], r"ids\[0\] must be an array \(n,\) of integers, not float64"),
    ],
)
def test_documents_that_cannot_be_packed(ids: Any, targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pack_rows(ids, targets, 4)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([[0, 0, 1]], r"must be an array \(B, T\) of integers, the number of each token's document, not \[\[0"),
        (np.array([[0.0, 0.0, 1.0]]), r"not an array \(1, 3\) of float64"),
        (np.array([[False, True, True]]), r"not an array \(1, 3\) of bool"),
        (np.array([0, 0, 1]), r"not an array \(3,\) of int64"),
        (np.ma.masked_array([[0, 0, 1]], [[0, 1, 0]]), "masked"),
        (np.array([[0, 1, 0]]), r"documents\[0, 2\] is 0 after 1; the numbers in a row must not fall"),
        (np.array([[0, 0, -1]]), r"documents\[0, 2\] is -1 after 0"),
        (np.array([[2, 3, 1]], np.uint64), r"documents\[0, 2\] is 1 after 3"),
    ],
)
def test_numbers_that_are_no_documents(documents: Any, message: str) -> None:
    for make in (lambda: Cache(documents=documents), lambda: Cache().reset(documents=documents)):
        with pytest.raises(NpgptError, match=message):
            make()


@pytest.mark.parametrize("kernels", ["textbook", "compiled"])
@pytest.mark.parametrize("name", ["learned", "alibi"])
def test_documents_of_another_shape_are_refused(name: str, kernels: str) -> None:
    model, ids = model_of(name, kernels, 6), np.ones((2, 4), int)
    for shape in ((2, 5), (1, 4), (4, 2)):
        with pytest.raises(ShapeError, match=r"documents has shape \(.*\), but this pass has \(2, 4\) tokens"):
            model.forward(ids, Cache(documents=np.zeros(shape, int)))
        with pytest.raises(ShapeError, match=r"this pass has \(2, 4\) tokens"):
            accumulate(model, ids, ids, Cache(), documents=np.zeros(shape, int))


def test_documents_are_not_continued() -> None:
    documents = np.zeros((1, 3), int)
    for past in (KeyValues(), [KeyValues()]):
        with pytest.raises(DataError, match="documents cannot be given with past"):
            Cache(record=False, past=past, documents=documents)
        with pytest.raises(DataError, match="documents cannot be given with past"):
            Cache(record=False, past=past).reset(documents=documents)


def test_a_cache_keeps_its_documents_until_it_gets_others() -> None:
    documents = numbered([1, 2])
    cache = Cache(documents=documents)
    documents[...] = 7  # the cache has its own copy
    assert cache.documents is not None and cache.documents.tolist() == [[0, 1, 1]]
    starts = cache.reset(step=3).scope("a").starts(1, 3)
    assert starts is not None and starts.tolist() == [[0, 1, 1]]
    assert cache.reset(documents=None).starts(5, 5) is None and cache.documents is None


def test_a_trace_knows_no_rules_for_documents() -> None:
    from npgpt.study.explain.rules import operations_of

    model, ids = model_of("learned", "textbook", 4, n_layer=1), np.array([[1, 2, 3, 4]])
    trace = npgpt.trace(model, ids, ids)
    assert operations_of(trace)
    packed = type(trace)(dataclasses.replace(trace.case, documents=numbered([2, 2])), trace.dy)
    assert operations_of(packed) is None
