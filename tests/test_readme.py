"""What the README says is so: its example runs, its table has every layer, its links lead somewhere."""

import re
import warnings
from pathlib import Path

import pytest

from npgpt import layers
from npgpt.core import Layer
from npgpt.study.check.laws import LAWS

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_a_wrong_sign_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "gradcheck(" in block)
    exec(code, {})
    assert "WRONG" not in capsys.readouterr().out
    exec(code.replace('note("x", dy', 'note("x", -dy'), {})
    assert "WRONG" in capsys.readouterr().out


def test_the_lines_that_train_from_python_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "train_run(" in block)
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("The cat sat on the mat. The dog sat on the log.\n" * 200)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "only .* merges")  # so short a book has few
        exec(code.replace("steps=300", "steps=2"), {})
    assert Path("runs/mine/model.safetensors").exists()


def test_every_layer_stands_in_the_table() -> None:
    table = README[README.index("| layer | derivation") : README.index("## Textbook and compiled")]
    kinds = [name for name, kind in vars(layers).items() if isinstance(kind, type) and issubclass(kind, Layer)]
    assert not [name for name in kinds if f"`{name}`" not in table]
    laws = " ".join(table.split())
    assert len(LAWS) == laws[laws.index("random shapes: ") :].count(";") + 1


def test_links_lead_to_files() -> None:
    root = Path(__file__).parents[1]
    assert not [link for link in re.findall(r"\]\(([^)#:]+)\)", README) if not (root / link).exists()]


def test_the_table_of_layers_is_the_one_that_is_made() -> None:
    from npgpt.study.table import table

    assert table() in README
