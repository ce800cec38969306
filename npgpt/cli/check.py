"""``npgpt check``: check the gradients of npgpt's own layers, or of the layers in a person's file."""

import argparse
import dataclasses
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from npgpt.cli.check_file import run_file
from npgpt.cli.check_lines import code_of, head, last_line, objects, short, wrapped
from npgpt.cli.exit_codes import ExitCode
from npgpt.cli.options import check_at_least
from npgpt.cli.parser import add_action
from npgpt.errors import ConfigError, did_you_mean
from npgpt.study.check import CASES, Report, check_cases
from npgpt.study.check.report import HEADER, draw_sweeps, summary, v_of_errors
from npgpt.study.mutants import MUTANTS, generated, scores, try_mutant

SUMMARY, EXAMPLE = "check every gradient of npgpt's layers, or of your own file", "npgpt check LayerNorm"
FILE = re.compile(r".+\.py(:.*)?|.*[/\\].*", re.DOTALL)


def add_parser(subparsers: Any) -> None:
    more = (
        "Six methods compute each gradient without the backward pass, and compare it with the gradient of the backward "
        "pass. Without an argument, all layers of npgpt are checked. FILE.py is imported as Python code; its layers "
        "are built from guessed sizes, and those that cannot be built are listed. Exit code 1: a gradient is wrong. "
        "Exit code 3: a gradient is undecided, or was not checked; the report says why."
    )
    parser = add_action(subparsers, "check", run, SUMMARY, more, EXAMPLE)
    known = f"layers of npgpt to check (default: all): {', '.join(CASES)}; or one FILE.py, or FILE.py:NAME"
    parser.add_argument("names", nargs="*", metavar="NAME", help=known)
    parser.add_argument("-v", "--verbose", action="store_true", help="print what each method finds for each array")
    parser.add_argument(
        "--write", action="store_true", help="FILE.py: write tests of its layers, test_FILE.py beside it"
    )
    parser.add_argument("--sweep", action="store_true", help="print the error of the differences for each step size")
    parser.add_argument("--picture", metavar="FILE", help="draw these errors as a PNG (needs the extra viz)")
    parser.add_argument(
        "--mutants", action="store_true", help="plant mistakes, and print which checks find them; NAME selects by name"
    )
    parser.add_argument(
        "--generated", type=int, default=0, metavar="N", help="with --mutants: N more mistakes, at random (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")


def run(options: argparse.Namespace) -> ExitCode:
    check_at_least(0, generated=options.generated)
    if options.mutants:
        return run_mutants(options)
    if options.generated:
        raise ConfigError("--generated draws further mistakes; it needs --mutants")
    files = [name for name in options.names if name not in CASES and (FILE.fullmatch(name) or Path(name).exists())]
    if files and len(options.names) > 1:
        raise ConfigError("check one file at a time, without names of npgpt's layers")
    if files and (options.sweep or options.picture):
        raise ConfigError("--sweep and --picture are for npgpt's own layers; -v prints all numbers of a file's layers")
    if files:
        file, _, name = files[0].rpartition(".py:")
        return run_file(f"{file}.py" if file else files[0], name if file else "", options)
    if options.write:
        raise ConfigError("--write writes tests of the layers in a file; give FILE.py")
    return run_names(options)


def run_names(options: argparse.Namespace) -> ExitCode:
    """Check layers of npgpt."""
    in_any_case = {name.casefold(): name for name in CASES}
    for name in options.names:
        if name.casefold() not in in_any_case:
            says = f"there is no layer {name!r} to check; {did_you_mean(name, CASES)}"
            raise ConfigError(f"{says} (A file of yours ends in .py)")
    names = [in_any_case[name.casefold()] for name in options.names] or list(CASES)
    start, width, reports = time.perf_counter(), max(map(len, names)), list[Report]()
    if not options.json:
        print(HEADER if options.verbose else head(width))
    bar = tqdm(check_cases(names), total=len(names), unit="layer", disable=not sys.stderr.isatty(), leave=False)
    for report in bar:
        reports.append(report)
        if not options.json:
            lines = [report.text(heads=False)] if options.verbose else short(report, width)
            bar.write("\n".join([*lines, *(v_of_errors(report.sweep) if options.sweep else [])]), file=sys.stdout)
    if options.picture:
        draw_sweeps({report[0].layer: report.sweep for report in reports}, options.picture)
    if options.json:
        print(json.dumps([check for report in reports for check in objects(report)]))
    else:
        if options.verbose:
            print("\n".join(summary([check for report in reports for check in report])))
        print("\n".join(wrapped(f"{last_line(reports)}, {time.perf_counter() - start:.1f} s", "")))
    return code_of(reports)


def run_mutants(options: argparse.Namespace) -> ExitCode:
    """Plant each mistake of the catalogue, and remove it."""
    chosen = [m for m in MUTANTS if not options.names or any(name.casefold() in m.name for name in options.names)]
    if not chosen:
        raise ConfigError(f"no mistake has {' or '.join(options.names)} in its name")
    verdicts = []
    bar = tqdm(chosen, unit="mutant", disable=not sys.stderr.isatty(), leave=False)
    for mutant in bar:
        bar.set_description(mutant.name)
        verdicts.append(try_mutant(mutant))
        if not options.json:
            bar.write(str(verdicts[-1]), file=sys.stdout)
    drawn = []
    for verdict in tqdm(generated(options.generated), total=options.generated, disable=not sys.stderr.isatty()):
        drawn.append(verdict)
        if not options.json and not verdict.killed_by:
            print(verdict)
    alive = [verdict.name for verdict in verdicts + drawn if not verdict.killed_by]
    if options.json:
        print(json.dumps([dataclasses.asdict(verdict) for verdict in verdicts + drawn]))
    else:
        print("\n".join(scores(verdicts, drawn)))
    return ExitCode.WRONG if alive else ExitCode.FINE
