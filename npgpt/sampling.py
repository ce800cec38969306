# V vocabulary
"""Sampling: a model continues a text, one token at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from npgpt.config import GPTConfig
from npgpt.core import Array, Cache, KeyValues
from npgpt.core.shapes import as_ids
from npgpt.core.values import real, shown, whole
from npgpt.errors import ConfigError, DataError, TrainingError, quote
from npgpt.rng import make_key, random_bits


class _Model(Protocol):
    """What sampling needs of a ``GPT``."""

    config: GPTConfig

    def forward(self, ids: Array, cache: Cache) -> Array: ...

    def next_logits(self, ids: Array, cache: Cache) -> Array: ...

    def walk(self) -> Iterator[Any]: ...


LONGEST = 4  # times the trained context; at larger distances models rarely predict well


@dataclass(frozen=True, eq=False)
class Drawn:
    """A token that was drawn, and the logits (V,) that the model gave at its place."""

    token: int
    logits: Array

    @property
    def log_probability(self) -> float:
        """The logarithm of the token's probability by the model, in nats: without temperature and filters."""
        beneath = self.logits - self.logits.max()  # the logarithm of a softmax may be finite where the softmax is 0
        return float(beneath[self.token] - np.log(np.exp(beneath).sum()))

    def likeliest(self, n: int = 5) -> list[tuple[int, float]]:
        """Return the n likeliest ids with their probabilities by the model, the likeliest first."""
        p = softmax(self.logits)
        return [(token, float(p[token])) for token in np.argsort(-p, kind="stable")[:n].tolist()]


def generate(
    model: _Model,
    ids: Sequence[int],
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    stop: int | None = None,
    context: int | None = None,
    top_p: float | None = None,
) -> Iterator[int]:
    """Continue a sequence of ids; yield each new id as it is drawn.

    Args
        ids: the prompt, at least one id. The model sees its last ``context`` ids, and what follows. When this window is
            full, it moves on by half the context.
        temperature: the logits are divided by it. Below 1, likely ids become more likely; 0 takes the most likely id.
        top_k: draw only from the k most likely ids (and from those exactly as likely as the k-th).
        seed: the same seed gives the same text.
        stop: an id that ends the text; it is not yielded.
        context: the number of tokens that the model sees, by default context_length; up to four times that, unless its
            positions are learned.
        top_p: draw only from the fewest ids whose probabilities reach this sum together, above 0 to 1.
    Raises
        ConfigError if a setting is out of range; DataError if the prompt is empty; TrainingError if logits are not
        finite.
    """
    return (each.token for each in draw(model, ids, max_tokens, temperature, top_k, seed, stop, context, top_p))


def draw(
    model: _Model,
    ids: Sequence[int],
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    stop: int | None = None,
    context: int | None = None,
    top_p: float | None = None,
) -> Iterator[Drawn]:
    """Do the same as ``generate``, but yield each new id with its logits."""
    max_tokens = whole("generate", "max_tokens", max_tokens, 0, 2**32)
    sequence, context, choose = _checked(model, ids, temperature, top_k, seed, stop, context, top_p)

    def drawn() -> Iterator[Drawn]:
        for number, logits in zip(range(max_tokens), next_logits(model, sequence, context), strict=False):
            token = choose(number, logits)
            if token is None:
                return
            sequence.append(token)
            yield Drawn(token, logits)

    return drawn()


