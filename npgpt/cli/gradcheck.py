"""``npgpt gradcheck``: is every gradient right?"""

import argparse
import dataclasses
import json
import sys
from typing import Any

from tqdm import tqdm

from npgpt.errors import ConfigError, did_you_mean
from npgpt.study.check import CASES, Report, check_cases
from npgpt.study.check.report import HEADER, draw_sweeps, summary, v_of_errors
from npgpt.study.mutants import MUTANTS, generated, scores, try_mutant


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "gradcheck",
        help="check every gradient of every layer",
        description=(
            "Nudge every number of every input, parameter and kept intermediate result, and compare what the output "
            "does with what the backward pass says. Exit code 1 if a gradient is wrong."
        ),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to check (all): {', '.join(CASES)}")
    parser.add_argument("--all", action="store_true", help="check every layer, which is done too if none is named")
    parser.add_argument("--sweep", action="store_true", help="draw the error against the step of the differences")
    parser.add_argument("--picture", metavar="FILE", help="the same as a picture (needs the extra viz)")
    parser.add_argument("--mutants", action="store_true", help="plant mistakes, and see which check kills which")
    parser.add_argument("--generated", type=int, default=0, metavar="N", help="with --mutants: N more, drawn at random")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.mutants:
        return run_mutants(options)
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
            bar.write("\n".join([str(report), *v]), file=sys.stdout)
    checks = [check for report in reports for check in report]
    if options.picture:
        draw_sweeps({report[0].layer: report.sweep for report in reports}, options.picture)
    if options.json:
        says = {(found.layer, found.tensor): found.says for report in reports for found in report.findings}
        print(json.dumps([dataclasses.asdict(c) | {"diagnosis": says.get((c.layer, c.tensor))} for c in checks]))
    else:
        print("\n".join(summary(checks)))
        n_wrong = sum(not check.passed for check in checks)
        print(f"{len(checks)} checks: {f'{n_wrong} WRONG' if n_wrong else 'all right'}")
    return 0 if all(report.passed for report in reports) else 1


def run_mutants(options: argparse.Namespace) -> int:
    """Every mistake of the catalogue, planted and taken out again."""
    chosen = [m for m in MUTANTS if not options.names or any(name.casefold() in m.name for name in options.names)]
    if not chosen:
        raise ConfigError(f"no mutant has {' or '.join(options.names)} in its name")
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
    return 1 if alive else 0
