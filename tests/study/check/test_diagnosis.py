"""The diagnosis on layers whose mistake is known: a name that it gives is true, and most mistakes get one.

Three authors wrote them, without a look at the diagnosis. Those of ``author_c`` were held out until it was finished.
"""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
from named.given import MISTAKES, SOUND, Given

from npgpt import gradcheck
from npgpt.study.check import KINDS, Finding
from npgpt.study.check.diagnosis import is_explanation

for file in sorted(Path(__file__).with_name("named").glob("author_*/*.py")):
    importlib.import_module(f"named.{file.parent.name}.{file.stem}")

pytestmark = pytest.mark.filterwarnings("ignore")  # their NumPy divides by zero as it likes


@functools.cache
def name_of(make: Callable[[], Given]) -> Finding | None:
    """Return the name that a mistake gets: that of the tensor that is wrong first, if it has one."""
    layer, inputs, options = make()
    report = gradcheck(layer, *inputs, **options)
    assert not report.passed, f"{make.__doc__}\n{report}"
    found = [finding for finding in report.findings if is_explanation(finding.kind)]
    return next((f for f in found if f.tensor == make.tensor), found[0] if found else None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", MISTAKES, ids=lambda make: make.__name__)
def test_a_name_is_true(make: Callable[[], Given]) -> None:
    found = name_of(make)
    assert found is None or found.kind in make.kinds, f"{make.__doc__}\n{found}"  # type: ignore[attr-defined]


def test_three_quarters_of_the_mistakes_are_named() -> None:
    named = [name_of(make) is not None for make in MISTAKES if make.kinds]  # type: ignore[attr-defined]
    assert sum(named) >= 0.75 * len(named), f"{sum(named)} of {len(named)}"


def test_labels_are_kinds_of_diagnosis() -> None:
    assert {kind for make in MISTAKES for kind in make.kinds} - {"other", "state"} <= set(KINDS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", SOUND, ids=lambda make: make.__name__)
def test_right_layer_gets_no_name(make: Callable[[], Given]) -> None:
    layer, inputs, options = make()
    report = gradcheck(layer, *inputs, **options)
    assert report.passed and not report.findings, f"\n{report}"
