"""Transformers and attention in NumPy."""

from typing import Any

import numpy as np

from survey_adapters.given import Given, Project, given, ids, normal, softmax

X = (2, 3, 4)  # B, T, C

gpt = Project("codiceSpaghetti/numpyGPT", "c36758af0ce6e03f32bbd18fe49cb098b36919c2")
M = "numpyGPT/nn/modules/"
DK = "dk is qᵀ·ds, reshaped to fit; it should be dsᵀ·q"
gpt.add(M + "activation.py", "Softmax", lambda m: given(m.Softmax(), normal(*X)))
gpt.add(M + "activation.py", "LeakyReLU", lambda m: given(m.LeakyReLU(), normal(*X)))
gpt.add(M + "linear.py", "Linear", lambda m: given(m.Linear(4, 5), normal(*X)))
gpt.add(M + "embedding.py", "Embedding", lambda m: given(m.Embedding(5, 3), ids(5, 2, 4)))
gpt.add(M + "positional.py", "PositionalEncoding", lambda m: given(m.PositionalEncoding(5, 4), normal(*X)))
gpt.add(M + "layerNorm.py", "LayerNorm", lambda m: given(m.LayerNorm(4), normal(*X)))
gpt.add(M + "feedforward.py", "FeedForward", lambda m: given(m.FeedForward(4, 6), normal(*X)))
gpt.add(
    M + "attention.py", "MultiHeadAttention", lambda m: given(m.MultiHeadAttention(4, 2), normal(*X)), DK, "transposed"
)
gpt.add(
    M + "transformer.py", "TransformerBlock", lambda m: given(m.TransformerBlock(4, 2, 6), normal(*X)), DK, "transposed"
)

aki = Project("AkiRusProd/numpy-transformer", "656470af9a5a13cb43975e148085a0aeadb87fda")
ACTIVATIONS, LAYERS = "transformer/activations.py", "transformer/layers/"
for name in ("Sigmoid", "Tanh", "Softplus", "Softsign", "Swish", "Mish", "TanhExp", "ELU", "SELU"):
    aki.add(ACTIVATIONS, name, lambda m, name=name: given(getattr(m, name)(), normal(4, 5)))
BATCH = "divided by the number of examples, of which forward takes no mean"
aki.add(ACTIVATIONS, "GELU", lambda m: given(m.GELU(), normal(4, 5)), "constants with six digits", "constant")
aki.add(ACTIVATIONS, "Softmax", lambda m: given(m.Softmax(), normal(4, 5)), BATCH, "factor")
aki.add(ACTIVATIONS, "LogSoftmax", lambda m: given(m.LogSoftmax(), normal(4, 5)), BATCH, "factor")


def aki_loss(loss: Any, y: Any, t: Any, mean: bool = False) -> Given:
    """Their losses have one number for each cell, or for each example, and are averaged later."""

    def forward(y: Any, t: Any) -> Any:
        return loss.loss(y, t).mean() if mean else loss.loss(y, t)

    return given(forward, y, t, backward=lambda dy, y, t: dy * loss.derivative(y, t), constants=["t"])


LOSSES = "transformer/losses.py"
SIGN = "the slope of log(1 − y + ε) has 1 − y − ε"
aki.add(
    LOSSES,
    "BinaryCrossEntropy",
    lambda m: aki_loss(m.BinaryCrossEntropy(), softmax(4, 3), ids(2, 4, 3)),
    SIGN,
    "constant",
)
aki.add(LOSSES, "CategoricalCrossEntropy", lambda m: aki_loss(m.CategoricalCrossEntropy(), softmax(4, 3), ids(2, 4, 3)))
aki.add(
    LOSSES, "CrossEntropy", lambda m: aki_loss(m.CrossEntropy(), normal(4, 3), ids(3, 4), mean=True), BATCH, "factor"
)
aki.add(LAYERS + "base/dense.py", "Dense", lambda m: given(m.Dense(5, 4, data_type=np.float64), normal(*X)))
GAMMA = "γ stands outside of the means; it belongs inside"
aki.add(
    LAYERS + "base/layer_norm.py",
    "LayerNormalization",
    lambda m: given(m.LayerNormalization((6,), data_type=np.float64), normal(2, 3, 6)),
    GAMMA,
    "lost factor",
    "order",
    "wrong operand",
)


def aki_attention(m: Any) -> Given:
    made = m.MultiHeadAttention(4, 2, 0.0, np.float64)
    sees = np.tril(np.ones((1, 3, 3), int))
    return given(
        lambda q, k, v: made.forward(q, k, v, sees)[0], *(normal(*X, seed=i) for i in range(3)), backward=made.backward
    )


aki.add(LAYERS + "combined/self_attention.py", "MultiHeadAttention", aki_attention, BATCH + " (Softmax)", "factor")

