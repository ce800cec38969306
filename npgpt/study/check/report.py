"""The checker's report: a verdict for each tensor and method, the diagnoses, and text for the terminal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npgpt.core import Array
from npgpt.support.pictures import pyplot

# Method -> largest error; for Taylor, smallest slope. The tape is first: it is fast, and it checks every cell.
TOLERANCES = {"tape": 1e-12, "differences": 1e-7, "complex": 1e-12, "sweep": 1e-8, "Taylor": 1.8, "adjoint": 1e-12}
METHODS = tuple(TOLERANCES)

WIDTH, COLUMN = 31, 8  # with six methods, 79 columns: they fit on every terminal
HEADER = f"{'tensor':<{WIDTH}}" + "".join(
    f"{'differ.' if name == 'differences' else name:>{COLUMN}}" for name in METHODS
)


@dataclass(frozen=True)
class Check:
    """The verdict on one tensor by one method.

    Attributes
        tensor: ``input x``, ``param weight`` or ``kept xhat``, the last two with their path.
        error: relative, over the whole tensor; for Taylor, the slope.
        worst: the cell with the largest error; None for methods that do not compare cells.
        expected, got: the true gradient of that cell, and the one from the backward pass.
        skipped: the reason why the method could not run; empty if it ran.
    """

    layer: str
    tensor: str
    shape: tuple[int, ...]
    method: str
    error: float
    passed: bool
    worst: tuple[int, ...] | None = None
    expected: float | None = None
    got: float | None = None
    skipped: str = ""


@dataclass(frozen=True)
class Finding:
    """The diagnosis of a wrong gradient: ``kind``, one of ``KINDS``, and ``says``, a sentence."""

    layer: str
    tensor: str
    kind: str
    says: str


class Report(list[Check]):
    """All verdicts on a layer, and the diagnoses; ``print`` shows a table.

    Attributes
        findings: a diagnosis of each tensor that failed.
        truth: tensor -> true gradient, by the most exact method that ran.
        sweep: (h, error) of the whole layer along one direction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.findings: list[Finding] = []
        self.truth: dict[str, Array] = {}
        self.sweep: list[tuple[float, float]] = []

    @property
    def passed(self) -> bool:
        """Whether every check passed, and at least one method ran on each tensor."""
        asked = {check.tensor for check in self if not check.skipped}
        return all(check.passed and check.tensor in asked for check in self)

    def __str__(self) -> str:
        return "\n".join([_title(self), *_rows(self), *_notes(self)])


def _title(report: Report) -> str:
    tensors = {check.tensor for check in report}
    wrong = {check.tensor for check in report if not check.passed}
    verdict = f"{len(wrong)} of {len(tensors)} tensors WRONG" if wrong else f"{len(tensors)} tensors, all right"
    if not wrong and not report.passed:
        verdict = "NOT CHECKED, no chosen method could run"
    return f"{report[0].layer if report else 'nothing'}: {verdict}"


def _rows(report: Report) -> list[str]:
    """Return a line for each tensor; an exclamation mark follows each number that fails."""
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


def _notes(report: Report) -> list[str]:
    """Return the methods that could not run, and each wrong tensor with its worst cell and diagnosis."""
    lines = [f"  {method}: {why}" for method, why in {c.method: c.skipped for c in report if c.skipped}.items()]
    for finding in report.findings:
        checks = [check for check in report if check.tensor == finding.tensor and not check.passed]
        seen = next((check for check in checks if check.worst is not None), None)
        by = ", ".join(check.method for check in checks)
        lines.append(f"  WRONG {finding.tensor}, by {by}")
        if seen and seen.worst is not None:
            cell = ", ".join(map(str, seen.worst))
            lines.append(f"    at [{cell}] expected {seen.expected:.9g}, got {seen.got:.9g}")
        lines.append(f"    {finding.says}")
    return lines


def summary(checks: Sequence[Check]) -> list[str]:
    """Return the worst number of each method, and its limit."""
    lines = []
    for method in METHODS:
        numbers = [check.error for check in checks if check.method == method and not check.skipped]
        if numbers and method == "Taylor":
            lines.append(f"{method}: smallest slope {min(numbers):.2f}, must be above {TOLERANCES[method]}")
        elif numbers:
            lines.append(f"{method}: largest error {max(numbers):.1e}, must be below {TOLERANCES[method]:.0e}")
    return lines


def v_of_errors(sweep: Sequence[tuple[float, float]], width: int = 40) -> list[str]:
    """Return a bar for each step, longer for a smaller error: truncation and rounding make a V on its side."""
    lines = ["  step h    error (the longer the bar, the smaller the error)"]
    for h, error in sweep:
        digits = min(16.0, max(0.0, -math.log10(error))) if error > 0 else 16.0
        lines.append(f"  {h:.0e}   {error:.0e} {'█' * round(digits / 16 * width)}")
    return lines


def draw_sweeps(sweeps: Mapping[str, Sequence[tuple[float, float]]], path: str) -> None:
    """Draw error against step, a line for each layer, on logarithmic scales."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 5))
    for name, sweep in sweeps.items():
        axes.loglog(*zip(*sweep, strict=True), marker="o", markersize=3, label=name)
    axes.invert_xaxis()
    axes.set(
        xlabel="step h of the central difference",
        ylabel="relative error",
        title="the truncation error falls with h², the rounding error grows",
    )
    axes.legend(fontsize=7, ncols=3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
