"""``npgpt tokenize``: train a tokenizer, encode, decode, show the tokens of a text and the merges of a word."""

import argparse
import itertools
import sys
from typing import Any

from npgpt.cli.options import check_out
from npgpt.cli.parser import add_action
from npgpt.config import TOKENIZERS
from npgpt.errors import DataError, TokenizerError
from npgpt.support.files import read_parts
from npgpt.support.terminal import escape_controls, given_text, shows_colours, write_text
from npgpt.tokenizer import KINDS, BPETokenizer, Tokenizer, load_tokenizer

SUMMARY = "train a tokenizer; encode, decode and show texts"
EXAMPLE = 'npgpt tokenize show "tokenization" --vocab runs/1'
COLOURS = (41, 42, 43, 44, 45, 46)  # backgrounds; neighbours differ


def add_parser(subparsers: Any) -> None:
    parser = add_action(subparsers, "tokenize", None, SUMMARY, example=EXAMPLE)
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    more, example = "The vocabulary goes into one file.", "npgpt tokenize train book.txt --out vocab.json"
    train = add_action(actions, "train", run_train, "train a tokenizer on texts", more, example)
    train.add_argument(
        "files", nargs="+", metavar="FILE", help="UTF-8 text files, also compressed; they may be larger than memory"
    )
    train.add_argument(
        "--tokenizer", choices=TOKENIZERS, default="bpe", help="byte pairs, words or characters (default: bpe)"
    )
    train.add_argument(
        "--vocab-size", type=int, default=1024, metavar="N", help="largest number of tokens (default: 1024)"
    )
    train.add_argument(
        "--out", required=True, metavar="FILE", help="file to write; compressed if it ends in .gz, .bz2 or .xz"
    )
    train.add_argument("--overwrite", action="store_true", help="replace the vocabulary in FILE")

    example = 'npgpt tokenize encode "The cat" --vocab runs/1'
    encode = add_action(actions, "encode", run_encode, "print the ids of a text on one line", example=example)
    encode.add_argument("text", nargs="?", metavar="TEXT", help="text to encode (default: standard input)")

    example = "npgpt tokenize decode 84 104 101 --vocab runs/1"
    decode = add_action(actions, "decode", run_decode, "print the text of ids", example=example)
    decode.add_argument("ids", nargs="*", metavar="ID", help="ids to decode (default: standard input)")

    more = "The tokens are coloured; a table gives their ids and bytes. Two --vocab compare two vocabularies."
    show = add_action(actions, "show", run_show, "show the tokens of a text", more, EXAMPLE)
    show.add_argument("text", nargs="?", metavar="TEXT", help="text to show (default: standard input)")

    more = "The vocabulary must be one of byte pairs."
    example = 'npgpt tokenize merges " tokenization" --vocab runs/1'
    merges = add_action(actions, "merges", run_merges, "show the merges that build a word, one by one", more, example)
    merges.add_argument("word", metavar="WORD", help="one piece of a text, with its space: ' tokenization'")

    known = (
        "run folder, file of `npgpt tokenize train`, folder with GPT-2's encoder.json and vocab.bpe, Hugging Face's "
        "tokenizer.json, or NAME.tiktoken, where NAME is gpt2, cl100k_base or o200k_base; also compressed"
    )
    for action in (encode, decode, merges):
        action.add_argument("--vocab", required=True, metavar="PATH", help=known)
    show.add_argument("--vocab", required=True, action="append", metavar="PATH", help=known)


def run_train(options: argparse.Namespace) -> None:
    check_out(options.out, "a vocabulary", options.overwrite, Tokenizer.load)
    texts = itertools.chain.from_iterable(map(read_parts, options.files))
    progress = {"progress": True} if options.tokenizer == "bpe" and sys.stderr.isatty() else {}
    tokenizer: Tokenizer = KINDS[options.tokenizer].train(texts, options.vocab_size, **progress)
    tokenizer.save(options.out)
    print(f"{tokenizer.vocab_size:,} tokens, saved in {escape_controls(options.out, keep='')}")


def run_encode(options: argparse.Namespace) -> None:
    print(*load_tokenizer(options.vocab).encode(given_text(options.text)))


def run_decode(options: argparse.Namespace) -> None:
    words = options.ids or given_text(None).split()
    for word in words:
        if not (word.isascii() and word.isdecimal() and len(word) < 20):
            raise TokenizerError(f"{word[:40]!r} is not an id; ids are whole numbers, separated by white space")
    write_text(load_tokenizer(options.vocab).decode(list(map(int, words))))
    if sys.stdout.isatty():
        print()


def run_show(options: argparse.Namespace) -> None:
    """Print the tokens on coloured backgrounds (without colour: between bars), then a table of them."""
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


def run_merges(options: argparse.Namespace) -> None:
    tokenizer = load_tokenizer(options.vocab)
    if not isinstance(tokenizer, BPETokenizer):
        kind = type(tokenizer).__name__
        raise TokenizerError(f"{options.vocab} holds no merges: it is a {kind}; use a vocabulary of byte pairs")
    word = given_text(options.word)
    if not word:
        raise DataError("the word is empty; give one piece of a text")
    for step in tokenizer.merge_steps(word):
        seen = "" if step.count is None else f", pair count {step.count:,}"
        why = "its bytes" if step.rank is None else f"merge {step.rank:,}{seen}"
        print(f"{_in_colour([_names(token)[0] for token in step.tokens])}   {why}")


def _tokens(tokenizer: Tokenizer, text: str) -> list[tuple[int, bytes]]:
    """Return the id and the bytes of each token."""
    ids = tokenizer.encode(text)
    if isinstance(tokenizer, BPETokenizer):
        return [(token, tokenizer.token_bytes[token]) for token in ids]
    return [(token, tokenizer.decode([token]).encode("utf-8", "surrogatepass")) for token in ids]


def _names(data: bytes) -> tuple[str, str]:
    """Return the text of a token, with codes for bytes that are no whole character, and its bytes as numbers."""
    return escape_controls(data.decode("utf-8", "backslashreplace"), keep=""), data.hex(" ")


def _in_colour(names: list[str]) -> str:
    if not shows_colours():
        return "|".join(names)
    return "".join(f"\x1b[30;{COLOURS[i % len(COLOURS)]}m{name}\x1b[0m" for i, name in enumerate(names))
