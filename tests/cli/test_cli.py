"""The command line as a person meets it: what it prints, what it writes, what it refuses, and with which exit code."""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import npgpt
from npgpt import layers
from npgpt.cli import main
from npgpt.config import RunConfig
from npgpt.core import Array, Cache
from npgpt.tokenizer import BPETokenizer, CharTokenizer

WEIGHTS = "checkpoints/4/model.safetensors"
TEXT = "The cat sat on the mat. The dog sat on the log. The frog sat on the rock.\n" * 40
TINY = """--n-layer=1 --n-head=1 --n-embd=8 --context-length=8 --vocab-size=300
          --steps=4 --eval-every=2 --batch-size=2""".split()  # noqa: SIM905


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    return "text.txt"


@pytest.fixture
def trained(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["train", "--text", text, "--out", "run", *TINY]) == 0
    capsys.readouterr()
    return "run"


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """Run a command that must fail with this exit code and one message; return the message."""
    capsys.readouterr()
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "error: " in error
    return error


def files(folder: str) -> dict[Path, bytes]:
    """Return every file in a folder, but for the lock."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and path.name != "lock"}


def test_train_writes_a_run_folder(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--text", text, *TINY]) == 0
    out = capsys.readouterr().out
    assert "unigram" in out
    assert "bigram" in out
    assert out.count("sample: ") == 3  # before, during, after
    assert "npgpt sample runs/1" in out
    names = {path.name for path in Path("runs/1").iterdir()}
    assert names - {"loss.png"} == {"run.json", "lock", "config.toml", "tokenizer.json", "metrics.jsonl", "checkpoints"}
    rows = [json.loads(line) for line in Path("runs/1/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert all(row.keys() >= {"step", "train_loss", "val_loss", "tokens_per_s"} for row in rows)
    assert rows[0].keys() >= {"unigram_loss", "bigram_loss"}
    assert rows[2]["tokens_per_s"] > 0


def test_saved_configuration_gives_the_same_run(trained: str) -> None:
    assert main(["train", "--config", "run/config.toml", "--out", "again"]) == 0
    assert Path(f"again/{WEIGHTS}").read_bytes() == Path(f"run/{WEIGHTS}").read_bytes()
    assert Path("again/config.toml").read_text() == Path("run/config.toml").read_text()


def test_flags_override_the_file_and_the_file_overrides_defaults(text: str) -> None:
    Path("c.toml").write_text("[model]\nn_layer = 2\nn_head = 2\n[train]\nseed = 5\n")
    assert main(["train", "--text", text, "--config", "c.toml", *TINY, "--no-tie-weights", "--out", "run"]) == 0
    config = RunConfig.load("run/config.toml")
    assert (config.model.n_layer, config.model.n_head, config.train.seed) == (1, 1, 5)
    assert not config.model.tie_weights
    assert config.data.text == [text]


def test_old_flags_of_0_1_work_with_a_note(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    old = ["--kernels", "textbook", "--ledger-every", "2"]
    assert main(["train", "--text", text, "--out", "run", *TINY, *old]) == 0
    notes = capsys.readouterr().err
    assert "note: --kernels is called --layers now; the old name works until npgpt 0.2" in notes
    assert "note: --ledger-every is called --record-every now" in notes
    assert RunConfig.load("run/config.toml").train.layers == "textbook"
    assert len(Path("run/record.jsonl").read_text().splitlines()) == 2
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    assert "--layers" in shown and "--kernels" not in shown and "--ledger" not in shown


@pytest.mark.parametrize("kind", ["bpe", "word", "char"])
def test_every_tokenizer_trains_and_samples(kind: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--text", text, "--tokenizer", kind, "--out", "run", *TINY]) == 0
    capsys.readouterr()
    assert main(["sample", "run", "--prompt", "The cat", "--max-tokens", "5", "--seed", "3"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("The cat")
    assert main(["sample", "run", "--prompt", "The cat", "--max-tokens", "5", "--seed", "3"]) == 0
    assert capsys.readouterr().out == first
    assert main(["sample", "run", "--prompt", "The cat", "--max-tokens", "5", "--seed", "4"]) == 0
    assert capsys.readouterr().out != first != "The cat\n"
    assert main(["sample", "run", "--max-tokens", "5", "--temperature", "0", "--top-k", "2"]) == 0


def test_several_texts_are_separate_documents(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.txt").write_text(TEXT.upper())
    assert main(["train", "--text", text, "b.txt", "--out", "run", "--tokenizer", "char", *TINY]) == 0
    assert "text: text.txt, b.txt" in capsys.readouterr().out


def test_sampling_ends_at_the_end_of_a_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(text).write_text("ab<|endoftext|>" * 400)
    options = [
        "--tokenizer",
        "char",
        *TINY,
        "--steps=200",
        "--eval-every=200",
        "--learning-rate=0.03",
        "--warmup-steps=5",
    ]
    assert main(["train", "--text", text, "--out", "run", *options]) == 0
    out = capsys.readouterr().out
    assert "vocabulary 4" in out  # a, b and two special tokens
    assert "  sample: ab\n" in out
    for prompt, expected in (
        ((), "ab"),
        (("--prompt", "a"), "ab"),
        (("--prompt", "ab<|endoftext|>"), "ab<|endoftext|>ab"),
    ):
        assert main(["sample", "run", *prompt, "--temperature", "0"]) == 0
        shown = capsys.readouterr()
        assert (
            shown.out == expected + "\n" and shown.err == "note: run: the weights of step 200, validation loss 0.000\n"
        )


def test_the_built_in_text_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("npgpt.cli.train.train_run", lambda *_, **__: sys.exit(0))
    with pytest.raises(SystemExit):
        main(["train"])
    assert f"text: the documentation of Python {platform.python_version()} (" in capsys.readouterr().out


def test_run_is_not_overwritten_without_the_flag(trained: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(trained)
    assert "already holds a run" in fails(capsys, "train", "--text", text, "--out", "run", *TINY)
    assert "cannot be divided" in fails(capsys, "train", "--overwrite", "--out", "run", "--n-head", "3")
    assert "nope.txt: No such file" in fails(capsys, "train", "--overwrite", "--out", "run", "--text", "nope.txt")
    assert files(trained) == before
    assert main(["train", "--text", text, "--out", "run", "--overwrite", *TINY, "--seed", "9"]) == 0
    assert RunConfig.load("run/config.toml").train.seed == 9


def test_bad_input_gets_one_clear_message(trained: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.txt").write_text(" \n")
    Path("binary").write_bytes(b"ab\xff")
    Path("short.txt").write_text("short te")
    Path("c.toml").write_text("[model]\nn_heads = 2")
    Path("\x1b[31mred.txt").write_text("")
    assert "empty.txt is empty" in fails(capsys, "train", "--text", "empty.txt")
    assert "byte 0xff at offset 2" in fails(capsys, "train", "--text", "binary")
    for overwrite in ([], ["--out", "run", "--overwrite"]):
        words = fails(capsys, "train", "--text", "short.txt", "--tokenizer", "char", *TINY, *overwrite)
        assert "6 tokens, but one example needs 9" in words
    assert Path(f"run/{WEIGHTS}").exists()
    assert "did you mean n_head?" in fails(capsys, "train", "--config", "c.toml")
    assert "\\x1b[31mred.txt is empty" in fails(capsys, "train", "--text", "\x1b[31mred.txt")
    assert "is too small" in fails(capsys, "train", "--text", text, "--vocab-size", "9")
    assert "unknown argument '--overwr'" in fails(capsys, "train", "--overwr", "--out", "run")
    assert "unknown argument '\\x1b[31m'" in fails(capsys, "train", "\x1b[31m")
    assert "given twice" in fails(capsys, "train", "--text", text, text)
    assert "leaves no training text" in fails(capsys, "train", "--text", "short.txt", "--validation-fraction", "0.99")
    assert "would replace the training text" in fails(
        capsys, "train", "--out", "run", "--overwrite", "--text", "run/metrics.jsonl"
    )
    assert "--out is empty" in fails(capsys, "train", "--out", "")
    assert "run is a run folder, not a folder of texts" in fails(capsys, "train", "--text", "run")
    assert "unknown argument '--n-layers'; did you mean --n-layer?" in fails(capsys, "train", "--n-layers", "2")
    assert "steps must be at least 1" in fails(capsys, "train", "--steps", "0")
    assert not Path("runs").exists()
    assert "nope is not a folder" in fails(capsys, "sample", "nope")
    assert "top_k must be at least 1" in fails(capsys, "sample", "run", "--top-k", "0")
    assert "id 5000 at position 0" in fails(capsys, "tokenize", "decode", "5000", "--vocab", "run")
    assert "'' is not an id" in fails(capsys, "tokenize", "decode", "", "--vocab", "run")
    assert "run/config.toml exists already" in fails(capsys, "tokenize", "train", text, "--out", "run/config.toml")
    assert "not a tokenizer file" in fails(capsys, "tokenize", "train", text, "--overwrite", "--out", "run/config.toml")
    assert "'x' is not an id" in fails(capsys, "tokenize", "decode", "x", "--vocab", "run")
    assert "did you mean Linear" in fails(capsys, "check", "Liner")
    Path(f"run/{WEIGHTS}").unlink()
    assert "model.safetensors is missing" in fails(capsys, "sample", "run")


def test_diverged_run_keeps_its_last_good_weights(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = fails(
        capsys, "train", "--text", text, "--out", "run", *TINY, "--learning-rate=1e30", "--eval-every=1", code=4
    )
    assert "step 1: training diverged; the validation loss is nan; the weights of step 0 are kept; look at" in words
    assert main(["sample", "run", "--max-tokens", "2"]) == 0


def test_unknown_words_in_the_prompt_give_a_note(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--text", text, "--out", "run", "--tokenizer", "word", *TINY]) == 0
    capsys.readouterr()
    assert main(["sample", "run", "--prompt", "The zebra", "--max-tokens", "1"]) == 0
    shown = capsys.readouterr()
    assert "note: 1 of the 2 tokens of the prompt are unknown" in shown.err
    assert shown.out.startswith(("The zebra ", "The zebra."))


def test_tokenize_commands(text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["tokenize", "train", text, "--vocab-size", "280", "--out", "vocab.json"]) == 0
    assert "280 tokens" in capsys.readouterr().out
    sentence = "The cat\x1b[31m sat – 東京"
    assert main(["tokenize", "encode", sentence, "--vocab", "vocab.json"]) == 0
    ids = capsys.readouterr().out.split()
    assert main(["tokenize", "decode", *ids, "--vocab", "vocab.json"]) == 0
    assert capsys.readouterr().out == sentence
    assert main(["tokenize", "show", sentence, "--vocab", "vocab.json"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert f"vocab.json: {len(ids)} tokens for {len(sentence)} characters" in shown
    assert "\\xe6" in shown and "e6" in shown  # a byte of 東 that is no character by itself
    assert main(["tokenize", "show", "The cat", "--vocab", "vocab.json", "--vocab", "vocab.json"]) == 0
    both = [line.count("54 68 65") for line in capsys.readouterr().out.splitlines() if "54" in line]
    assert both == [2]
    assert main(["tokenize", "merges", " cat", "--vocab", "vocab.json"]) == 0
    steps = capsys.readouterr().out.splitlines()
    assert len(steps) > 1 and steps[0].endswith("its bytes")
    assert all(", pair count " in step for step in steps[1:])


def test_tokenize_reads_other_vocabulary_formats(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = BPETokenizer.train(TEXT, vocab_size=270)
    Path("gpt2").mkdir()
    tokenizer.to_gpt2("gpt2/encoder.json", "gpt2/vocab.bpe")
    tokenizer.to_huggingface("huggingface.json")
    tokenizer.to_tiktoken("gpt2.tiktoken.gz")
    for path in ("gpt2", "huggingface.json", "gpt2.tiktoken.gz"):
        assert main(["tokenize", "encode", TEXT, "--vocab", path]) == 0
        assert capsys.readouterr().out.split() == list(map(str, tokenizer.encode(TEXT)))
    assert "is not JSON" in fails(capsys, "tokenize", "encode", "a", "--vocab", text)
    CharTokenizer.train("abc").save("char.json")
    assert "holds no merges" in fails(capsys, "tokenize", "merges", "abc", "--vocab", "char.json")
    assert "2 pieces" in fails(capsys, "tokenize", "merges", "two words", "--vocab", "gpt2")


def test_check_prints_lines_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "Linear", "Softmax"]) == 0
    out = capsys.readouterr().out
    assert "all right" in out
    assert main(["check", "Linear", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert all(check.keys() >= {"layer", "tensor", "method", "error", "passed"} for check in checks)
    assert {check["tensor"] for check in checks} == {"input x", "param weight", "param bias", "kept x"}


def test_check_exits_with_1_if_a_gradient_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(self: layers.ReLU, dy: Array, cache: Cache) -> Array:
        return -dy

    monkeypatch.setattr(layers.ReLU, "backward", wrong)
    assert main(["check", "ReLU"]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--version"], ["--help"], ["train", "--help"], ["tokenize", "show", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    assert f"npgpt {npgpt.__version__}" in capsys.readouterr().out


def python(*arguments: str, stdin: bytes = b"", **variables: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1"} | variables
    command = [sys.executable, "-m", "npgpt", *arguments]
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        return subprocess.Popen(command, env=environment, encoding="utf-8", stdin=file, stdout=pipe, stderr=pipe)


NOTE = "note: run: the weights of step 4, validation loss 5.644\n"


def without_compilation(error: str) -> str:
    """What was said on stderr, but for the word that kernels are compiled, where nothing has been compiled yet."""
    return "".join(line for line in error.splitlines(True) if not line.startswith("npgpt: compiling kernels"))


def test_killed_run_can_be_sampled(text: str) -> None:
    long = [*TINY, "--steps", "100000", "--eval-every", "5"]
    with python("train", "--text", text, "--out", "run", *long) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not Path("run/checkpoints").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL  # it was still under way
    assert main(["sample", "run", "--max-tokens", "3"]) == 0


def test_early_closed_pipe_is_not_an_error(trained: str) -> None:
    with python("sample", trained, "--max-tokens", "500") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(60) == 141
        assert without_compilation(process.stderr.read()) == NOTE


def test_text_that_is_not_utf8_is_rejected(trained: str) -> None:
    with python("tokenize", "encode", "--vocab", trained, stdin=b"caf\xe9") as process:
        out, error = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert "standard input is not UTF-8 text: byte 0xe9 at offset 3" in error


def test_terminal_without_unicode_shows_escapes(trained: str) -> None:
    with python("sample", trained, "--prompt", "é东", "--max-tokens", "1") as process:
        assert process.communicate()[0].startswith("é东")
    settings = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    with python("sample", trained, "--prompt", "é", "--max-tokens", "1", **settings) as process:
        out, error = process.communicate()
        assert (process.returncode, without_compilation(error)) == (0, NOTE)
        assert out.startswith("\\xe9")


@pytest.mark.viz
def test_loss_curve_is_drawn(trained: str) -> None:
    assert Path("run/loss.png").read_bytes().startswith(b"\x89PNG")
