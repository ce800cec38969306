"""Attention layers with a named mistake."""

import numpy as np
from named.given import given, mistake, random


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def through_softmax(dp, p):
    return p * (dp - (dp * p).sum(-1, keepdims=True))


@mistake("input k", "factor")
def keys_scaled_twice():
    """dk is divided by sqrt(d) a second time."""

    class Attention:
        def forward(self, q, k, v):
            self.q, self.k, self.v, self.s = q, k, v, q.shape[-1] ** -0.5
            self.a = softmax(q @ k.T * self.s)
            return self.a @ v

        def backward(self, dy):
            ds = self.s * through_softmax(dy @ self.v.T, self.a)
            return ds @ self.k, self.s * ds.T @ self.q, self.a.T @ dy

    return given(Attention(), random(3, 5, seed=1), random(4, 5, seed=2), random(4, 2, seed=3))


@mistake("input v", "mask")
def causal_mask_forgotten_when_attention_is_recomputed():
    """backward recomputes the attention, without the causal mask."""

    def attend(q, k, v):
        s = np.einsum("btd,bsd->bts", q, k) / np.sqrt(q.shape[-1])
        return softmax(s + np.triu(np.full(s.shape[1:], -np.inf), 1)) @ v

    def attend_backward(dout, q, k, v):
        root = np.sqrt(q.shape[-1])
        p = softmax(np.einsum("btd,bsd->bts", q, k) / root)
        dv = np.einsum("bts,bte->bse", p, dout)
        ds = through_softmax(np.einsum("bte,bse->bts", dout, v), p) / root
        return ds @ k, np.swapaxes(ds, 1, 2) @ q, dv

    x = random(2, 4, 3, seed=4), random(2, 4, 3, seed=5), random(2, 4, 5, seed=6)
    return given(attend, *x, backward=attend_backward)


@mistake("input v", "own position")
def values_from_own_query_only():
    """dv[j] takes only what query j sends."""

    class Causal:
        def forward(self, q, k, v):
            self.q, self.k, self.v = q, k, v
            s = q @ k.T
            s[np.triu_indices(len(q), 1)] = -1e30
            self.p = softmax(s)
            return self.p @ v

        def backward(self, dy):
            dv = np.zeros_like(self.v)
            for i in range(len(dy)):
                dv[i] = self.p[i, i] * dy[i]
            ds = through_softmax(dy @ self.v.T, self.p)
            return ds @ self.k, ds.T @ self.q, dv

    return given(Causal(), random(5, 2, seed=7), random(5, 2, seed=8), random(5, 3, seed=9))


class MultiHead:
    """Self-attention with separate weights; right unless a subclass changes a step."""

    def __init__(self, width, heads):
        self.heads = heads
        self.Wq, self.Wk, self.Wv, self.Wo = (0.6 * random(width, width, seed=s) for s in range(20, 24))

    def split(self, x):
        return x.reshape(*x.shape[:-1], self.heads, -1).swapaxes(-2, -3)

    def join(self, h):
        h = h.swapaxes(-2, -3)
        return h.reshape(*h.shape[:-2], -1)

    def forward(self, x):
        self.x = x
        self.q, self.k, self.v = (self.split(x @ W) for W in (self.Wq, self.Wk, self.Wv))
        self.s = 1 / np.sqrt(self.q.shape[-1])
        self.p = softmax(self.s * self.q @ self.k.swapaxes(-1, -2))
        self.c = self.join(self.p @ self.v)
        return self.c @ self.Wo

    def backward(self, dy):
        self.dWo = self.outer(self.c, dy)
        dh = self.split_gradient(dy @ self.Wo.T)
        ds = self.s * through_softmax(dh @ self.v.swapaxes(-1, -2), self.p)
        dq, dk = self.join(ds @ self.k), self.join(ds.swapaxes(-1, -2) @ self.q)
        dv = self.join(self.p.swapaxes(-1, -2) @ dh)
        self.store(*(self.outer(self.x, d) for d in (dq, dk, dv)))
        return self.of_input(dq @ self.Wq.T, dk @ self.Wk.T, dv @ self.Wv.T)

    def outer(self, a, b):
        return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])

    def split_gradient(self, d):
        return self.split(d)

    def store(self, dWq, dWk, dWv):
        self.dWq, self.dWk, self.dWv = dWq, dWk, dWv

    def of_input(self, by_q, by_k, by_v):
        return by_q + by_k + by_v


@mistake("input x", "lost term")
def self_attention_without_value_path():
    """dx lacks the path through the values."""

    class Layer(MultiHead):
        def of_input(self, by_q, by_k, by_v):
            return by_q + by_k

    return given(Layer(4, 2), random(2, 3, 4, seed=10))


@mistake("param Wq", "swapped")
def query_and_key_weights_swapped():
    """dWq and dWk are stored the wrong way round."""

    class Layer(MultiHead):
        def store(self, dWq, dWk, dWv):
            self.dWq, self.dWk, self.dWv = dWk, dWq, dWv

    return given(Layer(6, 3), random(4, 6, seed=11))


@mistake("param Wv", "transposed")
def heads_of_gradient_split_by_reshape():
    """The gradient is reshaped to (heads, time, size) at once, without exchange of time and heads."""

    class Layer(MultiHead):
        def split_gradient(self, d):
            return d.reshape(self.v.shape)

    return given(Layer(4, 2), random(5, 4, seed=12))


