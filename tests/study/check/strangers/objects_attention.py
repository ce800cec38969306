"""Attention, masks and positions."""

import numpy as np
from strangers.given import given, random, right


def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(dp, p):
    return p * (dp - (dp * p).sum(axis=-1, keepdims=True))


class DotProductAttention:
    def forward(self, q, k, v):
        self.q, self.k, self.v = q, k, v
        self.scale = 1 / np.sqrt(q.shape[-1])
        self.p = softmax(q @ k.transpose(0, 2, 1) * self.scale)
        return self.p @ v

    def backward(self, dy):
        dv = self.p.transpose(0, 2, 1) @ dy
        ds = softmax_backward(dy @ self.v.transpose(0, 2, 1), self.p) * self.scale
        return ds @ self.k, ds.transpose(0, 2, 1) @ self.q, dv


@right
def attention_of_queries_keys_and_values():
    return given(DotProductAttention(), random(2, 3, 4), random(2, 5, 4, seed=1), random(2, 5, 2, seed=2))


class SelfAttention:
    """One head; future positions get -1e9."""

    def __init__(self, d):
        rng = np.random.default_rng(1)
        self.Wq, self.Wk, self.Wv = (rng.normal(size=(d, d)) / np.sqrt(d) for _ in range(3))

    def forward(self, x):
        self.x = x
        self.q, self.k, self.v = x @ self.Wq, x @ self.Wk, x @ self.Wv
        s = self.q @ self.k.T / np.sqrt(self.Wk.shape[1])
        t = len(x)
        s = s + np.triu(np.ones((t, t)), 1) * -1e9
        self.p = softmax(s)
        return self.p @ self.v

    def backward(self, dy):
        dv = self.p.T @ dy
        ds = softmax_backward(dy @ self.v.T, self.p) / np.sqrt(self.Wk.shape[1])
        dq, dk = ds @ self.k, ds.T @ self.q
        self.dWq, self.dWk, self.dWv = self.x.T @ dq, self.x.T @ dk, self.x.T @ dv
        return dq @ self.Wq.T + dk @ self.Wk.T + dv @ self.Wv.T


@right
def causal_attention_with_a_large_negative_number():
    return given(SelfAttention(3), random(5, 3))


class MultiHeadAttention:
    """One matrix for queries, keys and values; the causal mask is a fixed array of 0 and -inf."""

    def __init__(self, d, heads, length):
        rng = np.random.default_rng(2)
        self.qkv = {"weight": rng.normal(size=(d, 3 * d)) / np.sqrt(d), "bias": rng.normal(size=3 * d) * 0.1}
        self.out = {"weight": rng.normal(size=(d, d)) / np.sqrt(d), "bias": np.zeros(d)}
        self.heads = heads
        self.mask = np.where(np.tri(length, dtype=bool), 0.0, -np.inf)

    def forward(self, x):
        b, t, d = x.shape
        self.x, self.size = x, d // self.heads
        qkv = (x @ self.qkv["weight"] + self.qkv["bias"]).reshape(b, t, 3, self.heads, self.size)
        self.q, self.k, self.v = qkv.transpose(2, 0, 3, 1, 4)
        self.p = softmax(self.q @ self.k.swapaxes(-1, -2) / np.sqrt(self.size) + self.mask[:t, :t])
        self.y = (self.p @ self.v).transpose(0, 2, 1, 3).reshape(b, t, d)
        return self.y @ self.out["weight"] + self.out["bias"]

    def backward(self, dout):
        b, t, d = dout.shape
        rows = dout.reshape(-1, d)
        self.out["dweight"], self.out["dbias"] = self.y.reshape(-1, d).T @ rows, rows.sum(0)
        dy = (dout @ self.out["weight"].T).reshape(b, t, self.heads, self.size).transpose(0, 2, 1, 3)
        dv = self.p.swapaxes(-1, -2) @ dy
        ds = softmax_backward(dy @ self.v.swapaxes(-1, -2), self.p) / np.sqrt(self.size)
        dq, dk = ds @ self.k, ds.swapaxes(-1, -2) @ self.q
        dqkv = np.stack([dq, dk, dv]).transpose(1, 3, 0, 2, 4).reshape(b * t, 3 * d)
        self.qkv["dweight"] = self.x.reshape(-1, d).T @ dqkv
        self.qkv["dbias"] = dqkv.sum(0)
        return (dqkv @ self.qkv["weight"].T).reshape(b, t, d)


