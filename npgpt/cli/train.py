"""``npgpt train``: train a model on a text; show progress, losses and samples."""

import argparse
import contextlib
import importlib.util
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from npgpt.cli.exit_codes import Terminated
from npgpt.cli.options import Renamed, add_config_flags, check_at_least, config_from, given_tables
from npgpt.cli.parser import add_action
from npgpt.config import RunConfig
from npgpt.data import builtin_name
from npgpt.errors import ConfigError
from npgpt.presets import DEFAULT, PRESETS
from npgpt.runs import Run, train_run
from npgpt.runs.checkpoint import best_step, of_step, read_state, steps_of
from npgpt.runs.judgement import overfitting_since
from npgpt.runs.layout import CHECKPOINTS
from npgpt.runs.ranks import Ranks, ranks_of_mpiexec
from npgpt.runs.resume import asked_config
from npgpt.sampling import generate
from npgpt.study.trace.over_time import Recorder, add_record
from npgpt.support.memory import keep_freed_memory
from npgpt.support.terminal import escape_controls, typed
from npgpt.tokenizer import END_OF_TEXT
from npgpt.train import Step

SUMMARY, EXAMPLE = "train a tokenizer and a GPT on a text", "npgpt train"
SAMPLE_TOKENS = 60
MOST_SAMPLES = 10  # evaluations of a run that all show a sample; of more, the first, the middle one and the last do
WIDTH, WHOLE = 68, 10_000  # characters of the samples before the last, and of the last


def add_parser(subparsers: Any) -> None:
    more = (
        "Without --text, the text is Python's own documentation; this takes about two minutes. <|endoftext|> in a text "
        "separates documents. A checkpoint is saved at each evaluation. Ctrl-C finishes the step, saves, and prints "
        "the command that goes on. Exit code 4: training diverged."
    )
    parser = add_action(subparsers, "train", run, SUMMARY, more, "npgpt train --text book.txt --steps 1000")
    parser.usage = "npgpt train [--text FILE ...] [--out DIR] [OPTION ...]"
    parser.add_argument(
        "--out", metavar="DIR", help="run folder to write (default: first free one of runs/1, runs/2, ...)"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the run in DIR once the new one has a checkpoint; other files stay",
    )
    parser.add_argument(
        "--resume", metavar="DIR", help="go on with the run in DIR, to the same bits as if it had not stopped"
    )
    parser.add_argument(
        "--init", metavar="DIR", help="start from the best weights and the tokenizer of the run in DIR, on another text"
    )
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
    ranks = ranks_of_mpiexec()
    config = _same_config(options, ranks)
    if config.train.layers == "textbook":
        keep_freed_memory()
    names = list(map(_shown, config.data.text)) or [builtin_name()]
    print(f"text: {', '.join(names) if len(names) < 4 else f'{len(names)} files, {names[0]} to {names[-1]}'}")
    steps = config.train.steps
    stop = Stop(ranks.rank)
    with tqdm(total=steps, unit="step", disable=not sys.stderr.isatty(), leave=False) as bar, compilation_shown(bar):
        screen = Screen(bar, options.record_every)

        def start(run: Run) -> None:
            screen.start(run, ranks.size)
            stop.waits = True

        shown: dict[str, Any] = {"on_start": start, "on_step": screen.step, "on_evaluation": screen.evaluation}
        place: dict[str, Any] = _place(options)

        try:
            with stop.listening():
                made = train_run(
                    config,
                    **place | ({} if ranks.rank else shown),
                    overwrite=options.overwrite,
                    init=options.init,
                    on_progress=screen.progress,
                    stop=stop.came,
                    ranks=ranks,
                )
                stop.number = ranks.largest(stop.number or 0) or None
                ranks.over = True
        except KeyboardInterrupt:
            if saved := steps_of(screen.folder / CHECKPOINTS) if screen.saved is not None else []:
                bar.write(_go_on(screen.folder, saved[-1], steps, options), file=sys.stdout)
            raise
    if ranks.rank:
        if not made.complete:
            raise stop.error()
        return
    assert made.path is not None
    if made.complete and not screen.n_steps:
        print(f"all {steps} steps were done before; a larger --steps goes on")
    if not made.complete:
        print(_go_on(made.path, made.state.step, steps, options))
        raise stop.error()
    _print_end(made)


