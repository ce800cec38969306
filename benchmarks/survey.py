"""Is npgpt right about public projects whose backward passes were written by hand?

    python benchmarks/survey.py FOLDER [--only NAME] [--json FILE]

FOLDER holds clones, each in FOLDER/owner+name; without them, the commands that make them are printed. The survey holds
names, commits and adapters, and none of their code. Each project runs in a process of its own.

Whether a backward pass is right was decided by hand, from the mathematics. npgpt judges the layer as it is built, with
other weights, and in training if it behaves differently there. PyTorch's slow ``gradcheck`` judges the same functions
at the weights that npgpt judged last: a ``torch.autograd.Function`` calls their forward and their backward, with the
inputs and parameters that npgpt has found. PyTorch has no names for mistakes.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import types
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO
from unittest.mock import patch

import numpy as np
from peers import HAS_TORCH
from survey_adapters import PROJECTS
from survey_adapters.given import Pass, Project

import npgpt
from npgpt.study.check.report import Report
from npgpt.study.check.snapshot import Snapshot
from npgpt.study.check.strangers import StrangerSubject

SECONDS = 300  # for a project
NOT_RUN = {"verdict": "not run", "kind": "", "torch": ""}


class Empty(types.ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class EmptyFinder:
    """Finds empty modules in place of packages that a project imports and does not need here."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        wanted = any(name == n or name.startswith(f"{n}.") for n in self.names)
        return ModuleSpec(name, self, is_package=True) if wanted else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> Empty:
        return Empty(spec.name)

    def exec_module(self, module: Empty) -> None:
        pass


def judged(it: Pass) -> dict[str, Any]:
    """Return npgpt's and PyTorch's verdicts on a backward pass."""
    try:
        layer, inputs, options = it.given()
        with patch.object(StrangerSubject, "close", left):
            report = npgpt.gradcheck(layer, *inputs, **options)
    except Exception as error:
        return NOT_RUN | {"says": f"{type(error).__name__}: {error}"}
    named = [f for f in report.findings if f.kind not in ("unknown", "follows", "not noted")]
    found = {"verdict": report.verdict, "kind": named[0].kind if named else "", "says": named[0].says if named else ""}
    if report.verdict == "undecided":
        why = [v.reason for v in report.verdicts.values() if v.state == "undecided"]
        found["says"] = "; ".join([*why, *(f"not checked: {name[6:]}" for name in report.unchecked)])
    return found | {"torch": torch_verdict(report) if HAS_TORCH else ""}


def left(subject: StrangerSubject, close: Any = StrangerSubject.close) -> None:
    """Close a subject, and keep the state in which npgpt left it."""
    subject.at_the_end = Snapshot([subject.root, subject.arguments])  # type: ignore[attr-defined]
    close(subject)


def torch_verdict(report: Report) -> str:
    """Return what PyTorch's slow gradcheck says about the pair that npgpt judged last."""
    import torch

    last = [report, *report.rounds.values()][-1]
    assert last.witnesses is not None
    subject = last.witnesses.subject
    subject.at_the_end.restore()  # type: ignore[attr-defined]
    names = [name for name in subject.tensors if name in report.verdicts]
    start = {name: subject.tensors[name].copy() for name in names}

    class Theirs(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *given: torch.Tensor) -> torch.Tensor:
            ctx.given = [x.detach().numpy() for x in given]
            y = subject.forward({name: x - start[name] for name, x in zip(names, ctx.given, strict=True)})
            return torch.from_numpy(np.array(y, np.float64))

        @staticmethod
        def backward(ctx: Any, *dy: torch.Tensor) -> Any:
            upstream = dy[0].detach().numpy()
            found = subject.gradients(upstream.copy())
            times = upstream if subject.is_end else 1.0  # a loss whose backward takes no upstream gradient
            return tuple(torch.from_numpy(np.array(found[name] * times, np.float64)) for name in names)

    given = [torch.from_numpy(x.copy()).requires_grad_() for x in start.values()]
    try:
        return "right" if torch.autograd.gradcheck(Theirs.apply, given, check_undefined_grad=False) else "wrong"
    except RuntimeError:  # of gradcheck, or because of a shape
        return "wrong"
    except Exception as error:
        return f"fails: {type(error).__name__}"


def enter(project: Project, folder: Path) -> TextIO:
    """Let this process import from a clone; return its output. What the clone prints goes elsewhere."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    sys.meta_path.insert(0, EmptyFinder(project.missing))
    sys.path[:0] = [str(folder / root) for root in project.roots]
    os.chdir(folder)
    project.prepare()
    return answers


def run(project: Project, folder: Path) -> None:
    """Judge a project's backward passes; print a line of JSON for each."""
    answers = enter(project, folder)
    for it in project.passes:
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            found = judged(it)
        print(json.dumps(found), file=answers, flush=True)


def clone_of(project: Project, folder: Path) -> Path | None:
    owner, name = project.repository.split("/")
    return next((path for path in (folder / f"{owner}+{name}", folder / name) if path.is_dir()), None)


