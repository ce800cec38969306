# V vocabulary
"""Sampling: the model's own text, a token at a time."""

from collections.abc import Iterator, Sequence

import numpy as np

from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.errors import ConfigError, DataError, TrainingError
from npgpt.model import GPT
from npgpt.rng import make_key, random_bits

LONGEST = 4  # contexts: farther out than that, positions that were never trained say little


def generate(
    model: GPT,
    ids: Sequence[int],
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    stop: int | None = None,
    context: int | None = None,
) -> Iterator[int]:
    """Continue a sequence of ids; yields each new id as it is drawn.

    Args
        ids: the prompt, one id at least. The model sees the last ``context`` of prompt and answer.
        temperature: logits are divided by it; below 1 the likely becomes likelier, 0 always takes the likeliest.
        top_k: only the k likeliest may be drawn (more, if several are exactly as likely as the last of them).
        seed: the same seed gives the same text.
        stop: an id that ends the text and is not yielded.
        context: how many tokens the model sees, context_length if not said; up to four times that if its positions
            allow it.
    Raises
        ConfigError if a setting makes no sense; DataError if the prompt is empty; TrainingError if logits are NaN.
    """
    for name, value, least in (("max_tokens", max_tokens, 0), ("temperature", temperature, 0), ("top_k", top_k, 1)):
        if value is not None and not value >= least:  # NaN is not
            raise ConfigError(f"{name} must be at least {least}, not {value}")
    if max_tokens > 2**32:
        raise ConfigError(f"max_tokens must be at most {2**32}, not {max_tokens}")
    context = model.config.context_length if context is None else context
    check_context(model.config, context)
    if not len(ids):
        raise DataError("the prompt is empty: give at least one token, such as <|endoftext|>")
    sequence = list(ids)
    key = make_key("sample", seed)
    cache = Cache(record=False)
    for number in range(max_tokens):
        draw = float(random_bits(key, np.array([number], np.uint32))[0]) / 2.0**32
        seen = np.array([sequence[-context:]])
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


def check_context(config: GPTConfig, context: int) -> None:
    """Refuse to show a model more tokens than it can take.

    Raises
        ConfigError that says how many it can.
    """
    trained = config.context_length
    most, why = LONGEST * trained, f"the model was trained on {trained} at once, and is lost further out than that"
    if not config.any_length:
        most = trained
        why = (
            f"for {trained} positions a vector was learned, for those after them there is none; train a model with "
            "other --positions, or a larger --context-length"
        )
    if not 1 <= context <= most:
        raise ConfigError(f"the context must be 1 to {most} tokens, not {context}: {why}")


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
