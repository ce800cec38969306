"""What the fuzzer knows of a reader: valid files, and what may be read from a damaged one.

A damaged file that is read anyway gives the original value, or another one, as a changed digit in a text does. Another
value must be sound, and equal what a witness reads: a few lines that share no code with the reader.
"""

import bz2
import dataclasses
import gzip
import importlib
import lzma
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from file_damage import PACKERS

Files = dict[str, bytes]  # path in a folder -> content; "" for a file that stands alone
BOM = b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader of files or folders.

    Attributes
        covers: the functions that it calls, without "npgpt.".
        samples: name -> valid files.
        read: returns what a file or a folder holds, comparable by its repr.
        sound: whether a value is possible.
        witness: reads a file independently; without one, soundness alone is demanded of another value.
        command: the arguments of a command that shows a file.
        most_memory: a limit in MiB above that of all readers, for work that is not npgpt's.
        sealed: the beginning of the names of files whose damage must be noticed, or make no difference.
    """

    name: str
    covers: tuple[str, ...]
    samples: dict[str, Files]
    read: Callable[[Path], Any]
    sound: Callable[[Any], bool] = lambda value: True
    witness: Callable[[Path], Any] | None = None
    command: Callable[[Path], list[str]] | None = None
    sealed: str = "?"
    most_memory: int = 0


def function(name: str) -> Any:
    """Return a function or a method by its name without "npgpt."."""
    home, _, last = name.rpartition(".")
    is_class = home.rpartition(".")[2][:1].isupper()
    return getattr(function(home) if is_class else importlib.import_module(f"npgpt.{home}"), last)


# ---- valid files


def written(*save: Callable[[Path], Any]) -> list[bytes]:
    """Return the bytes that each function writes to a path."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, str(i)) for i in range(len(save))]
        for write, path in zip(save, paths, strict=True):
            write(path)
        return [path.read_bytes() for path in paths]


def folder_of(save: Callable[[Path], Any]) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder, "made"))
        made = Path(folder, "made")
        files = sorted(path for path in made.rglob("*") if path.is_file())
        return {path.relative_to(made).as_posix(): path.read_bytes() for path in files}


def of_windows(data: bytes) -> bytes:
    return BOM + data.replace(b"\n", b"\r\n")


def packed(name: str, data: bytes, text: bool = True) -> dict[str, Files]:
    """Return the ways in which a file comes: as it is, compressed, and as Windows writes it."""
    ways = {name: data, f"{name}.gz": gzip.compress(data, mtime=0), f"{name}.bz2": bz2.compress(data)}
    ways |= {f"{name}.xz": lzma.compress(data)} | ({f"windows-{name}": of_windows(data)} if text else {})
    return {way: {"": content} for way, content in ways.items()}


# ---- what the witnesses share


def plain(path: Path) -> bytes:
    """Return the content of a file, decompressed and without a byte-order mark."""
    data = path.read_bytes()
    unpacked = next((unpack(data) for _, unpack, mark in PACKERS.values() if data.startswith(mark)), data)
    return unpacked.removeprefix(BOM)


def text_of(path: Path) -> str:
    return plain(path).decode().replace("\r\n", "\n").replace("\r", "\n")


def lines_of(path: Path) -> list[str]:
    """Return the lines that are neither empty nor remarks."""
    return [line for line in text_of(path).split("\n") if line.strip() and not line.startswith(("#", "//"))]
