"""Damage files at random and read them: python tests/fuzz/fuzz_readers.py --n 20000 --seed 1

Each file is one of: refused (npgpt's error, which names the file), original (the damage is not seen: the value is the
original one), other (another legal value, as after a changed digit). Everything else is a fault: a foreign exception; a
message that is long or names no file; a command that shows control characters; a value that is not sound, or not what
an independent reading gives; another value from a file with a checksum; too much time or memory.

`--only NUMBER` repeats one file of a seed and shows the whole traceback; `--keep DIR` writes it there.
"""

import argparse
import collections
import contextlib
import faulthandler
import io
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from all_readers import READERS
from file_damage import ANY, PACKERS, damage_content, damage_path
from reader import Files, Reader

from npgpt.cli import main
from npgpt.errors import NpgptError
from npgpt.support.terminal import escape_controls

LONGEST_MESSAGE = 500  # characters, without the path
MOST_SECONDS = 20  # of processor time for one file; a file has less than a megabyte
MOST_MEMORY = 800  # MiB more than before; Python itself takes 525 to parse 300,000 brackets that are not closed
OUTCOMES = ("refused", "original", "other", "FAULT")
SEALED = (b"PK\x03\x04", *(mark for _, _, mark in PACKERS.values()))  # formats with a checksum of each byte
AS_A_COMMAND = 0.1  # share of the files that the command line also reads


class TooSlow(BaseException):
    """A file takes too much time."""


class FaultError(Exception):
    """What no reader may do."""


@contextlib.contextmanager
def limited_time() -> Iterator[None]:
    stopped = []

    def stop(*_: Any) -> None:
        stopped.append(True)
        raise TooSlow

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        if stopped:
            raise TooSlow  # a person's file may catch it


def write(folder: Path, name: str, files: Files) -> Path:
    """Write a file, or a folder of files; return its path."""
    path = folder / name
    if "" in files:
        path.write_bytes(files[""])
    else:
        path.mkdir(exist_ok=True)
        for inside, content in files.items():
            (path / inside).parent.mkdir(parents=True, exist_ok=True)
            (path / inside).write_bytes(content)
    return path


def most_memory() -> int:
    """Return the largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)


def same(a: Any, b: Any) -> bool:
    return repr(a) == repr(b)  # NaN equals NaN, 1 is not 1.0 and not True


class Fuzzer:
    """Files number 0, 1, ... of a seed. ``others`` are contents that may stand in the place of a file."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self.others = [content for reader in READERS for files in reader.samples.values() for content in files.values()]
        self.originals: dict[tuple[str, str], Any] = {}

    def original(self, reader: Reader, sample: str) -> Any:
        """Return the value of the files before any damage."""
        if (reader.name, sample) not in self.originals:
            (self.folder / reader.name).mkdir(exist_ok=True)
            path = write(self.folder / reader.name, sample, reader.samples[sample])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.originals[reader.name, sample] = reader.read(path)
        return self.originals[reader.name, sample]

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        folder = self.folder / "place"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def damaged(self, number: int, folder: Path) -> tuple[Reader, str, str, bool, Path]:
        """Write a file; return its reader, the sample, the damage, whether a checksum must notice it, and its path."""
        rng = random.Random(f"{self.seed}/{number}")
        reader = READERS[number % len(READERS)]
        sample = rng.choice(list(reader.samples))
        path = write(folder, sample, reader.samples[sample])
        inside = rng.choice(list(reader.samples[sample]))
        target = path / inside if inside else path
        if rng.random() < 0.03:
            places = [path, target, *([target.parent] if "/" in inside else [])]
            return reader, sample, damage_path(rng, rng.choice(places)), inside.startswith(reader.sealed), path
        content = reader.samples[sample][inside]
        ways, changed = [], content
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            way, changed = damage_content(rng, changed, self.others)
            ways.append(way)
        target.write_bytes(changed)
        sealed = content.startswith(SEALED) and set(ways) <= {damage.__name__ for damage in ANY} - {"double_part"}
        sealed = (sealed and changed.startswith(SEALED)) or inside.startswith(reader.sealed)
        return reader, sample, f"{', '.join(ways)} of {inside or 'file'}", sealed, path

    def outcome(self, number: int, show: bool = False) -> tuple[Reader, str, str]:
        """Return the reader, the outcome, and what was done to the file or found wrong."""
        with self.place() as folder:
            reader, sample, way, sealed, path = self.damaged(number, folder)
            before = most_memory()
            try:
                with limited_time():
                    found = self.judged(reader, path, self.original(reader, sample), sealed)
                    if reader.command and random.Random(number).random() < AS_A_COMMAND:
                        as_a_command(reader.command(path))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                if show:
                    traceback.print_exc()
                found = "FAULT"
                way += f" of {sample}: {type(error).__name__}: {str(error)[:150]}"
            grown = most_memory() - before
            if grown > max(MOST_MEMORY, reader.most_memory):
                found, way = "FAULT", f"{way} of {sample}: {grown} MiB of memory"
            return reader, found, way

    def judged(self, reader: Reader, path: Path, original: Any, sealed: bool) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                value = reader.read(path)
            except NpgptError as error:
                check_message(str(error), path)
                return "refused"
            except OSError as error:
                if error.errno is None or error.filename is None:
                    raise
                check_message(f"{error.filename}: {error.strerror}", path)
                return "refused"
            if same(value, original):
                return "original"
            if sealed:
                raise FaultError(f"another value in spite of a checksum: {str(value)[:80]}")
            if not reader.sound(value):
                raise FaultError(f"not sound: {str(value)[:80]}")
            if reader.witness and not same(value, witnessed := reader.witness(path)):
                raise FaultError(f"read {str(value)[:60]}; the file says {str(witnessed)[:60]}")
            return "other"


