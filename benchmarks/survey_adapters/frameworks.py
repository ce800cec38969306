"""Small frameworks without automatic differentiation."""

from typing import Any

import numpy as np

from survey_adapters.given import Given, Project, given, ids, normal, one_hot, softmax

deepnet = Project("parasdahal/deepnet", "51a9e61c351138b7dc637f4b748a0e6ca2e15595")
FILE = "deepnet/layers.py"
deepnet.add(FILE, "Conv", lambda m: given(m.Conv((2, 5, 5), 3, 3, 3, 1, 1), normal(2, 2, 5, 5)))
deepnet.add(FILE, "Maxpool", lambda m: given(m.Maxpool((2, 4, 4), 2, 2), normal(2, 2, 4, 4)))
deepnet.add(FILE, "FullyConnected", lambda m: given(m.FullyConnected(4, 3), normal(5, 4)))
deepnet.add(FILE, "Batchnorm", lambda m: given(m.Batchnorm((2, 2, 2)), normal(5, 2, 2, 2)))
deepnet.add(FILE, "Dropout", lambda m: given(m.Dropout(), normal(4, 5)))
deepnet.add(FILE, "ReLU", lambda m: given(m.ReLU(), normal(4, 5)))
deepnet.add(FILE, "sigmoid", lambda m: given(m.sigmoid(), normal(4, 5)), "forward is 1/(1 + exp(x)): the sign", "sign")
deepnet.add(FILE, "tanh", lambda m: given(m.tanh(), normal(4, 5)))
deepnet.add(
    "deepnet/loss.py",
    "SoftmaxLoss",
    lambda m: given(
        lambda x, y: m.SoftmaxLoss(x, y)[0],
        normal(4, 5),
        ids(5, 4),
        backward=lambda dy, x, y: dy * m.SoftmaxLoss(x, y)[1],
    ),
)

tinynn = Project("borgwang/tinynn", "0fb0f94a896ecefe3ba99806f82050b3fed4b5cd")
FILE, LOSSES = "tinynn/core/layer.py", "tinynn/core/loss.py"


def loss(made: Any, *inputs: Any, **options: Any) -> Given:
    """A loss with methods loss and grad."""
    return given(made.loss, *inputs, backward=lambda dy, x, t: dy * made.grad(x, t), **options)


tinynn.add(FILE, "Dense", lambda m: given(m.Dense(3), normal(5, 4)))
tinynn.add(FILE, "Conv2D", lambda m: given(m.Conv2D((3, 3, 2, 3)), normal(2, 5, 5, 2)))
tinynn.add(FILE, "ConvTranspose2D", lambda m: given(m.ConvTranspose2D((3, 3, 2, 3), (2, 2)), normal(2, 3, 3, 2)))
tinynn.add(FILE, "MaxPool2D", lambda m: given(m.MaxPool2D(), normal(2, 4, 4, 3)))
tinynn.add(FILE, "RNN", lambda m: given(m.RNN(4), normal(2, 3, 3)))
tinynn.add(FILE, "LSTM", lambda m: given(m.LSTM(4), normal(2, 3, 3)))
tinynn.add(FILE, "BatchNormalization", lambda m: given(m.BatchNormalization(), normal(6, 4)))
tinynn.add(FILE, "Dropout", lambda m: given(m.Dropout(), normal(4, 5)))
for name in ("Sigmoid", "Softplus", "Tanh", "ReLU", "LeakyReLU", "GELU"):
    tinynn.add(FILE, name, lambda m, name=name: given(getattr(m, name)(), normal(4, 5)))
tinynn.add(
    FILE,
    "ELU",
    lambda m: given(m.ELU(), normal(4, 5)),
    "x > 0 + … compares x with the whole sum: the slope is 0 or 1",
    "mask",
    "sign of x",
)
tinynn.add(LOSSES, "MSE", lambda m: loss(m.MSE(), normal(4, 3), normal(4, 3, seed=1), constants=["targets"]))
tinynn.add(LOSSES, "MAE", lambda m: loss(m.MAE(), normal(4, 3), normal(4, 3, seed=1), constants=["targets"]))
tinynn.add(LOSSES, "Huber", lambda m: loss(m.Huber(), 2 * normal(4, 3), normal(4, 3, seed=1), constants=["targets"]))
tinynn.add(
    LOSSES,
    "SigmoidCrossEntropy",
    lambda m: loss(m.SigmoidCrossEntropy(), normal(4, 3), ids(2, 4, 3), constants=["_weights"]),
)
tinynn.add(
    LOSSES,
    "SoftmaxCrossEntropy",
    lambda m: loss(m.SoftmaxCrossEntropy(), normal(4, 5), one_hot(5, 4), constants=["labels"]),
)
tinynn.add(
    LOSSES,
    "SoftmaxCrossEntropy, T = 2",
    lambda m: loss(m.SoftmaxCrossEntropy(T=2.0), normal(4, 5), one_hot(5, 4), constants=["labels"]),
    "1/T is left out",
    "factor",
)
tinynn.add(
    LOSSES,
    "SoftmaxCrossEntropy, weights",
    lambda m: loss(m.SoftmaxCrossEntropy(weights=[1.0, 2, 3, 4, 5]), normal(4, 5), one_hot(5, 4), constants=["labels"]),
    "the weight of the column, and not of the label, multiplies each cell",
    "lost factor",
    "wrong operand",
)

mlfs = Project(
    "eriklindernoren/ML-From-Scratch",
    "a2806c6732eee8d27762edd6d864e0c179d8e9e8",
    missing=("cvxopt", "progressbar", "terminaltables", "mlfromscratch.utils"),
)
FILE = "mlfromscratch/deep_learning/layers.py"


