"""Read and write other formats: tiktoken's ranks, GPT-2's two files, Hugging Face's ``tokenizer.json``.

A reader returns the arguments of ``BPETokenizer``. It checks the file: all 256 bytes are there, each other token can be
made from earlier ones, ids are in range. A split pattern in a file is compared with the known ones and never executed.

In all formats a token is a byte string. tiktoken writes it in base64, the other two as text with a printable character
for each byte (``BYTE_TO_CHARACTER``).
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

# The special tokens of known vocabularies. Each uses the split pattern of the same name.
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

# The texts of each pattern in tokenizer.json. Only these are recognised; the first one is written.
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
    """Return a printable character for each byte: its Latin-1 character if that is visible, else one from U+0100 on.

    >>> _byte_to_character()[ord(" ")], _byte_to_character()[ord("A")]
    ('Ġ', 'A')
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(0x100 + k) for k, byte in enumerate(hidden)}


BYTE_TO_CHARACTER = _byte_to_character()


def read_tiktoken(path: str | Path, pattern: str | None, special_tokens: Mapping[str, int] | None) -> dict[str, Any]:
    """Read tiktoken's ranks: each line has a token in base64 and its rank, which is also its id. It may be gzipped.

    Args
        pattern: the split pattern, which is not in the file. The default follows from the file's name.
        special_tokens: text -> id. The default follows from the file's name; without a known name there are none.
    Raises
        TokenizerError if a line is damaged, a token or rank is repeated, a byte is missing, or a token cannot be made
        by merging two earlier ones.
    """
    path = Path(path)
    name = path.name.split(".")[0]
    if pattern is None and name not in SOURCES:
        raise TokenizerError(f"{path}: the split pattern is unknown; give pattern={' or '.join(map(repr, SOURCES))}")
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
            raise TokenizerError(f"{path}, line {number}: token {token[:60]!r} is repeated")
        ranks[token] = value
    return _from_ranks(path, ranks) | {
        "pattern": name if pattern is None else pattern,
        "special_tokens": KNOWN.get(name, {}) if special_tokens is None else special_tokens,
    }


def write_tiktoken(tokenizer: Vocabulary, path: str | Path) -> None:
    """Write a file for ``read_tiktoken``. It does not contain the pattern and the special tokens.

    Raises
        TokenizerError if the ids do not increase in the order of the merges, or if two tokens have the same bytes:
        ranks cannot represent this vocabulary.
    """
    learned = tokenizer.ids[256:]
    tokens = _ordinary_tokens(tokenizer)
    if (np.diff(learned) <= 0).any():
        raise TokenizerError("tiktoken's ranks are ids, but the ids of this vocabulary are not in the order of merges")
    if not np.array_equal(_from_ranks(path, tokens)["merges"], tokenizer.merges):
        raise TokenizerError(
            "two merges of this vocabulary make the same token; tiktoken's ranks cannot represent that"
        )
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
        raise TokenizerError(
            "two tokens of this vocabulary have the same bytes; only npgpt's own format can store them"
        )
    return tokens


def read_gpt2(encoder_json: str | Path, vocab_bpe: str | Path) -> dict[str, Any]:
    """Read GPT-2's files: the ids of all tokens, and the merges in order, one in each line.

    Raises
        TokenizerError if a file is damaged, or if the two do not match.
    """
    vocab = _read_json(Path(encoder_json))
    lines = _decode_utf8(Path(vocab_bpe), _read_bytes(Path(vocab_bpe))).split("\n")
    if lines and lines[0].startswith("#version"):
        lines = lines[1:]
    merges = [tuple(line.split(" ")) for line in lines if line]
    specials = [END_OF_TEXT] if isinstance(vocab, dict) and END_OF_TEXT in vocab else []
    return _from_vocab_and_merges(encoder_json, vocab, merges, specials) | {"pattern": "gpt2"}


def write_gpt2(tokenizer: Vocabulary, encoder_json: str | Path, vocab_bpe: str | Path) -> None:
    """Write files for ``read_gpt2``, which can have no special token except ``<|endoftext|>``."""
    if tokenizer.pattern != "gpt2" or tokenizer.special_tokens.keys() - {END_OF_TEXT}:
        raise TokenizerError(f"GPT-2's files allow the pattern gpt2 and {END_OF_TEXT} only; use to_huggingface")
    vocab, merges = _vocab_and_merges(tokenizer)
    write_atomically(encoder_json, json.dumps(vocab | tokenizer.special_tokens).encode())
    write_atomically(vocab_bpe, "".join(["#version: 0.2\n", *(f"{left} {right}\n" for left, right in merges)]).encode())


