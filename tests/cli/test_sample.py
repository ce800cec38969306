"""``npgpt sample``: prompts, several samples, stop texts, probabilities, JSON, and lines on a terminal."""

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npgpt.cli import main

TEXT = "The cat sat on the mat. The dog sat on the log. The frog sat on the rock.\n" * 40
TINY = """--n-layer=1 --n-head=1 --n-embd=8 --context-length=8 --vocab-size=300
          --steps=4 --eval-every=2 --batch-size=2""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sample")
    (folder / "text.txt").write_text(TEXT)
    assert main(["train", "--text", str(folder / "text.txt"), "--out", str(folder / "run"), *TINY]) == 0
    return str(folder / "run")


def sampled(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["sample", *arguments]) == 0
    return capsys.readouterr().out


def test_a_file_gives_the_prompt(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompt.txt").write_text("The cat")
    expected = sampled(capsys, run, "--prompt", "The cat", "--max-tokens=9")
    assert sampled(capsys, run, "--prompt-file", str(tmp_path / "prompt.txt"), "--max-tokens=9") == expected
    command = [sys.executable, "-m", "npgpt", "sample", run, "--prompt-file=-", "--max-tokens=9"]
    ran = subprocess.run(command, input="The cat", capture_output=True, text=True, check=True)
    assert ran.stdout == expected


def test_several_samples_have_the_next_seeds(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (run, "--prompt", "The", "--max-tokens=9")
    single = [sampled(capsys, *arguments, "--seed", str(seed)) for seed in (4, 5)]
    several = sampled(capsys, *arguments, "--seed=4", "--num-samples=2")
    assert several == f"== seed 4\n{single[0]}== seed 5\n{single[1]}"


def test_a_stop_text_ends_the_text_and_is_not_written(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (run, "--prompt", "The", "--max-tokens=60", "--temperature=2")
    whole = sampled(capsys, *arguments)
    stop = whole[9:12]
    assert sampled(capsys, *arguments, "--stop", stop) == whole[: whole.index(stop, 3)] + "\n"


def test_json_has_every_token(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(sampled(capsys, run, "--prompt", "The", "--max-tokens=6", "--num-samples=2", "--json"))
    assert found["prompt"] == "The" and [sample["seed"] for sample in found["samples"]] == [0, 1]
    for sample in found["samples"]:
        assert len(sample["tokens"]) == 6 and all(token["log_probability"] < 0 for token in sample["tokens"])
    text = sampled(capsys, run, "--prompt", "The", "--max-tokens=6")
    assert text == f"The{found['samples'][0]['text']}\n"


def test_probabilities_are_listed(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (run, "--prompt", "The", "--max-tokens=3")
    tokens = json.loads(sampled(capsys, *arguments, "--json"))["samples"][0]["tokens"]
    lines = sampled(capsys, *arguments, "--show-probs").splitlines()[-3:]
    for line, token in zip(lines, tokens, strict=True):
        assert line.startswith(f"{100 * math.exp(token['log_probability']):5.1f} % {token['text']!r}")
        assert "\x1b" not in line and len(line.split()) >= 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-samples=0"], "--num-samples must be at least 1, not 0"),
        (["--stop="], "--stop must be a text of at least one character"),
        (["--top-p=0"], "top_p must be above 0 and at most 1, not 0"),
        (["--prompt-file=nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["sample", run, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_prompt_and_a_file_are_one_too_many(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", run, "--prompt=a", "--prompt-file=b"]) == 2
    assert "--prompt-file: not allowed with argument --prompt" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_lines_on_a_terminal_are_answered_until_the_end(run: str) -> None:
    """Ctrl-C stops an answer, not the conversation; Ctrl-D ends it."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "npgpt", "sample", run, "--max-tokens=2000000"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            read_until(ours, b"> ")
            for line in (b"The cat\n", b"The dog\n"):
                os.write(ours, line)
                read_until(ours, line.strip())
                read_until(ours, b" ")  # of the answer, which is long
                process.send_signal(signal.SIGINT)
                read_until(ours, b"> ")
            os.write(ours, b"\x04")
            assert process.wait(30) == 0
        finally:
            process.kill()
            os.close(ours)


def read_until(terminal: int, wanted: bytes) -> None:
    seen, deadline = b"", time.monotonic() + 30
    while wanted not in seen:
        assert time.monotonic() < deadline, seen[-500:]
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 1 << 16)
