"""One round of a check: the witnesses testify about every gradient of a subject, and what is wrong is diagnosed."""

from collections.abc import Iterable, Sequence

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError, NpgptError, did_you_mean
from npgpt.study.check.diagnosis import diagnose_all
from npgpt.study.check.evidence import Doctor
from npgpt.study.check.kinks import move_off_kinks
from npgpt.study.check.report import METHODS, Check, Finding, Report
from npgpt.study.check.subjects import Subject
from npgpt.study.check.verdict import ABSTAINS, DIFFERS, RIGHT, UNDECIDED, WRONG, Opinion, Verdict, decide
from npgpt.study.check.witnesses import IN_FLOAT32, Witnesses


def check(subject: Subject, methods: Sequence[str] = METHODS, seed: int = 0, until_wrong: bool = False) -> Report:
    """Check every gradient of a subject once, and say what is wrong.

    Args
        until_wrong: ask no further method once one differs, and explain only the first wrong gradient.
    """
    for method in methods:
        if method not in METHODS:
            raise ConfigError(f"there is no method {method!r}; {did_you_mean(method, METHODS)}")
    report = Report(subject.name)
    y = subject.forward({})
    dy = np.ones(y.shape) if subject.is_end else upstream(y, seed)
    if y.dtype.kind == "c":
        raise ConfigError(f"{subject.name}: forward returned complex numbers; the checker has real outputs only")
    if not np.isfinite(y).any():
        raise ConfigError(f"{subject.name}: forward's output holds no finite number; give inputs of order one")
    try:
        beside_kinks = move_off_kinks(subject, dy, seed)
        y = subject.forward({})
        with np.errstate(all="ignore"):  # a wrong gradient may be infinite
            given = subject.gradients(dy.copy())  # one that writes into it must not spoil the judgement
        witnesses = Witnesses(subject, y, dy, given, seed, 2)
        report.witnesses = witnesses
        opinions = _ask(witnesses, methods, until_wrong)
    except NpgptError:
        raise
    except Exception as error:
        if subject.strict:
            raise
        says = f"it fails if its numbers are moved a little: {type(error).__name__}: {error}"
        raise ConfigError(f"{subject.name}: {says}") from error
    for name in subject.tensors:
        verdict = decide(opinions[name])
        if not beside_kinks and verdict.state != RIGHT:
            verdict = Verdict(UNDECIDED, "no numbers were found at which forward is differentiable")
        if given[name].shape != witnesses.got[name].shape:
            verdict = Verdict(WRONG, by=("shape",))
        elif given[name].size and np.isnan(given[name]).all() and not name.startswith("kept "):
            verdict = Verdict(UNDECIDED, f"backward gives no gradient of {name.split(' ', 1)[1]}")
        report.verdicts[name] = verdict
        for method, opinion in opinions[name].items():
            report.append(_check(subject, witnesses, name, method, opinion))
    _ask_about_habits(report, subject, dy, given)
    if subject.coarse:
        named = ", ".join(sorted(name.split(" ", 1)[1] for name in subject.coarse))
        report.remarks.append(f"the gradient of {named} came in float32; its tolerance is that of float32")
    report.unchecked, report.unused = dict(subject.unchecked), list(subject.unused)
    report.remarks += subject.remarks
    if witnesses.noise > IN_FLOAT32:
        report.remarks.append(
            f"forward's rounding errors are {witnesses.noise:.0e}, as in float32; the tolerances are those of float32"
        )
    return explained(report, subject, given, until_wrong)


def _ask(witnesses: Witnesses, methods: Sequence[str], until_wrong: bool) -> dict[str, dict[str, Opinion]]:
    found: dict[str, dict[str, Opinion]] = {name: {} for name in witnesses.subject.tensors}
    for method in METHODS:
        if method in methods:
            with np.errstate(all="ignore"):
                for name in found:
                    found[name][method] = witnesses.opinion(method, name)
            if until_wrong and any(decide(opinions).state == WRONG for opinions in found.values()):
                break
    return found


def _check(subject: Subject, witnesses: Witnesses, name: str, method: str, opinion: Opinion) -> Check:
    shape = subject.tensors[name].shape
    skipped = opinion.reason if opinion.state == ABSTAINS else ""
    worst, expected, got = None, None, None
    if method == "tape" and not skipped and witnesses.got[name].size:
        off = np.nan_to_num(np.abs(witnesses.got[name] - witnesses.truth[name]), nan=np.inf)
        worst = tuple(int(i) for i in np.unravel_index(np.argmax(off), off.shape))
        expected, got = float(witnesses.truth[name][worst]), float(witnesses.got[name][worst])
    passed = opinion.state != DIFFERS
    return Check(subject.name, name, shape, method, opinion.error, passed, worst, expected, got, skipped)


def explained(report: Report, subject: Subject, given: dict[str, Array], until_wrong: bool = False) -> Report:
    """Compute the true gradients of the tensors that are not right, and diagnose them."""
    witnesses = report.witnesses
    assert witnesses is not None
    suspicious = [n for n in on_the_way_back(subject.tensors) if report.verdicts[n].state != RIGHT]
    wrong = [n for n in suspicious if report.verdicts[n].state == WRONG]
    report.truth = {n: witnesses.truth[n] for n in subject.tensors if n in witnesses.truth and not witnesses.tape_fails}
    for name in suspicious[:1] if until_wrong else suspicious:
        cells = witnesses.cells_of(name)
        if cells is not None:
            report.truth[name] = cells
        elif name in report.truth:
            del report.truth[name]
    if wrong:
        close = max(1e-9, 100 * witnesses.noise)
        doctor = Doctor(subject, witnesses.dy, given, report.truth, close=close)
        answers = diagnose_all(doctor, wrong, until_wrong)
        report.findings = [
            Finding(subject.name, name, answer.kind, answer.says) for name, answer in zip(wrong, answers, strict=True)
        ]
        for name in wrong:
            report.note_worst(name, given[name])
    return report


def _ask_about_habits(report: Report, subject: Subject, dy: Array, given: dict[str, Array]) -> None:
    """Ask what a gradient does not show: does a pass write into its arguments, does it depend on the pass before?"""
    habits, again = subject.habits(dy)
    report.remarks += habits
    for name, grad in again.items():
        size = float(np.linalg.norm(grad) + np.linalg.norm(given[name]))
        if report.verdicts[name].state == RIGHT and not np.linalg.norm(grad - given[name]) <= 1e-6 * size:
            report.verdicts[name] = Verdict(
                UNDECIDED, "it depends on the pass before, which left something that backward uses"
            )
    assert report.witnesses is not None
    for name, verdict in report.verdicts.items():
        kept = name.startswith("kept ") and verdict.state == WRONG
        if kept and given[name].any() and not any(s.size for s in report.witnesses.differences_of(name)):
            says = f'forward did not go on with what keep returned: write {name[5:]} = cache.keep("{name[5:]}", ...)'
            report.verdicts[name] = Verdict(UNDECIDED, says)


def upstream(y: Array, seed: int = 0) -> Array:
    """A random gradient of an output, from a stream of its own: drawn as the inputs are, it would be one of them."""
    return np.asarray(np.random.default_rng([seed, 1]).normal(size=y.shape))


def on_the_way_back(tensors: Iterable[str]) -> list[str]:
    """Tensors in the order in which backward meets them: what is wrong later may be so because of what came first."""
    names = list(tensors)
    kept = [name for name in names if name.startswith("kept ")]
    return kept[::-1] + [name for name in names if not name.startswith("kept ")]
