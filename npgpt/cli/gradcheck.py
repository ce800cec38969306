"""``npgpt gradcheck``: check every gradient."""

import argparse
import dataclasses
import json
import sys
from typing import Any

from tqdm import tqdm

from npgpt.cli.exit_codes import ExitCode
from npgpt.cli.options import check_at_least
from npgpt.cli.parser import add_action
from npgpt.errors import ConfigError, did_you_mean
from npgpt.study.check import CASES, Report, check_cases
from npgpt.study.check.report import HEADER, draw_sweeps, summary, v_of_errors
from npgpt.study.check.verdict import WRONG
from npgpt.study.mutants import MUTANTS, generated, scores, try_mutant

SUMMARY, EXAMPLE = "check every gradient of every layer", "npgpt gradcheck LayerNorm"


def add_parser(subparsers: Any) -> None:
    more = (
        "Six methods compute the gradient of every input, parameter and kept array without the backward pass, and "
        "compare it with the gradient of the backward pass. Exit code 1: a gradient is wrong. Exit code 3: a gradient "
        "is undecided; the report says why."
    )
    parser = add_action(subparsers, "gradcheck", run, SUMMARY, more, EXAMPLE)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"layers to check (default: all): {', '.join(CASES)}")
    parser.add_argument("--all", action="store_true", help="check all layers, as without a NAME")
    parser.add_argument("--sweep", action="store_true", help="print the error of the differences for each step size")
    parser.add_argument("--picture", metavar="FILE", help="draw these errors as a PNG (needs the extra viz)")
    parser.add_argument(
        "--mutants", action="store_true", help="plant mistakes, and print which checks find them; NAME selects by name"
    )
    parser.add_argument(
        "--generated", type=int, default=0, metavar="N", help="with --mutants: N more mistakes, at random (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list of objects instead of a table")


def run(options: argparse.Namespace) -> ExitCode:
    check_at_least(0, generated=options.generated)
    if options.mutants:
        return run_mutants(options)
    if options.generated:
        raise ConfigError("--generated draws further mistakes; it needs --mutants")
    in_any_case = {name.casefold(): name for name in CASES}
    for name in options.names:
        if name.casefold() not in in_any_case:
            raise ConfigError(f"there is no layer {name!r} to check; {did_you_mean(name, CASES)}")
    names = [in_any_case[name.casefold()] for name in options.names]
    names = list(CASES) if options.all or not names else names
    reports: list[Report] = []
    if not options.json:
        print(HEADER)
    bar = tqdm(check_cases(names), total=len(names), unit="layer", disable=not sys.stderr.isatty(), leave=False)
    for report in bar:
        reports.append(report)
        if not options.json:
            v = v_of_errors(report.sweep) if options.sweep else []
            bar.write("\n".join([report.text(heads=False), *v]), file=sys.stdout)
    checks = [check for report in reports for check in report]
    verdicts = [verdict.state for report in reports for verdict in report.verdicts.values()]
    n_wrong, all_checked = verdicts.count(WRONG), all(report.passed for report in reports)
    code = ExitCode.WRONG if n_wrong else ExitCode.FINE if all_checked else ExitCode.UNDECIDED
    if options.picture:
        draw_sweeps({report[0].layer: report.sweep for report in reports}, options.picture)
    if options.json:
        says = {(found.layer, found.tensor): found.says for report in reports for found in report.findings}
        print(json.dumps([dataclasses.asdict(c) | {"diagnosis": says.get((c.layer, c.tensor))} for c in checks]))
    else:
        print("\n".join(summary(checks)))
        verdict = "all right" if all_checked else f"{n_wrong} WRONG" if n_wrong else "some gradients are UNDECIDED"
        print(f"{len(verdicts)} gradients, {len(checks)} checks: {verdict}")
    return code


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
