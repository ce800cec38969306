# B batch, T time, H heads, D head size, N distances
"""Positions in the attention scores: the score of a query and a key also depends on the distance between them.

Each class here extends ``Scores`` and can replace it in attention. Positions enter as the distance i − j only, so every
position can be used. With s° the scaled dot product of ``Scores``:

    RelativeBiasScores     s_ij = s°_ij + b_h,(i−j)            a trained number for each head and distance
    RelativeKeyScores      s_ij = s°_ij + q_i·a_(i−j)/√D       a trained key for each distance
    RotaryScores           s_ij = (R_i q_i)·(R_j k_j)/√D       queries and keys are rotated by angles ∝ position
    AlibiScores            s_ij = s°_ij − m_h·(i − j)          a fixed slope for each head

A constant b added to all keys adds q_i·b/√D to s°_ij, for all j, so ``KEY_BIAS_CANCELS`` holds for all but the rotary
scores, where it adds (R_(j−i)ᵀ q_i)·b/√D, which depends on j.
"""

import functools
import math
from typing import Any

import numpy as np

from npgpt.core import Array, Cache, Param
from npgpt.core.shapes import check_gradient
from npgpt.core.values import zeros
from npgpt.exact import LN_2, cos_and_sin, exponential
from npgpt.layers.attention import Scores, check_queries_and_keys, visible
from npgpt.layers.positions import as_real


class RelativeBiasScores(Scores):
    """Scores with a trained bias for each head and distance.

    Forward   s_ij = (q_i · k_j)/√D + b_hn with n = min(i − j, N − 1), for j <= i, else −∞
    Backward  given ds = ∂L/∂s:
      1. for j > i, s is −∞ and does not depend on q, k or b    ⇒ ds counts as 0 there
      2. b_hn is in s_ij for every i, j of distance n, in every example of the batch
                                                             ⇒ db_hn = Σ_batch Σ_{min(i−j, N−1) = n} ds_hij
      3. the rest is the scaled dot product                  ⇒ dq and dk as in Scores
    Shapes    q, k, dq, dk (B, H, T, D); s, ds (B, H, T, T); weight (b) (H, N)
    Keeps     q, k
    Raises    ShapeError if q and k differ in shape or precision, or do not have H heads
    Source    Raffel et al. 2019, arXiv:1910.10683 (T5; there distances from 16 on share biases in growing groups)

    Args
        n_distances: N; distances larger than N − 1 share the last bias.

    b starts at 0: at first no distance is preferred.

    >>> scores = RelativeBiasScores(1, 2)
    >>> scores.weight.value[:] = [[5, 7]]               # for a token itself, and for all before it
    >>> q = k = np.zeros((1, 1, 3, 1))
    >>> scores.forward(q, k, Cache())[0, 0]
    array([[  5., -inf, -inf],
           [  7.,   5., -inf],
           [  7.,   7.,   5.]])
    """

    KEY_BIAS_CANCELS = True

    def __init__(self, n_head: int, n_distances: int) -> None:
        self.weight = Param(zeros("RelativeBiasScores", n_head=n_head, n_distances=n_distances))

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        weight = self.weight.value
        check_queries_and_keys("RelativeBiasScores", q, k, weight, H=len(weight))
        T = q.shape[2]
        q, k = cache.keep("q", q), cache.keep("k", k)
        bias = weight[:, distances(T, weight.shape[1], k.shape[2])]  # (H, T, T)
        return np.where(visible(T, k.shape[2]), q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]) + bias, -np.inf)

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        check_gradient("RelativeBiasScores", "ds", ds, (*cache["q"].shape[:3], cache["q"].shape[2]), like=cache["q"])
        T, N = ds.shape[-1], self.weight.value.shape[1]
        db = (ds * visible(T)).sum(0)  # 1.
        np.add.at(self.weight.grad.T, distances(T, N), db.transpose(1, 2, 0))  # 2.
        return Scores.backward(self, ds, cache)  # 3.


