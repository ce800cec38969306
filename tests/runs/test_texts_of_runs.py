"""The texts of a run that goes on: moved, renamed, changed, more or fewer than before; other working folders."""

import dataclasses
import itertools
import os
from pathlib import Path

import pytest
from tiny import small

from npgpt.config import RunConfig
from npgpt.errors import DataError
from npgpt.runs import Run, load_run, train_run
from npgpt.runs.resume import asked_config


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three texts, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    for name in "abc":
        Path("texts", f"{name}.txt").write_text(f"The {name} cat sat on the mat.\n" * 9)
    return tmp_path


def of(*texts: str) -> RunConfig:
    config = small(layers="textbook")
    return dataclasses.replace(config, data=dataclasses.replace(config.data, text=list(texts)))


def stop_after(number: int) -> Run:
    config = of("texts")
    done: list[int] = []
    stop = {"on_step": lambda run, step: done.append(step.number), "stop": lambda: number in done}
    return train_run(config, out="run", **stop)


def go_on(folder: str = "run") -> Run:
    return train_run(asked_config(Path(folder), {}), resume=folder)


def test_texts_with_other_names_give_the_same_bits(home: Path) -> None:
    stop_after(4)
    wanted = load_run("run", last=True).model.flat.values.tobytes()
    os.rename("run", "whole")
    stop_after(3)
    Path("texts/a.txt").rename("texts/z.txt")
    assert go_on().model.flat.values.tobytes() == wanted


def test_a_run_goes_on_from_another_working_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(3)
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    assert go_on("../run").complete


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda: Path("texts/aa.txt").write_text("new\n"), r"aa\.txt was not there when the run began"),
        (lambda: Path("texts/d.txt").write_text(Path("texts/a.txt").read_text()), r"d\.txt was not there when"),
        (lambda: Path("texts/b.txt").unlink(), r"b\.txt of the run is missing now"),
        (lambda: Path("texts/b.txt").write_text("new\n"), r"b\.txt is not the one that the run began with, .*b\.txt"),
    ],
    ids=["one more", "a copy more", "one fewer", "another"],
)
def test_other_texts_are_named(change: object, says: str, home: Path) -> None:
    stop_after(3)
    change()  # type: ignore[operator]
    with pytest.raises(DataError, match=says):
        go_on()


def test_a_text_that_is_no_utf_8_now_is_named(home: Path) -> None:
    done = itertools.count()
    train_run(of("texts/a.txt"), out="run", stop=lambda: next(done) > 20)
    Path("texts/a.txt").write_text("Überall\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"a\.txt is not UTF-8 text"):
        go_on()


def test_the_whole_disk_is_not_searched(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from npgpt.runs import resume

    searched: list[str] = []
    monkeypatch.setattr(resume, "_files", lambda folder: searched.append(str(folder)) or iter(()))
    assert resume._moved({"name": os.path.abspath("/no such disk/text"), "sha256": ""}) is None
    assert set(searched) == {os.getcwd()}
    assert resume._moved({"name": "a" * 5000 + "\0", "sha256": ""}) is None
