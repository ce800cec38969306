"""Our own solutions pass, an empty file does not, and every mistake is found."""

from pathlib import Path

import pytest

from npgpt.cli import main
from npgpt.errors import ConfigError, DataError
from npgpt.study.exercises import EXERCISES, FunctionExercise, check_file, draw_broken, find, mutants_of
from npgpt.study.exercises.function_exercise import Mistake
from npgpt.study.exercises.layer_exercise import MARK
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


MISTAKES = [(name, m) for name, e in EXERCISES.items() if isinstance(e, FunctionExercise) for m in e.mistakes]


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[f"{name}: {m.says}" for name, m in MISTAKES])
def test_each_mistake_in_a_function_is_named(name: str, mistake: Mistake, tmp_path: Path) -> None:
    exercise = find(name)
    assert isinstance(exercise, FunctionExercise)
    said = judged(tmp_path, exercise.with_mistake(mistake))
    assert f"The same happens if {mistake.says}" in " ".join(said.split()), said


ADD_AT = "np.add.at(self.weight.grad, ids, dy)"
SOFTMAX_BACK = 'self.softmax.backward(dweights, cache.scope("softmax"))'
DROPOUT_BACK = 'self.dropout.backward(ddropped, cache.scope("dropout"))'
NORM_BACK = 'self.mlp_norm.backward(dmlp_input, cache.scope("mlp_norm"))'
FIRST_ANSWERS = [  # a text of the solution, what a beginner writes instead, and what helps
    ("windows", "return x, y", "pass", "returned None. End the function with: return x, y"),
    ("windows", "return x, y", "return x, y + 1", "row 0 of y is [102, 103, 104, 105], expected [101, 102"),
    ("windows", "for start in starts", "for start in stars", 'start + context] for start in stars'),
    ("windows", "return x, y", "return x", "returned an array of the shape (4, 4), expected 2 values"),
    ("linear", "return cache", "cache", "returned nothing (None), expected dx. End it with: return dx"),
    ("linear", "rows(x).T @ rows(dy)", "x.T @ dy", "In this line self.weight.grad.shape = ("),
    ("linear", "rows(x).T @ rows(dy)", "x.T @ dy", "x.T reverses all 3 axes: use swapaxes"),
    ("linear", 'cache["x"]', "self.x", 'That name belongs to forward. Read what forward kept: cache["x"].'),
    ("linear", "self.weight.value.T", "self.weight.T", "A Param holds two arrays: its numbers, .value, and"),
    ("linear", "self.bias.grad += rows(dy).sum(0)", "", "Linear: dbias is wrong. dbias["),
    ("linear", "weight.grad +=", "weight.grad =", "a law is broken: Backward adds to the parameters' gradients"),
    ("softmax", "return ds", "pass", "End it with: return ds"),
    ("softmax", "dw - (dw * w).sum(-1, keepdims=True)", "dw * (1 - w)", "Softmax: ds is wrong. ds["),
    ("softmax", ", keepdims=True))  # 1.", "))", "In this line w.shape = ("),
    ("softmax", 'cache.note("weights", dw)', "", 'Add cache.note("weights", ...)'),
    ("softmax", "ds: Array = w * (dw", "dw -= (dw * w).sum(-1)[..., None]; ds = w * (dw - 0 ", "Work on a new array"),
    ("cross-entropy", " * counted[..., None]", "", "CrossEntropy-ignore: dlog_probabilities is wrong."),
    ("cross-entropy", "(dloss / count)", "dloss", "CrossEntropy: dlog_probabilities is wrong. dlog_probabilities["),
    ("cross-entropy", "return dlogits", "return", "returned nothing (None), expected dlogits"),
    ("cross-entropy", "np.zeros_like(log_probabilities)", "np.zeros(log_probabilities.shape)", "is float64, and makes"),
    ("embedding", ADD_AT, "self.weight.grad[ids] += dy", "Embedding: dweight is wrong. dweight["),
    ("embedding", ADD_AT, "return dy", "expected nothing. The layer has no float input"),
    ("embedding", "self.weight.grad, ids", "weight * 0, ids", "Embedding: dweight is wrong. dweight["),
    ("positions", "dy.sum(0)", "dy", "In this line self.weight.grad.shape = ("),
    ("positions", "dy.sum(0)", "dy.mean(0)", "LearnedPositions: dweight is wrong. dweight["),
    ("positions", "return dy", "return dy.sum(0)", "LearnedPositions: dx is wrong. dx has the shape ("),
    ("layer-norm", "dxhat - dxhat.mean(-1, keepdims=True) - xhat", "dxhat - xhat", "LayerNorm: dx is wrong. dx["),
    ("layer-norm", " - xhat * along", "", "LayerNorm: dx is wrong. dx["),
    ("layer-norm", "dy * self.gain.value", "dy", "LayerNorm: dxhat is wrong. dxhat["),
    ("layer-norm", "(dy * xhat).sum(rows)", "(dy * xhat).sum(0)", "In this line self.gain.grad.shape = ("),
    ("gelu", " + du * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * (x * x))", "", "TanhGELU: dx is wrong. dx["),
    ("gelu", "0.5 * dy * (1 + t) + du", "du", "TanhGELU: dx is wrong. dx["),
    ("gelu", "du * SQRT_2_OVER_PI", "du", "TanhGELU: dx is wrong. dx["),
    ("one-head", "return dw, dv", "return dw", "expected dw, dv. End it with: return dw, dv"),
    ("one-head", "return dw, dv", "return dv, dw", "Return dw, dv, in this order."),
    ("one-head", "v.swapaxes(-1, -2)", "v.T", "v.T reverses all 4 axes"),
    ("one-head", "w.swapaxes(-1, -2)", "w", "Mixing: dv is wrong. dv["),
    ("causal", " * visible(q.shape[-2])", "", "Scores: dk is wrong. dk["),
    ("causal", " / math.sqrt(q.shape[-1])  # 1.", "", "Scores: dk is wrong. dk["),
    ("causal", "* visible(q.shape[-2])", "* visible(q.shape[-1])", "In this line ds.shape = ("),
    ("causal", "ds.swapaxes(-1, -2) @ q", "ds @ q", "Scores: dk is wrong. dk["),
    ("multi-head", "self._cut(self.projection", "(self.projection", "mixed has"),
    ("multi-head", SOFTMAX_BACK, "dweights", "self.softmax.backward(d..., cache"),
    ("multi-head", '("k", dk), ("v", dv)', '("v", dv), ("k", dk)', "So self.qkv.backward got a wrong gradient"),
    ("multi-head", DROPOUT_BACK, "ddropped", "Attention-dropout: dweights is wrong"),
    ("residual-block", "dmiddle + dbranch", "dbranch", "Block: dx is wrong. dx["),
    ("residual-block", "attention.backward(dattended", "attention.backward(dy", "self.attention.backward got a wrong"),
    ("residual-block", NORM_BACK, "dmlp_input", "self.mlp_norm.backward(d..."),
    ("residual-block", '("mlp_norm"))) ', '("norm"))) ', "attention_norm, attention, mlp_norm, mlp."),
    ("squared-error", " * 2 / y.size", " / y.size", "MeanSquaredError: dt is wrong. dt["),
    ("squared-error", "-dy)", "dy)", "MeanSquaredError: dt is wrong. dt["),
    ("squared-error", ", cache.note(\"t\", -dy)", "", "expected dy, dt"),
    ("lora", "self.B.grad += self.scale *", "self.B.grad +=", "LoRA: dB is wrong. dB["),
    ("lora", " + rows(dh) @ self.A.value.T", "", "LoRA: dx is wrong. dx["),
    ("lora", "rows(x).T @ rows(dh)", "rows(x).T @ rows(dy)", "In this line self.A.grad.shape = ("),
    ("tied-head", "(rows(x) @ weight.T)", "(rows(x) @ weight)", "weight.shape = ("),  # in forward
    ("tied-head", "rows(dy).T @ rows(x)", "rows(x).T @ rows(dy)", "In this line self.weight.grad.shape = ("),
    ("tied-head", "rows(dy) @ weight)", "rows(dy) @ weight.T)", "weight.T.shape = ("),
    ("tied-head", "self.weight.grad += rows(dy).T @ rows(x)", "", "VocabularyHead: dweight is wrong. dweight["),
    ("adamw", "return theta, m, v", "return theta", "expected 3 values. End the function with: return theta, m, v"),
    ("adamw", "m / (1 - beta1**t)", "m / (t - t)", "m_hat = m / (t - t)"),
    ("adamw", "* g * g", "* g * g * g", "v is 0.00625, expected 0.0125. It is a running mean of g²"),
    ("bpe-merge", "return merged", "return", "returned None. End the function with: return result"),
    ("bpe-merge", "return merged", "ids[:] = merged; return ids", "changed its argument ids: work on a copy"),
    ("bpe-merge", "merged.append(ids[i])", "merged.append(str(ids[i]))", "result is a list of 3, expected a list of 3"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "right", "wrong", "helps"), FIRST_ANSWERS, ids=[f"{a[0]}: {a[2]}" for a in FIRST_ANSWERS]
)
def test_a_first_wrong_answer_gets_a_sentence_that_helps(
    name: str, right: str, wrong: str, helps: str, tmp_path: Path
) -> None:
    solution = find(name).solution()
    assert right in solution
    said = judged(tmp_path, solution.replace(right, wrong))
    assert helps in " ".join(said.split()), said
    assert "usual mistake" not in said  # none explains it
    assert "npgpt/" not in said and "site-packages" not in said  # the user's lines alone


def test_every_exercise_has_three_first_answers() -> None:
    assert all(sum(answer[0] == name for answer in FIRST_ANSWERS) >= 3 for name in EXERCISES)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_task_and_each_hint_fit_a_narrow_terminal_and_say_something(name: str) -> None:
    exercise = find(name)
    comments = [line for line in exercise.template().splitlines() if line.startswith("#")]
    assert all(len(line) <= 80 for text in (*comments, *exercise.hints) for line in text.splitlines())
    assert all(len(hint) > 30 for hint in exercise.hints) and len(exercise.hints) >= 2


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
    with pytest.raises(DataError, match=r"line 2, `x = stars`: NameError: name 'stars'"):
        judged(tmp_path, f"{MARK}linear\nx = stars")


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