@right
def multi_head_attention_with_a_fixed_mask_of_minus_infinity():
    return given(MultiHeadAttention(4, 2, 6), random(2, 4, 4), constants=["mask"])


class CrossAttention:
    """Padded keys are masked with -inf; the mask comes as an argument; sub-layers are small objects."""

    class Projection:
        def __init__(self, n, m, seed):
            self.W = np.random.default_rng(seed).normal(size=(n, m)) * 0.6
            self.grad_W = None

        def __call__(self, x):
            self.x = x
            return x @ self.W

        def backward(self, dy):
            self.grad_W = np.einsum("bti,btj->ij", self.x, dy)
            return dy @ self.W.T

    def __init__(self, d_query, d_memory, d):
        make = CrossAttention.Projection
        self.to_q, self.to_k, self.to_v = make(d_query, d, 3), make(d_memory, d, 4), make(d_memory, d, 5)

    def forward(self, x, memory, mask=None):
        self.q, self.k, self.v = self.to_q(x), self.to_k(memory), self.to_v(memory)
        s = np.einsum("bqd,bkd->bqk", self.q, self.k)
        if mask is not None:
            s[np.broadcast_to(~mask[:, None, :], s.shape)] = -np.inf
        self.p = softmax(s)
        return np.einsum("bqk,bkd->bqd", self.p, self.v)

    def backward(self, dy):
        ds = softmax_backward(np.einsum("bqd,bkd->bqk", dy, self.v), self.p)
        dx = self.to_q.backward(np.einsum("bqk,bkd->bqd", ds, self.k))
        dm = self.to_k.backward(np.einsum("bqk,bqd->bkd", ds, self.q))
        dm += self.to_v.backward(np.einsum("bqk,bqd->bkd", self.p, dy))
        return {"x": dx, "memory": dm}


@right
def cross_attention_with_padded_keys():
    mask = np.array([[True, True, False, True], [True, False, False, True]])
    return given(CrossAttention(3, 2, 4), random(2, 3, 3), random(2, 4, 2, seed=1), mask=mask)


class AdditiveAttention:
    """Pools a sequence by scores from a small network."""

    def __init__(self, d, hidden):
        rng = np.random.default_rng(6)
        self.W, self.v = rng.normal(size=(d, hidden)), rng.normal(size=hidden)

    def forward(self, h):
        self.h = h
        self.u = np.tanh(h @ self.W)
        self.a = softmax(self.u @ self.v)
        return np.einsum("bt,btd->bd", self.a, h), self.a

    def backward(self, d_context, d_weights):
        da = np.einsum("bd,btd->bt", d_context, self.h) + d_weights
        ds = softmax_backward(da, self.a)
        self.dv = np.einsum("bt,bth->h", ds, self.u)
        dz = ds[..., None] * self.v * (1 - self.u**2)
        self.dW = np.einsum("btd,bth->dh", self.h, dz)
        return self.a[..., None] * d_context[:, None, :] + dz @ self.W.T


@right
def additive_attention_that_also_returns_its_weights():
    return given(AdditiveAttention(3, 2), random(2, 4, 3))


class RelativeBias:
    """Attention scores plus a learned bias that depends on the distance."""

    def __init__(self, reach):
        self.bias = np.zeros(2 * reach + 1)
        self.bias_grad = np.zeros_like(self.bias)
        self.reach = reach

    def forward(self, scores):
        n, m = scores.shape[-2:]
        distance = np.arange(m)[None, :] - np.arange(n)[:, None]
        self.index = np.clip(distance, -self.reach, self.reach) + self.reach
        self.p = softmax(scores + self.bias[self.index])
        return self.p

    def backward(self, dp):
        ds = softmax_backward(dp, self.p)
        self.bias_grad = np.bincount(self.index.ravel(), ds.reshape(-1, self.index.size).sum(0), len(self.bias))
        return ds


@right
def softmax_with_a_learned_bias_per_distance():
    return given(RelativeBias(2), random(2, 4, 5))


