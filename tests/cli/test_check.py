"""``npgpt check``: one line for a layer, the layers of a person's file, the tests that it writes, its old name."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import person_files
import pytest

import npgpt.layers as layers
import npgpt.testing
from npgpt.cli import main
from npgpt.cli.exit_codes import ExitCode
from npgpt.core import Array, Cache

CapSys = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def check(capsys: CapSys, text: str, *flags: str, name: str = "mine.py", what: str = "") -> tuple[int, str]:
    """Write a file and check it; return the exit code and what was printed."""
    Path(name).write_text(text, encoding="utf-8")
    code = main(["check", name + what, *flags])
    return code, capsys.readouterr().out


def verdicts(shown: str) -> dict[str, tuple[str, str]]:
    """Return layer -> its verdict and the number of its arrays, from the lines of a listing."""
    rows = [line.split() for line in shown.splitlines() if " of " in line and not line.startswith(" ")]
    return {row[0]: (row[1], " ".join(row[2:5])) for row in rows}


def test_a_right_layer_gets_one_line(capsys: CapSys) -> None:
    code, shown = check(capsys, person_files.NORM)
    assert code == ExitCode.FINE
    assert shown.startswith("running your code in mine.py\n")
    assert verdicts(shown) == {"LayerNorm": ("right", "3 of 3")}
    assert "run as LayerNorm(5).forward(x (3, 5))" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_wrong_layer_gets_the_cell_and_the_name_of_the_mistake(capsys: CapSys) -> None:
    code, shown = check(capsys, person_files.BROKEN_NORM)
    assert code == ExitCode.WRONG
    assert verdicts(shown) == {"LayerNorm": ("WRONG", "3 of 3")}
    assert "WRONG input x" in shown and "expected" in shown
    assert "WRONG param" not in shown
    assert shown.splitlines()[-1].endswith("WRONG: LayerNorm")
    text = person_files.NORM.replace("(dx - self.xhat * (d * self.xhat).mean(axis=-1, keepdims=True))", "dx")
    shown = check(capsys, text, name="lost.py")[1]
    assert "WRONG input x" in shown and "dx lacks the " in shown


def test_a_layer_that_renews_what_it_made_of_its_weights_is_not_accused(capsys: CapSys) -> None:
    """Its gradients are right for the weights that it was made with, and nobody has told it that they moved."""
    text = person_files.NORM.replace("np.zeros(dim), eps", "np.zeros(dim), eps\n        self.copy = self.gamma.copy()")
    code, shown = check(capsys, text.replace("d = dout * self.gamma", "d = dout * self.copy"))
    assert code == ExitCode.UNDECIDED and "WRONG" not in shown


@pytest.mark.parametrize(
    ("text", "arrays"),
    [
        (
            person_files.COURSE,
            {
                "affine_forward": 3, "batchnorm_forward": 3, "conv_forward_naive": 3, "rnn_step_forward": 5,
                "word_embedding_forward": 1,
            },
        ),
        (person_files.FROM_SCRATCH, {"Affine": 3, "Embedding": 1, "SoftmaxWithLoss": 1, "Head": 2}),
        (person_files.LIKE_TORCH, {"Linear": 3, "Heads": 3, "LSTMCell": 4, "Pool": 1}),
        (person_files.FUNCTIONS, {"sigmoid": 1, "tanh": 1, "mse": 1, "bce_loss": 1, "log": 1, "softmax": 1}),
    ],
)  # fmt: skip
def test_right_layers_in_the_styles_of_other_people(text: str, arrays: dict[str, int], capsys: CapSys) -> None:
    _, shown = check(capsys, text)
    assert verdicts(shown) == {name: ("right", f"{n} of {n}") for name, n in arrays.items()}


@pytest.mark.parametrize(
    ("text", "right", "wrong", "layer"),
    [
        (person_files.COURSE, "x.reshape(x.shape[0], -1).T @ dout, dout.sum", "w * 0, dout.sum", "affine_forward"),
        (person_files.COURSE, "- xhat * (d * xhat).mean(axis=0)", "", "batchnorm_forward"),
        (person_files.COURSE, "1 - h**2", "1 - h", "rnn_step_forward"),
        (person_files.COURSE, "np.add.at(dW, x, dout)", "dW[x] += dout", "word_embedding_forward"),
        (person_files.FROM_SCRATCH, "np.sum(dout, axis=0)", "np.mean(dout, axis=0)", "Affine"),
        (person_files.FROM_SCRATCH, "dout * dx / len(dx)", "dout * dx", "SoftmaxWithLoss"),
        (person_files.LIKE_TORCH, "g.T @ x", "g.T @ x / len(x)", "Linear"),
        (person_files.LIKE_TORCH, "/ self.k**2", "", "Pool"),
        (person_files.FUNCTIONS, "s * (1 - s)", "s * (1 + s)", "sigmoid"),
        (person_files.FUNCTIONS, "2 * (y_pred - y_true)", "(y_pred - y_true)", "mse"),
        (person_files.FUNCTIONS, "- y / p", "+ y / p", "bce_loss"),
        (person_files.FUNCTIONS, "dy / x", "dy * x", "log"),
    ],
)  # fmt: skip
def test_mistakes_in_the_styles_of_other_people(text: str, right: str, wrong: str, layer: str, capsys: CapSys) -> None:
    assert right in text
    code, shown = check(capsys, text.replace(right, wrong))
    found = verdicts(shown)
    assert code == ExitCode.WRONG
    assert {name for name, (verdict, _) in found.items() if verdict == "WRONG"} >= {
        n for n in found if n.startswith(layer)
    }
    assert any(name.startswith(layer) for name in found)


def test_a_loss_inside_of_backward_is_no_reason_to_accuse(capsys: CapSys) -> None:
    code, shown = check(capsys, person_files.STEP)
    assert code == ExitCode.UNDECIDED
    assert "WRONG" not in shown
    assert "y may be something else, such as a target" in " ".join(shown.split())


def test_a_table_that_nobody_trains_is_a_constant_and_another_array_is_not_checked(capsys: CapSys) -> None:
    text = person_files.NORM.replace("np.zeros(dim), eps", "np.zeros(dim), eps\n        self.pe = np.arange(dim) / 9")
    text = text.replace("return self.gamma * self.xhat", "return self.pe + self.gamma * self.xhat")
    code, shown = check(capsys, text)
    assert code == ExitCode.FINE and "run as LayerNorm(5).forward(x (3, 5)); constant: pe" in shown
    code, shown = check(capsys, text.replace("pe", "extra"))
    assert code == ExitCode.UNDECIDED and "NOT CHECKED array extra" in shown
    assert "say it in Python: npgpt.gradcheck(lambda: LayerNorm(5), rng.normal(size=(3,\n" in shown


def test_a_batch_that_backward_does_not_take_is_mentioned(capsys: CapSys) -> None:
    text = person_files.NORM.replace("axes = tuple", "assert dout.ndim == 1\n        axes = tuple")
    shown = " ".join(check(capsys, text)[1].split())
    assert "run as LayerNorm(5).forward(x (5,)). With a batch, backward raised AssertionError" in shown


def test_what_cannot_be_built_is_listed_with_three_lines(capsys: CapSys) -> None:
    text = (
        person_files.NORM
        + "class Wrapped(LayerNorm):\n    def __init__(self, plan):\n        super().__init__(plan.width)\n"
    )
    code, shown = check(capsys, text)
    assert code == ExitCode.UNDECIDED
    assert "NOT BUILT Wrapped: no guess for plan\n" in shown
    lines = [line.strip() for line in shown.splitlines()]
    start = lines.index("import npgpt, mine")
    assert lines[start + 1] == "layer = mine.Wrapped(...)  # give its arguments: plan"
    assert lines[start + 2].startswith("print(npgpt.gradcheck(layer, x))")
    assert lines[-1] == "1 layer, 3 arrays: all right; NOT BUILT: Wrapped"
    assert "NOT BUILT Sequential: no guess for *layers" in check(capsys, person_files.LIKE_TORCH, name="more.py")[1]


def test_one_class_or_function_or_object_of_a_file(capsys: CapSys) -> None:
    for name in ("affine_forward", "affine_backward"):
        assert verdicts(check(capsys, person_files.COURSE, what=f":{name}")[1]).keys() == {"affine_forward"}
    text = person_files.NORM + "norm = LayerNorm(9)\n"
    assert "run as norm.forward(x (3, 9))" in check(capsys, text, what=":norm", name="other.py")[1]
    assert main(["check", "mine.py:afine_forward"]) == ExitCode.USAGE
    assert "mine.py has no layer 'afine_forward'; did you mean affine_forward?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("empty.py", "", "empty.py holds no layer: a class with forward and backward, or functions"),
        ("half.py", "x = 1 /\n", "half.py, line 1 is not Python: invalid syntax: `x = 1 /`"),
        ("binary.py", "a\0b", "binary.py is not Python"),
        ("long.py", f"x = {'(' * 10**6}", "long.py, line 1 is not Python: too many nested parentheses: `x = (((("),
        ("says.py", "raise ValueError('x' * 10**6)", "line 1: `raise ValueError('x' * 10**6)` raised ValueError: xxx"),
        ("mute.py", "class E(Exception):\n    __str__ = None\nraise E\n", "line 3: `raise E` raised E: E"),
        ("skips.py", "raise type('Skipped', (BaseException,), {})()", "raised Skipped"),
        ("zero.py", "\nx = 1 / 0\n", "zero.py, line 2: `x = 1 / 0` raised ZeroDivisionError: division by zero"),
        ("away.py", "import nowhere_to_be_found\n", "line 1: `import nowhere_to_be_found` raised ModuleNotFoundError"),
        ("asks.py", "n = int(input())\n", "`n = int(input())` asks for input; put it below `if __name__"),
        ("ends.py", "import sys\nsys.exit(0)\n", "ends.py, line 2: `sys.exit(0)` ends Python"),
        ("reads.py", "open('weights.npy')\n", "`open('weights.npy')` raised FileNotFoundError"),
        ("sub/reads.py", "open('weights.npy')\n", "run the command there: cd sub"),
        ("notes.txt", "hello", "notes.txt is no Python file"),
        ("book.ipynb", "{}", "book.ipynb is a notebook"),
        ("sub", None, "sub is a folder; give one of its files: it has no .py file"),
        ("nowhere.py", None, "nowhere.py is not a file"),
        ("Liner", None, "no layer 'Liner' to check; did you mean Linear? (A file of yours ends in .py)"),
    ],
)
def test_a_file_that_cannot_be_used(name: str, text: str | None, says: str, capsys: CapSys) -> None:
    Path("sub").mkdir()
    if text is not None:
        Path(name).write_text(text)
    assert main(["check", name]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error and len(error) < 500


def test_a_file_of_windows_is_checked_and_utf_16_is_explained(capsys: CapSys) -> None:
    Path("bom.py").write_bytes(b"\xef\xbb\xbf" + person_files.NORM.replace("\n", "\r\n").encode())
    assert main(["check", "bom.py"]) == ExitCode.FINE
    Path("wide.py").write_text("x = 1\n", encoding="utf-16")
    Path("loop.py").symlink_to("loop.py")
    capsys.readouterr()
    for name, says in (("wide.py", "wide.py is UTF-16; convert it first"), ("loop.py", "loop.py is not a file")):
        assert main(["check", name]) == ExitCode.USAGE
        assert says in capsys.readouterr().err


def test_a_file_that_imports_reads_prints_and_has_a_main(capsys: CapSys) -> None:
    Path("sub").mkdir()
    Path("sub/helper.py").write_text("width = 5\n")
    Path("weights.txt").write_text("7")
    text = person_files.NORM.replace(
        "import numpy as np", "import sys\nimport numpy as np\nfrom pathlib import Path\nimport helper"
    ).replace("        self.std =", "        print('forward')\n        self.std =")
    text += "print('hello', sys.argv[1:], Path('weights.txt').read_text())\n"
    text += "if __name__ == '__main__':\n    raise ValueError\n"
    code, shown = check(capsys, text, name="sub/mine.py")
    assert code == ExitCode.FINE
    assert "hello [] 7\n" in shown and "forward\n" not in shown
    assert "your layers print while they are checked" in shown


def test_a_file_in_a_package_and_one_with_an_odd_name(capsys: CapSys) -> None:
    Path("pack").mkdir()
    Path("pack/__init__.py").touch()
    Path("pack/base.py").write_text("import numpy as np\n")
    relative = person_files.NORM.replace("import numpy as np", "from .base import np")
    assert check(capsys, relative, "--write", name="pack/norm.py")[0] == ExitCode.FINE
    assert "from pack.norm import LayerNorm\n" in Path("pack/test_norm.py").read_text()
    unicode = person_files.NORM.replace("LayerNorm", "Größe").replace("gamma", "γ")
    code, shown = check(capsys, unicode, "--write", name="2 größe-a.py")
    assert code == ExitCode.FINE and "Größe(5).forward(x (3, 5))" in shown
    written = Path("test_2 größe-a.py").read_text(encoding="utf-8")
    assert "importlib.import_module('2 größe-a')" in written
    compile(written, "test", "exec")


def test_a_changed_file_is_read_anew(capsys: CapSys) -> None:
    """Python trusts a compiled file of the same second and the same size."""
    wrong = person_files.NORM.replace("dx - self.xhat", "dx + self.xhat")
    assert check(capsys, person_files.NORM)[0] == ExitCode.FINE
    assert check(capsys, wrong)[0] == ExitCode.WRONG


def test_write_leaves_tests_that_pytest_runs(capsys: CapSys) -> None:
    text = person_files.NORM + person_files.FUNCTIONS + person_files.FROM_SCRATCH
    code, shown = check(capsys, text, "--write")
    assert code == ExitCode.FINE
    assert shown.splitlines()[-1] == "wrote test_mine.py: 11 layers; run it with: pytest test_mine.py"
    written = Path("test_mine.py").read_text()
    assert "from npgpt.testing import parametrize_with_laws\n" in written
    assert (
        "@parametrize_with_laws(lambda: LayerNorm(5), rng.normal(size=(3, 5)))\ndef test_LayerNorm(law):\n    law()\n"
    ) in written
    assert "lambda: Affine(rng.normal(size=(5, 7)), rng.normal(size=(7,)))" in written
    assert "backward=mse_prime, constants=['y_true'])" in written
    compile(written, "test_mine.py", "exec")
    assert main(["check", "mine.py", "--write"]) == ExitCode.USAGE
    assert "test_mine.py exists already" in capsys.readouterr().err
    if hasattr(npgpt.testing, "parametrize_with_laws"):
        found = os.pathsep.join([str(Path(npgpt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "pytest", "-q", "test_mine.py"]
        ran = subprocess.run(command, env=os.environ | {"PYTHONPATH": found}, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout


def test_nothing_is_written_if_nothing_was_checked(capsys: CapSys) -> None:
    text = person_files.NORM.replace("dim, eps", "plan, eps")
    assert check(capsys, text, "--write")[0] == ExitCode.USAGE
    assert not Path("test_mine.py").exists()
    assert main(["check", "ReLU", "--write"]) == ExitCode.USAGE
    assert "--write writes tests of the layers in a file" in capsys.readouterr().err


def test_json_is_one_document_in_every_form(capsys: CapSys) -> None:
    text = person_files.BROKEN_NORM.replace("self.std =", "print('forward'); self.std =") + "print('hello')\n"
    code, shown = check(capsys, text, "--json", "--write")
    document = json.loads(shown)
    assert code == ExitCode.WRONG and document["file"] == "mine.py" and document["not_built"] == []
    assert [(layer["name"], layer["verdict"], layer["checked"]) for layer in document["layers"]] == [
        ("LayerNorm", "wrong", 3)
    ]
    assert {c["tensor"] for c in document["layers"][0]["checks"]} == {"input x", "param gamma", "param beta"}
    assert any(c["diagnosis"] for c in document["layers"][0]["checks"])
    assert main(["check", "ReLU", "softmax", "--json"]) == ExitCode.FINE
    assert {check["layer"] for check in json.loads(capsys.readouterr().out)} == {"ReLU", "Softmax"}
    assert main(["check", "--mutants", "scores-without-scale", "--json"]) == ExitCode.FINE
    assert json.loads(capsys.readouterr().out)[0]["killed_by"]


def test_npgpts_own_layers_get_a_line_each(monkeypatch: pytest.MonkeyPatch, capsys: CapSys) -> None:
    assert main(["check", "relu", "Softmax"]) == ExitCode.FINE
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and max(map(len, lines)) <= 80
    assert verdicts("\n".join(lines)) == {"ReLU": ("right", "2 of 2"), "Softmax": ("right", "2 of 2")}
    assert main(["check", "ReLU", "-v"]) == ExitCode.FINE
    assert "ReLU: 2 of 2 arrays checked, all right\ninput x  " in capsys.readouterr().out

    def wrong(self: layers.ReLU, dy: Array, cache: Cache) -> Array:
        return -dy

    monkeypatch.setattr(layers.ReLU, "backward", wrong)
    assert main(["check", "ReLU"]) == ExitCode.WRONG
    assert "WRONG input x" in capsys.readouterr().out


def test_the_old_name_works_with_one_note(capsys: CapSys) -> None:
    assert main(["gradcheck", "--all", "ReLU"]) == ExitCode.FINE
    shown = capsys.readouterr()
    assert verdicts(shown.out) == {"ReLU": ("right", "2 of 2")}
    assert shown.err == "note: npgpt gradcheck is called npgpt check now; the old name works until npgpt 0.2\n"
    main([])
    assert "gradcheck" not in capsys.readouterr().out
