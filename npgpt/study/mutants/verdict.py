"""Which check kills a mutant, and is it called by its name?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npgpt.core import Array
from npgpt.errors import NpgptError
from npgpt.study.check.cases import Case, compile_case, make_case
from npgpt.study.check.checker import check_case, on_the_way_back, upstream
from npgpt.study.check.diagnosis import diagnose_all, is_explanation
from npgpt.study.check.differences import rise
from npgpt.study.check.evidence import Doctor
from npgpt.study.check.laws import LAWS, LAWS_OF_COMPILED, equals_its_textbook_twin, laws_for
from npgpt.study.check.subjects import LayerSubject
from npgpt.study.mutants.plant import Mutant, planted
from npgpt.study.mutants.references import (
    accumulation_by_kernels_is_right,
    accumulation_is_right,
    adamw_is_right,
    clipping_is_right,
    evaluation_is_right,
    training_is_right,
)

REFERENCE = "reference in plain numbers"
UNNAMED = {"reference": "in training, by a second computation", "border": "beyond a border of the usual sizes"}
FLOAT32 = 2e-5  # how far float32 may be off


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes
        killed_by: the methods and laws that found it; empty if none did.
        diagnosis: what was said of it.
        diagnosed: whether that is what was planted.
        held_out: whether the diagnosis was written without looking at it.
        kind: the mutant's; for those in ``UNNAMED`` no diagnosis is expected. Empty if it was drawn at random.
    """

    name: str
    says: str
    killed_by: list[str]
    diagnosis: str
    diagnosed: bool
    held_out: bool
    kind: str = ""

    def __str__(self) -> str:
        """Three lines: the mistake, who killed it, and what was said."""
        by = ", ".join(self.killed_by) or "NOBODY: it lives"
        mark = " " if self.kind in UNNAMED else "=" if self.diagnosed else "≠"
        return f"{self.name}: “{self.says}”\n  killed by {by}\n  {mark} {self.diagnosis or 'no diagnosis'}"


def try_mutant(mutant: Mutant, until_killed: bool = False) -> Verdict:
    """Plant a mistake, and run every check on it.

    Args
        until_killed: stop at the first check that finds it. What the diagnosis says does not depend on the others.
    """
    with planted(mutant):
        if mutant.kind == "reference":
            killed_by, kind, says = _by_reference(mutant), "", ""
        else:
            killed_by, kind, says = judge(mutant.case, mutant.compiled, until_killed)
    return Verdict(mutant.name, mutant.says, killed_by, says, kind == mutant.kind, mutant.held_out, mutant.kind)


def judge(name: str, compiled: bool = False, until_killed: bool = False) -> tuple[list[str], str, str]:
    """The checks that find a case wrong; the kind of mistake that the diagnosis names; its sentence."""
    case = make_case(name)
    try:
        if compiled:
            killed_by, answers = check_compiled(case, until_killed)
        else:
            report = check_case(case, until_wrong=until_killed)
            killed_by = list(dict.fromkeys(check.method for check in report if not check.passed))
            answers = [(found.kind, found.says) for found in report.findings]
    except (ValueError, IndexError, TypeError, KeyError, NpgptError) as error:
        return ["crash"], "crash", f"{type(error).__name__}: {error}"
    broken: list[str] = []
    if not (until_killed and killed_by):
        broken = _broken_laws(compile_case(case) if compiled else case, compiled, until_killed)
    killed_by += broken
    if answers:  # in the order in which backward meets the tensors; the first that explains something
        return killed_by, *min(answers, key=lambda answer: not is_explanation(answer[0]))
    return killed_by, "law" if broken else "", f"breaks the law {broken[0]}" if broken else ""