class LinearAttention:
    """Causal attention by running sums of outer products, features elu(x) + 1."""

    def forward(self, q, k, v):
        self.q, self.k, self.v = q, k, v
        self.fq, self.fk = np.where(q > 0, q + 1, np.exp(q)), np.where(k > 0, k + 1, np.exp(k))
        self.kv = np.cumsum(np.einsum("td,te->tde", self.fk, v), axis=0)
        self.z = np.cumsum(self.fk, axis=0)
        self.numerator = np.einsum("td,tde->te", self.fq, self.kv)
        self.denominator = np.einsum("td,td->t", self.fq, self.z)[:, None]
        return self.numerator / self.denominator

    def backward(self, dy):
        dn = dy / self.denominator
        dd = -(dy * self.numerator).sum(1, keepdims=True) / self.denominator**2
        dfq = np.einsum("te,tde->td", dn, self.kv) + dd * self.z
        later_kv = np.cumsum(np.einsum("td,te->tde", self.fq, dn)[::-1], axis=0)[::-1]
        later_z = np.cumsum((dd * self.fq)[::-1], axis=0)[::-1]
        dfk = np.einsum("tde,te->td", later_kv, self.v) + later_z
        dv = np.einsum("tde,td->te", later_kv, self.fk)
        return dfq * np.where(self.q > 0, 1, self.fq), dfk * np.where(self.k > 0, 1, self.fk), dv


@right
def linear_attention_by_running_sums():
    return given(LinearAttention(), random(4, 3), random(4, 3, seed=1), random(4, 2, seed=2))


class SinusoidalPositions:
    def __init__(self, length, d):
        angle = np.arange(length)[:, None] / 10000 ** (np.arange(0, d, 2) / d)
        self.table = np.zeros((length, d))
        self.table[:, 0::2] = np.sin(angle)
        self.table[:, 1::2] = np.cos(angle)
        self.gain = np.array([1.0])

    def forward(self, x):
        return self.gain * x + self.table[: x.shape[1]]

    def backward(self, dy, x):
        self.dgain = np.array([np.vdot(dy, x)])
        return self.gain * dy


@right
def fixed_positions_and_a_learned_gain():
    return given(SinusoidalPositions(8, 4), random(2, 5, 4), constants=["table"])


class LearnedPositions:
    def __init__(self, length, d):
        self.position = np.random.default_rng(7).normal(size=(length, d)) * 0.02
        self.dposition = np.zeros_like(self.position)

    def forward(self, x):
        self.t = x.shape[1]
        return x + self.position[: self.t]

    def backward(self, dy):
        self.dposition = np.zeros_like(self.position)
        self.dposition[: self.t] = dy.sum(axis=0)
        return dy


@right
def learned_positions_of_which_some_are_unused():
    return given(LearnedPositions(6, 3), random(2, 4, 3))


class Rotary:
    """Angles are computed in every pass, so the object holds no arrays of its own."""

    def angles(self, shape):
        half = shape[-1] // 2
        a = np.arange(shape[-2])[:, None] * 100.0 ** (-np.arange(half) / half)
        return np.cos(a), np.sin(a)

    def forward(self, x):
        cos, sin = self.angles(x.shape)
        left, rest = np.split(x, 2, axis=-1)
        return np.concatenate([left * cos - rest * sin, left * sin + rest * cos], axis=-1)

    def backward(self, dy):
        cos, sin = self.angles(dy.shape)
        left, rest = np.split(dy, 2, axis=-1)
        return np.concatenate([left * cos + rest * sin, rest * cos - left * sin], axis=-1)


@right
def rotary_positions():
    return given(Rotary(), random(2, 5, 4))


class SlopedAttention:
    """A fixed penalty per head and distance, from integers only; float mask by np.where and -inf."""

    def __init__(self, heads):
        self.heads = heads

    def forward(self, scores):
        t = scores.shape[-1]
        distance = np.arange(t)[:, None] - np.arange(t)[None, :]
        slopes = 2.0 ** -np.arange(1, self.heads + 1)
        biased = scores - slopes[:, None, None] * distance
        self.p = softmax(np.where(distance < 0, -np.inf, biased))
        return self.p

    def backward(self, dp):
        return softmax_backward(dp, self.p)


@right
def causal_softmax_with_a_slope_per_head():
    return given(SlopedAttention(3), random(2, 3, 4, 4))
