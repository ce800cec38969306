"""Which names does npgpt give to mistakes that a program plants in public backward passes?

    python benchmarks/survey_planted.py FOLDER [--json FILE] [--quick]

FOLDER holds the clones of benchmarks/survey.py. Each project runs in a process of its own. Where npgpt finds the
backward pass of an adapter right, one change of the syntax tree of a backward function in its file makes a mistake:
a summand is dropped, a sign flipped, and the like (``changes``). Up to four mistakes for each adapter are drawn, no two
of the same kind, by a seeded generator.

A change is a mistake if a gradient keeps its shape, stays finite and moves by more than 1e-4, relative to the norms of
the right one and the wrong one. A program that stops with an error is none. No name is judged: it is counted as given,
whether it is the change itself, an equal description of the numbers, or not true. ``--quick`` takes one mistake for
each adapter of three projects.
"""

import ast
import contextlib
import importlib
import io
import json
import linecache
import platform
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from survey import answers_of, clone_of, clones_of, enter, parser_of
from survey_adapters import PROJECTS
from survey_adapters.given import Pass, Project

import npgpt
from npgpt.study.check.diagnosis import is_explanation
from npgpt.study.check.report import Report

MISTAKES = 4  # largest number for an adapter
TRIES = 25  # largest number of changes that are tried for them
MOVED = 1e-4
QUICK = 3  # projects
BACKWARD = re.compile(r"back|bwd|bprop|grad|deriv|prime", re.IGNORECASE)

Gradients = dict[str, dict[str, NDArray[np.float64]]]  # those of each round


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield each operator that fits a node, and the node that it puts there."""
    match node:
        case ast.BinOp(left=a, op=ast.Add() | ast.Sub(), right=b) if is_small(b):
            yield "drop eps", a
        case ast.BinOp(left=a, op=ast.Add(), right=b):
            yield "flip sign", ast.BinOp(a, ast.Sub(), b)
            yield "drop summand", a
            yield "drop summand", b
        case ast.BinOp(left=a, op=ast.Sub(), right=b):
            yield "flip sign", ast.BinOp(a, ast.Add(), b)
            yield "drop summand", a
        case ast.BinOp(left=a, op=ast.Mult(), right=b):
            yield "drop factor", a
            yield "drop factor", b
        case ast.BinOp(left=a, op=ast.Div(), right=b):
            yield "multiply instead of divide", ast.BinOp(a, ast.Mult(), b)
            yield "drop factor", a
        case ast.BinOp(left=a, op=ast.MatMult(), right=b):
            yield "swap operands", ast.BinOp(b, ast.MatMult(), a)
        case ast.BinOp(left=a, op=ast.Pow(), right=ast.Constant(value=2)):
            yield "wrong power", a
        case ast.BinOp(left=a, op=ast.Pow(), right=ast.Constant(value=3)):
            yield "wrong power", ast.BinOp(a, ast.Pow(), ast.Constant(2))
        case ast.UnaryOp(op=ast.USub(), operand=a) if not isinstance(a, ast.Constant):
            yield "flip sign", a
        case ast.Attribute(value=a, attr="T"):
            yield "remove transposition", a
        case ast.Call(func=ast.Attribute(value=ast.Name(id="np")) as f, args=[a, b]) if f.attr in ("dot", "matmul"):
            yield "swap operands", ast.Call(f, [b, a], node.keywords)
        case ast.Call(func=ast.Attribute(value=a, attr="swapaxes" | "transpose")) if ast.unparse(a) != "np":
            yield "remove transposition", a
        case ast.Call(func=ast.Attribute(value=a, attr="sum")):
            yield "sum to mean", ast.Call(ast.Attribute(a, "mean", ast.Load()), node.args, node.keywords)
        case ast.Call(func=ast.Name(id="range") as f, args=[a]):
            yield "off by one", ast.Call(f, [one_less(a)], [])
        case ast.Slice(upper=ast.expr() as upper) if not isinstance(upper, ast.UnaryOp):
            yield "off by one", ast.Slice(node.lower, one_less(upper), node.step)
        case ast.AugAssign(op=ast.Add() | ast.Sub(), value=a) if not isinstance(a, ast.Constant):  # no counter
            other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield "overwrite instead of add", ast.Assign([node.target], a)
            yield "flip sign", ast.AugAssign(node.target, other, a)
            yield "drop summand", ast.Pass()
        case ast.AugAssign(op=ast.Mult() | ast.Div()):
            yield "drop factor", ast.Pass()


def is_small(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, float) and 0 < node.value < 1e-3
    return isinstance(node, ast.Name | ast.Attribute) and "eps" in ast.unparse(node).lower()


def one_less(node: ast.expr) -> ast.expr:
    return ast.BinOp(node, ast.Sub(), ast.Constant(1))


def backward_functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the backward functions of a file and those of its classes, with their names."""
    for node in tree.body:
        inside = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(inner, ast.FunctionDef) and BACKWARD.search(inner.name):
                yield f"{inside}{inner.name}", inner


def places(tree: ast.Module) -> Iterator[tuple[str, str, ast.AST, ast.AST]]:
    """Yield each change that is possible: the function, the operator, a node, and what takes its place."""
    for where, function in backward_functions(tree):
        for node in ast.walk(function):
            yield from ((where, operator, node, new) for operator, new in changes(node))


