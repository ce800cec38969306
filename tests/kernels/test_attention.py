"""The attention kernels against their plain loops and the textbook, near block sizes and with dropout."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from npgpt.core import Cache
from npgpt.kernels import attention, attention_backward, attention_few
from npgpt.kernels.attention import BEYOND, NO_BIAS, NO_STARTS, forward_size
from npgpt.kernels.attention_backward import backward_size
from npgpt.kernels.dropout import plain_dropout
from npgpt.machine.pool import get_num_threads, pool, set_num_threads
from npgpt.study.check.cases import Sizes, compile_case, make_case
from npgpt.study.check.laws import equals_its_textbook_twin


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    n = get_num_threads()
    yield
    set_num_threads(n)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("D", [1, 5, 16, 33])
@pytest.mark.parametrize("T", [1, 2, 31, 32, 33, 95, 96, 97, 128, 200])
def test_attention_equals_its_plain_loops(run_twice: Any, T: int, D: int, p: float, biased: bool) -> None:
    equals_its_plain_loops(run_twice, [T], D, p, biased)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("D", [5, 16])
@pytest.mark.parametrize(
    "lengths",
    [[1, 1], [3, 4], [1] * 33, [23, 25], [33, 1, 32, 31], [96, 97], [1, 150, 40, 9], [71, 1, 73, 55], [63, 60]],
)
def test_packed_documents_equal_their_plain_loops(
    run_twice: Any, lengths: list[int], D: int, p: float, biased: bool
) -> None:
    equals_its_plain_loops(run_twice, lengths, D, p, biased)


def equals_its_plain_loops(run_twice: Any, lengths: list[int], D: int, p: float, biased: bool) -> None:
    """Two rows with documents of these lengths, in the second row the other way round."""
    B, H, C, T = 2, 2, 2 * D, sum(lengths)
    ends = [np.cumsum(row) for row in (lengths, lengths[::-1])]
    starts = np.concatenate(
        [np.repeat(end - row, row) for end, row in zip(ends, (lengths, lengths[::-1]), strict=True)]
    )
    if len(lengths) == 1:
        starts = NO_STARTS
    rng = np.random.default_rng(T)
    qkv, dmixed = (rng.standard_normal((B * T, n)).astype(np.float32) for n in (3 * C, C))
    keys, threshold, kept = np.array([5, -7]), round(p * 2**32), 1 / (1 - p)
    of_distance = biased * rng.standard_normal((H, T)).astype(np.float32)
    bias, width = NO_BIAS, 2 * T + BEYOND
    if biased:
        bias = of_distance[:, np.minimum(abs(np.arange(width) - T), T - 1)]

    def run(guards: Any) -> tuple[Any, Any, Any]:
        works, backward_works = guards.empty(3, forward_size(T, D)), guards.empty(3, backward_size(T, D))
        there, mixed, dqkv = guards.copy(qkv), guards.empty(B * T, C), guards.copy(qkv)
        largest, totals = guards.empty(B * H * T), guards.empty(B * H * T)
        added, dbias = guards.copy(bias), guards.empty(B * H, width) if biased else NO_BIAS
        options = keys, threshold, kept, added
        attention.forward(pool(), there, there, there, H, T, T, mixed, largest, totals, *options, starts, works)
        attention_backward.backward(
            pool(), guards.copy(dmixed), there, largest, totals, H, T, dqkv, keys, threshold, kept, added, dbias,
            starts, backward_works,
        )  # fmt: skip
        return mixed, dqkv, dbias

    mixed, dqkv, dbias = run_twice(run)
    q, k, v = qkv.astype(float).reshape(B, T, 3, H, D).transpose(2, 0, 3, 1, 4)
    dm = dmixed.astype(float).reshape(B, T, H, D).transpose(0, 2, 1, 3)
    for b in range(B):
        dropped = np.ones((1, H * T * T), np.float32)
        plain_dropout(dropped, keys[b : b + 1], threshold, kept, dropped)
        for h, mask in enumerate(dropped.reshape(H, T, T)):
            of_biases = np.zeros(T)
            for end, start in zip(ends[b], [0, *ends[b]], strict=False):
                one, n = slice(start, end), end - start
                of_document, distance = [x[b, h, one] for x in (q, k, v)], of_distance[h, :n].astype(float)
                right = attention.plain_forward(*of_document, mask[one, one], distance)
                assert np.allclose(mixed.reshape(B, T, H, D)[b, one, h], right, atol=1e-5)
                *grads, dbiases = attention_backward.plain_backward(
                    dm[b, h, one], *of_document, mask[one, one], distance
                )
                of_biases[:n] += dbiases
                for part, grad in enumerate(grads):
                    assert np.allclose(dqkv.reshape(B, T, 3, H, D)[b, one, part, h], grad, atol=2e-5)
            assert not biased or np.allclose(dbias[b * H + h, T:0:-1], of_biases, atol=2e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("D", [1, 16, 33, 64])
@pytest.mark.parametrize(("T", "n"), [(1, 1), (1, 97), (2, 96), (3, 97), (8, 8), (8, 95), (8, 200), (1, 300)])
def test_a_few_queries_get_the_bits_of_the_tile(
    run_twice: Any, T: int, n: int, D: int, biased: bool, scale: float
) -> None:
    B, H, C, room = 2, 2, 2 * D, n + 5
    rng = np.random.default_rng(n)
    qkv = (scale * rng.standard_normal((B * T, 3 * C))).astype(np.float32)
    k, v = (scale * rng.standard_normal((2, B * H * room, D))).astype(np.float32) if n > T else (qkv, qkv)
    bias = rng.standard_normal((H, 2 * n + BEYOND)).astype(np.float32) if biased else NO_BIAS

    def run(guards: Any, few: bool) -> tuple[Any, Any, Any]:
        there, keys, values = (guards.copy(array) for array in (qkv, k, v))
        mixed, largest, totals = guards.empty(B * T, C), guards.empty(B * H * T), guards.empty(B * H * T)
        arguments = pool(), there, keys, values, H, T, n, mixed, largest, totals
        if few:
            attention_few.forward(*arguments, guards.copy(bias), guards.empty(3, attention_few.forward_size(T, D)))
        else:
            works = guards.empty(3, forward_size(n, D))
            attention.forward(*arguments, np.zeros(B, np.int64), 0, 1.0, guards.copy(bias), NO_STARTS, works)
        return mixed, largest, totals

    wanted = run_twice(lambda guards: run(guards, few=False))
    for ours, of_tile in zip(run_twice(lambda guards: run(guards, few=True)), wanted, strict=True):
        assert ours.tobytes() == of_tile.tobytes()


@pytest.mark.parametrize("name", ["Attention", "Attention-dropout", "Attention-relative-bias"])
@pytest.mark.parametrize("T", [1, 2, 31, 32, 33, 95, 96, 97, 128, 200])
def test_lengths_near_block_sizes(name: str, T: int) -> None:
    for D in (1, 5, 16, 33):
        equals_its_textbook_twin(compile_case(make_case(name, Sizes(B=2, T=T, H=2, D=D))))


@pytest.mark.parametrize("name", ["Attention", "Attention-dropout", "Attention-packed", "Attention-relative-bias"])
def test_any_number_of_threads_gives_the_same_bits(name: str) -> None:
    case, found = compile_case(make_case(name, Sizes(B=3, T=130, H=2, D=20))), []
    for n in (1, 2, 3):
        set_num_threads(n)
        cache = case.cache()
        y = np.copy(case.forward(cache))
        case.layer.zero_grad()
        dx = np.copy(case.backward(y, cache)["x"])
        found.append([y, dx, *(param.grad.copy() for param in case.layer.parameters().values())])
    for arrays in found[1:]:
        assert all(map(np.array_equal, arrays, found[0]))


def test_later_tokens_change_no_bit() -> None:
    case = compile_case(make_case("Attention", Sizes(B=1, T=150, H=2, D=8)))
    x = case.inputs["x"].copy()
    y = np.copy(case.forward(Cache()))
    x[:, 77:] = 1e6
    assert np.array_equal(case.forward(Cache(), x=x)[:, :77], y[:, :77])


def test_large_scores_do_not_overflow() -> None:
    case = compile_case(make_case("Attention", Sizes(B=1, T=200, H=1, D=16)))
    large = dataclasses.replace(case, inputs={"x": 100 * case.inputs["x"]})
    cache = large.cache()
    y = large.forward(cache)
    assert np.isfinite(y).all()
    assert np.isfinite(large.backward(y, cache)["x"]).all()


def test_memory_grows_linearly_with_the_length() -> None:
    for size in (forward_size, backward_size):
        assert size(4096, 64) < 2.2 * size(2048, 64)
