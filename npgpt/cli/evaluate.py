"""``npgpt evaluate``: how well a trained model predicts texts, beside baselines and compressors."""

import argparse
import json
import lzma
import math
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from npgpt.baselines import bigram_loss, unigram_loss
from npgpt.cli.options import add_run_folder
from npgpt.cli.parser import add_action
from npgpt.config import DataConfig, RunConfig
from npgpt.data import encode_texts, split_texts
from npgpt.errors import DataError, NpgptError, RunError, TrainingError, brief, quote
from npgpt.evaluation import Evaluation, bits_per_byte, evaluate
from npgpt.runs import Run, load_run
from npgpt.runs.resume import TrainingTexts
from npgpt.support.terminal import escape_controls, shows_colours
from npgpt.tokenizer import END_OF_TEXT, UNKNOWN

SUMMARY, EXAMPLE = "loss, perplexity and bits per byte of texts", "npgpt evaluate runs/1"
BACKGROUNDS = (255, 224, 217, 210, 203, 196)  # of the 256 colours, from white to red
STEP = 2  # bits from one background to the next
FOOT = """Bits per byte compare across tokenizers. Bigram and unigram are frequencies
of the run's training text; lzma and zlib know the evaluated text alone."""


def add_parser(subparsers: Any) -> None:
    more = (
        "Each token is scored once, in windows that slide over the text. Beside the model stand its baselines and two "
        "compressors. <|endoftext|> follows each text; it counts as a token, and has no bytes."
    )
    parser = add_action(subparsers, "evaluate", run, SUMMARY, more, "npgpt evaluate runs/1 book.txt --surprisal")
    add_run_folder(parser)
    parser.add_argument(
        "texts",
        nargs="*",
        metavar="TEXT",
        help="files, folders or patterns, as for `npgpt train --text` (default: the validation text of the run)",
    )
    parser.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="tokens that a window scores, 1 to the context; fewer are slower, with more context (default: half of the "
        "context)",
    )
    parser.add_argument("--against", metavar="DIR", help="another run, to be compared on the same text")
    parser.add_argument("--surprisal", action="store_true", help="show the bits of each token, as coloured text")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a page")


@dataclass
class Scored:
    """The evaluation of a run on texts, the losses of its baselines, and whether its tokens determine the texts."""

    run: Run
    texts: list[str]
    made: Evaluation
    baselines: dict[str, float]
    keeps_text: bool


def run(options: argparse.Namespace) -> None:
    runs = [load_run(folder) for folder in (options.run_folder, *([options.against] if options.against else []))]
    given = RunConfig(DataConfig(text=options.texts))
    texts = TrainingTexts.read(given, None).documents if options.texts else None
    scored = [_score(runs[0], texts, options.stride)]
    texts = scored[0].texts
    scored += [_score(other, texts, options.stride) for other in runs[1:]]
    data, n_bytes = "".join(texts).replace(END_OF_TEXT, "").encode(), scored[0].made.bytes
    packed = {"lzma": lzma.compress(data), "zlib": zlib.compress(data, 9)}
    compressors = {name: 8 * len(small) / n_bytes for name, small in packed.items()}
    if options.json:
        found = {"texts": len(texts), "bytes": n_bytes, **compressors}
        print(json.dumps(found | {"runs": [_as_object(each, options.surprisal) for each in scored]}))
        return
    if options.surprisal:
        for each in scored:
            _print_surprisals(each)
    names = ", ".join(options.texts) if len(options.texts) < 4 else f"{len(texts)} files"
    names = escape_controls(names, keep="") or f"the validation text of {_name(runs[0])}"
    print(f"text: {names}; {n_bytes:,} bytes")
    for each in scored:
        made = each.made
        least = made.context - made.stride + 1
        print(escape_controls(each.run.which(), keep=""))
        print(f"  {made.tokens:,} tokens; each is scored once, with at least {least} before it")
        print(f"  where the text has so many (context {made.context}, stride {made.stride})")
    _print_table(scored, compressors)


def _own_texts(run: Run) -> tuple[list[str], list[str]]:
    """Return the training and the validation texts of a run, or raise DataError if they are not there any more."""
    try:
        documents = TrainingTexts.find(run.config, None, run.state).documents
    except (OSError, NpgptError):
        name = f", {brief(run.state.texts[0]['name'])}," if run.state.texts else ""
        raise DataError(f"the training text of {run.folder}{name} is not there, or is another one now") from None
    return split_texts(documents, run.config.data.validation_fraction)


