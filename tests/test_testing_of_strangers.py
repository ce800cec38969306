"""The kit on layers as other people write them: right ones obey every law, wrong ones break the one that is named."""

import re
from typing import Any

import numpy as np
import pytest
from kit_layers import (
    Accumulates,
    BatchNorm,
    ClipsGradient,
    ClipsNothing,
    Contiguous,
    Cumulative,
    Dropout,
    Embedding,
    FirstExampleIsSpecial,
    FirstMask,
    InDict,
    LayerNorm,
    Linear,
    LosesRepeats,
    MixesExamples,
    NoBias,
    NoMean,
    OwnDropout,
    Queue,
    Raises,
    Recurrent,
    ReLUAndClip,
    SeesTheFuture,
    Softplus,
    StatisticsAreConstants,
    Steps,
    StraightThrough,
    SumsExamples,
    Transposed,
    UndroppedBackward,
    WritesDy,
    WritesWeights,
    WritesX,
    WrongSlope,
    affine_backward,
    affine_forward,
    batch_norm_backward,
    batch_norm_forward,
    loss_backward,
    loss_forward,
)

from npgpt.testing import assert_obeys_laws

Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # of assert_obeys_laws
GRADIENTS = ["gradients_are_right"]
X = np.random.default_rng(0).normal(size=(6, 5))
IDS = np.array([[0, 3, 1], [3, 3, 2]])


def given(*arguments: Any, **options: Any) -> Arguments:
    return arguments, options


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.uniform(0.2, 3, shape)


W, B = np.random.default_rng(5).normal(size=(5, 4)), np.random.default_rng(6).normal(size=4)
RIGHT: dict[str, Arguments] = {
    "linear": given(Linear(), X),
    "float32": given(Linear(dtype=np.float32), X.astype(np.float32)),
    "factory": given(lambda: Linear(), X, expects=3),
    "adds to its gradients": given(Accumulates(), X),
    "layer norm of many sizes": given(lambda sizes: LayerNorm(sizes.C)),
    "relu and clip": given(ReLUAndClip(), X),
    "relu and clip of many sizes": given(lambda sizes: ReLUAndClip(), time_axis=1),
    "batch norm": given(BatchNorm(), X),
    "batch norm of many sizes": given(lambda sizes: BatchNorm(sizes.C)),
    "batch norm in evaluation": given(BatchNorm(), X, training=False, constants=["running_*"]),
    "dropout": given(Dropout(), X),
    "dropout of many sizes": given(lambda sizes: Dropout(), time_axis=1),
    "dropout with a generator": given(OwnDropout(), X),
    "embedding": given(Embedding(), IDS),
    "straight-through": given(StraightThrough(), X, skip=GRADIENTS),
    "positive parameter": given(Softplus(), X, init=positive),
    "positive parameter by name": given(Softplus(), X, init={"s": positive}),
    "positive parameter of many sizes": given(
        lambda sizes: Softplus(), inputs=lambda sizes, rng: rng.normal(size=(sizes.B, 5)), init=positive
    ),
    "a state": given(Recurrent(), X, constants=["h"]),
    "dicts": given(InDict(), X),
    "causal": given(lambda sizes: Cumulative(), time_axis=1),
    "takes steps": given(Steps(), X),
    "pair with a cache": given((affine_forward, affine_backward), X, W, B),
    "forward with backward=": given(affine_forward, X, W, B, backward=affine_backward),
    "loss": given((loss_forward, loss_backward), X, np.array([0, 1, 4, 2, 2, 0])),
    "batch norm with a dict": given(
        (batch_norm_forward, batch_norm_backward),
        *(X, np.ones(5), np.zeros(5), {"mode": "train", "running_mean": np.zeros(5)}),
        constants=["state.running_mean"],
    ),
    "queue": given(Queue(), X),
    "permuted": given(LayerNorm(), X, laws=["batch_permutation", "examples_are_independent"]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_layer_obeys(name: str) -> None:
    arguments, options = RIGHT[name]
    assert_obeys_laws(*arguments, **options)


WRONG: dict[str, tuple[Arguments, str, str]] = {  # -> arguments, law, what the message says
    "no bias": (given(NoBias(), X), "gradients_are_right", r"gradient of param b is wrong(.|\n)*db is zero|lacks"),
    "transposed": (given(Transposed(), X), "gradients_are_right", "input x is wrong"),
    "no mean": (given(lambda sizes: NoMean(sizes.C)), "gradients_are_right", "lacks the path through x.mean"),
    "constant statistics": (given(StatisticsAreConstants(), X), "gradients_are_right", "lacks the path through"),
    "undropped": (given(UndroppedBackward(), X), "gradients_are_right", "input x"),
    "repeated ids": (given(LosesRepeats(), IDS), "gradients_are_right", "param table is wrong"),
    "sign": (given(WrongSlope(), X, init=positive), "gradients_are_right", "param s is wrong"),
    "sign in float32": (given(Linear(dtype=np.float32), X, grads={"b": lambda of: -of.db}), "gradients_are_right", "b"),
    "clips nothing": (given(ClipsNothing(), 3 * X), "gradients_are_right", "input x"),
    "pair": (given((affine_forward, lambda dout, cache: (dout @ cache[1].T, cache[0].T @ dout, dout.sum(0) * 2)),
                   X, W, B), "gradients_are_right", "input b is wrong"),
    "writes dy": (given(WritesDy(), X), "nothing_handed_in_is_changed", "backward writes into the upstream gradient"),
    "writes x": (given(WritesX(), X), "nothing_handed_in_is_changed", "forward writes into its argument x"),
    "writes weights": (given(WritesWeights(), X, skip=GRADIENTS), "nothing_handed_in_is_changed", "param"),
    "first mask": (given(FirstMask(), X, skip=GRADIENTS), "the_same_again", "after a pass over other"),
    "contiguous": (given(Contiguous(), X), "memory_layout_does_not_matter", "output differs on arrays that are not"),
    "not linear": (given(ClipsGradient(), X, skip=GRADIENTS), "backward_is_linear", "is not linear"),
    "shape": (given(SumsExamples(), X, skip=GRADIENTS), "gradients_have_their_tensors_shapes", r"\(5,\)"),
    "mixes examples": (given(lambda sizes: MixesExamples(sizes.C)), "examples_are_independent", "first example"),
    "first example": (given(lambda sizes: FirstExampleIsSpecial()), "batch_permutation", "change places"),
    "future": (given(lambda sizes: SeesTheFuture(), time_axis=1), "causality", "before position"),
    "raises": (given(Raises(), X), "gradients_are_right", r"ValueError: shapes do not match.*kit_layers.py:"),
    "too few": (given(Linear(), X, expects=4), "gradients_are_right", "4 arrays were expected, 3 were checked"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_layer_fails_with_the_law_and_the_mistake(name: str) -> None:
    (arguments, options), law, says = WRONG[name]
    with pytest.raises(AssertionError) as caught:
        assert_obeys_laws(*arguments, **options)
    message = str(caught.value)
    assert f"breaks the law {law}" in message and re.search(says, message), message
    assert len(message.splitlines()) <= 18 and "These lines repeat it" in message