def warn_of_other_commit(project: Project, clone: Path) -> None:
    if (clone / ".git").exists():
        done = subprocess.run(
            ["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
        if done.stdout.strip() != project.commit:
            print(f"{clone} is not at {project.commit}: its answers may differ", file=sys.stderr)


def answers_of(script: str, project: Project, folder: Path, *more: str) -> tuple[list[dict[str, Any]], str]:
    """Return the answers of a script about a project, in a process of its own, and why there are no more of them."""
    command = [sys.executable, script, str(folder), "--child", project.repository, *more]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        answers, why = done.stdout, done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
    except subprocess.TimeoutExpired as error:
        answers, why = (error.stdout or b"").decode(), f"took more than {SECONDS} s"
    return [json.loads(line) for line in answers.splitlines()], why


def rows_of(project: Project, folder: Path) -> list[dict[str, Any]]:
    """Return a row of the table for each backward pass of a project."""
    found, why = answers_of(__file__, project, folder)
    found += [NOT_RUN | {"says": why}] * (len(project.passes) - len(found))
    head = {"repository": project.repository, "commit": project.commit}
    return [
        head | {"file": it.file, "layer": it.layer, "mistake": it.mistake, "true kinds": sorted(it.kinds)} | answer
        for it, answer in zip(project.passes, found, strict=True)
    ]


def name_of(row: dict[str, Any]) -> str:
    """Return whether the name of a mistake is right, wrong or not there."""
    if not row["mistake"] or row["verdict"] != "wrong":
        return ""
    return "none" if not row["kind"] else "right" if row["kind"] in row["true kinds"] else "wrong"


def as_table(rows: list[dict[str, Any]]) -> list[str]:
    """Return lines of Markdown. Layers of one file about which all are right stand in one line."""
    lines = ["| file | layer | truth | npgpt | PyTorch | name of the mistake |", "|---|---|---|---|---|---|"]
    for repository, of_project in groupby(rows, lambda row: row["repository"]):
        cells: dict[tuple[str, ...], list[str]] = {}
        for row in of_project:
            commit, name = row["commit"][:10], {"right": "", "wrong": " (not true)"}.get(name_of(row), "")
            name = f"{row['kind']}{name}" if row["mistake"] and row["kind"] else "-"
            shown = (row["file"], row["mistake"] or "right", row["verdict"], row["torch"] or "-", name)
            cells.setdefault(shown, []).append(row["layer"])
        lines.append(f"| **{repository}** `{commit}` | | | | | |")
        lines += [f"| {file} | {'; '.join(layers)} | {' | '.join(rest)} |" for (file, *rest), layers in cells.items()]
    return lines


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Return lines of Markdown that count right and wrong answers."""
    lines = ["| | truth | called right | called wrong | undecided | not run |", "|---|---|---|---|---|---|"]
    for column, who in (("verdict", "npgpt"), ("torch", "PyTorch's gradcheck")):
        for truth in ("right", "wrong"):
            those = [row[column] for row in rows if bool(row["mistake"]) == (truth == "wrong")]
            n = Counter(those)
            cells = [n["right"], n["wrong"], n["undecided"], len(those) - n["right"] - n["wrong"] - n["undecided"]]
            lines.append(f"| {who} | {len(those)} {truth} | {' | '.join(map(str, cells))} |")
    n = Counter(map(name_of, rows))
    said = f"{n['right']} true, {n['wrong']} not true, {n['none']} mistakes without a name"
    return [*lines, "", f"npgpt's names of the mistakes that it found: {said}."]


def clones_of(projects: Sequence[Project], folder: Path) -> list[tuple[Project, Path]]:
    """Return projects with their clones; print the commands that make those that are missing."""
    clones = [(p, clone_of(p, folder)) for p in projects]
    missing = [p for p, clone in clones if clone is None]
    if missing:
        print(f"These clones are not in {folder}:")
        for p in missing:
            to = f"{folder}/{p.repository.replace('/', '+')}"
            print(f"git clone https://github.com/{p.repository} {to} && git -C {to} checkout -q {p.commit}")
    found = [(p, clone) for p, clone in clones if clone is not None]
    for p, clone in found:
        warn_of_other_commit(p, clone)
    return found


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of a survey's arguments: the folder, --json, and --child for the process of a project."""
    first, _, rest = (doc or "").partition("\n")
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=first, epilog=rest.lstrip("\n"), formatter_class=shown)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the clones are")
    parser.add_argument("--json", metavar="FILE", help="write every answer to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", metavar="NAME", help="only the projects with this in their names")
    options = parser.parse_args()
    folder = options.folder.absolute()
    if options.child:
        project = next(p for p in PROJECTS if p.repository == options.child)
        here = clone_of(project, folder)
        assert here is not None
        run(project, here)
        return
    wanted = [p for p in PROJECTS if (options.only or "") in p.repository]
    rows: list[dict[str, Any]] = []
    for project, _ in clones_of(wanted, options.folder):
        rows += rows_of(project, folder)
        print(f"{project.repository}: {len(project.passes)}", file=sys.stderr, flush=True)
    n = len({row["repository"] for row in rows})
    print(f"{len(rows)} backward passes of {n} projects; Python {platform.python_version()}, NumPy {np.__version__}\n")
    print("\n".join([*summary(rows), "", *as_table(rows)]))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
