"""``npgpt sample``: continue a prompt with a trained model."""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

from npgpt.cli.options import add_run_folder
from npgpt.cli.parser import add_action
from npgpt.errors import DataError, RunError, TrainingError
from npgpt.runs import Run, load_run, newest_or_pretrained_run
from npgpt.sampling import Drawn, check_context, draw, until
from npgpt.support.files import read_text
from npgpt.support.terminal import escape_controls, given_text, shows_colours, write_text
from npgpt.tokenizer import END_OF_TEXT, UNKNOWN

SUMMARY, EXAMPLE = "continue a prompt with a trained model", 'npgpt sample runs/1 --prompt "The "'
SHADES = (196, 208, 220, 154, 46)  # colours of 256, from a probability of 0 to 1


def add_parser(subparsers: Any) -> None:
    more = (
        "The model writes token by token, until --max-tokens or the end of a text. Without a prompt it starts a text. "
        "On a terminal it reads lines instead, and answers each; Ctrl-C stops an answer, Ctrl-D ends."
    )
    parser = add_action(subparsers, "sample", run, SUMMARY, more, EXAMPLE)
    add_run_folder(parser, instead=", or the model of the package")
    parser.add_argument(
        "--last", action="store_true", help="take the newest weights, not those with the lowest validation loss"
    )
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="text to continue; <|endoftext|> in it starts a new text")
    prompt.add_argument("--prompt-file", metavar="FILE", help="file with the text to continue; - is standard input")
    parser.add_argument(
        "--max-tokens", type=int, default=200, metavar="N", help="largest number of new tokens (default: 200)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.8,
        metavar="N",
        help="divisor of the logits; 0 always takes the likeliest token (default: 0.8)",
    )
    parser.add_argument("--top-k", type=int, metavar="N", help="sample from the N likeliest tokens only (default: all)")
    parser.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="sample from the fewest tokens whose probabilities sum to P, 0 to 1 (default: all)",
    )
    parser.add_argument(
        "--stop", action="append", metavar="TEXT", help="end before this text; may be given several times"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed; the same seed gives the same text (default: 0)"
    )
    parser.add_argument(
        "--num-samples", type=int, default=1, metavar="N", help="number of samples; each has the next seed (default: 1)"
    )
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="number of tokens that the model sees at once; without learned positions it may be up to 4 times the "
        "training context (default: the training context)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, with each token's log-probability")
    parser.add_argument(
        "--show-probs", action="store_true", help="after the text, list each token's probability and the five likeliest"
    )


def run(options: argparse.Namespace) -> None:
    given = options.run_folder is not None
    loaded = load_run(options.run_folder, options.last) if given else newest_or_pretrained_run(options.last)
    if options.context is not None:
        check_context(loaded.config.model, options.context)  # before anything is written
    if options.num_samples < 1:
        raise DataError(f"--num-samples must be at least 1, not {options.num_samples}")
    if "" in (options.stop or []):
        raise DataError("--stop must be a text of at least one character")
    nothing_given = options.prompt is None and options.prompt_file is None
    if nothing_given and sys.stdin.isatty() and sys.stdout.isatty() and not options.json and options.num_samples == 1:
        answer_lines(loaded, options)
        return
    text = given_text(options.prompt or "") if options.prompt_file is None else _text_of(options.prompt_file)
    prompt = _encode(loaded, text)
    if text and not prompt:
        raise DataError("the prompt is white space alone: it has no token in this vocabulary")
    print(f"note: {escape_controls(loaded.which(), keep='')}", file=sys.stderr)
    samples = []
    for seed in range(options.seed, options.seed + options.num_samples):
        drawn: list[Drawn] = []
        pieces = answer(loaded, prompt or [loaded.tokenizer.special_tokens[END_OF_TEXT]], options, seed, drawn)
        if options.json:
            written = "".join(pieces)
            samples.append({"seed": seed, "text": written, "tokens": [_as_json(loaded, each) for each in drawn]})
            continue
        if options.num_samples > 1:
            write_text(f"== seed {seed}\n")
        write_text(text)
        for piece in pieces:
            write_text(piece)
        write_text("\n")
        if options.show_probs:
            show_probabilities(loaded, drawn)
    if options.json:
        print(json.dumps({"prompt": text, "samples": samples}, ensure_ascii=True))


