"""The documents beside README.md: their links, commands, tables, lists and Python are right."""

import importlib
import pkgutil
import re
import shlex
import tomllib
import warnings
from pathlib import Path

import pytest

from npgpt import layers
from npgpt.cli import make_parser
from npgpt.cli.exit_codes import MEANINGS
from npgpt.core import Layer
from npgpt.study.check.laws import LAWS
from npgpt.study.table import table
from npgpt.support.variables import VARIABLES
from npgpt.version import __version__

ROOT = Path(__file__).parents[1]
ROAD = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ["examples/README.md", "benchmarks/README.md", "CONTRIBUTING.md"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_point_to_files(name: str) -> None:
    document = ROOT / name
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (document.parent / link).exists()] == []
    files = re.findall(r"\b(?:benchmarks|examples|npgpt|tests)/[a-z0-9_/-]+\.\w+", text)
    assert len(files) > 5 and [file for file in files if not (ROOT / file).exists()] == []
    assert name != "examples/README.md" or len(links) > 30


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(name: str) -> None:
    cells = 0
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not cells or bars in (0, cells), line
        cells = bars


@pytest.mark.parametrize("name", [*DOCUMENTS, "README.md"])
def test_every_command_is_one_that_npgpt_takes(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    commands = re.findall(r"`npgpt ([^`]+)`", text) + re.findall(r"^\.venv/bin/npgpt (.+)$", text, re.MULTILINE)
    for command in commands:
        arguments = shlex.split(command)
        if "--help" not in arguments:
            make_parser().parse_args(arguments)
    assert commands


def test_every_program_is_named() -> None:
    examples = [path.name for path in (ROOT / "examples").glob("[0-9]*.py")]
    benchmarks = [path.name for path in (ROOT / "benchmarks").glob("bench_*.py")]
    assert len(examples) >= 17 and not [name for name in examples if f"`{name}`" not in ROAD]
    measured = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert len(benchmarks) >= 9 and not [name for name in benchmarks if f"benchmarks/{name}`" not in measured]


def test_the_table_of_layers_is_up_to_date() -> None:
    assert table() in ROAD
    kinds = [name for name, kind in vars(layers).items() if isinstance(kind, type) and issubclass(kind, Layer)]
    assert len(kinds) > 20 and not [name for name in kinds if f"`{name}`" not in table()]
    for row in table().splitlines()[2:]:
        name, _, cases, mistakes, _ = (cell.strip() for cell in row.strip("|").split("|"))
        assert cases, f"{name} has no case in npgpt/study/check/cases.py"
        assert not mistakes.startswith("0"), f"{name} has no mistakes in npgpt/study/mutants"


def test_every_layer_is_exported() -> None:
    for module in pkgutil.iter_modules(layers.__path__, "npgpt.layers."):
        for name, kind in vars(importlib.import_module(module.name)).items():
            if isinstance(kind, type) and issubclass(kind, Layer) and kind.__module__ == module.name:
                assert getattr(layers, name, None) is kind, f"{name} is not in npgpt/layers/__init__.py"


def test_every_law_is_listed() -> None:
    laws = " ".join(ROAD[ROAD.index("over random shapes: ") :].split())
    assert laws[: laws.index(".")].count(";") + 1 == len(LAWS)


def test_python_blocks_of_the_examples_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", ROAD, re.MULTILINE | re.DOTALL)
    assert [name for name in ("train_run(", "trace(", "assert_obeys_laws(") if not any(name in b for b in blocks)] == []
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("The cat sat on the mat. The dog sat on the log.\n" * 200)
    called = 0
    for block in blocks:
        names: dict[str, object] = {"__name__": "block"}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "only .* merges")  # a short text gives few merges
            exec(block.replace("steps=300", "steps=2"), names)
        for test in [found for name, found in names.items() if name.startswith("test_")]:
            assert callable(test)
            arguments = [(of.values[0],) for mark in getattr(test, "pytestmark", ()) for of in mark.args[1]] or [()]
            for given in arguments:
                test(*given)
            called += 1
    assert called == 2
    assert Path("runs/mine/checkpoints").exists()


def test_the_citation_has_the_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_tables_of_exit_codes_and_variables_are_those_of_the_code() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    rows += [f"| `{name}` | {meaning} |" for name, meaning in VARIABLES.items()]
    assert [row for row in rows if row not in text.splitlines()] == []


def test_the_description_of_the_package_has_no_links() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] in project["readme"]["text"] and "](" not in project["readme"]["text"]
