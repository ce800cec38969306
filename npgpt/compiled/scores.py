# B batch, T time, H heads, D head size, N distances
import functools
import math

import numpy as np

import npgpt.layers as textbook
from npgpt.compiled.attention import Scores
from npgpt.compiled.base import add, check_float32, flat, output, rows
from npgpt.compiled.linear import add_column_sums
from npgpt.core import Array, Cache
from npgpt.core.past import room_for
from npgpt.kernels import columns
from npgpt.kernels.attention import BEYOND
from npgpt.kernels.heads import mask_scores, multiply_heads
from npgpt.kernels.matmul import matmul
from npgpt.layers.attention import check_queries_and_keys
from npgpt.layers.scores import distances, slopes, turning
from npgpt.machine.pool import pool


class RelativeBiasScores(Scores, textbook.RelativeBiasScores):
    """The compiled twin of ``npgpt.layers.RelativeBiasScores``.

    The tiled kernel of attention adds √D·b to q·k, then divides by √D; so db is √D times the gradient that it gives.
    """

    KEY_BIAS_CANCELS = True

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        weight = self.weight.value
        check_float32("RelativeBiasScores", "q", q)
        check_float32("RelativeBiasScores", "k", k)
        check_queries_and_keys("RelativeBiasScores", q, k, weight, H=len(weight))
        T, n = q.shape[2], k.shape[2]
        bias = cache.scratch("bias", (len(weight), T, n), np.float32)
        np.take(weight, distances(T, weight.shape[1], n), axis=1, out=bias, mode="clip")
        return _add_to_each(Scores.forward(self, q, k, cache), bias)

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        check_float32("RelativeBiasScores", "ds", ds, (*cache["q"].shape[:3], cache["q"].shape[2]))
        (H, N), T = self.weight.value.shape, ds.shape[-1]
        sums = cache.scratch("bias", (H, T, T), np.float32)  # over the batch
        add_column_sums(flat(ds).reshape(len(ds), sums.size), flat(sums), False, cache)
        seen = np.tril_indices(T)  # 1.
        n = distances(T, N)[seen]
        grad = cache.grad_to_add_to(self.weight)
        for h in range(H):  # 2. bincount adds in a fixed order, in float64
            grad[h] += np.bincount(n, sums[h][seen], N).astype(np.float32)
        return Scores.backward(self, ds, cache)  # 3.

    def bias(self, q: Array, n: int, cache: Cache) -> Array:
        weight = self.weight.value
        check_queries_and_keys("RelativeBiasScores", q, q, weight, H=len(weight))
        found = cache.scratch("bias", (len(weight), _width(n)), np.float32)
        np.take(weight, _columns(n, weight.shape[1]), axis=1, out=found, mode="clip")
        return np.multiply(found, math.sqrt(q.shape[3]), out=found)

    def bias_gradient(self, q: Array, cache: Cache) -> Array:
        return cache.scratch("dbias", (q.shape[0] * q.shape[1], _width(q.shape[2])), np.float32)

    def collect_bias_gradient(self, q: Array, cache: Cache) -> None:
        B, (H, N), T = len(q), self.weight.value.shape, q.shape[2]
        sums = cache.scratch("dbias of all examples", (H, _width(q.shape[2])), np.float32)
        add_column_sums(self.bias_gradient(q, cache).reshape(B, sums.size), flat(sums), False, cache)
        grad, n = cache.grad_to_add_to(self.weight), np.minimum(np.arange(T), N - 1)
        for h in range(H):  # 2.
            grad[h] += (math.sqrt(q.shape[3]) * np.bincount(n, sums[h, T:0:-1], N)).astype(np.float32)


class RelativeKeyScores(Scores, textbook.RelativeKeyScores):
    """The compiled twin of ``npgpt.layers.RelativeKeyScores``, without a tiled kernel.

    One product gives p_in = q_i·a_n for all n. Column n of p is then added to diagonal n of the scores.
    """

    IN_TILES = False
    KEY_BIAS_CANCELS = True

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        weight = self.weight.value
        check_float32("RelativeKeyScores", "q", q)
        check_float32("RelativeKeyScores", "k", k)
        check_queries_and_keys("RelativeKeyScores", q, k, weight, D=weight.shape[1])
        q, k = cache.keep("q", q), cache.keep("k", k)
        T, n_keys = q.shape[2], k.shape[2]
        p = cache.scratch("products", (*q.shape[:-1], len(weight)), np.float32)
        matmul(rows(q), weight.T, rows(p))
        s = output(cache, (*q.shape[:3], n_keys))
        multiply_heads(q, k.swapaxes(-1, -2), s)
        if n_keys == T:
            for n in range(T):
                diagonal(s, n)[...] += p[:, :, n:, min(n, len(weight) - 1)]
        else:  # few queries
            for i, n_of_key in enumerate(distances(T, len(weight), n_keys)):
                s[:, :, i] += p[:, :, i, n_of_key]
        mask_scores(pool(), rows(s), T, 1 / math.sqrt(q.shape[-1]), -math.inf, rows(s))
        return s

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        q, k, weight = cache["q"], cache["k"], self.weight.value
        N, T = len(weight), q.shape[2]
        check_float32("RelativeKeyScores", "ds", ds, (*q.shape[:3], T))
        visible = self.visible(ds, q, cache)  # 1.
        dp = cache.scratch("products", (*q.shape[:-1], N), np.float32)
        dp[...] = 0
        for n in range(T):  # 2.
            dp[:, :, n:, min(n, N - 1)] += diagonal(visible, n)
        matmul(rows(dp).T, rows(q), *cache.grad_to_fill(self.weight))  # 3.
        share = cache.scratch("share", q.shape, np.float32)
        matmul(rows(dp), weight, rows(share))
        dq, dk = self.scaled_backward(visible, q, k, cache)
        add(dq, share, dq)  # 4.
        return cache.note("q", dq), cache.note("k", dk)


