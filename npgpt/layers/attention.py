# B batch, T time, C channels, H heads, D head size (C = H·D)
import math

import numpy as np

from npgpt.core import Array, Cache, Layer
from npgpt.core.shapes import check_array, check_gradient
from npgpt.core.values import whole
from npgpt.errors import ConfigError, ShapeError
from npgpt.layers.dropout import Dropout
from npgpt.layers.linear import Linear


class Scores(Layer):
    """Attention scores: the scaled dot product of each query and key, and −∞ for keys at later positions.

    Forward   s_ij = (q_i · k_j)/√D for j <= i, else −∞, in each head of each example
    Backward  given ds = ∂L/∂s:
      1. for j > i, s is −∞ and does not depend on q or k    ⇒ ds counts as 0 there
      2. q_i is in s_ij for every j <= i                     ⇒ dq_i = Σ_{j<=i} ds_ij k_j/√D,  that is dq = ds·k/√D
      3. k_j is in s_ij for every i >= j                     ⇒ dk_j = Σ_{i>=j} ds_ij q_i/√D,  that is dk = dsᵀ·q/√D
    Shapes    q, k, dq, dk (B, H, T, D); s, ds (B, H, T, T). When a text is continued, k is (B, H, n, D), q has the last
              T of n positions, and s is (B, H, T, n). This holds for forward of all score layers
    Keeps     q, k
    Raises    ShapeError if q and k differ in shape or precision
    Source    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1

    Attributes
        KEY_BIAS_CANCELS: whether a constant b added to all keys adds one number to all scores of a row, here q_i·b/√D.
            Softmax does not depend on that number, so the gradient of b is zero (``Attention``). A subclass does not
            inherit this, since it may compute other scores: it says so itself, or it is taken as False.

    >>> q = k = np.array([[[[1.], [2.]]]])              # two tokens, D = 1
    >>> Scores().forward(q, k, Cache())[0, 0]
    array([[  1., -inf],
           [  2.,   4.]])
    """

    KEY_BIAS_CANCELS = True

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        check_queries_and_keys("Scores", q, k, q)
        q, k = cache.keep("q", q), cache.keep("k", k)
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
        return np.where(visible(q.shape[-2], k.shape[-2]), scores, -np.inf)

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        q, k = cache["q"], cache["k"]
        check_gradient("Scores", "ds", ds, (*q.shape[:3], q.shape[2]), like=q)
        ds = ds * visible(q.shape[-2]) / math.sqrt(q.shape[-1])  # 1.
        dq = cache.note("q", ds @ k)  # 2.
        dk = cache.note("k", ds.swapaxes(-1, -2) @ q)  # 3.
        return dq, dk


class Softmax(Layer):
    """Softmax along the last axis: positive weights that sum to 1.

    Forward   w_j = e^(s_j)/Σ_k e^(s_k). The row's maximum is subtracted from s first: it cancels, and avoids overflow.
    Backward  given dw = ∂L/∂w:
      1. s_j is in the numerator of w_j and in the denominator Z = Σ_k e^(s_k) of every w_k. By the quotient rule
         ∂w_k/∂s_j = [k = j]·e^(s_k)/Z − e^(s_k)·e^(s_j)/Z² = w_k·([k = j] − w_j), where [k = j] is 1 if k = j, else 0
                                                   ⇒ ds_j = Σ_k dw_k w_k ([k = j] − w_j) = w_j·(dw_j − Σ_k dw_k w_k)
    Shapes    s, w, ds, dw any, all the same; each row needs at least one finite score
    Keeps     weights (that is w)

    >>> softmax, cache = Softmax(), Cache()
    >>> softmax.forward(np.log([[1., 3.]]), cache).round(9)
    array([[0.25, 0.75]])
    >>> softmax.backward(np.array([[1., 0.]]), cache).round(9)      # 1/4·(1 − 1/4), 3/4·(0 − 1/4)
    array([[ 0.1875, -0.1875]])
    """

    def forward(self, s: Array, cache: Cache) -> Array:
        check_array("Softmax", "s", s, (..., "T"), like=s)
        e = np.exp(s - s.real.max(-1, keepdims=True))
        return cache.keep("weights", e / e.sum(-1, keepdims=True))

    def backward(self, dw: Array, cache: Cache) -> Array:
        # forward was w = softmax(s); s[j] is in w[j] directly, and in all of w through the sum
        w = cache["weights"]
        check_gradient("Softmax", "dw", dw, w.shape, like=w)
        cache.note("weights", dw)
        ds: Array = w * (dw - (dw * w).sum(-1, keepdims=True))  # 1.
        return ds


