# T time, H heads, D head size, N distances; letters: b h d as in rules.py, i query, j key, n distance
"""How the attention scores are computed, for each score layer. ``rules.py`` has the other layers."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import npgpt.layers as layers
from npgpt.core import Array, Layer
from npgpt.layers.scores import slopes, turning

Cut = Callable[[Array], Array]


class UnknownLayer(Exception):  # noqa: N818
    """The layer is not one of npgpt's own: how it computes is unknown."""


@dataclass(frozen=True)
class View:
    """Cells of a tensor: where the first one is, and letter -> stride and size."""

    tensor: str
    offset: int
    strides: dict[str, int]
    sizes: dict[str, int]


def scores_of(
    view: Callable[..., View], add: Callable[..., None], constant: Callable[[str, Array], str], score: Layer, path: str
) -> None:
    """Add the operations of a score layer, a row at a time: key j <= i. All other scores are the constant −∞.

    Args
        view, add, constant: as in ``Operations``.
        path: of the attention layer.
    """
    q, k, where = f"{path}.q", f"{path}.k", f"{path}.score"
    sizes = view(q, "bhid").sizes
    H, T, D = (sizes[letter] for letter in "hid")
    scale, N = 1 / math.sqrt(D), T
    if type(score) is layers.RotaryScores:
        _rotations(view, add, constant, path, T, D)
        q, k = f"{where}.turned_q", f"{where}.turned_k"
    elif type(score) is layers.RelativeBiasScores:
        N = score.weight.value.shape[1]
    elif type(score) is layers.RelativeKeyScores:
        N = len(score.weight.value)
        factors = [view(q, "bhid"), view(f"{where}.weight", "nd")]
        add(where, view(f"{where}.products", "bhin"), (1.0, factors))
    elif type(score) is layers.AlibiScores:
        places = np.arange(T)
        constant(f"{where}.bias", -slopes(H)[:, None, None] * (places[:, None] - places))
    elif type(score) is not layers.Scores:
        raise UnknownLayer(type(score).__name__)
    for i in range(T):
        for start, stop in _ranges(i, N):
            keys = slice(start, stop)

            def of_query(x: Array, i: int = i) -> Array:
                return x[:, :, i]

            def of_keys(x: Array, keys: slice = keys) -> Array:
                return x[:, :, keys]

            def row(x: Array, i: int = i, keys: slice = keys) -> Array:
                return x[..., i, keys]

            def distances(x: Array, i: int = i, start: int = start, stop: int = stop) -> Array:
                """Return the columns of the distances i − start, i − start − 1, ... to these keys."""
                if i - start < N:
                    return x[..., i - stop + 1 : i - start + 1][..., ::-1]
                return np.broadcast_to(x[..., N - 1 :], (*x.shape[:-1], stop - start))

            products = [(scale, [view(q, "bhd", of_query), view(k, "bhjd", of_keys)])]
            if type(score) is layers.RelativeBiasScores:
                products.append((1.0, [view(f"{where}.weight", "hj", distances)]))
            elif type(score) is layers.RelativeKeyScores:
                own = view(f"{where}.products", "bhj", lambda x: distances(of_query(x)))
                products.append((scale, [own]))
            elif type(score) is layers.AlibiScores:
                products.append((1.0, [view(f"{where}.bias", "hj", row)]))
            add(where, view(f"{path}.scores", "bhj", row), *products)


def _ranges(i: int, N: int) -> list[tuple[int, int]]:
    """Return the keys of query i at the distance N − 1 or more, which share the last distance, and the nearer ones."""
    near = max(0, i - N + 1)
    return [(start, stop) for start, stop in ((0, near), (near, i + 1)) if start < stop]


def _rotations(
    view: Callable[..., View],
    add: Callable[..., None],
    constant: Callable[[str, Array], str],
    path: str,
    T: int,
    D: int,
) -> None:
    own, partners = turning(T, D)
    cos, sin = constant(f"{path}.score.cos", own), constant(f"{path}.score.sin", partners)
    for name in "qk":
        x, turned = f"{path}.{name}", f"{path}.score.turned_{name}"
        for first in (0, 1):
            here, there = slice(first, D // 2 * 2, 2), slice(1 - first, D // 2 * 2, 2)

            def of(channels: slice) -> Cut:
                return lambda cells: cells[..., channels]

            itself = [view(x, "bhtd", of(here)), view(cos, "td", of(here))]
            partner = [view(x, "bhtd", of(there)), view(sin, "td", of(here))]
            add(f"{path}.score", view(turned, "bhtd", of(here)), (1.0, itself), (1.0, partner))
        if D % 2:
            last = slice(-1, None)
            add(f"{path}.score", view(turned, "bhtd", of(last)), (1.0, [view(x, "bhtd", of(last))]))