def _same_config(options: argparse.Namespace, ranks: Ranks) -> RunConfig:
    """Return the configuration of all ranks. Only rank 0 reads the folder of a run."""
    reads = bool(options.resume or options.init)

    def make() -> RunConfig | None:
        check_at_least(0, record_every=options.record_every)
        return None if reads and ranks.rank else _config(options)

    config = ranks.together(make)
    ranks.same("argument", {name: value for name, value in vars(options).items() if name not in ("run", "parser")})
    found: RunConfig = ranks.first(lambda: config) if reads else config
    return found


def _config(options: argparse.Namespace) -> RunConfig:
    """Return the configuration of the flags; of --resume and --init, that of the run with the given fields replaced."""
    for flag in ("out", "resume", "init"):
        if getattr(options, flag) == "":
            raise ConfigError(f"--{flag} is empty; name a folder")
    if options.resume and (options.out or options.overwrite or options.init):
        other = "--out" if options.out else "--overwrite" if options.overwrite else "--init"
        raise ConfigError(f"--resume goes on in the folder of its run; leave {other} out")
    if options.resume:
        return asked_config(Path(options.resume), given_tables(options))
    if not options.init:
        return config_from(options)
    given = given_tables(options)
    if options.preset is None and options.config is None:
        given["train"] = PRESETS[DEFAULT].tables["train"] | given["train"]
    return asked_config(Path(options.init), given, init=True)


def _place(options: argparse.Namespace) -> dict[str, str]:
    return {"resume": options.resume} if options.resume else {"out": options.out} if options.out else {"runs": "runs"}


def _go_on(folder: Path, step: int, steps: int, options: argparse.Namespace) -> str:
    """Say what was saved, and how to go on."""
    record = f" --record-every {options.record_every}" if options.record_every else ""
    return f"step {step} of {steps} is saved in {_shown(folder)}\ngo on: npgpt train --resume {typed(folder)}{record}"


def _print_end(made: Run) -> None:
    """Print the result of a run that is complete."""
    assert made.path is not None
    last, bigram, home = made.metrics[-1], made.baselines["bigram_loss"], made.path / CHECKPOINTS
    best = read_state(of_step(home, best_step(home, steps_of(home))))
    loss, folder = last.get("val_loss_whole", last["val_loss"]), _shown(str(made.path))
    print(
        f"validation loss {loss:.3f}, {abs(bigram - loss):.3f} nats {'below' if loss < bigram else 'above'} "
        f"the bigram's; saved in {folder}"
    )
    bits = ""
    if "val_bits_per_byte" in last:  # that of val_loss, which a long text has of a sample
        bits = f"; a byte costs {last['val_bits_per_byte'] * loss / last['val_loss']:.2f} bits, of 8"
    print(f"  so the right token gets a probability of {math.exp(-loss):.1%} in the geometric mean{bits}")
    if best.step != last["step"]:
        print(f"best weights: step {best.step}, validation loss {best.val_loss:.3f}; npgpt sample takes them")
    if importlib.util.find_spec("matplotlib") is None:
        print("for a picture of the losses: pip install 'npgpt[viz]'")
    print(f"next: npgpt sample {typed(made.path)} --prompt The")
    print(f'      npgpt explain "The value of" --run {typed(made.path)} --open   (its gradients, in a browser)')


