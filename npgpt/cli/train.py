"""``npgpt train``: from a text to a run folder."""

import argparse
import contextlib
import dataclasses
import io
import json
import math
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from npgpt.baselines import bigram_loss, unigram_loss
from npgpt.build import make_gpt
from npgpt.cli.options import add_config_flags, config_from
from npgpt.config import DataConfig, RunConfig
from npgpt.core import Array
from npgpt.data import builtin_texts, encode_texts, split_text
from npgpt.errors import ConfigError, DataError, RunError, TrainingError
from npgpt.model import GPT
from npgpt.runs import FILES, LEDGER, PICTURE, RunFolder
from npgpt.sampling import generate
from npgpt.study.trace.over_time import Recorder
from npgpt.support.files import read_text, write_atomically
from npgpt.support.memory import keep_freed_memory
from npgpt.support.pictures import pyplot
from npgpt.support.terminal import escape_controls
from npgpt.tokenizer import END_OF_TEXT, BPETokenizer, CharTokenizer, Tokenizer, WordTokenizer
from npgpt.train import Step, evaluate, training_steps

SAMPLE_TOKENS = 60


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a GPT on a text",
        description="Train a tokenizer and a GPT. Without arguments: on Python's own documentation, in two minutes.",
    )
    parser.add_argument("--out", metavar="DIR", help="the run folder (the first of runs/1, runs/2, ... that is free)")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in DIR; its own files only")
    parser.add_argument(
        "--ledger-every", type=int, metavar="K", help="record gradients and updates of each layer every K steps"
    )
    add_config_flags(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    config = config_from(options)
    if options.out == "":
        raise ConfigError("--out is empty; name a folder for the run")
    if options.out:
        RunFolder.check(Path(options.out), options.overwrite)  # before any work is done
        for text in config.data.text:
            if Path(text).resolve() in [(Path(options.out) / name).resolve() for name in FILES]:
                raise RunError(f"{text} is a file of the run in {options.out}, which would replace it")
    if config.train.layers == "textbook":
        keep_freed_memory()

    train_texts, validation_texts = read_texts(config.data)
    tokenizer = train_tokenizer(config, train_texts)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size))
    ids, validation_ids = encode_texts(tokenizer, train_texts), encode_texts(tokenizer, validation_texts)
    model = make_gpt(config.model, config.train.layers, config.train.seed)
    print(
        f"{model.flat.values.size:,} parameters; {len(ids):,} tokens to train on, {len(validation_ids):,} to validate; "
        f"vocabulary of {tokenizer.vocab_size:,}"
    )
    training = training_steps(model, ids, config.train)
    baselines = {
        "unigram_loss": unigram_loss(ids, validation_ids, tokenizer.vocab_size),
        "bigram_loss": bigram_loss(ids, validation_ids, tokenizer.vocab_size),
    }
    print(
        f"to beat, in nats per token: {baselines['unigram_loss']:.3f} (unigram: how frequent a token is), "
        f"{baselines['bigram_loss']:.3f} (bigram: after the token before it)"
    )
    out = Path(options.out) if options.out else RunFolder.next_free()
    folder = RunFolder.create(out, config, tokenizer, options.overwrite)
    every = options.ledger_every or 0
    recorded = record_every(every, training, model, validation_ids, out / LEDGER) if every > 0 else training
    rows = fit(recorded, config, model, tokenizer, ids, validation_ids, folder, baselines)
    draw_losses(out / PICTURE, rows)
    better = baselines["bigram_loss"] - rows[-1]["val_loss"]
    print(
        f"validation loss {rows[-1]['val_loss']:.3f}, {abs(better):.3f} nats {'below' if better > 0 else 'above'} "
        f"the bigram's; saved in {_shown(out)}\n"
        f"next: npgpt sample {_shown(shlex.quote(str(out)))} --prompt The"
    )
    return 0


def record_every(every: int, training: Iterator[Step], model: GPT, ids: Array, path: Path) -> Iterator[Step]:
    """The steps of a training, of which each ``every``-th one is looked at: a line of JSON each."""
    recorder = Recorder(model, ids)
    with path.open("a", encoding="utf-8") as file:
        for step in training:
            if step.number % every == 0 or every == 1:
                file.write(json.dumps(recorder.record(step.number)) + "\n")
                file.flush()
            if (step.number + 1) % every == 0 or every == 1:
                recorder.before()
            yield step


def read_texts(config: DataConfig) -> tuple[list[str], list[str]]:
    """The part of each text to train on, and the part to validate on."""
    if twice := next((path for path in config.text if config.text.count(path) > 1), None):
        raise ConfigError(f"the text {twice} is given twice")
    texts = [read_text(path) for path in config.text]
    for path, text in zip(config.text, texts, strict=True):
        if not text.strip():
            raise DataError(f"{path} is empty or all white space; give a text to learn from")
    names = list(map(_shown, config.text)) or ["the documentation of this Python (pydoc_data.topics)"]
    print(f"text: {', '.join(names) if len(names) < 4 else f'{len(names)} files, {names[0]} to {names[-1]}'}")
    parts = [split_text(text, config.validation_fraction) for text in texts or builtin_texts()]
    train_texts, validation_texts = [train for train, _ in parts], [validation for _, validation in parts if validation]
    if not "".join(train_texts).strip():
        raise DataError(f"a validation_fraction of {config.validation_fraction} leaves nothing to train on")
    return train_texts, validation_texts


