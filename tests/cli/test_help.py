"""The help of every command: complete, in one form, for 80 columns. The overview, whose examples run. The variables."""

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from npgpt.cli import main, make_parser
from npgpt.support.variables import VARIABLES

ROOT = Path(__file__).parents[2]
SMALL = """--n-layer=1 --n-head=1 --n-embd=8 --context-length=8 --vocab-size=320
           --steps=2 --eval-every=2 --batch-size=2""".split()  # noqa: SIM905


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert {choice.dest for choice in action._choices_actions if choice.help} == set(action.choices)
            for below in action.choices.values():
                yield from parsers(below)


PARSERS = {parser.prog: parser for parser in parsers(make_parser())}


@pytest.mark.parametrize("prog", PARSERS)
def test_every_command_and_every_argument_has_a_help(prog: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    parser = PARSERS[prog]
    assert parser.description and parser.epilog
    assert max(map(len, parser.format_help().splitlines())) <= 80
    for action in parser._actions:
        text = action.help or ""
        name = f"{prog} {action.option_strings or action.dest}"
        if text == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):
            continue
        assert text and not text.endswith("."), name
        value = action.default if action.default is not argparse.SUPPRESS else None
        if value is not None and value is not False and value != "":  # 0 == False, but 0 is a default to show
            assert f"(default: {value})" in text, name
        assert text.count("(default: ") == ("default" in text), name


def test_npgpt_alone_shows_the_road_with_a_command_for_each_stop(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    shown = re.findall(r"  (npgpt [a-z]+)", "\n".join(lines))
    assert len(shown) == 11 and set(shown) == {prog for prog in PARSERS if prog.count(" ") == 1}


def test_its_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("The cat sat on the mat, and the tokenization of the dog sat on the log.\n" * 40)
    main([])
    examples = re.findall(r"^ .* npgpt (.*)", capsys.readouterr().out, re.MULTILINE)
    assert len(examples) == 11
    for example in map(shlex.split, examples):
        if example[0] == "train":
            example += ["--text", "text.txt", *SMALL]
        if example != ["doctor"]:  # seconds: tests/study/test_reproducible.py runs it
            assert main(example) == 0, example


def test_the_table_of_variables_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    places = [
        path for folder in ("npgpt", "tests", ".ci", "benchmarks", "examples") for path in ROOT.glob(f"{folder}/**/*")
    ]
    texts = [
        path.read_text("utf-8", "replace") for path in places if path.is_file() and path.suffix in (".py", ".sh", "")
    ]
    assert {name for text in texts for name in re.findall(r"NPGPT_[A-Z_]+\b", text)} == set(VARIABLES)


def test_doctor_shows_the_variables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from npgpt.study import promises

    monkeypatch.setattr(promises, "CHECKS", {})
    monkeypatch.setattr("npgpt.cli.doctor.hash_or_none", lambda: None)
    monkeypatch.setenv("NPGPT_REQUIRE", "viz\x1b[31m" + "x" * 90)
    monkeypatch.delenv("NPGPT_PROFILE", raising=False)
    assert main(["doctor"]) == 0
    page = capsys.readouterr().out
    assert "  NPGPT_PROFILE is not set: for tests" in page and "'viz\\x1b[31m" in page and "\x1b" not in page
    assert main(["doctor", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["variables"]
    assert set(shown) == set(VARIABLES) and shown["NPGPT_PROFILE"] is None