class Mixing(Layer):
    """The sum of the values, weighted by the attention weights.

    Forward   m_i = Σ_j w_ij v_j, in each head of each example
    Backward  given dm = ∂L/∂m:
      1. w_ij is in m_i with the factor v_j              ⇒ dw_ij = dm_i · v_j,      that is dw = dm·vᵀ
      2. v_j is in every m_i, with the factor w_ij       ⇒ dv_j = Σ_i w_ij dm_i,    that is dv = wᵀ·dm
    Shapes    w, dw (B, H, T, T); v, m, dv, dm (B, H, T, D)
    Keeps     weights (that is w), v
    Raises    ShapeError if the sizes or precisions do not fit

    >>> w, v = np.array([[[[1., 0.], [.25, .75]]]]), np.array([[[[4.], [8.]]]])
    >>> Mixing().forward(w, v, Cache())[0, 0]           # 1·4, ¼·4 + ¾·8
    array([[4.],
           [7.]])
    """

    def forward(self, w: Array, v: Array, cache: Cache) -> Array:
        check_array("Mixing", "v", v, ("B", "H", "T", "D"), like=v)
        B, H, T, _ = v.shape
        check_array("Mixing", "w", w, (B, H, "T", T), like=v)
        w, v = cache.keep("weights", w), cache.keep("v", v)
        return w @ v

    def backward(self, dm: Array, cache: Cache) -> tuple[Array, Array]:
        w, v = cache["weights"], cache["v"]
        check_gradient("Mixing", "dm", dm, v.shape, like=v)
        dw = cache.note("weights", dm @ v.swapaxes(-1, -2))  # 1.
        dv = cache.note("v", w.swapaxes(-1, -2) @ dm)  # 2.
        return dw, dv


