# B windows, T tokens of a window, V vocabulary
"""Evaluation: how well a model predicts a text, in numbers that can be compared with those of other models.

The surprisal of a token is −log₂ p(token | the tokens before it), in bits: 0 for a token that the model was sure of,
one bit more for each halving of p. A coder that knows the model's predictions needs about so many bits for the token,
so the sum is the size to which the model compresses the text. All numbers here are made from it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from npgpt.core import Array, Cache
from npgpt.core.shapes import as_ids
from npgpt.core.values import each_text, real, whole
from npgpt.data import encode_texts
from npgpt.errors import ConfigError, DataError, TrainingError
from npgpt.model import GPT
from npgpt.tokenizer import END_OF_TEXT, Tokenizer
from npgpt.tokenizer.base import join_halves

LN2 = math.log(2)
AT_ONCE = 1 << 22  # logits of one forward pass


class HasModel(Protocol):
    """What has a model, such as a Run."""

    model: GPT


def bits_per_byte(loss: float, tokens: int, n_bytes: int) -> float:
    """Return the bits that a loss is for each byte of the text: loss / ln 2 · tokens / bytes.

    A loss per token does not compare across tokenizers: with longer tokens there are fewer of them, and each is harder
    to predict. The bytes of a text are the same for every tokenizer, so bits per byte compare, also with a compressor.

    Args
        loss: the mean cross-entropy, in nats per token.
        tokens: the number of tokens of the text.
        n_bytes: of the text: ``count_bytes``.
    Raises
        DataError if there is no byte.

    >>> bits_per_byte(math.log(256), tokens=10, n_bytes=10)
    8.0
    """
    who = "bits_per_byte"
    loss, tokens = real(who, "loss", loss), whole(who, "tokens", tokens, 1)
    if whole(who, "n_bytes", n_bytes) < 1:
        raise DataError("the text has no byte, so it has no bits per byte; give a text, not <|endoftext|> alone")
    return loss / LN2 * tokens / n_bytes


def count_bytes(texts: Sequence[str]) -> int:
    """Return the number of bytes of texts in UTF-8. ``<|endoftext|>`` is no text, and has none."""
    parts = (join_halves(text).replace(END_OF_TEXT, "") for text in each_text("count_bytes", "texts", texts))
    return sum(len(part.encode("utf-8", "surrogatepass")) for part in parts)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well a model predicts a text.

    Attributes
        ids: (n,) the tokens that were scored.
        surprisals: (n,) of each token, in bits.
        bytes: of the text in UTF-8.
        context, stride: of the windows. Losses compare only if these are alike: more context mostly lowers the loss.
    """

    ids: Array
    surprisals: Array
    bytes: int
    context: int
    stride: int

    @property
    def tokens(self) -> int:
        """The number of tokens that were scored."""
        return len(self.ids)

    @property
    def loss(self) -> float:
        """The mean cross-entropy, in nats per token. Training makes this number small."""
        return float(self.surprisals.mean()) * LN2

    @property
    def perplexity(self) -> float:
        """e^loss: the model is as uncertain as if it chose among so many equally likely tokens. At most e^700."""
        return math.exp(min(self.loss, 700))

    @property
    def bits_per_byte(self) -> float:
        """The bits of all tokens, divided by the bytes of the text: see the function ``bits_per_byte``."""
        return float(self.surprisals.sum()) / self.bytes


def evaluate(
    model: GPT | HasModel,
    tokenizer: Tokenizer,
    text: str | Sequence[str],
    stride: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> Evaluation:
    """Score each token of a text once: ``surprisals_of`` says how.

    Args
        model: a GPT, or a Run, whose model is taken.
        text: a document, or several. In a text, ``<|endoftext|>`` separates documents.
        stride: the number of tokens that a window scores, by default half of the context.
        progress: called with (tokens done, tokens in all).
    Raises
        DataError if the text has no token; ConfigError if stride is not 1 to context_length; ShapeError if the
        tokenizer is another model's; TrainingError if logits are not finite.

    As in training, one ``<|endoftext|>`` follows each document. It is a prediction of the model, and is scored: the
    model says that the document ends. It has no bytes. One more stands before the text: so the first token is
    predicted from a start, and this one is not scored.

    >>> from npgpt import CharTokenizer, GPTConfig, make_gpt
    >>> model = make_gpt(GPTConfig(vocab_size=4, n_layer=1), "textbook")
    >>> model.flat.values[:] = 0  # each of the 4 tokens has the same probability: 2 bits
    >>> made = evaluate(model, CharTokenizer("ab"), "abba")
    >>> made.tokens, made.bytes, made.bits_per_byte, made.perplexity
    (5, 4, 2.5, 4.0)
    """
    texts = list(each_text("evaluate", "text", [text] if isinstance(text, str) else text))
    end = tokenizer.special_tokens[END_OF_TEXT]
    ids = np.concatenate([[end], encode_texts(tokenizer, texts)])
    if not (ids != end).any():
        raise DataError("the text has no token in this vocabulary; give one that is not empty or white space alone")
    model = model if isinstance(model, GPT) else model.model
    T = model.config.context_length
    stride = max(1, T // 2) if stride is None else stride
    return Evaluation(ids[1:], surprisals_of(model, ids, stride, progress), count_bytes(texts), T, stride)


def surprisals_of(model: GPT, ids: Array, stride: int, progress: Callable[[int, int], Any] | None = None) -> Array:
    """Return −log₂ p of each of ``ids[1:]``, (n,) in bits, where p is the model's probability for it.

    A window of T = context_length tokens slides over the text, ``stride`` tokens at a time, and scores the tokens that
    the window before has not: so each token is scored once, with at least T − stride + 1 tokens before it where the
    text has them. A stride of T is the quickest, with the least context; a stride of 1 always gives the full context.

    Raises
        DataError, ConfigError, ShapeError, TrainingError: as ``evaluate``.
    """
    T = model.config.context_length
    ids = as_ids("evaluate", "ids", ids, model.config.vocab_size)
    stride = whole("evaluate", "stride", stride)
    if not 1 <= stride <= T:
        raise ConfigError(f"stride must be 1 to {T}, the context of the model, not {stride}")
    n = len(ids) - 1
    if n < 1:
        raise DataError(f"{len(ids)} tokens are too few, evaluation needs at least 2; use a longer text")
    T = min(T, n)
    ends = np.minimum(np.arange(T, n + stride, stride), n)  # of windows; the last one goes back, and sees more context
    found, done, cache = np.zeros(n), 0, Cache(record=False)
    B = max(1, AT_ONCE // (T * model.config.vocab_size))
    for first in range(0, len(ends), B):
        part = ends[first : first + B]
        logits = model.forward(ids[(part - T)[:, None] + np.arange(T)], cache.reset())  # (B, T, V)
        for end, of_window in zip(part.tolist(), logits, strict=True):
            found[done:end] = _surprisals(of_window[done - end :], ids[done + 1 : end + 1])
            done = end
        if progress:
            progress(done, n)
    return found


def _surprisals(logits: Array, targets: Array) -> Array:
    """−log₂ softmax(logits)[target] of each row. The maximum is subtracted, so exp cannot overflow."""
    if not np.isfinite(logits).all():
        raise TrainingError("the model's logits are not finite: its weights are damaged; train it again")
    top = logits.max(-1, keepdims=True)
    log_total = top[:, 0] + np.log(np.exp(logits - top).sum(-1, dtype=np.float64))
    nats: Array = log_total - logits[np.arange(len(targets)), targets]
    return nats / LN2
