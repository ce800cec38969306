"""What writes files: each operation, what it needs, and what must be true after it failed and after it succeeded."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from file_calls import Calls
from undisturbed import CONFIGS, result, weights_of, with_files

import npgpt.runs.training as training
from npgpt.cli import main
from npgpt.config import RunConfig
from npgpt.embeddings.formats import load_vectors, save_vectors
from npgpt.embeddings.index import DocumentIndex
from npgpt.embeddings.vectors import WordVectors
from npgpt.errors import RunError
from npgpt.runs import load_run, train_run
from npgpt.runs.checkpoint import of_step, steps_of, verify
from npgpt.runs.metrics import read_metrics
from npgpt.support.files import write_atomically
from npgpt.tokenizer import CharTokenizer, Tokenizer

Announce = Callable[[int], Any]


class Operation:
    """Something that writes.

    ``prepare`` makes a folder ready, ``run`` writes there, ``after_failure`` and ``after`` raise AssertionError if
    something there is not as it must be. ``after_failure`` also repeats the operation or goes on with it.
    """

    def prepare(self, folder: Path) -> None: ...

    def run(self, folder: Path, announce: Announce) -> None:
        raise NotImplementedError

    def after_failure(self, folder: Path, announced: list[int]) -> None:
        raise NotImplementedError

    def after(self, folder: Path) -> None:
        raise NotImplementedError


@functools.cache
def _short(name: str) -> tuple[RunConfig, Path, dict[int, str], dict[str, Any]]:
    """Return a configuration of four steps, a run that was not disturbed, the weights at each step, its result."""
    train = dataclasses.replace(CONFIGS[name].train, steps=4, eval_every=2, save_at=[1])
    config = dataclasses.replace(with_files(CONFIGS[name]), train=train)
    out, weights = Path(tempfile.mkdtemp(prefix="npgpt-short-")) / "run", {}

    def seen(run: Any, _: Any) -> None:
        weights[run.state.step] = weights_of(run)

    with Calls(out).counted():
        run = train_run(config, out=out, on_step=seen, on_evaluation=seen)
    return config, out, weights, result(run)


@contextlib.contextmanager
def quick_picture() -> Any:
    """Write a picture that takes no time to draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_losses", lambda path, *_: write_atomically(path, b"a picture"))
        yield


class Training(Operation):
    """Trains into ``run`` in the folder.

    Args
        old: the configuration of an older run there.
        numbered: train into ``runs/2``.
        stop_at: the run was stopped at this step, before its evaluation, and goes on.
    """

    def __init__(
        self, name: str = "compiled", old: str = "", numbered: bool = False, stop_at: int | None = None
    ) -> None:
        self.name, self.old, self.numbered, self.stop_at = name, old, numbered, stop_at

    def _home(self, folder: Path) -> Path:
        return folder / "runs" / "2" if self.numbered else folder / "run"

    def prepare(self, folder: Path) -> None:
        _short(self.name)  # made once
        if self.old:
            shutil.copytree(_short(self.old)[1], folder / "run")
        if self.numbered:
            (folder / "runs" / "1").mkdir(parents=True)
        if self.stop_at is not None:
            steps: list[int] = []
            stop = lambda: len(steps) == self.stop_at  # noqa: E731
            config = _short(self.name)[0]
            train_run(config, out=folder / "run", on_step=lambda run, step: steps.append(step.number), stop=stop)

    def run(self, folder: Path, announce: Announce) -> None:
        self._train(folder, resume=self.stop_at is not None, announce=announce)

    def _train(self, folder: Path, resume: bool, announce: Announce = lambda step: None) -> None:
        to: dict[str, Any] = {"resume": self._home(folder)} if resume else {"out": folder / "run", "overwrite": True}
        if self.numbered and not resume:
            to = {"runs": folder / "runs"}
        config = None if resume else _short(self.name)[0]
        train_run(config, **to, on_evaluation=lambda run, row: announce(row["step"]))

    def after_failure(self, folder: Path, announced: list[int]) -> None:
        home = self._home(folder)
        config, _, weights, _ = _short(self.name)
        for step in steps_of(home / "checkpoints"):
            verify(of_step(home / "checkpoints", step))
        if (home / "tokenizer.json").exists():
            Tokenizer.load(home / "tokenizer.json")
        if (home / "config.toml").exists():
            RunConfig.load(home / "config.toml", complete=True)
        ours = False
        for last in (False, True):
            try:
                run = load_run(home, last)
            except RunError:
                assert not announced and not self.old and self.stop_at is None
                continue
            if ours := run.config == config:
                assert weights_of(run) == weights[run.state.step]
                assert not last or run.state.step >= max([self.stop_at or 0, *announced])
            else:
                assert self.old and not announced and weights_of(run) == weights_of(load_run(_short(self.old)[1], last))
        if announced:
            assert announced[-1] in [row["step"] for row in read_metrics(home / "metrics.jsonl")]
        if self.numbered and not ours and home.exists():
            shutil.rmtree(home)  # the next start takes the next number
        self._train(folder, resume=ours)
        self.after(folder)

    def after(self, folder: Path) -> None:
        run = load_run(self._home(folder), last=True)
        again = train_run(resume=self._home(folder))  # does no step; it encodes the texts
        assert weights_of(run) == weights_of(again) and result(again) == _short(self.name)[3]


