"""More frameworks, course work, networks for images and for sequences."""

from typing import Any

import numpy as np

from survey_adapters.given import Given, Project, given, ids, normal, one_hot, softmax

MEAN = "an average over the examples, of which forward takes none"
GELU = "forward is the approximation by tanh, backward the slope of the exact GELU"


def cells(fn: Any, grad: Any, x: Any, **options: Any) -> Given:
    """A function that works cell by cell, and its slope."""
    return given(fn, x, backward=lambda dy, x: dy * grad(x), **options)


epynn = Project(
    "Synthaze/EpyNN", "06ea8cbd78e38da7fd6be651a6dacabb3e37734d", missing=("termcolor", "texttable", "matplotlib")
)


class Together:
    """Backward and the gradients of the parameters are two calls there."""

    def __init__(self, layer: Any, x: Any) -> None:
        self.layer = layer
        layer.np_rng = np.random
        layer.compute_shapes(x)
        layer.initialize_parameters()

    def forward(self, x: Any) -> Any:
        return self.layer.forward(x)

    def backward(self, dy: Any) -> Any:
        dx = self.layer.backward(dy)
        self.layer.compute_gradients()
        return dx


def together(layer: Any, x: Any) -> Given:
    return given(Together(layer, x), x)


epynn.add("epynn/dense/models.py", "Dense", lambda m: together(m.Dense(3), normal(5, 4)))
epynn.add("epynn/rnn/models.py", "RNN", lambda m: together(m.RNN(4, clip_gradients=False), normal(2, 3, 3)))
epynn.add("epynn/lstm/models.py", "LSTM", lambda m: together(m.LSTM(4, sequences=True), normal(2, 3, 3)))
epynn.add("epynn/gru/models.py", "GRU", lambda m: together(m.GRU(4), normal(2, 3, 3)))
epynn.add(
    "epynn/convolution/models.py",
    "Convolution",
    lambda m: together(m.Convolution(3, strides=(1, 1)), normal(2, 5, 5, 2)),
)
epynn.add(
    "epynn/convolution/models.py",
    "Convolution, padding",
    lambda m: together(m.Convolution(3, strides=(1, 1), padding=1), normal(2, 5, 5, 2)),
    "dx has the shape of the padded image",
    "shape",
)
epynn.add("epynn/pooling/models.py", "Pooling", lambda m: together(m.Pooling(), normal(2, 4, 4, 2)))
epynn.add(
    "epynn/pooling/models.py",
    "Pooling, mean",
    lambda m: together(m.Pooling(pool=np.mean), normal(2, 4, 4, 2)),
    "the mask of a maximum is used for the mean",
    "zero",
    "lost term",
)

cnn = Project(
    "3outeille/CNNumpy",
    "9c78b400a02ad9e030736964c11cb86d9ae03922",
    missing=("tqdm", "matplotlib", "src.fast.data", "skimage"),
)
FILE = "src/fast/layers.py"
cnn.add(FILE, "Conv", lambda m: given(m.Conv(3, 3, 2), normal(2, 2, 5, 5)))
cnn.add(FILE, "AvgPool", lambda m: given(m.AvgPool(2, 2), normal(2, 3, 4, 4)))
cnn.add(FILE, "Fc", lambda m: given(m.Fc(3, 4), normal(5, 4)), MEAN, "factor")
cnn.add(FILE, "TanH", lambda m: given(m.TanH(), normal(4, 5)), "the factor α is left out", "factor")
cnn.add(
    FILE,
    "Softmax and CrossEntropyLoss",
    lambda m: given(
        lambda x: m.CrossEntropyLoss().get(m.Softmax().forward(x), one_hot(5, 4)),
        normal(4, 5),
        backward=lambda dy, x: dy * m.Softmax().backward(m.Softmax().forward(x), one_hot(5, 4)),
    ),
)

npdl = Project("oujago/NumpyDL", "29c03402500cd3227daadaaf63147856068c9ae7", missing=("scipy",))


class Before:
    """What their layers ask of the layer before."""

    def __init__(self, shape: Any) -> None:
        self.out_shape = shape


def joined(layer: Any, x: Any, **options: Any) -> Given:
    layer.connect_to(Before(x.shape))
    return given(layer, x, **options)