def check_compiled(case: Case, until_killed: bool = False) -> tuple[list[str], list[tuple[str, str]]]:
    """A compiled layer against the tape of the textbook's forward, and against a difference of its own forward."""
    subject = LayerSubject(case)
    dy = upstream(subject.forward({}))
    truth = subject.gradients_by_tape(dy)
    compiled = LayerSubject(compile_case(case))
    with np.errstate(invalid="ignore"):  # a mutant that leaves memory as it was may leave a signalling NaN there
        got = {name: np.asarray(grad, float) for name, grad in compiled.gradients(dy.astype(np.float32)).items()}
    wrong = [name for name in on_the_way_back(got) if name in truth and not _close(got[name], truth[name], dy)]
    killed_by = ["tape"] if wrong else []
    if not (until_killed and wrong) and not _difference_agrees(compiled, got, dy):
        killed_by.append("differences in float32")
    doctor = Doctor(subject, dy, got, truth, lambda dy: compiled.gradients(dy.astype(np.float32)), close=1e-4)
    return killed_by, [(answer.kind, answer.says) for answer in diagnose_all(doctor, wrong, until_killed)]


def _close(got: Array, right: Array, dy: Array) -> bool:
    size = max(float(np.linalg.norm(right)), float(np.linalg.norm(dy)))
    return got.shape == right.shape and bool(np.linalg.norm(got - right) <= FLOAT32 * size)


def _difference_agrees(subject: LayerSubject, got: dict[str, Array], dy: Array, h: float = 2.0**-7) -> bool:
    """⟨dx, v⟩ against (L(x + hv) − L(x − hv))/2h, computed in float32 but for the sum: right to a few per cent."""
    rng = np.random.default_rng(5)
    for name, grad in got.items():
        if name.startswith("kept "):
            continue
        v = (rng.normal(size=grad.shape) / np.sqrt(max(1, grad.size))).astype(np.float32)
        gained = rise(*(subject.forward({name: np.float32(step) * v}).astype(float) for step in (h, -h)))
        slope, said = (dy * gained).sum() / (2 * h), (grad * v).sum()
        if not abs(slope - said) <= 0.02 * (np.linalg.norm(grad) * np.linalg.norm(v) + np.linalg.norm(dy)):
            return False
    return True


def _broken_laws(case: Case, compiled: bool, until_killed: bool) -> list[str]:
    broken: list[str] = []
    for law in laws_for(case, LAWS_OF_COMPILED if compiled else LAWS):
        if law is equals_its_textbook_twin:
            continue  # a comparison with our own code is no proof
        if until_killed and broken:
            break
        try:
            law(case)
        except (AssertionError, ValueError, IndexError, TypeError, KeyError):
            broken.append(law.__name__)
    return broken


def _by_reference(mutant: Mutant) -> list[str]:
    """It sees that training goes another way, and does not say why."""
    if mutant.compiled:
        from npgpt.compiled.optim import AdamW

        right = adamw_is_right(AdamW, np.float32, 1e-5)
    else:
        judges = {
            "AdamW": adamw_is_right,
            "clip_scale": clipping_is_right,
            "accumulate": accumulation_is_right,
            "accumulate by kernels": accumulation_by_kernels_is_right,
            "training": training_is_right,
            "compiled training": lambda: training_is_right("compiled"),
            "evaluate": evaluation_is_right,
        }
        right = judges[mutant.case]()
    return [] if right else [REFERENCE]


def scores(verdicts: Sequence[Verdict], drawn: Sequence[Verdict] = ()) -> list[str]:
    """How many were killed; and how many of those with a wrong gradient were named, of each half, and of those drawn.

    A mistake in training is killed by a second computation, and one beyond a border at other sizes than the usual ones.
    Neither is asked for its name.
    """
    killed = sum(bool(verdict.killed_by) for verdict in [*verdicts, *drawn])
    lines = [f"{killed} of {len(verdicts) + len(drawn)} mutants killed"]
    for kind, where in UNNAMED.items():
        if of := [bool(verdict.killed_by) for verdict in verdicts if verdict.kind == kind]:
            lines.append(f"killed {where}: {sum(of)} of {len(of)}")
    asked = [verdict for verdict in verdicts if verdict.kind not in UNNAMED]
    halves = {
        "the half that was looked at": [verdict for verdict in asked if not verdict.held_out],
        "the half that was held out": [verdict for verdict in asked if verdict.held_out],
        "those drawn at random": drawn,
    }
    lines += [
        f"named right: {sum(v.diagnosed for v in of)} of {len(of)}, {which}" for which, of in halves.items() if of
    ]
    return lines
