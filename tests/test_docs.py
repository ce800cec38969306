"""The documents beside README.md: their links, tables, lists and Python are right."""

import re
import warnings
from pathlib import Path

import pytest

from npgpt import layers
from npgpt.core import Layer
from npgpt.study.check.laws import LAWS
from npgpt.study.table import table
from npgpt.version import __version__

ROOT = Path(__file__).parents[1]
ROAD = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ["examples/README.md", "benchmarks/README.md", "CONTRIBUTING.md"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name: str) -> None:
    document = ROOT / name
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (document.parent / link).exists()] == []
    files = re.findall(r"\b(?:benchmarks|examples|npgpt|tests)/[a-z0-9_/-]+\.\w+", text)
    assert len(files) > 5 and [file for file in files if not (ROOT / file).exists()] == []
    assert name != "examples/README.md" or len(links) > 30


def test_every_program_is_named() -> None:
    examples = [path.name for path in (ROOT / "examples").glob("[0-9]*.py")]
    benchmarks = [path.name for path in (ROOT / "benchmarks").glob("bench_*.py")]
    assert len(examples) >= 17 and not [name for name in examples if f"`{name}`" not in ROAD]
    measured = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert len(benchmarks) >= 9 and not [name for name in benchmarks if f"benchmarks/{name}`" not in measured]


def test_the_table_of_layers_is_the_one_that_is_made() -> None:
    assert table() in ROAD
    kinds = [name for name, kind in vars(layers).items() if isinstance(kind, type) and issubclass(kind, Layer)]
    assert len(kinds) > 20 and not [name for name in kinds if f"`{name}`" not in table()]


def test_every_law_is_listed() -> None:
    laws = " ".join(ROAD[ROAD.index("over random shapes: ") :].split())
    assert laws[: laws.index(".")].count(";") + 1 == len(LAWS)


def test_the_python_of_the_road_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", ROAD, re.MULTILINE | re.DOTALL)
    assert [name for name in ("train_run(", "trace(", "assert_obeys_laws(") if not any(name in b for b in blocks)] == []
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("The cat sat on the mat. The dog sat on the log.\n" * 200)
    for block in blocks:
        names: dict[str, object] = {"__name__": "block"}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "only .* merges")  # so short a book has few
            exec(block.replace("steps=300", "steps=2"), names)
        if callable(test := names.get("test_gate")):
            test()
    assert Path("runs/mine/model.safetensors").exists()


def test_the_citation_has_the_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
