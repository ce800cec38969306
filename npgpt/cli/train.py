"""``npgpt train``: train a model on a text; show progress, losses and samples."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from npgpt.cli.options import Renamed, add_config_flags, check_at_least, config_from
from npgpt.cli.parser import add_action
from npgpt.data import builtin_name
from npgpt.errors import ConfigError
from npgpt.runs import Run, RunFolder, train_run
from npgpt.sampling import generate
from npgpt.study.trace.over_time import Recorder, add_record
from npgpt.support.memory import keep_freed_memory
from npgpt.support.terminal import escape_controls
from npgpt.tokenizer import END_OF_TEXT
from npgpt.train import Step

SUMMARY, EXAMPLE = "train a tokenizer and a GPT on a text", "npgpt train"
SAMPLE_TOKENS = 60


def add_parser(subparsers: Any) -> None:
    more = (
        "Without --text, the text is Python's own documentation; this takes about two minutes. <|endoftext|> in a text "
        "separates documents. The model is saved at each evaluation. Exit code 4: training diverged."
    )
    parser = add_action(subparsers, "train", run, SUMMARY, more, "npgpt train --text book.txt --steps 1000")
    parser.usage = "npgpt train [--text FILE ...] [--out DIR] [OPTION ...]"
    parser.add_argument(
        "--out", metavar="DIR", help="run folder to write (default: first free one of runs/1, runs/2, ...)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in DIR; other files stay")
    parser.add_argument(
        "--record-every",
        type=int,
        default=0,
        metavar="N",
        help="record gradients and updates of each layer every N steps; 0 records nothing (default: 0)",
    )
    parser.add_argument("--ledger-every", dest="record_every", type=int, action=Renamed, now="--record-every")
    add_config_flags(parser)


def run(options: argparse.Namespace) -> None:
    check_at_least(0, record_every=options.record_every)
    config = config_from(options)
    if options.out == "":
        raise ConfigError("--out is empty; name a folder for the run")
    if config.train.layers == "textbook":
        keep_freed_memory()
    names = list(map(_shown, config.data.text)) or [builtin_name()]
    print(f"text: {', '.join(names) if len(names) < 4 else f'{len(names)} files, {names[0]} to {names[-1]}'}")
    out = Path(options.out) if options.out else RunFolder.next_free()
    steps = config.train.steps
    with tqdm(total=steps, unit="step", disable=not sys.stderr.isatty(), leave=False) as bar, compilation_shown(bar):
        screen = Screen(bar, out, options.record_every)
        try:
            made = train_run(
                config,
                out=out,
                overwrite=options.overwrite,
                on_start=screen.start,
                on_step=screen.step,
                on_evaluation=screen.evaluation,
            )
        except KeyboardInterrupt:
            if screen.saved is not None:
                bar.write(f"{_shown(out)} holds the weights of step {screen.saved}", file=sys.stdout)
            raise
    last, bigram = made.metrics[-1]["val_loss"], made.baselines["bigram_loss"]
    print(
        f"validation loss {last:.3f}, {abs(bigram - last):.3f} nats {'below' if last < bigram else 'above'} "
        f"the bigram's; saved in {_shown(out)}\n"
        f"next: npgpt sample {_shown(shlex.quote(str(out)))} --prompt The"
    )


class Screen:
    """The output during training, and the record of ``--record-every``.

    Attributes
        saved: the step whose weights are in the folder; None before the first checkpoint.
    """

    def __init__(self, bar: Any, out: Path, record_every: int) -> None:
        self.bar, self.out, self.every = bar, out, record_every
        self.saved: int | None = None
        self.recorder: Recorder | None = None

    def start(self, run: Run) -> None:
        assert run.model.flat is not None and run.train_ids is not None and run.validation_ids is not None
        self._print(
            f"{run.model.flat.values.size:,} parameters; {len(run.train_ids):,} tokens to train on, "
            f"{len(run.validation_ids):,} to validate; vocabulary of {run.tokenizer.vocab_size:,}"
        )
        self._print(
            f"baselines, in nats per token: {run.baselines['unigram_loss']:.3f} (unigram: token frequencies), "
            f"{run.baselines['bigram_loss']:.3f} (bigram: given the token before)"
        )
        if self.every > 0:
            self.recorder = Recorder(run.model, run.validation_ids)

    def step(self, run: Run, step: Step) -> None:
        self.bar.update()
        self.bar.set_postfix(loss=f"{step.loss:.3f}", refresh=False)
        if self.recorder and step.number % self.every == 0:
            add_record(self.out, self.recorder.record(step.number))
        if self.recorder and (step.number + 1) % self.every == 0:
            self.recorder.before()

    def evaluation(self, run: Run, row: dict[str, Any]) -> None:
        self.saved, steps = row["step"], run.config.train.steps
        self._print(
            f"step {self.saved:>{len(str(steps))}}/{steps}  train {row['train_loss']:.3f}  "
            f"validation {row['val_loss']:.3f}  (bigram {run.baselines['bigram_loss']:.3f})  "
            f"{row['tokens_per_s']:,.0f} tokens/s"
        )
        if self.saved in (0, steps) or self.saved - run.config.train.eval_every < steps / 2 <= self.saved:
            self._print(f"  sample: {sample_line(run)}")

    def _print(self, line: str) -> None:
        self.bar.write(line, file=sys.stdout)


@contextlib.contextmanager
def compilation_shown(bar: Any) -> Iterator[None]:
    """Name the kernels on the progress bar while they are compiled; the first time this takes a while."""
    from npgpt.machine.compile import PROGRESS  # imports Numba, which is slow: not before help is shown

    shown = [] if bar.disable else [bar.set_description]
    PROGRESS.extend(shown)
    try:
        yield
    finally:
        for show in shown:
            PROGRESS.remove(show)


def sample_line(run: Run) -> str:
    """Return a short sample on one line, safe to show."""
    end = run.tokenizer.special_tokens[END_OF_TEXT]
    ids = generate(run.model, [end], SAMPLE_TOKENS, temperature=0.8, seed=run.config.train.seed, stop=end)
    return escape_controls(run.tokenizer.decode(ids), keep="").replace("\\n", "⏎ ")


def _shown(path: str | Path) -> str:
    return escape_controls(str(path), keep="")
