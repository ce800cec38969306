"""What a check found wrong in a user's layer, for someone who learns: the first mistake, not a table of numbers."""

import numpy as np

from npgpt.study.check.cases import Case
from npgpt.study.check.diagnosis import is_explanation
from npgpt.study.check.evidence import gradient_name
from npgpt.study.check.judge import on_the_way_back, upstream
from npgpt.study.check.report import Report
from npgpt.study.check.verdict import RIGHT, WRONG
from npgpt.study.exercises.own_lines import filled


def never_called(case: Case) -> str:
    """Name the sub-layers in which no gradient was noted at all: their backward did not run. Empty if there is none."""
    cache = case.cache(trace=True)
    case.backward(upstream(np.asarray(case.forward(cache))), cache)
    noted = [(path, grad is not None) for path, x, grad in cache.walk() if x.dtype.kind == "f"]
    silent = []
    for name in case.layer.children():
        inside = [is_noted for path, is_noted in noted if path.startswith(f"{name}.")]
        if inside and not any(inside):
            silent.append(f'self.{name}.backward(d..., cache.scope("{name}"))')
    says = "The backward pass of a sub-layer was not called. Add"
    return filled(f"{says} {', '.join(silent)}, and go on with what it returns.") if silent else ""


def described(report: Report, case: Case) -> str:
    """Return the deepest mistake of a report that has not passed: the cell, the cause, and what is right."""
    wrong = [name for name, verdict in report.verdicts.items() if verdict.state == WRONG]
    given = report.witnesses.got if report.witnesses else {}
    empty = {name for name, grad in given.items() if grad.size and np.isnan(grad).all()}
    not_noted = [name for name in given if name in empty and name.startswith("kept ")]
    if not wrong:
        reasons = {_gradient(n): v.reason for n, v in report.verdicts.items() if v.state != RIGHT and n not in empty}
        reasons |= {_gradient(name): "it is NaN everywhere" for name in empty} | report.unchecked
        return "\n".join(filled(f"{d} could not be judged: {reason}.", "    ") for d, reason in reasons.items())
    if set(wrong) <= set(not_noted):
        return _only_not_noted([name.removeprefix("kept ") for name in wrong])
    noted = [finding for finding in report.findings if finding.kind != "not noted"]
    finding = next((finding for finding in noted if is_explanation(finding.kind)), noted[0])
    d = _gradient(finding.tensor)
    lines = [f"{report.layer}: {d} is wrong."]
    if (worst := report.worst(finding.tensor)) is not None:
        cell, expected, got = worst
        lines.append(f"{d}{list(cell)} is {got:.9g}, expected {expected:.9g}.")
    child = finding.tensor.split(" ", 1)[1].partition(".")[0]
    if child in case.layer.children() and any(name.startswith(f"kept {child}.") for name in wrong):
        # The sub-layer's backward is npgpt's own, and right.
        lines.append(f"So self.{child}.backward got a wrong gradient: it must get that of its forward's output.")
    lines += [f"{finding.says}."] * (finding.kind != "follows")
    if finding.kind == "shape" and len(inputs := case.float_inputs()) > 1:
        lines.append(f"Return {', '.join(f'd{name}' for name in inputs)}, in this order.")
    lines += _others(report, finding.tensor)
    return "\n".join(filled(line, "    ") for line in lines)


def _only_not_noted(names: list[str]) -> str:
    calls = ", ".join(f'cache.note("{name.split(".")[-1]}", ...)' for name in names)
    says = (
        "What backward returns and adds is right, but it does not say the gradient of "
        f"{'an array' if len(names) == 1 else f'{len(names)} arrays'} that forward kept. Add {calls}: "
        "the check and the trace look at these gradients."
    )
    return filled(says)


def _others(report: Report, tensor: str) -> list[str]:
    """List the gradients of the layer itself that are right, and those that are wrong, perhaps for the same reason."""
    own = {_gradient(name): name for name in on_the_way_back(report.verdicts) if "." not in name}
    right = [d for d, name in own.items() if report.verdicts[name].state == RIGHT]
    wrong = [d for d, n in own.items() if report.verdicts[n].state == WRONG and d != _gradient(tensor)]
    return [f"Right: {', '.join(right)}."] * bool(right) + [
        f"Also wrong, perhaps because of it: {', '.join(wrong)}."
    ] * bool(wrong)


def _gradient(tensor: str) -> str:
    return gradient_name(tensor.split(" ", 1)[1])
