"""Every planted mistake is seen, and most of them are called by their names. The checks are what is tested here."""

import numpy as np
import pytest

from npgpt.study.check.checker import check_case
from npgpt.study.check.diagnosis import KINDS
from npgpt.study.mutants import MUTANTS, Mutant, Verdict, generated, planted, try_mutant
from npgpt.study.mutants.plant import source_of
from npgpt.study.mutants.references import (
    accumulation_by_kernels_is_right,
    accumulation_is_right,
    adamw_is_right,
    clipping_is_right,
)
from npgpt.study.mutants.verdict import REFERENCE


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdict]:
    return {}


def test_every_mutant_has_a_kind_that_a_diagnosis_can_give() -> None:
    assert {mutant.kind for mutant in MUTANTS} <= {*KINDS, "law", "reference"}


def test_the_references_find_our_own_code_right() -> None:
    from npgpt.compiled.optim import AdamW

    assert adamw_is_right() and adamw_is_right(AdamW, np.float32, 1e-5)
    assert accumulation_is_right() and accumulation_by_kernels_is_right() and clipping_is_right()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_killed(mutant: Mutant, verdicts: dict[str, Verdict]) -> None:
    before = source_of(mutant.target)
    verdicts[mutant.name] = try_mutant(mutant)
    assert verdicts[mutant.name].killed_by
    assert "crash" not in verdicts[mutant.name].killed_by, verdicts[mutant.name]
    assert source_of(mutant.target) == before


def test_most_are_called_by_their_names(verdicts: dict[str, Verdict]) -> None:
    if len(verdicts) < len(MUTANTS):
        pytest.skip("only some of the mutants were tried")
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 60
    for held_out in (False, True):
        asked = [verdict for verdict in verdicts.values() if verdict.killed_by != [REFERENCE]]
        half = [verdict.diagnosed for verdict in asked if verdict.held_out == held_out]
        assert sum(half) >= 0.75 * len(half)


def test_mutants_drawn_at_random_are_killed() -> None:
    assert all(verdict.killed_by for verdict in generated(20, seed=5))


def test_a_patch_that_does_not_fit_is_refused() -> None:
    mutant = Mutant("nonsense", MUTANTS[0].target, "no such text", "", "", "", "LayerNorm")
    with pytest.raises(ValueError, match="stands 0 times"), planted(mutant):
        pass
    assert check_case_is_right("LayerNorm")


def check_case_is_right(name: str) -> bool:
    from npgpt.study.check.cases import make_case

    return check_case(make_case(name)).passed
