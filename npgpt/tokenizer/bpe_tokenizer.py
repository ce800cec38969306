"""``BPETokenizer``: byte-pair encoding by compiled kernels. ``bpe.py`` explains the algorithm."""

import codecs
import functools
import itertools
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npgpt.core.shapes import as_ids
from npgpt.core.values import each_text, flag, one_of, shown, whole
from npgpt.core.values import path as check_path
from npgpt.core.values import text as check_text
from npgpt.core.values import texts as check_texts
from npgpt.errors import TokenizerError, quote
from npgpt.support.garbage import collection_paused
from npgpt.support.json_files import field
from npgpt.tokenizer import bpe_formats, kernels
from npgpt.tokenizer.base import (
    END_OF_TEXT,
    NONE,
    AllowedSpecial,
    Tokenizer,
    join_halves,
    naming,
    read_tokenizer_json,
    vocabulary_from,
)
from npgpt.tokenizer.bpe import UTF8_ERRORS, Pair, Step, encode, encode_utf8, merge_steps
from npgpt.tokenizer.bpe_vocabulary import MAX_TOKENS, bytes_by_number, check_ids, checked_merges, numbered
from npgpt.tokenizer.patterns import SOURCES, compiled

if TYPE_CHECKING:
    from npgpt.tokenizer.bpe_compiled import Decoder, Encoder

Ids = NDArray[np.uint32]
SHORT = 256  # bytes, characters or ids that do not start Numba, whose import takes most of a second


