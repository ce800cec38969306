"""The text files that a person means by names, folders and patterns, and their texts."""

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npgpt.core.values import path as check_path
from npgpt.core.values import shown
from npgpt.errors import ConfigError, DataError
from npgpt.support.compressed import open_bytes
from npgpt.support.files import read_text


@dataclass
class Texts:
    """What ``read_files`` has read.

    Attributes
        texts: one string for each file.
        files: (path, size in bytes) of each of these files, in the same order.
        left_out: files of folders and patterns that are blank or no UTF-8 text; also broken links and pipes.
    """

    texts: list[str] = field(default_factory=list)
    files: list[tuple[Path, int]] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)


def read_files(paths: Sequence[str | Path]) -> Texts:
    """Read the files that some names mean (``expand_paths``), each one once; they may be compressed (``read_text``).

    A file that is blank or no UTF-8 text is an error if it was named. In a folder, or among the files that match a
    pattern, it is left out.

    Raises
        DataError, or ConfigError if a file is named twice.
    """
    paths = _checked(paths)
    named = {_identity(path) for path in paths if not path.is_dir()}
    found = Texts()
    for path in expand_paths(paths):
        try:
            if _identity(path) not in named and not _may_be_text(path):
                raise DataError(f"{path} is not a text")
            text = read_text(path)
            if not text.strip():
                raise DataError(f"{path} is empty or contains only white space; give another text")
        except DataError:
            if _identity(path) in named:
                raise
            found.left_out.append(path)
            continue
        found.texts.append(text)
        found.files.append((path, path.stat().st_size))
    if found.left_out and not found.texts:
        raise DataError(
            f"none of the {len(found.left_out)} files that were found is a UTF-8 text with visible characters; the "
            f"first is {found.left_out[0]}; give text files"
        )
    return found


def expand_paths(paths: Sequence[str | Path]) -> list[Path]:
    """Return the files that some names mean, each file once.

    - The name of a file means this file, also if it looks like a pattern.
    - The name of a folder means the files in it and in the folders below it, in the order of their names by code
      points, which is the same on every machine. Hidden files and folders, whose names begin with a dot, and run
      folders are left out.
    - A pattern with ``*``, ``?`` or ``[`` means the files and folders that match it; ``**`` is any number of folders.

    Raises
        DataError if a folder has no file or nothing matches a pattern; ConfigError if a file or folder is named twice.
    """
    paths = _checked(paths)
    named: set[object] = set()
    files: dict[object, Path] = {}
    for path in paths:
        pattern = glob.has_magic(str(path)) and not os.path.lexists(path)
        if not pattern and _identity(path) in named:
            raise ConfigError(f"the text {path} is given twice; give each text once")
        if not pattern:
            named.add(_identity(path))
        found = [file for match in _matches(str(path)) for file in _files_of(match)] if pattern else _files_of(path)
        if not pattern and holds_a_run(path):
            raise DataError(f"{path} is a run folder, not a folder of texts; give the texts")
        if not found and pattern:
            raise DataError(f"no file matches {path}; correct the pattern, or give the name of a file or a folder")
        if not found:
            raise DataError(f"the folder {path} has no file (hidden ones do not count); give a folder of text files")
        for file in sorted(found, key=lambda file: file.parts):  # Windows would order paths without regard to case
            files.setdefault(_identity(file), file)
    return list(files.values())


def _checked(paths: Sequence[str | Path]) -> list[Path]:
    if isinstance(paths, str | bytes | os.PathLike) or not isinstance(paths, Iterable):
        raise DataError(f"read_texts: paths must be a list of paths, not {shown(paths)}; put it into a list")
    return [check_path("read_texts", "paths", path) for path in paths]


def _identity(path: Path) -> object:
    """Return what two names of one file or folder have in common."""
    try:
        status = path.stat()
    except OSError:  # it does not exist
        return str(path)
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _files_of(path: Path) -> list[Path]:
    """Return the files in a folder and below it; a file is its own list."""
    if not path.is_dir():
        return [path]
    return [file for folder in _folders_of(path) for file in _visible(folder) if not file.is_dir()]


def _folders_of(path: Path) -> list[Path]:
    """Return a folder and those below it, each one once, so that links in a circle have an end."""
    found: dict[object, Path] = {}
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        if _identity(folder) not in found:
            found[_identity(folder)] = folder
            waiting += [below for below in _visible(folder) if below.is_dir() and not holds_a_run(below)]
    return list(found.values())


def holds_a_run(folder: Path) -> bool:
    """Whether it is a run folder of npgpt, whose files are no texts."""
    try:
        with open(folder / "run.json", "rb") as file:
            return b'"npgpt-run"' in file.read(4096)
    except OSError:  # there is none, or it may not be read
        return False


def _visible(folder: Path) -> list[Path]:
    return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]


def _matches(pattern: str) -> list[Path]:
    """Expand a pattern. ``glob`` would follow links in a circle at ``**``, so the folders come from ``_folders_of``."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return [Path(name) for name in glob.glob(pattern)]
    at = parts.index("**")
    starts = _matches(os.path.join(*parts[:at])) if at else [Path()]
    folders = [folder for start in starts if start.is_dir() for folder in _folders_of(start)]
    after = parts[at + 1 :] or ("*",)
    return [found for folder in folders for found in _matches(os.path.join(glob.escape(str(folder)), *after))]


def _may_be_text(path: Path) -> bool:
    """Whether it is a file (no pipe, no broken link) without a NUL near its start: a video is not read as a whole."""
    if not path.is_file():
        return False
    with open_bytes(path) as file:
        return b"\0" not in file.read(1 << 16)