class _Screen(io.StringIO):
    """An output that announces the steps of the rows that are printed."""

    def __init__(self, announce: Announce) -> None:
        super().__init__()
        self.announce = announce

    def write(self, text: str) -> int:
        if row := re.match(r"step +(\d+)/\d+  train", text):
            self.announce(int(row[1]))
        return super().write(text)


class Command(Training):
    """Trains by the command line, with a record."""

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        (folder / "config.toml").write_text(_short(self.name)[0].dumps())

    def run(self, folder: Path, announce: Announce) -> None:
        errors, where = io.StringIO(), ["--config", str(folder / "config.toml"), "--out", str(folder / "run")]
        with contextlib.redirect_stdout(_Screen(announce)), contextlib.redirect_stderr(errors):
            code = main(["train", *where, "--record-every", "2"])
        if code:
            said = re.fullmatch(r"(?:note: .*\n)*npgpt: error: (.*)\n", errors.getvalue())
            assert code == 2 and said, errors.getvalue()
            raise RunError(said[1])

    def after(self, folder: Path) -> None:
        record = folder / "run" / "record.jsonl"
        if record.exists():
            assert all(json.loads(line)["step"] for line in record.read_text().splitlines())
            record.unlink()
        super().after(folder)


class Saving(Training):
    """Saves a run that was trained without a folder."""

    def prepare(self, folder: Path) -> None:
        self._trained()
        super().prepare(folder)

    def run(self, folder: Path, announce: Announce) -> None:
        self._trained().save(folder / "run", overwrite=True)

    @functools.cache  # noqa: B019  # as long as the tests
    def _trained(self) -> Any:
        return train_run(_short(self.name)[0])

    def after_failure(self, folder: Path, announced: list[int]) -> None:
        try:
            run = load_run(folder / "run")
        except RunError:
            assert not self.old
        else:
            assert weights_of(run) in (
                weights_of(self._trained()),
                *([weights_of(load_run(_short(self.old)[1]))] if self.old else []),
            )
        self.run(folder, lambda step: None)
        self.after(folder)

    def after(self, folder: Path) -> None:
        run, trained = load_run(folder / "run", last=True), self._trained()
        assert weights_of(run) == weights_of(trained) and run.metrics == trained.metrics
        names = sorted(path.name for path in (folder / "run").iterdir())
        assert names == ["checkpoints", "config.toml", "lock", "metrics.jsonl", "run.json", "tokenizer.json"]
        assert [path.name for path in (folder / "run" / "checkpoints").iterdir()] == [str(run.state.step)]


class File(Operation):
    """Writes one file over an old one, as ``save(what, path)``; ``old`` and ``new`` are what is saved."""

    def __init__(
        self, name: str, old: Any, new: Any, save: Callable[[Any, Path], Any], load: Callable[[Path], Any]
    ) -> None:
        self.name, self.old, self.new, self.save, self.load = name, old, new, save, load

    def prepare(self, folder: Path) -> None:
        self.save(self.old, folder / self.name)
        self.old_bytes = (folder / self.name).read_bytes()

    def run(self, folder: Path, announce: Announce) -> None:
        self.save(self.new, folder / self.name)

    def after_failure(self, folder: Path, announced: list[int]) -> None:
        self.load(folder / self.name)
        found = (folder / self.name).read_bytes()
        self.run(folder, lambda step: None)
        assert found in (self.old_bytes, (folder / self.name).read_bytes())
        self.after(folder)

    def after(self, folder: Path) -> None:
        self.load(folder / self.name)
        assert os.listdir(folder) == [self.name]


def _vectors(suffix: str, format: str | None = None) -> File:
    old, new = (WordVectors(["a", "b"], np.eye(2, dtype=np.float32) + n) for n in range(2))
    return File(f"vectors{suffix}", old, new, lambda v, path: save_vectors(v, path, format), load_vectors)


def _index(n: int) -> DocumentIndex:
    return DocumentIndex(["a", "b"], ["A", "B"], np.eye(2) + n)


OPERATIONS: dict[str, Operation] = {
    "train": Training(),
    "train --overwrite": Training(old="compiled-dropout"),
    "train in a numbered folder": Training(numbered=True),
    "train as a command": Command(),
    "train --resume": Training(stop_at=2),
    "train --resume at step 0": Training(stop_at=0),
    "Run.save": Saving(),
    "Run.save over an old run": Saving(old="compiled-dropout"),
    "Tokenizer.save": File(
        "t.json", CharTokenizer.train("ab"), CharTokenizer.train("abc"), lambda t, path: t.save(path), Tokenizer.load
    ),
    "vectors as npz": _vectors(".npz"),
    "vectors as word2vec": _vectors(".txt.gz"),
    "vectors as binary": _vectors(".bin"),
    "vectors as glove": _vectors(".txt", "glove"),
    "DocumentIndex.save": File("i", _index(0), _index(1), lambda index, path: index.save(path), DocumentIndex.load),
}
