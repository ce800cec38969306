"""A checkpoint: one folder with all that training needs to go on, written as a whole.

    manifest.json          the length and the SHA-256 of every other file
    config.toml            the configuration
    tokenizer.json         the vocabulary
    model.safetensors      the weights, one tensor for each parameter
    optimizer.safetensors  AdamW's two moments of each parameter; not in the checkpoint of a run without an optimizer
    state.json             the fields of ``State``

It is written aside, flushed and renamed, and then its parent folder is flushed: after a crash at any instant a folder
with the name of a step is whole. Reading one executes nothing.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.config import RunConfig
from npgpt.core import Array
from npgpt.core.shapes import as_ids
from npgpt.core.values import LARGEST
from npgpt.errors import DataError, NpgptError, RunError, quote
from npgpt.model import GPT
from npgpt.optim import AdamW
from npgpt.runs.layout import CONFIG, MODEL, TOKENIZER, damage
from npgpt.runs.weights import load_moments, model_file, moments_file
from npgpt.support.files import Buffer, failures_named, flush_folder, write_flushed
from npgpt.support.json_files import field, read_json
from npgpt.tokenizer import END_OF_TEXT, Tokenizer
from npgpt.version import __version__

FORMAT, VERSION = "npgpt-checkpoint", 1
MANIFEST, OPTIMIZER, STATE, BATCH = "manifest.json", "optimizer.safetensors", "state.json", "batch.json"
FILES = (CONFIG, TOKENIZER, MODEL, OPTIMIZER, STATE, BATCH)
# The ends of names: of a checkpoint that is being written, that is being deleted, and that is being replaced.
_PART, _GONE, _REPLACED = ".part", ".gone", ".replaced"
_STEP = re.compile(rf"(0|[1-9]\d{{0,17}})(?:{re.escape(_REPLACED)})?")


@dataclasses.dataclass
class State:
    """What a checkpoint holds besides arrays, configuration and tokenizer.

    Attributes
        step: the number of optimizer steps that were done.
        row: the row of metrics of the evaluation at this step; None if there was none.
        losses: the sum and the number of the training losses since the last evaluation.
        schedule_from: the step at which the present learning-rate schedule begins.
        power1, power2: β₁ᵗ and β₂ᵗ of AdamW.
        texts: the name and the SHA-256 of each training text.
        vocab_size: the largest vocabulary that was asked for; a short text has fewer tokens.
    """

    step: int = 0
    row: dict[str, float] | None = None
    baselines: dict[str, float] = dataclasses.field(default_factory=dict)
    losses: tuple[float, int] = (0.0, 0)
    schedule_from: int = 0
    power1: float = 1.0
    power2: float = 1.0
    texts: list[dict[str, str]] = dataclasses.field(default_factory=list)
    vocab_size: int = 0
    versions: dict[str, str] = dataclasses.field(default_factory=lambda: versions())

    @property
    def val_loss(self) -> float | None:
        return self.row.get("val_loss") if self.row else None  # a row of ``Run.save`` may have none


def versions() -> dict[str, str]:
    """Return the versions on which the bits of training depend."""
    of_others = {name: importlib.metadata.version(name) for name in ("numba", "llvmlite")}
    return {"npgpt": __version__, "numpy": np.__version__, **of_others}


def write_checkpoint(
    home: Path,
    config: RunConfig,
    tokenizer: Tokenizer,
    model: GPT,
    optimizer: AdamW | None,
    state: State,
    batch: dict[str, Any] | None = None,
    name: str | None = None,
) -> Path:
    """Write a checkpoint into the folder ``home``, and return its path. A checkpoint of the same name is replaced.

    Args
        batch: the numbers of a batch of training, for ``npgpt explain``.
        name: of the folder, by default the number of the step.
    """
    if optimizer is not None:
        state = dataclasses.replace(state, power1=optimizer.power1, power2=optimizer.power2)
    files: dict[str, Iterable[Buffer]] = {
        CONFIG: [config.dumps().encode()],
        TOKENIZER: [tokenizer.dumps().encode()],
        MODEL: model_file(model),
        STATE: [_json(dataclasses.asdict(state))],
    }
    if optimizer is not None:
        files[OPTIMIZER] = moments_file(model, optimizer)
    if batch is not None:
        files[BATCH] = [_json(batch)]
    path, part = home / (name or str(state.step)), home / _PART
    home.mkdir(exist_ok=True)
    remove(part)
    part.mkdir()
    listed = {}
    for file_name, data in files.items():
        digest = hashlib.sha256()
        write_flushed(part / file_name, _told(data, digest.update))
        listed[file_name] = {"bytes": (part / file_name).stat().st_size, "sha256": digest.hexdigest()}
    manifest = {"format": FORMAT, "version": VERSION, "files": listed}
    write_flushed(part / MANIFEST, _json(manifest))
    flush_folder(part)
    replaced = path.with_name(f"{path.name}{_REPLACED}")
    if path.exists():  # damaged, or of a run that stopped here
        if foreign(path) is not None:  # a person's files are kept, with the checkpoint
            names = (f"{path.name}-with-other-files{'-again' * i}" for i in itertools.count())
            replaced = next(place for name in names if not (place := path.with_name(name)).exists())
        else:
            remove(replaced)
        os.rename(path, replaced)
    os.rename(part, path)
    flush_folder(home)
    if replaced.name.endswith(_REPLACED):
        remove(replaced)
    return path


def _told(pieces: Iterable[Buffer], tell: Callable[[Buffer], Any]) -> Iterator[Buffer]:
    """Yield the pieces, and tell each one."""
    for piece in pieces:
        tell(piece)
        yield piece


def steps_of(home: Path) -> list[int]:
    """Return the steps of the checkpoints in a folder, in order."""
    try:
        names = [path.name for path in home.iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):  # another process may rename it at any time
        return []
    return sorted({int(step[1]) for name in names if (step := _STEP.fullmatch(name))})


def of_step(home: Path, step: int) -> Path:
    """Return the checkpoint of a step. While it is being replaced, that is the old one."""
    path = home / str(step)
    return path if path.exists() else path.with_name(f"{step}{_REPLACED}")


def verify(path: Path) -> None:
    """Raise RunError if a file of a checkpoint is missing, or is not as the manifest says."""
    for name, (size, digest) in _manifest(path).items():
        file = path / name
        if not file.is_file():
            raise RunError(f"{file} is missing: the copy is incomplete; copy again, or use another checkpoint")
        with file.open("rb") as data:
            right = file.stat().st_size == size and hashlib.file_digest(data, "sha256").hexdigest() == digest
        if not right:
            raise RunError(
                f"{file} is damaged: its SHA-256 is not that of {MANIFEST}; restore a copy, or use another checkpoint"
            )


def read_state(path: Path) -> State:
    """Return the state of a checkpoint; RunError if it is damaged."""
    file = path / STATE
    if not file.is_file():
        raise RunError(f"{file} is missing: the copy is incomplete; copy again, or use another checkpoint")
    with damage(file):
        record, where = read_json(file), str(file)
        kinds = {"step": int, "schedule_from": int, "vocab_size": int, "power1": float, "power2": float}
        plain = {name: field(record, name, kind, where) for name, kind in kinds.items()}
        limits = LARGEST, plain["step"], LARGEST, 1.0, 1.0
        for (name, value), most in zip(plain.items(), limits, strict=True):
            if not 0 <= value <= most:
                raise DataError(f"{where}: {name} must be from 0 to {most}, not {value}")
        row, losses = record.get("row"), field(record, "losses", list, where)
        if len(losses) != 2 or type(losses[0]) not in (int, float) or type(losses[1]) is not int or losses[1] < 0:
            raise DataError(f"{where}: losses must be a number and a count, not {quote(losses)}")
        texts = field(record, "texts", list, where)
        return State(
            **plain,
            row=None if row is None else _numbers(row, f"{where}: row"),
            baselines=_numbers(field(record, "baselines", dict, where), f"{where}: baselines"),
            losses=(float(losses[0]), losses[1]),
            texts=[{name: field(text, name, str, where) for name in ("name", "sha256")} for text in texts],
            versions={
                name: field(record["versions"], name, str, where) for name in field(record, "versions", dict, where)
            },
        )


def read_batch(path: Path, vocab_size: int) -> tuple[Array, Array]:
    """Return the ids x and y (B, T) of a batch that a run kept; RunError if the file is damaged."""
    with damage(path):
        record, both = read_json(path), []
        for name in ("x", "y"):
            rows = field(record, name, list, str(path))
            if not rows or not all(isinstance(row, list) and len(row) == len(rows[0]) > 0 for row in rows):
                raise DataError(f"{path}: {name} must be lists of equal length")
            both.append(
                as_ids(str(path), name, [i for row in rows for i in row], vocab_size, DataError).reshape(len(rows), -1)
            )
        if both[0].shape != both[1].shape:
            raise DataError(f"{path}: x and y have different shapes")
    return both[0], both[1]


def read_parts(path: Path) -> tuple[RunConfig, Tokenizer]:
    """Return the configuration and the tokenizer of a checkpoint; RunError if they do not belong together."""
    for name in (CONFIG, TOKENIZER, MODEL):
        if not (path / name).is_file():
            raise RunError(
                f"{path / name} is missing: the run was stopped early, or its copy is incomplete; copy or train again"
            )
    config = RunConfig.load(path / CONFIG, complete=True)
    tokenizer = Tokenizer.load(path / TOKENIZER)
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise RunError(
            f"{path / TOKENIZER} has no token {END_OF_TEXT}, which every run needs; restore a copy, or train again"
        )
    if tokenizer.vocab_size != config.model.vocab_size:
        raise RunError(
            f"{path}: {TOKENIZER} has {tokenizer.vocab_size} tokens, but vocab_size in {CONFIG} is "
            f"{config.model.vocab_size}: the files belong to different runs"
        )
    return config, tokenizer


def restore(path: Path, model: GPT, optimizer: AdamW, state: State) -> None:
    """Give an optimizer the moments and the powers of a checkpoint."""
    if not (path / OPTIMIZER).is_file():
        raise RunError(
            f"{path} has no {OPTIMIZER}, so training cannot go on from it; use --init to start from its weights"
        )
    load_moments(path / OPTIMIZER, model, optimizer)
    optimizer.power1, optimizer.power2 = state.power1, state.power2


def set_aside(path: Path) -> None:
    """Take the name from a checkpoint in one step; ``remove`` deletes it later."""
    gone = path.with_name(_GONE)
    remove(gone)
    os.rename(path, gone)


def remove(path: Path) -> None:
    """Delete a checkpoint, or what a crash has left of one; it may not exist. Of a link, only the link."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        with failures_named(path):  # the name that they have is that of a file without its folder
            shutil.rmtree(path)