N = "npdl/layers/"
npdl.add(
    N + "core.py",
    "Linear",
    lambda m: joined(m.Linear(3), normal(5, 4)),
    "db is averaged over the examples, dW is not",
    "factor",
)
npdl.add(
    N + "core.py",
    "Dense",
    lambda m: joined(m.Dense(3), normal(5, 4)),
    "db is averaged over the examples, dW is not",
    "factor",
)
npdl.add(N + "core.py", "Dropout", lambda m: joined(m.Dropout(0.4), normal(4, 5)))
npdl.add(
    N + "normalization.py",
    "BatchNormal",
    lambda m: joined(m.BatchNormal(), normal(6, 4)),
    "forward takes the standard deviation where backward has the variance",
    "factor",
    "lost factor",
    "wrong operand",
)
npdl.add(
    N + "pooling.py",
    "MeanPooling",
    lambda m: joined(m.MeanPooling((2, 2)), normal(2, 3, 4, 4)),
    "the windows of forward step by one cell, those of backward by two",
    "lost term",
    "transposed",
    "mask",
    "wrong operand",
)
npdl.add(
    N + "pooling.py",
    "MaxPooling",
    lambda m: joined(m.MaxPooling((2, 2)), normal(2, 3, 4, 4)),
    "dy[a, b, a, w] where dy[a, b, h, w] belongs; and the windows",
    "lost term",
    "transposed",
    "mask",
    "wrong operand",
)
npdl.add(
    N + "convolution.py",
    "Convolution",
    lambda m: joined(m.Convolution(3, (3, 3), activation="tanh"), normal(2, 2, 5, 5)),
    MEAN,
    "factor",
)
npdl.add(
    N + "embedding.py", "Embedding", lambda m: joined(m.Embedding(static=False, input_size=5, n_out=3), ids(5, 2, 4))
)
npdl.add(
    N + "recurrent.py",
    "SimpleRNN",
    lambda m: joined(m.SimpleRNN(n_out=3, return_sequence=True), normal(2, 3, 3)),
    "the slope of tanh is left out on the way to earlier states; db is averaged",
    "lost factor",
    "lost term",
    "factor",
)


def npdl_loss(loss: Any, y: Any, t: Any) -> Given:
    return given(lambda y: loss.forward(y, t), y, backward=lambda dy, y: dy * loss.backward(y, t))


FILE = "npdl/objectives.py"
npdl.add(
    FILE,
    "MeanSquaredError",
    lambda m: npdl_loss(m.MSE(), normal(4, 3), normal(4, 3, seed=1)),
    "the mean of forward is left out",
    "factor",
)
npdl.add(
    FILE,
    "HellingerDistance",
    lambda m: npdl_loss(m.HeD(), softmax(4, 3), softmax(4, 3, seed=1)),
    "the mean of forward is left out",
    "factor",
)
npdl.add(
    FILE,
    "BinaryCrossEntropy",
    lambda m: npdl_loss(m.BCE(), softmax(4, 3), one_hot(3, 4)),
    "the mean of forward is left out",
    "factor",
)

naive = Project("keithchev/naive-net", "cb16547e9c73f180e4ce6933675ef84e155399a5", roots=("naivenet",))
FILE = "naivenet/layers.py"
naive.add(FILE, "Dense", lambda m: given(m.Dense((4,), (3,)), normal(5, 4)))
naive.add(FILE, "BatchNorm", lambda m: given(m.BatchNorm((4,)), normal(6, 4)))
naive.add(FILE, "Activation tanh", lambda m: given(m.Activation("tanh"), normal(4, 5)))
naive.add(FILE, "Dropout", lambda m: given(m.Dropout(0.6), normal(4, 5)))
naive.add(FILE, "MaxPool2D, stride 2", lambda m: given(m.MaxPool2D(filter_shape=(2, 2), stride=2), normal(2, 3, 4, 4)))
naive.add(
    FILE,
    "MaxPool2D, stride 1",
    lambda m: given(m.MaxPool2D(filter_shape=(2, 2), stride=1), normal(2, 3, 4, 4)),
    "windows that overlap overwrite each other's gradients, instead of adding",
    "lost term",
    "mask",
    "one example",
    "repeated ids",
)

reche = Project("RECHE23/NumPy-Neural-Network", "29fba4668a40962ad682b986071923e59eb9903f")


class Notes:
    """An optimizer that only keeps the gradients."""

    def update(self, params: Any, grads: Any) -> None:
        self.grads = grads


def noted(layer: Any, x: Any, *names: str) -> Given:
    layer.optimizer = Notes()
    layer.is_training(True)
    return given(layer, x, grads={name: lambda made, i=i: made.optimizer.grads[i] for i, name in enumerate(names)})


