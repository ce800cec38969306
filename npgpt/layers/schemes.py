# N context length, C channels of a vector, H heads, D head size
"""The position schemes in one table: the vectors that are added to the embedding, and the score layer of attention."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from npgpt.layers.attention import Scores
from npgpt.layers.positions import LearnedPositions, SinusoidalPositions
from npgpt.layers.scores import AlibiScores, RelativeBiasScores, RelativeKeyScores, RotaryScores

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Scheme:
    """One position scheme: how a model gets the order of its tokens.

    Attributes
        vectors: (N, C, std) -> the layer that adds a vector for each position to the token embedding, whose standard
            deviation is std; None if the scheme has no vectors.
        vector_shape: (N, C) -> shape of the trained vectors; None if there are none.
        score: (N, H, D, std) -> the score layer of attention.
        score_shape: (N, H, D) -> shape of the score layer's weight; None if it has none.

    A model may be given more tokens than its context length, unless its vectors are trained.
    """

    vectors: Callable[[int, int, float], LearnedPositions | SinusoidalPositions] | None = None
    vector_shape: Callable[[int, int], Shape] | None = None
    score: Callable[[int, int, int, float], Scores] = lambda N, H, D, std: Scores()
    score_shape: Callable[[int, int, int], Shape] | None = None


SCHEMES = {
    "learned": Scheme(vectors=LearnedPositions, vector_shape=lambda N, C: (N, C)),
    # A sinusoid of amplitude √2·std is as large as an embedding of that standard deviation.
    "sinusoidal": Scheme(vectors=lambda N, C, std: SinusoidalPositions(C, std * math.sqrt(2))),
    "relative-bias": Scheme(score=lambda N, H, D, std: RelativeBiasScores(H, N), score_shape=lambda N, H, D: (H, N)),
    "relative-keys": Scheme(
        score=lambda N, H, D, std: RelativeKeyScores(N, D, std), score_shape=lambda N, H, D: (N, D)
    ),
    "rotary": Scheme(score=lambda N, H, D, std: RotaryScores()),
    "alibi": Scheme(score=lambda N, H, D, std: AlibiScores()),
    "none": Scheme(),
}
