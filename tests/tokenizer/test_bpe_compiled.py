"""The compiled tokenizer against the textbook; arrays, batches, threads and long runs, which only it has."""

import copy
import pickle
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.errors import DataError
from npgpt.machine.compile import kernel
from npgpt.support.files import read_parts, read_text
from npgpt.tokenizer import BPETokenizer, TokenizerError, bpe
from npgpt.tokenizer import bpe_compiled as fast
from npgpt.tokenizer.bpe_vocabulary import bytes_by_number
from npgpt.tokenizer.kernels import cache, merge, whole
from npgpt.tokenizer.kernels.decode import plain_decode
from npgpt.tokenizer.patterns import SOURCES, compiled

TEXT = "the theme of the thesis: these themes, then théâtre 東京東京\r\n  the end, isn't it" * 3
TOKENIZERS = {pattern: BPETokenizer.train(TEXT, 290, pattern=pattern) for pattern in SOURCES}
patterns = pytest.mark.parametrize("pattern", SOURCES)
any_string = st.lists(st.sampled_from("\ud800\udfff") | st.characters()).map("".join)
any_text = any_string | st.lists(st.sampled_from([*TEXT, *TEXT.split(), "a" * 300])).map(" ".join)


@patterns
@given(text=any_text)
def test_encoding_equals_the_textbook(pattern: str, text: str) -> None:
    tokenizer = TOKENIZERS[pattern]
    expected = bpe.encode(text, tokenizer.ranks, pattern)
    assert tokenizer.encode(text) == expected
    assert tokenizer.encode(text) == expected  # from the cache
    assert tokenizer.encode_array(text).tolist() == expected


@pytest.mark.parametrize("pattern", ["gpt2", "none"])
@given(st.lists(st.text("aab b'1.é\n", max_size=60), min_size=1, max_size=8).filter(any), st.integers(1, 3))
@pytest.mark.filterwarnings("ignore:only .* merges")
def test_training_equals_the_textbook(pattern: str, texts: list[str], min_frequency: int) -> None:
    tokenizer = BPETokenizer.train(texts, 300, (), pattern, min_frequency)
    counts = Counter(piece for text in texts for piece in compiled(pattern).findall(text))
    expected = bpe.learn_merges(counts, 44)
    assert tokenizer.merges.tolist() == [list(pair) for pair in expected][: len(tokenizer.merges)]
    # The count of the best pair never rises, so training ends at the first count below the limit.
    pieces, seen = {piece: list(bpe.encode_utf8(piece)) for piece in counts}, []
    for number, pair in enumerate(expected, 256):
        seen.append(sum(counts[piece] for piece, ids in pieces.items() for two in pairwise(ids) if two == pair))
        pieces = {piece: bpe.join(ids, pair, number) for piece, ids in pieces.items()}
    assert tokenizer.counts is not None
    assert list(tokenizer.counts) == [count for count in seen if count >= min_frequency]


def test_training_on_all_kinds_of_pieces() -> None:
    """Long pieces, nearly equal ones, and more distinct ones than the first table has room for."""
    words = [f"{'x' * (k % 40)}{k}" for k in range(20_000)]
    text = " ".join(words) + "long" * 200 + " " + "\x00" * 20 + " a\x00 a"
    counts = Counter(compiled("gpt2").findall(text))
    tokenizer = BPETokenizer.train(text, 600, special_tokens=())
    assert tokenizer.merges.tolist() == [list(pair) for pair in bpe.learn_merges(counts, 344)]
    assert tokenizer.encode(text) == bpe.encode(text, tokenizer.ranks)


def test_training_stops_if_no_pair_is_frequent_enough() -> None:
    with pytest.warns(UserWarning, match="only 1 merges whose pairs occur 2 times"):
        assert BPETokenizer.train("ab ab xy", 400, min_frequency=2).token_bytes[256] == b"ab"


