"""Attention with a mistake."""

import numpy as np
from named.given import given, mistake, random


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def qkv(*shape):
    return random(*shape), random(*shape, seed=1), random(*shape, seed=2)


def swap(a):
    return np.swapaxes(a, -1, -2)


@mistake("input v", "mask")
def attention_weights_recomputed_without_causal_mask():
    """backward computes the weights again, and forgets the mask."""

    def scores(q, k):
        return q @ swap(k) / np.sqrt(q.shape[-1])

    def forward(q, k, v):
        hidden = np.triu(np.ones((q.shape[-2], q.shape[-2]), bool), 1)
        return softmax(np.where(hidden, -np.inf, scores(q, k))) @ v

    def backward(dy, q, k, v):
        p = softmax(scores(q, k))
        dp = dy @ swap(v)
        ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])
        return ds @ k, swap(ds) @ q, swap(p) @ dy

    return given(forward, *qkv(2, 4, 3), backward=backward)


class Heads:
    """Several heads over (B, T, C); right unless a method is changed."""

    def __init__(self, heads=2):
        self.h = heads

    def split(self, a):
        b, t, c = a.shape
        return a.reshape(b, t, self.h, c // self.h).transpose(0, 2, 1, 3)

    def merge(self, a):
        b, h, t, d = a.shape
        return a.transpose(0, 2, 1, 3).reshape(b, t, h * d)

    def forward(self, q, k, v):
        self.q, self.k, self.v = self.split(q), self.split(k), self.split(v)
        self.scale = self.q.shape[-1] ** -0.5
        s = self.q @ swap(self.k) * self.scale
        self.p = softmax(s + np.triu(np.full(s.shape[-2:], -np.inf), 1))
        return self.merge(self.p @ self.v)

    def of_scores(self, dp):
        return self.p * (dp - (dp * self.p).sum(-1, keepdims=True))

    def backward(self, dy):
        dy = self.split(dy)
        ds = self.of_scores(dy @ swap(self.v))
        dq, dk = ds @ self.k * self.scale, swap(ds) @ self.q * self.scale
        return self.merge(dq), self.merge(dk), self.merge(swap(self.p) @ dy)


@mistake("input q", "transposed")
def heads_of_the_queries_merged_by_reshape_alone():
    """dq is reshaped from (B, H, T, D) to (B, T, C) without moving the heads back."""

    class Attention(Heads):
        def backward(self, dy):
            b, t, c = dy.shape
            dy = self.split(dy)
            ds = self.of_scores(dy @ swap(self.v)) * self.scale
            return (ds @ self.k).reshape(b, t, c), self.merge(swap(ds) @ self.q), self.merge(swap(self.p) @ dy)

    return given(Attention(), *qkv(2, 3, 4))


@mistake("input v", "swapped")
def gradients_of_keys_and_values_swapped():
    """backward returns dq, dv, dk."""

    class Attention(Heads):
        def backward(self, dy):
            grads = super().backward(dy)
            return grads[0], grads[2], grads[1]

    return given(Attention(), *qkv(2, 3, 4))


@mistake("input k", "factor")
def keys_scaled_twice():
    """dk has the scale 1/sqrt(d) twice."""

    class Attention(Heads):
        def backward(self, dy):
            dq, dk, dv = super().backward(dy)
            return dq, dk * self.scale, dv

    return given(Attention(), *qkv(1, 4, 6))


@mistake("input q", "lost term")
def softmax_in_attention_without_the_sum():
    """ds = p * dp: the path through the softmax's sum is missing."""

    class Attention(Heads):
        def of_scores(self, dp):
            return self.p * dp

    return given(Attention(3), *qkv(2, 3, 6))


class SelfAttention:
    """One head with projections; right unless a method is changed."""

    def __init__(self, c, d):
        self.Wq, self.Wk, self.Wv = random(c, d, seed=3), random(c, d, seed=4), random(c, d, seed=5)
        self.bq = random(d, seed=6)

    def forward(self, x):
        self.x = x
        self.q, self.k, self.v = x @ self.Wq + self.bq, x @ self.Wk, x @ self.Wv
        self.p = softmax(self.q @ swap(self.k) / np.sqrt(self.q.shape[-1]))
        return self.p @ self.v

    def backward(self, dy):
        dp = dy @ swap(self.v)
        ds = self.p * (dp - (dp * self.p).sum(-1, keepdims=True)) / np.sqrt(self.q.shape[-1])
        self.dq, self.dk, self.dv = ds @ self.k, swap(ds) @ self.q, swap(self.p) @ dy
        self.dWq = np.einsum("btc,btd->cd", self.x, self.dq)
        self.dWk = np.einsum("btc,btd->cd", self.x, self.dk)
        self.dWv = np.einsum("btc,btd->cd", self.x, self.dv)
        self.dbq = self.query_bias()
        return self.input_gradient()

    def query_bias(self):
        return self.dq.sum((0, 1))

    def input_gradient(self):
        return self.dq @ self.Wq.T + self.dk @ self.Wk.T + self.dv @ self.Wv.T


@mistake("input x", "lost term")
def self_attention_without_the_path_through_values():
    """dx adds the paths through queries and keys only."""

    class Layer(SelfAttention):
        def input_gradient(self):
            return self.dq @ self.Wq.T + self.dk @ self.Wk.T

    return given(Layer(3, 4), random(2, 5, 3))


@mistake("param bq", "one example")
def query_bias_from_the_first_sequence():
    """dbq is summed over time, and not over the batch."""

    class Layer(SelfAttention):
        def query_bias(self):
            return self.dq[0].sum(axis=0)

    return given(Layer(3, 2), random(3, 4, 3))


@mistake("param table", "repeated ids")
def relative_bias_assigned_by_fancy_index():
    """One offset stands at many places of the scores; += counts it once."""

    class RelativeBias:
        def __init__(self, t):
            self.table = random(2 * t - 1, seed=7)
            self.offset = np.arange(t)[:, None] - np.arange(t)[None, :] + t - 1

        def forward(self, scores):
            return scores + self.table[self.offset]

        def backward(self, dy):
            self.dtable = np.zeros_like(self.table)
            for d in dy:
                self.dtable[self.offset] += d
            return dy

    return given(RelativeBias(4), random(2, 4, 4))


@mistake("param slopes", "sign")
def alibi_slopes_with_the_wrong_sign():
    """The penalty is subtracted; its gradient is not."""

    class Alibi:
        def __init__(self):
            self.slopes = np.abs(random(2, seed=1))

        def forward(self, scores):
            t = scores.shape[-1]
            self.distance = np.abs(np.arange(t)[:, None] - np.arange(t))
            return scores - self.slopes[:, None, None] * self.distance

        def backward(self, dy):
            self.dslopes = (dy * self.distance).sum(axis=(0, 2, 3))
            return dy

    return given(Alibi(), random(3, 2, 4, 4))


@mistake("input v", "own position")
def values_hear_their_own_query_alone():
    """A value is read by all later queries; backward gives it its own query's part."""

    class Attention(Heads):
        def backward(self, dy):
            dq, dk, _ = super().backward(dy)
            own = np.diagonal(self.p, axis1=-2, axis2=-1)[..., None]
            return dq, dk, self.merge(own * self.split(dy))

    return given(Attention(1), *qkv(2, 4, 3))


@mistake("input k", "lost term", "one example")
def grouped_queries_with_one_head_of_the_group():
    """Two query heads share one key head; dk has the first head's part only."""

    def forward(q, k):  # (H, T, D), (T, D) -> (H, T, T)
        return np.tanh(q @ k.T)

    def backward(dy, q, k):
        ds = dy * (1 - np.tanh(q @ k.T) ** 2)
        return ds @ k, ds[0].T @ q[0]

    return given(forward, random(2, 3, 4), random(3, 4, seed=1), backward=backward)


@mistake("input x", "transposed")
def rotary_turns_on_instead_of_back():
    """backward turns by the same angle again; it must turn back."""

    class Rotary:
        def turn(self, x):
            t, d = x.shape[-2:]
            angle = np.arange(t)[:, None] / 3.0 ** np.arange(d // 2)
            c, s = np.cos(angle), np.sin(angle)
            a, b = x[..., : d // 2], x[..., d // 2 :]
            return np.concatenate([a * c - b * s, a * s + b * c], -1)

        def forward(self, x):
            return self.turn(x)

        def backward(self, dy):
            return self.turn(dy)

    return given(Rotary(), random(2, 3, 4))
