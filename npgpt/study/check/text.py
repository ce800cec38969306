"""What the checker found, for the terminal: a row for each tensor, a column for each method, and what is wrong."""

import math
from collections.abc import Sequence

from npgpt.study.check.checker import METHODS, TOLERANCES, Check, Report

WIDTH, COLUMN = 31, 8  # with six methods 79 columns: what a terminal has at least
HEADER = f"{'tensor':<{WIDTH}}" + "".join(
    f"{'differ.' if name == 'differences' else name:>{COLUMN}}" for name in METHODS
)


def as_text(report: Report) -> str:
    """The whole table of one layer, with its findings."""
    shown = [title(report), *rows(report), *notes(report)]
    return "\n".join(shown)


def title(report: Report) -> str:
    tensors = {check.tensor for check in report}
    wrong = {check.tensor for check in report if not check.passed}
    verdict = f"{len(wrong)} of {len(tensors)} tensors WRONG" if wrong else f"{len(tensors)} tensors, all right"
    if not wrong and not report.passed:
        verdict = "NOT CHECKED, no method that was chosen could be asked"
    return f"{report[0].layer if report else 'nothing'}: {verdict}"


def rows(report: Report) -> list[str]:
    """A line for each tensor; a number that is not good enough has an exclamation mark."""
    by_tensor: dict[str, dict[str, Check]] = {}
    for check in report:
        by_tensor.setdefault(check.tensor, {})[check.method] = check
    lines = []
    for tensor, checks in by_tensor.items():
        cells = "".join(f"{_number(checks[name]) if name in checks else '':>{COLUMN}}" for name in METHODS)
        name = tensor if len(tensor) < WIDTH else f"{tensor.split(' ', 1)[0]} …{tensor[-(WIDTH - 9) :]}"
        lines.append(f"{name:<{WIDTH}}{cells}")
    return lines


def _number(check: Check) -> str:
    if check.skipped:
        return "-"
    said = f"{check.error:.2f}" if check.method == "Taylor" else f"{check.error:.0e}"
    return said if check.passed else f"{said}!"


def notes(report: Report) -> list[str]:
    """What could not be asked, and for each wrong tensor where, how much, and why."""
    lines = [f"  {method}: {why}" for method, why in {c.method: c.skipped for c in report if c.skipped}.items()]
    for finding in report.findings:
        checks = [check for check in report if check.tensor == finding.tensor and not check.passed]
        seen = next((check for check in checks if check.worst is not None), None)
        by = ", ".join(check.method for check in checks)
        lines.append(f"  WRONG {finding.tensor}, say {by}")
        if seen and seen.worst is not None:
            cell = ", ".join(map(str, seen.worst))
            lines.append(f"    at [{cell}] expected {seen.expected:.9g}, got {seen.got:.9g}")
        lines.append(f"    {finding.says}")
    return lines


def summary(checks: Sequence[Check]) -> list[str]:
    """The worst number of each method, and what it may be."""
    lines = []
    for method in METHODS:
        numbers = [check.error for check in checks if check.method == method and not check.skipped]
        if not numbers:
            continue
        if method == "Taylor":
            lines.append(f"{method}: smallest slope {min(numbers):.2f}, must be above {TOLERANCES[method]}")
        else:
            lines.append(f"{method}: largest error {max(numbers):.1e}, must be below {TOLERANCES[method]:.0e}")
    return lines


def v_of_errors(sweep: Sequence[tuple[float, float]], width: int = 40) -> list[str]:
    """The V that truncation and rounding make, lying on its side: a bar for each step, longer where it is better."""
    lines = ["  step h    error (the longer the bar, the smaller the error)"]
    for h, error in sweep:
        digits = min(16.0, max(0.0, -math.log10(error))) if error > 0 else 16.0
        lines.append(f"  {h:.0e}   {error:.0e} {'█' * round(digits / 16 * width)}")
    return lines
