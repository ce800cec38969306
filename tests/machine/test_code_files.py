"""Machine code on disk: every damaged file is compiled again, whatever the folder, the disk or the user is like."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.cli import main
from npgpt.machine import code_files
from npgpt.machine.code_files import PACKAGE, read_code, write_code

KEY = "a key"
N_DAMAGED = {"quick": 4, "ci": 20, "deep": 100}[os.environ.get("NPGPT_PROFILE", "quick")]

# Prints two results of kernels. The package's own folder is refused, so that other tests keep their machine code.
PROGRAM = """
import pathlib, sys
mkdir = pathlib.Path.mkdir
def refuse(path, *args, **kwargs):
    if path.is_relative_to(code_files.PACKAGE):
        raise PermissionError(path)
    mkdir(path, *args, **kwargs)
from npgpt.machine import code_files
pathlib.Path.mkdir = refuse
import numpy as np
import npgpt.tokenizer.kernels.decode as decode
from npgpt.kernels import elementwise
from npgpt.machine.pool import pool
x = np.arange(5, dtype=np.float32)
elementwise.scale(pool(), x, 0.5, x)
print(decode.decoded_size(np.array([1, 2], np.uint32), np.array([0, 0, 3, 7])), x)
"""
PRINTED = "7 [0.  0.5 1.  1.5 2. ]\n"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    fresh: set[str] = set()
    monkeypatch.setattr(code_files, "_said", fresh)
    return fresh


def run(home: Path, **variables: str) -> str:
    """Run the program with another cache folder; return what it says on stderr."""
    environment = os.environ | {"XDG_CACHE_HOME": str(home)} | variables
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, PRINTED), done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a cache folder with the code of the program's kernels."""
    home = tmp_path_factory.mktemp("cache")
    run(home)
    return home


def code_of(home: Path) -> list[Path]:
    (folder,) = home.iterdir()
    return sorted(folder.glob(f"*{code_files.SUFFIX}"))


@given(st.binary(max_size=40), st.data())
def test_what_is_read_is_what_was_written_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, code: bytes, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("code")
    write_code(folder, "kernel", KEY, code)
    (path,) = folder.iterdir()
    assert read_code(folder, "kernel", KEY) == code
    assert read_code(folder, "kernel", "another key") is None
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[cut] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (b"", whole[:cut], bytes(flipped), whole + b"\0", bytes(len(whole))):
        path.write_bytes(damaged)
        assert read_code(folder, "kernel", KEY) is None
    path.write_bytes(whole)
    path.rename(code_files._path(folder, "kernel", "another key"))
    assert read_code(folder, "kernel", "another key") is None  # the file of another kernel


@pytest.mark.slow
def test_a_damaged_file_is_compiled_again_after_one_line(home: Path) -> None:
    draw = random.Random(1)
    for number in range(N_DAMAGED):
        path = draw.choice([path for path in code_of(home) if ".decoded_size-" in path.name or ".scale-" in path.name])
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes((whole[: draw.randrange(len(whole))], b"", bytes(flipped), bytes(len(whole)))[number % 4])
        said = run(home)
        assert said == f"npgpt: machine code on disk is damaged and compiled again: {path}\n"
        assert run(home) == ""


