"""``npgpt sample``: continue a prompt with a trained model."""

import argparse
import itertools
import sys
from typing import Any

from npgpt.cli.parser import add_action
from npgpt.errors import DataError, RunError, TrainingError
from npgpt.runs import load_run
from npgpt.sampling import check_context, generate
from npgpt.support.terminal import escape_controls, given_text, write_text
from npgpt.tokenizer import END_OF_TEXT, UNKNOWN

SUMMARY, EXAMPLE = "continue a prompt with a trained model", 'npgpt sample runs/1 --prompt "The "'


def add_parser(subparsers: Any) -> None:
    more = "The model writes token by token, until --max-tokens or the end of a text."
    parser = add_action(subparsers, "sample", run, SUMMARY, more, EXAMPLE)
    parser.add_argument(
        "run_folder",
        nargs="?",
        metavar="DIR",
        help="run folder, or one of its checkpoints (default: the newest run in runs)",
    )
    parser.add_argument(
        "--last", action="store_true", help="take the newest weights, not those with the lowest validation loss"
    )
    parser.add_argument(
        "--prompt",
        default="",
        metavar="TEXT",
        help="text to continue; <|endoftext|> in it starts a new text (default: the start of a text)",
    )
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
        "--seed", type=int, default=0, metavar="N", help="seed; the same seed gives the same text (default: 0)"
    )
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="number of tokens that the model sees at once; without learned positions it may be up to 4 times the "
        "training context (default: the training context)",
    )


def run(options: argparse.Namespace) -> None:
    loaded = load_run(options.run_folder, options.last)
    tokenizer, text = loaded.tokenizer, given_text(options.prompt)
    prompt = tokenizer.encode(text, allowed_special={END_OF_TEXT})  # as in the training text
    if text and not prompt:
        raise DataError("the prompt is white space alone: it has no token in this vocabulary")
    if n_unknown := prompt.count(tokenizer.special_tokens.get(UNKNOWN, -1)):
        print(f"note: {n_unknown} of the {len(prompt)} tokens of the prompt are unknown to this model", file=sys.stderr)
    end = tokenizer.special_tokens[END_OF_TEXT]
    settings = options.max_tokens, options.temperature, options.top_k, options.seed
    if options.context is not None:
        check_context(loaded.config.model, options.context)  # before anything is written
    ids = generate(loaded.model, prompt or [end], *settings, stop=end, context=options.context)
    print(f"note: {escape_controls(loaded.which(), keep='')}", file=sys.stderr)
    write_text(text)
    # The decoder also reads the prompt: it puts a space before a word only if a word precedes it.
    try:
        for piece in itertools.islice(tokenizer.stream(itertools.chain(prompt, ids)), len(prompt), None):
            write_text(piece)
    except TrainingError as error:  # not diverged: the file is damaged
        raise RunError(f"{loaded.path}: {error}") from None
    write_text("\n")
