"""Recurrent steps, whole sequences, embeddings and attention as pairs of functions."""

from collections import namedtuple

import numpy as np
from strangers.given import given, random, right


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rnn_step_forward(x, prev_h, wx, wh, b):
    next_h = np.tanh(x @ wx + prev_h @ wh + b)
    return next_h, (x, prev_h, wx, wh, next_h)


def rnn_step_backward(dnext_h, cache):
    x, prev_h, wx, wh, next_h = cache
    da = dnext_h * (1 - next_h**2)
    return da @ wx.T, da @ wh.T, x.T @ da, prev_h.T @ da, da.sum(axis=0)


@right
def recurrent_step():
    return given(
        rnn_step_forward,
        random(2, 3),
        random(2, 4, seed=1),
        random(3, 4, seed=2),
        random(4, 4, seed=3),
        random(4, seed=4),
        backward=rnn_step_backward,
    )


@right
def recurrent_sequence_with_a_list_of_caches():
    def rnn_forward(x, h0, wx, wh, b):
        h, caches = np.zeros((x.shape[0], x.shape[1], h0.shape[1])), []
        previous = h0
        for t in range(x.shape[1]):
            h[:, t], cache = rnn_step_forward(x[:, t], previous, wx, wh, b)
            previous = h[:, t]
            caches.append(cache)
        return h, caches

    def rnn_backward(dh, caches):
        n, steps, _ = dh.shape
        x, _, wx, wh, _ = caches[0]
        dx = np.zeros((n, steps, x.shape[1]))
        dwx, dwh, db = np.zeros(wx.shape), np.zeros(wh.shape), np.zeros(wh.shape[0])
        carried = np.zeros((n, wh.shape[0]))
        for t in reversed(range(steps)):
            dx[:, t], carried, gx, gh, gb = rnn_step_backward(dh[:, t] + carried, caches[t])
            dwx += gx
            dwh += gh
            db += gb
        return dx, carried, dwx, dwh, db

    return given(
        rnn_forward,
        random(2, 4, 3),
        random(2, 2, seed=1),
        random(3, 2, seed=2),
        random(2, 2, seed=3),
        random(2, seed=4),
        backward=rnn_backward,
    )


@right
def long_short_term_memory_step_with_three_results():
    """forward returns both states and the cache side by side, backward takes two gradients and the cache."""

    def lstm_step_forward(x, prev_h, prev_c, wx, wh, b):
        i, f, o, g = np.split(x @ wx + prev_h @ wh + b, 4, axis=1)
        i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
        next_c = f * prev_c + i * g
        next_h = o * np.tanh(next_c)
        cache = (x, prev_h, prev_c, wx, wh, i, f, o, g, next_c)
        return next_h, next_c, cache

    def lstm_step_backward(dnext_h, dnext_c, cache):
        x, prev_h, prev_c, wx, wh, i, f, o, g, next_c = cache
        squashed = np.tanh(next_c)
        dc = dnext_c + dnext_h * o * (1 - squashed**2)
        da = np.hstack(
            [dc * g * i * (1 - i), dc * prev_c * f * (1 - f), dnext_h * squashed * o * (1 - o), dc * i * (1 - g**2)]
        )
        return da @ wx.T, da @ wh.T, dc * f, x.T @ da, prev_h.T @ da, da.sum(axis=0)

    return given(
        lstm_step_forward,
        random(3, 2),
        random(3, 2, seed=1),
        random(3, 2, seed=2),
        random(2, 8, seed=3),
        random(2, 8, seed=4),
        random(8, seed=5),
        backward=lstm_step_backward,
    )


@right
def long_short_term_memory_step_with_a_pair_of_states():
    def forward(x, state, w):
        h, c = state
        z = np.concatenate([x, h, np.ones((len(x), 1))], axis=1)
        d = h.shape[1]
        a = z @ w
        forget, put, show = (sigmoid(a[:, k * d : (k + 1) * d]) for k in range(3))
        new = np.tanh(a[:, 3 * d :])
        c2 = forget * c + put * new
        return (show * np.tanh(c2), c2), {"z": z, "w": w, "c": c, "gates": (forget, put, show, new), "c2": c2}

    def backward(dstate, cache):
        dh, dc2 = dstate
        forget, put, show, new = cache["gates"]
        t = np.tanh(cache["c2"])
        dc2 = dc2 + dh * show * (1 - t * t)
        da = np.concatenate(
            [
                dc2 * cache["c"] * forget * (1 - forget),
                dc2 * new * put * (1 - put),
                dh * t * show * (1 - show),
                dc2 * put * (1 - new * new),
            ],
            axis=1,
        )
        dz = da @ cache["w"].T
        d = dh.shape[1]
        n = dz.shape[1] - 1 - d
        return dz[:, :n], (dz[:, n : n + d], dc2 * forget), cache["z"].T @ da

    return given(
        forward, random(2, 3), (random(2, 2, seed=1), random(2, 2, seed=2)), random(6, 8, seed=3), backward=backward
    )


