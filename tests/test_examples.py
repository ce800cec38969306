"""Every example runs, and asserts its claims."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted(Path(__file__).parents[1].joinpath("examples").glob("[0-9]*.py"))
SLOW = {"00", "03", "05", "06", "07", "11", "13", "18", "19", "20"}  # these take seconds


def test_there_are_examples() -> None:
    assert (
        [path.stem[:2] for path in EXAMPLES] == [f"{n:02}" for n in range(len(EXAMPLES))]
        and len(EXAMPLES) > 20
        and {path.stem[:2] for path in EXAMPLES} >= SLOW
    )


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=[pytest.mark.slow] * (path.stem[:2] in SLOW), id=path.stem) for path in EXAMPLES]
)
def test_example(path: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = [line for line in ran.stderr.splitlines() if not line.startswith("npgpt: compiling kernels")]
    assert said == []  # only the note on compilation is allowed
    assert path.read_text(encoding="utf-8").splitlines()[0].count("?"), "the first line asks the question"
