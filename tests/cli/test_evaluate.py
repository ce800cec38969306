"""``npgpt evaluate`` as a person meets it: the page, the coloured text, JSON, two runs, and what it refuses."""

import json
import lzma
import math
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

import npgpt
from npgpt.baselines import bigram_loss, unigram_loss
from npgpt.cli import main
from npgpt.data import encode_texts, split_text
from npgpt.tokenizer import END_OF_TEXT

TEXT = "The cat sat on the mat. The dog sat on the log. The frog sat on a rock: naïve!\n" * 40
TINY = """--n-layer=1 --n-head=1 --n-embd=8 --context-length=8 --vocab-size=300
          --steps=2 --eval-every=2 --batch-size=2""".split()  # noqa: SIM905


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    assert main(["train", "--text", "text.txt", "--out", "run", *TINY]) == 0
    capsys.readouterr()
    return "run"


def page(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["evaluate", *arguments]) == 0
    return capsys.readouterr().out


def says(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail with one message; return the message."""
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("npgpt: error: ") == 1 and "Traceback" not in error
    return error


def test_the_page_has_the_numbers_of_python(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = page(capsys, run)
    assert max(map(len, shown.splitlines())) <= 80 and len(shown.splitlines()) < 20
    train, validation = split_text(TEXT, npgpt.RunConfig().data.validation_fraction)
    loaded = npgpt.load_run(run)
    made = npgpt.evaluate(loaded, loaded.tokenizer, validation)
    n_bytes = len(validation.encode())
    assert f"text: the validation text of run; {n_bytes:,} bytes\n" in shown
    assert f"  {made.tokens:,} tokens; each is scored once, with at least 5 before it\n" in shown
    assert "(context 8, stride 4)" in shown
    rows = {cells[0]: cells[1:] for cells in map(str.split, shown.splitlines()) if cells}
    assert rows["run"] == [f"{made.bits_per_byte:.3f}", f"{made.loss:.3f}", f"{made.perplexity:,.2f}"]
    ids = np.concatenate([[loaded.tokenizer.special_tokens[END_OF_TEXT]], made.ids])
    for name, of in (("bigram", bigram_loss), ("unigram", unigram_loss)):
        loss = of(encode_texts(loaded.tokenizer, [train]), ids, loaded.tokenizer.vocab_size)
        bits = loss / math.log(2) * made.tokens / n_bytes
        assert rows[name] == [f"{bits:.3f}", f"{loss:.3f}", f"{math.exp(loss):,.2f}"]
    assert rows["lzma"] == [f"{8 * len(lzma.compress(validation.encode())) / n_bytes:.3f}"]
    assert rows["zlib"] == [f"{8 * len(zlib.compress(validation.encode(), 9)) / n_bytes:.3f}"]


def test_json_has_everything_and_surprisals_add_up(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    Path("folder/a.txt").write_text("Zürich, the cat", encoding="utf-8")
    Path("folder/b.txt").write_text(f"a mat{END_OF_TEXT}", encoding="utf-8")
    found = json.loads(page(capsys, run, "folder", "--json", "--surprisal", "--stride", "8"))
    assert (found["texts"], found["bytes"]) == (2, 21)
    (of_run,) = found["runs"]
    assert of_run.keys() >= {"run", "step", "loss", "perplexity", "bigram", "unigram"} and of_run["keeps_text"]
    assert (of_run["context"], of_run["stride"]) == (8, 8)
    tokens = of_run["surprisals"]
    assert len(tokens) == of_run["tokens"]
    assert "".join(token["text"] for token in tokens) == f"Zürich, the cat{END_OF_TEXT}a mat{END_OF_TEXT}"
    total = math.fsum(token["bits"] for token in tokens)
    assert of_run["bits_per_byte"] == pytest.approx(total / 21)
    assert of_run["loss"] == pytest.approx(total / len(tokens) * math.log(2))
    assert "surprisals" not in json.loads(page(capsys, run, "folder", "--json"))["runs"][0]


def test_surprisals_are_bars_or_coloured_text(
    run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.txt").write_text("the cat\n\nü\x1b[31m", encoding="utf-8")
    bars = page(capsys, run, "a.txt", "--surprisal")
    rows = re.findall(r"^ *(\d+\.\d\d)  (#*) +(.+)$", bars, re.MULTILINE)
    assert rows[-1][2] == "'<|endoftext|>'" and all(len(bar) == round(float(bits)) for bits, bar, _ in rows)
    assert any(name == "'\\x1b'" for *_, name in rows) and "\x1b" not in bars
    monkeypatch.setattr("npgpt.cli.evaluate.shows_colours", lambda: True)
    coloured = page(capsys, run, "a.txt", "--surprisal")
    plain = re.sub(r"\x1b\[(0|38;5;16;48;5;\d+)m", "", coloured)
    assert "the cat⏎\n⏎\nü\\x1b[31m<|endoftext|>\nbits:  0+  2+ " in plain and "\x1b" not in plain
    assert all(line.count("\x1b[38") == line.count("\x1b[0m") for line in coloured.splitlines())


def test_colours_need_a_terminal_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    from npgpt.support.terminal import shows_colours

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not shows_colours()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert shows_colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not shows_colours()


def test_two_runs_stand_side_by_side(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--text", "text.txt", "--out", "chars", "--tokenizer", "char", *TINY]) == 0
    capsys.readouterr()
    shown = page(capsys, run, "--against", "chars")
    rows = [line.split() for line in shown.splitlines()]
    assert [row[0] for row in rows if len(row) == 4 and row[0] in (run, "chars", "bigram", "unigram")] == [
        run, "bigram", "unigram", "chars", "bigram", "unigram"
    ]  # fmt: skip
    first, other = json.loads(page(capsys, run, "--against", "chars", "--json"))["runs"]
    more = other["bits_per_byte"] - first["bits_per_byte"]
    assert f"chars needs {abs(more):.3f} bits per byte {'more' if more > 0 else 'less'} than run\n" in shown


def test_a_text_that_is_not_there_any_more(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.txt").write_text("another text")
    assert "text.txt, is not there, or is another one now; give a TEXT to evaluate" in says(capsys, run)
    assert main(["evaluate", run, "text.txt"]) == 0
    shown = capsys.readouterr()
    assert "note: no bigram and no unigram: the training text of run, " in shown.err
    assert "\nlzma " in shown.out and "\n  bigram " not in shown.out


def test_a_vocabulary_that_loses_text_is_named(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, lost in (("char", 3), ("word", 1)):
        assert main(["train", "--text", "text.txt", "--out", kind, "--tokenizer", kind, *TINY]) == 0
        Path("other.txt").write_text("日本語", encoding="utf-8")
        capsys.readouterr()
        assert main(["evaluate", kind, "other.txt"]) == 0
        assert (
            f"the vocabulary of {kind} loses a part of the text ({lost} of {lost + 1} tokens" in capsys.readouterr().err
        )


def test_mistakes_get_one_sentence(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.txt").write_text("")
    Path("end.txt").write_text(END_OF_TEXT)
    Path("binary").write_bytes(b"ab\xff")
    assert "nope is not a folder; give a run folder" in says(capsys, "nope")
    assert "text.txt is not a folder; give a run folder" in says(capsys, "text.txt")
    assert "empty.txt is empty or contains only white space" in says(capsys, run, "empty.txt")
    assert "no token in this vocabulary" in says(capsys, run, "end.txt")
    assert "byte 0xff at offset 2" in says(capsys, run, "binary")
    assert "nofile.txt: No such file" in says(capsys, run, "nofile.txt")
    assert "given twice" in says(capsys, run, "text.txt", "text.txt")
    assert "stride must be 1 to 8, the context of the model, not 9" in says(capsys, run, "--stride", "9")
    assert "stride must be 1 to 8" in says(capsys, run, "--stride", "0")
    assert "invalid int value" in says(capsys, run, "--stride", "x")
    damaged = npgpt.load_run(run)
    damaged.model.flat.values[:] = 1e30
    damaged.save("damaged")
    assert "damaged: the model's logits are not finite" in says(capsys, "damaged", "text.txt").replace(
        "/checkpoints/2", ""
    )


def test_training_shows_bits_per_byte(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--text", "text.txt", "--out", "again", *TINY]) == 0
    shown = capsys.readouterr().out
    row = json.loads(Path("again/metrics.jsonl").read_text().splitlines()[-1])
    n_bytes = len(split_text(TEXT, npgpt.RunConfig().data.validation_fraction)[1].encode())
    n_tokens = int(re.findall(r"([\d,]+) validation", shown)[0].replace(",", ""))
    assert row["val_bits_per_byte"] == pytest.approx(row["val_loss"] / math.log(2) * n_tokens / n_bytes)
    assert f"validation {row['val_loss']:.3f} ({row['val_bits_per_byte']:.2f} bits/byte)  " in shown


def test_metrics_without_bits_per_byte_go_on(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are those of npgpt before this field."""
    path = Path("run/metrics.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        del row["val_bits_per_byte"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["train", "--resume", "run", "--steps", "4"]) == 0
    assert "bits/byte" in capsys.readouterr().out
    assert "val_bits_per_byte" in npgpt.load_run("run", last=True).metrics[-1]
