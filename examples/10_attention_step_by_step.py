"""How does an average become attention, one small step at a time?

Ten layers: each adds one idea to the layer before, and each has a backward pass. All gradients are checked, and each
layer is compared with the one before where the two must agree. The last part shows the cost of each layer.
"""

# B batch, T time, C channels, H heads, D head size (C = H·D), p probability of dropping
import math
import os
import timeit
from collections.abc import Callable, Iterator, Sequence
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # NumPy reads these at import
import numpy as np

from npgpt.core import Array, Cache, Layer
from npgpt.layers import Attention, Dropout, Linear, visible
from npgpt.study.check.cases import Case, of_order_one
from npgpt.study.check.checker import check_case, gradcheck, upstream


# %% 1. Averaging with loops
class LoopAverage(Layer):
    """Each output is the mean of all tokens.

    Forward   y_i = Σ_j x_j/T
    Backward  1. x_j enters every y_i with the factor 1/T    ⇒ dx_j = Σ_i dy_i/T
    Shapes    x, y, dx, dy (B, T, C)
    """

    def forward(self, x: Array, cache: Cache) -> Array:
        T, y = x.shape[1], np.empty_like(x)
        for b, i, c in np.ndindex(x.shape):
            y[b, i, c] = sum(x[b, j, c] for j in range(T)) / T
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        T, dx = dy.shape[1], np.empty_like(dy)
        for b, j, c in np.ndindex(dy.shape):
            dx[b, j, c] = sum(dy[b, i, c] / T for i in range(T))  # 1.
        return dx


# %% 2. Averaging as a matrix
class MatrixAverage(Layer):
    """The same mean as a product with a matrix of weights, all of them 1/T.

    Forward   y = w·x, that is y_i = Σ_j w_ij x_j
    Backward  1. w_ij enters y_i of every example, with the factor x_j    ⇒ dw = Σ_b dy·xᵀ
              2. x_j enters every y_i, with the factor w_ij               ⇒ dx = wᵀ·dy
    Shapes    x, y, dx, dy (B, T, C); w, dw (T, T)
    Keeps     x, weights (= w)
    """

    def forward(self, x: Array, cache: Cache) -> Array:
        T, x = x.shape[1], cache.keep("x", x)
        return cache.keep("weights", np.full((T, T), 1 / T, x.real.dtype)) @ x

    def backward(self, dy: Array, cache: Cache) -> Array:
        cache.note("weights", (dy @ cache["x"].swapaxes(-1, -2)).sum(0))  # 1.
        return cache.note("x", cache["weights"].T @ dy)  # 2.


# %% 3. Dot-product scores
class DotScores(Layer):
    """The weight of token j for token i is the dot product of the query q_i and the key k_j, over T.

    Forward   s = q·kᵀ,  y = s·v/T
    Backward  1. y_i = Σ_j s_ij v_j/T    ⇒ ds = dy·vᵀ/T,  dv = sᵀ·dy/T
              2. s_ij = q_i·k_j          ⇒ dq = ds·k,  dk = dsᵀ·q
    Shapes    q, k (..., T, D); v, y (..., T, any); s (..., T, T); each gradient as its array
    Keeps     q, k, v, scores (= s)
    """

    def forward(self, q: Array, k: Array, v: Array, cache: Cache) -> Array:
        q, k, v = cache.keep("q", q), cache.keep("k", k), cache.keep("v", v)
        return np.asarray(cache.keep("scores", q @ k.swapaxes(-1, -2)) @ v / v.shape[-2])

    def backward(self, dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
        q, k, v, dy = cache["q"], cache["k"], cache["v"], dy / dy.shape[-2]
        ds, dv = cache.note("scores", dy @ v.swapaxes(-1, -2)), cache["scores"].swapaxes(-1, -2) @ dy  # 1.
        return cache.note("q", ds @ k), cache.note("k", ds.swapaxes(-1, -2) @ q), cache.note("v", dv)  # 2.


# %% 4. Scaled softmax
class ScaledSoftmax(Layer):
    """Softmax turns the scores into positive weights that sum to 1.

    Forward   s = q·kᵀ/√D,  w_ij = e^(s_ij)/Σ_k e^(s_ik),  y = w·v
    Backward  1. y_i = Σ_j w_ij v_j       ⇒ dw = dy·vᵀ,  dv = wᵀ·dy
              2. s_ij is in w_ij's numerator, and in its row's denominator    ⇒ ds_ij = w_ij·(dw_ij − Σ_k dw_ik w_ik)
              3. s_ij = q_i·k_j/√D        ⇒ dq = ds·k/√D,  dk = dsᵀ·q/√D
    Shapes    as before; w, dw (..., T, T)
    Keeps     q, k, v, scores, weights, dropped (equal to weights up to layer 6)
    Source    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1
    """

    def forward(self, q: Array, k: Array, v: Array, cache: Cache) -> Array:
        q, k, v = cache.keep("q", q), cache.keep("k", k), cache.keep("v", v)
        s = cache.keep("scores", self.scores(q, k))
        e = np.exp(s - s.real.max(-1, keepdims=True))  # the maximum cancels; it prevents overflow
        w = cache.keep("weights", e / e.sum(-1, keepdims=True))
        return cache.keep("dropped", self.drop(w, cache)) @ v

    def backward(self, dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
        q, k, v, w = cache["q"], cache["k"], cache["v"], cache["weights"]
        dr, dv = cache.note("dropped", dy @ v.swapaxes(-1, -2)), cache["dropped"].swapaxes(-1, -2) @ dy  # 1.
        dw = cache.note("weights", self.drop(dr, cache))
        ds = cache.note("scores", w * (dw - (dw * w).sum(-1, keepdims=True))) / math.sqrt(q.shape[-1])  # 2., 3.
        return cache.note("q", ds @ k), cache.note("k", ds.swapaxes(-1, -2) @ q), cache.note("v", dv)

    def scores(self, q: Array, k: Array) -> Array:
        return np.asarray(q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]))

    def drop(self, w: Array, cache: Cache) -> Array:
        return w  # layer 7 overrides this