def _score(run: Run, texts: list[str] | None, stride: int | None) -> Scored:
    """Evaluate a run and its baselines, by default on its validation text. A note says what is missing."""
    tokenizer, train_texts, baselines = run.tokenizer, None, {}
    try:
        train_texts, validation_texts = _own_texts(run)
        texts = texts or validation_texts
    except DataError as error:
        if texts is None:
            raise DataError(f"{error}; give a TEXT to evaluate") from None
        _note(f"no bigram and no unigram: {error}")
    with tqdm(unit="token", disable=not sys.stderr.isatty(), leave=False, delay=1) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            made = evaluate(run, tokenizer, texts, stride, show)
        except TrainingError as error:  # not diverged: the file is damaged
            raise RunError(f"{run.path}: {error}") from None
    if train_texts:
        train_ids = encode_texts(tokenizer, train_texts)
        ids = np.concatenate([[tokenizer.special_tokens[END_OF_TEXT]], made.ids])
        for name, loss in (("bigram", bigram_loss), ("unigram", unigram_loss)):
            baselines[name] = loss(train_ids, ids, tokenizer.vocab_size)
    keeps_text = tokenizer.decode(made.ids) == "".join(text.removesuffix(END_OF_TEXT) + END_OF_TEXT for text in texts)
    if not keeps_text:
        n_unknown = int((made.ids == tokenizer.special_tokens.get(UNKNOWN, -1)).sum())
        _note(
            f"the vocabulary of {run.folder} loses a part of the text ({n_unknown:,} of {made.tokens:,} tokens are "
            "unknown characters or words), so its bits per byte are too small to compare"
        )
    return Scored(run, texts, made, baselines, keeps_text)


def _note(message: str) -> None:
    print(f"note: {escape_controls(message, keep='')}", file=sys.stderr)


def _name(run: Run) -> str:
    return escape_controls(str(run.folder), keep="")


def _print_table(scored: list[Scored], compressors: dict[str, float]) -> None:
    """Print a row for each run, its baselines and the compressors."""

    def of_loss(loss: float, made: Evaluation) -> tuple[str, str, str]:
        perplexity = math.exp(min(loss, 700))
        shown = f"{perplexity:,.2f}" if perplexity < 1e7 else f"{perplexity:.2e}"
        return f"{bits_per_byte(loss, made.tokens, made.bytes):.3f}", f"{loss:.3f}", shown

    rows = [("", "bits per byte", "nats per token", "perplexity")]
    for each in scored:
        rows.append((_name(each.run), *of_loss(each.made.loss, each.made)))
        rows += [(f"  {name}", *of_loss(loss, each.made)) for name, loss in each.baselines.items()]
    rows += [(name, f"{bits:.3f}", "", "") for name, bits in compressors.items()]
    width = max(len(row[0]) for row in rows)
    print()
    for name, *numbers in rows:
        print(f"{name:<{width}}{''.join(f'{number:>16}' for number in numbers)}".rstrip())
    print()
    if len(scored) > 1:
        first, other = scored
        more = other.made.bits_per_byte - first.made.bits_per_byte
        says = f"{abs(more):.3f} bits per byte {'more' if more > 0 else 'less'}"
        print(f"{_name(other.run)} needs {says} than {_name(first.run)}")
    print(FOOT)


def _pieces(each: Scored) -> Iterator[tuple[int, str, float]]:
    """Yield each token, its text and its bits. The text of a token that ends inside a character is empty."""
    ids = each.made.ids.tolist()
    return zip(ids, each.run.tokenizer.stream(ids), each.made.surprisals.tolist(), strict=False)


def _print_surprisals(each: Scored) -> None:
    """Print the text on backgrounds that show the bits; without colour, a line with a bar for each token."""
    print(f"surprisal in bits, {_name(each.run)}:")
    if not shows_colours():
        for _, text, bits in _pieces(each):
            print(f"{bits:6.2f}  {'#' * min(20, round(bits)):<20}  {quote(text) if text else '(within a character)'}")
        return
    kept = 0.0  # bits of tokens that end inside a character
    for _, text, bits in _pieces(each):
        kept += bits
        if text:
            shown = escape_controls(text, keep="\n").replace("\n", "⏎\n")
            lines = (_coloured(line, kept) if line else "" for line in shown.split("\n"))
            print("\n".join(lines), end="")
            kept = 0.0
    legend = (_coloured(f" {STEP * i}+ ", STEP * i) for i in range(len(BACKGROUNDS)))
    print(f"\nbits: {''.join(legend)}\n")


def _coloured(text: str, bits: float) -> str:
    background = BACKGROUNDS[min(len(BACKGROUNDS) - 1, int(bits / STEP))]
    return f"\x1b[38;5;16;48;5;{background}m{text}\x1b[0m"


def _as_object(each: Scored, surprisal: bool) -> dict[str, Any]:
    made, numbers = each.made, ("tokens", "context", "stride", "loss", "perplexity", "bits_per_byte")
    found: dict[str, Any] = {"run": str(each.run.folder), "step": each.run.state.step, "keeps_text": each.keeps_text}
    found |= {name: getattr(made, name) for name in numbers}
    found |= {name: bits_per_byte(loss, made.tokens, made.bytes) for name, loss in each.baselines.items()}
    if surprisal:
        found["surprisals"] = [{"id": token, "text": text, "bits": bits} for token, text, bits in _pieces(each)]
    return found