def check_message(message: str, path: Path) -> None:
    if str(path) not in message:
        raise FaultError(f"the message does not name the file: {message[:100]}")
    shown = escape_controls(message.replace(str(path), ""), keep="")
    if len(shown) > LONGEST_MESSAGE:
        raise FaultError(f"a message of {len(shown)} characters: {message.replace(str(path), '')[:80]}")


def as_a_command(arguments: list[str]) -> None:
    """Run a command; check that it ends well and shows no control characters."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), np.errstate(all="ignore"):
        main(arguments)
    for stream in (out if arguments[0] != "sample" else err, err):  # a sample goes into a pipe as it is
        if bad := [c for c in stream.getvalue() if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]:
            raise FaultError(f"npgpt {arguments[0]} shows {bad[0]!r}")


def table(counts: dict[str, collections.Counter[str]]) -> str:
    rows = [("reader", *OUTCOMES)]
    total: collections.Counter[str] = collections.Counter()
    for name, found in counts.items():
        rows.append((name, *(str(found[outcome]) for outcome in OUTCOMES)))
        total += found
    rows.append(("all", *(str(total[outcome]) for outcome in OUTCOMES)))
    return "\n".join(f"{row[0]:<28}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows)


def run(n: int, seed: int, first: int = 0) -> int:
    """Read n files; print the table of outcomes and each fault. Return the number of faults."""
    counts = {reader.name: collections.Counter[str]() for reader in READERS}
    faults = 0
    with tempfile.TemporaryDirectory(prefix="npgpt-fuzz-") as folder:
        fuzzer = Fuzzer(seed, Path(folder))
        for number in range(first, first + n):
            print(f"\r{number}", end="", file=sys.stderr, flush=True)  # the last one, if the process dies
            reader, found, way = fuzzer.outcome(number)
            counts[reader.name][found] += 1
            if found == "FAULT":
                faults += 1
                print(
                    escape_controls(f"file {number} of seed {seed}, {reader.name}, {way}".replace(folder, ""), keep="")
                )
    print(f"\n{n} files from {first}, seed {seed}\n{table(counts)}")
    return faults


if __name__ == "__main__":
    faulthandler.enable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    if options.keep:
        fuzzer = Fuzzer(options.seed, options.keep)
        options.keep.mkdir()
        print(*fuzzer.damaged(options.only, options.keep)[1:])
    elif options.only is not None:
        print(Fuzzer(options.seed, Path(tempfile.mkdtemp())).outcome(options.only, show=True)[1:])
    else:
        sys.exit(run(options.n, options.seed, options.first) > 0)
