"""Wrong attention layers."""

import numpy as np
from strangers.given import given, random, wrong


def softmax(z):
    e = np.exp(z - np.max(z, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def softmax_backward(dp, p):
    return p * (dp - np.sum(dp * p, axis=-1, keepdims=True))


class Attention:
    """Dot-product attention of given queries, keys and values; right unless a method is changed."""

    def forward(self, q, k, v):
        self.q, self.k, self.v = q, k, v
        self.p = softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]))
        return self.p @ v

    def backward(self, dy):
        ds = softmax_backward(dy @ self.v.swapaxes(-1, -2), self.p) / np.sqrt(self.q.shape[-1])
        return self.of_queries(ds), self.of_keys(ds), self.of_values(dy)

    def of_queries(self, ds):
        return ds @ self.k

    def of_keys(self, ds):
        return ds.swapaxes(-1, -2) @ self.q

    def of_values(self, dy):
        return self.p.swapaxes(-1, -2) @ dy


@wrong
def attention_query_gradient_without_scale():
    """dq lacks the factor 1 / sqrt(d)."""

    class Layer(Attention):
        def of_queries(self, ds):
            return ds @ self.k * np.sqrt(self.q.shape[-1])

    return given(Layer(), random(3, 4), random(3, 4, seed=1), random(3, 4, seed=2))


@wrong
def attention_values_from_own_position_only():
    """Each value gets the gradient from the query at its own position only."""

    class Layer(Attention):
        def of_values(self, dy):
            own = np.diagonal(self.p, axis1=-2, axis2=-1)
            return own[..., None] * dy

    return given(Layer(), random(2, 4, 3), random(2, 4, 3, seed=1), random(2, 4, 3, seed=2))


@wrong
def attention_keys_from_own_position_only():
    """Each key gets the gradient from the query at its own position only."""

    class Layer(Attention):
        def of_keys(self, ds):
            return np.einsum("ii,id->id", ds, self.q)

    return given(Layer(), random(4, 2), random(4, 2, seed=1), random(4, 2, seed=2))


@wrong
def attention_key_gradient_without_transpose():
    """dk uses ds, not its transpose; there are as many keys as queries."""

    class Layer(Attention):
        def of_keys(self, ds):
            return ds @ self.q

    return given(Layer(), random(2, 3, 2), random(2, 3, 2, seed=1), random(2, 3, 2, seed=2))


@wrong
def causal_attention_without_mask_in_backward():
    """backward computes the probabilities anew and forgets the causal mask."""

    def forward(q, k, v):
        s = q @ k.T / np.sqrt(q.shape[1])
        s = np.where(np.tri(len(q), dtype=bool), s, -np.inf)
        return softmax(s) @ v

    def backward(dy, q, k, v):
        scale = 1 / np.sqrt(q.shape[1])
        p = softmax(q @ k.T * scale)
        ds = softmax_backward(dy @ v.T, p) * scale
        return ds @ k, ds.T @ q, p.T @ dy

    return given(forward, random(4, 3), random(4, 3, seed=1), random(4, 3, seed=2), backward=backward)


@wrong
def heads_joined_in_wrong_order():
    """backward splits dy into heads by a plain reshape, without the transpose."""

    class TwoHeads:
        def __init__(self, d):
            self.Wv = random(d, d, seed=3)
            self.heads = 2

        def split(self, x):
            return x.reshape(len(x), self.heads, -1).transpose(1, 0, 2)

        def forward(self, x):
            self.x = x
            h = self.split(x)
            self.p = softmax(self.split(x @ self.Wv) @ np.swapaxes(h, 1, 2))
            return (self.p @ h).transpose(1, 0, 2).reshape(x.shape)

        def backward(self, dy):
            h, hv = self.split(self.x), self.split(self.x @ self.Wv)
            d = dy.reshape(h.shape)
            ds = softmax_backward(d @ np.swapaxes(h, 1, 2), self.p)
            dh = np.swapaxes(self.p, 1, 2) @ d + np.swapaxes(ds, 1, 2) @ hv
            dq = (ds @ h).transpose(1, 0, 2).reshape(dy.shape)
            self.dWv = self.x.T @ dq
            return dh.transpose(1, 0, 2).reshape(dy.shape) + dq @ self.Wv.T

    return given(TwoHeads(4), random(3, 4))


@wrong
def self_attention_without_output_projection_gradient():
    """dWo is computed from the output, after the projection, not from what goes into it."""

    class SelfAttention:
        def __init__(self, n):
            self.params = {name: random(n, n, seed=s) / np.sqrt(n) for s, name in enumerate(["Wq", "Wk", "Wv", "Wo"])}
            self.grads = {}

        def forward(self, x):
            P = self.params
            self.x, self.q, self.k, self.v = x, x @ P["Wq"], x @ P["Wk"], x @ P["Wv"]
            self.scale = x.shape[1] ** -0.5
            self.p = softmax(self.scale * self.q @ self.k.T)
            self.out = self.p @ self.v @ P["Wo"]
            return self.out

        def backward(self, dy):
            P = self.params
            self.grads["Wo"] = self.out.T @ dy
            do = dy @ P["Wo"].T
            ds = self.scale * softmax_backward(do @ self.v.T, self.p)
            dq, dk, dv = ds @ self.k, ds.T @ self.q, self.p.T @ do
            self.grads.update(Wq=self.x.T @ dq, Wk=self.x.T @ dk, Wv=self.x.T @ dv)
            return dq @ P["Wq"].T + dk @ P["Wk"].T + dv @ P["Wv"].T

    return given(SelfAttention(3), random(4, 3))


@wrong
def linear_attention_without_normaliser():
    """The normaliser of linear attention is treated as a constant."""

    class LinearAttention:
        def forward(self, q, k, v):
            self.q, self.k, self.v = q, k, v
            self.s = np.exp(q) @ np.exp(k).T
            self.z = self.s.sum(axis=1, keepdims=True)
            return self.s @ v / self.z

        def backward(self, dy):
            ds = dy @ self.v.T / self.z
            dq = ds @ np.exp(self.k) * np.exp(self.q)
            dk = ds.T @ np.exp(self.q) * np.exp(self.k)
            return {"q": dq, "k": dk, "v": (self.s / self.z).T @ dy}

    return given(LinearAttention(), 0.5 * random(3, 2), 0.5 * random(4, 2, seed=1), random(4, 2, seed=2))


@wrong
def pooled_attention_with_query_of_one_sequence():
    """The learned query's gradient comes from the last sequence of the batch only."""

    class AttentionPool:
        def __init__(self, n):
            self.query = random(n, seed=4)
            self.query_gradient = None

        def forward(self, x):
            self.x, self.p = x, softmax(x @ self.query)
            return np.einsum("nt,ntd->nd", self.p, x)

        def backward(self, dy):
            dp = np.einsum("nd,ntd->nt", dy, self.x)
            ds = softmax_backward(dp, self.p)
            for i in range(len(dy)):
                self.query_gradient = ds[i] @ self.x[i]
            return self.p[:, :, None] * dy[:, None, :] + ds[:, :, None] * self.query

    return given(AttentionPool(3), random(2, 4, 3))