@mistake("param v", "own position")
def additive_attention_with_diagonal_softmax():
    """The softmax passes back p (1 - p) only, so that v and the tensors before it are wrong."""

    class Additive:
        def __init__(self, n, hidden):
            self.W, self.v = random(n, hidden, seed=13), random(hidden, seed=14)

        def forward(self, x):
            self.x, self.t = x, np.tanh(x @ self.W)
            self.p = softmax(self.t @ self.v)
            return self.p @ x

        def backward(self, dy):
            de = (self.x @ dy) * self.p * (1 - self.p)
            self.dv = de @ self.t
            dz = np.outer(de, self.v) * (1 - self.t**2)
            self.dW = self.x.T @ dz
            return np.outer(self.p, dy) + dz @ self.W.T

    return given(Additive(3, 4), random(5, 3, seed=15))


@mistake("param W", "lost factor")
def additive_attention_without_tanh_derivative():
    """1 - tanh^2 is missing."""

    class Additive:
        def __init__(self, n, hidden):
            self.W, self.u = random(n, hidden, seed=16), random(hidden, seed=17)

        def forward(self, memory):
            self.m, self.t = memory, np.tanh(memory @ self.W)
            self.p = softmax(self.t @ self.u)
            return np.einsum("bs,bsd->bd", self.p, memory)

        def backward(self, dy):
            de = through_softmax(np.einsum("bd,bsd->bs", dy, self.m), self.p)
            self.du = np.einsum("bs,bsh->h", de, self.t)
            dz = de[..., None] * self.u
            self.dW = np.einsum("bsd,bsh->dh", self.m, dz)
            return self.p[..., None] * dy[:, None] + dz @ self.W.T

    return given(Additive(4, 3), random(2, 5, 4, seed=18))


@mistake("input q", "mask")
def attention_dropout_mask_forgotten():
    """The (fixed) dropout mask of the attention is not applied to the gradient on its way to the scores."""

    class Dropped:
        def __init__(self, keep):
            self.keep = keep

        def forward(self, q, k, v):
            self.q, self.k, self.v = q, k, v
            self.p = softmax(q @ k.T)
            return (self.p * self.keep) @ v

        def backward(self, dy):
            ds = through_softmax(dy @ self.v.T, self.p)
            return {"q": ds @ self.k, "k": ds.T @ self.q, "v": (self.p * self.keep).T @ dy}

    keep = np.array([[1, 0, 1, 1, 1.0], [1, 1, 0, 1, 0], [0, 1, 1, 1, 1]])
    x = random(3, 4, seed=19), random(5, 4, seed=20), random(5, 2, seed=21)
    return given(Dropped(keep), *x, constants=["keep"])


@mistake("input x", "transposed", "sign")
def rotation_turned_forward_again():
    """backward turns by +angle; the transpose, a turn by -angle, belongs (the sine's sign is wrong)."""

    def rotate(x, direction=1.0):
        t, half = np.arange(len(x))[:, None] + 1, x.shape[1] // 2
        angle = direction * t / 10 ** (np.arange(half) / half)
        a, b = x[:, :half], x[:, half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], axis=1)

    return given(rotate, random(5, 6, seed=22), backward=lambda dy, x: rotate(dy))


@mistake("param table", "repeated ids")
def relative_bias_keeps_last_of_equal_distances():
    """Many pairs share one bias; `=` keeps the last pair's gradient."""

    class RelativeBias:
        def __init__(self, reach):
            self.table = random(2 * reach + 1, seed=23)
            self.reach = reach

        def forward(self, scores):
            n = scores.shape[-1]
            t = np.arange(n)
            self.index = np.clip(t[:, None] - t[None], -self.reach, self.reach) + self.reach
            self.p = softmax(scores + self.table[self.index])
            return self.p

        def backward(self, dp):
            ds = through_softmax(dp, self.p)
            self.dtable = np.zeros_like(self.table)
            self.dtable[self.index] = ds
            return ds

    return given(RelativeBias(2), random(5, 5, seed=24))


@mistake("param slope", "sign")
def alibi_slope_with_plus():
    """The score is lowered by slope * distance, but dslope is the plain sum."""

    class Alibi:
        def __init__(self, heads):
            self.slope = 0.5 + 0.2 * random(heads, seed=25)

        def forward(self, scores):
            n = scores.shape[-1]
            self.distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
            self.p = softmax(scores - self.slope[:, None, None] * self.distance)
            return self.p

        def backward(self, dp):
            ds = through_softmax(dp, self.p)
            self.dslope = np.einsum("hij,ij->h", ds, self.distance)
            return ds

    return given(Alibi(2), random(2, 4, 4, seed=26))


@mistake("input memory", "lost term")
def cross_attention_without_gradient_through_keys():
    """The memory makes both keys and values; only the values send a gradient back."""

    def cross(x, memory, W):
        p = softmax(x @ W @ memory.T)
        return p @ memory, (x, memory, W, p)

    def cross_backward(dy, cache):
        x, memory, W, p = cache
        ds = through_softmax(dy @ memory.T, p)
        dxw = ds @ memory
        return dxw @ W.T, p.T @ dy, x.T @ dxw

    x = random(3, 2, seed=27), random(5, 4, seed=28), random(2, 4, seed=29)
    return given(cross, *x, backward=cross_backward)


@mistake("param tau", "power", "lost factor", "factor")
def temperature_gradient_with_one_division():
    """d(s / tau) / dtau = -s / tau^2, but backward divides by tau once."""

    class Sharpened:
        def __init__(self):
            self.tau = np.array([0.6])

        def forward(self, s):
            self.s, self.p = s, softmax(s / self.tau)
            return self.p

        def backward(self, dp):
            dz = through_softmax(dp, self.p)
            self.dtau = np.array([-(dz * self.s).sum() / self.tau[0]])
            return dz / self.tau

    return given(Sharpened(), random(3, 4, seed=30))