def clean(home: Path) -> None:
    """Delete what a crash has left beside the checkpoints in a folder."""
    for name in (_PART, _GONE):
        remove(home / name)
    for step in steps_of(home):
        if of_step(home, step).suffix != _REPLACED:
            remove(home / f"{step}{_REPLACED}")


def foreign(path: Path) -> Path | None:
    """Return something in a checkpoint that npgpt did not write, or None."""
    known = {MANIFEST, *FILES}
    with contextlib.suppress(FileNotFoundError):  # another process deletes it meanwhile
        return next((file for file in sorted(path.iterdir()) if file.name not in known or not file.is_file()), None)
    return None


def prune(home: Path, keep: int, save_at: list[int]) -> None:
    """Delete all checkpoints but the newest, the best, ``keep`` more, and those of the steps ``save_at``."""
    steps = steps_of(home)
    kept = {*steps[-1 - keep :], *save_at, best_step(home, steps)}
    for step in sorted(states_of(home, steps).keys() - kept):
        if foreign(path := of_step(home, step)) is None:
            set_aside(path)
            remove(home / _GONE)


def best_step(home: Path, steps: list[int]) -> int:
    """Return the step with the lowest validation loss, or the newest one if none was evaluated."""
    states = states_of(home, steps)
    losses = {step: loss for step, state in states.items() if (loss := state.val_loss) is not None}
    return min(losses, key=lambda step: losses[step]) if losses else steps[-1]


