"""The compiled twin of ``bpe.py``: the arrays and the working memory of the kernels.

``Encoder`` and ``Decoder`` work with one vocabulary; ``learn_merges`` learns one. The results equal the textbook's.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npgpt.errors import TokenizerError, quote
from npgpt.tokenizer import kernels
from npgpt.tokenizer.bpe import encode_utf8, with_symbols
from npgpt.tokenizer.kernels import cache, decode, encode, learn, merge, whole
from npgpt.tokenizer.kernels.numbers import PATTERNS
from npgpt.tokenizer.kernels.together import LANE
from npgpt.tokenizer.patterns import class_table

Ids = NDArray[np.uint32]

kernels.started = True  # Numba is imported now, so the textbook no longer encodes short texts

# The smallest and the largest size of a memory of pieces. The largest one forgets older pieces. It is much
# larger than most texts need; a page of memory that is touched first takes as long as merging ten words.
TABLE_ENTRIES = 1 << 14, 1 << 20
SPILLED_WORDS = 1 << 17, 1 << 24
SHORT_TEXT = 1024  # characters: of a longer text, copies take longer than what avoids them
LONGEST_TO_LEARN = (1 << 31) - 1  # bytes: ``learn`` has positions of 32 bits
SHORTEST_PART, LONGEST_PART = 1 << 16, 1 << 22  # characters that a thread takes at once


class Encoder:
    """The tables of one vocabulary.

    Args
        merges: (n, 2), pairs of numbers as in ``bpe.py``.
        ids: number -> id, for the 256 bytes and the merges.
        pattern: name of the split pattern.
    """

    def __init__(self, merges: NDArray[np.int64], ids: NDArray[np.uint32], pattern: str) -> None:
        tables, edges = empty_tables(len(merges))
        merge.add_merges(merges, tables, edges)
        tokens = 256 + len(merges)
        whole_tokens = aligned_zeros(merge.LINE * (1 + tokens // 9), np.int32), np.empty(2 * tokens, np.int64)
        whole.add_tokens(tables, whole_tokens)
        self._vocabulary = class_table(), *tables, np.ascontiguousarray(ids, np.uint32), *whole_tokens
        self._places = [PATTERNS.index(pattern), *places_of(self._vocabulary)]
        self._free: list[Memory] = []  # one for each call at a time: other threads may run while a kernel does

    def encode(self, given: str | bytes) -> Ids:
        """Return the ids of a text, or of bytes, in an array of its own."""
        memory = self._taken()
        ids = self._short(given, memory)
        ids = self._long(given, memory) if ids is None else ids.copy()
        self._free.append(memory)
        return ids

    def encode_to_list(self, given: str | bytes) -> list[int]:
        """Return the ids of a text, or of bytes."""
        memory = self._taken()
        ids = self._short(given, memory)
        found: list[int] = (self._long(given, memory) if ids is None else ids).tolist()
        self._free.append(memory)
        return found

    def _taken(self) -> "Memory":
        """Return a memory that no other call has; the caller puts it back into ``_free``."""
        try:
            return self._free.pop()
        except IndexError:  # asking first whether there is one would let another thread take it meanwhile
            return Memory(self._places)

    def _short(self, given: str | bytes, memory: "Memory") -> Ids | None:
        """Return a view of the memory's array with the ids of a short text; None if ``_long`` is needed.

        Copying the text and the ids takes less than making arrays for them and passing these to a kernel.
        """
        if 4 * len(given) > len(memory.text) or isinstance(given, bytes):
            return None
        text = encode_utf8(given)
        size = len(text)
        memory.text[:size] = text
        n = encode.encode_short(size, memory.places)
        return memory.out[:n] if n >= 0 else None

    def _long(self, given: str | bytes, memory: "Memory") -> Ids:
        if isinstance(given, str):
            text = shape = utf8_array(given)
        else:
            text, shape = np.frombuffer(given, np.uint8), np.frombuffer(with_symbols(given), np.uint8)
        size = len(text)
        out = np.empty(min(size + encode.ROOM, size // 3 + SHORT_TEXT), np.uint32)
        at = n = 0
        try:
            while True:
                at, n = encode.encode(text, shape, at, memory.places, out, n)
                if at == size:
                    break
                memory.grow(out, size)
        except OverflowError:
            raise _too_long() from None
        out.resize(n, refcheck=False)
        return out

    def encode_all(self, texts: Sequence[str], n_threads: int) -> list[Ids]:
        """Return the ids of several texts, on several threads.

        A thread takes many texts at once, for only the kernel runs beside other threads. Each thread takes several
        times, so that all end together.
        """
        size = min(max(sum(map(len, texts)) // (4 * n_threads), SHORTEST_PART), LONGEST_PART)
        parts = list(parts_of(texts, size))
        if n_threads == 1:
            return [ids for part in parts for ids in self.encode_each(part)]
        with ThreadPoolExecutor(n_threads) as pool:
            return [ids for found in pool.map(self.encode_each, parts) for ids in found]

    def encode_each(self, strings: Sequence[str]) -> list[Ids]:
        """Return the ids of several texts, found in one call of a kernel. They are views of one array."""
        memory = self._taken()
        texts = [encode_utf8(string) for string in strings]
        ends = np.cumsum([len(text) for text in texts])
        text = np.frombuffer(b"".join(texts), np.uint8)
        out, stops = np.empty(len(text) // 3 + SHORT_TEXT, np.uint32), np.empty(len(texts), np.int64)
        k = at = n = 0
        try:
            while True:
                k, at, n = encode.encode_each(text, ends, k, at, memory.places, out, n, stops)
                if k == len(texts):
                    break
                memory.grow(out, len(text))
        except OverflowError:
            raise _too_long() from None
        self._free.append(memory)
        out.resize(n, refcheck=False)
        return np.split(out, stops[:-1])


def parts_of(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    """Yield the texts in lists of about ``size`` characters."""
    part: list[str] = []
    room = size
    for text in texts:
        part.append(text)
        room -= len(text)
        if room <= 0:
            yield part
            part, room = [], size
    if part:
        yield part


def _too_long() -> TokenizerError:
    return TokenizerError(f"the text has a piece of more than {merge.LONGEST_PIECE >> 20} MiB that no pattern splits")


class Decoder:
    """The bytes of the tokens.

    Args
        token_bytes: id -> bytes; b"" if no token has the id.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._starts = np.cumsum([0, *map(len, token_bytes)])
        self._tokens = np.frombuffer(b"".join([*token_bytes, bytes(decode.MOST_AT_ONCE)]), np.uint8)

    def decode(self, ids: Ids) -> bytes | None:
        """Return the bytes of some ids; None if an id has no token."""
        size = decode.decoded_size(ids, self._starts)
        if size < 0:
            return None
        out = np.empty(size + decode.MOST_AT_ONCE, np.uint8)
        decode.decode(ids, self._starts, self._tokens, out)
        return out[:size].tobytes()


