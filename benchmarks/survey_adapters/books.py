"""Code of books and courses: "Deep Learning from Scratch" 1 and 2."""

from typing import Any

from survey_adapters.given import Project, given, ids, normal

fish = Project("oreilly-japan/deep-learning-from-scratch", "07b11618cdb5d5f78ad45464de0730efc07b0a4a")
FILE = "common/layers.py"
EPS = "the loss is log(p + 1e-7); backward is that of log(p)"
fish.add(FILE, "Relu", lambda m: given(m.Relu(), normal(4, 5)))
fish.add(FILE, "Sigmoid", lambda m: given(m.Sigmoid(), normal(4, 5)))
fish.add(FILE, "Affine", lambda m: given(m.Affine(normal(6, 3), normal(3, seed=2)), normal(4, 2, 3, seed=1)))
fish.add(FILE, "SoftmaxWithLoss", lambda m: given(m.SoftmaxWithLoss(), normal(4, 5), ids(5, 4)), EPS, "constant")
fish.add(FILE, "Dropout", lambda m: given(m.Dropout(), normal(4, 5)))
fish.add(
    FILE,
    "BatchNormalization",
    lambda m: given(m.BatchNormalization(normal(5, seed=1), normal(5, seed=2)), normal(6, 5)),
)
fish.add(
    FILE,
    "Convolution",
    lambda m: given(m.Convolution(normal(3, 2, 3, 3), normal(3, seed=2), 1, 1), normal(2, 2, 5, 5, seed=1)),
)
fish.add(FILE, "Pooling", lambda m: given(m.Pooling(2, 2, 2), normal(2, 3, 4, 4)))

fish2 = Project("oreilly-japan/deep-learning-from-scratch-2", "842ae31c2bb070f5116275606ed90396626a2c17")
TIME = "common/time_layers.py"
HEADS = "ch08/attention_layer.py"


def weights(gates: int, n_in: int = 3, n_hidden: int = 4) -> Any:
    n = gates * n_hidden
    return normal(n_in, n, seed=3), normal(n_hidden, n, seed=4), normal(n, seed=5)


def lookup(m: Any) -> Any:
    layer = m.NegativeSamplingLoss(normal(6, 4), [0, 1, 2, 3, 4, 5, 0, 1], sample_size=2)
    layer.sampler.get_negative_sample = lambda target: (target[:, None] + [[1, 2]]) % 6
    return given(layer, normal(3, 4, seed=1), ids(6, 3))


fish2.add(FILE, "MatMul", lambda m: given(m.MatMul(normal(5, 3)), normal(4, 5, seed=1)))
fish2.add(FILE, "Softmax", lambda m: given(m.Softmax(), normal(4, 5)))
fish2.add(FILE, "SoftmaxWithLoss", lambda m: given(m.SoftmaxWithLoss(), normal(4, 5), ids(5, 4)), EPS, "constant")
fish2.add(FILE, "SigmoidWithLoss", lambda m: given(m.SigmoidWithLoss(), normal(6), ids(2, 6)), EPS, "constant")
fish2.add(FILE, "Embedding", lambda m: given(m.Embedding(normal(5, 3)), ids(5, 7)))
fish2.add(TIME, "RNN", lambda m: given(m.RNN(*weights(1)), normal(2, 3), normal(2, 4, seed=1)))
fish2.add(TIME, "LSTM", lambda m: given(m.LSTM(*weights(4)), normal(2, 3), normal(2, 4, seed=1), normal(2, 4, seed=2)))
fish2.add(TIME, "GRU", lambda m: given(m.GRU(*weights(3)), normal(2, 3), normal(2, 4, seed=1)))
fish2.add(TIME, "TimeRNN", lambda m: given(m.TimeRNN(*weights(1)), normal(2, 3, 3)))
fish2.add(TIME, "TimeLSTM", lambda m: given(m.TimeLSTM(*weights(4)), normal(2, 3, 3)))
fish2.add(TIME, "TimeGRU", lambda m: given(m.TimeGRU(*weights(3)), normal(2, 3, 3)))
fish2.add(TIME, "TimeBiLSTM", lambda m: given(m.TimeBiLSTM(*weights(4), *weights(4)), normal(2, 3, 3)))
fish2.add(TIME, "TimeEmbedding", lambda m: given(m.TimeEmbedding(normal(5, 3)), ids(5, 2, 4)))
fish2.add(TIME, "TimeAffine", lambda m: given(m.TimeAffine(normal(3, 4), normal(4, seed=2)), normal(2, 3, 3, seed=1)))
fish2.add(TIME, "TimeSoftmaxWithLoss", lambda m: given(m.TimeSoftmaxWithLoss(), normal(2, 3, 5), ids(5, 2, 3)))
fish2.add("ch04/negative_sampling_layer.py", "NegativeSamplingLoss", lookup, EPS, "constant")
fish2.add(HEADS, "WeightSum", lambda m: given(m.WeightSum(), normal(2, 3, 4), normal(2, 3, seed=1)))
fish2.add(HEADS, "Attention", lambda m: given(m.Attention(), normal(2, 3, 4), normal(2, 4, seed=1)))
fish2.add(HEADS, "TimeAttention", lambda m: given(m.TimeAttention(), normal(2, 3, 4), normal(2, 2, 4, seed=1)))