def read_huggingface(path: str | Path) -> dict[str, Any]:
    """Read Hugging Face's ``tokenizer.json`` with byte-level BPE and a known split pattern.

    Raises
        TokenizerError if the file is damaged, or needs something else: a normalizer, an unknown pattern, a prefix.
    """
    path = Path(path)
    data = _read_json(path)
    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise TokenizerError(f"{path} is not a byte-pair model of Hugging Face's tokenizers")
    for field in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(field):
            raise TokenizerError(f"{path}: the model's {field} is {model[field]!r}, which npgpt does not support")
    if data.get("normalizer"):
        raise TokenizerError(f"{path} has a normalizer, which npgpt does not support: it changes the text")
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise TokenizerError(f"{path}: model.merges must be a list")
    pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else pair for pair in merges]
    specials = {}
    added = data.get("added_tokens") or []
    for token in added if isinstance(added, list) else [None]:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str) or type(token.get("id")) is not int:
            raise TokenizerError(f"{path}: added token {token!r} must have a content and an id")
        for field in ("lstrip", "rstrip", "single_word"):
            if token.get(field):
                raise TokenizerError(f"{path}: added token {token['content']!r} has unsupported {field}")
        specials[token["content"]] = token["id"]
    vocab = model.get("vocab")
    known = _from_vocab_and_merges(path, (vocab | specials) if isinstance(vocab, dict) else vocab, pairs, specials)
    if model.get("ignore_merges"):  # a piece that is a token becomes it directly: the same if merging also makes it
        learned = bytes_by_number(checked_merges(known["merges"]))[256:]
        if not np.array_equal(_merges_of(path, learned), known["merges"]):
            raise TokenizerError(f"{path} sets ignore_merges, but its merges do not make all its tokens")
    return known | {"pattern": _pattern_of(path, data.get("pre_tokenizer"))}


def _pattern_of(path: Path, pre_tokenizer: Any) -> str:
    """Return the name of the pattern of a pre-tokenizer."""
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
    raise TokenizerError(f"{path}: the split pattern {str(source)[:200]!r} is unknown; known: {', '.join(SOURCES)}")


def _type(step: Any) -> Any:
    return step.get("type") if isinstance(step, dict) else None


def write_huggingface(tokenizer: Vocabulary, path: str | Path) -> None:
    """Write a ``tokenizer.json`` for ``tokenizers.Tokenizer.from_file`` and ``read_huggingface``.

    The model's vocabulary includes the special tokens; otherwise ``tokenizers`` would give them other ids.
    """
    vocab, merges = _vocab_and_merges(tokenizer)
    gpt2 = tokenizer.pattern == "gpt2"  # the pattern that ByteLevel includes
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
    """Return tokens as printable text -> id, and the merged pairs."""
    tokens = _ordinary_tokens(tokenizer)
    names = ["".join(map(BYTE_TO_CHARACTER.__getitem__, token)) for token in tokens]  # in the order of numbers
    merges = [(names[left], names[right]) for left, right in tokenizer.merges.tolist()]
    for name in tokenizer.special_tokens.keys() & set(names):
        raise TokenizerError(f"{name!r} is both a special token and an ordinary one; these files cannot represent that")
    return dict(zip(names, tokens.values(), strict=True)), merges


def _from_vocab_and_merges(
    path: str | Path, vocab: Any, pairs: Sequence[Any], specials: Sequence[str] | Mapping[str, int]
) -> dict[str, Any]:
    """Return merges as numbers, ids and special tokens, from tokens as printable text."""
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
                raise TokenizerError(
                    f"{path}: merge {k} has {left!r} and {right!r}, but no earlier merge makes {name!r}"
                )
        if left + right in number_of:
            raise TokenizerError(f"{path}: merge {k} makes {left + right!r}, which exists already")
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
            data = unpack.decompress(data, MAX_FILE + 1)  # not more: a small file may decompress to a huge one
            if not unpack.eof and len(data) <= MAX_FILE:
                raise TokenizerError(f"{path} is cut off: its compressed data is incomplete")
    except zlib.error as error:
        raise TokenizerError(f"{path} cannot be decompressed: {error}") from None
    if len(data) > MAX_FILE:
        raise TokenizerError(f"{path} has more than {MAX_FILE >> 20} MiB, too large for a vocabulary")
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