M = "neural_network/modules/"
SLOPES = "neural_network/functions/activation.py"
WB, GB = ("weight", "bias"), ("gamma", "beta")
reche.add(M + "linear.py", "Linear", lambda m: noted(m.Linear(4, 3), normal(5, 4), *WB))
reche.add(M + "batchnorm1d.py", "BatchNorm1d", lambda m: noted(m.BatchNorm1d(4), normal(6, 4), *GB))
reche.add(M + "batchnorm2d.py", "BatchNorm2d", lambda m: noted(m.BatchNorm2d(2), normal(2, 2, 3, 3), *GB))
reche.add(M + "conv1d.py", "Conv1d", lambda m: noted(m.Conv1d(2, 3, 3), normal(2, 2, 6), *WB))
reche.add(M + "conv2d.py", "Conv2d", lambda m: noted(m.Conv2d(2, 3, 3), normal(2, 2, 5, 5), *WB))
reche.add(M + "conv2d.py", "Conv2d, padding", lambda m: noted(m.Conv2d(2, 3, 3, padding=1), normal(2, 2, 5, 5), *WB))
reche.add(
    M + "normalization.py",
    "Normalization",
    lambda m: given(fixed(m), normal(4, 5)),
    "forward divides by the norm, backward multiplies by it",
    "factor",
)
for name in (
    "tanh",
    "sigmoid",
    "leaky_relu",
    "elu",
    "swish",
    "arctan",
    "gaussian",
    "silu",
    "bent_identity",
    "selu",
    "celu",
    "gelu",
    "softplus",
    "mish",
):
    reche.add(
        SLOPES, name, lambda m, name=name: cells((f := getattr(m, name)), lambda x: f(x, prime=True), normal(4, 5))
    )
reche.add(
    SLOPES,
    "gelu, tanh",
    lambda m: cells(lambda x: m.gelu(x, approximate="tanh"), lambda x: m.gelu(x, True, "tanh"), normal(4, 5)),
    GELU,
    "constant",
)


def fixed(m: Any) -> Any:
    """Their normalisation takes its number from samples."""
    return m.Normalization(dtype="float64", samples=3 * normal(4, 5, seed=1))


bptt = Project("pangolulu/rnn-from-scratch", "622c4238c810d42812ef011494f0eec09d34c160")
bptt.add("activation.py", "Tanh", lambda m: given(m.Tanh(), normal(4, 5)))
bptt.add("gate.py", "MultiplyGate", lambda m: given(m.MultiplyGate(), normal(3, 4), normal(4, seed=1)))
bptt.add("gate.py", "AddGate", lambda m: given(m.AddGate(), normal(4), normal(4, seed=1)))
bptt.add(
    "output.py",
    "Softmax",
    lambda m: cells(lambda x: m.Softmax().loss(x, 2), lambda x: m.Softmax().diff(x, 2), normal(5)),
)

cell = Project("nianiaele/gru-cell-in-numpy", "ca920dd3817cecebe4ca6c3ea64b908aef3b3597")
cell.add(
    "gru.py",
    "GRU_Cell",
    lambda m: given(
        (made := m.GRU_Cell(3, 4)).forward,
        normal(3),
        normal(4, seed=1),
        backward=lambda dy: [g[0] for g in made.backward(dy[None])],
    ),
)

mnist = Project("vzhou842/cnn-from-scratch", "44e75d876b6ed6148e0da65cf8ee9424f55a2179")
mnist.add("maxpool.py", "MaxPool2", lambda m: given(m.MaxPool2(), normal(4, 6, 3)))
mnist.add(
    "softmax.py",
    "Softmax",
    lambda m: given(m.Softmax(8, 5), normal(2, 4)),
    "only the first number of dy counts (in use, it is the only one)",
    "lost term",
    "one example",
    "upstream",
)

images = Project("moghon92/CNN-from-scratch", "8a69497f80ca62294e575a2221c1e3e76f8295f7")
images.add("linear.py", "Linear", lambda m: attributes(m.Linear(4, 3), normal(5, 4)))
images.add("convolution.py", "Conv2D, padding 1", lambda m: attributes(m.Conv2D(2, 3, padding=1), normal(2, 2, 5, 5)))
images.add(
    "convolution.py",
    "Conv2D",
    lambda m: attributes(m.Conv2D(2, 3), normal(2, 2, 5, 5)),
    "dx[p:-p] is empty if p is 0",
    "shape",
)
images.add("max_pool.py", "MaxPooling", lambda m: attributes(m.MaxPooling(2, 2), normal(2, 3, 4, 4)))
images.add("softmax_ce.py", "SoftmaxCrossEntropy", lambda m: probability(m.SoftmaxCrossEntropy()))


def attributes(layer: Any, x: Any) -> Given:
    """Their backward returns nothing; dx is an attribute."""

    def backward(dy: Any) -> Any:
        layer.backward(dy)
        return layer.dx

    return given(layer.forward, x, backward=backward)


def probability(layer: Any) -> Given:
    def backward(dy: Any) -> Any:
        layer.backward()
        return dy * layer.dx

    return given(lambda x: layer.forward(x, ids(5, 4))[1], normal(4, 5), backward=backward)
