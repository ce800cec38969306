"""The kit on layers as other people write them: right ones obey every law, wrong ones break the one that is named."""

import re
from typing import Any

import numpy as np
import pytest

from npgpt.testing import assert_obeys_laws

Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # of assert_obeys_laws
X = np.random.default_rng(0).normal(size=(6, 5))
IDS = np.array([[0, 3, 1], [3, 3, 2]])


def given(*arguments: Any, **options: Any) -> Arguments:
    return arguments, options


class Linear:
    def __init__(self, n: int = 5, m: int = 4, dtype: Any = float) -> None:
        rng = np.random.default_rng(1)
        self.W, self.b = rng.normal(size=(n, m)).astype(dtype), rng.normal(size=m).astype(dtype)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.x.T @ dy, dy.sum(0)
        return dy @ self.W.T


class Accumulates(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)

    def backward(self, dy):
        self.dW += self.x.T @ dy
        self.db += dy.sum(0)
        return dy @ self.W.T


class LayerNorm:
    def __init__(self, n: int = 5) -> None:
        self.gain, self.bias = np.ones(n), np.zeros(n)

    def forward(self, x):
        centred = x - x.mean(-1, keepdims=True)
        self.r = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        self.xhat = centred * self.r
        return self.xhat * self.gain + self.bias

    def backward(self, dy):
        axes = tuple(range(dy.ndim - 1))
        self.dgain, self.dbias, d = (dy * self.xhat).sum(axes), dy.sum(axes), dy * self.gain
        return self.r * (d - d.mean(-1, keepdims=True) - self.xhat * (d * self.xhat).mean(-1, keepdims=True))


class ReLUAndClip:
    def forward(self, x):
        self.open = (x > 0) & (x < 1.5)
        return np.clip(np.maximum(x, 0), 0, 1.5)

    def backward(self, dy):
        return dy * self.open


class BatchNorm:
    """With running statistics, which only evaluation uses."""

    def __init__(self, n: int = 5) -> None:
        self.gamma, self.beta = np.ones(n), np.zeros(n)
        self.running_mean, self.running_var, self.training = np.zeros(n), np.ones(n), True

    def forward(self, x):
        axes = tuple(range(x.ndim - 1))
        mean, var = (x.mean(axes), x.var(axes)) if self.training else (self.running_mean, self.running_var)
        if self.training:
            self.running_mean = 0.9 * self.running_mean + 0.1 * mean
            self.running_var = 0.9 * self.running_var + 0.1 * var
        self.std = np.sqrt(var + 1e-5)
        self.xhat = (x - mean) / self.std
        return self.gamma * self.xhat + self.beta

    def backward(self, dy):
        axes = tuple(range(dy.ndim - 1))
        self.dgamma, self.dbeta, d = (dy * self.xhat).sum(axes), dy.sum(axes), dy * self.gamma
        if not self.training:
            return d / self.std
        return (d - d.mean(axes) - self.xhat * (d * self.xhat).mean(axes)) / self.std


class Dropout:
    training = True

    def forward(self, x):
        self.mask = (np.random.rand(*x.shape) < 0.7) / 0.7 if self.training else np.ones(x.shape)  # noqa: NPY002
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


class OwnDropout(Dropout):
    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)

    def forward(self, x):
        self.mask = (self.rng.random(x.shape) < 0.7) / 0.7
        return x * self.mask


class Embedding:
    def __init__(self) -> None:
        self.table = np.random.default_rng(2).normal(size=(4, 3))

    def forward(self, ids):
        self.ids = ids
        return self.table[ids]

    def backward(self, dy):
        self.dtable = np.zeros_like(self.table)
        np.add.at(self.dtable, self.ids, dy)


class StraightThrough:
    """Rounds; its backward pass pretends that it does not."""

    def forward(self, x):
        return np.round(x)

    def backward(self, dy):
        return dy


