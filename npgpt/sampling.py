# V vocabulary
"""Sampling: a model continues a text, one token at a time."""

from collections.abc import Iterator, Sequence

import numpy as np

from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.core.shapes import as_ids
from npgpt.core.values import real, whole
from npgpt.errors import ConfigError, DataError, TrainingError, quote
from npgpt.model import GPT
from npgpt.rng import make_key, random_bits

LONGEST = 4  # times the trained context; at larger distances models rarely predict well


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
    """Continue a sequence of ids; yield each new id as it is drawn.

    Args
        ids: the prompt, at least one id. The model sees the last ``context`` ids of prompt and answer.
        temperature: the logits are divided by it. Below 1, likely ids become more likely; 0 takes the most likely id.
        top_k: draw only from the k most likely ids (and from those exactly as likely as the k-th).
        seed: the same seed gives the same text.
        stop: an id that ends the text; it is not yielded.
        context: the number of tokens that the model sees, by default context_length; up to four times that, unless its
            positions are learned.
    Raises
        ConfigError if a setting is out of range; DataError if the prompt is empty; TrainingError if logits are not
        finite.
    """
    max_tokens = whole("generate", "max_tokens", max_tokens, 0, 2**32)
    temperature = real("generate", "temperature", temperature, least=0)
    top_k = None if top_k is None else whole("generate", "top_k", top_k, 1)
    stop = None if stop is None else whole("generate", "stop", stop)
    seed = whole("generate", "seed", seed)
    context = model.config.context_length if context is None else whole("generate", "context", context)
    check_context(model.config, context)
    sequence = as_ids("generate", "ids", ids, model.config.vocab_size).tolist()
    if not sequence:
        raise DataError("the prompt is empty; give at least one token, such as <|endoftext|>")
    return _generate(model, sequence, max_tokens, temperature, top_k, seed, stop, context)


def _generate(
    model: GPT,
    sequence: list[int],
    max_tokens: int,
    temperature: float,
    top_k: int | None,
    seed: int,
    stop: int | None,
    context: int,
) -> Iterator[int]:
    key = make_key("sample", seed)
    cache = Cache(record=False)
    for number in range(max_tokens):
        draw = float(random_bits(key, np.array([number], np.uint32))[0]) / 2.0**32
        seen = np.array([sequence[-context:]])
        logits = model.forward(seen, cache.reset())[0, -1].astype(np.float64)
        if not np.isfinite(logits).all():
            raise TrainingError("the model's logits are not finite: its weights are damaged; train it again")
        token = (
            int(np.argmax(logits)) if temperature == 0 else _draw((logits - logits.max()) / temperature, top_k, draw)
        )
        if token == stop:
            return
        sequence.append(token)
        yield token


def check_context(config: GPTConfig, context: int) -> None:
    """Raise ConfigError if a context is longer than the model allows; the error gives the largest context."""
    context, trained = whole("generate", "context", context), config.context_length
    most, why = LONGEST * trained, f"the model was trained on {trained} tokens, and longer contexts are unreliable"
    if not config.any_length:
        most = trained
        why = (
            f"the model learned vectors for {trained} positions only; train one with other --positions or a larger "
            "--context-length"
        )
    if not 1 <= context <= most:
        raise ConfigError(f"the context must be 1 to {most} tokens, not {quote(context)}: {why}")


def _draw(logits: Array, top_k: int | None, draw: float) -> int:
    """Return the first id at which the cumulative probability exceeds ``draw``, a uniform random number in [0, 1).

    Args
        logits: (V,), with maximum 0.
    """
    if top_k is not None and top_k < len(logits):
        least = np.partition(logits, -top_k)[-top_k]
        logits = np.where(logits >= least, logits, -np.inf)
    cumulative = np.exp(logits).cumsum()
    return int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