def answer(loaded: Run, prompt: list[int], options: argparse.Namespace, seed: int, drawn: list[Drawn]) -> Iterator[str]:
    """Yield the text that follows a prompt, and append to ``drawn`` what was drawn."""
    tokenizer = loaded.tokenizer
    settings = options.max_tokens, options.temperature, options.top_k, seed
    end = tokenizer.special_tokens[END_OF_TEXT]
    steps = draw(loaded.model, prompt, *settings, stop=end, context=options.context, top_p=options.top_p)

    def ids() -> Iterator[int]:
        for each in steps:
            drawn.append(each)
            yield each.token

    # The decoder also reads the prompt: it puts a space before a word only if a word precedes it.
    pieces = itertools.islice(tokenizer.stream(itertools.chain(prompt, ids())), len(prompt), None)
    try:
        yield from until(pieces, options.stop or [])
    except TrainingError as error:  # not diverged: the file is damaged
        raise RunError(f"{loaded.path}: {error}") from None


def answer_lines(loaded: Run, options: argparse.Namespace) -> None:
    """Read lines from a terminal and answer each, with all earlier lines and answers before it."""
    print(f"note: {escape_controls(loaded.which(), keep='')}", file=sys.stderr)
    print("note: type a text and Enter; Ctrl-C stops an answer, Ctrl-D ends", file=sys.stderr)
    ids = [loaded.tokenizer.special_tokens[END_OF_TEXT]]
    for turn in itertools.count():
        try:
            write_text("> ")  # input() would write it to stderr
            ids += _encode(loaded, given_text(input()))
        except EOFError:
            write_text("\n")
            return
        except KeyboardInterrupt:
            write_text("\n")
            continue
        drawn: list[Drawn] = []
        try:
            for piece in answer(loaded, ids, options, options.seed + turn, drawn):
                write_text(piece)
        except KeyboardInterrupt:
            pass
        write_text("\n")
        ids = ids + [each.token for each in drawn]
        if options.show_probs:
            show_probabilities(loaded, drawn)


def show_probabilities(loaded: Run, drawn: list[Drawn]) -> None:
    """Print each token on a line: its probability, its text, and the five likeliest tokens with theirs."""
    coloured = shows_colours()
    for each in drawn:
        p = math.exp(each.log_probability)
        name = f"{_name(loaded, each.token):<16}"
        if coloured:
            name = f"\x1b[30;48;5;{SHADES[min(int(p * len(SHADES)), len(SHADES) - 1)]}m{name}\x1b[0m"
        others = "  ".join(f"{_name(loaded, token)} {100 * q:.0f}" for token, q in each.likeliest())
        print(f"{100 * p:5.1f} % {name}  {others}")


def _name(loaded: Run, token: int) -> str:
    return escape_controls(repr(loaded.tokenizer.decode([token])), keep="")


def _as_json(loaded: Run, each: Drawn) -> dict[str, Any]:
    text = loaded.tokenizer.decode([each.token])
    return {"id": each.token, "text": text, "log_probability": each.log_probability}


def _text_of(path: str) -> str:
    return given_text(None) if path == "-" else read_text(path)


def _encode(loaded: Run, text: str) -> list[int]:
    """Return the ids of a prompt, special tokens as in the training text; say how many are unknown."""
    tokenizer = loaded.tokenizer
    prompt = tokenizer.encode(text, allowed_special={END_OF_TEXT})
    if n_unknown := prompt.count(tokenizer.special_tokens.get(UNKNOWN, -1)):
        print(f"note: {n_unknown} of the {len(prompt)} tokens of the prompt are unknown to this model", file=sys.stderr)
    return prompt
