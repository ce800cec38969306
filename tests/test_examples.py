"""Every example runs, asserts its claims, and draws its picture."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted(Path(__file__).parents[1].joinpath("examples").glob("[0-9]*.py"))
SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in EXAMPLES}
SLOW = {"00", "03", "05", "06", "07", "08", "14", "16", "17", "22", "23", "24"} | {
    str(n) for n in range(25, 32)
}  # these take seconds
LONG = {"10_attention_step_by_step"}  # one question with ten answers; the others have fewer than 200 lines


def test_the_examples_are_numbered_without_gaps_and_are_short() -> None:
    assert [stem[:2] for stem in SOURCES] == [f"{n:02}" for n in range(len(SOURCES))]
    assert len(SOURCES) > 24 and {stem[:2] for stem in SOURCES} >= SLOW
    assert {stem for stem, source in SOURCES.items() if source.count("\n") > 200} == LONG


@pytest.mark.parametrize("stem", SOURCES)
def test_an_example_asks_a_question_in_cells_and_asserts_its_answer(stem: str) -> None:
    source = SOURCES[stem]
    assert "?" in source.splitlines()[0]
    assert source.count("\n# %% ") >= 2
    assert "\nassert " in source or "\n    assert " in source
    if '"--plot"' in source:
        assert f'"{stem}.png"' in source and "`--plot` draws" in source.replace("\n", " ")


CAN_DRAW = importlib.util.find_spec("matplotlib") is not None
DRAWS = [stem for stem, source in SOURCES.items() if '"--plot"' in source]
# A slow example that draws runs once: with its picture where pictures can be drawn, else without.
PLAIN = [stem for stem in SOURCES if not (CAN_DRAW and stem in DRAWS and stem[:2] in SLOW)]


@pytest.mark.parametrize("stem", [pytest.param(stem, marks=[pytest.mark.slow] * (stem[:2] in SLOW)) for stem in PLAIN])
def test_example(stem: str, tmp_path: Path) -> None:
    run(stem, tmp_path)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.slow
@pytest.mark.viz
@pytest.mark.parametrize("stem", DRAWS)
def test_example_with_picture(stem: str, tmp_path: Path) -> None:
    run(stem, tmp_path, "--plot")
    picture = (tmp_path / f"{stem}.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000


def run(stem: str, folder: Path, *arguments: str) -> None:
    path = next(path for path in EXAMPLES if path.stem == stem)
    ran = subprocess.run(
        [sys.executable, path, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = [line for line in ran.stderr.splitlines() if not line.startswith("npgpt: compiling kernels")]
    assert said == []  # only the note on compilation is allowed
