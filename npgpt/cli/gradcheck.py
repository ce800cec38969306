"""``npgpt gradcheck``: is every gradient right?"""

import argparse
import dataclasses
import json
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tqdm import tqdm

from npgpt.errors import ConfigError, did_you_mean
from npgpt.study.check.cases import CASES, make_case
from npgpt.study.check.checker import Report, check_case
from npgpt.study.check.text import HEADER, as_text, summary, v_of_errors
from npgpt.support.pictures import pyplot

MANY = 8  # layers, from which on starting processes pays


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
    bar = tqdm(_reports(names), total=len(names), unit="layer", disable=not sys.stderr.isatty(), leave=False)
    for report in bar:
        reports.append(report)
        if not options.json:
            v = v_of_errors(reports[-1].sweep) if options.sweep else []
            bar.write("\n".join([as_text(reports[-1]), *v]), file=sys.stdout)
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


def _reports(names: list[str]) -> Iterator[Report]:
    """The reports, in order; of many layers by as many processes as there are cores."""
    if len(names) < MANY:
        yield from map(_report, names)
        return
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_report, names)


def _report(name: str) -> Report:
    return check_case(make_case(name))


def draw_sweeps(sweeps: dict[str, list[tuple[float, float]]], path: str) -> None:
    """Error against step, a line for each layer, both scales logarithmic."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 5))
    for name, sweep in sweeps.items():
        axes.loglog(*zip(*sweep, strict=True), marker="o", markersize=3, label=name)
    axes.invert_xaxis()
    axes.set(
        xlabel="step h of the central difference",
        ylabel="relative error",
        title="truncation falls with h², rounding grows",
    )
    axes.legend(fontsize=7, ncols=3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def run_mutants(options: argparse.Namespace) -> int:
    """Every mistake of the catalogue, planted and taken out again."""
    from npgpt.study.mutants import MUTANTS  # imports all that it plants mistakes in
    from npgpt.study.mutants.generated import generated
    from npgpt.study.mutants.verdict import scores, try_mutant, verdict_text

    chosen = [m for m in MUTANTS if not options.names or any(name.casefold() in m.name for name in options.names)]
    if not chosen:
        raise ConfigError(f"no mutant has {' or '.join(options.names)} in its name")
    verdicts = []
    bar = tqdm(chosen, unit="mutant", disable=not sys.stderr.isatty(), leave=False)
    for mutant in bar:
        bar.set_description(mutant.name)
        verdicts.append(try_mutant(mutant))
        if not options.json:
            bar.write(verdict_text(verdicts[-1]), file=sys.stdout)
    drawn = []
    for verdict in tqdm(generated(options.generated), total=options.generated, disable=not sys.stderr.isatty()):
        drawn.append(verdict)
        if not options.json and not verdict.killed_by:
            print(verdict_text(verdict))
    alive = [verdict.name for verdict in verdicts + drawn if not verdict.killed_by]
    if options.json:
        print(json.dumps([dataclasses.asdict(verdict) for verdict in verdicts + drawn]))
    else:
        print("\n".join(scores(verdicts, drawn)))
    return 1 if alive else 0
