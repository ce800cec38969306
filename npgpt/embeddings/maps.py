# n number of words, C channels, K axes that are kept
"""Maps of words: the two directions in which their vectors differ most, and the parallelogram of an analogy."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npgpt.core import Array
from npgpt.core.shapes import as_floats, check_shape
from npgpt.core.values import path as check_path
from npgpt.core.values import texts, whole
from npgpt.embeddings.vectors import WordVectors, cosine
from npgpt.errors import ConfigError, DataError, ShapeError
from npgpt.support.pictures import pyplot
from npgpt.support.terminal import escape_controls


@dataclass(frozen=True)
class Projection:
    """Vectors projected to the K directions in which they differ most.

    Attributes
        coordinates: (n, K), of each vector.
        axes: (K, C), the directions: orthogonal unit vectors.
        mean: (C,), the origin of the map.
        shares: (K,), the share of the squared distances from the mean that each axis shows. If their sum is below 1,
            words that are close on the map may be far apart.
    """

    coordinates: Array
    axes: Array
    mean: Array
    shares: Array


def project(vectors: Array, n_axes: int = 2) -> Projection:
    """Principal components, by the singular value decomposition.

    With X the vectors minus their mean, an axis a of length 1 has the coordinates X·a, with mean square |X·a|²/n. Let
    X = U·diag(s)·Vᵀ with decreasing s, and a = V·w, with w of length 1 too:

      1. |X·a|² = |U·diag(s)·w|² = Σ_k s_k²·w_k²     because U has orthonormal columns
      2. it is largest for w = (1, 0, 0, ...)         ⇒ the first axis is the first row of Vᵀ, and shows s_1²
      3. orthogonal to that means w_1 = 0             ⇒ the second axis is the second row; and so on
      4. the coordinates X·V = U·diag(s)

    The sign of an axis is arbitrary. Its largest number is made positive, so that a map is the same on every machine.

    Raises
        ShapeError if there are fewer than two vectors, or if they have fewer numbers than there are axes.

    >>> project([[1, 1], [2, 2], [3, 3.1]], 1).shares.round(3)
    array([1.])
    """
    X, n_axes = as_floats("project", "vectors", vectors).astype(np.float64), whole("project", "n_axes", n_axes, 1)
    if not np.isfinite(X).all():
        raise DataError("project: a vector has a number that is infinite or NaN")
    if X.ndim != 2 or len(X) < 2 or X.shape[1] < n_axes:
        raise ShapeError(
            f"vectors have shape {X.shape}; expected (n, C): at least two vectors, of at least {n_axes} numbers"
        )
    mean = X.mean(0)
    X = X - mean
    _, s, axes = np.linalg.svd(X, full_matrices=len(X) < n_axes)  # two vectors alone: the other axes are any
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
    axes = (axes * signs[:, None])[:n_axes]
    shares = np.zeros(n_axes)
    total = (s * s).sum()
    if total:
        shares[: len(s)] = (s * s)[:n_axes] / total  # 1. to 3.
    return Projection(X @ axes.T, axes, mean, shares)  # 4.


@dataclass(frozen=True)
class Parallelogram:
    """How close the words of an analogy, a is to b as c is to d, are to a parallelogram, by unit vectors.

    Attributes
        sides: the lengths of b − a and d − c, and of c − a and d − b. In a parallelogram each two are equal.
        parallel: the cosine of b − a and d − c: 1 if they are parallel.
        gap: |d − (b − a + c)|: the distance of d from the fourth corner. If it is as long as b − a, the corner is no
            better than c itself.
    """

    sides: dict[str, float]
    parallel: float
    gap: float


def parallelogram(vectors: WordVectors, a: str, b: str, c: str, d: str) -> Parallelogram:
    """Measure the four corners in all C dimensions.

    >>> table = WordVectors(["a", "b", "c", "d"], [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]])
    >>> parallelogram(table, "a", "b", "c", "d").gap
    0.0
    """
    u, v, x, y = map(vectors.unit, (a, b, c, d))
    sides = {"b - a": v - u, "d - c": y - x, "c - a": x - u, "d - b": y - v}
    lengths = {name: float(np.linalg.norm(side)) for name, side in sides.items()}
    return Parallelogram(lengths, cosine(v - u, y - x), float(np.linalg.norm(y - (v - u + x))))


def text_map(words: Sequence[str], coordinates: Array, width: int = 78, height: int = 22) -> str:
    """Draw the map with characters: each word starts at its place; * marks a word without room.

    >>> print(text_map(["ab", "c"], np.array([[0, 0], [1, 1]]), 7, 3))
          c
    <BLANKLINE>
    ab
    """
    words, coordinates = texts("text_map", "words", words), as_floats("text_map", "coordinates", coordinates)
    width, height = whole("text_map", "width", width, 1, 10_000), whole("text_map", "height", height, 1, 10_000)
    check_shape("text_map", "coordinates", coordinates, (len(words), 2))
    if not words or not np.isfinite(coordinates).all():
        raise DataError("text_map: a map needs at least one word, and finite coordinates")
    rows = [[" "] * width for _ in range(height)]
    low, high = coordinates.min(0), coordinates.max(0)
    place = (coordinates - low) / np.where(high > low, high - low, 1)
    for word, (x, y) in zip(words, place, strict=True):
        name = escape_controls(word, keep="")[:width]
        row = rows[round((1 - y) * (height - 1))]
        at = round(x * (width - 1))
        start = max(0, min(at, width - len(name)))
        # One space before and after, so that words do not run into each other.
        if all(cell == " " for cell in row[max(0, start - 1) : start + len(name) + 1]):
            row[start : start + len(name)] = name
        elif row[at] == " ":
            row[at] = "*"
    return "\n".join("".join(row).rstrip() for row in rows)


def draw_maps(
    maps: Mapping[str, tuple[Sequence[str], Array]], path: str | Path, lines: Sequence[tuple[int, int]] = ()
) -> None:
    """Draw a picture of maps side by side.

    Args
        maps: title -> words, and their coordinates (n, 2).
        lines: pairs of indices of words to connect.
    Raises
        ConfigError if matplotlib is not installed, or does not know the file type.
    """
    path = check_path("draw_maps", "path", path)
    plt = pyplot()
    figure, all_axes = plt.subplots(1, len(maps), figsize=(8 * len(maps), 7), squeeze=False)
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise ConfigError(f"{path}: unknown type of picture; end the name with one of {', '.join(sorted(known))}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a character that the font lacks is drawn as a box
        for axes, (title, (words, coordinates)) in zip(all_axes[0], maps.items(), strict=True):
            for pair in lines:
                axes.plot(*coordinates[list(pair)].T, color="0.6", linewidth=1, zorder=1)
            axes.scatter(*coordinates.T, s=12, zorder=2)
            axes.margins(0.12)  # room for the words at the edge
            for word, point in zip(words, coordinates, strict=True):
                name = escape_controls(word, keep="")
                axes.annotate(name, point, (3, 3), textcoords="offset points", fontsize=9, parse_math=False)
            axes.set_title(escape_controls(title, keep=""), parse_math=False)
            axes.set(xlabel="first axis", ylabel="second axis")
            axes.set_aspect("equal", adjustable="datalim")  # angles and lengths as they are
        figure.tight_layout()
        figure.savefig(path, dpi=120)
    plt.close(figure)
