"""Read and write other formats: tiktoken's ranks, GPT-2's two files, Hugging Face's ``tokenizer.json``.

A reader returns the arguments of ``BPETokenizer``. It checks the file: all 256 bytes are there, each other token can be
made from earlier ones, ids are in range. A split pattern in a file is compared with the known ones and never executed.

In all formats a token is a byte string. tiktoken writes it in base64, the other two as text with a printable character
for each byte (``BYTE_TO_CHARACTER``).
"""

import base64
import binascii
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.errors import TokenizerError, quote
from npgpt.support.compressed import packed_for, read_bytes
from npgpt.support.files import decode_text, write_atomically
from npgpt.tokenizer.base import END_OF_TEXT, naming, read_tokenizer_json, write_tokenizer_json
from npgpt.tokenizer.bpe_huggingface import (
    FILE,
    MODEL,
    check_added_ids,
    check_after,
    pattern_of,
    settings,
    special_tokens_of,
    written_settings,
)
from npgpt.tokenizer.bpe_huggingface import HUGGING_FACE_PATTERNS as HUGGING_FACE_PATTERNS
from npgpt.tokenizer.bpe_vocabulary import Vocabulary, bytes_by_number, checked_merges
from npgpt.tokenizer.kept import Merges, kept
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
    """Read tiktoken's ranks: each line has a token in base64 and its rank, which is also its id.

    Args
        pattern: the split pattern, which is not in the file. The default follows from the file's name.
        special_tokens: text -> id. The default follows from the file's name; without a known name there are none.
    Raises
        TokenizerError if a line is damaged, a token or rank is repeated, a byte is missing, or a token cannot be made
        by merging two earlier ones.
    """
    name = Path(path).name.split(".")[0]
    if pattern is None and name not in SOURCES:
        raise TokenizerError(f"{path}: the split pattern is unknown; give pattern={' or '.join(map(repr, SOURCES))}")
    data = read_bytes(path, MAX_FILE).removeprefix(b"\xef\xbb\xbf")

    def derive() -> Merges:
        found = _from_ranks(_parsed_ranks(path, data))
        return found["merges"], np.array(found["ids"], np.int64)

    merges, ids = kept(data, derive)
    return {
        "merges": merges,
        "ids": ids,
        "pattern": name if pattern is None else pattern,
        "special_tokens": KNOWN.get(name, {}) if special_tokens is None else special_tokens,
    }


def _parsed_ranks(path: str | Path, data: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(io.BytesIO(data), 1):
        line = line.rstrip(b"\r\n")
        if not line:
            continue
        try:
            encoded, rank = line.split()
            token = binascii.a2b_base64(encoded, strict_mode=True)
            value = int(rank) if rank.isdigit() and len(rank) < 10 else -1
        except (ValueError, binascii.Error):
            token, value = b"", -1
        if not token or value < 0:
            raise TokenizerError(f"{path}, line {number}: expected a token in base64 and a rank, found {quote(line)}")
        if token in ranks:
            raise TokenizerError(f"{path}, line {number}: token {quote(token)} is repeated")
        ranks[token] = value
    return ranks


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
    if not np.array_equal(_from_ranks(tokens)["merges"], tokenizer.merges):
        raise TokenizerError(
            "two merges of this vocabulary make the same token; tiktoken's ranks cannot represent that"
        )
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in sorted(tokens.items(), key=lambda t: t[1])]
    write_atomically(path, packed_for(path, b"".join(lines)))


def _from_ranks(ranks: Mapping[bytes, int]) -> dict[str, Any]:
    from npgpt.tokenizer.bpe_compiled import merges_of

    bytes_alone = [bytes([byte]) for byte in range(256)]
    for token in bytes_alone:
        if token not in ranks:
            raise TokenizerError(f"the byte 0x{token.hex()} is missing, so some texts could not be encoded")
    learned = [token for token in sorted(ranks, key=ranks.__getitem__) if len(token) > 1]
    return {"merges": merges_of(learned), "ids": [ranks[token] for token in bytes_alone + learned]}


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
    with naming(vocab_bpe):
        text = decode_text(read_bytes(vocab_bpe, MAX_FILE), str(vocab_bpe))
        names, merges = _merges_by_name([line for line in text.replace("\r\n", "\n").split("\n") if line])
    vocab = read_tokenizer_json(encoder_json)
    specials = {END_OF_TEXT: vocab[END_OF_TEXT]} if isinstance(vocab, dict) and END_OF_TEXT in vocab else {}
    with naming(encoder_json):
        return {"merges": merges, "pattern": "gpt2"} | _ids_by_name(vocab, names, specials)


