"""``npgpt gradcheck``: is every gradient right?"""

import argparse
import dataclasses
import json
import sys
from typing import Any

from tqdm import tqdm

from npgpt.errors import ConfigError, did_you_mean
from npgpt.study.cases import CASES, make_case
from npgpt.study.gradcheck import HEADER, METHODS, Report, check_case, row


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
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    in_any_case = {name.casefold(): name for name in CASES}
    for name in options.names:
        if name.casefold() not in in_any_case:
            raise ConfigError(f"there is no layer {name!r} to check; {did_you_mean(name, CASES)}")
    names = [in_any_case[name.casefold()] for name in options.names] or list(CASES)
    checks = Report()
    if not options.json:
        print(HEADER)
    bar = tqdm(names, unit="layer", disable=not sys.stderr.isatty(), leave=False)
    for name in bar:
        bar.set_description(name)
        report = check_case(make_case(name))
        checks.extend(report)
        if not options.json:
            bar.write("\n".join(map(row, report)), file=sys.stdout)
    if options.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks]))
    else:
        n_wrong = sum(not check.passed for check in checks)
        for method in METHODS:
            largest = max(check.error for check in checks if check.method == method.name)
            print(f"{method.name}: largest error {largest:.1e}, allowed {method.tolerance:.0e}")
        print(f"{len(checks)} checks: {f'{n_wrong} WRONG' if n_wrong else 'all right'}")
    return 0 if checks.passed else 1