@right
def gated_recurrent_step_with_named_weights():
    Weights = namedtuple("Weights", ["update", "reset", "new"])

    def forward(x, h, weights):
        xh = np.hstack((x, h))
        z, r = sigmoid(xh @ weights.update), sigmoid(xh @ weights.reset)
        xr = np.hstack((x, r * h))
        n = np.tanh(xr @ weights.new)
        return (1 - z) * h + z * n, (x, h, weights, xh, z, r, xr, n)

    def backward(dout, cache):
        x, h, weights, xh, z, r, xr, n = cache
        d = x.shape[1]
        dn = dout * z * (1 - n**2)
        dxr = dn @ weights.new.T
        dz = dout * (n - h) * z * (1 - z)
        dr = dxr[:, d:] * h * r * (1 - r)
        dxh = dz @ weights.update.T + dr @ weights.reset.T
        dh = dout * (1 - z) + dxr[:, d:] * r + dxh[:, d:]
        return dxr[:, :d] + dxh[:, :d], dh, Weights(xh.T @ dz, xh.T @ dr, xr.T @ dn)

    weights = Weights(random(5, 2, seed=2), random(5, 2, seed=3), random(5, 2, seed=4))
    return given(forward, random(3, 3), random(3, 2, seed=1), weights, backward=backward)


@right
def word_embedding_with_repeated_words():
    def word_embedding_forward(x, table):
        return table[x], (x, table.shape)

    def word_embedding_backward(dout, cache):
        x, shape = cache
        dtable = np.zeros(shape)
        np.add.at(dtable, x, dout)
        return dtable

    words = np.array([[0, 3, 3], [4, 0, 3]])
    return given(word_embedding_forward, words, random(6, 2), backward=word_embedding_backward)


@right
def embedding_that_gives_none_for_the_ids():
    def forward(ids, table, positions):
        return table[ids] * np.sqrt(table.shape[1]) + positions[: len(ids)]

    def backward(dy, ids, table, positions):
        onehot = (ids[:, None] == np.arange(len(table))).astype(float)
        dpositions = np.vstack([dy, np.zeros((len(positions) - len(ids), dy.shape[1]))])
        return None, onehot.T @ dy * np.sqrt(table.shape[1]), dpositions

    return given(forward, np.array([1, 1, 0, 4]), random(5, 3), random(6, 3, seed=1), backward=backward)


@right
def attention_by_einsum():
    def forward(q, k, v):
        scores = np.einsum("bqd,bkd->bqk", q, k) / np.sqrt(q.shape[-1])
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        return np.einsum("bqk,bkd->bqd", p, v), (q, k, v, p)

    def backward(dout, cache):
        q, k, v, p = cache
        dv = np.einsum("bqk,bqd->bkd", p, dout)
        dp = np.einsum("bqd,bkd->bqk", dout, v)
        ds = p * (dp - np.einsum("bqk,bqk->bq", dp, p)[..., None]) / np.sqrt(q.shape[-1])
        return np.einsum("bqk,bkd->bqd", ds, k), np.einsum("bqk,bqd->bkd", ds, q), dv

    return given(forward, random(2, 3, 4), random(2, 5, 4, seed=1), random(2, 5, 2, seed=2), backward=backward)


@right
def causal_attention_with_two_outputs():
    """The weights of attention are the second output and have an upstream gradient of their own."""

    def forward(q, k, v):
        seen = np.tril(np.ones((len(q), len(k)), dtype=bool))
        scores = np.where(seen, q @ k.T, -np.inf)
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        return p @ v, p

    def backward(dy, dp, q, k, v):
        _, p = forward(q, k, v)
        total = dp + dy @ v.T
        ds = p * (total - np.sum(total * p, axis=1, keepdims=True))
        return ds @ k, ds.T @ q, p.T @ dy

    return given(forward, random(4, 3), random(4, 3, seed=1), random(4, 2, seed=2), backward=backward)


