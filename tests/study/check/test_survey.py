"""The list of public backward passes is complete, and the survey says how to get the clones. No clone is needed."""

import re
from pathlib import Path

import pytest
import survey
from survey_adapters import PROJECTS

from npgpt.study.check.diagnosis import KINDS


def test_every_pass_has_a_commit_and_names_that_exist() -> None:
    assert len(PROJECTS) >= 12 and sum(len(project.passes) for project in PROJECTS) >= 30
    for project in PROJECTS:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", project.repository) and re.fullmatch("[0-9a-f]{40}", project.commit)
        names = [(it.file, it.layer) for it in project.passes]
        assert names and len(set(names)) == len(names)
        for it in project.passes:
            assert it.kinds <= set(KINDS) and bool(it.kinds) == bool(it.mistake), it.layer


def test_without_clones_it_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["survey.py", str(tmp_path), "--only", "joelgrus"])
    survey.main()
    assert f"git clone https://github.com/joelgrus/joelnet {tmp_path}/joelgrus+joelnet && " in capsys.readouterr().out