class Attention(Layer):
    """Causal multi-head self-attention: each token attends to itself and to the tokens before it.

    Forward   (q, k, v) = x·W_qkv + b_qkv, split into three, and each into H heads of D channels;
              scores = Score(q, k), weights = Softmax(scores), dropped = Dropout(weights), mixed = Mixing(dropped, v);
              projected = (mixed, heads merged)·W_p + b_p, y = Dropout(projected)
              If rows hold several documents (``Cache``), a score is −∞ for the keys of the earlier ones.
    Backward  given dy = ∂L/∂y: the same steps in reverse. Splitting and merging heads are each other's inverse.
      1. y = Dropout(projected)                         ⇒ dprojected = Dropout.backward(dy)
         projected = (mixed, heads merged)·W_p + b_p    ⇒ dmixed = dprojected·W_pᵀ, split into heads
      2. mixed = Mixing(dropped, v), ..., scores = Score(q, k)  ⇒ ddropped and dv, then dweights, dscores, dq and dk
         Without dropout this is, with S the scores, W the weights and M the mixed values (where W is 0, so is dS):
         dV = Wᵀ·dM,  dW = dM·Vᵀ,  dS = W ⊙ (dW − rowsum(dW ⊙ W)),  dQ = dS·K/√D,  dK = dSᵀ·Q/√D
      3. (q, k, v) = x·W_qkv + b_qkv                    ⇒ dx = (dq, dk, dv, heads merged)·W_qkvᵀ; x is in all three,
         and the product sums their contributions
      4. the keys' bias b adds q_i·b/√D to all scores of row i ⇒ db = Σ_i (Σ_j dS_ij) q_i/√D = 0, since by 2. a row of
         dS sums to rowsum(dW ⊙ W)·(1 − rowsum(W)) = 0. Rounded numbers would sum to noise, and AdamW divides noise by
         its own size: full steps in random directions. So nothing is added to the gradient of b. This is the rule for
         scores with ``KEY_BIAS_CANCELS``, not for rotated keys, nor if a part of this layer is of a user's own class.
    Shapes    x, y, dx, dy (B, T, C); q, k, v, mixed (B, H, T, D); scores, weights, dropped (B, H, T, T)
    Keeps     q, k, v, scores, weights, dropped, mixed, projected
    Raises    ConfigError if n_head does not divide n_embd; ShapeError if x is not (B, T, n_embd)
    Source    Vaswani et al. 2017, arXiv:1706.03762

    Args
        dropout: probability of dropping, for the weights and for the output.
        residual_std: standard deviation of the projection's initial weight.
        score: by default the scaled dot product, ``Scores``; ``scores.py`` has score layers that depend on positions.
        attention_dropout: another probability for the weights.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        dropout: float = 0.0,
        residual_std: float = 0.02,
        score: Scores | None = None,
        attention_dropout: float | None = None,
    ) -> None:
        n_embd, n_head = whole("Attention", "n_embd", n_embd, 1), whole("Attention", "n_head", n_head)
        if n_head < 1 or n_embd % n_head:
            raise ConfigError(
                f"Attention: n_embd {n_embd} cannot be divided among {n_head} heads; n_head must be a divisor of n_embd"
            )
        self.n_head = n_head
        self.qkv = Linear(n_embd, 3 * n_embd)
        self.score = score or Scores()
        self.softmax = Softmax()
        self.dropout = Dropout(dropout if attention_dropout is None else attention_dropout)
        self.mixing = Mixing()
        self.projection = Linear(n_embd, n_embd, residual_std)
        self.residual_dropout = Dropout(dropout)

    def forward(self, x: Array, cache: Cache) -> Array:
        n_embd = len(self.qkv.weight.value)
        check_array("Attention", "x", x, ("B", "T", n_embd), like=self.qkv.weight.value)
        qkv = self.qkv.forward(x, cache.scope("qkv"))
        q = cache.keep("q", self._cut(qkv[..., :n_embd]))
        k = cache.keep("k", self._cut(qkv[..., n_embd : 2 * n_embd]))
        v = cache.keep("v", self._cut(qkv[..., 2 * n_embd :]))
        k, v = cache.with_past("k", k), cache.with_past("v", v)
        scores = of_own_document(self.score.forward(q, k, cache.scope("score")), cache)  # (B, H, T, T)
        scores = cache.keep("scores", scores)
        weights = cache.keep("weights", self.softmax.forward(scores, cache.scope("softmax")))
        dropped = cache.keep("dropped", self.dropout.forward(weights, cache.scope("dropout")))
        mixed = cache.keep("mixed", self.mixing.forward(dropped, v, cache.scope("mixing")))  # (B, H, T, D)
        projected = cache.keep(
            "projected", self.projection.forward(self._put_together(mixed), cache.scope("projection"))
        )
        return self.residual_dropout.forward(projected, cache.scope("residual_dropout"))

    def backward(self, dy: Array, cache: Cache) -> Array:
        check_gradient("Attention", "dy", dy, ("B", "T", len(self.qkv.weight.value)), like=self.qkv.weight.value)
        dprojected = self.residual_dropout.backward(dy, cache.scope("residual_dropout"))  # 1.
        cache.note("projected", dprojected)
        dmixed = self._cut(self.projection.backward(dprojected, cache.scope("projection")))
        cache.note("mixed", dmixed)
        ddropped, dv = self.mixing.backward(dmixed, cache.scope("mixing"))  # 2.
        cache.note("dropped", ddropped)
        dweights = cache.note("weights", self.dropout.backward(ddropped, cache.scope("dropout")))
        dscores = cache.note("scores", self.softmax.backward(dweights, cache.scope("softmax")))
        dq, dk = self.score.backward(dscores, cache.scope("score"))
        dqkv = [self._put_together(cache.note(name, d)) for name, d in (("q", dq), ("k", dk), ("v", dv))]
        return self._back_to_x(np.concatenate(dqkv, axis=-1), cache)

    def _back_to_x(self, dqkv: Array, cache: Cache) -> Array:
        if not self.key_bias_cancels:
            return self.qkv.backward(dqkv, cache.scope("qkv"))  # 3.
        C = dqkv.shape[-1] // 3
        of_keys = cache.grad_to_add_to(self.qkv.bias)[C : 2 * C]
        before = cache.scratch("key_bias_grad", of_keys.shape, of_keys.dtype)
        before[...] = of_keys
        dx: Array = self.qkv.backward(dqkv, cache.scope("qkv"))  # 3.
        of_keys[...] = before  # 4.
        return dx

    @property
    def key_bias_cancels(self) -> bool:
        """Whether the gradient of the keys' bias is zero by rule. A user's own class may break the rule."""
        parts: tuple[tuple[Layer, type[Layer]], ...] = (self, Attention), (self.qkv, Linear), (self.softmax, Softmax)
        own_word = bool(vars(type(self.score)).get("KEY_BIAS_CANCELS"))
        return own_word and all(_is_exactly(layer, kind) for layer, kind in parts)

    def _cut(self, x: Array) -> Array:
        B, T, C = x.shape
        return x.reshape(B, T, self.n_head, C // self.n_head).transpose(0, 2, 1, 3)  # (B, H, T, D)

    def _put_together(self, x: Array) -> Array:
        B, H, T, D = x.shape
        return x.transpose(0, 2, 1, 3).reshape(B, T, H * D)


def _is_exactly(layer: Layer, kind: type[Layer]) -> bool:
    """Whether a layer is of a textbook class or of its compiled twin, not of a subclass."""
    return type(layer) is kind or (layer.COMPILED and kind in type(layer).__bases__)


def of_own_document(scores: Array, cache: Cache) -> Array:
    """Return scores (B, H, T, n), with −∞ for keys of earlier documents in a row. Softmax gives them no gradient."""
    starts = cache.starts(len(scores), scores.shape[2])
    if starts is None:
        return scores
    return np.where(np.arange(scores.shape[3]) >= starts[:, None, :, None], scores, -np.inf)


def visible(T: int, n_keys: int | None = None) -> Array:
    """The causal mask (T, n_keys): True where a query (row) may attend to a key (column), itself or an earlier one.

    The queries are those of the last T of the n_keys positions; by default of all.
    """
    T = whole("visible", "T", T, 0, 2**15)
    n_keys = T if n_keys is None else whole("visible", "n_keys", n_keys, T, 2**15)
    return np.tri(T, n_keys, n_keys - T, dtype=bool)


def check_queries_and_keys(who: str, q: Array, k: Array, like: Array, H: int | str = "H", D: int | str = "D") -> None:
    """Raise ShapeError if q is not (B, H, T, D), or k not (B, H, n, D) with n >= T: the queries are those of the last T
    of n positions.
    """
    check_array(who, "q", q, ("B", H, "T", D), like=like)
    check_array(who, "k", k, (*q.shape[:2], "T", q.shape[3]), like=like)
    if k.shape[2] < q.shape[2]:
        raise ShapeError(f"{who}: q has {q.shape[2]} positions and k {k.shape[2]}; there are no more queries than keys")
