"""More frameworks, course work, networks for images and for sequences."""

import collections.abc
from typing import Any

import numpy as np

from survey_adapters.given import Given, Project, given, ids, normal


def old_python() -> None:
    """numpy-ml was written for Python 3.9, and for NumPy 1."""
    collections.Hashable = collections.abc.Hashable  # type: ignore[attr-defined]


ml = Project(
    "ddbourgin/numpy-ml",
    "b0359af5285fbf9699d64fd5ec059493228af03e",
    prepare=old_python,
    missing=("scipy", "sklearn", "matplotlib", "networkx"),
)
FILE, ACTIVATIONS = "numpy_ml/neural_nets/layers/layers.py", "numpy_ml/neural_nets/activations/activations.py"


def cells(fn: Any, grad: Any, x: Any, **options: Any) -> Given:
    """A function that works cell by cell, and its slope."""
    return given(fn, x, backward=lambda dy, x: dy * grad(x), **options)


class Flushed:
    """Their layers remember every input until they are flushed, as after a step."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def forward(self, *x: Any) -> Any:
        for layer in (self.layer, getattr(self.layer, "softmax", self.layer)):
            layer.flush_gradients()
        return self.layer.forward(*x)

    def backward(self, dy: Any) -> Any:
        return self.layer.backward(dy)


def flushed(layer: Any, *inputs: Any) -> Given:
    return given(Flushed(layer), *inputs)


ml.add(
    FILE,
    "DotProductAttention",
    lambda m: flushed(m.DotProductAttention(), *(normal(2, 3, 4, seed=i) for i in range(3))),
)
ml.add(FILE, "Add", lambda m: flushed(m.Add("Tanh"), [normal(3, 4), normal(3, 4, seed=1)]))
ml.add(FILE, "Multiply", lambda m: flushed(m.Multiply("Tanh"), [normal(3, 4, seed=i) for i in range(3)]))
ml.add(FILE, "BatchNorm1D", lambda m: flushed(m.BatchNorm1D(), normal(6, 4)))
ml.add(FILE, "BatchNorm2D", lambda m: flushed(m.BatchNorm2D(), normal(2, 3, 3, 2)))
ml.add(FILE, "LayerNorm1D", lambda m: flushed(m.LayerNorm1D(), normal(3, 6)))
ml.add(FILE, "LayerNorm2D", lambda m: flushed(m.LayerNorm2D(), normal(2, 3, 3, 2)))
ml.add(FILE, "Embedding", lambda m: flushed(m.Embedding(3, 5), ids(5, 7)))
ml.add(
    FILE,
    "Embedding, sum",
    lambda m: flushed(m.Embedding(3, 5, pool="sum"), ids(5, 4, 6)),
    "an id that occurs twice in a row counts once",
    "repeated ids",
)
ml.add(FILE, "FullyConnected", lambda m: flushed(m.FullyConnected(3, "Tanh"), normal(5, 4)))
ml.add(FILE, "Softmax", lambda m: flushed(m.Softmax(), normal(4, 5)))
ml.add(FILE, "Conv1D", lambda m: flushed(m.Conv1D(3, 2, pad="causal", act_fn="Tanh"), normal(2, 5, 2)))
ml.add(FILE, "Conv2D", lambda m: flushed(m.Conv2D(3, (2, 3), pad=1, stride=2, act_fn="Tanh"), normal(2, 5, 6, 2)))
ml.add(FILE, "Deconv2D", lambda m: flushed(m.Deconv2D(2, (3, 3), stride=2), normal(2, 3, 3, 2)))
ml.add(FILE, "Pool2D, max", lambda m: flushed(m.Pool2D((2, 2), 2), normal(2, 4, 4, 2)))
ml.add(FILE, "Pool2D, average", lambda m: flushed(m.Pool2D((3, 3), 1, mode="average"), normal(2, 4, 4, 2)))
ml.add(FILE, "RNNCell", lambda m: given(m.RNNCell(4), normal(2, 3)))
ml.add(FILE, "LSTMCell", lambda m: one_step(m.LSTMCell(4)))
for name in ("Sigmoid", "ReLU", "LeakyReLU", "Tanh", "ELU", "SELU", "HardSigmoid", "SoftPlus", "Exponential"):
    ml.add(ACTIVATIONS, name, lambda m, name=name: cells((f := getattr(m, name)()).fn, f.grad, normal(4, 5)))
GELU = "forward is the approximation by tanh, backward the slope of the exact GELU"
ml.add(ACTIVATIONS, "GELU", lambda m: cells((f := m.GELU()).fn, f.grad, normal(4, 5)), GELU, "constant")
ml.add(
    "numpy_ml/neural_nets/losses/losses.py",
    "VAELoss",
    lambda m: given(
        lambda p, mean, log: m.VAELoss.loss(BITS, p, mean, log),
        BERNOULLI,
        normal(4, 2),
        normal(4, 2, seed=1),
        backward=lambda dy, p, mean, log: [dy * m.VAELoss.grad(BITS, p, mean, log)[i] for i in (0, 2, 1)],
    ),
)


def one_step(made: Any) -> Given:
    """Their cell returns its memory, too, and takes no gradient of it; its states are no parameters."""
    states = ["*derived_variables.A*", "*derived_variables.C*"]
    return given(lambda x: made.forward(x)[0], normal(2, 3), backward=made.backward, constants=states)


BITS, BERNOULLI = ids(2, 4, 3), 1 / (1 + np.exp(-normal(4, 3)))

course = Project(
    "FortiLeiZhang/cs231n", "43867c4206797553f9247ad0861c960bf73d69c8", roots=("code/cs231n/assignment3", "code/cs231n")
)
FILE, RNN = "code/cs231n/assignment2/cs231n/layers.py", "code/cs231n/assignment3/cs231n/rnn_layers.py"
PADDED = {"stride": 1, "pad": 1}


def pair(m: Any, name: str, *inputs: Any, forward: str = "_forward", back: str = "_backward", **options: Any) -> Given:
    return given(getattr(m, name + forward), *inputs, backward=getattr(m, name + back), **options)


def affine(gates: int, n_in: int = 3, n_hidden: int = 4) -> Any:
    n = gates * n_hidden
    return normal(n_in, n, seed=3), normal(n_hidden, n, seed=4), normal(n, seed=5)


def with_loss(m: Any, name: str, *inputs: Any) -> Given:
    """A function that returns a loss and its gradient."""
    loss = getattr(m, name)
    return given(lambda x: loss(x, *inputs[1:])[0], inputs[0], backward=lambda dy, x: dy * loss(x, *inputs[1:])[1])


course.add(FILE, "affine", lambda m: pair(m, "affine", normal(4, 2, 3), normal(6, 3, seed=1), normal(3, seed=2)))
course.add(FILE, "batchnorm", lambda m: pair(m, "batchnorm", normal(6, 4), normal(4, seed=1), normal(4, seed=2), {}))
course.add(
    FILE,
    "batchnorm_backward_alt",
    lambda m: pair(m, "batchnorm", normal(6, 4), normal(4, seed=1), normal(4, seed=2), {}, back="_backward_alt"),
)
course.add(FILE, "layernorm", lambda m: pair(m, "layernorm", normal(3, 6), normal(6, seed=1), normal(6, seed=2)))
course.add(
    FILE,
    "spatial_groupnorm",
    lambda m: pair(
        m, "spatial_groupnorm", normal(2, 4, 2, 2), normal(1, 4, 1, 1, seed=1), normal(1, 4, 1, 1, seed=2), 2, {}
    ),
)
course.add(
    FILE,
    "conv_naive",
    lambda m: pair(
        m,
        "conv",
        normal(2, 2, 4, 4),
        normal(3, 2, 3, 3, seed=1),
        normal(3, seed=2),
        PADDED,
        forward="_forward_naive",
        back="_backward_naive",
    ),
)
course.add(FILE, "svm_loss", lambda m: with_loss(m, "svm_loss", normal(4, 5), ids(5, 4)))
course.add(FILE, "softmax_loss", lambda m: with_loss(m, "softmax_loss", normal(4, 5), ids(5, 4)))
course.add(RNN, "rnn", lambda m: pair(m, "rnn", normal(2, 3, 3), normal(2, 4, seed=1), *affine(1)))
course.add(
    RNN,
    "lstm_step",
    lambda m: pair(m, "lstm_step", normal(2, 3), normal(2, 4, seed=1), normal(2, 4, seed=2), *affine(4)),
)
course.add(RNN, "lstm", lambda m: pair(m, "lstm", normal(2, 3, 3), normal(2, 4, seed=1), *affine(4)))
course.add(RNN, "gru", lambda m: pair(m, "gru", normal(2, 3, 3), normal(2, 4, seed=1), *affine(2), *affine(1)[:3]))
course.add(RNN, "word_embedding", lambda m: pair(m, "word_embedding", ids(5, 2, 4), normal(5, 3)))
course.add(
    RNN,
    "temporal_softmax_loss",
    lambda m: with_loss(m, "temporal_softmax_loss", normal(2, 3, 5), ids(5, 2, 3), np.ones((2, 3), int)),
)
