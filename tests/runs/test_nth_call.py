"""The n-th call that writes fails, or the process ends there, for n = 1, 2, ...: no file is damaged, nothing is lost.

``python tests/runs/test_nth_call.py`` prints the n of the last call that failed, for each operation.
"""

import errno
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

if not hasattr(os, "fork"):
    pytest.skip("the processes that end are forked", allow_module_level=True)

from children import Child
from file_calls import ERRORS, NEEDS_SPACE, Calls, end_process, fail
from operations import OPERATIONS, Operation, quick_picture

from npgpt.errors import NpgptError

PROFILE = os.environ.get("NPGPT_PROFILE", "quick")
EVERY = {"quick": 31, "ci": 11, "deep": 1}[PROFILE]  # one n of so many is tried
CHANGES = NEEDS_SPACE | {"truncate", "rename", "replace", "unlink", "rmdir"}


def failing(folder: Path, n: int, how: int) -> Calls:
    """Return calls of which the n-th fails; or from it on all that need space, or all that change something."""
    if how % 7 == 5:
        return Calls(folder, n, fail(errno.ENOSPC, NEEDS_SPACE), onwards=True)
    if how % 7 == 6:
        return Calls(folder, n, fail(errno.EROFS, CHANGES), onwards=True)
    return Calls(folder, n, fail(ERRORS[how % 7]))


def fails(operation: Operation, folder: Path, n: int, how: int) -> bool:
    """Let the n-th call fail, and check what follows. Return whether there was an n-th call."""
    with quick_picture():
        with Calls(folder).counted():
            folder.mkdir()
            operation.prepare(folder)
        announced: list[int] = []
        error: Exception | None = None
        try:
            with failing(folder, n, how).counted() as calls:
                operation.run(folder, announced.append)
        except (NpgptError, OSError) as caught:
            error = caught
        where = f"call {n}, way {how % 7}: {calls.seen[n - 1] if n <= len(calls.seen) else 'none'}; error: {error}"
        try:
            if error is None:
                operation.after(folder)
            else:
                named = f"{getattr(error, 'filename', '') or ''} {error}"
                assert str(folder) in named, "the error names no file"
                with Calls(folder).counted():
                    operation.after_failure(folder, announced)
        except Exception as problem:
            raise AssertionError(where) from problem
    return n <= len(calls.seen)


def last_failing(operation: Operation, home: Path, every: int) -> int:
    """Let calls fail, one at a time, until there is no call left. Return the n of the last one."""
    n, last = 1, 0
    while fails(operation, home / str(n), n, n // every):
        shutil.rmtree(home / str(n))
        n, last = n + every, n
    return last


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_nth_call_fails(name: str, tmp_path: Path) -> None:
    assert last_failing(OPERATIONS[name], tmp_path, EVERY if "train" in name or "Run" in name else 1) > 3


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_process_ends_at_the_nth_call(name: str, tmp_path: Path) -> None:
    operation, every = OPERATIONS[name], EVERY if "train" in name or "Run" in name else 1
    n, code = 1, -signal.SIGKILL
    while code:
        folder = tmp_path / str(n)
        folder.mkdir()
        with quick_picture(), Calls(folder).counted():
            operation.prepare(folder)
        way = ("before", "after", "half")[n // every % 3]
        calls = Calls(folder, n, end_process(way))
        with quick_picture(), calls.counted():
            code, announced = Child(lambda announce: operation.run(folder, announce)).end()  # noqa: B023
        assert code in (0, -signal.SIGKILL)
        if code:
            with quick_picture(), Calls(folder).counted():
                try:
                    operation.after_failure(folder, announced)
                except Exception as problem:
                    raise AssertionError(f"ended {way} call {n}") from problem
        shutil.rmtree(folder)
        n += every
    assert n > 4


def table() -> None:
    """Print the n of the last call that failed, for each operation."""
    for name, operation in OPERATIONS.items():
        with tempfile.TemporaryDirectory() as home:
            print(f"{name:<28} {last_failing(operation, Path(home), 1):>5}", flush=True)


if __name__ == "__main__":
    table()
