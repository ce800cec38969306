"""Wrong layers in the style of "micro-GPT in NumPy": norms, attention, embeddings, feed-forward blocks."""

import numpy as np
from named.given import given, mistake, random


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_backward(dp, p):
    return p * (dp - (dp * p).sum(-1, keepdims=True))


@mistake("input x", "lost term", "wrong operand")
def zero_centred_gain_without_its_one():
    """y = (1 + g) xhat, and backward multiplies dy by g. Public thread: a kernel was not told of the 1 +."""

    class LayerNorm1p:
        def __init__(self, n):
            self.g, self.b = 0.5 * random(n, seed=1), random(n, seed=2)

        def forward(self, x):
            self.r = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            self.xhat = (x - x.mean(-1, keepdims=True)) * self.r
            return (1 + self.g) * self.xhat + self.b

        def backward(self, dy):
            self.dg, self.db = (dy * self.xhat).sum(0), dy.sum(0)
            d = dy * self.g
            return self.r * (d - d.mean(-1, keepdims=True) - self.xhat * (d * self.xhat).mean(-1, keepdims=True))

    return given(LayerNorm1p(5), random(3, 5))


@mistake("input x", "order")
def gain_multiplied_after_the_means():
    """dx = gamma r (dy - mean(dy) - xhat mean(dy xhat)): gamma stands outside the means."""

    class LayerNorm:
        def __init__(self, n):
            self.gamma, self.beta = random(n, seed=1), random(n, seed=2)

        def forward(self, x):
            self.sigma = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
            self.norm = (x - x.mean(axis=-1, keepdims=True)) / self.sigma
            return self.gamma * self.norm + self.beta

        def backward(self, dout):
            self.dgamma, self.dbeta = (dout * self.norm).sum((0, 1)), dout.sum((0, 1))
            m1 = dout.mean(axis=-1, keepdims=True)
            m2 = (dout * self.norm).mean(axis=-1, keepdims=True)
            return self.gamma / self.sigma * (dout - m1 - self.norm * m2)

    return given(LayerNorm(4), random(2, 3, 4))


@mistake("input x")
def layer_norm_means_over_time_too():
    """backward takes x to be 2-D and averages over (T, C). Public thread: silently wrong for rank 3 in a library."""

    class LayerNorm:
        def forward(self, x):
            self.r = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            self.xhat = (x - x.mean(-1, keepdims=True)) * self.r
            return self.xhat

        def backward(self, dy):
            rows = dy.shape[0]
            d, xhat = dy.reshape(rows, -1), self.xhat.reshape(rows, -1)
            d = d - d.mean(1, keepdims=True) - xhat * (d * xhat).mean(1, keepdims=True)
            return d.reshape(dy.shape) * self.r

    return given(LayerNorm(), random(2, 3, 5))


@mistake("param gamma", "wrong operand", "transposed")
def gain_gradient_with_gain_of_the_row():
    """xhat = (y - beta) / gamma with the index of the row. Public thread: an invertible layer norm did that."""

    class InvertibleNorm:
        def __init__(self, n):
            self.gamma, self.beta = 1 + 0.3 * random(n, seed=1), random(n, seed=2)

        def forward(self, x):
            self.sigma = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            self.y = self.gamma * (x - x.mean(-1, keepdims=True)) / self.sigma + self.beta
            return self.y

        def backward(self, dy):
            self.dgamma = (dy * (self.y - self.beta[:, None]) / self.gamma[:, None]).sum(0)
            self.dbeta = dy.sum(0)
            xhat, d = (self.y - self.beta) / self.gamma, dy * self.gamma
            return (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True)) / self.sigma

    return given(InvertibleNorm(4), random(4, 4))


class Attention:
    """Causal attention of one head; the wrong backward passes are below."""

    def forward(self, q, k, v):
        self.q, self.k, self.v = q, k, v
        self.scale = 1 / np.sqrt(q.shape[-1])
        scores = q @ k.T * self.scale
        self.mask = np.triu(np.ones(scores.shape, dtype=bool), 1)
        self.p = softmax(np.where(self.mask, -1e9, scores))
        return self.p @ v

    def score_gradient(self, dy, p):
        return softmax_backward(dy @ self.v.T, p)


@mistake("input v", "mask")
def attention_recomputed_without_the_mask():
    """To save memory backward computes p anew, and forgets the causal mask."""

    class Recomputing(Attention):
        def backward(self, dy):
            p = softmax(self.q @ self.k.T * self.scale)
            ds = self.score_gradient(dy, p)
            return ds @ self.k * self.scale, ds.T @ self.q * self.scale, p.T @ dy

    return given(Recomputing(), random(5, 3), random(5, 3, seed=1), random(5, 4, seed=2))


@mistake("input k", "factor")
def attention_scale_twice_for_the_keys():
    """dk is scaled by 1 / sqrt(d) twice: by the scores' gradient and by the product."""

    class Scaled(Attention):
        def backward(self, dy):
            ds = self.score_gradient(dy, self.p) * self.scale
            return ds @ self.k, (ds * self.scale).T @ self.q, self.p.T @ dy

    return given(Scaled(), random(4, 3), random(4, 3, seed=1), random(4, 2, seed=2))


@mistake("input k", "own position", "lost term")
def keys_hear_of_their_own_query_only():
    """dk_t = ds_tt q_t: later queries, which look at this key, are forgotten."""

    class OwnKey(Attention):
        def backward(self, dy):
            ds = self.score_gradient(dy, self.p) * self.scale
            dk = np.diag(ds)[:, None] * self.q
            return ds @ self.k, dk, self.p.T @ dy

    return given(OwnKey(), random(5, 2), random(5, 2, seed=1), random(5, 3, seed=2))