@right
def attention_with_many_heads_and_padding():
    def split(x, heads):
        n, t, d = x.shape
        return x.reshape(n, t, heads, d // heads).transpose(0, 2, 1, 3)

    def join(x):
        n, h, t, d = x.shape
        return x.transpose(0, 2, 1, 3).reshape(n, t, h * d)

    def forward(x, wqkv, wo, lengths, heads=2):
        q, k, v = (split(part, heads) for part in np.split(x @ wqkv, 3, axis=-1))
        scale = q.shape[-1] ** -0.5
        scores = q @ k.swapaxes(-1, -2) * scale
        hidden = np.arange(x.shape[1]) >= lengths[:, None]
        scores = np.where(hidden[:, None, None, :], -1e9, scores)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p = p / p.sum(-1, keepdims=True)
        mixed = join(p @ v)
        return mixed @ wo, (x, wqkv, wo, q, k, v, p, mixed, scale, heads)

    def backward(dout, cache):
        x, wqkv, wo, q, k, v, p, mixed, scale, heads = cache
        dwo = np.einsum("ntd,nte->de", mixed, dout)
        dmixed = split(dout @ wo.T, heads)
        dv = p.swapaxes(-1, -2) @ dmixed
        dp = dmixed @ v.swapaxes(-1, -2)
        ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale
        dq, dk = ds @ k, ds.swapaxes(-1, -2) @ q
        dqkv = np.concatenate([join(dq), join(dk), join(dv)], axis=-1)
        dwqkv = np.tensordot(x, dqkv, axes=((0, 1), (0, 1)))
        return {"x": dqkv @ wqkv.T, "wqkv": dwqkv, "wo": dwo}

    return given(
        forward, random(2, 3, 4), 0.5 * random(4, 12, seed=1), random(4, 4, seed=2), np.array([3, 2]), backward=backward
    )


@right
def additive_attention_over_a_memory():
    def forward(query, memory, v):
        hidden = np.tanh(query[:, None, :] + memory)
        score = hidden @ v
        w = np.exp(score - score.max(1)[:, None])
        w /= w.sum(1)[:, None]
        return (w[:, :, None] * memory).sum(axis=1), (memory, v, hidden, w)

    def backward(dout, cache):
        memory, v, hidden, w = cache
        dw = np.einsum("nd,ntd->nt", dout, memory)
        dscore = w * (dw - (w * dw).sum(1, keepdims=True))
        dsum = dscore[:, :, None] * v * (1 - hidden**2)
        return dsum.sum(axis=1), dsum + w[:, :, None] * dout[:, None, :], np.einsum("nt,ntd->d", dscore, hidden)

    return given(forward, random(2, 3), random(2, 4, 3, seed=1), random(3, seed=2), backward=backward)


@right
def moving_average_with_a_learned_decay():
    """The decay is a single number, and has a single number as gradient."""

    def forward(x, decay):
        y, state = np.empty_like(x), 0.0
        for t in range(len(x)):
            state = decay * state + (1 - decay) * x[t]
            y[t] = state
        return y, (x, y, decay)

    def backward(dout, cache):
        x, y, decay = cache
        dx, ddecay, carry = np.empty_like(x), 0.0, 0.0
        for t in range(len(x) - 1, -1, -1):
            carry = dout[t] + carry
            before = y[t - 1] if t > 0 else 0.0
            ddecay += np.sum(carry * (before - x[t]))
            dx[t] = (1 - decay) * carry
            carry = decay * carry
        return dx, ddecay

    return given(forward, random(5, 2), 0.8, backward=backward)


@right
def chain_of_states_by_logsumexp():
    """The logarithm of the sum over all paths; the gradient is the probability of every step, by a second sweep."""

    def logsumexp(a, axis):
        top = a.max(axis=axis, keepdims=True)
        return np.squeeze(top, axis) + np.log(np.exp(a - top).sum(axis=axis))

    def forward(unary, pair):
        alphas = [unary[0]]
        for t in range(1, len(unary)):
            alphas.append(unary[t] + logsumexp(alphas[-1][:, None] + pair, axis=0))
        return logsumexp(alphas[-1], axis=0), (unary, pair, alphas)

    def backward(dout, cache):
        unary, pair, alphas = cache
        dunary, dpair = np.zeros_like(unary), np.zeros_like(pair)
        dalpha = dout * np.exp(alphas[-1] - logsumexp(alphas[-1], axis=0))
        for t in range(len(unary) - 1, 0, -1):
            dunary[t] = dalpha
            scores = alphas[t - 1][:, None] + pair
            step = np.exp(scores - logsumexp(scores, axis=0)) * dalpha
            dpair += step
            dalpha = step.sum(axis=1)
        dunary[0] = dalpha
        return dunary, dpair

    return given(forward, random(4, 3), random(3, 3, seed=1), backward=backward)


@right
def rotary_positions():
    def angles(x):
        half = x.shape[-1] // 2
        return np.arange(x.shape[0])[:, None] * 10.0 ** -np.arange(half)[None, :]

    def forward(x):
        a, b = x[:, ::2], x[:, 1::2]
        c, s = np.cos(angles(x)), np.sin(angles(x))
        out = np.empty_like(x)
        out[:, ::2] = a * c - b * s
        out[:, 1::2] = a * s + b * c
        return out

    def backward(dy, x):
        c, s = np.cos(angles(x)), np.sin(angles(x))
        dx = np.zeros_like(x)
        dx[:, ::2] = dy[:, ::2] * c + dy[:, 1::2] * s
        dx[:, 1::2] = dy[:, 1::2] * c - dy[:, ::2] * s
        return dx

    return given(forward, random(5, 4), backward=backward)
