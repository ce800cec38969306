"""The shortest check that may say "right": every cell against the tape, and the tape against one difference.

It never says "wrong". A gradient that is not plainly right is judged by all witnesses.
"""

import numpy as np

from npgpt.study.check.differences import rise
from npgpt.study.check.judge import upstream
from npgpt.study.check.report import Check, Report
from npgpt.study.check.subjects import Subject
from npgpt.study.check.tape import Taped
from npgpt.study.check.tape_gradients import gradients
from npgpt.study.check.verdict import RIGHT, Verdict
from npgpt.study.check.witnesses import EXACT, sizes_of

STEP, APART = 1e-4, 1e-6  # of the difference, and how far it may be from the tape, relative to the slope's terms
GLANCE = ("tape", "differences")


def glance(subject: Subject, seed: int = 0) -> Report | None:
    """Return a report if every gradient is plainly right; None if a longer look is needed."""
    y = subject.forward({})
    dy = np.ones(y.shape) if subject.is_end else upstream(y, seed)
    with np.errstate(all="ignore"):
        got = subject.gradients(dy.copy())
        try:
            taped, leaves = subject.taped()
            if not isinstance(taped, Taped):
                return None
            truth = gradients(taped, dy, leaves)
        except Exception:  # a stranger's forward may raise anything; a longer look says what
            return None
        rng = np.random.default_rng([seed, 2])
        v = {name: sizes_of(x) * rng.normal(size=x.shape) for name, x in subject.tensors.items() if name in truth}
        gained = [subject.forward({name: h * x for name, x in v.items()}) for h in (STEP, -STEP)]
        terms = dy * rise(*gained) / (2 * STEP)
        slope = sum(float((truth[name] * x).sum()) for name, x in v.items())
        if not abs(float(terms.sum()) - slope) <= APART * float(np.abs(terms).sum()):
            return None
        report = Report(subject.name)
        for name, x in subject.tensors.items():
            if name not in truth or got[name].shape != x.shape:
                return None
            gap = float(np.linalg.norm(got[name] - truth[name]))
            size = float(np.linalg.norm(got[name]) + np.linalg.norm(truth[name]))
            if not gap <= EXACT * size:
                return None
            report.append(Check(subject.name, name, x.shape, "tape", gap / (size or 1), True))
            report.verdicts[name] = Verdict(RIGHT, by=GLANCE)
    report.unchecked, report.unused = dict(subject.unchecked), list(subject.unused)
    report.remarks = list(subject.remarks)
    return report