@mistake("input scores")
def softmax_dot_product_over_all_rows():
    """sum(dp * p) is taken over the whole matrix, not over each row."""

    class Softmax:
        def forward(self, scores):
            self.p = softmax(scores)
            return self.p

        def backward(self, dp):
            return self.p * (dp - np.sum(dp * self.p))

    return given(Softmax(), random(3, 4))


@mistake("input x", "transposed")
def heads_merged_by_reshape_alone():
    """The gradient of merging heads reshapes (B, T, H D) to (B, H, T, D) and does not transpose."""

    class MergeHeads:
        def forward(self, x):
            b, h, t, d = self.shape = x.shape
            return x.transpose(0, 2, 1, 3).reshape(b, t, h * d)

        def backward(self, dy):
            return dy.reshape(self.shape)

    return given(MergeHeads(), random(2, 3, 4, 2))


@mistake("input x", "transposed", "sign")
def rotary_embedding_rotated_onwards():
    """The gradient is rotated by +theta again; the sine lacks its minus."""

    class Rotary:
        def tables(self, x):
            half = x.shape[1] // 2
            angle = np.arange(1, len(x) + 1)[:, None] / 10 ** (np.arange(half) / half)
            return np.cos(angle), np.sin(angle), half

        def forward(self, x):
            cos, sin, h = self.tables(x)
            return np.hstack([x[:, :h] * cos - x[:, h:] * sin, x[:, :h] * sin + x[:, h:] * cos])

        def backward(self, dy):
            return self.forward(dy)

    return given(Rotary(), random(3, 4))


@mistake("input x", "lost term", "lost factor")
def gelu_inner_slope_without_the_cubic_term():
    """The inner function x + 0.044715 x^3 is differentiated as x."""

    c = np.sqrt(2 / np.pi)

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(c * (x + 0.044715 * x**3)))

    def gelu_backward(dout, x):
        t = np.tanh(c * (x + 0.044715 * x**3))
        return dout * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c)

    return given(gelu, 1.2 * random(3, 5), backward=gelu_backward)


@mistake("input x", "constant")
def gelu_slope_with_printed_constants():
    """0.7979 and 0.107 stand for sqrt(2 / pi) and thrice 0.0357. Public threads: magic numbers in GELU's gradient."""

    class GELU:
        def forward(self, x):
            self.x = x
            self.t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
            return 0.5 * x * (1 + self.t)

        def backward(self, dy):
            x, t = self.x, self.t
            return dy * 0.5 * ((1 + t) + x * (1 - t**2) * (0.7979 + 0.107 * x**2))

    return given(GELU(), random(4, 3))


@mistake("input x", "writes", "sign of x", "mask", "lost term")
def residual_branch_that_overwrites_the_sum():
    """The branch masks dy in place, and the skip connection then gets the masked one."""

    class Residual:
        def forward(self, x):
            self.x = x
            return x + np.maximum(x, 0)

        def branch_backward(self, d):
            d *= self.x > 0
            return d

        def backward(self, dy):
            dbranch = self.branch_backward(dy)
            return dy + dbranch

    return given(Residual(), random(3, 5))


@mistake("input x", "lost term")
def residual_around_the_block_forgotten():
    """y = x + W2 tanh(W1 x): dx is the gradient through the block alone."""

    class Block:
        def __init__(self, n, hidden):
            self.W1, self.W2 = random(n, hidden, seed=1), random(hidden, n, seed=2)

        def forward(self, x):
            self.x = x
            self.h = np.tanh(x @ self.W1)
            return x + self.h @ self.W2

        def backward(self, dout):
            self.dW2 = self.h.T @ dout
            dh = dout @ self.W2.T * (1 - self.h**2)
            self.dW1 = self.x.T @ dh
            return dh @ self.W1.T

    return given(Block(4, 5), random(3, 4))


@mistake("param pos", "one example")
def position_embedding_of_the_first_sequence():
    """dpos = dy[0]: the sum over the batch is missing."""

    class Embedding:
        def __init__(self, vocab, length, dim):
            self.tok, self.pos = random(vocab, dim, seed=1), random(length, dim, seed=2)

        def forward(self, ids):
            self.ids = ids
            return self.tok[ids] + self.pos[: ids.shape[1]]

        def backward(self, dy):
            self.dtok, self.dpos = np.zeros_like(self.tok), np.zeros_like(self.pos)
            np.add.at(self.dtok, self.ids, dy)
            self.dpos[: dy.shape[1]] = dy[0]

    return given(Embedding(5, 6, 3), np.array([[1, 0, 3, 1], [2, 2, 4, 0], [3, 1, 0, 0]]))


@mistake("param W", "size", "lost term")
def weight_gradient_of_full_tiles_only():
    """dW is summed over tiles of 16 rows, and the last partial tile is left out."""

    class TiledLinear:
        def __init__(self):
            self.W = random(3, 2, seed=1)

        def forward(self, x):
            self.x = x
            return x @ self.W

        def backward(self, dy, tile=16):
            self.dW = np.zeros_like(self.W)
            for i in range(len(self.x) // tile):
                rows = slice(i * tile, (i + 1) * tile)
                self.dW += self.x[rows].T @ dy[rows]
            return dy @ self.W.T

    return given(TiledLinear(), random(37, 3))
