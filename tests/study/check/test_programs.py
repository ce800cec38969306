"""The checker on random programs: right by construction, and with one mistake planted.

In the profile ci a thousand of both are judged, in deep five thousand. No right program may be found WRONG, and no
mutant may pass. The others are undecided; the test prints their share.
"""

import os
from collections import Counter

import pytest
from programs.programs import Program, make_program, mutate

from npgpt import gradcheck
from npgpt.study.check.verdict import RIGHT, UNDECIDED, WRONG

PARTS = 10  # tests, so that several workers share the programs
N = {"quick": 50, "ci": 1000, "deep": 5000}[os.environ.get("NPGPT_PROFILE", "quick")] // PARTS
MOST_UNDECIDED = 0.03

pytestmark = pytest.mark.filterwarnings("ignore")


def judged(program: Program) -> tuple[str, str]:
    report = gradcheck(program.forward, *program.inputs.values(), backward=program.backward)
    return report.verdict, f"{program}\n{report}"


@pytest.mark.parametrize("part", range(PARTS))
def test_no_right_program_is_wrong_and_no_mutant_passes(part: int) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for seed in range(part * N, (part + 1) * N):
        program = make_program(seed)
        verdict, said = judged(program)
        assert verdict != WRONG, said
        counts["right", verdict] += 1
        if (mutant := mutate(program, seed)) is not None:
            verdict, said = judged(mutant)
            assert verdict != RIGHT, said
            counts["mutant", verdict] += 1
    undecided = counts["right", UNDECIDED] + counts["mutant", UNDECIDED]
    print(f"{dict(counts)}: {undecided / counts.total():.1%} undecided")
    assert undecided <= max(2, MOST_UNDECIDED * counts.total())
