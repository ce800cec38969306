"""The folder of one run as its writer uses it: one process at a time, and never without a whole checkpoint."""

import itertools
import os
import time
import warnings
from pathlib import Path
from typing import Any, Self

from npgpt.config import RunConfig
from npgpt.errors import NpgptError, RunError
from npgpt.model import GPT
from npgpt.optim import AdamW
from npgpt.runs import checkpoint, layout
from npgpt.runs.checkpoint import State, clean, foreign, of_step, prune, read_state, steps_of, verify, write_checkpoint
from npgpt.runs.layout import (
    CHECKPOINTS,
    CONFIG,
    FILES,
    FOLDERS,
    LOCK,
    METRICS,
    NEW,
    NOT_FINITE,
    OF_ALL_VERSIONS,
    OLD,
    RUN,
    TOKENIZER,
    is_run,
    read_manifest,
    write_manifest,
)
from npgpt.runs.metrics import add_metrics
from npgpt.support.files import flush_folder, part_of, write_atomically
from npgpt.support.locks import FileLock
from npgpt.tokenizer import Tokenizer


class RunFolder:
    """A run folder that this process writes. ``RunFolder.check`` refuses a path before any work is done.

    A new run is written into ``.new`` until its first checkpoint is whole. Then it takes the place of the old run.
    """

    def __init__(self, path: Path, begun: bool) -> None:
        self.path, self.begun = path, begun
        self._lock = FileLock(path / LOCK, str(path))

    @staticmethod
    def check(path: Path, overwrite: bool) -> None:
        """Raise RunError if a run must not be written to this path.

        A run in the folder is replaced only with overwrite. A file that has the name of a run's file, but that no run
        wrote, is never replaced.
        """
        if not os.path.lexists(path):
            return
        if not path.is_dir():
            raise RunError(f"{path} is not a folder; give a folder for the run")
        ours = read_manifest(path) if is_run(path) else []
        if ours and not overwrite:
            raise RunError(f"{path} already holds a run; use another --out, --overwrite to replace it, or --resume")
        # Also with overwrite, which removes only what the manifest lists.
        for name in OF_ALL_VERSIONS:
            kind = Path.is_dir if name in FOLDERS else Path.is_file
            if os.path.lexists(path / name) and (name not in ours or not kind(path / name)):
                ours = ours or (read_manifest(path) if is_run(path) else [])  # another process has just made it one
                if kind(path / name) and (name in ours or (ours and name in (LOCK, NEW))):  # version 1 lists fewer
                    continue
                raise RunError(f"{path / name} exists and is not a file of a run; use another --out")
        for home in (path / CHECKPOINTS, path / OLD):
            for item in sorted(home.iterdir()) if ours and home.is_dir() else ():
                other = None if item.is_symlink() else foreign(item) if item.is_dir() else item
                if other and os.path.lexists(other):  # else another process has deleted it meanwhile
                    raise RunError(f"{other} is not a file of a run, and is not deleted; move it, or use another --out")

    @classmethod
    def create(cls, path: Path, overwrite: bool = False) -> Self:
        """Make the folder and lock it. An old run stays there until ``save`` has written a checkpoint."""
        cls.check(path, overwrite)
        path.mkdir(parents=True, exist_ok=True)
        _mark(path)
        folder = cls(path, begun=False)
        if (path / CHECKPOINTS).exists() and not overwrite:  # of another process, since the check
            folder.close()
            raise RunError(f"{path} already holds a run; use another --out, --overwrite to replace it, or --resume")
        folder._restore_old_run()
        return folder

    @classmethod
    def create_next(cls, parent: Path) -> Self:
        """Make the first of parent/1, parent/2, ... that does not exist. Each process gets another one."""
        parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            try:
                (parent / str(number)).mkdir()
            except FileExistsError:
                continue
            return cls.create(parent / str(number))
        raise AssertionError("numbers do not end")

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Lock the folder of a run that is to go on."""
        if not path.is_dir():
            raise RunError(f"{path} is not a folder; give a run folder, which `npgpt train` makes")
        if not is_run(path):
            of = path.absolute().parent.parent
            hint = f"; it is in the run folder {of}, which goes on" if is_run(of) else ""
            raise RunError(f"{path} is not a run folder: {RUN} is missing{hint}")
        read_manifest(path)
        if not any((path / name).is_dir() for name in (CHECKPOINTS, OLD)):
            raise RunError(cls._nothing_whole(path))
        folder = cls(path, begun=True)
        folder._restore_old_run()
        return folder

    def _check_place(self) -> None:
        """Raise RunError if the folder was moved or deleted, so that its path may be another run's now."""
        if not self._lock.is_at(self.path / LOCK):
            raise RunError(
                f"{self.path} was moved or deleted while the run wrote into it; if it was moved, go on there: npgpt "
                "train --resume FOLDER"
            )

    def close(self) -> None:
        self._lock.release()

    def newest(self) -> Path:
        """Return the newest checkpoint that is whole. One that is damaged is renamed, and named in a warning.

        Of the older ones only the state is read, which decides later what is kept.

        Raises
            RunError if there is none.
        """
        home = self.path / CHECKPOINTS
        found: Path | None = None
        for step in reversed(steps_of(home)):
            path = of_step(home, step)
            try:
                read_state(path) if found else verify(path)
            except NpgptError as error:
                checkpoint.remove(home / f"damaged-{step}")  # of an earlier time
                os.rename(path, home / f"damaged-{step}")
                used = found.name if found else "the one before it"
                warnings.warn(f"{error}; it is now called damaged-{step}, and {used} is used", stacklevel=2)
            else:
                found = found or path
        if found:
            return found
        raise RunError(self._nothing_whole(self.path))

    @staticmethod
    def _nothing_whole(path: Path) -> str:
        old = (path / layout.MODEL).exists()
        why = "its one file of weights has no moments of AdamW" if old else "none is whole"
        return (
            f"{path} has no checkpoint from which training can go on: {why}; train again, or start from the weights "
            "of a run with --init"
        )

    def save(self, config: RunConfig, tokenizer: Tokenizer, model: GPT, optimizer: AdamW | None, state: State) -> None:
        """Write a checkpoint, then the row of metrics of its evaluation; delete what is not to be kept."""
        self._check_place()
        home = self.path / (CHECKPOINTS if self.begun else NEW)
        write_checkpoint(home, config, tokenizer, model, optimizer, state)
        self._check_place()
        if not self.begun:
            self._replace_old_run(config, tokenizer)
        if state.row:
            add_metrics(self.path / METRICS, state.row)
        self.prune(config)

    def prune(self, config: RunConfig) -> None:
        """Delete the checkpoints that are not to be kept."""
        prune(self.path / CHECKPOINTS, config.train.keep, config.train.save_at)

    def save_batch(
        self, config: RunConfig, tokenizer: Tokenizer, model: GPT, state: State, batch: dict[str, Any]
    ) -> Path:
        """Write the weights and the batch that gave a loss or a gradient that is not finite."""
        self._check_place()
        home = self.path / (CHECKPOINTS if self.begun else NEW)
        return write_checkpoint(home, config, tokenizer, model, None, state, batch, NOT_FINITE)

    def copy_settings(self, config: RunConfig, tokenizer: Tokenizer) -> None:
        write_atomically(self.path / CONFIG, config.dumps().encode())
        tokenizer.save(self.path / TOKENIZER)

    def _replace_old_run(self, config: RunConfig, tokenizer: Tokenizer) -> None:
        """Let the first checkpoint of the new run take the place of the old run; a reader finds one of the two."""
        home, old = self.path / CHECKPOINTS, self.path / OLD
        write_manifest(self.path)
        checkpoint.remove(old)
        if home.exists():
            os.rename(home, old)
        os.rename(self.path / NEW, home)
        flush_folder(self.path)
        for name in (*FILES, layout.MODEL, layout.OLD_RECORD):
            if name not in (RUN, LOCK, CONFIG, TOKENIZER):
                (self.path / name).unlink(missing_ok=True)
            part_of(self.path / name).unlink(missing_ok=True)
        checkpoint.remove(old)
        self.copy_settings(config, tokenizer)
        self.begun = True

    def _restore_old_run(self) -> None:
        """Finish or undo a replacement that was interrupted."""
        home, old = self.path / CHECKPOINTS, self.path / OLD
        if old.exists() and not home.exists():
            os.rename(old, home)
        for name in (OLD, NEW):
            checkpoint.remove(self.path / name)
        clean(home)


def _mark(path: Path) -> None:
    """Write the manifest if there is none. It comes first: so after any crash the folder can be overwritten."""
    for attempt in range(50):
        if is_run(path):
            return
        try:
            write_manifest(path)
        except (FileExistsError, FileNotFoundError):  # another process starts here at this moment, and has no lock yet
            if attempt == 49:
                raise
            time.sleep(0.01)
