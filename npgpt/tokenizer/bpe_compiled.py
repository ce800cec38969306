"""The compiled twin of ``bpe.py``: arrays for the kernels, and the memory that they work in.

``Encoder`` encodes and decodes for one vocabulary; ``learn_merges`` learns one. Results are equal to the textbook's.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from npgpt.errors import TokenizerError
from npgpt.tokenizer import kernels
from npgpt.tokenizer.bpe import encode_utf8
from npgpt.tokenizer.kernels import decode, encode, learn, merge
from npgpt.tokenizer.kernels.numbers import PATTERNS
from npgpt.tokenizer.patterns import class_table

Ids = NDArray[np.uint32]

kernels.started = True  # from now on nothing is gained by leaving short texts to the textbook

# The memory of pieces grows from the first to the second of these, one for each thread; then it is emptied. More would
# help little: what does not fit into the processor's last cache takes as long to look up as to merge.
TABLE_ENTRIES = 1 << 14, 1 << 20
SPILLED_WORDS = 1 << 17, 1 << 24
SHORT_TEXT = 8192  # bytes; up to here ids go to an array that is kept


class Encoder:
    """The tables of one vocabulary.

    Args
        merges: (n, 2), pairs of numbers as in ``bpe.py``.
        ids: number -> id, for the 256 bytes and the merges.
        pattern: name of the split pattern.
        token_bytes: id -> bytes, for decoding; b"" where no token has the id.
    """

    def __init__(
        self, merges: NDArray[np.int64], ids: NDArray[np.uint32], pattern: str, token_bytes: Sequence[bytes]
    ) -> None:
        self._pattern = PATTERNS.index(pattern)
        pairs, byte_pairs = empty_pair_tables(len(merges))
        merge.add_merges(merges, pairs, byte_pairs)
        self._vocabulary = class_table(), pairs, byte_pairs, np.ascontiguousarray(ids, np.uint32)
        self._starts = np.cumsum([0, *map(len, token_bytes)])
        self._tokens = np.frombuffer(b"".join([*token_bytes, bytes(decode.MOST_AT_ONCE)]), np.uint8)
        self._local = threading.local()  # kernels release the GIL: each thread has a memory of its own

    def encode(self, string: str) -> Ids:
        """The ids of a text. What is returned may be a view that the next call in this thread overwrites."""
        memory: Memory | None = getattr(self._local, "memory", None)
        if memory is None:
            memory = self._local.memory = Memory()
        text = utf8_array(string)
        size = len(text)
        out = memory.short if size <= SHORT_TEXT else np.empty(size // 3 + SHORT_TEXT, np.uint32)
        at = n = 0
        while True:
            try:
                at, n = encode.encode(text, at, self._pattern, self._vocabulary, memory.arrays, memory.block, out, n)
            except OverflowError:
                limit = merge.LONGEST_PIECE >> 20
                raise TokenizerError(f"the text has a piece of more than {limit} MiB that no pattern cuts") from None
            if at == size:
                break
            if not memory.grow():
                out.resize(min(3 * len(out) // 2, size + 4), refcheck=False)
        if out is memory.short:
            return out[:n]
        out.resize(n, refcheck=False)
        return out

    def decode(self, ids: Ids) -> bytes | None:
        """The bytes of some ids; None if there is one that no token has."""
        size = decode.decoded_size(ids, self._starts)
        if size < 0:
            return None
        out = np.empty(size + decode.MOST_AT_ONCE, np.uint8)
        decode.decode(ids, self._starts, self._tokens, out)
        return out[:size].tobytes()


def utf8_array(string: str) -> NDArray[np.uint8]:
    """The UTF-8 bytes of a text, read-only; valid as long as the string.

    CPython keeps the UTF-8 form of a string once it was asked for (of an ASCII one it is the string itself). For a long
    text that spares a copy, a third of the time it takes to encode prose. Half surrogate pairs need a copy.
    """
    if len(string) > SHORT_TEXT:
        size = ctypes.c_ssize_t()
        try:
            address = _as_utf8(string, ctypes.byref(size))
        except UnicodeEncodeError:
            pass
        else:
            data = np.ctypeslib.as_array((ctypes.c_uint8 * size.value).from_address(address))
            data.flags.writeable = False
            return data
    return np.frombuffer(encode_utf8(string), np.uint8)


_as_utf8 = ctypes.pythonapi.PyUnicode_AsUTF8AndSize
_as_utf8.restype, _as_utf8.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.POINTER(ctypes.c_ssize_t)]


class Memory:
    """The pieces that one thread has met, with their ids, as ``kernels/encode.py`` lays them out."""

    def __init__(self) -> None:
        self.arrays = empty_table(TABLE_ENTRIES[0]), np.empty(SPILLED_WORDS[0], np.uint32), new_state()
        self.block = np.empty((6, encode.BLOCK), np.int64)
        self.short = np.empty(SHORT_TEXT + 4, np.uint32)

    def grow(self) -> bool:
        """Make room if the kernel stopped for want of it, by growing or by forgetting; False if it did not."""
        table, spilled, state = self.arrays
        n_entries = len(table) // 4
        table_full = 2 * (int(state[encode.ENTRIES]) + encode.BLOCK) > n_entries
        spilled_full = int(state[encode.SPILL]) + encode.SPILL_ROOM > len(spilled)
        if (table_full and n_entries >= TABLE_ENTRIES[1]) or (spilled_full and len(spilled) >= SPILLED_WORDS[1]):
            table[:] = 0
            state[encode.ENTRIES] = state[encode.SPILL] = 0
        elif table_full:
            larger = empty_table(4 * n_entries)
            encode.rehash(table, larger, state)
            self.arrays = larger, spilled, state
        elif spilled_full:
            self.arrays = table, np.concatenate([spilled, np.empty_like(spilled)]), state
        return table_full or spilled_full


def new_state() -> NDArray[np.int64]:
    """Nothing taken, and the two secret numbers of the hash."""
    state = np.zeros(4, np.int64)
    state[encode.SECRET_1 :] = np.frombuffer(os.urandom(16), np.int64)
    return state


def empty_table(entries: int) -> NDArray[np.int64]:
    """A hash table of entries of four int64, none of which lies across two cache lines of 64 bytes."""
    words = np.zeros(4 * entries + 8, np.int64)
    first = -words.ctypes.data // 8 % 8
    return words[first : first + 4 * entries]


def empty_pair_tables(n_merges: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The hash table of pairs and the direct table of byte pairs, as ``kernels/merge.py`` reads them."""
    pairs = np.full(1 << max(4, (2 * n_merges).bit_length()), -1, np.int64)
    return pairs, np.full(1 << 16, merge.NEVER, np.int32)