def utf8_array(string: str) -> NDArray[np.uint8]:
    """Return the UTF-8 bytes of a text, read-only; they are valid as long as the string.

    CPython stores the UTF-8 form of a string when it is first requested (for ASCII it is the string itself). For a long
    text this avoids a copy, which takes a third of the time of encoding prose. Lone surrogates need a copy.
    """
    if len(string) > SHORT_TEXT:
        size = ctypes.c_ssize_t()
        try:
            address = _as_utf8(string, ctypes.byref(size))
        except UnicodeEncodeError:
            pass
        else:
            every_byte: Any = _EVERY_BYTE.from_address(address)
            data: NDArray[np.uint8] = np.frombuffer(every_byte, np.uint8, size.value)
            data.flags.writeable = False
            return data
    return np.frombuffer(encode_utf8(string), np.uint8)


_EVERY_BYTE = ctypes.c_uint8 * sys.maxsize  # ctypes takes 10 us to make a type for each size
_as_utf8 = ctypes.pythonapi.PyUnicode_AsUTF8AndSize
_as_utf8.restype, _as_utf8.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.POINTER(ctypes.c_ssize_t)]


class Memory:
    """Pieces that were encoded, with their ids, in the layout of ``kernels/cache.py``. One call at a time has it.

    Args
        vocabulary: the number of the split pattern and the places of the vocabulary's arrays, as in ``encode.encode``.
    """

    def __init__(self, vocabulary: list[int]) -> None:
        self._vocabulary = vocabulary
        spilled = np.empty(SPILLED_WORDS[0] + cache.SLACK, np.uint32)
        self.arrays = empty_table(TABLE_ENTRIES[0]), spilled, new_state()
        self.text, self.out = bytearray(4 * SHORT_TEXT), np.empty(4 * SHORT_TEXT + encode.ROOM, np.uint32)
        self._short_text = np.frombuffer(self.text, np.uint8), self.out
        self._work = np.empty(10 * cache.BLOCK, np.int64), np.empty(2 * cache.BLOCK * LANE, np.int32)
        self._set_limits()

    def _set_limits(self) -> None:
        table, spilled, state = self.arrays
        entries, words, never = len(table) // 4, len(spilled) - cache.SLACK, np.iinfo(np.int64).max
        state[cache.MOST_ENTRIES] = entries // 2 - cache.BLOCK if entries < TABLE_ENTRIES[1] else never
        state[cache.MOST_SPILL] = words - cache.SPILL_ROOM if words < SPILLED_WORDS[1] else never
        self.places = np.array(self._vocabulary + places_of(self.arrays + self._work + self._short_text))

    def grow(self, out: Ids, size: int) -> None:
        """Enlarge what the kernel stopped for: the memory, or else ``out``, the ids of a text of ``size`` bytes."""
        table, spilled, state = self.arrays
        more_entries = state[cache.ENTRIES] > state[cache.MOST_ENTRIES]
        more_words = state[cache.SPILL] > state[cache.MOST_SPILL]
        if more_entries:
            larger = empty_table(len(table) // 2)
            cache.enlarge(table, larger, state)
            table = larger
        if more_words:
            words = len(spilled) - cache.SLACK
            longer = np.empty(2 * words + cache.SLACK, np.uint32)
            longer[:words], spilled = spilled[:words], longer  # what lies behind is not touched yet
        self.arrays = table, spilled, state
        self._set_limits()
        if not (more_entries or more_words):
            out.resize(min(3 * len(out) // 2, size + encode.ROOM), refcheck=False)


def places_of(arrays: Iterable[NDArray[Any]]) -> list[int]:
    """Return the address and the length of each array."""
    return [number for array in arrays for number in (array.ctypes.data, len(array))]


def new_state() -> NDArray[np.int64]:
    """Return the state of an empty table, with two secret random numbers for the hash."""
    state = np.zeros(6, np.int64)
    state[cache.SECRET_1 :] = np.frombuffer(os.urandom(16), np.int64)
    return state


def empty_table(entries: int) -> NDArray[np.int64]:
    """Return a hash table with entries of four int64, each within one cache line."""
    return aligned_zeros(4 * entries, np.int64)


def aligned_zeros(size: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return zeros that begin with a cache line of 64 bytes."""
    item = np.dtype(dtype).itemsize
    room = np.zeros(size + 64 // item, dtype)
    first = -room.ctypes.data % 64 // item
    return room[first : first + size]


def empty_tables(n_merges: int) -> tuple[tuple[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[np.uint8]]:
    """Return the empty tables of ``kernels/merge.pair_made``, and room for the first and last byte of each token."""
    lines = aligned_zeros(merge.LINE * (1 + n_merges // 9), np.int32)  # 9 of 16 used: few lines are full
    byte_pairs = np.full(1 << 16, merge.APART, np.int32)
    pairs = np.full(256 + n_merges, -1, np.int64)
    return (lines, byte_pairs, pairs), np.empty((256 + n_merges, 2), np.uint8)


def merges_of(tokens: Sequence[bytes]) -> NDArray[np.int64]:
    """Return the pair (n, 2) that makes each token of two or more bytes. The tokens are in the order of their ranks.

    Merging the bytes of a token by the merges before it must leave exactly two parts.

    Raises
        TokenizerError if it does not: no merge could make this token.
    """
    sizes = np.array([len(token) for token in tokens], np.int64)
    text = np.frombuffer(b"".join(tokens), np.uint8)
    merges = np.empty((len(tokens), 2), np.int64)
    stuck = merge.find_merges(text, sizes, merges, *empty_tables(len(tokens)))
    if stuck >= 0:
        raise TokenizerError(f"token {quote(tokens[stuck])} cannot be made by merging two earlier tokens")
    return merges


def count_pieces(texts: Iterable[str], pattern: str) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct pieces of texts: all their bytes, the start of each (and the end of the last), the counts."""
    table, counts, starts = empty_table(1 << 14), np.empty(1 << 13, np.int64), np.zeros(1 + (1 << 13), np.int64)
    kept, state, block = np.empty(1 << 17, np.uint8), new_state(), np.empty(4 * cache.BLOCK, np.int64)
    for string in texts:
        text = utf8_array(string)
        at = 0
        while True:
            counted = table, counts, starts, kept, state
            at = learn.count_pieces(text, at, PATTERNS.index(pattern), class_table(), counted, block)
            if at == len(text):
                break
            if int(state[cache.ENTRIES]) + cache.BLOCK > len(counts):
                table = empty_table(len(table) // 2)
                cache.rehash(counted[0], table, state)
                counts = np.concatenate([counts, np.empty_like(counts)])
                starts = np.concatenate([starts, np.empty(len(starts) - 1, np.int64)])
            else:
                more = min(max(len(kept), 1 << 20), len(kept) + len(text) - at)
                kept = np.concatenate([kept, np.empty(more, np.uint8)])
    n, size = int(state[cache.ENTRIES]), int(state[cache.SPILL])
    return kept[:size], starts[: n + 1], counts[:n]


def learn_merges(
    texts: Iterable[str], pattern: str, n_merges: int, min_count: int, report: Callable[[int], None]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Learn the first ``n_merges`` merges, with their counts; fewer if no pair with ``min_count`` is left.

    Args
        texts: no merge crosses from one text into the next.
        report: called from time to time with the number of merges done.
    Raises
        TokenizerError if there is no text.
    """
    kept, starts, counts = count_pieces(texts, pattern)
    size = len(kept)
    if size == 0:
        raise TokenizerError("the text is empty; give a text to learn a vocabulary from")
    if size > LONGEST_TO_LEARN:
        raise TokenizerError(
            f"the distinct pieces of the text have {size:,} bytes, more than {LONGEST_TO_LEARN:,}; learn from a "
            "part of the text" + ', or with a split pattern, such as "gpt2"' * (pattern == "none")
        )
    # Each merge removes a position and adds at most two pairs. Memory that is not needed is not touched.
    max_pairs = (1 << 16) + 2 * size
    positions = np.empty((size, 4), np.int32), np.empty(size, np.int64), np.empty(3 * size, np.int32)
    pairs = np.empty(max_pairs, np.int64), np.empty(max_pairs, np.int64), np.empty((max_pairs, 2), np.int64)
    room = np.empty((size + 2, 2), np.int64), np.zeros((256 + n_merges, 4), np.int64)
    heap = np.empty((max_pairs, 3), np.int64)
    progress = np.zeros(4, np.int64)
    progress[learn.PAIRS] = learn.first_pairs(kept, starts, counts, positions, pairs)
    progress[learn.STORED] = int((starts[1:] - starts[:-1] - 1).sum())
    progress[learn.THRESHOLD] = np.iinfo(np.int64).max
    merges = np.empty((n_merges, 3), np.int64)
    done = 0
    while done < n_merges:
        target = min(n_merges, done + 256)
        done = learn.learn(done, target, min_count, positions, pairs, room, heap, progress, merges)
        report(done)
        if done < target:
            break
    return merges[:done, :2], merges[:done, 2]