def test_a_text_too_long_to_learn_from_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "LONGEST_TO_LEARN", 9)
    with pytest.raises(TokenizerError, match=r"have 11 bytes, more than 9; learn .* split pattern, such as \"gpt2\""):
        BPETokenizer.train("hello hello", 300, pattern="none")
    with pytest.raises(TokenizerError, match="have 11 bytes, more than 9; learn from a part of the text$"):
        BPETokenizer.train("hello hello", 300)


def test_training_leaves_out_special_tokens() -> None:
    with pytest.warns(UserWarning, match="only 1 merges"):
        tokenizer = BPETokenizer.train("ab<|endoftext|>ab<|endoftext|>", 400)
    assert tokenizer.merges.tolist() == [[97, 98]]


@pytest.mark.parametrize("limit", ["entries", "words"])
def test_a_full_cache_changes_no_id(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if limit == "entries":
        monkeypatch.setattr(fast, "TABLE_ENTRIES", (1 << 8, 1 << 10))
    else:
        monkeypatch.setattr(fast, "SPILLED_WORDS", (1 << 11, 1 << 12))
    tokenizer = BPETokenizer(TOKENIZERS["gpt2"].merges)
    text = " ".join(f"the{k} {'theme' * (k % 30)}{k}" for k in range(10_000))
    for _ in range(2):
        assert tokenizer.encode(text) == bpe.encode(text, tokenizer.ranks)
    table, spilled, state = tokenizer._encoder._free[-1].arrays
    if limit == "entries":
        assert len(table) == 4 << 10  # of 10,000 pieces: the others were forgotten
    else:
        assert len(spilled) == (1 << 12) + cache.SLACK
        assert state[cache.SPILL] > 8 << 12  # the ring was written many times


@patterns
@given(texts=st.lists(any_text, min_size=1, max_size=4))
def test_a_tiny_cache_changes_no_id(pattern: str, texts: list[str]) -> None:
    """Pieces displace each other all the time, and what the ring had of the long ones is gone."""
    tokenizer = TOKENIZERS[pattern]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "TABLE_ENTRIES", (1 << 3, 1 << 3))
        patch.setattr(fast, "SPILLED_WORDS", (1 << 10, 1 << 10))
        small = copy.copy(tokenizer)
        small.encode("a text, so that Numba has started" * 9)
        for text in texts * 2:
            assert small.encode(text) == bpe.encode(text, tokenizer.ranks, pattern)


