"""Our own solutions pass, an empty file does not, and every mistake is found."""

from pathlib import Path

import pytest

from npgpt.cli import main
from npgpt.errors import ConfigError, DataError
from npgpt.study.exercises import EXERCISES, FunctionExercise, check_file, draw_broken, find, mutants_of
from npgpt.study.exercises.catalogue import MARK
from npgpt.study.mutants import Mutant


def judged(tmp_path: Path, text: str) -> str:
    path = tmp_path / "file.py"
    path.write_text(text, encoding="utf-8")
    return check_file(path)[1]


def test_there_are_enough_in_the_order_of_the_road() -> None:
    assert len(EXERCISES) >= 14 and next(iter(EXERCISES)) == "windows" and list(EXERCISES)[-1] == "bpe-merge"


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_right_and_the_template_is_not(name: str, tmp_path: Path) -> None:
    exercise = find(name)
    assert judged(tmp_path, exercise.solution()) == ""
    assert "not written yet" in judged(tmp_path, exercise.template())
    assert len(exercise.hints) >= 1 and all(hint.strip() for hint in exercise.hints)
    assert exercise.template().count("raise NotImplementedError") == 1


MUTANTS = [(name, mutant) for name, exercise in EXERCISES.items() for mutant in mutants_of(exercise)]


@pytest.mark.parametrize(("name", "mutant"), MUTANTS, ids=[mutant.name for _, mutant in MUTANTS])
def test_every_broken_file_fails(name: str, mutant: Mutant, tmp_path: Path) -> None:
    exercise = find(name)
    assert not isinstance(exercise, FunctionExercise)
    broken = exercise.broken(mutant)
    assert broken != exercise.solution()
    said = judged(tmp_path, broken)
    assert said and "backward raised" not in said, said


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("windows", "start + 1 :", "start :"),
        ("windows", "len(ids) - context,", "len(ids) - context + 1,"),
        ("adamw", "1 - beta1**t", "1.0"),
        ("adamw", "(v_hat**0.5 + eps)", "(v_hat + eps) ** 0.5"),
        ("adamw", "rate * decay * theta", "decay * theta"),
        ("bpe-merge", "i += 2", "i += 1"),
    ],
)
def test_wrong_functions_fail(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    solution = find(name).solution()
    assert right in solution
    assert judged(tmp_path, solution.replace(right, wrong))


def test_what_is_no_exercise_is_refused(tmp_path: Path) -> None:
    for text, said in (
        ("x = 1", "lacks the line"),
        (f"{MARK}linear\nx = ", "does not run"),
        (f"{MARK}linear\nraise SystemError('no')", "does not run"),
    ):
        with pytest.raises(DataError, match=said):
            judged(tmp_path, text)
    with pytest.raises(ConfigError, match="did you mean"):
        judged(tmp_path, f"{MARK}linaer\n")
    assert "no class Linear" in judged(tmp_path, f"{MARK}linear\n")
    assert "no function merge" in judged(tmp_path, f"{MARK}bpe-merge\n")
    assert "raised" in judged(tmp_path, find("bpe-merge").solution().replace("merged = []", "merged = 1 / 0"))


def test_broken_files_are_drawn_by_seed() -> None:
    assert draw_broken(None, 3) == draw_broken(None, 3)
    assert len({draw_broken(None, seed)[1].name for seed in range(30)}) > 10
    assert draw_broken("linear", 1)[0].name == "linear"
    with pytest.raises(ConfigError, match="no broken file"):
        draw_broken("adamw", 0)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["exercise", "list"]) == 0
    assert main(["exercise", "start", "linear"]) == 0
    assert main(["exercise", "start", "linear"]) == 2  # nothing of the reader's is written over
    assert "exists already" in capsys.readouterr().err
    assert main(["exercise", "check", "linear.py"]) == 1
    assert main(["exercise", "hint", "linear", "2"]) == 0
    assert "more: npgpt exercise hint linear 3" in capsys.readouterr().out
    assert main(["exercise", "hint", "linear", "9"]) == 2
    assert main(["exercise", "solution", "linear"]) == 0
    Path("mine.py").write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["exercise", "check", "mine.py"]) == 0
    assert "linear: right. Next: npgpt exercise start softmax" in capsys.readouterr().out
    assert main(["exercise", "broken", "linear"]) == 0
    assert main(["exercise", "check", "linear_broken.py"]) == 1
    assert main(["exercise", "check", "nowhere.py"]) == 2
