"""The checker's report: a verdict for each tensor, what each method found, the diagnoses, and text for the terminal."""

import functools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from npgpt.core import Array
from npgpt.study.check.verdict import RIGHT, TOLERANCES, UNDECIDED, WRONG, Verdict
from npgpt.support.pictures import pyplot

if TYPE_CHECKING:
    from npgpt.study.check.witnesses import Witnesses

METHODS = tuple(TOLERANCES)

WIDTH, COLUMN = 31, 8  # with six methods, 79 columns: they fit on every terminal
HEADER = f"{'tensor':<{WIDTH}}" + "".join(
    f"{'differ.' if name == 'differences' else name:>{COLUMN}}" for name in METHODS
)


@dataclass(frozen=True)
class Check:
    """What one method found for one tensor.

    Attributes
        tensor: ``input x``, ``param weight`` or ``kept xhat``, the last two with their path.
        error: relative; for Taylor, the slope.
        passed: False if the method differs from the gradient. ``Report.verdicts`` has the verdict of all methods.
        worst: the cell with the largest error; None for methods that do not compare cells.
        expected, got: the true gradient of that cell, and the one from the backward pass.
        skipped: the reason why the method abstains; empty if it does not.
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
    """All that is known about a layer's gradients; ``print`` shows it.

    Attributes
        verdicts: tensor -> verdict.
        unchecked: array -> what to do, for arrays that forward depends on and whose gradient nobody checked.
        unused: arrays that are constants: forward does not depend on them, or the user says so.
        remarks: sentences on how the layer behaves.
        expects: number of arrays that must be checked; None for any.
        findings: a diagnosis of each wrong tensor.
        truth: tensor -> true gradient, where it is known cell by cell.
        rounds: what the later rounds ("with other weights", "in training") found.
    """

    def __init__(self, layer: str = "nothing") -> None:
        super().__init__()
        self.layer = layer
        self.verdicts: dict[str, Verdict] = {}
        self.unchecked: dict[str, str] = {}
        self.unused: list[str] = []
        self.remarks: list[str] = []
        self.expects: int | None = None
        self.findings: list[Finding] = []
        self.truth: dict[str, Array] = {}
        self.rounds: dict[str, Report] = {}
        self.witnesses: Witnesses | None = None
        self._worst: dict[str, tuple[tuple[int, ...], float, float]] = {}

    @property
    def verdict(self) -> str:
        """RIGHT, WRONG or UNDECIDED, for all gradients together. One that nobody checked is never right."""
        states = {verdict.state for verdict in self.verdicts.values()}
        if WRONG in states:
            return WRONG
        complete = self.verdicts and not self.unchecked and self.expects in (None, self.n_checked)
        return RIGHT if states == {RIGHT} and complete else UNDECIDED

    @functools.cached_property
    def sweep(self) -> list[tuple[float, float]]:
        """(h, error) of the whole layer along one direction."""
        if self.witnesses is None:
            return []
        with np.errstate(all="ignore"):
            return self.witnesses.sweep([name for name in self.witnesses.got if not name.startswith("kept ")])

    @property
    def passed(self) -> bool:
        """Whether every gradient was checked and is right."""
        return self.verdict == RIGHT

    @property
    def n_checked(self) -> int:
        return len(self.verdicts)

    def __str__(self) -> str:
        return self.text()

    def text(self, heads: bool = True) -> str:
        rows = _rows(self)
        return "\n".join([_title(self), *([HEADER] if heads and rows else []), *rows, *notes(self)])

    def note_worst(self, name: str, got: Array) -> None:
        """Note the cell of a tensor that is farthest from the truth."""
        truth = self.truth.get(name)
        if truth is not None and truth.shape == got.shape and truth.size:
            off = np.nan_to_num(np.abs(got - truth), nan=np.inf)
            cell = tuple(int(i) for i in np.unravel_index(np.argmax(off), off.shape))
            self._worst[name] = cell, float(truth[cell]), float(got[cell])

    def worst(self, name: str) -> tuple[tuple[int, ...], float, float] | None:
        """Return (cell, expected, got) of the cell that is farthest from the truth."""
        return self._worst.get(name)

    def drop(self, name: str, why: str) -> None:
        """Take a tensor out of the check: it is not checked."""
        self.verdicts.pop(name, None)
        self[:] = [check for check in self if check.tensor != name]
        self.findings = [finding for finding in self.findings if finding.tensor != name]
        path = name.split(" ", 1)[1]
        self.unchecked[f"array {path}"] = f"{why}: say where it is, grads={{{path!r}: ...}}, or constants=[{path!r}]"

    def doubt(self, name: str, why: str) -> None:
        """Take back the verdict WRONG on a tensor."""
        self.verdicts[name] = Verdict(UNDECIDED, why)
        self.findings = [finding for finding in self.findings if finding.tensor != name]

    def add_round(self, label: str, later: "Report", decides: bool) -> None:
        """Take over what a later round found.

        Args
            decides: whether a difference that only this round has makes a gradient wrong.
        """
        self.rounds[label] = later
        for name, verdict in later.verdicts.items():
            now = self.verdicts.get(name)
            if verdict.state == RIGHT or (now is not None and now.state != RIGHT):
                if now is not None and verdict.state == WRONG and decides:
                    self.verdicts[name] = Verdict(WRONG, label, verdict.by)
                continue
            if verdict.state == WRONG and decides:
                self.verdicts[name] = Verdict(WRONG, label, verdict.by)
            elif verdict.state == WRONG:
                says = (
                    f"it differs {label}: it is wrong there, or backward uses something derived from the given weights"
                )
                self.verdicts[name] = Verdict(UNDECIDED, says, verdict.by)
            else:
                self.verdicts[name] = Verdict(UNDECIDED, f"{label}: {verdict.reason}")
        for name, says in later.unchecked.items():
            self.unchecked.setdefault(name, says)
        if any(self.verdicts[name].state == WRONG for name in later.verdicts if name in self.verdicts):
            self.findings = self.findings or later.findings
            self.truth |= later.truth
            self._worst |= later._worst
        self.remarks += [says for says in later.remarks if says not in self.remarks]


def _title(report: Report) -> str:
    n, wrong = report.n_checked, sum(verdict.state == WRONG for verdict in report.verdicts.values())
    total = n + len(report.unchecked)
    checked = f"{n} of {total} array{'s' * (total != 1)} checked"
    if wrong:
        return f"{report.layer}: {checked}, {wrong} of {n} gradients WRONG"
    if report.passed:
        return f"{report.layer}: {checked}, all right"
    return f"{report.layer}: {checked}, UNDECIDED"


def _rows(report: Report) -> list[str]:
    """Return a line for each tensor; an exclamation mark follows each number that differs."""
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
    """Return why methods abstain, each tensor that is not right, each array that is not checked, and the remarks."""
    lines = [f"  {method}: {why}" for method, why in {c.method: c.skipped for c in report if c.skipped}.items()]
    says = {finding.tensor: finding.says for finding in report.findings}
    for name, verdict in report.verdicts.items():
        if verdict.state == WRONG:
            label = f" {verdict.reason}" if verdict.reason in report.rounds else ""
            lines.append(f"  WRONG {name}{label}, by {', '.join(verdict.by)}")
            if (worst := report.worst(name)) is not None:
                lines.append(f"    at [{', '.join(map(str, worst[0]))}] expected {worst[1]:.9g}, got {worst[2]:.9g}")
            if name in says:
                lines += textwrap.wrap(says[name], 79, initial_indent="    ", subsequent_indent="    ")
        elif verdict.state == UNDECIDED:
            lines.append(f"  UNDECIDED {name}: {verdict.reason}")
    alone = [name for name, v in report.verdicts.items() if v.state != UNDECIDED and v.reason.startswith("one witness")]
    if alone:
        shown = ", ".join(alone[:3]) + (f" and {len(alone) - 3} more" if len(alone) > 3 else "")
        lines.append(f"  one witness, differences alone: {shown}")
    lines += [f"  NOT CHECKED {name}: {what}" for name, what in report.unchecked.items()]
    if report.expects not in (None, report.n_checked):
        lines.append(f"  {report.expects} arrays were expected, {report.n_checked} were checked")
    if not report.verdicts:
        lines.append("  nothing was checked: no array with a gradient was found")
    if report.unused:
        lines.append(f"  constant: {', '.join(report.unused)}")
    return lines + [f"  note: {says}" for says in report.remarks]


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