# Parts of characters, code points that UTF-8 does not have, characters in a longer form than needed, and halves.
INVALID = [b"\xff", b"\x80", b"\xc3", b"\xe6\x9d", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf"]
INVALID += [b"\xf4\x90\x80\x80", b"\xed\xb2\x80", b"\xed\xb3\xad", b"\xed\xb3", b"\xf8\x88\x80\x80\x80"]
some_bytes = st.sampled_from([*INVALID, *map(str.encode, TEXT.split()), b" ", b"\n", b"1", b"'s", b"a" * 70])
any_bytes = st.lists(some_bytes | st.binary(max_size=4), max_size=40).map(b"".join)


@patterns
@given(data=any_bytes)
def test_bytes_that_are_not_utf8_equal_the_textbook(pattern: str, data: bytes) -> None:
    tokenizer = TOKENIZERS[pattern]
    ids = tokenizer.encode_bytes(data)
    assert ids == bpe.encode(data, tokenizer.ranks, pattern)
    assert tokenizer.decode_bytes(ids) == data


@patterns
@given(text=any_text)
def test_bytes_of_a_text_have_its_ids(pattern: str, text: str) -> None:
    tokenizer = TOKENIZERS[pattern]
    assert tokenizer.encode_bytes(bytearray(bpe.encode_utf8(text))) == tokenizer.encode(text)
    assert b"".join(bpe.split(bpe.encode_utf8(text), pattern)) == bpe.encode_utf8(text)


@patterns
def test_a_byte_that_is_not_utf8_is_a_symbol(pattern: str) -> None:
    data = b"ab\xff\xc3. \xf0\x9f\x98cd 12\x80\n"
    pieces = bpe.split(data, pattern)
    if pattern == "gpt2":
        assert pieces == [b"ab", b"\xff\xc3.", b" \xf0\x9f\x98", b"cd", b" 12", b"\x80", b"\n"]
    symbols = data.decode("utf-8", "surrogateescape").translate(dict.fromkeys(range(0xDC80, 0xDD00), "*"))
    assert [len(piece) for piece in pieces] == [len(piece) for piece in compiled(pattern).findall(symbols)]


def test_encode_bytes_takes_bytes_only() -> None:
    with pytest.raises(TokenizerError, match="data must be bytes, not 'abc'; encode takes a text"):
        TOKENIZERS["gpt2"].encode_bytes("abc")  # type: ignore[arg-type]


@given(st.lists(st.text("abc", min_size=1, max_size=70), min_size=1, max_size=400))
def test_pieces_merged_together_have_the_ids_of_each(words: list[str]) -> None:
    """Blocks of new pieces, some twice, of all sizes up to two more than a lane has."""
    tokenizer = BPETokenizer([(97, 98), (98, 99), (256, 99), (257, 97), (256, 256), (260, 258), (97, 97), (262, 262)])
    text = " ".join(words)
    assert tokenizer.encode(text) == bpe.encode(text, tokenizer.ranks)


def test_new_pieces_of_every_size_side_by_side_have_the_ids_of_each() -> None:
    """Each lane's end has the next lane's beginning behind it."""
    tokenizer = BPETokenizer([(97, 98), (98, 97), (256, 256), (258, 258), (257, 97), (259, 98)])
    words = [("ab" * 40)[k % 2 : k % 2 + size] + "c" * (k // 9) for size in range(1, 70) for k in range(18)]
    text = " ".join(words)
    assert tokenizer.encode(text) == bpe.encode(text, tokenizer.ranks)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_lines", [1, 2, 5])
def test_every_pair_is_found_in_a_crowded_table(n_lines: int, seed: int) -> None:
    """Full lines go over into the next, and the last one into the first."""
    draw = np.random.default_rng(seed)
    merges = np.unique(draw.integers(256, 300, (merge.LINE * n_lines - 1, 2)), axis=0)
    (_, byte_pairs, pairs), edges = fast.empty_tables(400)
    tables = np.zeros(merge.LINE * n_lines, np.int32), byte_pairs, pairs
    for k, (left, right) in enumerate(merges.tolist()):
        merge.add_pair(left, right, 300 + k, tables, edges)
    expected = {(left, right): 300 + k for k, (left, right) in enumerate(merges.tolist())}
    for left in range(256, 300):
        for right in range(256, 300):
            assert find(left, right, tables) == expected.get((left, right), merge.NEVER)


@kernel
def find(left: int, right: int, tables: Any) -> int:
    return merge.pair_made(left, right, tables)


@pytest.mark.parametrize("seed", range(60))
def test_tokens_that_are_whole_are_those_that_the_textbook_makes(seed: int) -> None:
    """Merges in any order, of few bytes: many tokens cannot be made, and some bytes have two tokens."""
    draw = np.random.default_rng(seed)
    merges: list[tuple[int, int]] = []
    for _ in range(12):
        known = [97, 98, 99, *range(256, 256 + len(merges))]
        pair = int(draw.choice(known)), int(draw.choice(known))
        if pair not in merges:
            merges.append(pair)
    tokenizer = BPETokenizer(merges, (), "none")
    tokens = bytes_by_number(tokenizer.merges)
    *_, keys = tokenizer._encoder._vocabulary
    for number in range(256, len(tokens)):
        made = bpe.encode(tokens[number].decode(), tokenizer.ranks, "none") == [number]
        assert bool(keys[2 * number + 1]) == (made and len(tokens[number]) <= whole.LONGEST_KEY)
    for text in ["".join(draw.choice([*"abc"], n)) for n in range(2, 20)]:
        assert tokenizer.encode(text) == bpe.encode(text, tokenizer.ranks, "none")


long_words = st.lists(st.sampled_from(["the", "theme", "thé", "東", "京", "é", "東京東"]), min_size=20, max_size=300)


@patterns
@given(text=long_words.map("".join) | st.text(st.characters(categories=["L"]), min_size=60, max_size=300))
def test_parts_of_a_long_piece_give_the_ids_of_the_whole(pattern: str, text: str) -> None:
    tokenizer = TOKENIZERS[pattern]
    assert tokenizer.encode(text) == bpe.encode(text, tokenizer.ranks, pattern)


def test_no_merge_crosses_a_place_where_a_long_piece_is_cut() -> None:
    merges = TOKENIZERS["gpt2"].merges
    tables, edges = fast.empty_tables(len(merges))
    merge.add_merges(merges, tables, edges)
    tokens = bytes_by_number(merges)
    assert edges.tolist() == [[token[0], token[-1]] for token in tokens]
    side_by_side = {pair for token in tokens for pair in pairwise(token)}
    apart = {(left, right) for left in range(256) for right in range(256)} - side_by_side
    assert {divmod(k, 256) for k in np.flatnonzero(tables[1] == merge.APART).tolist()} == apart
    assert sorted(tables[1][tables[1] < merge.NEVER]) == [k for k, token in enumerate(tokens) if len(token) == 2]


def test_large_files_are_split_where_every_pattern_splits(tmp_path: Path) -> None:
    text = "The end.\n\n  Then:\n/* a */\nit's 1999\r\nnot  \n so\r\rfar\n東京\n" * 40
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    for size in (1, 2, 7, 64, 1000, 1 << 20):
        parts = list(read_parts(tmp_path / "text.txt", size))
        assert "".join(parts) == read_text(tmp_path / "text.txt")
        assert len(parts) > 1 or size > 1000
        for pattern in SOURCES.keys() - {"none"}:
            whole = compiled(pattern).findall("".join(parts))
            assert [piece for part in parts for piece in compiled(pattern).findall(part)] == whole
    (tmp_path / "text.txt").write_bytes(b"ab\xff")
    with pytest.raises(DataError, match="0xff at offset 2"):
        list(read_parts(tmp_path / "text.txt", 2))


def test_steps_of_a_word() -> None:
    tokenizer = BPETokenizer.train("the theme of the thesis", 262)
    steps = tokenizer.merge_steps(" the")
    assert [step.tokens for step in steps] == [[b" ", b"t", b"h", b"e"], [b" ", b"t", b"he"], [b" ", b"the"], [b" the"]]
    assert [step.rank for step in steps] == [None, 0, 1, 2]
    assert [step.count for step in steps] == [None, 4, 4, 3]
    assert [[token for part in step.tokens for token in part] for step in steps] == [list(b" the")] * 4
    with pytest.raises(TokenizerError, match="2 pieces: 'the', ' end'"):
        tokenizer.merge_steps("the end")


@patterns
@given(texts=st.lists(any_text, max_size=12), size=st.integers(1, 300), n_threads=st.integers(1, 3))
def test_a_batch_has_the_ids_of_each_text(pattern: str, texts: list[str], size: int, n_threads: int) -> None:
    tokenizer = copy.copy(TOKENIZERS[pattern])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "SHORTEST_PART", size)
        patch.setattr(fast, "SHORT_TEXT", 4)  # so little room that the kernel stops within a text
        patch.setattr(fast, "TABLE_ENTRIES", (1 << 8, 1 << 9))
        found = tokenizer.encode_batch(texts, n_threads=n_threads)
    assert [ids.tolist() for ids in found] == [tokenizer.encode(text) for text in texts]
    assert all(ids.dtype == np.uint32 for ids in found)


def test_batch_on_threads_copies_and_pickles() -> None:
    tokenizer = TOKENIZERS["cl100k_base"]
    texts = [f"{TEXT} {k}" * (k % 7 + 1) for k in range(50)]
    expected = [tokenizer.encode(text) for text in texts]
    for other in (tokenizer, copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        for n_threads in (1, 4):
            assert [ids.tolist() for ids in other.encode_batch(texts, n_threads=n_threads)] == expected
    assert tokenizer.encode_batch(["<|endoftext|>"], allowed_special="all")[0].dtype == np.uint32


def test_calls_at_the_same_time_share_no_memory() -> None:
    tokenizer = copy.copy(TOKENIZERS["gpt2"])
    texts = [f"{TEXT} {k}" * 50 for k in range(40)]
    expected = [tokenizer.encode(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokenizer.encode, texts * 3)) == expected * 3
    free = tokenizer._encoder._free
    assert len(set(map(id, free))) == len(free) <= 4


def test_another_call_may_take_the_last_memory_meanwhile() -> None:
    class Taken(list[Any]):
        def __len__(self) -> int:
            return 1  # as it was when this call asked

    tokenizer = copy.copy(TOKENIZERS["gpt2"])
    tokenizer._encoder._free = Taken()
    assert tokenizer.encode("the theme") == TOKENIZERS["gpt2"].encode("the theme")


def test_returned_arrays_are_not_overwritten() -> None:
    first = TOKENIZERS["gpt2"].encode_array("the theme")
    kept = first.copy()
    TOKENIZERS["gpt2"].encode_array("another text")
    assert (first == kept).all()
    assert TOKENIZERS["gpt2"].encode_array("").dtype == np.uint32


def test_decoding_accepts_lists_tuples_iterators_and_arrays() -> None:
    tokenizer = TOKENIZERS["gpt2"]
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode_bytes(ids) == plain_decode(ids, tokenizer.token_bytes)
    for given_ids in (ids, tuple(ids), iter(ids), np.array(ids), np.array(ids, np.uint32), np.array(ids, np.int16)):
        assert tokenizer.decode(given_ids) == TEXT
    assert tokenizer.decode_bytes([]) == b""
    with pytest.raises(TokenizerError, match="integers, not float64"):
        tokenizer.decode_bytes([1.5])  # type: ignore[list-item]


def test_the_error_names_an_id_without_a_token() -> None:
    tokenizer = BPETokenizer([(104, 105)], {"<|a|>": 1000})
    for decode in (tokenizer.decode, lambda ids: tokenizer.decode(np.array(ids, np.uint32))):
        with pytest.raises(TokenizerError, match="id 500 at position 1 has no token"):
            decode([256, 500])
        with pytest.raises(TokenizerError, match="id 1001 at position 0 is out of range"):
            decode([1001])
    with pytest.raises(TokenizerError, match="is a gap"):
        list(tokenizer.stream([500]))


def test_offsets() -> None:
    tokenizer = BPETokenizer([])
    assert tokenizer.decode_with_offsets("aé東b".encode()) == ("aé東b", [0, 1, 1, 2, 2, 2, 3])
    text, offsets = tokenizer.decode_with_offsets([0xE6, 97])
    assert (text, offsets) == ("\ufffda", [0, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"special_tokens": ["<|a|>", "<|a|>b"]}, "overlap: '<|a|>b' begins with"),
        ({"special_tokens": {"x": 97}}, "id 97 is given to two tokens"),
        ({"special_tokens": {"x": 1 << 30}}, "out of range"),
        ({"ids": range(255)}, "need 256 ids, not 255"),
        ({"ids": [0] * 256}, "id 0 is given to two"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(TokenizerError) as caught:
        BPETokenizer([], **arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize("unit", ["a", " ", "ab", "a1", "\n", "é", "a\ud800"])
@pytest.mark.filterwarnings("ignore:only .* merges")
def test_long_runs_are_encoded_fast(unit: str) -> None:
    tokenizer = BPETokenizer.train(unit * 4096, 266, special_tokens=())
    text = unit * (1_000_000 // len(unit))
    start = time.perf_counter()
    ids = tokenizer.encode_array(text)
    assert time.perf_counter() - start < 10  # 10^12 steps would take hours
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(text[:3000]) == bpe.encode(text[:3000], tokenizer.ranks)