# %% 5. Trainable q, k, v
class Head(Layer):
    """Self-attention: trained weights compute queries, keys and values from x.

    Forward   q = x·W_q + b_q,  k = x·W_k + b_k,  v = x·W_v + b_v,  y = attend(q, k, v)
    Backward  1. attend gives dq, dk, dv; Linear derives the gradients of its parameters, dW_q = xᵀ·dq, db_q = Σ dq
              2. x feeds all three    ⇒ dx = dq·W_qᵀ + dk·W_kᵀ + dv·W_vᵀ
    Shapes    x, dx (B, T, C); q, k, v, y (B, T, D)
    """

    def __init__(self, C: int, D: int, attend: Layer) -> None:
        self.q, self.k, self.v, self.attend = Linear(C, D), Linear(C, D), Linear(C, D), attend

    def forward(self, x: Array, cache: Cache) -> Array:
        q, k, v = (getattr(self, name).forward(x, cache.scope(name)) for name in "qkv")
        return self.attend.forward(q, k, v, cache.scope("attend"))

    def backward(self, dy: Array, cache: Cache) -> Any:
        parts = zip("qkv", self.attend.backward(dy, cache.scope("attend")), strict=True)  # 1.
        return sum(getattr(self, name).backward(d, cache.scope(name)) for name, d in parts)  # 2.


# %% 6. Causal
class Causal(ScaledSoftmax):
    """A query attends to its own and earlier keys only.

    Forward   s_ij = q_i·k_j/√D where i sees j, else −∞; the rest as before
    Backward  1. where s = −∞, w = 0 for all q and k    ⇒ ds_ij = w_ij·(...) = 0: no new line is needed
    """

    sees: Callable[[int], Array] = staticmethod(visible)  # T -> (T, T), the keys (columns) that a query (row) may see

    def scores(self, q: Array, k: Array) -> Array:
        return np.where(self.sees(q.shape[-2]), super().scores(q, k), -np.inf)


# %% 7. Dropout
class Dropping(Causal):
    """In training, some weights are set to 0 and the others are scaled up.

    Forward   r = w ⊙ f,  f = 1/(1 − p) with probability 1 − p, else 0;  y = r·v
    Backward  1. y = r·v uses the dropped weights    ⇒ dr = dy·vᵀ,  dv = rᵀ·dy
              2. f does not depend on w              ⇒ dw = dr ⊙ f; the softmax's backward uses w, not r
    """

    def __init__(self, p: float) -> None:
        self.dropout = Dropout(p)

    def drop(self, w: Array, cache: Cache) -> Array:
        p, own = self.dropout.p, cache.scope("dropout")  # backward draws the same mask from it
        return w * self.dropout.mask(w.shape, own) / (1 - p) if self.dropout.drops(own) else w


