"""``npgpt doctor`` says what MPI there is, whatever is called mpiexec."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npgpt.study import mpi_facts
from npgpt.study.mpi_facts import about_mpi

pytestmark = pytest.mark.mpi


def test_two_processes_meet() -> None:
    facts = about_mpi()
    assert list(facts) == ["library", "latency", "bandwidth"]
    assert "by mpi4py" in facts["library"]
    assert facts["latency"].endswith("µs between two processes here")
    assert float(facts["bandwidth"].split()[0]) > 0


@pytest.mark.parametrize(
    "program", ["echo 3", "echo []", "echo '{}'", "echo no", "exit 1", "printf '\\377'", "cat", "echo a; sleep 321.5"]
)
def test_any_other_program_gives_one_sentence(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "mpiexec"
    fake.write_text(f"#!/bin/sh\n{program}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(mpi_facts, "SECONDS", 0.5)
    assert "two processes do not meet by" in about_mpi()["library"]
    for _ in range(50):
        left = subprocess.run(["pgrep", "-f", "sleep 321.5"], capture_output=True, text=True).stdout
        if not left:
            break
        time.sleep(0.1)
    assert not left


def test_a_program_that_cannot_run_gives_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    assert "two processes do not meet by" in about_mpi()["library"]


def test_without_mpi4py_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise mpi_facts.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(mpi_facts.importlib.metadata, "version", missing)
    assert about_mpi() == {"library": "not installed; pip install 'npgpt[mpi]' to train on several machines"}