yv = Project("YVSemlani/numpy-transformer", "e49e522766c969ce1ca5d331ecaad3af78464e9c")
M = "modules/"
RESIDUAL = "the gradients of the residual connections are left out"
yv.add(M + "activations.py", "ReLU", lambda m: given(m.ReLU(), normal(*X)))
yv.add(M + "functions.py", "Softmax", lambda m: given(m.Softmax(), normal(*X)))
yv.add(M + "linear.py", "LinearLayer", lambda m: given(m.LinearLayer(4, 5), normal(*X)))
yv.add(M + "norm.py", "LayerNormalization", lambda m: given(m.LayerNormalization(4), normal(*X)))
yv.add(M + "ffn.py", "FeedForward", lambda m: given(m.FeedForward(4, 6, 5), normal(*X)))
yv.add(M + "attention.py", "SingleHeadAttention", lambda m: given(m.SingleHeadAttention(4), normal(*X)))
yv.add(
    M + "attention.py",
    "SingleHeadCrossAttention",
    lambda m: given(m.SingleHeadCrossAttention(4), normal(*X), normal(2, 5, 4, seed=1)),
)
yv.add(
    M + "loss.py",
    "CrossEntropyLoss",
    lambda m: yv_loss(m),
    "forward takes probabilities; backward is that of logits",
    "lost factor",
    "wrong operand",
    "lost term",
)
yv.add(M + "encoder.py", "EncoderBlock", lambda m: given(m.EncoderBlock(4, 1), normal(*X)), RESIDUAL, "lost term")
yv.add(
    M + "decoder.py",
    "DecoderBlock",
    lambda m: given(m.DecoderBlock(4, 1), normal(*X), normal(*X, seed=1)),
    "the two gradients of cross-attention change places; residual connections are left out",
    "swapped",
    "lost term",
)


def yv_loss(m: Any) -> Given:
    loss = m.CrossEntropyLoss()
    return given(loss.forward, softmax(4, 5), ids(5, 4), backward=lambda dy, x, t: dy * loss.backward(x, t))


ultron = Project("Ultron09/Numpy-Transformer", "d9e0e9b5716fe918de31ac24e0b9a48cda838a70")
FILE = "gpt_numpy.py"
ultron.add(FILE, "GELU", lambda m: given(m.GELU(), normal(*X)))
ultron.add(FILE, "Softmax", lambda m: given(m.Softmax(), normal(*X)))
ultron.add(FILE, "LayerNorm", lambda m: given(m.LayerNorm(4), normal(*X)))
ultron.add(FILE, "Linear", lambda m: given(m.Linear(4, 5), normal(*X)))
ultron.add(FILE, "Embedding", lambda m: given(m.Embedding(5, 3), ids(5, 2, 4)))
ultron.add(FILE, "MultiHeadAttention, no dropout", lambda m: given(m.MultiHeadAttention(4, 2, 0.0), normal(*X)))
ultron.add(
    FILE,
    "MultiHeadAttention, dropout",
    lambda m: given(m.MultiHeadAttention(4, 2, 0.3), normal(*X)),
    "dv is taken from the weights before dropout",
    "wrong operand",
)
ultron.add(FILE, "FeedForward", lambda m: given(m.FeedForward(4, 6), normal(*X)))
ultron.add(FILE, "TransformerBlock", lambda m: given(m.TransformerBlock(4, 2, 6, 0.0), normal(*X)))


def ultron_gpt(m: Any) -> Given:
    tied = {"token_embedding.weight": lambda made: dict(made.get_gradients())["token_embedding.weight"]}
    return given(m.GPT(5, 4, 1, 2, 6, 4, 0.0), ids(5, 2, 3), grads=tied)


ultron.add(FILE, "GPT", ultron_gpt, "the tied weight gets no gradient from the head", "lost term")
ultron.add("layers.py", "RMSNorm", lambda m: given(m.RMSNorm(4), normal(*X)))
ultron.add("layers.py", "SiLU", lambda m: given(m.SiLU(), normal(*X)))
ultron.add("layers.py", "SwiGLU", lambda m: given(m.SwiGLU(4, 6), normal(*X)))
ultron.add("positional_embeddings.py", "RotaryEmbedding", lambda m: rope(m))


def rope(m: Any) -> Given:
    made = m.RotaryEmbedding(4, 5)
    return given(
        made.apply_rope, normal(1, 2, 3, 4), backward=made.backward_rope, constants=["_cos_cached", "_sin_cached"]
    )


