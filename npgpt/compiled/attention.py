# B batch, T time, C channels, H heads, D head size (C = H·D)
import math

import numpy as np

import npgpt.layers as textbook
from npgpt.compiled.base import TWINS, CompiledLayer, add, check_float32, flat, gradient, output, rows
from npgpt.compiled.dropout import Dropout
from npgpt.compiled.linear import Linear
from npgpt.core import Array, Cache
from npgpt.kernels import attention, attention_backward, attention_few, softmax
from npgpt.kernels.attention import NO_BIAS, NO_STARTS, forward_size
from npgpt.kernels.attention_backward import backward_size
from npgpt.kernels.few_rows import FEW
from npgpt.kernels.heads import mask_scores, multiply_heads
from npgpt.layers.attention import check_queries_and_keys, of_own_document
from npgpt.machine.pool import pool, work_rows


class Scores(CompiledLayer, textbook.Scores):
    """The compiled twin of ``npgpt.layers.Scores``: one product for each head, then scaled and masked in place.

    Attributes
        IN_TILES: whether the tiled kernel of attention, which computes scaled dot products, also with a bias for each
            head and distance, can replace this layer.
        TURNS: whether queries and keys are rotated first, in place.
    """

    KEEPS: tuple[str, ...] = ("q", "k")
    IN_TILES, TURNS = True, False
    KEY_BIAS_CANCELS = True

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        check_float32("Scores", "q", q)
        check_float32("Scores", "k", k)
        check_queries_and_keys("Scores", q, k, q)
        return self.scaled(cache.keep("q", q), cache.keep("k", k), cache)

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        q, k = cache["q"], cache["k"]
        check_float32("Scores", "ds", ds, (*q.shape[:3], q.shape[2]))
        dq, dk = self.scaled_backward(self.visible(ds, q, cache), q, k, cache)
        return cache.note("q", dq), cache.note("k", dk)

    def scaled(self, q: Array, k: Array, cache: Cache) -> Array:
        """Return the scaled and masked dot products of T queries and n keys (B, H, T, n)."""
        s = output(cache, (*q.shape[:3], k.shape[2]))
        multiply_heads(q, k.swapaxes(-1, -2), s)
        mask_scores(pool(), rows(s), q.shape[2], 1 / math.sqrt(q.shape[-1]), -math.inf, rows(s))
        return s

    def visible(self, ds: Array, q: Array, cache: Cache) -> Array:
        """Return ds/√D where a key is visible, else 0."""
        visible = gradient(cache, ds.shape, ds, name="ds")
        mask_scores(pool(), rows(ds), q.shape[2], 1 / math.sqrt(q.shape[-1]), 0.0, rows(visible))  # 1.
        return visible

    def scaled_backward(self, visible: Array, q: Array, k: Array, cache: Cache) -> tuple[Array, Array]:
        """Return dq and dk, given the result of ``visible``."""
        dq = multiply_heads(visible, k, gradient(cache, q.shape, visible, name="dq"))  # 2.
        dk = multiply_heads(visible.swapaxes(-1, -2), q, gradient(cache, k.shape, visible, name="dk"))  # 3.
        return dq, dk

    def turn(self, q: Array, k: Array, cache: Cache) -> None:
        """If ``TURNS``, rotate queries and keys of a pass in place, and keep them."""

    def turn_back(self, dq: Array, dk: Array, cache: Cache) -> None:
        """If ``TURNS``, rotate the gradients back, in place."""

    def bias(self, q: Array, n: int, cache: Cache) -> Array:
        """Return the ``bias`` that the tiled kernel adds to q·k for n positions: that of a score times √D."""
        return NO_BIAS

    def bias_gradient(self, q: Array, cache: Cache) -> Array:
        """Return memory for the kernel's ``dbias``; NO_BIAS if the bias is not trained."""
        return NO_BIAS

    def collect_bias_gradient(self, q: Array, cache: Cache) -> None:
        """Add what the kernel wrote there to the gradient of the trained biases."""


class Softmax(CompiledLayer, textbook.Softmax):
    """The compiled twin of ``npgpt.layers.Softmax``."""

    KEEPS = ("weights",)

    def forward(self, s: Array, cache: Cache) -> Array:
        check_float32("Softmax", "s", s, (..., "T"))
        w = cache.keep("weights", output(cache, s.shape))  # a second forward raises here, before it overwrites w
        softmax.forward(pool(), rows(s), rows(w))
        return w

    def backward(self, dw: Array, cache: Cache) -> Array:
        w = cache["weights"]
        check_float32("Softmax", "dw", dw, w.shape)
        cache.note("weights", dw)
        ds = gradient(cache, w.shape, dw)
        softmax.backward(pool(), rows(dw), rows(w), rows(ds))  # 1.
        return ds


