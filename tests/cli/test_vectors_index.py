"""``npgpt vectors index`` and ``search``: what they find, and refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from npgpt.cli.parser import Parser
from npgpt.cli.vectors_index import add_index_parsers
from npgpt.config import GPTConfig, RunConfig
from npgpt.embeddings import DocumentIndex, WordVectors, save_vectors
from npgpt.embeddings.index import FORMAT
from npgpt.embeddings.search import METHODS
from npgpt.errors import ConfigError, DataError, NpgptError, RunError
from npgpt.model import GPT
from npgpt.runs import Run, load_run
from npgpt.tokenizer import END_OF_TEXT, CharTokenizer

CATS = "The cat sat on the mat.\nCats and kittens purr.\n\nA kitten is a small cat."
WAR = "War and peace are long.\n\nThe general lost the war, and the army went home."


def command(*arguments: str) -> int:
    parser = Parser(prog="npgpt vectors")
    add_index_parsers(parser.add_subparsers(parser_class=Parser))
    options = parser.parse_args(arguments)
    return int(options.run(options) or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("cats.txt").write_text(CATS * 5)
    Path("war.txt").write_text(WAR * 5)
    words = sorted({*(CATS + WAR).lower().replace(".", " ").replace(",", " ").split(), "dog"})
    save_vectors(WordVectors(words, np.random.default_rng(0).normal(size=(len(words), 8))), "words.npz")
    tokenizer = CharTokenizer.train(CATS + WAR)
    config = RunConfig(model=GPTConfig(tokenizer.vocab_size, 16, n_layer=1, n_head=1, n_embd=8))
    Run(config, tokenizer, GPT(config.model)).save("run")
    return tmp_path


NEEDS = {"mean": ("--vectors", "words.npz"), "sif": ("--vectors", "words.npz"), "gpt": ("--run", "run")}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("folder")
def test_index_and_search(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    files = "index", "cats.txt", "war.txt", "--out", "i.safetensors", "--method", method, *NEEDS.get(method, ())
    assert command(*files) == 0
    assert f"2 documents, {DocumentIndex.load('i.safetensors').vectors.shape[1]} numbers each, by {method}" in (
        capsys.readouterr().out
    )
    assert command("search", "i.safetensors", CATS) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].endswith("  cats.txt") and lines[1].strip().startswith("The cat sat")
    assert command("search", "i.safetensors", "the army and the general", "--n", "1") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(RunError, match="exists already"):
        command(*files)
    assert command(*files, "--overwrite") == 0


@pytest.mark.usefixtures("folder")
def test_each_paragraph_is_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    Path("both.txt").write_text(f"{CATS}\n \n\n{WAR}\n\n\n")
    assert command("index", "both.txt", "--paragraphs", "--out", "i") == 0
    assert command("search", "i", "home of an army", "--n", "1") == 0
    assert "both.txt, paragraph 4" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_the_end_of_a_text_separates_documents() -> None:
    Path("three.txt").write_text(f"{CATS}{END_OF_TEXT}{WAR}{END_OF_TEXT} \n{END_OF_TEXT}peace{END_OF_TEXT}")
    Path("one.txt").write_text(f"cats{END_OF_TEXT}\n")
    command("index", "three.txt", "one.txt", "--out", "i")
    index = DocumentIndex.load("i")
    assert index.names == ["three.txt, document 1", "three.txt, document 2", "three.txt, document 3", "one.txt"]
    assert [text[:9] for text in index.texts] == [CATS[:9], WAR[:9], "peace", "cats"]
    command("index", "three.txt", "--paragraphs", "--out", "p")
    assert DocumentIndex.load("p").names == [f"three.txt, paragraph {number}" for number in range(1, 6)]


@pytest.mark.usefixtures("folder")
def test_invalid_arguments_are_rejected() -> None:
    for says, *arguments in (
        ("needs --run DIR", "index", "cats.txt", "--out", "i", "--method", "gpt"),
        ("no other method takes one", "index", "cats.txt", "--out", "i", "--run", "run"),
        ("goes with --method mean or sif", "index", "cats.txt", "--out", "i", "--vectors", "words.npz"),
        ("invalid choice: 'bm25'", "index", "cats.txt", "--out", "i", "--method", "bm25"),
        ("the folder of .* does not exist", "index", "cats.txt", "--out", "nowhere/i"),
        ("is damaged, or not an index", "index", "cats.txt", "--out", "war.txt", "--overwrite"),
        ("is damaged, or not an index", "search", "cats.txt", "cat"),
    ):
        with pytest.raises(NpgptError, match=says):
            command(*arguments)
    assert Path("war.txt").read_text() == WAR * 5
    Path("empty.txt").write_text(" \n")
    with pytest.raises(DataError, match="hold no text"):
        command("index", "empty.txt", "--out", "i")
    command("index", "cats.txt", "--out", "i")
    with pytest.raises(DataError, match="knows no word"):
        command("search", "i", "zebra")
    with pytest.raises(ConfigError, match="--n must be at least 1, not 0"):
        command("search", "i", "cat", "--n", "0")
    with pytest.raises(ConfigError, match="takes no --run"):
        command("search", "i", "cat", "--run", "run")


@pytest.mark.usefixtures("folder")
def test_index_of_a_moved_or_changed_model(capsys: pytest.CaptureFixture[str]) -> None:
    command("index", "cats.txt", "--out", "i", "--method", "gpt", "--run", "run")
    Path("run").rename("moved")
    with pytest.raises(RunError, match="is not a folder"):
        command("search", "i", "cat")
    assert command("search", "i", "cat", "--run", "moved") == 0
    moved = load_run("moved")
    Run(moved.config, moved.tokenizer, GPT(moved.config.model, seed=1)).save("moved", overwrite=True)
    with pytest.raises(RunError, match="is not the one that made i"):
        command("search", "i", "cat", "--run", "moved")


@pytest.mark.parametrize(
    ("method", "change", "says"),
    [
        ("tf-idf", {"method": "other"}, "the method 'other' is unknown"),
        ("tf-idf", {"method": ["tf-idf"]}, "unknown"),
        ("tf-idf", {"words": None}, "damaged"),
        ("tf-idf", {"words": [["a"]]}, "damaged"),
        ("sif", {"words": ["a"]}, "weights has shape"),
        ("pv-dbow", {"pull": "x"}, "pull must be a number"),
        ("pv-dbow", {"negative": 1e999}, "Infinity is not a number of JSON"),
        ("pv-dbow", {"negative": 10**7}, "negative must be at most 1000000"),
        ("pv-dbow", {"words": ["a", "b"]}, "a row for each of 2"),
        ("gpt", {"weights": "0"}, "is not the one"),
        ("gpt", {"run": 5}, "run must be a string"),
        ("gpt", {"run": "x" * 5000}, "is no path"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("folder")
def test_damaged_encoder_is_rejected(method: str, change: dict[str, Any], says: str) -> None:
    command("index", "cats.txt", "war.txt", "--out", "i", "--method", method, *NEEDS.get(method, ()))
    index = DocumentIndex.load("i")
    tensors = {"vectors": index.vectors} | {f"encoder.{name}": array for name, array in index.arrays.items()}
    head = {"version": 1, "names": index.names, "texts": index.texts, "encoder": index.settings | change}
    Path("i").write_bytes(safetensors.numpy.save(tensors, {FORMAT: json.dumps(head)}))
    with pytest.raises(NpgptError, match=says):
        command("search", "i", "cat")


@pytest.mark.usefixtures("folder")
def test_control_characters_in_results_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    name = "red\x1b[31m.txt"
    Path(name).write_text("cat \x1b[2J \x9b cat")
    assert command("index", name, "--out", "i") == 0
    assert command("search", "i", "cat") == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\x9b" not in shown and "red\\x1b[31m.txt" in shown