def write_gpt2(tokenizer: Vocabulary, encoder_json: str | Path, vocab_bpe: str | Path) -> None:
    """Write files for ``read_gpt2``, which can have no special token except ``<|endoftext|>``."""
    if tokenizer.pattern != "gpt2" or tokenizer.special_tokens.keys() - {END_OF_TEXT}:
        raise TokenizerError(f"GPT-2's files allow the pattern gpt2 and {END_OF_TEXT} only; use to_huggingface")
    vocab, merges = _vocab_and_merges(tokenizer)
    lines = ["#version: 0.2\n", *(f"{left} {right}\n" for left, right in merges)]
    write_tokenizer_json(encoder_json, json.dumps(vocab | tokenizer.special_tokens))
    write_atomically(vocab_bpe, packed_for(vocab_bpe, "".join(lines).encode()))


def from_huggingface(data: Any, path: str | Path) -> dict[str, Any]:
    """Read the content of Hugging Face's ``tokenizer.json`` with byte-level BPE and a known split pattern.

    Args
        data, path: the parsed file, and its name for messages.

    Raises
        TokenizerError if it is damaged, or needs something else: a normalizer, an unknown pattern, a prefix.
    """
    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise TokenizerError(f"{path} is not a byte-pair model of Hugging Face's tokenizers")
    data, model = settings(data, "the file", FILE), settings(model, "the model", MODEL)
    check_after(data)
    specials = special_tokens_of(data["added_tokens"])
    names, merges = _merges_by_name(model["merges"])
    known = _ids_by_name(model["vocab"], names, specials)
    check_added_ids(specials, model["vocab"])
    if model["ignore_merges"]:  # a piece that is a token becomes it directly: the same if merging also makes it
        from npgpt.tokenizer.bpe_compiled import merges_of

        learned = bytes_by_number(checked_merges(merges))[256:]
        if not np.array_equal(merges_of(learned), merges):
            raise TokenizerError("ignore_merges is true, but the merges do not make all tokens")
        for name in specials:
            if not name.isascii():  # it may also be the printable text of other bytes
                raise TokenizerError(f"ignore_merges is true, so an ordinary text could become {quote(name)}")
    return {"merges": merges, "pattern": pattern_of(data["pre_tokenizer"])} | known


def write_huggingface(tokenizer: Vocabulary, path: str | Path) -> None:
    """Write a ``tokenizer.json`` for ``tokenizers.Tokenizer.from_file`` and ``from_huggingface``.

    The model's vocabulary includes the special tokens; otherwise ``tokenizers`` would give them other ids.
    """
    vocab, merges = _vocab_and_merges(tokenizer)
    data = written_settings(tokenizer.pattern, tokenizer.special_tokens)
    data["model"] |= {"vocab": vocab | tokenizer.special_tokens, "merges": [list(pair) for pair in merges]}
    write_tokenizer_json(path, json.dumps(data, ensure_ascii=False, indent=1))


def _vocab_and_merges(tokenizer: Vocabulary) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return tokens as printable text -> id, and the merged pairs."""
    tokens = _ordinary_tokens(tokenizer)
    names = ["".join(map(BYTE_TO_CHARACTER.__getitem__, token)) for token in tokens]  # in the order of numbers
    merges = [(names[left], names[right]) for left, right in tokenizer.merges.tolist()]
    for name in tokenizer.special_tokens.keys() & set(names):
        raise TokenizerError(
            f"{quote(name)} is both a special token and an ordinary one; these files cannot represent that"
        )
    return dict(zip(names, tokens.values(), strict=True)), merges


def _merges_by_name(pairs: Sequence[Any]) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the printable text of each token and the merges as numbers, from lists or lines of two texts each."""
    names = [BYTE_TO_CHARACTER[byte] for byte in range(256)]
    number_of = {name: number for number, name in enumerate(names)}
    merges: list[tuple[int, int]] = []
    for k, given in enumerate(pair for pair in pairs if not (isinstance(pair, str) and pair.startswith("#version"))):
        pair = given.split(" ") if isinstance(given, str) else given
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)):
            raise TokenizerError(f"merge {k} must be two tokens, not {quote(given)}")
        left, right = pair
        for name in pair:
            if name not in number_of:
                raise TokenizerError(
                    f"merge {k} has {quote(left)} and {quote(right)}, but no earlier merge makes {quote(name)}"
                )
        if left + right in number_of:
            raise TokenizerError(f"merge {k} makes {quote(left + right)}, which exists already")
        merges.append((number_of[left], number_of[right]))
        number_of[left + right] = len(names)
        names.append(left + right)
    return names, merges


def _ids_by_name(vocab: Any, names: Sequence[str], specials: Mapping[str, int]) -> dict[str, Any]:
    """Return the ids of tokens in the order of their numbers, and those of special tokens."""
    if not isinstance(vocab, dict) or not all(type(token) is int for token in vocab.values()):
        raise TokenizerError("the vocabulary must be an object of tokens and their ids")
    for name in names:
        if name not in vocab:
            raise TokenizerError(f"the token {quote(name)} has no id in the vocabulary")
    if unreachable := vocab.keys() - set(names) - specials.keys():
        raise TokenizerError(f"no merge makes the token {quote(min(unreachable))}, and it is not special")
    return {"ids": [vocab[name] for name in names], "special_tokens": specials}
