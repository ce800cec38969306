"""Is a wrong gradient what backward would give if it got one place of the forward pass wrong?"""

import itertools

import numpy as np

from npgpt.core import Array
from npgpt.study.check.evidence import Doctor
from npgpt.study.check.paths import Hypothesis
from npgpt.study.check.questions import NEAR, Answer, number, scale

MOST_CUTS = 24  # cuts that are tried in pairs


def one_place(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g what the mistake at one place would give, or two lost paths?

    A path that is lost, or has the factor c, has the share s of e: then g = e − s + c·s, with the same c in all passes.
    """
    lost: list[tuple[Hypothesis, Array]] = []
    for hypothesis, found in doctor.tried():
        predicted = found[name]
        share = e - predicted
        if not hypothesis.is_cut:
            if doctor.same(g, predicted) and _holds(doctor, hypothesis, name):
                return Answer(hypothesis.kind, f"{d} {hypothesis.says}", sure=True)
            continue
        if not share.any() or doctor.same(share, e) or doctor.same(predicted, e):
            continue
        c = scale(share, g - predicted)
        if doctor.same(g, predicted + c * share) and _holds(doctor, hypothesis, name, c):
            return _with_factor(doctor, hypothesis, d, c)
        if not any(doctor.same(share, known) for _, known in lost):
            lost.append((hypothesis, share))
    for (one, of_one), (two, of_two) in itertools.combinations(lost[:MOST_CUTS], 2):
        if doctor.same(g, e - of_one - of_two) and _both_hold(doctor, one, two, name):
            return Answer("lost term", f"{d} lacks {one.says} and {two.says}", sure=True)
    for hypothesis, share in lost if e.size > 4 else ():
        rest = e - share
        (a, c), *_ = np.linalg.lstsq(np.stack([rest.ravel(), share.ravel()], axis=1), g.ravel(), rcond=None)
        if doctor.same(g, a * rest + c * share) and _holds(doctor, hypothesis, name, c, a):
            of_path, of_rest = (f"{number(x)}{doctor.name_factor(x)}" for x in (c, a))
            path = f"{hypothesis.says} times {of_path}, and the rest"
            path = f"all but {hypothesis.says}" if abs(c - 1) < doctor.close else path
            if abs(a) < doctor.close:
                says = f"{d} has only {hypothesis.says}" + (f", times {of_path}" if abs(c - 1) > doctor.close else "")
                return Answer("lost term", says, sure=True)
            return Answer("factor", f"{d} has {path} times {of_rest}", sure=True)
    return None


def _holds(doctor: Doctor, hypothesis: Hypothesis, name: str, c: float | None = None, a: float = 1.0) -> bool:
    """Return whether a hypothesis explains the other passes, too: with the path times c, and the rest times a."""
    for other in doctor.others:
        found = None if other.walk is None else hypothesis.predicts(other.walk)
        if found is None:
            return False
        predicted = found[name] if c is None else a * found[name] + c * (other.truth[name] - found[name])
        if not other.same(other.got[name], predicted):
            return False
    return True


def _both_hold(doctor: Doctor, one: Hypothesis, two: Hypothesis, name: str) -> bool:
    for other in doctor.others:
        found = [h.predicts(other.walk) for h in (one, two) if other.walk is not None]
        shares = [other.truth[name] - x[name] for x in found if x is not None]
        if len(shares) < 2 or not other.same(other.got[name], other.truth[name] - shares[0] - shares[1]):
            return False
    return True


def _with_factor(doctor: Doctor, hypothesis: Hypothesis, d: str, c: float) -> Answer:
    """Return the answer for a path that arrives with a factor c in place of 1."""
    path = hypothesis.says
    if abs(c) < doctor.close:
        return Answer("lost term", f"{d} lacks {path}", sure=True)
    if abs(c + 1) < doctor.close:
        return Answer("sign", f"{d} has {path} with the wrong sign", sure=True)
    kind = "constant" if abs(c - 1) < NEAR else "factor"
    return Answer(kind, f"{d} has {path} times {number(c)}{doctor.name_factor(c)}", sure=True)
