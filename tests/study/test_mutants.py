"""Every planted mistake is seen, and most of them are called by their names. The checks are what is tested here."""

import numpy as np
import pytest

from npgpt import train
from npgpt.study.check.cases import make_case
from npgpt.study.check.checker import check_case
from npgpt.study.check.diagnosis import KINDS
from npgpt.study.check.report import METHODS
from npgpt.study.mutants import MUTANTS, Mutant, generated, planted, scores, try_mutant
from npgpt.study.mutants.plant import source_of
from npgpt.study.mutants.references import (
    accumulation_by_kernels_is_right,
    accumulation_is_right,
    adamw_is_right,
    clipping_is_right,
)
from npgpt.study.mutants.verdict import UNNAMED


def test_every_mutant_has_a_kind_that_a_diagnosis_can_give() -> None:
    assert {mutant.kind for mutant in MUTANTS} <= {*KINDS, "law", *UNNAMED}


def test_the_references_find_our_own_code_right() -> None:
    from npgpt.compiled.optim import AdamW

    assert adamw_is_right() and adamw_is_right(AdamW, np.float32, 1e-5)
    assert accumulation_is_right() and accumulation_by_kernels_is_right() and clipping_is_right()


# The check of three blocks takes seconds.
SLOW = {mutant.name: [pytest.mark.slow] for mutant in MUTANTS if mutant.case == "GPT-tied" and not mutant.compiled}


@pytest.mark.parametrize("mutant", [pytest.param(m, marks=SLOW.get(m.name, ()), id=m.name) for m in MUTANTS])
def test_mutant_is_killed(mutant: Mutant) -> None:
    before = source_of(mutant.target)
    verdict = try_mutant(mutant, until_killed=True)
    assert verdict.killed_by and "crash" not in verdict.killed_by, verdict
    assert source_of(mutant.target) == before


@pytest.mark.slow
def test_most_mistakes_are_named_by_the_diagnosis() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 200
    verdicts = [try_mutant(mutant, until_killed=True) for mutant in MUTANTS if mutant.kind not in UNNAMED]
    for held_out in (False, True):
        half = [verdict.diagnosed for verdict in verdicts if verdict.held_out == held_out]
        assert len(half) >= 50 and sum(half) >= 0.75 * len(half)


@pytest.mark.slow
def test_every_check_is_asked_of_a_mutant() -> None:
    """Without ``until_killed`` all methods and laws judge, as `npgpt check --mutants` shows them."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "scores-without-scale")
    assert {*METHODS, "noted_gradients_are_right"} <= set(try_mutant(mutant).killed_by)
    assert try_mutant(mutant, until_killed=True).killed_by == ["tape", "differences"]  # one witness is not enough


def test_the_score_counts_apart_what_gets_no_name() -> None:
    names = ("scores-without-scale", "schedule-one-step-ahead", "linear-of-64-rows")
    verdicts = [try_mutant(mutant, until_killed=True) for mutant in MUTANTS if mutant.name in names]
    first, *others = scores(verdicts)
    assert first == "3 of 3 mutants killed"
    assert [line.split(": ")[1][:6] for line in others] == ["1 of 1"] * 3


def test_a_mistake_reaches_modules_that_imported_the_function() -> None:
    with planted(next(mutant for mutant in MUTANTS if mutant.name == "clip-always")):
        assert train.clip_scale(1.0, 2.0) == 2  # it is npgpt.optim's
    assert train.clip_scale(1.0, 2.0) == 1


@pytest.mark.slow
def test_random_mutants_are_killed() -> None:
    verdicts = list(generated(20, seed=5, until_killed=True))
    assert len(verdicts) == 20 and all(verdict.killed_by for verdict in verdicts)


def test_a_patch_that_does_not_fit_is_refused() -> None:
    mutant = Mutant("nonsense", MUTANTS[0].target, "no such text", "", "", "", "LayerNorm")
    with pytest.raises(ValueError, match="stands 0 times"), planted(mutant):
        pass
    assert check_case(make_case("LayerNorm")).passed
