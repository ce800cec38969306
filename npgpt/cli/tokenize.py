"""``npgpt tokenize``: train a tokenizer, encode, decode, and look at a text's tokens."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from npgpt.checkpoint import TOKENIZER
from npgpt.config import TOKENIZERS
from npgpt.errors import RunError, TokenizerError
from npgpt.files import read_text
from npgpt.terminal import escape_controls, given_text, write_text
from npgpt.tokenizer import BPETokenizer, CharTokenizer, Tokenizer, WordTokenizer

KINDS: dict[str, Any] = dict(zip(TOKENIZERS, (BPETokenizer, WordTokenizer, CharTokenizer), strict=True))
COLOURS = (41, 42, 43, 44, 45, 46)  # backgrounds; neighbours differ


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "tokenize",
        help="train a tokenizer, encode, decode, show the tokens of a text",
        description="Text to ids and back.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    train = actions.add_parser("train", help="learn a vocabulary from texts")
    train.add_argument("files", nargs="+", metavar="FILE", help="UTF-8 texts")
    train.add_argument("--tokenizer", choices=TOKENIZERS, default="bpe", help="byte pairs, words or characters (bpe)")
    train.add_argument("--vocab-size", type=int, default=1024, metavar="N", help="number of tokens at most (1024)")
    train.add_argument("--out", required=True, metavar="FILE", help="where to write the vocabulary")
    train.add_argument("--overwrite", action="store_true", help="replace the vocabulary in FILE")
    train.set_defaults(run=run_train)

    encode = actions.add_parser("encode", help="text to ids, on one line")
    encode.add_argument("text", nargs="?", metavar="TEXT", help="the text (standard input)")
    encode.set_defaults(run=run_encode)

    decode = actions.add_parser("decode", help="ids to text")
    decode.add_argument("ids", nargs="*", metavar="ID", help="the ids (standard input)")
    decode.set_defaults(run=run_decode)

    show = actions.add_parser("show", help="the tokens of a text, in colour")
    show.add_argument("text", nargs="?", metavar="TEXT", help="the text (standard input)")
    show.set_defaults(run=run_show)

    for action in (encode, decode, show):
        action.add_argument(
            "--vocab", required=True, metavar="PATH", help="a vocabulary that `tokenize train` wrote, or a run folder"
        )


def run_train(options: argparse.Namespace) -> int:
    out = Path(options.out)
    if os.path.lexists(out):
        if not options.overwrite:
            raise RunError(f"{out} is there already; take another --out, or --overwrite to replace a vocabulary")
        Tokenizer.load(out)  # anything but a vocabulary is refused
    texts = [read_text(path) for path in options.files]
    tokenizer: Tokenizer = KINDS[options.tokenizer].train(texts, options.vocab_size)
    tokenizer.save(options.out)
    print(f"{tokenizer.vocab_size:,} tokens, saved in {escape_controls(options.out, keep='')}")
    return 0


def run_encode(options: argparse.Namespace) -> int:
    print(*_load(options.vocab).encode(given_text(options.text)))
    return 0


def run_decode(options: argparse.Namespace) -> int:
    words = options.ids or given_text(None).split()
    for word in words:
        if not (word.isascii() and word.isdecimal() and len(word) < 20):
            raise TokenizerError(f"{word[:40]!r} is not an id: ids are whole numbers, with white space between them")
    write_text(_load(options.vocab).decode(map(int, words)))
    if sys.stdout.isatty():
        print()
    return 0


def run_show(options: argparse.Namespace) -> int:
    """Each token on a background of its own (or between bars, where there is no colour), then a table."""
    tokenizer = _load(options.vocab)
    text = given_text(options.text)
    ids = tokenizer.encode(text)
    names = [escape_controls(tokenizer.decode([token]), keep="") for token in ids]
    if sys.stdout.isatty():
        print("".join(f"\x1b[30;{COLOURS[i % len(COLOURS)]}m{name}\x1b[0m" for i, name in enumerate(names)))
    else:
        print("|".join(names))
    for token, name in zip(ids, names, strict=True):
        print(f"{token:>8}  {name!r}")
    print(f"{len(ids)} tokens for {len(text)} characters")
    return 0


def _load(path: str) -> Tokenizer:
    return Tokenizer.load(Path(path, TOKENIZER) if Path(path).is_dir() else path)
