"""Vocabularies of others, read and written: tiktoken's ranks, GPT-2's two files, Hugging Face's ``tokenizer.json``.

A reader returns the arguments of ``BPETokenizer``. A file is checked when it is read: 256 bytes, tokens that earlier
ones can be joined to, ids in range. A split pattern in a file is compared with those known, never run.

What is the same in all three: tokens are byte strings. tiktoken writes them in base64; the other two as text in which
each byte is a printable character (``BYTE_TO_CHARACTER``).
"""

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npgpt.errors import TokenizerError
from npgpt.support.files import write_atomically
from npgpt.tokenizer.base import END_OF_TEXT
from npgpt.tokenizer.bpe_vocabulary import Vocabulary, bytes_by_number, checked_merges
from npgpt.tokenizer.patterns import SOURCES

MAX_FILE = 1 << 28  # bytes, also after decompression

# Vocabularies that are known by name: their special tokens. Each has the split pattern of its own name.
KNOWN = {
    "gpt2": {END_OF_TEXT: 50256},
    "cl100k_base": {
        END_OF_TEXT: 100257,
        "<|fim_prefix|>": 100258,
        "<|fim_middle|>": 100259,
        "<|fim_suffix|>": 100260,
        "<|endofprompt|>": 100276,
    },
    "o200k_base": {END_OF_TEXT: 199999, "<|endofprompt|>": 200018},
}