def states_of(home: Path, steps: list[int]) -> dict[int, State]:
    """Return the states of checkpoints by step, without those that are damaged."""
    states = {}
    for step in steps:
        with contextlib.suppress(NpgptError, OSError):
            states[step] = read_state(of_step(home, step))
    return states


def _manifest(path: Path) -> dict[str, tuple[int, str]]:
    """Return the length and the SHA-256 of each file that the manifest of a checkpoint lists."""
    file = path / MANIFEST
    if not file.is_file():
        raise RunError(f"{path} is not a checkpoint: {MANIFEST} is missing")
    with damage(file):
        record, where = read_json(file), str(file)
        if not isinstance(record, dict) or record.get("format") != FORMAT or record.get("version") != VERSION:
            raise DataError(f'{where} is not a manifest of version {VERSION} with "format": "{FORMAT}"')
        files = field(record, "files", dict, where)
        if unknown := sorted(files.keys() - set(FILES)):
            raise DataError(f"{where} lists a file that a checkpoint does not have: {quote(unknown[0])}")
        if missing := sorted({CONFIG, TOKENIZER, MODEL, STATE} - files.keys()):
            raise DataError(f"{where} does not list {missing[0]}")
        place = f"{where}: files"
        return {
            name: (field(each, "bytes", int, place), field(each, "sha256", str, place)) for name, each in files.items()
        }


def _numbers(record: Any, where: str) -> dict[str, float]:
    if not isinstance(record, dict):
        raise DataError(f"{where} must be an object, not {quote(record)}")
    return {name: record[name] if type(record[name]) is int else field(record, name, float, where) for name in record}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