class Softplus:
    """y = log(1 + s·exp(x)); s must be positive."""

    def __init__(self) -> None:
        self.s = np.array([0.5, 1, 2, 3, 0.1])

    def forward(self, x):
        self.e = np.exp(x)
        return np.log(1 + self.s * self.e) + np.sqrt(self.s)

    def backward(self, dy):
        p = 1 / (1 + self.s * self.e)
        self.ds = (dy * (self.e * p + 0.5 / np.sqrt(self.s))).sum(tuple(range(dy.ndim - 1)))
        return dy * (1 - p)


class Recurrent:
    """Keeps its state from pass to pass, until it is reset."""

    def __init__(self) -> None:
        self.h, self.w = np.zeros(5), np.full(5, 0.7)

    def reset_state(self):
        self.h = np.zeros(5)

    def forward(self, x):
        self.before, self.h = self.h, np.tanh(self.w * self.h + x)
        return self.h

    def backward(self, dy):
        d = dy * (1 - self.h**2)
        self.dw = (d * self.before).sum(0)
        return d


class InDict:
    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        self.params, self.grads = {"W": rng.normal(size=(5, 3)), "b": np.zeros(3)}, {}

    def forward(self, x):
        self.x, self.y = x, np.tanh(x @ self.params["W"] + self.params["b"])
        return self.y

    def backward(self, dout):
        d = dout * (1 - self.y**2)
        self.grads = {"W": self.x.T @ d, "b": d.sum(0)}
        return d @ self.params["W"].T


class Cumulative:
    def forward(self, x):
        return np.cumsum(x, axis=1)

    def backward(self, dy):
        return np.cumsum(dy[:, ::-1], axis=1)[:, ::-1]


class Steps(Linear):
    def backward(self, dy, lr=0.1):
        dx = dy @ self.W.T
        self.W -= lr * self.x.T @ dy
        self.b -= lr * dy.sum(0)
        return dx


def affine_forward(x, w, b):
    return x @ w + b, (x, w, b)


def affine_backward(dout, cache):
    x, w, _ = cache
    return dout @ w.T, x.T @ dout, dout.sum(0)


def loss_forward(scores, labels):
    e = np.exp(scores - scores.max(1, keepdims=True))
    return -np.log((e / e.sum(1, keepdims=True))[np.arange(len(labels)), labels]).mean()


