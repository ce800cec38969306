"""Damaged files of every kind are refused with npgpt's error, or read as what they hold; every reader is among them."""

import ast
import collections
import inspect
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("the limits of time and memory are those of Unix", allow_module_level=True)

from all_readers import NOT_READERS, READERS
from fuzz_readers import FaultError, Fuzzer, same, write
from reader import Reader, function

import npgpt
from npgpt.errors import DataError

ROOT = Path(npgpt.__file__).parent
N = 20_000 if os.environ.get("NPGPT_PROFILE") == "deep" else 2_000


def functions_with_paths() -> set[str]:
    """Return the public functions and methods with a parameter whose type has a Path in it."""
    found = set()
    for file in ROOT.rglob("*.py"):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        homes = [(module, tree), *((f"{module}.{n.name}", n) for n in tree.body if isinstance(n, ast.ClassDef))]
        for home, node in homes:
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
                    types = [ast.unparse(argument.annotation) for argument in item.args.args if argument.annotation]
                    found |= {f"{home}.{item.name}"} if any("Path" in kind for kind in types) else set()
    return found


def test_every_function_that_takes_a_path_is_fuzzed_or_reads_nothing() -> None:
    covered = {name for reader in READERS for name in reader.covers}
    assert functions_with_paths() == covered | set(NOT_READERS)
    assert not covered & set(NOT_READERS)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_reader_calls_the_functions_that_it_covers(reader: Reader, tmp_path: Path) -> None:
    called = set()
    sample, files = next(iter(reader.samples.items()))
    path = write(tmp_path, sample, files)
    sys.setprofile(lambda frame, event, argument: called.add(frame.f_code))
    try:
        reader.read(path)
    finally:
        sys.setprofile(None)
    for name in reader.covers:
        plain = inspect.unwrap(function(name))
        assert getattr(plain, "__func__", plain).__code__ in called, name


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_compressed_files_and_files_of_windows_are_read_alike(reader: Reader, tmp_path: Path) -> None:
    values = collections.defaultdict(list)
    for sample, files in reader.samples.items():
        name = re.sub(r"^windows-|\.(gz|bz2|xz)$", "", sample)
        name = "same" if name in ("folder", "windows", "old", "unix.py", "windows.py") else name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values[name].append(reader.read(write(tmp_path, sample, files)))
    for first, *others in values.values():
        assert reader.sound(first) and all(same(other, first) for other in others)


@pytest.mark.slow
def test_damaged_files_are_refused_or_read_as_what_they_hold() -> None:
    command = [sys.executable, str(Path(__file__).with_name("fuzz_readers.py")), "--n", str(N), "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-300:]


def test_a_number_and_a_seed_give_the_same_file(tmp_path: Path) -> None:
    def contents(folder: Path) -> list[Any]:
        folder.mkdir()
        fuzzer, found = Fuzzer(7, folder), []
        for number in range(300):
            with fuzzer.place() as place:
                _, sample, way, sealed, path = fuzzer.damaged(number, place)
                files = [file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()]
                found.append((sample, way, sealed, files, path.read_bytes() if path.is_file() else None))
        return found

    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def raises(error: Exception) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        raise type(error)(str(error).replace("PATH", str(path)))

    return read


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (raises(KeyError("x")), "x"),
        (raises(DataError("is damaged")), "does not name the file"),
        (raises(DataError("PATH" + "x" * 501)), "a message of 501 characters"),
        (lambda path: "unsound", "not sound"),
        (lambda path: "sound", "the file says"),
    ],
    ids=["foreign", "no name", "long", "unsound", "another value"],
)
def test_faults_are_seen(read: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    reader = Reader("r", (), {}, read, lambda value: value != "unsound", lambda path: "what it holds")
    with pytest.raises((FaultError, KeyError), match=says):
        Fuzzer(0, tmp_path).judged(reader, tmp_path / "file", "original", sealed=False)


def test_another_value_is_a_fault_in_a_file_with_a_checksum(tmp_path: Path) -> None:
    reader = Reader("r", (), {}, lambda path: "another")
    assert Fuzzer(0, tmp_path).judged(reader, tmp_path, "original", sealed=False) == "other"
    assert Fuzzer(0, tmp_path).judged(reader, tmp_path, "another", sealed=True) == "original"
    with pytest.raises(FaultError, match="in spite of a checksum"):
        Fuzzer(0, tmp_path).judged(reader, tmp_path, "original", sealed=True)
