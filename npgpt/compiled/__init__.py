"""The compiled twins of ``npgpt.layers``: the same files, class names and parameters, computed by kernels.

Training and sampling use them by default. Tests compare each with its textbook twin: the output, the gradients of all
inputs and parameters, and every array that both keep (``KEEPS``). With these layers, one seed gives the same weights to
the last bit, for any number of threads and on any CPU.
"""

from npgpt.compiled.activations import GELU, ReLU, TanhGELU
from npgpt.compiled.attention import Attention, Mixing, Scores, Softmax
from npgpt.compiled.block import Block
from npgpt.compiled.dropout import Dropout
from npgpt.compiled.embedding import Embedding
from npgpt.compiled.head import VocabularyHead
from npgpt.compiled.head_loss import HeadLoss
from npgpt.compiled.layernorm import LayerNorm
from npgpt.compiled.linear import Linear
from npgpt.compiled.loss import CrossEntropy
from npgpt.compiled.mlp import MLP
from npgpt.compiled.positions import ConcatenatedPositions, LearnedPositions, NoPositions, SinusoidalPositions
from npgpt.compiled.scores import AlibiScores, RelativeBiasScores, RelativeKeyScores, RotaryScores

__all__ = [
    "GELU", "MLP", "AlibiScores", "Attention", "Block", "ConcatenatedPositions", "CrossEntropy", "Dropout", "Embedding",
    "HeadLoss", "LayerNorm", "LearnedPositions", "Linear", "Mixing", "NoPositions", "ReLU", "RelativeBiasScores",
    "RelativeKeyScores", "RotaryScores", "Scores", "SinusoidalPositions", "Softmax", "TanhGELU", "VocabularyHead"
]  # fmt: skip