def with_change(text: str, n: int) -> str:
    """Return Python code with the n-th change."""
    tree = ast.parse(text)
    _, _, old, new = list(places(tree))[n]

    class Swap(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            return new if node is old else self.generic_visit(node)

    return ast.unparse(ast.fix_missing_locations(Swap().visit(tree)))


def loaded(it: Pass, text: str) -> ModuleType:
    """Return an adapter's module, made from other code. npgpt may read that code."""
    own = importlib.import_module(it.module)
    module, file = ModuleType(it.module), f"{own.__file__}, changed"
    module.__dict__.update({key: own.__dict__[key] for key in ("__file__", "__package__", "__spec__", "__loader__")})
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    exec(compile(text, file, "exec"), module.__dict__)
    return module


def checked(it: Pass, text: str) -> Report:
    layer, inputs, options = it.given(loaded(it, text))
    return npgpt.gradcheck(layer, *inputs, **options)


def gradients(report: Report) -> Gradients:
    rounds = {"": report, **report.rounds}
    return {name: r.witnesses.got for name, r in rounds.items() if r.witnesses is not None}


def moved(right: Gradients, other: Gradients) -> bool:
    """Return whether another backward pass gives other gradients, finite and of the same shapes."""
    pairs = [(right[r][x], other[r][x]) for r in right if r in other for x in right[r] if x in other[r]]
    return any(
        np.linalg.norm(a - b) > MOVED * (np.linalg.norm(a) + np.linalg.norm(b))
        for a, b in pairs
        if a.shape == b.shape and np.isfinite(b).all()
    )


def mistakes(it: Pass, text: str, limit: int, seed: str) -> Iterator[dict[str, str]]:
    """Yield what npgpt says about each mistake that is planted for an adapter."""
    try:
        right = checked(it, text)
        kind = type(it.given()[0]).__name__
    except Exception:  # the survey counts those that do not run
        return
    if not right.passed:
        return
    tries = [(n, where, operator) for n, (where, operator, _, _) in enumerate(places(ast.parse(text)))]
    own = [x for x in tries if it.layer.partition(",")[0] in x[1] or x[1].partition(".")[0] == kind]
    tries = own or tries
    random.Random(seed).shuffle(tries)
    used: set[str] = set()
    tried = 0
    for n, where, operator in tries:
        if operator in used:
            continue
        if len(used) == limit or tried == TRIES:
            return
        tried += 1
        try:
            report = checked(it, with_change(text, n))
        except Exception:  # of their code, because of the change
            continue
        if moved(gradients(right), gradients(report)):
            used.add(operator)
            named = [finding for finding in report.findings if is_explanation(finding.kind)]
            found = {"kind": named[0].kind, "says": named[0].says} if named else {"kind": "", "says": ""}
            yield {"function": where, "operator": operator, "verdict": report.verdict, **found}


def run(project: Project, folder: Path, limit: int) -> None:
    """Plant mistakes in a project; print a line of JSON for each."""
    answers = enter(project, folder)
    for it in project.passes:
        if it.mistake:
            continue
        text = (folder / it.file).read_text(encoding="utf-8")
        head = {"repository": project.repository, "file": it.file, "layer": it.layer}
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            for found in mistakes(it, text, limit, f"{project.repository} {it.layer}"):
                print(json.dumps(head | found), file=answers, flush=True)


def counts(rows: list[dict[str, Any]], by: str) -> list[str]:
    """Return lines of Markdown: how many of the mistakes that are found wrong have a name, and which names."""
    lines = []
    for key in sorted({row[by] for row in rows}):
        kinds = Counter(row["kind"] for row in rows if row[by] == key)
        named = kinds.total() - kinds[""]
        given = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common() if kind)
        cells = [key, named, kinds[""], *([given] if by == "operator" else [])]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def as_tables(rows: list[dict[str, Any]]) -> list[str]:
    verdicts = Counter(row["verdict"] for row in rows)
    wrong = [row for row in rows if row["verdict"] == "wrong"]
    named = sum(bool(row["kind"]) for row in wrong)
    return [
        "npgpt's verdicts: " + ", ".join(f"{v} {verdicts[v]}" for v in ("wrong", "undecided", "right")),
        f"of those found wrong: named {named}, not named {len(wrong) - named}",
        *("", "| change | named | not named | names given |", "|---|---|---|---|", *counts(wrong, "operator")),
        *("", "| repository | named | not named |", "|---|---|---|", *counts(wrong, "repository")),
    ]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="a mistake for each adapter of three projects")
    options = parser.parse_args()
    folder = options.folder.absolute()
    if options.child:
        project = next(p for p in PROJECTS if p.repository == options.child)
        here = clone_of(project, folder)
        assert here is not None
        run(project, here, 1 if options.quick else MISTAKES)
        return
    rows: list[dict[str, Any]] = []
    for project, _ in clones_of(PROJECTS[:QUICK] if options.quick else PROJECTS, options.folder):
        found, why = answers_of(__file__, project, folder, *(["--quick"] if options.quick else []))
        rows += found
        print(f"{project.repository}: {len(found)} {why}", file=sys.stderr, flush=True)
    n = len({row["repository"] for row in rows})
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    print(f"{len(rows)} mistakes planted in {n} projects; {versions}\n")
    print("\n".join(as_tables(rows)))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