@pytest.mark.slow
def test_a_folder_a_pipe_or_a_huge_file_in_place_of_a_file_is_replaced(home: Path) -> None:
    path = next(path for path in code_of(home) if ".decoded_size-" in path.name)
    for kind in ("folder", "pipe", "huge"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            with open(path, "wb") as file:
                file.truncate(1 << 42)
        assert run(home).count("\n") == 1
        assert path.is_file() and run(home) == ""


STRANGERS = """
import sys
from pathlib import Path
from npgpt.machine.compile import kernel
value = float(sys.argv[1])
@kernel
def own(x):
    return x * value
one, two = kernel(lambda x: x + 10), kernel(lambda x: x + 20)
space = {}
exec("def f(x): return x * 2", space)
print(own(1.0), one(1), two(1), kernel(space["f"])(3))
"""


def test_kernels_of_other_people_are_never_stale(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(STRANGERS)
    for value in ("2", "3"):
        command = [sys.executable, tmp_path / "own.py", value]
        environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{value}.0 11 21 6\n"


# A copy of the package: its source is edited, or a number of it is patched, before its kernel is compiled.
EDITED = """
import sys
from pathlib import Path
import npgpt.machine.pool
import numpy as np
home, how = Path(npgpt.__file__).parent, sys.argv[1]
file = home / "kernels" / "elementwise.py"
text = file.read_text()
if how == "edited":
    file.write_text(text.replace("def _combine(", "def _combine_(").replace("_combine, (", "_combine_, (") + "# edited")
import npgpt.kernels.elementwise as elementwise
file.write_text(text)
if how == "patched":
    elementwise.CHUNK = elementwise.CHUNK // 2
x = np.ones(5, np.float32)
elementwise.scale(npgpt.machine.pool.pool(), x, 0.5, x)
"""


@pytest.mark.slow
def test_code_of_an_edited_or_patched_kernel_is_not_found_by_the_next_process(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "npgpt", ignore=shutil.ignore_patterns("__pycache__"))
    kept = []
    for how in ("edited", "patched", "plain", "plain"):
        command = [sys.executable, "-B", "-c", EDITED, how]
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        kept.append((len(list(tmp_path.rglob("*.scale-*.kernel"))), "compiling" in done.stderr))
    assert kept == [(0, True), (1, True), (2, True), (2, False)]


@pytest.mark.slow
def test_processes_may_compile_at_the_same_time(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM]
    running = [subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in running] == [PRINTED] * 3
    assert run(tmp_path) == ""
    (folder,) = tmp_path.iterdir()
    assert not list(folder.glob("*.part"))


def test_without_a_folder_the_message_says_that_each_start_compiles(tmp_path: Path) -> None:
    for home in ("/dev/null/no", str(tmp_path / "file" / "cache")):
        (tmp_path / "file").write_text("")
        assert "compiling kernels for this machine; each start does so" in run(Path(home))


def test_a_user_without_a_home_has_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    for unusable in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert code_files.cache_parents() == [PACKAGE / "__pycache__"]


def test_a_full_disk_is_reported_once(
    tmp_path: Path, said: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    for key in ("a", "b"):
        write_code(tmp_path, "kernel", key, b"code")
    message = f"npgpt: {tmp_path} cannot keep machine code (No space left on device); the next start compiles it again"
    assert capsys.readouterr().err == message + "\n"
    assert not list(tmp_path.iterdir())


def test_folders_of_other_versions_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, user = tmp_path / "npgpt", tmp_path / "user"
    for name in ("npgpt-0123456789abcdef", f"npgpt-{'1' * 16}-{'2' * 8}-checked", "npgpt-notes", "other"):
        for parent in (package / "__pycache__", user):
            (parent / name).mkdir(parents=True)
            (parent / name / "file").write_text("")
    old = user / "npgpt-0123456789abcdef"
    os.utime(old, (0, 0))
    monkeypatch.setattr(code_files, "PACKAGE", package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(user))
    folder = package / "__pycache__" / f"npgpt-{'3' * 16}-{'4' * 8}"
    write_code(folder, "kernel", KEY, b"code")
    assert {path.name for path in folder.parent.iterdir()} == {"npgpt-notes", "other", folder.name}
    assert {path.name for path in user.iterdir()} == {"npgpt-notes", "other", f"npgpt-{'1' * 16}-{'2' * 8}-checked"}


def test_a_folder_elsewhere_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_files, "PACKAGE", tmp_path / "npgpt")
    other = tmp_path / "npgpt" / "__pycache__" / f"npgpt-{'1' * 16}-{'2' * 8}"
    other.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    write_code(tmp_path / "elsewhere", "kernel", KEY, b"code")
    assert other.is_dir()


def test_a_package_that_moved_finds_its_machine_code(tmp_path: Path) -> None:
    """The environment of the child decides where it looks; the copy has its own folder."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    shutil.copytree(PACKAGE, first / "npgpt", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import numpy as np, npgpt.tokenizer.kernels.decode as d; "
    code += "print(d.__file__, d.decoded_size(np.array([1, 2], np.uint32), np.array([0, 0, 3, 7])))"
    for place, says in ((first, "npgpt: compiling"), (second, "")):
        if place == second:
            first.rename(second)
        environment = os.environ | {"PYTHONPATH": str(place)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=place, capture_output=True, text=True)
        assert done.stdout.startswith(str(place)) and done.stdout.endswith(" 7\n")
        assert done.stderr.startswith(says) and bool(done.stderr) == bool(says)


def test_doctor_deletes_the_machine_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(code_files, "PACKAGE", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    folder = tmp_path / "user" / f"npgpt-{'3' * 16}-{'4' * 8}"
    folder.mkdir(parents=True)
    write_code(folder, "kernel", KEY, b"code")
    assert main(["doctor", "--clear-cache"]) == 0
    assert capsys.readouterr().out.startswith("files deleted: 1, 0.0 MiB of compiled kernels and vocabularies")
    assert not folder.exists()
