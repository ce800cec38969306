"""The textbook layers: plain NumPy, one idea a file, each derivation in the docstring."""

from npgpt.layers.activations import GELU, ReLU, TanhGELU
from npgpt.layers.attention import Attention, Mixing, Scores, Softmax, visible
from npgpt.layers.block import Block
from npgpt.layers.dropout import Dropout
from npgpt.layers.embedding import Embedding
from npgpt.layers.head import VocabularyHead
from npgpt.layers.head_loss import HeadLoss
from npgpt.layers.layernorm import LayerNorm
from npgpt.layers.linear import Linear
from npgpt.layers.lora import LoRA, add_lora, merge_lora, remove_lora
from npgpt.layers.loss import IGNORE_INDEX, CrossEntropy
from npgpt.layers.mlp import MLP
from npgpt.layers.positions import ConcatenatedPositions, LearnedPositions, NoPositions, SinusoidalPositions
from npgpt.layers.scores import AlibiScores, RelativeBiasScores, RelativeKeyScores, RotaryScores
from npgpt.layers.squared_error import MeanSquaredError

__all__ = [
    "GELU", "IGNORE_INDEX", "MLP", "AlibiScores", "Attention", "Block", "ConcatenatedPositions", "CrossEntropy",
    "Dropout", "Embedding", "HeadLoss", "LayerNorm", "LearnedPositions", "Linear", "LoRA", "MeanSquaredError", "Mixing",
    "NoPositions", "ReLU", "RelativeBiasScores", "RelativeKeyScores", "RotaryScores", "Scores", "SinusoidalPositions",
    "Softmax", "TanhGELU", "VocabularyHead", "add_lora", "merge_lora", "remove_lora", "visible"
]  # fmt: skip