class RotaryScores(Scores, textbook.RotaryScores):
    """The compiled twin of ``npgpt.layers.RotaryScores``: queries and keys are rotated in place.

    After that, the tiled kernel of attention computes the scaled dot product.
    """

    KEEPS = ("q", "k", "turned_q", "turned_k")
    TURNS = True

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        check_float32("RotaryScores", "q", q)
        check_float32("RotaryScores", "k", k)
        check_queries_and_keys("RotaryScores", q, k, q)
        q, k = cache.keep("q", q), cache.keep("k", k)
        turned_q, turned_k = output(cache, q.shape, "turned_q"), output(cache, k.shape, "turned_k")
        turned_q[...], turned_k[...] = q, k
        _turn(turned_q, cache, False, k.shape[2] - q.shape[2])
        _turn(turned_k, cache, False, 0)
        return self.scaled(cache.keep("turned_q", turned_q), cache.keep("turned_k", turned_k), cache)

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        q, k = cache["turned_q"], cache["turned_k"]
        check_float32("RotaryScores", "ds", ds, (*q.shape[:3], q.shape[2]))
        dq, dk = self.scaled_backward(self.visible(ds, q, cache), q, k, cache)  # 1. and 2.
        self.turn_back(dq, dk, cache)  # 3.
        return cache.note("q", dq), cache.note("k", dk)

    def turn(self, q: Array, k: Array, cache: Cache) -> None:
        _turn(q, cache, False, cache.n_past)
        _turn(k, cache, False, cache.n_past)
        cache.keep("turned_q", q), cache.keep("turned_k", k)

    def turn_back(self, dq: Array, dk: Array, cache: Cache) -> None:
        _turn(cache.note("turned_q", dq), cache, back=True)
        _turn(cache.note("turned_k", dk), cache, back=True)


class AlibiScores(Scores, textbook.AlibiScores):
    """The compiled twin of ``npgpt.layers.AlibiScores``."""

    KEY_BIAS_CANCELS = True

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        check_float32("AlibiScores", "q", q)
        check_float32("AlibiScores", "k", k)
        check_queries_and_keys("AlibiScores", q, k, q)
        H, T, n = *q.shape[1:3], k.shape[2]
        bias = cache.scratch("bias", (H, T, n), np.float32)
        np.multiply(-slopes(H)[:, None, None], distances(T, n, n), out=bias, casting="same_kind")
        return _add_to_each(Scores.forward(self, q, k, cache), bias)

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        return Scores.backward(self, ds, cache)  # 1.

    def bias(self, q: Array, n: int, cache: Cache) -> Array:
        return _lowering(q.shape[1], n if cache.past is None else room_for(n), q.shape[3])


@functools.lru_cache(maxsize=8)
def _lowering(H: int, T: int, D: int) -> Array:
    """Return ALiBi's bias for the tiled kernel."""
    found: Array = -math.sqrt(D) * slopes(H)[:, None] * _columns(T, T)
    return found.astype(np.float32)


@functools.lru_cache(maxsize=8)
def _columns(T: int, N: int) -> Array:
    """Return the distance, at most N − 1, of each column of the tiled kernel's ``bias``."""
    return np.minimum(abs(np.arange(-T, T + BEYOND)), N - 1)


def _width(T: int) -> int:
    """Return the number of columns of the tiled kernel's ``bias``."""
    return 2 * T + BEYOND


def _add_to_each(s: Array, bias: Array) -> Array:
    """Add (H, T, T) to the scores of each example; −∞ stays −∞."""
    of_example = s.reshape(len(s), bias.size)
    columns.add_to_rows(pool(), of_example, flat(bias), of_example)
    return s


def diagonal(s: Array, n: int) -> Array:
    """Return a view of the scores (B, H, T − n) of all pairs of distance n."""
    view: Array = np.einsum("bhii->bhi", s[:, :, n:, : s.shape[-1] - n])
    return view


def _turn(x: Array, cache: Cache, back: bool, start: int = 0) -> None:
    """Rotate x (B, H, T, D) in place by NumPy's element-wise × and +, which give the same bits on every machine."""
    _, _, T, D = x.shape
    own, partners = (table[start : start + T] for table in _turning(room_for(start + T) if start else T, D, back))
    pairs = D // 2 * 2
    other = cache.scratch("partners", (x.shape[0], T, x.shape[1], D), np.float32).transpose(0, 2, 1, 3)
    other[..., 0:pairs:2], other[..., 1:pairs:2], other[..., pairs:] = x[..., 1:pairs:2], x[..., 0:pairs:2], 0
    other *= partners
    x *= own
    x += other


@functools.lru_cache(maxsize=8)
def _turning(T: int, D: int, back: bool) -> tuple[Array, Array]:
    own, partners = turning(T, D, back)
    return own.astype(np.float32), partners.astype(np.float32)