def train_tokenizer(config: RunConfig, texts: list[str]) -> Tokenizer:
    kinds: dict[str, Any] = {"bpe": BPETokenizer, "word": WordTokenizer, "char": CharTokenizer}
    tokenizer: Tokenizer = kinds[config.data.tokenizer].train(texts, config.model.vocab_size)
    return tokenizer


def fit(
    training: Iterator[Step],
    config: RunConfig,
    model: GPT,
    tokenizer: Tokenizer,
    ids: Array,
    validation_ids: Array,
    folder: RunFolder,
    baselines: dict[str, float],
) -> list[dict[str, Any]]:
    """Train, and at each evaluation print, measure, save. Returns the rows of metrics.jsonl."""
    steps, every = config.train.steps, config.train.eval_every
    rows: list[dict[str, Any]] = []
    bar = tqdm(total=steps, unit="step", disable=not sys.stderr.isatty(), leave=False)
    losses: list[float] = []
    tokens, started = 0.0, time.perf_counter()

    def report(step: int) -> None:
        nonlocal tokens, started
        val_loss = evaluate(model, validation_ids)
        if not math.isfinite(val_loss):
            raise TrainingError(
                f"step {step}: the validation loss is {val_loss}, so the weights of step {rows[-1]['step']} are kept. "
                "A lower --learning-rate or a longer warm-up (--warmup-steps) mostly helps"
            )
        row: dict[str, Any] = {
            "step": step,
            "train_loss": sum(losses) / len(losses),
            "val_loss": val_loss,
            "tokens_per_s": tokens / (time.perf_counter() - started) if step else 0.0,
        }
        rows.append(row if step else row | baselines)
        folder.add_metrics(rows[-1])
        folder.save_model(model)
        bar.write(
            f"step {step:>{len(str(steps))}}/{steps}  train {row['train_loss']:.3f}  validation {row['val_loss']:.3f}  "
            f"(bigram {baselines['bigram_loss']:.3f})  {row['tokens_per_s']:,.0f} tokens/s",
            file=sys.stdout,
        )
        if step in (0, steps) or step - every < steps / 2 <= step:
            bar.write(f"  sample: {sample_line(model, tokenizer, config.train.seed)}", file=sys.stdout)
        losses.clear()
        tokens, started = 0.0, time.perf_counter()

    with bar, compilation_shown(bar):
        losses.append(evaluate(model, ids[: 1 + 16 * config.model.context_length]))
        report(0)
        try:
            for step in training:
                losses.append(step.loss)
                tokens += step.n_tokens
                bar.update()
                bar.set_postfix(loss=f"{step.loss:.3f}", refresh=False)
                if step.number % every == 0 or step.number == steps:
                    report(step.number)
        except KeyboardInterrupt:
            bar.write(f"{_shown(folder.path)} holds the weights of step {rows[-1]['step']}", file=sys.stdout)
            raise
    return rows


@contextlib.contextmanager
def compilation_shown(bar: Any) -> Iterator[None]:
    """Name on a progress line the kernels that are being compiled, which takes a while the first time."""
    from npgpt.machine.compile import PROGRESS  # Numba takes a while to import: not before help is shown

    shown = [] if bar.disable else [bar.set_description]
    PROGRESS.extend(shown)
    try:
        yield
    finally:
        for show in shown:
            PROGRESS.remove(show)


def sample_line(model: GPT, tokenizer: Tokenizer, seed: int) -> str:
    """A short sample, on one line, safe to show."""
    end = tokenizer.special_tokens[END_OF_TEXT]
    text = tokenizer.decode(generate(model, [end], SAMPLE_TOKENS, temperature=0.8, seed=seed))
    return escape_controls(text, keep="").replace("\\n", "⏎ ")


def draw_losses(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draw the losses over the steps, if matplotlib is there."""
    try:
        plt = pyplot()
    except ConfigError:
        return
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps = [row["step"] for row in rows]
    axes.plot(steps, [row["train_loss"] for row in rows], label="training")
    axes.plot(steps, [row["val_loss"] for row in rows], label="validation")
    for name, style in (("unigram", ":"), ("bigram", "--")):
        axes.axhline(rows[0][f"{name}_loss"], linestyle=style, color="grey", label=name)
    axes.set(xlabel="step", ylabel="cross-entropy, nats per token")
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    plt.close(figure)
    write_atomically(path, picture.getvalue())


def _shown(path: str | Path) -> str:
    return escape_controls(str(path), keep="")