# How tokenizer.json states each pattern. Only these texts are recognised; the first is the one written.
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?"
_CAPITALS, _SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
HUGGING_FACE_PATTERNS = {
    "gpt2": (
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    ),
    "cl100k_base": (
        # \s+\z before the line ends, as tiktoken has had it since 2024.
        _CONTRACTION + "|" + _WORD + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "o200k_base": (
        f"{_WORD}{_CAPITALS}*{_SMALL}+{_CONTRACTION}?|{_WORD}{_CAPITALS}+{_SMALL}*{_CONTRACTION}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}


def _byte_to_character() -> dict[int, str]:
    """A printable character for each byte: itself in Latin-1 where that is visible, the others from U+0100 on.

    >>> _byte_to_character()[ord(" ")], _byte_to_character()[ord("A")]
    ('Ġ', 'A')
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(0x100 + k) for k, byte in enumerate(hidden)}


BYTE_TO_CHARACTER = _byte_to_character()


def read_tiktoken(path: str | Path, pattern: str | None, special_tokens: Mapping[str, int] | None) -> dict[str, Any]:
    """Ranks as tiktoken has them: lines of a token in base64 and its rank, which is also its id; may be gzipped.

    Args
        pattern: the split pattern, which the file does not have. By default the one whose name the file name has.
        special_tokens: text -> id. By default those of the vocabulary whose name the file name has, or none.
    Raises
        TokenizerError if a line is damaged, a token or rank stands twice, a byte is missing, or a token cannot be made
        by joining two earlier ones.
    """
    path = Path(path)
    name = path.name.split(".")[0]
    if pattern is None and name not in SOURCES:
        raise TokenizerError(f"{path}: say which pattern splits the text: pattern={' or '.join(map(repr, SOURCES))}")
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(_read_bytes(path).splitlines(), 1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            token = binascii.a2b_base64(encoded, strict_mode=True)
            value = int(rank) if rank.isdigit() and len(rank) < 10 else -1
        except (ValueError, binascii.Error):
            token, value = b"", -1
        if not token or value < 0:
            raise TokenizerError(f"{path}, line {number}: expected a token in base64 and a rank, found {line[:60]!r}")
        if token in ranks:
            raise TokenizerError(f"{path}, line {number}: token {token[:60]!r} stands twice")
        ranks[token] = value
    return _from_ranks(path, ranks) | {
        "pattern": name if pattern is None else pattern,
        "special_tokens": KNOWN.get(name, {}) if special_tokens is None else special_tokens,
    }


def write_tiktoken(tokenizer: Vocabulary, path: str | Path) -> None:
    """Write what ``read_tiktoken`` reads. The pattern and the special tokens are for the reader to know.

    Raises
        TokenizerError if the ids do not rise with the order of the merges, or two tokens have the same bytes: then
        ranks cannot say what this vocabulary does.
    """
    learned = tokenizer.ids[256:]
    tokens = _ordinary_tokens(tokenizer)
    if (np.diff(learned) <= 0).any():
        raise TokenizerError("tiktoken's ranks are its ids: the ids of this vocabulary are not in the order of merges")
    if not np.array_equal(_from_ranks(path, tokens)["merges"], tokenizer.merges):
        raise TokenizerError("two ways of joining make the same token here, which tiktoken's ranks cannot tell apart")
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in sorted(tokens.items(), key=lambda t: t[1])]
    data = b"".join(lines)
    write_atomically(path, gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)


def _from_ranks(path: str | Path, ranks: Mapping[bytes, int]) -> dict[str, Any]:
    bytes_alone = [bytes([byte]) for byte in range(256)]
    for token in bytes_alone:
        if token not in ranks:
            raise TokenizerError(f"{path}: the byte 0x{token.hex()} is missing, so some texts could not be encoded")
    learned = [token for token in sorted(ranks, key=ranks.__getitem__) if len(token) > 1]
    return {"merges": _merges_of(path, learned), "ids": [ranks[token] for token in bytes_alone + learned]}


def _merges_of(path: str | Path, tokens: Sequence[bytes]) -> NDArray[np.int64]:
    from npgpt.tokenizer.bpe_compiled import merges_of

    try:
        return merges_of(tokens)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None


def _ordinary_tokens(tokenizer: Vocabulary) -> dict[bytes, int]:
    tokens = {tokenizer.token_bytes[token]: token for token in tokenizer.ids.tolist()}
    if len(tokens) < len(tokenizer.ids):
        raise TokenizerError("two tokens of this vocabulary have the same bytes: only npgpt's own format can hold them")
    return tokens


def read_gpt2(encoder_json: str | Path, vocab_bpe: str | Path) -> dict[str, Any]:
    """GPT-2's files: the ids of all tokens, and the merges in their order, one a line.

    Raises
        TokenizerError if a file is damaged, or the two do not fit together.
    """
    vocab = _read_json(Path(encoder_json))
    lines = _decode_utf8(Path(vocab_bpe), _read_bytes(Path(vocab_bpe))).split("\n")
    if lines and lines[0].startswith("#version"):
        lines = lines[1:]
    merges = [tuple(line.split(" ")) for line in lines if line]
    specials = [END_OF_TEXT] if isinstance(vocab, dict) and END_OF_TEXT in vocab else []
    return _from_vocab_and_merges(encoder_json, vocab, merges, specials) | {"pattern": "gpt2"}


def write_gpt2(tokenizer: Vocabulary, encoder_json: str | Path, vocab_bpe: str | Path) -> None:
    """Write what ``read_gpt2`` reads. Special tokens but ``<|endoftext|>`` cannot be told from others there."""
    if tokenizer.pattern != "gpt2" or tokenizer.special_tokens.keys() - {END_OF_TEXT}:
        raise TokenizerError(f"GPT-2's files know its own pattern and {END_OF_TEXT} only; use to_huggingface")
    vocab, merges = _vocab_and_merges(tokenizer)
    write_atomically(encoder_json, json.dumps(vocab | tokenizer.special_tokens).encode())
    write_atomically(vocab_bpe, "".join(["#version: 0.2\n", *(f"{left} {right}\n" for left, right in merges)]).encode())


def read_huggingface(path: str | Path) -> dict[str, Any]:
    """Hugging Face's ``tokenizer.json``, if it is byte-level BPE with one of the split patterns known here.

    Raises
        TokenizerError if the file is damaged, or asks for something else: a normalizer, an unknown pattern, a prefix.
    """
    path = Path(path)
    data = _read_json(path)
    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise TokenizerError(f"{path} holds no byte-pair model of Hugging Face's tokenizers")
    for field in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(field):
            raise TokenizerError(f"{path}: the model's {field} is {model[field]!r}, which npgpt does not do")
    if data.get("normalizer"):
        raise TokenizerError(f"{path} has a normalizer, which npgpt does not do: it would change the text")
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise TokenizerError(f"{path}: model.merges must be a list")
    pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else pair for pair in merges]
    specials = {}
    added = data.get("added_tokens") or []
    for token in added if isinstance(added, list) else [None]:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str) or type(token.get("id")) is not int:
            raise TokenizerError(f"{path}: added token {token!r} has no content and id")
        for field in ("lstrip", "rstrip", "single_word"):
            if token.get(field):
                raise TokenizerError(f"{path}: added token {token['content']!r} has {field}, which npgpt does not do")
        specials[token["content"]] = token["id"]
    vocab = model.get("vocab")
    known = _from_vocab_and_merges(path, (vocab | specials) if isinstance(vocab, dict) else vocab, pairs, specials)
    if model.get("ignore_merges"):  # a piece that is a token becomes it at once: the same only if merging leads there
        learned = bytes_by_number(checked_merges(known["merges"]))[256:]
        if not np.array_equal(_merges_of(path, learned), known["merges"]):
            raise TokenizerError(f"{path} asks for ignore_merges, and its merges do not lead to its tokens")
    return known | {"pattern": _pattern_of(path, data.get("pre_tokenizer"))}


def _pattern_of(path: Path, pre_tokenizer: Any) -> str:
    """The name of the pattern that a pre-tokenizer stands for."""
    inner = pre_tokenizer.get("pretokenizers") if _type(pre_tokenizer) == "Sequence" else [pre_tokenizer]
    steps: list[Any] = inner if isinstance(inner, list) and inner else [None]
    byte_level = steps[-1]
    if _type(byte_level) != "ByteLevel" or byte_level.get("add_prefix_space"):
        raise TokenizerError(f"{path}: the pre_tokenizer must end in ByteLevel without add_prefix_space")
    if len(steps) == 1 and byte_level.get("use_regex", True):
        return "gpt2"
    split = steps[0] if _type(steps[0]) == "Split" else {}
    source = split["pattern"].get("Regex") if isinstance(split.get("pattern"), dict) else None
    for name, sources in HUGGING_FACE_PATTERNS.items():
        if len(steps) == 2 and source in sources and split.get("behavior") == "Isolated" and not split.get("invert"):
            if byte_level.get("use_regex", True):
                break
            return name
    raise TokenizerError(f"{path}: the split pattern is none of {', '.join(SOURCES)}: {str(source)[:200]!r}")


def _type(step: Any) -> Any:
    return step.get("type") if isinstance(step, dict) else None


def write_huggingface(tokenizer: Vocabulary, path: str | Path) -> None:
    """Write a ``tokenizer.json`` that ``tokenizers.Tokenizer.from_file`` and ``read_huggingface`` read.

    Special tokens stand in the model's vocabulary too: else ``tokenizers`` gives them the next free ids, not theirs.
    """
    vocab, merges = _vocab_and_merges(tokenizer)
    gpt2 = tokenizer.pattern == "gpt2"  # which ByteLevel knows by itself
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": gpt2}
    pattern = {"Regex": HUGGING_FACE_PATTERNS[tokenizer.pattern][0]}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token, "content": text} | flags for text, token in tokenizer.special_tokens.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level if gpt2 else {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab | tokenizer.special_tokens,
            "merges": [list(pair) for pair in merges],
        },
    }
    write_atomically(path, json.dumps(data, ensure_ascii=False, indent=1).encode())


def _vocab_and_merges(tokenizer: Vocabulary) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens as printable text -> id, and the pairs that are joined."""
    tokens = _ordinary_tokens(tokenizer)
    names = ["".join(map(BYTE_TO_CHARACTER.__getitem__, token)) for token in tokens]  # in the order of numbers
    merges = [(names[left], names[right]) for left, right in tokenizer.merges.tolist()]
    for name in tokenizer.special_tokens.keys() & set(names):
        raise TokenizerError(f"{name!r} is a special token and an ordinary one, which these files cannot tell apart")
    return dict(zip(names, tokens.values(), strict=True)), merges


def _from_vocab_and_merges(
    path: str | Path, vocab: Any, pairs: Sequence[Any], specials: Sequence[str] | Mapping[str, int]
) -> dict[str, Any]:
    """Merges as numbers, ids and special tokens, out of tokens as printable text."""
    if not isinstance(vocab, dict) or not all(type(token) is int for token in vocab.values()):
        raise TokenizerError(f"{path}: the vocabulary must be an object of tokens and their ids")
    names = [BYTE_TO_CHARACTER[byte] for byte in range(256)]
    number_of = {name: number for number, name in enumerate(names)}
    merges: list[tuple[int, int]] = []
    for k, pair in enumerate(pairs):
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(name, str) for name in pair)):
            raise TokenizerError(f"{path}: merge {k} must be two tokens, not {str(pair)[:100]!r}")
        left, right = pair
        for name in pair:
            if name not in number_of:
                raise TokenizerError(f"{path}: merge {k} joins {left!r} and {right!r}, but {name!r} is not made before")
        if left + right in number_of:
            raise TokenizerError(f"{path}: merge {k} makes {left + right!r}, which is there already")
        merges.append((number_of[left], number_of[right]))
        number_of[left + right] = len(names)
        names.append(left + right)
    for name in names:
        if name not in vocab:
            raise TokenizerError(f"{path}: the token {name!r} has no id in the vocabulary")
    unreachable = vocab.keys() - number_of.keys() - set(specials)
    if unreachable:
        raise TokenizerError(f"{path}: no merge makes the token {min(unreachable)!r}, and it is not special")
    ids = [vocab[name] for name in names]
    return {"merges": merges, "ids": ids, "special_tokens": {name: vocab[name] for name in specials}}


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if data[:2] == b"\x1f\x8b":
            unpack = zlib.decompressobj(wbits=31)
            data = unpack.decompress(data, MAX_FILE + 1)  # no more, however much a small file would give
            if not unpack.eof and len(data) <= MAX_FILE:
                raise TokenizerError(f"{path} is cut off: the compressed data does not end")
    except zlib.error as error:
        raise TokenizerError(f"{path} cannot be decompressed: {error}") from None
    if len(data) > MAX_FILE:
        raise TokenizerError(f"{path} has more than {MAX_FILE >> 20} MiB: no vocabulary is that large")
    return data


def _decode_utf8(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}") from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_decode_utf8(path, _read_bytes(path)))
    except (json.JSONDecodeError, RecursionError) as error:
        raise TokenizerError(f"{path} is not JSON: {error}") from None