def generate_batch(
    model: _Model,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seeds: Sequence[int] | None = None,
    stop: int | None = None,
    context: int | None = None,
    top_p: float | None = None,
) -> list[list[int]]:
    """Continue several texts together; return the new ids of each, which are those of ``generate``, bit for bit.

    One pass writes a token of every text, so it reads the weights once for all of them. The prompts may have different
    lengths: each text has keys and values of its own, and nothing is padded.

    Args
        seeds: one for each prompt; by default 0, 1, 2, ... The other arguments are those of ``generate``.
    """
    max_tokens = whole("generate_batch", "max_tokens", max_tokens, 0, 2**32)
    for each in (prompts, *prompts) if isinstance(prompts, Sequence | np.ndarray) else (prompts,):
        if isinstance(each, str) or not isinstance(each, Sequence | np.ndarray):
            raise DataError(
                f"generate_batch: prompts must be a list with a list of ids for each text, such as [[1, 2], [3]]; "
                f"{shown(each)} is no list"
            )
    seeds = range(len(prompts)) if seeds is None else seeds
    if not isinstance(seeds, Sequence | np.ndarray):
        raise DataError(f"generate_batch: seeds must be a list with a number for each prompt, not {shown(seeds)}")
    if len(seeds) != len(prompts):
        raise DataError(f"generate_batch: {len(seeds)} seeds for {len(prompts)} prompts; give one for each")
    continues, texts, choosers = _continues(model), [], []
    for ids, seed in zip(prompts, seeds, strict=True):
        sequence, window, choose = _checked(model, ids, temperature, top_k, seed, stop, context, top_p)
        texts.append(_Window(sequence, window, KeyValues() if continues else None))
        choosers.append(choose)
    pasts: list[KeyValues] = []  # of the texts of a pass
    cache = Cache(record=False, past=pasts)
    written: list[list[int]] = [[] for _ in texts]
    going = set(range(len(texts)))
    for number in range(max_tokens):
        new = {i: texts[i].new_ids() for i in sorted(going)}
        together = [i for i, ids in new.items() if len(ids) == 1 and continues]
        groups = [[i] for i in new if i not in together]
        for group in [*groups, together] if together else groups:
            batch = np.array([new[i] for i in group])
            pasts[:] = [past for i in group if (past := texts[i].past)]
            if continues:
                rows = model.next_logits(batch, cache.reset())
            else:
                rows = model.forward(batch, Cache(record=False))[:, -1]
            for past in pasts:
                past.advance(batch.shape[1])
            for i, logits in zip(group, rows, strict=True):
                token = choosers[i](number, logits.astype(np.float64))
                if token is None:
                    going.remove(i)
                else:
                    texts[i].sequence.append(token)
                    written[i].append(token)
    return written


def _checked(
    model: _Model,
    ids: Sequence[int],
    temperature: float,
    top_k: int | None,
    seed: int,
    stop: int | None,
    context: int | None,
    top_p: float | None,
) -> tuple[list[int], int, Callable[[int, Array], int | None]]:
    """Check the arguments of ``generate``; return the ids, the context, and what chooses an id, or None at the end.

    It is called with the number of the id, from 0, and its logits.
    """
    temperature = real("generate", "temperature", temperature, least=0)
    top_k = None if top_k is None else whole("generate", "top_k", top_k, 1)
    top_p = None if top_p is None else real("generate", "top_p", top_p, least=0)
    if top_p is not None and not 0 < top_p <= 1:
        raise ConfigError(f"generate: top_p must be above 0 and at most 1, not {top_p}")
    stop = None if stop is None else whole("generate", "stop", stop)
    seed = whole("generate", "seed", seed)
    context = model.config.context_length if context is None else whole("generate", "context", context)
    check_context(model.config, context)
    sequence = as_ids("generate", "ids", ids, model.config.vocab_size).tolist()
    if not sequence:
        raise DataError("the prompt is empty; give at least one token, such as <|endoftext|>")
    key = make_key("sample", seed)

    def choose(number: int, logits: Array) -> int | None:
        if not np.isfinite(logits).all():
            raise TrainingError("the model's logits are not finite: its weights are damaged; train it again")
        if temperature == 0:  # one id has all the probability, whatever is kept
            token = int(np.argmax(logits))
        else:
            p = softmax(logits, temperature)
            p = p if top_k is None else keep_top_k(p, top_k)
            p = p if top_p is None else keep_top_p(p, top_p)
            uniform = float(random_bits(key, np.array([number], np.uint32))[0]) / 2.0**32
            cumulative = p.cumsum()
            token = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
        return None if token == stop else token

    return sequence, context, choose


