"""The front door: one import gives every public name, and typical notebook code runs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import npgpt

NOTEBOOK = """
import npgpt, numpy as np
text = open("book.txt").read()
model, steps = npgpt.GPTConfig(n_layer=1, n_head=2, n_embd=16), npgpt.TrainConfig(steps=20)
run = npgpt.train_run(npgpt.RunConfig(model=model, train=steps), [text])
print(run.tokenizer.decode(npgpt.generate(run.model, run.tokenizer.encode("The "), 30)))
run.save("runs/mine")
again = npgpt.load_run("runs/mine")
print(npgpt.gradcheck(npgpt.layers.LayerNorm(8), np.random.randn(2, 3, 8)))
print(npgpt.trace(again.model, np.array([[1, 2, 3]]), np.array([[2, 3, 4]])))
"""


def run_alone(code: str, folder: Path) -> str:
    """Return the output of a new Python process."""
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.filterwarnings("ignore")
def test_notebook_code_runs(tmp_path: Path) -> None:
    assert len(NOTEBOOK.strip().splitlines()) < 12
    (tmp_path / "book.txt").write_text("The cat sat on the mat. The dog sat on the log.\n" * 200)
    said = run_alone(NOTEBOOK, tmp_path)
    assert "LayerNorm: 6 of 6 arrays checked, all right" in said
    assert "Trace of GPT" in said
    assert (tmp_path / "runs/mine/checkpoints").exists()


def test_every_name_is_stable_in_any_order(tmp_path: Path) -> None:
    """The second access could return a submodule of the same name instead."""
    names = sorted(set(npgpt.__all__) - {"__version__"})
    code = """
import sys, types, npgpt
names = sys.argv[1].split()
first = {name: getattr(npgpt, name) for name in names}
second = {name: getattr(npgpt, name) for name in reversed(names)}
assert all(first[name] is second[name] for name in names)
modules = {name for name in names if isinstance(first[name], types.ModuleType)}
assert modules == {"layers", "compiled"}, modules
assert npgpt.layers is sys.modules["npgpt.layers"] and npgpt.compiled is sys.modules["npgpt.compiled"]
assert set(names) <= set(dir(npgpt))
from npgpt import *
"""
    for order in (names, names[::-1]):
        ran = subprocess.run([sys.executable, "-c", code, " ".join(order)], capture_output=True, encoding="utf-8")
        assert ran.returncode == 0, ran.stderr


def test_import_loads_neither_numpy_nor_numba(tmp_path: Path) -> None:
    code = "import sys, npgpt; print({'numpy', 'numba', 'regex', 'safetensors', 'tqdm'} & set(sys.modules))"
    assert run_alone(code, tmp_path) == "set()\n"
    light = [
        "GPT",
        "GPTConfig",
        "TrainConfig",
        "RunConfig",
        "Layer",
        "Param",
        "Cache",
        "layers",
        "make_gpt",
        "generate",
    ]
    code = f"import sys, npgpt; [getattr(npgpt, name) for name in {light}]; print('numba' in sys.modules)"
    assert run_alone(code, tmp_path) == "False\n"


def test_names_for_type_checkers_equal_the_exported_names() -> None:
    tree = ast.parse(Path(npgpt.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed: dict[str, str] = {}
    modules = []
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            typed[str(node.module)] = " ".join(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            modules += [alias.name.removeprefix("npgpt.") for alias in node.names]
    assert typed == npgpt.HOMES
    assert tuple(modules) == npgpt.MODULES
    assert sorted(npgpt.__all__) == sorted([*" ".join(typed.values()).split(), *modules, "__version__"])


def test_unknown_name_error_lists_the_names() -> None:
    with pytest.raises(AttributeError, match="npgpt has no 'GTP'; it has GPT, "):
        npgpt.GTP  # noqa: B018
