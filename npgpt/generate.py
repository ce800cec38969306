# V vocabulary
"""Sampling: the model's own text, a token at a time."""

from collections.abc import Iterator, Sequence

import numpy as np

from npgpt.core import Array, Cache
from npgpt.errors import ConfigError, DataError, TrainingError
from npgpt.model import GPT
from npgpt.rng import make_key, random_bits


def generate(
    model: GPT,
    ids: Sequence[int],
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    stop: int | None = None,
) -> Iterator[int]:
    """Continue a sequence of ids; yields each new id as it is drawn.

    Args
        ids: the prompt, one id at least. The model sees the last context_length of prompt and answer.
        temperature: logits are divided by it; below 1 the likely becomes likelier, 0 always takes the likeliest.
        top_k: only the k likeliest may be drawn (more, if several are exactly as likely as the last of them).
        seed: the same seed gives the same text.
        stop: an id that ends the text and is not yielded.
    Raises
        ConfigError if a setting makes no sense; DataError if the prompt is empty; TrainingError if logits are NaN.
    """
    for name, value, least in (("max_tokens", max_tokens, 0), ("temperature", temperature, 0), ("top_k", top_k, 1)):
        if value is not None and not value >= least:  # NaN is not
            raise ConfigError(f"{name} must be at least {least}, not {value}")
    if max_tokens > 2**32:
        raise ConfigError(f"max_tokens must be at most {2**32}, not {max_tokens}")
    if not len(ids):
        raise DataError("the prompt is empty: give at least one token, such as <|endoftext|>")
    sequence = list(ids)
    key = make_key("sample", seed)
    cache = Cache(record=False)
    for number in range(max_tokens):
        draw = float(random_bits(key, np.array([number], np.uint32))[0]) / 2.0**32
        seen = np.array([sequence[-model.config.context_length :]])
        logits = model.forward(seen, cache.reset())[0, -1].astype(np.float64)
        if not np.isfinite(logits).all():
            raise TrainingError("the model gives logits that are no numbers: its weights are damaged")
        token = (
            int(np.argmax(logits)) if temperature == 0 else _draw((logits - logits.max()) / temperature, top_k, draw)
        )
        if token == stop:
            return
        sequence.append(token)
        yield token


def _draw(logits: Array, top_k: int | None, draw: float) -> int:
    """The id at which the summed probabilities, in the order of ids, pass a number drawn from 0 to 1.

    Args
        logits: (V,), the largest 0.
    """
    if top_k is not None and top_k < len(logits):
        least = np.partition(logits, -top_k)[-top_k]
        logits = np.where(logits >= least, logits, -np.inf)
    cumulative = np.exp(logits).cumsum()
    return int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
