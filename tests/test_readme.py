"""README.md is short, its links lead to files, and its Python runs. `.ci/readme.py` runs its shell blocks."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_readme_has_at_most_900_words_and_no_long_lines_of_code() -> None:
    assert 500 < len(README.split()) <= 900
    code = [line for language, block in BLOCKS if language in ("sh", "python") for line in block.splitlines()]
    assert len(code) > 20 and max(map(len, code)) < 80


def test_links_and_commands_point_to_files() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", README)
    assert len(links) >= 8 and not [link for link in links if not (ROOT / link).exists()]
    scripts = re.findall(r"^sh (\S+)", "".join(block for language, block in BLOCKS if language == "sh"), re.MULTILINE)
    assert len(scripts) == 2 and all((ROOT / script).exists() for script in scripts)


def test_readme_layer_is_wrong_and_correct_without_the_minus(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [block for language, block in BLOCKS if language == "python"]
    exec(code, {})
    printed = capsys.readouterr().out
    after = next(block for language, block in BLOCKS[BLOCKS.index(("python", code)) :] if language == "text")
    assert len(after.splitlines()) == 3 and all(line in printed for line in after.splitlines())
    exec(code.replace('note("x", -dy', 'note("x", dy'), {})
    assert "Scale: 3 of 3 arrays checked, all right" in capsys.readouterr().out
