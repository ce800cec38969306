"""``npgpt convert``: a GPT-2 of Hugging Face becomes a run, or a run becomes a GPT-2."""

import argparse
from pathlib import Path
from typing import Any

from npgpt.cli.parser import add_action
from npgpt.errors import ConfigError
from npgpt.runs import load_huggingface, load_run, save_huggingface
from npgpt.runs.checkpoint import STATE
from npgpt.runs.layout import is_run
from npgpt.support.terminal import escape_controls

SUMMARY, EXAMPLE = "turn a GPT-2 of Hugging Face into a run, or a run into one", "npgpt convert runs/gpt2 gpt2"


def add_parser(subparsers: Any) -> None:
    more = "What the folder FROM holds decides. A run is its weights with the lowest validation loss."
    parser = add_action(subparsers, "convert", run, SUMMARY, more, EXAMPLE)
    parser.add_argument(
        "source",
        metavar="FROM",
        help="folder with config.json and model.safetensors; or a run folder, or one of its checkpoints",
    )
    parser.add_argument("target", metavar="TO", help="folder to write; it must be new or empty")
    parser.add_argument(
        "--vocab", metavar="PATH", help="vocabulary of a GPT-2 whose folder has none, as in `npgpt tokenize`"
    )


def run(options: argparse.Namespace) -> None:
    source = Path(options.source)
    if is_run(source) or (source / STATE).is_file():
        if options.vocab:
            raise ConfigError("--vocab is for the folder of a GPT-2; a run has its own vocabulary")
        loaded = load_run(source)
        save_huggingface(loaded, options.target)
        print(f"{escape_controls(loaded.which(), keep='')}, are a GPT-2 in {escape_controls(options.target, keep='')}")
        return
    made = load_huggingface(source, options.vocab)
    made.save(options.target)
    target = escape_controls(options.target, keep="")
    print(f"{sum(p.value.size for p in made.model.parameters().values()):,} parameters are a run in {target}")
