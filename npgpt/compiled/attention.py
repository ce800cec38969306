# B batch, T time, C channels, H heads, D head size (C = H·D)
import math

import numpy as np

from npgpt import layers as textbook
from npgpt.compiled.base import CompiledComposite, CompiledLayer, check_float32, gradient, output, rows
from npgpt.core import Array, Cache, check_array
from npgpt.kernels import softmax
from npgpt.kernels.heads import mask_scores, multiply_heads
from npgpt.kernels.pool import pool


class Scores(CompiledLayer, textbook.Scores):
    """The compiled twin of ``npgpt.layers.Scores``: one product a head, then scaled and masked in place."""

    KEEPS = ("q", "k")

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        check_float32("Scores", "q", q)
        check_array("Scores", "q", q, ("B", "H", "T", "D"), like=q)
        check_array("Scores", "k", k, q.shape, like=q)
        q, k = cache.keep("q", q), cache.keep("k", k)
        s = output(cache, (*q.shape[:3], q.shape[2]))  # (B, H, T, T)
        multiply_heads(q, k.swapaxes(-1, -2), s)
        mask_scores(pool(), rows(s), 1 / math.sqrt(q.shape[-1]), -math.inf, rows(s))
        return s

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        q, k = cache["q"], cache["k"]
        check_array("Scores", "ds", ds, (*q.shape[:3], q.shape[2]), like=q)
        visible = gradient(cache, ds.shape, ds, name="ds")
        mask_scores(pool(), rows(ds), 1 / math.sqrt(q.shape[-1]), 0.0, rows(visible))  # 1.
        dq = cache.note("q", multiply_heads(visible, k, gradient(cache, q.shape, ds, name="dq")))  # 2.
        dk = multiply_heads(visible.swapaxes(-1, -2), q, gradient(cache, k.shape, ds, name="dk"))  # 3.
        return dq, cache.note("k", dk)


class Softmax(CompiledLayer, textbook.Softmax):
    """The compiled twin of ``npgpt.layers.Softmax``."""

    KEEPS = ("weights",)

    def forward(self, s: Array, cache: Cache) -> Array:
        check_float32("Softmax", "s", s)
        w = output(cache, s.shape)
        softmax.forward(pool(), rows(s), rows(w))
        return cache.keep("weights", w)

    def backward(self, dw: Array, cache: Cache) -> Array:
        w = cache["weights"]
        check_array("Softmax", "dw", dw, w.shape, like=w)
        cache.note("weights", dw)
        ds = gradient(cache, w.shape, dw)
        softmax.backward(pool(), rows(dw), rows(w), rows(ds))  # 1.
        return ds


class Mixing(CompiledLayer, textbook.Mixing):
    """The compiled twin of ``npgpt.layers.Mixing``. Heads lie side by side in what it returns, as (B, T, H, D)."""

    KEEPS = ("weights", "v")

    def forward(self, w: Array, v: Array, cache: Cache) -> Array:
        check_float32("Mixing", "v", v)
        check_array("Mixing", "v", v, ("B", "H", "T", "D"), like=v)
        B, H, T, D = v.shape
        check_array("Mixing", "w", w, (B, H, T, T), like=v)
        w, v = cache.keep("weights", w), cache.keep("v", v)
        return multiply_heads(w, v, output(cache, (B, T, H, D)).transpose(0, 2, 1, 3))

    def backward(self, dm: Array, cache: Cache) -> tuple[Array, Array]:
        w, v = cache["weights"], cache["v"]
        check_array("Mixing", "dm", dm, v.shape, like=v)
        dw = multiply_heads(dm, v.swapaxes(-1, -2), gradient(cache, w.shape, dm, name="dw"))  # 1.
        dv = multiply_heads(w.swapaxes(-1, -2), dm, gradient(cache, v.shape, dm, name="dv"))  # 2.
        return cache.note("weights", dw), cache.note("v", dv)


class Attention(CompiledComposite, textbook.Attention):
    """The compiled twin of ``npgpt.layers.Attention``."""

    KEEPS = ("q", "k", "v", "scores", "weights", "dropped", "mixed", "projected")