class Mixing(CompiledLayer, textbook.Mixing):
    """The compiled twin of ``npgpt.layers.Mixing``. Its output is a view of memory in the order (B, T, H, D)."""

    KEEPS = ("weights", "v")

    def forward(self, w: Array, v: Array, cache: Cache) -> Array:
        check_float32("Mixing", "v", v, ("B", "H", "T", "D"))
        B, H, T, D = v.shape
        check_float32("Mixing", "w", w, (B, H, "T", T))
        w, v = cache.keep("weights", w), cache.keep("v", v)
        return multiply_heads(w, v, output(cache, (B, w.shape[2], H, D)).transpose(0, 2, 1, 3))

    def backward(self, dm: Array, cache: Cache) -> tuple[Array, Array]:
        w, v = cache["weights"], cache["v"]
        check_float32("Mixing", "dm", dm, v.shape)
        dw = multiply_heads(dm, v.swapaxes(-1, -2), gradient(cache, w.shape, dm, name="dw"))  # 1.
        dv = multiply_heads(w.swapaxes(-1, -2), dm, gradient(cache, v.shape, dm, name="dv"))  # 2.
        return cache.note("weights", dw), cache.note("v", dv)


class Attention(CompiledLayer, textbook.Attention):
    """The compiled twin of ``npgpt.layers.Attention``: scores, softmax and mixing are one tiled kernel.

    The kernel makes no (T, T) array; backward computes the weights again. If a query sees one key, the gradients of
    both are exactly 0. Gradients equal those of the textbook in float32 to 1e-6 at every score (tested to 1e7) if the
    products q·k are exact, else to |s|·2**-23, since each side's scores have rounding errors of their own.

    The kernel supports scaled dot products, also of rotated queries and keys, and a bias for each head and distance.
    With other scores the sub-layers are called one after another, with (B, H, T, T) arrays as in the textbook. This is
    slower, and ``make_gpt`` warns.
    """

    KEEPS = ("q", "k", "v", "mixed")
    FUSES = (
        *((name, (Linear,)) for name in ("qkv", "projection")),
        *((name, (Dropout,)) for name in ("dropout", "residual_dropout")),
        ("softmax", (Softmax,)),
        ("mixing", (Mixing,)),
    )
    projection: Linear
    score: Scores

    @property
    def in_tiles(self) -> bool:
        """Whether the tiled kernel can be used. It cannot with a user's own scores, softmax or mixing."""
        ours = type(self.score) in TWINS.values() and (type(self.softmax), type(self.mixing)) == (Softmax, Mixing)
        return ours and self.score.IN_TILES

    def forward(self, x: Array, cache: Cache, residual: Array | None = None) -> Array:
        n_embd = len(self.qkv.weight.value)
        check_float32("Attention", "x", x, ("B", "T", n_embd))
        qkv = self.qkv.forward(x, cache.scope("qkv"))
        mixed = cache.for_each_text(self._mix_in_tiles if self.in_tiles else self._mix, qkv)
        cache.keep("mixed", self._cut(mixed))
        if self.residual_dropout.drops(cache):
            projected = self.projection.forward(mixed, cache.scope("projection"))
            dropped = self.residual_dropout.forward(projected, cache.scope("residual_dropout"))
            return dropped if residual is None else add(residual, dropped, output(cache, x.shape))
        return self.projection.forward(mixed, cache.scope("projection"), residual)

    def backward(self, dy: Array, cache: Cache) -> Array:
        check_float32("Attention", "dy", dy, ("B", "T", len(self.qkv.weight.value)))
        dprojected = self.residual_dropout.backward(dy, cache.scope("residual_dropout"))  # 1.
        dmixed = self.projection.backward(dprojected, cache.scope("projection"))
        cache.note("mixed", self._cut(dmixed))
        B, T, C = dmixed.shape
        dqkv = gradient(cache, (B, T, 3 * C), name="dqkv")
        if not self.in_tiles:
            self._mix_back(dmixed, dqkv, cache)  # 2.
            return self._back_to_x(dqkv, cache)  # 3. and 4.
        largest, totals = (flat(output(cache, (B, self.n_head, T), name)) for name in ("largest", "totals"))
        qkv = output(cache.scope("qkv"), (B, T, 3 * C))
        q, _, _ = self._parts(qkv)
        on, of_score = pool(), cache.scope("score")
        works = _works(on, cache, backward_size(T, C // self.n_head))
        attention_backward.backward(  # 2.
            on, rows(dmixed), rows(qkv), largest, totals, self.n_head, T, rows(dqkv),
            *self._dropping(B, cache), self.score.bias(q, T, of_score), self.score.bias_gradient(q, of_score),
            _starts(B, T, cache), works,
        )  # fmt: skip
        self.score.collect_bias_gradient(q, of_score)
        dq, dk, dv = self._parts(dqkv)
        self.score.turn_back(dq, dk, of_score)
        for name, part in self._kept_parts(dq, dk, dv):
            cache.note(name, part)
        return self._back_to_x(dqkv, cache)  # 3. and 4.

    def _mix_in_tiles(self, qkv: Array, cache: Cache) -> Array:
        """Compute mixed (B, T, C) from qkv (B, T, 3C) by the tiled kernel."""
        B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        q, k, v = self._parts(qkv)
        for name, part in self._kept_parts(q, k, v):
            cache.keep(name, part)
        of_score = cache.scope("score")
        self.score.turn(q, k, of_score)
        if cache.past is None:
            n, k_rows, v_rows = T, rows(qkv), rows(qkv)
        else:  # keys that were turned stay so: a position never changes
            n = cache.n_past + T
            k_rows, v_rows = (
                cache.past.memory(f"{cache.path}.{name}", x).reshape(-1, x.shape[3]) for name, x in (("k", k), ("v", v))
            )
        mixed = output(cache, (B, T, C), "mixed")
        largest, totals = (flat(output(cache, (B, self.n_head, T), name)) for name in ("largest", "totals"))
        on, bias = pool(), self.score.bias(q, n, of_score)
        arguments = on, rows(qkv), k_rows, v_rows, self.n_head, T, n, rows(mixed), largest, totals
        starts = _starts(B, T, cache)
        if T <= FEW and not self.dropout.drops(cache) and not len(starts):
            attention_few.forward(*arguments, bias, _works(on, cache, attention_few.forward_size(T, C // self.n_head)))
        else:
            works = _works(on, cache, forward_size(n, C // self.n_head))
            attention.forward(*arguments, *self._dropping(B, cache), bias, starts, works)
        return mixed

    def _mix(self, qkv: Array, cache: Cache) -> Array:
        """Compute the same by the sub-layers."""
        q, k, v = (cache.keep(name, part) for name, part in zip("qkv", self._parts(qkv), strict=True))
        k, v = cache.with_past("k", k), cache.with_past("v", v)
        scores = of_own_document(self.score.forward(q, k, cache.scope("score")), cache)  # (B, H, T, T)
        weights = self.softmax.forward(scores, cache.scope("softmax"))
        dropped = self.dropout.forward(weights, cache.scope("dropout"))
        return self._put_together(self.mixing.forward(dropped, v, cache.scope("mixing")))

    def _mix_back(self, dmixed: Array, dqkv: Array, cache: Cache) -> None:
        ddropped, dv = self.mixing.backward(self._cut(dmixed), cache.scope("mixing"))
        dweights = self.dropout.backward(ddropped, cache.scope("dropout"))
        dscores = self.softmax.backward(dweights, cache.scope("softmax"))
        dq, dk = self.score.backward(dscores, cache.scope("score"))
        for name, part, d in zip("qkv", self._parts(dqkv), (dq, dk, dv), strict=True):
            part[...] = cache.note(name, d)

    def _kept_parts(self, q: Array, k: Array, v: Array) -> list[tuple[str, Array]]:
        """Return the parts to keep here. If q and k are rotated in place, the score layer keeps them instead."""
        return [("v", v)] if self.score.TURNS else [("q", q), ("k", k), ("v", v)]

    def _parts(self, qkv: Array) -> list[Array]:
        """Return views of q, k and v, each (B, H, T, D)."""
        B, T, n = qkv.shape
        parts = qkv.reshape(B, T, 3, self.n_head, n // (3 * self.n_head))
        return [parts[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]

    def _dropping(self, B: int, cache: Cache) -> tuple[Array, int, float]:
        """Return the random key of each example, the threshold, and the factor 1/(1 − p); 0 and 1 without dropout."""
        if not self.dropout.drops(cache):
            return np.zeros(B, np.int64), 0, 1.0
        keys = self.dropout.keys(B, cache.scope("dropout")).view(np.int64)
        return keys, self.dropout.threshold, 1 / (1 - self.dropout.p)


def _works(on: Array, cache: Cache, size: int) -> Array:
    """Return work memory for each thread of a pool."""
    return cache.scratch("attention", (work_rows(on), size), np.float32)


def _starts(B: int, T: int, cache: Cache) -> Array:
    """Return the kernel's ``starts``."""
    starts = cache.starts(B, T)
    return NO_STARTS if starts is None else flat(starts)