def merges_of(tokens: Sequence[bytes]) -> NDArray[np.int64]:
    """The pair that makes each of these tokens of two bytes and more, which are given in the order of their ranks.

    Joining the bytes of a token by what was learned before it must leave exactly two parts.

    Raises
        TokenizerError if it does not, for then the token could never be reached.
    """
    sizes = np.array([len(token) for token in tokens], np.int64)
    text = np.frombuffer(b"".join(tokens), np.uint8)
    merges = np.empty((len(tokens), 2), np.int64)
    stuck = merge.find_merges(text, sizes, merges, *empty_pair_tables(len(tokens)))
    if stuck >= 0:
        raise TokenizerError(f"token {tokens[stuck]!r} cannot be made by joining two earlier ones")
    return merges


def count_pieces(texts: Iterable[str], pattern: str) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct pieces of texts: the bytes of all, where each begins (and the last ends), and the count of each."""
    table, counts, starts = empty_table(1 << 14), np.empty(1 << 13, np.int64), np.zeros(1 + (1 << 13), np.int64)
    kept, state, block = np.empty(1 << 17, np.uint8), new_state(), np.empty((6, encode.BLOCK), np.int64)
    for string in texts:
        text = utf8_array(string)
        at = 0
        while True:
            counted = table, counts, starts, kept, state
            at = learn.count_pieces(text, at, PATTERNS.index(pattern), class_table(), counted, block)
            if at == len(text):
                break
            if int(state[encode.ENTRIES]) + encode.BLOCK > len(counts):
                table = empty_table(len(table) // 2)
                encode.rehash(counted[0], table, state)
                counts = np.concatenate([counts, np.empty_like(counts)])
                starts = np.concatenate([starts, np.empty(len(starts) - 1, np.int64)])
            else:
                more = min(max(len(kept), 1 << 20), len(kept) + len(text) - at)
                kept = np.concatenate([kept, np.empty(more, np.uint8)])
    n, size = int(state[encode.ENTRIES]), int(state[encode.SPILL])
    return kept[:size], starts[: n + 1], counts[:n]


def learn_merges(
    texts: Iterable[str], pattern: str, n_merges: int, min_count: int, report: Callable[[int], None]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first ``n_merges`` merges and the count that won each; fewer if no pair is left that is seen often enough.

    Args
        texts: no merge joins one to the next.
        report: called now and then with the number of merges done.
    Raises
        TokenizerError if there is no text.
    """
    kept, starts, counts = count_pieces(texts, pattern)
    size = len(kept)
    if size == 0:
        raise TokenizerError("there is nothing to learn from: the text is empty")
    # Each join takes a position away and brings two pairs at most. Memory that is not needed is not touched.
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
