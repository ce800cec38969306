"""Rows of several documents in compiled layers: bits, the path without a tiled kernel, the work that is saved."""

from time import perf_counter

import numpy as np
import pytest

from npgpt import layers
from npgpt.build import make_gpt, twin
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.kernels import attention
from npgpt.machine.pool import get_num_threads, pool, set_num_threads
from npgpt.study.check.cases import Case, Sizes, compile_case, make_case, of_order_one
from npgpt.study.check.laws import equals_its_textbook_twin
from npgpt.train import accumulate


@pytest.mark.parametrize("T", [1, 2, 8, 9, 33, 130])
@pytest.mark.parametrize("name", ["LearnedPositions-packed", "Attention-packed"])
def test_compiled_layers_equal_their_textbook_twins(name: str, T: int) -> None:
    equals_its_textbook_twin(compile_case(make_case(name, Sizes(B=3, T=T, H=2, D=5))))


def test_scores_without_a_tiled_kernel_equal_their_textbook_twin() -> None:
    score = layers.RelativeKeyScores(5, 3)
    layer = of_order_one(layers.Attention(6, 2, 0.2, score=score), np.random.default_rng(0))
    documents = np.array([[0] * 5 + [1] * 4, [0] + [1] * 8])
    x = np.random.default_rng(1).normal(size=(2, 9, 6))
    equals_its_textbook_twin(compile_case(Case("packed", layer, {"x": x}, training=True, documents=documents)))


def passes(documents: Array | None, x: Array, dy: Array) -> list[Array]:
    layer = twin(of_order_one(layers.Attention(16, 2, 0.1), np.random.default_rng(0)).astype(np.float32))
    cache = Cache(training=True, documents=documents)
    y = layer.forward(x, cache).copy()
    dx = layer.backward(dy, cache).copy()
    return [y, dx, *(param.grad.copy() for param in layer.parameters().values())]


@pytest.mark.parametrize("T", [5, 130])
def test_rows_of_one_document_have_the_bits_of_rows_without_documents(T: int) -> None:
    x, dy = np.random.default_rng(0).normal(size=(2, 3, T, 16)).astype(np.float32)
    for one, other in zip(passes(None, x, dy), passes(np.full((3, T), 4), x, dy), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("positions", ["learned", "relative-bias", "relative-keys", "rotary"])
@pytest.mark.filterwarnings("ignore:.*no tiled kernel")
def test_bits_do_not_depend_on_threads(positions: str) -> None:
    before, found = get_num_threads(), []
    rng = np.random.default_rng(0)
    ids, documents = rng.integers(0, 11, (5, 71)), (rng.random((5, 70)) < 0.1).cumsum(1)
    config = GPTConfig(11, 70, n_layer=2, n_head=2, n_embd=24, dropout=0.1, positions=positions)
    try:
        for n in (1, 2, 3):
            set_num_threads(n)
            model = make_gpt(config)
            accumulate(model, ids[:, :-1], ids[:, 1:], Cache(training=True), 2, documents=documents)
            found.append(model.flat.grads.copy())
    finally:
        set_num_threads(before)
    assert all(np.array_equal(grads, found[0]) and grads.any() for grads in found)


def test_large_scores_of_other_documents_do_no_harm() -> None:
    """A query's own keys have far smaller products than those that it does not see, and far larger ones."""
    T = 200
    x, dy = np.random.default_rng(0).normal(size=(2, 1, T, 16)).astype(np.float32)
    for loud in (slice(0, 100), slice(100, T)):
        scaled = x.copy()
        scaled[:, loud] *= 1e4
        documents = np.repeat([[0, 1]], 100, axis=1)
        whole = passes(documents, scaled, dy)
        assert all(np.isfinite(array).all() for array in whole)
        changed = scaled.copy()
        changed[:, loud] *= -3
        quiet = slice(100, T) if loud.start == 0 else slice(0, 100)
        for one, other in zip(whole[:2], passes(documents, changed, dy)[:2], strict=True):
            assert np.array_equal(one[:, quiet], other[:, quiet])


def test_work_grows_with_the_documents_not_with_the_row() -> None:
    """Sixteen documents of 64 tokens take a fraction of the time that one of 1,024 tokens takes, about an eighth."""
    T, H, D = 1024, 4, 32
    qkv = np.random.default_rng(0).normal(size=(T, 3 * H * D)).astype(np.float32)

    def seconds(starts: Array) -> float:
        mixed, (largest, totals) = np.empty((T, H * D), np.float32), np.empty((2, H * T), np.float32)
        works = np.empty((get_num_threads(), attention.forward_size(T, D)), np.float32)
        options = np.zeros(1, np.int64), 0, 1.0, attention.NO_BIAS, starts
        best = np.inf
        for _ in range(9):
            begin = perf_counter()
            attention.forward(pool(), qkv, qkv, qkv, H, T, T, mixed, largest, totals, *options, works)
            best = min(best, perf_counter() - begin)
        return float(best)

    assert seconds(np.arange(T) // 64 * 64) < 0.5 * seconds(attention.NO_STARTS)
