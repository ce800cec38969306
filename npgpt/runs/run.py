"""A run: a model with its tokenizer, configuration and metrics, in training or read from its folder."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from npgpt.config import RunConfig
from npgpt.core import Array
from npgpt.core.values import as_python, flag
from npgpt.core.values import path as check_path
from npgpt.errors import NpgptError, RunError
from npgpt.model import GPT
from npgpt.optim import AdamW
from npgpt.runs.checkpoint import STATE, State, best_step, of_step, read_parts, read_state, steps_of, verify
from npgpt.runs.folder import RunFolder
from npgpt.runs.layout import CHECKPOINTS, METRICS, MODEL, OLD, RUN, is_run, newest_run, read_manifest
from npgpt.runs.metrics import BASELINES, read_metrics, up_to, write_metrics
from npgpt.runs.weights import load_model
from npgpt.support.json_files import numbers_line
from npgpt.tokenizer import Tokenizer

PRETRAINED = Path(__file__).parents[1] / "pretrained"  # a checkpoint in float16, by benchmarks/pretrained.py


@dataclasses.dataclass
class Run:
    """A trained model, or one in training, with its tokenizer, configuration and metrics.

    Attributes
        metrics: a row for each evaluation: step, train_loss, val_loss, val_bits_per_byte, tokens_per_s; the first also
            has the baselines, the last val_loss_whole, the loss of the whole validation text.
        baselines: unigram_loss and bigram_loss, in nats per token, of the same validation text.
        train_ids, validation_ids: the ids of the texts; None in a loaded run.
        optimizer: None in a loaded run.
        state: the step, and what else a checkpoint holds.
        path: the run folder, or the checkpoint that was read; None if there is none.
        validation_bytes: of the validation text in UTF-8; None in a loaded run.
    """

    config: RunConfig
    tokenizer: Tokenizer
    model: GPT
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    baselines: dict[str, float] = dataclasses.field(default_factory=dict)
    train_ids: Array | None = None
    validation_ids: Array | None = None
    optimizer: AdamW | None = None
    state: State = dataclasses.field(default_factory=State)
    path: Path | None = None
    validation_bytes: int | None = None

    @property
    def complete(self) -> bool:
        """Whether all steps are done, and the last one is evaluated."""
        return self.state.step == self.config.train.steps and self.state.row is not None

    @property
    def folder(self) -> Path | None:
        """The run folder, also if one of its checkpoints was read."""
        return self.path.parents[1] if self.path and self.path.parent.name == CHECKPOINTS else self.path

    def which(self) -> str:
        """Say which weights these are, for people."""
        if self.path == PRETRAINED:
            return "the model of the package, which learned from speeches of presidents of the United States"
        loss = "not evaluated" if self.state.val_loss is None else f"validation loss {self.state.val_loss:.3f}"
        return f"{self.folder}: the weights of step {self.state.step}, {loss}"

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a run folder; RunError in the cases of ``RunFolder.check``, and for a row that is not of numbers.

        ``npgpt train --resume`` goes on from it if the run has its optimizer.
        """
        overwrite = flag("save", "overwrite", overwrite)
        for row in self.metrics:  # may fail, so it comes before anything is written
            numbers_line(row, RunError)
        last = self.metrics[-1] if self.metrics and self.metrics[-1].get("step") == self.state.step else None
        folder = RunFolder.create(check_path("save", "path", path, RunError), overwrite)
        try:
            of_step = {name: as_python(value) for name, value in last.items()} if last else None
            state = dataclasses.replace(self.state, row=of_step, baselines=self.baselines)
            folder.save(self.config, self.tokenizer, self.model, self.optimizer, state)
            write_metrics(folder.path / METRICS, self.metrics)
        finally:
            folder.close()


def load_run(path: str | Path | None = None, last: bool = False) -> Run:
    """Read a run folder, or one checkpoint of it.

    Args
        path: a run folder, or a folder in its ``checkpoints``; by default the newest run in ``runs``.
        last: take the newest weights instead of those with the lowest validation loss.
    Raises
        RunError, ConfigError or TokenizerError that names the file and the mistake in it.
    """
    last = flag("load_run", "last", last)
    path = newest_run() if path is None else check_path("load_run", "path", path, RunError)
    if not path.is_dir():
        raise RunError(f"{path} is not a folder; give a run folder, which `npgpt train` makes")
    if (path / STATE).is_file():
        return _load(path)
    if not is_run(path):
        raise RunError(f"{path} is not a run folder: {RUN} is missing")
    read_manifest(path)
    for attempt in range(5):
        home = next((path / name for name in (CHECKPOINTS, OLD) if steps_of(path / name)), None)
        if home is None:
            return _load_version_1(path)
        # The process that trains may delete this checkpoint meanwhile, after it has written a newer one; or with
        # --overwrite put that of another run in its place.
        before = _identities(home)
        try:
            steps = steps_of(home)
            chosen = of_step(home, steps[-1] if last else best_step(home, steps))
            made = _load(chosen)
            if attempt == 4 or _identities(home).get(chosen.name) == before.get(chosen.name):
                return made
        except (OSError, NpgptError, IndexError):
            if attempt == 4 or _identities(home) == before:
                raise
    raise AssertionError("the last attempt returns or raises")


def newest_or_pretrained_run(last: bool = False) -> Run:
    """Read the newest run in ``runs``; if there is none, the model of the package.

    The model of the package has textbook layers: kernels may not be compiled yet, and they need Numba, whose import
    takes longer than the first words.
    """
    last = flag("newest_or_pretrained_run", "last", last)
    try:
        path = newest_run()
    except RunError:
        return _load(PRETRAINED, "textbook")
    return load_run(path, last)


def _identities(home: Path) -> dict[str, int]:
    """Return the number of the file system for each checkpoint in a folder, by name."""
    try:
        return {entry.name: entry.inode() for entry in os.scandir(home)}
    except OSError:
        return {}


def _load(path: Path, layers: str = "compiled") -> Run:
    """Read a checkpoint."""
    verify(path)
    (config, tokenizer), state = read_parts(path), read_state(path)
    above = path.absolute().parent.parent
    rows = up_to(read_metrics(above / METRICS) if is_run(above) else [], state.step, state.row)
    model = load_model(path / MODEL, config.model, layers)
    return Run(config, tokenizer, model, rows, state.baselines, state=state, path=path)


def _load_version_1(path: Path) -> Run:
    """Read a run folder of version 1, which has one file of weights; or say that there is no checkpoint."""
    config, tokenizer = read_parts(path)
    metrics = read_metrics(path / METRICS)
    baselines = {name: loss for name, loss in (metrics[0] if metrics else {}).items() if name in BASELINES}
    state = State(step=int(metrics[-1].get("step", 0)) if metrics else 0)
    return Run(config, tokenizer, load_model(path / MODEL, config.model), metrics, baselines, state=state, path=path)