class Notes:
    """An optimizer that only keeps the gradient; each parameter gets one."""

    def update(self, w: Any, grad: Any) -> Any:
        self.grad = grad
        return w


def built(layer: Any, x: Any, *names: str) -> Given:
    layer.set_input_shape(x.shape[1:])
    if hasattr(layer, "initialize"):
        layer.initialize(Notes())
    return given(layer, x, grads={name: f"{name}_opt.grad" for name in names})


mlfs.add(FILE, "Dense", lambda m: built(m.Dense(3), normal(5, 4), "W", "w0"))
mlfs.add(
    FILE,
    "RNN",
    lambda m: built(m.RNN(4), normal(2, 3, 3), "U", "V", "W"),
    "the input's gradient leaves out the later states",
    "lost term",
)
mlfs.add(FILE, "Conv2D", lambda m: built(m.Conv2D(3, (3, 3)), normal(2, 2, 5, 5), "W", "w0"))
mlfs.add(FILE, "BatchNormalization", lambda m: built(m.BatchNormalization(), normal(6, 4), "gamma", "beta"))
mlfs.add(FILE, "ConstantPadding2D", lambda m: built(m.ConstantPadding2D((1, 2)), normal(2, 2, 3, 3)))
mlfs.add(
    FILE,
    "UpSampling2D",
    lambda m: built(m.UpSampling2D(), normal(2, 2, 3, 3)),
    "one cell of each block is taken, instead of the sum",
    "lost term",
    "one example",
)
mlfs.add(FILE, "Dropout", lambda m: built(m.Dropout(0.3), normal(4, 5)))
for name in ("relu", "sigmoid", "selu", "elu", "leaky_relu", "tanh", "softplus"):
    mlfs.add(FILE, f"Activation {name}", lambda m, name=name: built(m.Activation(name), normal(4, 5)))
mlfs.add(
    FILE,
    "Activation softmax",
    lambda m: built(m.Activation("softmax"), normal(4, 5)),
    "only the diagonal of the Jacobian",
    "lost term",
    "own position",
)
mlfs.add(
    "mlfromscratch/deep_learning/loss_functions.py",
    "CrossEntropy",
    lambda m: given(
        lambda p: m.CrossEntropy().loss(one_hot(5, 4), p),
        softmax(4, 5),
        backward=lambda dy, p: dy * m.CrossEntropy().gradient(one_hot(5, 4), p),
    ),
)

joelnet = Project("joelgrus/joelnet", "65cbc3ff169855d801416d629d290c44c95d001d")
joelnet.add("joelnet/layers.py", "Linear", lambda m: given(m.Linear(4, 3), normal(5, 4)))
joelnet.add("joelnet/layers.py", "Tanh", lambda m: given(m.Tanh(), normal(5, 4)))
joelnet.add("joelnet/loss.py", "MSE", lambda m: loss(m.MSE(), normal(5, 4), normal(5, 4, seed=1), constants=["actual"]))

hip = Project("wiseodd/hipsternet", "563de653827c460c9c1c7722ae7eecc67fe2f8a4")
FILE = "hipsternet/layer.py"


def pair(m: Any, name: str, *inputs: Any, **options: Any) -> Given:
    return given(getattr(m, f"{name}_forward"), *inputs, backward=getattr(m, f"{name}_backward"), **options)


hip.add(FILE, "fc", lambda m: pair(m, "fc", normal(5, 4), normal(4, 3, seed=1), normal(1, 3, seed=2)))
for name in ("relu", "lrelu", "sigmoid", "tanh"):
    hip.add(FILE, name, lambda m, name=name: pair(m, name, normal(4, 5)))
hip.add(FILE, "dropout", lambda m: pair(m, "dropout", normal(4, 5), p_dropout=0.6))
hip.add(FILE, "bn", lambda m: hip_norm(m))
hip.add(FILE, "conv", lambda m: pair(m, "conv", normal(2, 2, 5, 5), normal(3, 2, 3, 3, seed=1), normal(3, 1, seed=2)))
hip.add(FILE, "maxpool, 4 × 4", lambda m: pair(m, "maxpool", normal(2, 3, 4, 4)))
hip.add(
    FILE,
    "maxpool, 4 × 6",
    lambda m: pair(m, "maxpool", normal(2, 3, 4, 6)),
    "height and width change places",
    "transposed",
    "wrong operand",
    "swapped",
)
hip.add(FILE, "avgpool, 4 × 4", lambda m: pair(m, "avgpool", normal(2, 3, 4, 4)))
LOSS = "hipsternet/loss.py"


def hip_norm(m: Any) -> Given:
    """Batch normalisation, whose running averages are no inputs here."""

    def forward(x: Any, gamma: Any, beta: Any) -> Any:
        return m.bn_forward(x, gamma, beta, (np.zeros(4), np.zeros(4)))[:2]

    return given(forward, normal(6, 4), normal(4, seed=1), normal(4, seed=2), backward=m.bn_backward)


def hip_loss(m: Any, name: str, y: Any, t: Any) -> Given:
    def forward(y: Any) -> Any:
        return getattr(m, name)({}, y, t)

    return given(forward, y, backward=lambda dy, y: dy * getattr(m, f"d{name}")(y, t))


hip.add(LOSS, "cross_entropy", lambda m: hip_loss(m, "cross_entropy", normal(4, 5), ids(5, 4)))
hip.add(LOSS, "hinge_loss", lambda m: hip_loss(m, "hinge_loss", normal(4, 5), ids(5, 4)))
hip.add(
    LOSS,
    "l2_regression",
    lambda m: hip_loss(m, "l2_regression", normal(4, 1), normal(4, seed=1)),
    "the loss takes every target with every prediction (4 × 4), by broadcasting",
    "lost term",
    "factor",
    "one example",
)
