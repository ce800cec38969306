"""``npgpt train`` stops, goes on, and starts from other weights; ``npgpt sample`` says which weights it takes."""

import json
import shutil
from pathlib import Path

import pytest

from npgpt.cli import main

TEXT = "The cat sat on the mat. The dog sat on the log. The frog sat on the rock.\n" * 40
TINY = """--n-layer=1 --n-head=1 --n-embd=8 --context-length=8 --tokenizer=char
          --steps=6 --eval-every=2 --batch-size=2""".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    assert main(["train", "--text", "text.txt", *TINY, "--keep", "5", "--save-at", "1,3"]) == 0
    capsys.readouterr()


def train(*flags: str, code: int = 0) -> None:
    assert main(["train", *flags]) == code


def weights(run: str, step: int) -> bytes:
    return Path(run, "checkpoints", str(step), "model.safetensors").read_bytes()


def test_the_same_command_with_resume_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    for step in (4, 6):
        shutil.rmtree(f"runs/1/checkpoints/{step}", ignore_errors=step == 4)
    whole = "runs/whole"
    train("--text", "text.txt", *TINY, "--out", whole)
    assert {path.name for path in Path("runs/1/checkpoints").iterdir()} == {"0", "1", "2", "3"}
    train("--text", "text.txt", *TINY, "--resume", "runs/1")
    assert "going on from step 3\n" in capsys.readouterr().out
    assert weights("runs/1", 6) == weights(whole, 6)
    steps = [json.loads(line)["step"] for line in Path("runs/1/metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 2, 4, 6]
    train("--resume", "runs/1")
    assert "all 6 steps were done before; a larger --steps goes on" in capsys.readouterr().out
    train("--resume", "runs/1", "--steps", "8")
    assert "a new schedule of the learning rate, with a warm-up, leads to step 8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--resume runs/1 --out other", "--resume goes on in the folder of its run; leave --out out"),
        ("--resume runs/1 --overwrite", "leave --overwrite out"),
        ("--resume runs/1 --init runs/1", "leave --init out"),
        ("--resume runs/1 --n-embd 16", "n_embd is 16, but the run has 8"),
        ("--resume runs/1 --preset small", "but the run has"),
        ("--resume runs/1 --steps 5", "steps is the total, 5, but the run has done 6"),
        ("--resume runs/1 --text other.txt", "other.txt is not the one that the run began with, "),
        ("--resume runs/2", "runs/2 is not a folder"),
        ("--resume runs", "runs is not a run folder"),
        ("--resume=", "--resume is empty"),
        ("--init runs/1 --n-layer 2", "n_layer is 2, but the weights of --init are those of a model with 1"),
        ("--init runs/1 --tokenizer word", "tokenizer is word, but the weights of --init"),
        ("--save-at 1,x", "must be whole numbers with commas, as 0,1,10, not '1,x'"),
        ("--save-at=-1", "save_at must be a list of whole numbers from 0"),
        ("--keep=-1", "keep must be at least 0"),
        ("--preset smal", "did you mean small?"),
    ],
)
def test_what_cannot_go_on_is_refused(flags: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.txt").write_text(TEXT.upper())
    train(*flags.split(), code=2)
    assert says in capsys.readouterr().err


def test_a_run_starts_from_the_weights_of_another(capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.txt").write_text("The hen sat on the egg.\n" * 60)
    train(
        "--init",
        "runs/1",
        "--text",
        "other.txt",
        "--steps",
        "2",
        "--batch-size",
        "2",
        "--dropout",
        "0.1",
        "--save-at",
        "0",
    )
    assert weights("runs/2", 0) == weights("runs/1", 6)
    assert Path("runs/2/tokenizer.json").read_bytes() == Path("runs/1/tokenizer.json").read_bytes()


def test_sample_says_which_weights_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = [json.loads(line) for line in Path("runs/1/metrics.jsonl").read_text().splitlines()]
    assert min(metrics, key=lambda row: row["val_loss"])["step"] == 6
    said = {}
    for flags in ((), ("--last",), ("runs/1/checkpoints/3",), ("runs/1/checkpoints/2",)):
        assert main(["sample", *flags, "--max-tokens", "2"]) == 0
        said[flags] = capsys.readouterr().err
    loss = {row["step"]: f"{row['val_loss']:.3f}" for row in metrics}
    assert said[()] == said["--last",] == f"note: runs/1: the weights of step 6, validation loss {loss[6]}\n"
    assert said["runs/1/checkpoints/3",] == "note: runs/1: the weights of step 3, not evaluated\n"
    assert said["runs/1/checkpoints/2",] == f"note: runs/1: the weights of step 2, validation loss {loss[2]}\n"