def loss_backward(scores, labels):
    e = np.exp(scores - scores.max(1, keepdims=True))
    d = e / e.sum(1, keepdims=True)
    d[np.arange(len(labels)), labels] -= 1
    return d / len(labels)


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
    "straight-through": given(StraightThrough(), X, skip=["gradients_are_right"]),
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
    "permuted": given(LayerNorm(), X, laws=["batch_permutation", "examples_are_independent"]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_layer_obeys(name: str) -> None:
    arguments, options = RIGHT[name]
    assert_obeys_laws(*arguments, **options)


class NoBias(Linear):
    def backward(self, dy):
        dx = super().backward(dy)
        self.db = np.zeros_like(self.b)
        return dx


class Transposed(Linear):
    def backward(self, dy):
        super().backward(dy)
        return dy @ self.W

    def __init__(self) -> None:
        super().__init__(5, 5)


class NoMean(LayerNorm):
    def backward(self, dy):
        super().backward(dy)
        d = dy * self.gain
        return self.r * (d - self.xhat * (d * self.xhat).mean(-1, keepdims=True))


class StatisticsAreConstants(BatchNorm):
    def backward(self, dy):
        super().backward(dy)
        return dy * self.gamma / self.std


class UndroppedBackward(Dropout):
    def backward(self, dy):
        return dy


class LosesRepeats(Embedding):
    def backward(self, dy):
        self.dtable = np.zeros_like(self.table)
        self.dtable[self.ids] += dy


class WrongSlope(Softplus):
    def backward(self, dy):
        dx = super().backward(dy)
        self.ds = -self.ds
        return dx


class ClipsNothing(ReLUAndClip):
    def forward(self, x):
        y = super().forward(x)
        self.open = x > 0
        return y


class WritesDy(ReLUAndClip):
    def backward(self, dy):
        dy[~self.open] = 0
        return dy


class WritesX(ReLUAndClip):
    def forward(self, x):
        super().forward(x)
        np.clip(x, 0, 1.5, out=x)
        return x


class WritesWeights(Linear):
    def forward(self, x):
        self.W *= 0.9
        return super().forward(x)


class FirstMask(ReLUAndClip):
    def forward(self, x):
        if not hasattr(self, "open"):
            self.open = (x > 0) & (x < 1.5)
        return np.clip(np.maximum(x, 0), 0, 1.5)


class Contiguous(Linear):
    def forward(self, x):
        self.x = x
        strided = np.lib.stride_tricks.as_strided(x, x.shape, (8 * x.shape[1], 8))
        return strided @ self.W + self.b


class ClipsGradient(Linear):
    def backward(self, dy):
        return super().backward(np.clip(dy, -1, 1))


class SumsExamples(Linear):
    def backward(self, dy):
        return super().backward(dy).sum(0)


class MixesExamples(LayerNorm):
    def forward(self, x):
        return super().forward(x) + x.mean(0)

    def backward(self, dy):
        return super().backward(dy) + dy.mean(0)


class SeesTheFuture(Cumulative):
    def forward(self, x):
        return x + x.sum(1, keepdims=True)

    def backward(self, dy):
        return dy + dy.sum(1, keepdims=True)


class FirstExampleIsSpecial(ReLUAndClip):
    def forward(self, x):
        y = super().forward(x)
        y[0] *= 2
        return y

    def backward(self, dy):
        d = dy * self.open
        d[0] *= 2
        return d


class Raises(Linear):
    def backward(self, dy):
        raise ValueError("shapes do not match")


WRONG: dict[str, tuple[Arguments, str, str]] = {  # -> arguments, law, what the message says
    "no bias": (given(NoBias(), X), "gradients_are_right", r"gradient of param b is wrong(.|\n)*db is zero|lacks"),
    "transposed": (given(Transposed(), X), "gradients_are_right", "input x is wrong"),
    "no mean": (given(lambda sizes: NoMean(sizes.C)), "gradients_are_right", "constant along axis 2"),
    "constant statistics": (given(StatisticsAreConstants(), X), "gradients_are_right", "through the"),
    "undropped": (given(UndroppedBackward(), X), "gradients_are_right", "input x"),
    "repeated ids": (given(LosesRepeats(), IDS), "gradients_are_right", "param table is wrong"),
    "sign": (given(WrongSlope(), X, init=positive), "gradients_are_right", "param s is wrong"),
    "sign in float32": (given(Linear(dtype=np.float32), X, grads={"b": lambda of: -of.db}), "gradients_are_right", "b"),
    "clips nothing": (given(ClipsNothing(), 3 * X), "gradients_are_right", "input x"),
    "pair": (given((affine_forward, lambda dout, cache: (dout @ cache[1].T, cache[0].T @ dout, dout.sum(0) * 2)),
                   X, W, B), "gradients_are_right", "input b is wrong"),
    "writes dy": (given(WritesDy(), X), "nothing_handed_in_is_changed", "backward writes into the upstream gradient"),
    "writes x": (given(WritesX(), X), "nothing_handed_in_is_changed", "forward writes into its argument x"),
    "writes weights": (given(WritesWeights(), X, skip="gradients_are_right"), "nothing_handed_in_is_changed", "the param"),
    "first mask": (given(FirstMask(), X, skip=["gradients_are_right"]), "the_same_again", "after a pass over other"),
    "contiguous": (given(Contiguous(), X), "memory_layout_does_not_matter", "output differs on arrays that are not"),
    "not linear": (given(ClipsGradient(), X, skip=["gradients_are_right"]), "backward_is_linear", "is not linear"),
    "shape": (given(SumsExamples(), X, skip=["gradients_are_right"]), "gradients_have_their_tensors_shapes", r"\(5,\)"),
    "mixes examples": (given(lambda sizes: MixesExamples(sizes.C)), "examples_are_independent", "first example"),
    "first example": (given(lambda sizes: FirstExampleIsSpecial()), "batch_permutation", "change places"),
    "future": (given(lambda sizes: SeesTheFuture(), time_axis=1), "causality", "before position"),
    "raises": (given(Raises(), X), "gradients_are_right", r"ValueError: shapes do not match.*test_testing_of_strang"),
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
