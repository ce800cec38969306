# n tokens in one micro-batch, T context length, L layers, C channels, F hidden, H heads, V vocabulary
"""The memory that training needs, computed before anything is allocated."""

import math
from dataclasses import dataclass

from npgpt.config import GPTConfig, TrainConfig
from npgpt.errors import ConfigError
from npgpt.layers.schemes import SCHEMES
from npgpt.support.memory import available_memory

BYTES = 4  # of a float32
PER_PARAMETER = 4 * BYTES  # value, gradient and AdamW's two moments
# Compiled attention makes no (T, T) array for these positions.
IN_TILES = ("learned", "sinusoidal", "relative-bias", "rotary", "alibi", "none")


@dataclass(frozen=True)
class Memory:
    """What training needs: the number of parameters, and bytes.

    Attributes
        parameters: bytes of weights, gradients and moments; of several micro-batches also their sum.
        activations: a lower bound of the bytes of one micro-batch.
    """

    n_parameters: int
    parameters: int
    activations: int


def n_parameters(config: GPTConfig) -> int:
    """Return the number of parameters of a model, without making it.

    >>> n_parameters(GPTConfig(vocab_size=50257, context_length=1024, n_layer=12, n_head=12, n_embd=768))  # GPT-2
    124439808
    """
    V, C, P, N, H = config.vocab_size, config.n_embd, config.n_position, config.context_length, config.n_head
    scheme, added = SCHEMES[config.positions], config.combine == "add"
    unprojected = config.combine == "concatenate-unprojected"
    found = V * (C - P if unprojected else C) + (0 if config.tie_weights else V * C)
    found += math.prod(scheme.vector_shape(N, C if added else P)) if scheme.vector_shape else 0
    found += _linear(C + P, C) if config.combine == "concatenate" else 0
    norm = 2 * C
    score = math.prod(scheme.score_shape(N, H, C // H)) if scheme.score_shape else 0
    F = config.n_inner or 4 * C
    attention, mlp = _linear(C, 3 * C) + _linear(C, C) + score, _linear(C, F) + _linear(F, C)
    return found + config.n_layer * (2 * norm + attention + mlp) + norm


def _linear(n_in: int, n_out: int) -> int:
    return n_in * n_out + n_out


def memory_needed(config: GPTConfig, train: TrainConfig) -> Memory:
    """Count the memory of training.

    The activations are arrays that exist at the same time at the end of a forward pass, or at the start of the backward
    pass. In 16 measured runs, parameters and activations together were 0.4 to 0.9 of the largest memory in use.
    """
    n, count = -(-train.batch_size // train.micro_batches) * config.context_length, n_parameters(config)
    L, C, V, scores = config.n_layer, config.n_embd, config.vocab_size, 2 * config.n_head * config.context_length
    F = config.n_inner or 4 * C
    if train.layers == "textbook":  # a block keeps 13 arrays (n, C), 2 (n, F), scores and weights; the loss 4 (n, V)
        per_token = L * (13 * C + 2 * F + scores) + 4 * V
    else:  # 8: both norms, q, k, v, mixed, attended and the block's output; F: hidden; gradients are shared
        per_token = L * (8 * C + F + (0 if config.positions in IN_TILES else scores)) + 8 * C + V
    sums = count * BYTES if train.micro_batches > 1 else 0  # of the gradients of the micro-batches before
    return Memory(count, count * PER_PARAMETER + sums, n * per_token * BYTES)


def check_memory(config: GPTConfig, train: TrainConfig) -> None:
    """Refuse a model that cannot be trained in the memory that is there.

    Raises
        ConfigError, with the arithmetic, if the parameters and the lower bound of the activations need more bytes. If
        the memory is unknown, nothing is refused.
    """
    need, there = memory_needed(config, train), available_memory()
    if there is None or need.parameters + need.activations <= there:
        return
    if need.parameters > need.activations:
        advice = "a smaller n_layer, n_embd or vocab_size"
    elif train.micro_batches < train.batch_size:
        advice = f"more micro_batches (up to the batch_size {train.batch_size}), or a smaller context_length or n_layer"
    else:
        advice = "a smaller context_length, n_layer or n_embd"
    per_parameter = need.parameters // need.n_parameters
    sums = " and their sum" if per_parameter > PER_PARAMETER else ""
    raise ConfigError(
        f"the model has {need.n_parameters:,} parameters: weights, gradients{sums} and two moments, {per_parameter} "
        f"bytes a parameter, need {gibibytes(need.parameters)}, and the activations of one micro-batch at least "
        f"{gibibytes(need.activations)}; this process can get {gibibytes(there)}; use {advice}"
    )


def gibibytes(n: int) -> str:
    """Return a number of bytes for a person.

    >>> gibibytes(77_309_411_328 * 16)
    '1,152.0 GiB'
    """
    return f"{n / 2**30:,.1f} GiB"
