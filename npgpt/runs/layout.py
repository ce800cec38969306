"""The names in a run folder, and its manifest.

    run.json           the list of npgpt's names, and the version of this layout; written first
    lock               the process that trains holds its lock
    checkpoints/       a folder for each checkpoint, named by its step (``checkpoint.py``), or ``not-finite``
    config.toml        the configuration, and
    tokenizer.json     the vocabulary: copies of those of the checkpoints, for people and other commands
    metrics.jsonl      one line for each evaluation, written after the checkpoint that it speaks of
    loss.png           the loss over the steps, if matplotlib is installed
    record.jsonl       gradients and updates of each layer over the steps, with --record-every
    .new/, .old/       checkpoints of a run that replaces another one, until the first is whole

Version 1 had no checkpoints, but one file ``model.safetensors``. Reading a folder executes nothing.
"""

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from npgpt.core.values import path as check_path
from npgpt.errors import DataError, RunError, quote
from npgpt.support.files import write_atomically
from npgpt.support.json_files import read_json
from npgpt.version import __version__

FORMAT, VERSION = "npgpt-run", 2
RUN, LOCK, CONFIG, TOKENIZER, METRICS, PICTURE, RECORD = FILES = (
    "run.json",
    "lock",
    "config.toml",
    "tokenizer.json",
    "metrics.jsonl",
    "loss.png",
    "record.jsonl",
)
CHECKPOINTS, NEW, OLD = FOLDERS = ("checkpoints", ".new", ".old")
NOT_FINITE = "not-finite"  # a checkpoint with the batch that gave a loss or a gradient that is not finite
MODEL = "model.safetensors"  # in a checkpoint; in version 1 in the run folder itself
OLD_RECORD = "ledger.jsonl"  # its name in npgpt 0.1
OF_ALL_VERSIONS = (*FILES, *FOLDERS, MODEL, OLD_RECORD)


def read_manifest(path: Path) -> list[str]:
    """Return the names that the manifest of a run folder lists.

    Raises
        RunError if the manifest is damaged, has another version, or lists names that a run does not have.
    """
    file = path / RUN
    with damage(file):
        manifest = read_json(file)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RunError(f'{file} is not a manifest of npgpt: "format": "{FORMAT}" is missing')
    if type(manifest.get("version")) is not int or manifest["version"] not in (1, VERSION):
        raise RunError(
            f"{file} has version {quote(manifest.get('version'))}; this npgpt reads versions 1 and {VERSION}"
        )
    names = manifest.get("files")
    if not isinstance(names, list) or not all(name in OF_ALL_VERSIONS for name in names):
        raise RunError(f"{file} lists files that a run does not have: {quote(names)}")
    return names


def write_manifest(path: Path) -> None:
    """Write the manifest of a run folder."""
    made_by = {"npgpt": __version__, "python": platform.python_version()}  # which the built-in text depends on
    manifest = {"format": FORMAT, "version": VERSION, **made_by, "files": [*FILES, *FOLDERS]}
    write_atomically(path / RUN, (json.dumps(manifest, indent=1) + "\n").encode())


def newest_run(parent: str | Path = "runs") -> Path:
    """Return the run in a folder of runs whose checkpoint is the newest.

    Raises
        RunError if there is no run with a checkpoint.
    """
    times, parent = {}, check_path("newest_run", "parent", parent, RunError)
    for path in parent.iterdir() if parent.is_dir() else ():
        for home in (path / CHECKPOINTS, path / MODEL):
            if is_run(path) and home.exists():
                times[path] = (os.stat(home).st_mtime_ns, path.name)
    if not times:
        raise RunError(f"there is no run in {parent}; train one with `npgpt train`, or give the folder of a run")
    return max(times, key=lambda path: times[path])


def is_run(path: Path) -> bool:
    return os.path.isfile(path / RUN)


@contextlib.contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn a DataError, which begins with the path of a run's file, into a RunError."""
    try:
        yield
    except DataError as error:
        why = str(error).removeprefix(str(path))
        why = f"it{why}" if why.startswith(" ") else why.lstrip(":, ")
        raise RunError(f"{path} is damaged: {why}; restore a copy, or train again") from None