class RelativeKeyScores(Scores):
    """Scores with a trained key for each distance, which is added to the key of the token.

    Forward   s_ij = q_i · (k_j + a_n)/√D with n = min(i − j, N − 1), for j <= i, else −∞
      p_in = q_i·a_n is computed once for all n; then s_ij = (q_i·k_j + p_in)/√D with its own n.
    Backward  given ds = ∂L/∂s:
      1. for j > i, s is −∞ and does not depend on q, k or a    ⇒ ds counts as 0 there
      2. p_in is in s_ij for every key j of distance n       ⇒ dp_in = Σ_{min(i−j, N−1) = n} ds_ij/√D
      3. p_in = q_i·a_n, in all heads and examples           ⇒ da_n = Σ_bhi dp_in q_i;  dq_i gets Σ_n dp_in a_n
      4. the rest is the scaled dot product                  ⇒ dk as in Scores; dq_i is the sum of both contributions
    Shapes    q, k, dq, dk (B, H, T, D); p (B, H, T, N); s, ds (B, H, T, T); weight (a) (N, D), one for all heads
    Keeps     q, k, products (p)
    Raises    ShapeError if q and k differ in shape or precision, or do not have D channels
    Source    Shaw et al. 2018, arXiv:1803.02155; p for all n at once: Huang et al. 2018, arXiv:1809.04281

    Args
        n_distances: N; distances larger than N − 1 share the last key.
        std: standard deviation of the initial a.
    """

    KEY_BIAS_CANCELS = True

    def __init__(self, n_distances: int, head_size: int, std: float = 0.02) -> None:
        self.weight = Param(zeros("RelativeKeyScores", n_distances=n_distances, head_size=head_size), std)

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        weight = self.weight.value
        check_queries_and_keys("RelativeKeyScores", q, k, weight, D=weight.shape[1])
        T = q.shape[2]
        q, k = cache.keep("q", q), cache.keep("k", k)
        p = cache.keep("products", q @ weight.T)  # (B, H, T, N)
        scores = (q @ k.swapaxes(-1, -2) + p[own_product(T, len(weight), k.shape[2])]) / math.sqrt(q.shape[-1])
        return np.where(visible(T, k.shape[2]), scores, -np.inf)

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        q, k, weight = cache["q"], cache["k"], self.weight.value
        check_gradient("RelativeKeyScores", "ds", ds, (*q.shape[:3], q.shape[2]), like=q)
        T, N = q.shape[-2], len(weight)
        ds = ds * visible(T) / math.sqrt(q.shape[-1])  # 1.
        dp = np.zeros((*q.shape[:-1], N), q.dtype)
        np.add.at(dp, own_product(T, N), ds)  # 2.
        cache.note("products", dp)
        self.weight.grad += dp.reshape(-1, N).T @ q.reshape(-1, q.shape[-1])  # 3.
        dq = cache.note("q", ds @ k + dp @ weight)  # 4.
        dk = cache.note("k", ds.swapaxes(-1, -2) @ q)
        return dq, dk


class RotaryScores(Scores):
    """Scores of rotated queries and keys: the angle of the rotation grows with the position (rotary positions, RoPE).

    Forward   q̃_i = R_i q_i,  k̃_j = R_j k_j,  s_ij = (q̃_i · k̃_j)/√D for j <= i, else −∞
      R_t rotates the channels 2c and 2c + 1, as a point of a plane, by the angle t·ω_c, ω_c = 10000^(−2c/D):
      (x, x') becomes (x cos − x' sin, x' cos + x sin). Since R_iᵀR_j = R_(j−i), s_ij = q_iᵀ R_(j−i) k_j/√D: only the
      distance of the two positions matters.
    Backward  given ds = ∂L/∂s:
      1. for j > i, s is −∞ and does not depend on q or k    ⇒ ds counts as 0 there
      2. s is the scaled dot product of q̃ and k̃             ⇒ dq̃ = ds·k̃/√D,  dk̃ = dsᵀ·q̃/√D
      3. q̃_i = R_i q_i                                       ⇒ dq_i = R_iᵀ dq̃_i, and dk_j = R_jᵀ dk̃_j
         A rotation is orthogonal, RᵀR = 1, so Rᵀ = R⁻¹: both gradients are rotated back by the same angle.
    Shapes    q, k, q̃, k̃ and their gradients (B, H, T, D); s, ds (B, H, T, T). For odd D the last channel is unchanged
    Keeps     q, k, turned_q (q̃), turned_k
    Raises    ShapeError if q and k differ in shape or precision
    Source    Su et al. 2021, arXiv:2104.09864

    >>> q = k = np.array([[[[1., 0.], [1., 0.], [1., 0.]]]])          # the same token three times
    >>> RotaryScores().forward(q, k, Cache())[0, 0].round(3)          # cos(i − j)/√2
    array([[ 0.707,   -inf,   -inf],
           [ 0.382,  0.707,   -inf],
           [-0.294,  0.382,  0.707]])
    """

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        check_queries_and_keys("RotaryScores", q, k, q)
        q, k = cache.keep("q", q), cache.keep("k", k)
        turned_q = cache.keep("turned_q", turn(q, start=k.shape[2] - q.shape[2]))
        turned_k = cache.keep("turned_k", turn(k))
        scores = turned_q @ turned_k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
        return np.where(visible(q.shape[-2], k.shape[-2]), scores, -np.inf)

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        q, k = cache["turned_q"], cache["turned_k"]
        check_gradient("RotaryScores", "ds", ds, (*q.shape[:3], q.shape[2]), like=q)
        ds = ds * visible(q.shape[-2]) / math.sqrt(q.shape[-1])  # 1.
        dturned_q = cache.note("turned_q", ds @ k)  # 2.
        dturned_k = cache.note("turned_k", ds.swapaxes(-1, -2) @ q)
        dq = cache.note("q", turn(dturned_q, back=True))  # 3.
        dk = cache.note("k", turn(dturned_k, back=True))
        return dq, dk