class Stop:
    """A request to stop: the first Ctrl-C or SIGTERM lets the step end and saves, the second ends at once."""

    def __init__(self, rank: int = 0) -> None:
        self.number: int | None = None
        self.speaks, self.waits = rank == 0, rank > 0  # before training there is nothing to save

    def came(self) -> bool:
        return self.number is not None

    def error(self) -> KeyboardInterrupt:
        """Return the exception with which the command ends."""
        return Terminated() if self.number == signal.SIGTERM else KeyboardInterrupt()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        before: dict[int, Any] = {}

        def handle(number: int, frame: FrameType | None) -> None:
            if self.number is not None or not self.waits:
                before[number](number, frame)  # raises
                return
            self.number = int(number)
            if self.speaks:
                with contextlib.suppress(OSError):  # not print: it may be what was interrupted
                    os.write(2, b"\nstopping: the step ends, and is saved; a second Ctrl-C ends at once\n")

        if threading.current_thread() is threading.main_thread():  # others may not set a handler
            for name in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(name)):  # else it is ignored, or the host's
                    before[name] = signal.signal(name, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Screen:
    """The output during training, and the record of ``--record-every``.

    Attributes
        folder: the run folder.
        saved: the step whose checkpoint was written; None before the first.
    """

    def __init__(self, bar: Any, record_every: int) -> None:
        self.bar, self.every = bar, record_every
        self.folder, self.saved = Path(), None  # type: Path, int | None
        self.n_steps = 0
        self.recorder: Recorder | None = None

    def start(self, run: Run, n_ranks: int) -> None:
        assert run.model.flat is not None and run.train_ids is not None and run.validation_ids is not None
        if step := run.state.step:
            self._print(f"going on from step {step}")
            self.bar.update(step)
            if run.state.schedule_from == step:
                self._print(
                    f"a new schedule of the learning rate, with a warm-up, leads to step {run.config.train.steps}"
                )
        self._print(
            f"{run.model.flat.values.size:,} parameters; {len(run.train_ids):,} training tokens, "
            f"{len(run.validation_ids):,} validation; vocabulary {run.tokenizer.vocab_size:,}"
        )
        if n_ranks > 1:
            megabytes = run.model.flat.values.nbytes / 2**20  # weights, gradients, received ones; block: sum, moments
            self._print(
                f"{n_ranks} ranks: each needs {(3 + 3 / n_ranks) * megabytes:,.1f} MiB for weights, gradients and "
                f"moments; one process needs {5 * megabytes:,.1f} MiB"
            )
        self._print(
            f"baselines, nats per token: unigram {run.baselines['unigram_loss']:.3f} (frequencies), "
            f"bigram {run.baselines['bigram_loss']:.3f} (pairs)"
        )
        uniform = math.log(run.tokenizer.vocab_size)
        self._print(f"a loss is −log(probability of the right token); a blind guess has {uniform:.3f}")
        if self.every > 0:
            self.recorder = Recorder(run.model, run.validation_ids)

    def progress(self, what: str, done: int, total: int) -> None:
        self.bar.set_description(f"{what} {100 * done // max(1, total)} %" if done < total else "")

    def step(self, run: Run, step: Step) -> None:
        self.n_steps += 1
        self.bar.update()
        self.bar.set_postfix(loss=f"{step.loss:.3f}", refresh=False)
        if self.recorder and step.number % self.every == 0:
            assert run.path is not None
            add_record(run.path, self.recorder.record(step.number))
        if self.recorder and (step.number + 1) % self.every == 0:
            self.recorder.before()

    def evaluation(self, run: Run, row: dict[str, Any]) -> None:
        assert run.path is not None
        self.folder, self.saved, steps = run.path, row["step"], run.config.train.steps
        self._print(
            f"step {self.saved:>{len(str(steps))}}/{steps}  train {row['train_loss']:.3f}  "
            f"validation {row['val_loss']:.3f} ({row['val_bits_per_byte']:.2f} bits/byte)  "
            f"{row['tokens_per_s']:,.0f} tokens/s"
        )
        if (since := overfitting_since(run.metrics)) is not None:
            self._print(f"  overfitting since step {since}: validation rises, training falls; its weights are kept")
        every = run.config.train.eval_every
        if steps <= MOST_SAMPLES * every or self.saved in (0, steps) or self.saved - every < steps / 2 <= self.saved:
            self._write_sample(run, WHOLE if self.saved == steps else WIDTH)

    def _write_sample(self, run: Run, room: int) -> None:
        """Write a sample on one line, as fast as the model writes it, and end it after so many characters."""
        with self.bar.external_write_mode(file=sys.stdout):
            sys.stdout.write("  sample: ")
            for piece in sample_pieces(run):
                sys.stdout.write(piece[:room])
                sys.stdout.flush()
                if (room := room - len(piece)) <= 0:
                    break
            sys.stdout.write("\n")

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


def sample_pieces(run: Run) -> Iterator[str]:
    """Yield a short sample piece by piece, on one line, safe to show."""
    end = run.tokenizer.special_tokens[END_OF_TEXT]
    ids = generate(run.model, [end], SAMPLE_TOKENS, temperature=0.8, seed=run.config.train.seed, stop=end)
    for piece in run.tokenizer.stream(ids):
        yield escape_controls(piece, keep="").replace("\\n", "⏎ ")


def _shown(path: str | Path) -> str:
    return escape_controls(str(path), keep="")