class BPETokenizer(Tokenizer):
    """A byte-pair vocabulary.

    Args
        merges: the merged pairs in the order of learning, as numbers of tokens: 0 to 255 are the bytes, 256 + k is the
            result of merge k.
        special_tokens: texts, which get the ids after the other tokens, in this order; or text -> id.
        pattern: the name of the pattern that splits a text into pieces (``patterns.SOURCES``); "none" is no split, and
            tokens may have spaces and line ends anywhere.
        ids: number -> id, if the ids are not the numbers themselves.
        counts: the count of each merge's pair in the training text, if known.
    Raises
        TokenizerError if a merge uses a token that does not exist yet, a pair is repeated, a special token is empty or
        starts with another one, an id is repeated or too large, or the pattern is unknown.

    >>> tokenizer = BPETokenizer([(104, 105)])     # h + i
    >>> tokenizer.encode("hi hi")
    [256, 32, 256]
    >>> tokenizer.decode([256, 33])
    'hi!'
    """

    kind = "bpe"
    fields = frozenset({"pattern", "merges", "special_tokens", "ids", "counts"})

    def __init__(
        self,
        merges: Sequence[Pair] | NDArray[np.int64],
        special_tokens: Iterable[str] | Mapping[str, int] = (END_OF_TEXT,),
        pattern: str = "gpt2",
        ids: ArrayLike | None = None,
        counts: Sequence[int] | None = None,
    ) -> None:
        if not isinstance(pattern, str):
            raise TokenizerError(f"the split pattern must be a name, not {shown(pattern)}")
        self.pattern = one_of("split pattern", pattern, SOURCES, TokenizerError)
        self.merges = checked_merges(merges)  # (n, 2)
        n_tokens = 256 + len(self.merges)
        if ids is None:
            self.ids = np.arange(n_tokens)
        else:
            self.ids = as_ids("BPETokenizer", "ids", ids, error=TokenizerError).astype(np.int64)
        if isinstance(special_tokens, Mapping):
            self.special_tokens = numbered(special_tokens, special_tokens.values())
        else:
            names = check_texts("BPETokenizer", "special_tokens", special_tokens, TokenizerError)
            self.special_tokens = numbered(names, itertools.count(int(self.ids.max(initial=-1)) + 1))
        check_ids(self.ids, n_tokens, self.special_tokens)
        self.counts = (
            None if counts is None else as_ids("BPETokenizer", "counts", counts, error=TokenizerError).tolist()
        )
        self._left_to_textbook = 1000  # characters
        self._vocab_size = max(int(self.ids.max()), *self.special_tokens.values(), 0) + 1

    @property
    def vocab_size(self) -> int:
        """The largest id plus one. Other vocabularies may have gaps: ids without a token."""
        return self._vocab_size

    @functools.cached_property
    def token_bytes(self) -> list[bytes]:
        """Id -> the bytes of its token; b"" if no token has the id."""
        found = [b""] * self._vocab_size
        for token, text in zip(self.ids.tolist(), bytes_by_number(self.merges), strict=True):
            found[token] = text
        for name, token in self.special_tokens.items():
            found[token] = encode_utf8(name)
        return found

    @functools.cached_property
    def ranks(self) -> dict[Pair, int]:
        """Pair of numbers -> number of the merged token; a smaller number was learned earlier."""
        return {(left, right): 256 + k for k, (left, right) in enumerate(self.merges.tolist())}

    @functools.cached_property
    def _encoder(self) -> "Encoder":
        with collection_paused():
            from npgpt.tokenizer.bpe_compiled import Encoder  # importing Numba takes time, so only when it is needed

            return Encoder(self.merges, self.ids.astype(np.uint32), self.pattern)

    @functools.cached_property
    def _decoder(self) -> "Decoder":
        from npgpt.tokenizer.bpe_compiled import Decoder

        return Decoder(self.token_bytes)

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles leave out the encoder, which has memory for each thread, and what can be made again.
        left_out = "_encoder", "_decoder", "token_bytes", "ranks"
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int = 1024,
        special_tokens: Iterable[str] = (END_OF_TEXT,),
        pattern: str = "gpt2",
        min_frequency: int = 1,
        progress: bool = False,
    ) -> Self:
        """Learn a vocabulary from one or several texts. No merge crosses from one text into the next.

        Of pairs with equal counts, the one with the smaller ids is merged first (left, then right). The texts are read
        one after another; together they may be larger than memory (``files.read_parts`` splits large files). With the
        pattern "none" every text is one piece: learning takes up to a hundred bytes of memory for each byte.

        Args
            vocab_size: the number of bytes, merges and special tokens. A text with too few pairs gives fewer tokens,
                and a warning.
            special_tokens: left out of the text; no merge crosses one.
            min_frequency: stop when no pair has this count.
            progress: show a progress bar on stderr.
        Raises
            TokenizerError if vocab_size is too small for the bytes and the special tokens, or if the text is empty.
        """
        from tqdm import tqdm  # imported here, so that encoding does not wait for it

        from npgpt.tokenizer.bpe_compiled import learn_merges

        vocab_size = whole("BPETokenizer.train", "vocab_size", vocab_size, error=TokenizerError)
        min_frequency = whole("BPETokenizer.train", "min_frequency", min_frequency, most=2**62, error=TokenizerError)
        progress = flag("BPETokenizer.train", "progress", progress, TokenizerError)
        tokenizer = cls([], special_tokens, pattern)
        n_merges = vocab_size - tokenizer.vocab_size
        if n_merges < 0:
            raise TokenizerError(
                f"vocab_size {quote(vocab_size)} is too small: 256 bytes and {len(tokenizer.special_tokens)} special "
                f"tokens need {tokenizer.vocab_size}"
            )
        if vocab_size > MAX_TOKENS or min_frequency < 1:
            raise TokenizerError(f"vocab_size must be at most {MAX_TOKENS} and min_frequency at least 1")
        given = [text] if isinstance(text, str) else each_text("BPETokenizer.train", "text", text, TokenizerError)
        parts = (part for text in given for part in tokenizer._parts(text, "all", ())[::2])
        with tqdm(total=n_merges, desc="merges", disable=not progress) as bar:

            def report(done: int) -> None:
                bar.update(done - bar.n)

            merges, counts = learn_merges(parts, pattern, n_merges, min_frequency, report)
        if len(merges) < n_merges:
            seen = "" if min_frequency == 1 else f" whose pairs occur {min_frequency} times"
            warnings.warn(
                f"only {len(merges)} merges{seen} could be learned from this text; the vocabulary has "
                f"{tokenizer.vocab_size + len(merges)} tokens, not {vocab_size}",
                stacklevel=2,
            )
        return cls(merges, list(tokenizer.special_tokens), pattern, counts=counts.tolist())

    def _ordinary_array(self, text: str) -> Ids:
        if type(self).encode_ordinary is not BPETokenizer.encode_ordinary:  # a subclass has its own
            return super()._ordinary_array(text)
        return self._encoder.encode(text) if self._needs_kernels(text) else np.array(self._by_textbook(text), np.uint32)

    def encode_ordinary(self, text: str) -> list[int]:
        text = check_text("encode", "text", text, TokenizerError)
        return self._encoder.encode_to_list(text) if self._needs_kernels(text) else self._by_textbook(text)

    def encode_bytes(self, data: bytes | bytearray | memoryview) -> list[int]:
        """Return the ids of bytes, valid UTF-8 or not, without special tokens; ``decode_bytes`` returns the bytes.

        A byte that is not UTF-8 counts as a symbol where the split pattern is matched.

        >>> BPETokenizer([(104, 105)]).encode_bytes(b"hi\\xff")
        [256, 255]
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TokenizerError(f"encode_bytes: data must be bytes, not {shown(data)}; encode takes a text")
        data = bytes(data)
        return self._encoder.encode_to_list(data) if self._needs_kernels(data) else self._by_textbook(data)

    def _needs_kernels(self, text: str | bytes) -> bool:
        # Numba takes most of a second to start. Until it is needed anyway, the textbook encodes short texts.
        return kernels.started or len(text) >= min(self._left_to_textbook, SHORT)

    def _by_textbook(self, text: str | bytes) -> list[int]:
        self._left_to_textbook -= len(text) + 1
        found: list[int] = self.ids[np.array(encode(text, self.ranks, self.pattern), np.int64)].tolist()
        return found

    def encode_batch(
        self,
        texts: Sequence[str],
        allowed_special: AllowedSpecial = NONE,
        disallowed_special: AllowedSpecial = NONE,
        n_threads: int = 1,
    ) -> list[Ids]:
        """Call ``encode_array`` for several texts, on several threads. Short texts take a tenth of the time here."""
        texts = check_texts("encode_batch", "texts", texts, TokenizerError)
        n_threads = whole("encode_batch", "n_threads", n_threads, 1, 1024, TokenizerError)
        own = type(self)
        plain = (own.encode_ordinary, own.encode_array) == (BPETokenizer.encode_ordinary, Tokenizer.encode_array)
        if plain and allowed_special is disallowed_special is NONE:
            return self._encoder.encode_all(texts, n_threads)

        def array_of(text: str) -> Ids:
            return self.encode_array(text, allowed_special, disallowed_special)

        if n_threads == 1:
            return [array_of(text) for text in texts]
        with ThreadPoolExecutor(n_threads) as pool:
            return list(pool.map(array_of, texts))

    def merge_steps(self, word: str) -> list[Step]:
        """Return the merges of a word, step by step, with the rank and the training count of each.

        Raises
            TokenizerError if the split pattern splits the text into several pieces: no merge crosses a split.
        """
        word = check_text("merge_steps", "word", word, TokenizerError)
        pieces = compiled(self.pattern).findall(join_halves(word))
        if len(pieces) != 1:
            raise TokenizerError(f"give one word; this text has {len(pieces)} pieces: {quote(pieces[:5], 100)[1:-1]}")
        return merge_steps(encode_utf8(word), self.ranks, self.counts)

    def decode_bytes(self, ids: Iterable[int] | NDArray[Any]) -> bytes:
        """Return the bytes of some ids, which may be invalid UTF-8.

        Raises
            TokenizerError if an id is out of range, or if no token has it.
        """
        array = as_ids("decode", "ids", list(ids) if isinstance(ids, bytes) else ids, error=TokenizerError)
        fits = array.dtype == np.uint32 or bool(((array >= 0) & (array < self.vocab_size)).all())
        if fits and (kernels.started or len(array) >= SHORT):
            data = self._decoder.decode(np.ascontiguousarray(array, np.uint32))
            if data is not None:
                return data
        return b"".join(self.token_bytes[token] for token in self._checked(array.tolist()))  # raises at the first

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of some ids; invalid UTF-8 becomes U+FFFD.

        Raises
            TokenizerError if an id is out of range, or if no token has it.
        """
        return self.decode_bytes(ids).decode("utf-8", UTF8_ERRORS)

    def decode_with_offsets(self, ids: Iterable[int]) -> tuple[str, list[int]]:
        """Return the text, and for each id the index of the first character with a byte of its token.

        >>> BPETokenizer([]).decode_with_offsets([97, 0xC3, 0xA9, 98])     # é is two bytes
        ('aéb', [0, 1, 1, 2])
        """
        decoder = codecs.getincrementaldecoder("utf-8")(UTF8_ERRORS)
        text, offsets = [], []
        done = 0  # characters
        for token in self._checked(ids):
            continues = self.token_bytes[token][0] & 0xC0 == 0x80
            offsets.append(done + (1 if decoder.getstate()[0] and not continues else 0))
            text.append(decoder.decode(self.token_bytes[token]))
            done += len(text[-1])
        text.append(decoder.decode(b"", final=True))
        return "".join(text), offsets

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        # The bytes of one character may be in several tokens: the decoder keeps an unfinished character.
        decoder = codecs.getincrementaldecoder("utf-8")(UTF8_ERRORS)
        for token in self._checked(ids):
            yield decoder.decode(self.token_bytes[token])
        yield decoder.decode(b"", final=True)

    def _checked(self, ids: Iterable[int]) -> Iterator[int]:
        for position, token in enumerate(super()._checked(ids)):
            if not self.token_bytes[token]:
                raise TokenizerError(f"id {token} at position {position} has no token: it is a gap in this vocabulary")
            yield token

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"pattern": self.pattern, "merges": self.merges.tolist()}
        state["special_tokens"] = list(self.special_tokens)
        ids = [*self.ids.tolist(), *self.special_tokens.values()]
        if ids != list(range(len(ids))):
            state["ids"] = ids
        if self.counts is not None:
            state["counts"] = self.counts
        return state

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        merges = field(state, "merges", list, "the tokenizer")
        for k, pair in enumerate(merges):
            if not (isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int and type(pair[1]) is int):
                raise TokenizerError(f"merge {k} must be two ids, not {quote(pair)}")
        special_tokens: Collection[str] | Mapping[str, int] = vocabulary_from(state, "special_tokens")
        ids = None
        if "ids" in state:
            ids = _integers(state, "ids", 256 + len(merges) + len(special_tokens))
            special_tokens = dict(zip(special_tokens, ids[256 + len(merges) :], strict=True))
            ids = ids[: 256 + len(merges)]
        tokenizer = cls(merges, special_tokens, field(state, "pattern", str, "the tokenizer"), ids)
        if "counts" in state:
            tokenizer.counts = _integers(state, "counts", len(merges))
        return tokenizer

    @classmethod
    def from_tiktoken(
        cls, path: str | Path, pattern: str | None = None, special_tokens: Mapping[str, int] | None = None
    ) -> Self:
        """Read tiktoken's ranks, a ``.tiktoken`` file. See ``bpe_formats.read_tiktoken``."""
        path = _path(path)
        with naming(path):
            return cls(**bpe_formats.read_tiktoken(path, pattern, special_tokens))

    @classmethod
    def from_gpt2(cls, encoder_json: str | Path, vocab_bpe: str | Path) -> Self:
        """Read GPT-2's two files. See ``bpe_formats.read_gpt2``."""
        encoder_json = _path(encoder_json)
        read = bpe_formats.read_gpt2(encoder_json, _path(vocab_bpe))
        with naming(encoder_json):
            return cls(**read)

    @classmethod
    def from_huggingface(cls, path: str | Path) -> Self:
        """Read Hugging Face's ``tokenizer.json`` with byte-level BPE. See ``bpe_formats.from_huggingface``."""
        path = _path(path)
        return cls.from_huggingface_json(read_tokenizer_json(path), path)

    @classmethod
    def from_huggingface_json(cls, data: Any, path: str | Path) -> Self:
        """``from_huggingface`` after the file at ``path`` was parsed."""
        with naming(path):
            return cls(**bpe_formats.from_huggingface(data, path))

    def to_tiktoken(self, path: str | Path) -> None:
        """Write ranks for tiktoken. See ``bpe_formats.write_tiktoken``."""
        bpe_formats.write_tiktoken(self, _path(path))

    def to_gpt2(self, encoder_json: str | Path, vocab_bpe: str | Path) -> None:
        """Write GPT-2's two files. See ``bpe_formats.write_gpt2``."""
        bpe_formats.write_gpt2(self, _path(encoder_json), _path(vocab_bpe))

    def to_huggingface(self, path: str | Path) -> None:
        """Write a ``tokenizer.json`` for Hugging Face. See ``bpe_formats.write_huggingface``."""
        bpe_formats.write_huggingface(self, _path(path))


def _path(value: str | Path) -> Path:
    return check_path("BPETokenizer", "path", value, TokenizerError)


def _integers(state: Mapping[str, Any], name: str, n: int) -> list[int]:
    values = state[name]
    if not isinstance(values, list) or len(values) != n or not all(type(value) is int for value in values):
        raise TokenizerError(f"{name} must be a list of {n} integers")
    if any(not -(1 << 62) < value < 1 << 62 for value in values):
        raise TokenizerError(f"{name} has a number that is too large")
    return values