fosing = Project("DanFosing/numpy_ai", "c4b076ed80df84ca648bee3bf86cdde847ddab55")
M = "modules/"
fosing.add(M + "linear.py", "Linear", lambda m: given(m.Linear(4, 5), normal(*X)))
fosing.add(M + "layer_norm.py", "LayerNorm", lambda m: given(m.LayerNorm(4), normal(*X)))
fosing.add(M + "embeddings.py", "Embedding", lambda m: given(m.Embedding(5, 3), ids(5, 2, 4)))
fosing.add(M + "mlp.py", "MLP", lambda m: given(m.MLP(4, 6), normal(*X)))
fosing.add(M + "mlp.py", "MLP, dropout", lambda m: given(m.MLP(4, 6, 0.3), normal(*X)))
fosing.add(M + "attention.py", "Attention", lambda m: given(m.Attention(4, 2, 1), normal(*X)))
fosing.add(
    M + "losses.py", "MSELoss", lambda m: given(m.MSELoss(), normal(4, 3), normal(4, 3, seed=1), constants=["target"])
)
fosing.add(
    M + "losses.py", "MAELoss", lambda m: given(m.MAELoss(), normal(4, 3), normal(4, 3, seed=1), constants=["target"])
)
EPS = "the loss is log(p + 1e-9); backward is that of log(p)"
fosing.add(
    M + "losses.py", "CrossEntropyLoss", lambda m: given(m.CrossEntropyLoss(), normal(4, 5), ids(5, 4)), EPS, "constant"
)
fosing.add(
    M + "losses.py",
    "CrossEntropyLoss of probabilities",
    lambda m: given(m.CrossEntropyLoss(apply_softmax=False), softmax(4, 5), ids(5, 4)),
)

rziga = Project("rziga/numpy-is-all-you-need", "e437c7b4ee04587b9d0da21a7402b258dcfb8aca", roots=("src",))
M = "src/nn/layers/"
rziga.add(M + "activations.py", "ReLU", lambda m: given(m.ReLU(), normal(*X)))
rziga.add(M + "activations.py", "Sigmoid", lambda m: given(m.Sigmoid(), normal(*X)))
rziga.add(M + "activations.py", "Softmax", lambda m: given(m.Softmax(), normal(*X)))
rziga.add(M + "basic.py", "MatMul", lambda m: given(m.MatMul(), [normal(*X), normal(2, 4, 5, seed=1)]))
rziga.add(M + "basic.py", "Linear", lambda m: given(m.Linear(4, 5), normal(*X)))
rziga.add(M + "basic.py", "LayerNorm", lambda m: given(m.LayerNorm(), normal(*X)))
rziga.add(M + "basic.py", "Embedding", lambda m: given(m.Embedding(5, 3), ids(5, 2, 4)))
rziga.add(M + "basic.py", "Dropout", lambda m: given(m.Dropout(0.3), normal(*X)))
rziga.add(M + "attention.py", "SelfAttention", lambda m: given(m.SelfAttention(2, 4, 3), normal(*X)))
rziga.add(
    M + "attention.py",
    "MultiHeadAttention",
    lambda m: given(m.MultiHeadAttention(2, 4, 3), [normal(*X, seed=i) for i in range(3)]),
)

hanke = Project("JackHanke/nets", "2715d3fbee6d1e014d3a0c4c9db7e1023cf688dd")
FILE = "functions/activation_funcs.py"


def slope(made: Any, x: Any) -> Given:
    return given(made.function, x, backward=lambda dy, x: dy * made.function_prime(x))


DIAGONAL = "only the diagonal of the Jacobian"
hanke.add(FILE, "Sigmoid", lambda m: slope(m.Sigmoid(), normal(4, 5)))
hanke.add(FILE, "TanH", lambda m: slope(m.TanH(2), normal(4, 5)))
hanke.add(FILE, "LeakyReLu", lambda m: slope(m.LeakyReLu(), normal(4, 5)))
hanke.add(
    FILE,
    "Swish",
    lambda m: slope(m.Swish(), normal(4, 5)),
    "x + sinh(x)/(…), where (x + sinh(x))/(…) belongs",
    "lost factor",
    "lost term",
)
hanke.add(FILE, "SoftMax", lambda m: slope(m.SoftMax(), normal(*X)), DIAGONAL, "lost term", "own position")


def hanke_attention(m: Any) -> Given:
    from functions.activation_funcs import SoftMax

    made, target = m.MultiHeadAttention(4, 2, SoftMax()), normal(*X, seed=9)
    x = [normal(*X, seed=i) for i in range(3)]

    def forward(w_o: Any, w_q: Any, w_k: Any, w_v: Any) -> Any:
        made.output_weights, made.query_weights_list = w_o, w_q
        made.key_weights_list, made.value_weights_list = w_k, w_v
        return 0.5 * ((made._forward(*x) - target) ** 2).sum() / len(target)

    def backward(dy: Any) -> Any:
        first, *rest = made._backward(*x, target)
        return dy * first, *([dy * g for g in gs] for gs in rest)

    matrices = [[normal(4, 2, seed=10 * i + j) for j in range(2)] for i in (1, 2, 3)]
    return given(forward, normal(4, 4), *matrices, backward=backward)


hanke.add(
    "models/attention/attention.py",
    "MultiHeadAttention",
    hanke_attention,
    "softmax's slopes are multiplied as a matrix; dk holds v where q belongs",
    "wrong operand",
    "lost term",
    "transposed",
)
