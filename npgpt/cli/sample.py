"""``npgpt sample``: a trained model writes."""

import argparse
import itertools
import sys
from typing import Any

from npgpt.errors import DataError
from npgpt.runs import load_run
from npgpt.sampling import check_context, generate
from npgpt.support.terminal import given_text, write_text
from npgpt.tokenizer import END_OF_TEXT, UNKNOWN


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "sample",
        help="let a trained model write",
        description="Continue a prompt, token by token, until --max-tokens or the end of a text.",
    )
    parser.add_argument("run_folder", metavar="DIR", help="a run folder that `npgpt train` made")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="what to continue (the beginning of a text)")
    parser.add_argument("--max-tokens", type=int, default=200, metavar="N", help="how many tokens at most (200)")
    parser.add_argument(
        "--temperature", type=float, default=0.8, metavar="N", help="0: always the likeliest; 1: as learned (0.8)"
    )
    parser.add_argument("--top-k", type=int, metavar="N", help="draw from the N likeliest tokens only (all)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed, the same text (0)")
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="how many tokens the model sees at once (what it was trained with); more, up to 4 times, if its positions "
        "are not learned",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    loaded = load_run(options.run_folder)
    tokenizer, text = loaded.tokenizer, given_text(options.prompt)
    prompt = tokenizer.encode(text)
    if text and not prompt:
        raise DataError("the prompt has no token of this vocabulary: it is all white space")
    if n_unknown := prompt.count(tokenizer.special_tokens.get(UNKNOWN, -1)):
        print(f"note: {n_unknown} of the {len(prompt)} tokens of the prompt are unknown to this model", file=sys.stderr)
    end = tokenizer.special_tokens[END_OF_TEXT]
    settings = options.max_tokens, options.temperature, options.top_k, options.seed
    if options.context is not None:
        check_context(loaded.config.model, options.context)  # before anything is written
    ids = generate(loaded.model, prompt or [end], *settings, stop=end, context=options.context)
    write_text(text)
    # The prompt goes through the decoder too, so that words know whether a space goes before them.
    for piece in itertools.islice(tokenizer.stream(itertools.chain(prompt, ids)), len(prompt), None):
        write_text(piece)
    write_text("\n")
    return 0