# %% 8. Several heads
class SideBySide(Layer):
    """Several heads of C/H channels, each with its own weights, and a projection that mixes their outputs.

    Forward   y = [head_1(x) | ... | head_H(x)]·W_p + b_p
    Backward  1. each head gets the gradient of its columns; x feeds all heads    ⇒ dx = Σ_h dx_h
    """

    def __init__(self, C: int, H: int, p: float) -> None:
        self.heads, self.projection = [Head(C, C // H, Dropping(p)) for _ in range(H)], Linear(C, C)

    def forward(self, x: Array, cache: Cache) -> Array:
        mixed = [head.forward(x, cache.scope(f"heads.{h}")) for h, head in enumerate(self.heads)]
        return self.projection.forward(np.concatenate(mixed, -1), cache.scope("projection"))

    def backward(self, dy: Array, cache: Cache) -> Any:
        parts = np.split(self.projection.backward(dy, cache.scope("projection")), len(self.heads), -1)
        return sum(head.backward(parts[h], cache.scope(f"heads.{h}")) for h, head in enumerate(self.heads))  # 1.


# %% 9. One fused projection
class Fused(Layer):
    """The same heads with one product for the queries, keys and values of all heads; the heads become an axis.

    Forward   (q, k, v) = x·W_qkv + b_qkv, each split into heads;  y = attend(q, k, v), merged, ·W_p + b_p
    Backward  1. splitting and merging only move numbers, and are each other's inverse
              2. W_qkv = [W_q | W_k | W_v]: the product in Linear's dx sums the shares of q, k and v
    Shapes    x, y, dx, dy (B, T, C); q, k, v (B, H, T, D)
    """

    def __init__(self, C: int, H: int, attend: Layer) -> None:
        self.H, self.attend, self.qkv, self.projection = H, attend, Linear(C, 3 * C), Linear(C, C)

    def forward(self, x: Array, cache: Cache) -> Array:
        qkv = self.qkv.forward(x, cache.scope("qkv")).reshape(*x.shape[:2], 3, self.H, -1)
        mixed = self.attend.forward(*qkv.transpose(2, 0, 3, 1, 4), cache.scope("attend"))  # (B, H, T, D)
        return self.projection.forward(mixed.swapaxes(1, 2).reshape(x.shape), cache.scope("projection"))

    def backward(self, dy: Array, cache: Cache) -> Array:
        dmixed = self.projection.backward(dy, cache.scope("projection")).reshape(*dy.shape[:2], self.H, -1)  # 1.
        dqkv = np.stack(self.attend.backward(dmixed.swapaxes(1, 2), cache.scope("attend")))  # (3, B, H, T, D)
        return self.qkv.backward(dqkv.transpose(1, 3, 0, 2, 4).reshape(*dy.shape[:2], -1), cache.scope("qkv"))  # 2.


# %% 10. Tiles
class Tiled(Layer):
    """Causal attention by tiles of keys: it never holds (T, T) numbers, and rescales its sums after each tile.

    Forward   over the tiles so far each query has M = max s, l = Σ_j e^(s_j − M), a = Σ_j e^(s_j − M) v_j; if a tile
              raises M to M', the sums so far are multiplied by e^(M − M'). At the end λ = M + log l, y = a·e^(M − λ)
    Backward  each tile of weights is computed again, w_ij = e^(s_ij − λ_i):
              1. y_i = Σ_j e^(s_ij − λ_i) v_j                   ⇒ dλ_i = −dy_i·y_i;  dw = dy·vᵀ,  dv = wᵀ·dy
              2. s_ij is in w_ij, and in λ_i with the slope w_ij    ⇒ ds_ij = w_ij·(dw_ij + dλ_i), as in layer 4
    Shapes    as before; λ, dλ (..., T, 1)
    Keeps     q, k, v, y, lse (= λ, the log-sum-exp of the scores)
    Source    Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135
    """

    def __init__(self, keys: int) -> None:
        self.keys = keys  # in a tile; this layer also computes fully masked tiles, kernels/attention.py skips them

    def forward(self, q: Array, k: Array, v: Array, cache: Cache) -> Array:
        q, k, v = cache.keep("q", q), cache.keep("k", k), cache.keep("v", v)
        top, total, mixed = np.array((-np.inf, 0, 0), q.real.dtype)
        for tile, s in self.tiles(q, k):
            top, last = np.maximum(top, s.real.max(-1, keepdims=True)), top
            e, shrink = np.exp(s - top), np.exp(last - top)
            total, mixed = total * shrink + e.sum(-1, keepdims=True), mixed * shrink + e @ v[..., tile, :]
        lse = cache.keep("lse", top + np.log(total))
        return cache.keep("y", mixed * np.exp(top - lse))

    def backward(self, dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
        q, k, v, lse = cache["q"], cache["k"], cache["v"], cache["lse"]
        dq, dk, dv = np.zeros_like(q), np.empty_like(k), np.empty_like(v)
        dlse = cache.note("lse", -(cache.note("y", dy) * cache["y"]).sum(-1, keepdims=True))  # 1.
        for tile, s in self.tiles(q, k):
            w = np.exp(s - lse)
            ds = w * (dy @ v[..., tile, :].swapaxes(-1, -2) + dlse) / math.sqrt(q.shape[-1])  # 2.
            dq += ds @ k[..., tile, :]
            dk[..., tile, :], dv[..., tile, :] = ds.swapaxes(-1, -2) @ q, w.swapaxes(-1, -2) @ dy
        return cache.note("q", dq), cache.note("k", dk), cache.note("v", dv)

    def tiles(self, q: Array, k: Array) -> Iterator[tuple[slice, Array]]:
        for first in range(0, k.shape[-2], self.keys):
            tile = slice(first, first + self.keys)
            s = q @ k[..., tile, :].swapaxes(-1, -2) / math.sqrt(q.shape[-1])
            yield tile, np.where(np.tri(s.shape[-2], s.shape[-1], -first, dtype=bool), s, -np.inf)


# %% The steps, checked and compared
rng, names = np.random.default_rng(0), list[str]()
B, T, C, H = 2, 5, 4, 2
x, q, k, v = rng.normal(size=(4, B, T, C))


def rung(name: str, adds: str, layer: Layer, *inputs: Array, training: bool = False) -> None:
    """Print the idea that a layer adds, and check all its gradients."""
    report = check_case(Case(name, layer, {"x": x}, training=True)) if training else gradcheck(layer, *inputs)
    assert report.passed and not any(check.skipped for check in report), report
    names.append(name)
    print(f"\n{len(names)}. {name}\n   adds: {adds}")
    worst = [f"{m} {max(c.error for c in report if c.method == m):.0e}" for m in ("differences", "complex", "tape")]
    print(f"   gradcheck: all right (tensors: {len({c.tensor for c in report})}); largest errors: {', '.join(worst)}")


def run(layer: Layer, *inputs: Array, cache: Cache | None = None, at: int | slice = slice(None)) -> list[Array]:
    """Return the output, and the gradients of inputs and parameters under a random dy (zero outside some positions)."""
    layer.zero_grad()
    y = layer.forward(*inputs, cache := cache or Cache())
    dy = np.zeros_like(y)
    dy[:, at] = upstream(y)[:, at]
    dinputs = layer.backward(dy, cache)
    grads = [param.grad.copy() for param in layer.parameters().values()]
    return [y, *(dinputs if isinstance(dinputs, tuple) else [dinputs]), *grads]


def same(what: str, got: Sequence[Array], expected: Sequence[Array]) -> None:
    off = max(float(np.abs(a - b).max()) for a, b in zip(got, expected, strict=True))
    assert off < 1e-12, f"{what}: largest difference {off}"
    print(f"   equals {what}: largest difference {off:.0e}")


def like(layer: Layer, other: Any, change: Callable[[list[Array]], list[Array]] = list) -> Any:
    """Return the other layer, with the weights of this one."""
    values = change([param.value for param in layer.parameters().values()])
    for param, value in zip(other.parameters().values(), values, strict=True):
        param.value[...] = value
    return other


def fuse(p: list[Array]) -> list[Array]:
    """Return W_qkv, b_qkv, W_p, b_p from the parameters (or gradients) of two heads side by side."""
    return [*(np.concatenate([p[i + kind] for i in (0, 6, 2, 8, 4, 10)], -1) for kind in (0, 1)), *p[-2:]]


loops, matrix, dots, scaled = LoopAverage(), MatrixAverage(), DotScores(), ScaledSoftmax()
rung("averaging with loops", "information flows between tokens; backward is an average too", loops, x)
rung("averaging as a matrix", "weights; their gradient says which weights should grow", matrix, x)
same("layer 1 in y, dx", run(matrix, x), run(loops, x))
unit, none = np.eye(C)[np.zeros((B, T), int)], np.zeros_like(q)
rung("dot-product scores", "weights that depend on the tokens; but the result is no longer a mean", dots, q, k, v)
same("layer 2 in y, dv, if every q·k is 1", run(dots, unit, unit, v)[::3], run(matrix, v)[:2])
rung("scaled softmax", "a weighted mean: the weights are positive and sum to 1", scaled, q, k, v)
same("layer 2 in y, dv, if q = 0", run(scaled, none, k, v)[::3], run(matrix, v)[:2])
got, expected = run(scaled, none, k, v)[1:3], run(dots, none, k, v - v.mean(1, keepdims=True))[1:3]
same("layer 3 in √D·dq, √D·dk, if q = 0 and v has mean 0", [math.sqrt(C) * d for d in got], expected)

head = of_order_one(Head(C, C, scaled), rng)
plain = like(head, Head(C, C, scaled), lambda _: [np.eye(C), np.zeros(C)] * 3)
rung("trainable q, k, v", "queries, keys and values are learned, each with its own weights", head, x)
y, *fed = run(scaled, x, x, x)
same("layer 4 for q = k = v = x, in y and dx = dq + dk + dv, if W = 1", run(plain, x)[:2], [y, np.sum(fed, 0)])
bq, bk, bv = (np.abs(grad).max() for grad in run(head, x)[3::2])
assert bk < 1e-14 < 1e-3 < min(bq, bv)
print(f"   largest db_q {bq:.2f}, db_k {bk:.0e}, db_v {bv:.2f}: b_k adds the same number to all scores of a query")

causal, unmasked = like(head, Head(C, C, Causal())), like(head, Head(C, C, Causal()))
unmasked.attend.sees = lambda T: np.ones((T, T), bool)
rung("causal", "a mask of later tokens: one pass trains all T predictions", causal, x)
same("layer 5 in y, dx, dW, db, if the mask is all ones", run(unmasked, x), run(head, x))
dropping, zero = like(head, Head(C, C, Dropping(0.3))), like(head, Head(C, C, Dropping(0)))
rung("dropout", "regularization: a token cannot rely on one other token alone", dropping, x, training=True)
got = run(zero, x, cache=Cache(training=True)) + run(dropping, x)
same("layer 6 in y, dx, dW, db, if p = 0, and if not training", got, run(causal, x) * 2)

heads = of_order_one(SideBySide(C, H, 0.3), rng)
single = like(dropping, SideBySide(C, 1, 0.3), lambda weights: [*weights, np.eye(C), np.zeros(C)])
rung("several heads side by side", "several weighted means at once, each of C/H channels", heads, x, training=True)
expected = run(dropping, x, cache=Cache(training=True).scope("heads.0"))  # a mask depends on the path
same("layer 7 in y, dx, dW, db, if H = 1 and W_p = 1", run(single, x, cache=Cache(training=True))[:-2], expected)
fused = like(heads, Fused(C, H, Dropping(0.3)), fuse)
attention = like(fused, Attention(C, H, 0.3))
attention.residual_dropout = Dropout(0)  # layer 9 drops weights only
rung("one fused projection", "speed: one product instead of 3·H small ones", fused, x, training=True)
same("layer 8 in y, dx, dW, db, concatenated", run(fused, x), run(heads, x)[:2] + fuse(run(heads, x)[2:]))
expected = run(attention, x, cache=Cache(training=True).scope("attend"))
same("npgpt.layers.Attention in y, dx, dW, db in training", run(fused, x, cache=Cache(training=True)), expected)
tiled = like(fused, Fused(C, H, Tiled(2)))
rung("tiles, online softmax", "memory that grows with T, not T² (without dropout)", tiled, x)
same("layer 9 and Attention in y, dx, dW, db", run(tiled, x) * 2, run(fused, x) + run(attention, x))

# %% What each step costs
T, C, H, drop = 64, 32, 4, Dropping(0.1)
x = rng.normal(size=(1, T, C))
ladder: list[Layer] = [loops, matrix, dots, scaled, *(Head(C, C, core) for core in (scaled, Causal(), drop))]
ladder += [SideBySide(C, H, 0.1), Fused(C, H, drop), Fused(C, H, Tiled(16))]
print(f"\nforward and backward, T = {T}, C = {C}, H = {H}        ms   numbers kept for backward")
for name, layer in zip(names, ladder, strict=True):
    inputs, cache = [x] * (3 if layer in (dots, scaled) else 1), Cache(training=True)
    both = "layer.backward(layer.forward(*inputs, cache.reset()), cache)"
    ms = 1e3 * np.median(timeit.repeat(both, globals=globals(), number=1, repeat=7))
    print(f"{name:43}{ms:10.2f}{sum({id(a): a.size for _, a, _ in cache.walk()}.values()):11,}")