class AlibiScores(Scores):
    """Attention with linear biases (ALiBi): scores decrease with the distance, at a fixed rate in each head.

    Forward   s_ij = (q_i · k_j)/√D − m_h·(i − j) for j <= i, else −∞, with m_h = 2^(−8h/H) for head h = 1 ... H
    Backward  given ds = ∂L/∂s:
      1. the subtracted term depends on neither q nor k    ⇒ dq and dk as in Scores
    Shapes    q, k, dq, dk (B, H, T, D); s, ds (B, H, T, T)
    Keeps     q, k
    Raises    ShapeError if q and k differ in shape or precision
    Source    Press et al. 2021, arXiv:2108.12409 (which uses another m if H is not a power of two)

    >>> q = k = np.zeros((1, 2, 3, 1))                  # m is 1/16 and 1/256
    >>> AlibiScores().forward(q, k, Cache())[0, 0]
    array([[ 0.    ,    -inf,    -inf],
           [-0.0625,  0.    ,    -inf],
           [-0.125 , -0.0625,  0.    ]])
    """

    KEY_BIAS_CANCELS = True

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        check_queries_and_keys("AlibiScores", q, k, q)
        q, k = cache.keep("q", q), cache.keep("k", k)
        H, T, n = *q.shape[1:3], k.shape[2]
        lower = as_real(slopes(H)[:, None, None] * distances(T, n, n), q)  # (H, T, T)
        return np.where(visible(T, n), q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]) - lower, -np.inf)

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        return Scores.backward(self, ds, cache)  # 1.


@functools.lru_cache(maxsize=8)
def distances(T: int, N: int, n_keys: int | None = None) -> Array:
    """Return the distance (T, n_keys) of each query (row) to each key (column), at most N − 1; 0 for later keys.

    The queries are those of the last T of the n_keys positions; by default of all.

    >>> distances(3, 2)
    array([[0, 0, 0],
           [1, 0, 0],
           [1, 1, 0]])
    """
    n_keys = T if n_keys is None else n_keys
    found: Array = np.clip(np.arange(n_keys - T, n_keys)[:, None] - np.arange(n_keys), 0, N - 1)
    return found


def own_product(T: int, N: int, n_keys: int | None = None) -> Any:
    """Return the index into the products (..., T, N) that selects the product of each score (..., T, n_keys)."""
    return ..., np.arange(T)[:, None], distances(T, N, n_keys)


def slopes(H: int) -> Array:
    """Return m_h = 2^(−8h/H) for h = 1 ... H.

    >>> slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    found = []
    for h in range(1, H + 1):
        whole, rest = divmod(8 * h, H)
        found.append(math.ldexp(exponential(-rest / H * LN_2), -whole))
    return np.array(found)


def turn(x: Array, back: bool = False, start: int = 0) -> Array:
    """Rotate each pair of channels of x (..., T, D) by its angle at each position; ``back`` rotates the other way.

    Args
        start: the first position.
    """
    cos, sin = (table[start:] for table in turning(start + x.shape[-2], x.shape[-1], back))
    partner = np.arange(x.shape[-1])
    partner[: len(partner) // 2 * 2] ^= 1  # 1, 0, 3, 2, ...
    turned: Array = x * as_real(cos, x) + x[..., partner] * as_real(sin, x)
    return turned


def turning(T: int, D: int, back: bool = False) -> tuple[Array, Array]:
    """Return the factors, in ``turn``, of each channel and of its partner: two arrays (T, D)."""
    cos, sin = cos_and_sin(T, D)
    own, partners = np.ones((T, D)), np.zeros((T, D))
    for first, sign in ((0, -1.0), (1, 1.0)):  # x cos − x' sin, x' cos + x sin
        pairs = D // 2
        own[:, first : 2 * pairs : 2] = cos[:, :pairs]
        partners[:, first : 2 * pairs : 2] = sin[:, :pairs] * (-sign if back else sign)
    return own, partners
