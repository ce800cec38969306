"""What ``npgpt check`` prints about a layer: one line; more if a gradient is not right."""

import dataclasses
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from npgpt.cli.exit_codes import ExitCode
from npgpt.study.check import Report
from npgpt.study.check.verdict import RIGHT, UNDECIDED, WRONG

COLUMNS = 80
ROUNDING_ALONE = 1e-2
DIFFERENCES, EXACT = ("differences", "sweep"), ("tape", "complex", "adjoint")


def head(width: int) -> str:
    return f"{'layer':<{width}}  {'verdict':<9}  {'arrays':<10}  {'differences':>11}  {'exact':>6}"


def short(report: Report, width: int) -> list[str]:
    """Return one line: the verdict, how many arrays were checked, and the largest relative error by differences and
    by the exact methods; below it, what is not right.
    """
    shown = report.verdict if report.verdict == RIGHT else report.verdict.upper()
    n, total = report.n_checked, report.n_checked + len(report.unchecked)
    errors = [_largest(report, methods) for methods in (DIFFERENCES, EXACT)]
    line = f"{report.layer:<{width}}  {shown:<9}  {f'{n} of {total}':<10}  {errors[0]:>11}  {errors[1]:>6}"
    return [line.rstrip(), *_reasons(report)]


def _largest(report: Report, methods: tuple[str, ...]) -> str:
    numbers = [check.error for check in report if check.method in methods and not check.skipped]
    if report.passed:  # a gradient of zero, as that of a key's bias, has a relative error of rounding alone
        numbers = [error for error in numbers if error < ROUNDING_ALONE]
    return f"{max(numbers):.0e}" if numbers else "-"


def _reasons(report: Report) -> Iterator[str]:
    """Yield what is not right, and why."""
    says = {finding.tensor: finding.says for finding in report.findings}
    for name, verdict in report.verdicts.items():
        if verdict.state == WRONG:
            worst = report.worst(name)
            yield f"  WRONG {name}" + f" {verdict.reason}" * (verdict.reason in report.rounds)
            if worst is not None:
                cell = f"[{', '.join(map(str, worst[0]))}]"
                yield f"    at {cell} expected {worst[1]:.9g}, got {worst[2]:.9g}"
            yield from wrapped(says.get(name, ""), "    ")
        elif verdict.state == UNDECIDED:
            yield from wrapped(f"UNDECIDED {name}: {verdict.reason}", "  ")
    for name, what in report.unchecked.items():
        yield from wrapped(f"NOT CHECKED {name}: {what}", "  ")
    if not report.verdicts:
        yield "  nothing was checked: no array with a gradient was found"


def wrapped(text: str, indent: str) -> list[str]:
    """Return a sentence as lines of a terminal."""
    return textwrap.wrap(
        text, COLUMNS, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def last_line(reports: Sequence[Report]) -> str:
    """Return the verdict on all layers; those that are not right are named, because their lines may have scrolled."""
    parts = [f"{len(reports)} layer{'s' * (len(reports) != 1)}", f"{sum(r.n_checked for r in reports):,} arrays"]
    bad = {state: [r.layer for r in reports if r.verdict == state] for state in (WRONG, UNDECIDED)}
    named = [f"{state.upper()}: {', '.join(layers)}" for state, layers in bad.items() if layers]
    return f"{', '.join(parts)}: {'; '.join(named) or 'all right'}"


def code_of(reports: Sequence[Report]) -> ExitCode:
    if any(report.verdict == WRONG for report in reports):
        return ExitCode.WRONG
    return ExitCode.FINE if all(report.passed for report in reports) else ExitCode.UNDECIDED


def objects(report: Report) -> list[dict[str, Any]]:
    """Return what each method found for each array, as objects of JSON, which has no NaN and no infinity."""
    says = {found.tensor: found.says for found in report.findings}
    rows = [dataclasses.asdict(check) | {"diagnosis": says.get(check.tensor)} for check in report]
    return [
        {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in row.items()} for row in rows
    ]
