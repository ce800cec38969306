"""``npgpt tokenize``: train a tokenizer, encode, decode, and look at a text's tokens and at how a word is merged."""

import argparse
import itertools
import os
import sys
from typing import Any

from npgpt.cli.options import check_out
from npgpt.config import TOKENIZERS
from npgpt.errors import DataError, TokenizerError
from npgpt.support.files import read_parts
from npgpt.support.terminal import escape_controls, given_text, write_text
from npgpt.tokenizer import KINDS, BPETokenizer, Tokenizer, load_tokenizer

COLOURS = (41, 42, 43, 44, 45, 46)  # backgrounds; neighbours differ


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "tokenize",
        help="train a tokenizer, encode, decode, show the tokens of a text",
        description="Text to ids and back.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    train = actions.add_parser("train", help="learn a vocabulary from texts")
    train.add_argument("files", nargs="+", metavar="FILE", help="UTF-8 texts; together they may be larger than memory")
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

    show = actions.add_parser(
        "show", help="the tokens of a text, in colour, with ids and bytes; --vocab twice compares"
    )
    show.add_argument("text", nargs="?", metavar="TEXT", help="the text (standard input)")
    show.set_defaults(run=run_show)

    merges = actions.add_parser("merges", help="how a word comes together, merge by merge")
    merges.add_argument("word", metavar="WORD", help="one piece of text, such as ' tokenization' with its space")
    merges.set_defaults(run=run_merges)

    known = (
        "a run folder, a vocabulary that `tokenize train` wrote, a folder with GPT-2's encoder.json and vocab.bpe, "
        "NAME.tiktoken (also .gz; NAME gpt2, cl100k_base or o200k_base), or Hugging Face's tokenizer.json"
    )
    for action in (encode, decode, merges):
        action.add_argument("--vocab", required=True, metavar="PATH", help=known)
    show.add_argument("--vocab", required=True, action="append", metavar="PATH", help=known)


def run_train(options: argparse.Namespace) -> int:
    check_out(options, "a vocabulary", Tokenizer.load)
    texts = itertools.chain.from_iterable(map(read_parts, options.files))
    progress = {"progress": True} if options.tokenizer == "bpe" and sys.stderr.isatty() else {}
    tokenizer: Tokenizer = KINDS[options.tokenizer].train(texts, options.vocab_size, **progress)
    tokenizer.save(options.out)
    print(f"{tokenizer.vocab_size:,} tokens, saved in {escape_controls(options.out, keep='')}")
    return 0


def run_encode(options: argparse.Namespace) -> int:
    print(*load_tokenizer(options.vocab).encode(given_text(options.text)))
    return 0


def run_decode(options: argparse.Namespace) -> int:
    words = options.ids or given_text(None).split()
    for word in words:
        if not (word.isascii() and word.isdecimal() and len(word) < 20):
            raise TokenizerError(f"{word[:40]!r} is not an id: ids are whole numbers, with white space between them")
    write_text(load_tokenizer(options.vocab).decode(list(map(int, words))))
    if sys.stdout.isatty():
        print()
    return 0


def run_show(options: argparse.Namespace) -> int:
    """The text with each token on a background of its own (between bars where there is no colour), then a table."""
    text = given_text(options.text)
    columns = []
    for path in options.vocab:
        tokens = [(token, *_names(data)) for token, data in _tokens(load_tokenizer(path), text)]
        heading = f"{escape_controls(path, keep='')}: {len(tokens)} tokens for {len(text)} characters"
        print(heading)
        print(_in_colour([name for _, name, _ in tokens]))
        columns.append([f"{token:>8}  {name:<16} {hexadecimal}" for token, name, hexadecimal in tokens])
    width = max((len(line) for column in columns[:-1] for line in column), default=0)
    for lines in itertools.zip_longest(*columns, fillvalue=""):
        print("  ".join(line.ljust(width) for line in lines).rstrip())
    return 0


def run_merges(options: argparse.Namespace) -> int:
    tokenizer = load_tokenizer(options.vocab)
    if not isinstance(tokenizer, BPETokenizer):
        raise TokenizerError(f"{options.vocab} holds no merges: it is a {type(tokenizer).__name__}")
    word = given_text(options.word)
    if not word:
        raise DataError("the word is empty")
    for step in tokenizer.merge_steps(word):
        seen = "" if step.count is None else f", a pair seen {step.count:,} times"
        why = "its bytes" if step.rank is None else f"merge {step.rank:,}{seen}"
        print(f"{_in_colour([_names(token)[0] for token in step.tokens])}   {why}")
    return 0


def _tokens(tokenizer: Tokenizer, text: str) -> list[tuple[int, bytes]]:
    """Id and bytes of each token."""
    ids = tokenizer.encode(text)
    if isinstance(tokenizer, BPETokenizer):
        return [(token, tokenizer.token_bytes[token]) for token in ids]
    return [(token, tokenizer.decode([token]).encode("utf-8", "surrogatepass")) for token in ids]


def _names(data: bytes) -> tuple[str, str]:
    """What a token looks like, with codes for bytes that are no character by themselves; and its bytes."""
    return escape_controls(data.decode("utf-8", "backslashreplace"), keep=""), data.hex(" ")


def _in_colour(names: list[str]) -> str:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return "|".join(names)
    return "".join(f"\x1b[30;{COLOURS[i % len(COLOURS)]}m{name}\x1b[0m" for i, name in enumerate(names))