class _Window:
    """The ids of a text that a model sees: the last ones, and those that the caller appends.

    When the window is full, it moves on by half the context, and its keys and values are forgotten.
    """

    def __init__(self, sequence: list[int], context: int, past: KeyValues | None) -> None:
        self.sequence, self.context, self.past = sequence, context, past
        self._first = max(0, len(sequence) - context)

    def new_ids(self) -> list[int]:
        """Return the ids that the next pass runs: those without keys and values."""
        if len(self.sequence) - self._first > self.context:
            self._first += max(1, self.context // 2)
            if self.past:
                self.past.clear()
        return self.sequence[self._first + (self.past.length if self.past else 0) :]


def _continues(model: _Model) -> bool:
    """Whether all layers are npgpt's: they compute a token from itself and earlier ones, and continue from keys."""
    return all(type(layer).__module__.startswith("npgpt.") for layer in model.walk())


def next_logits(model: _Model, sequence: list[int], context: int) -> Iterator[Array]:
    """Yield the logits (V,) of the id after the sequence, again and again, while the caller appends ids to it.

    Keys and values of earlier tokens are kept, so each step runs the new tokens only. A model with a layer of a user's
    own class runs its whole window each time; the window moves at the same places.
    """
    past = KeyValues() if _continues(model) else None
    cache, window = Cache(record=False, past=past), _Window(sequence, context, past)
    while True:
        new = np.array([window.new_ids()])
        if past:
            logits = model.next_logits(new, cache.reset())[0]
            past.advance(new.shape[1])
        else:
            logits = model.forward(new, cache.reset())[0, -1]
        yield logits.astype(np.float64)


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


def softmax(logits: Array, temperature: float = 1.0) -> Array:
    """Return the probabilities (V,) of logits (V,) divided by a temperature; at 0 the likeliest id has all.

    >>> softmax(np.log([1., 3.])), softmax(np.array([2., 5., 5.]), 0)
    (array([0.25, 0.75]), array([0., 1., 0.]))
    """
    p: Array = np.zeros_like(logits)
    if temperature == 0:
        p[np.argmax(logits)] = 1
    else:
        p[...] = np.exp((logits - logits.max()) / temperature)
        p /= p.sum()
    return p


def keep_top_k(p: Array, k: int) -> Array:
    """Return probabilities (V,) of the k likeliest ids, and of those exactly as likely as the k-th; the others are 0.

    >>> keep_top_k(np.array([.5, .125, .25, .125]), 2)
    array([0.66666667, 0.        , 0.33333333, 0.        ])
    """
    if k >= len(p):
        return p
    kept: Array = np.where(p >= np.partition(p, -k)[-k], p, 0)
    kept /= kept.sum()
    return kept


def keep_top_p(p: Array, least: float) -> Array:
    """Return probabilities (V,) of the fewest ids, likeliest first, whose sum is at least ``least``; the others are 0.

    >>> keep_top_p(np.array([.5, .125, .25, .125]), .7)
    array([0.66666667, 0.        , 0.33333333, 0.        ])
    """
    likeliest = np.argsort(-p, kind="stable")
    n = int(np.searchsorted(p[likeliest].cumsum(), least)) + 1
    kept: Array = np.zeros_like(p)
    kept[likeliest[:n]] = p[likeliest[:n]]
    kept /= kept.sum()
    return kept


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """Yield text until one of some strings is complete; that string is not yielded.

    What may be the beginning of such a string is held back until more text decides.

    >>> list(until(["a", "b<", "en", "d>c"], ["<end>"]))
    ['a', 'b', '', '']
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [(at + len(stop), at) for stop in stops if (at := held.find(stop)) >= 0]
        if found:
            yield held[: min(found)[1]]
            return
        n = max((n for stop in stops for n in range(1, len(stop)) if held.endswith(stop[:n])), default=0)
        yield held[: len(held) - n]
        held = held[len(held) - n :]
    yield held
