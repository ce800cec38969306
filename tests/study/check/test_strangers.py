"""The checker on other people's layers: never WRONG for a right gradient, never "all right" for a wrong one."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
from strangers.given import RIGHT, WRONG, Given

import npgpt

for file in sorted(Path(__file__).with_name("strangers").glob("*.py")):
    importlib.import_module(f"strangers.{file.stem}")

pytestmark = pytest.mark.filterwarnings("ignore")  # their NumPy divides by zero as it likes


def test_there_are_enough() -> None:
    assert len(RIGHT) > 350 and len(WRONG) > 200


@pytest.mark.parametrize("make", RIGHT, ids=lambda make: make.__name__)
def test_right_layer_is_found_right(make: Callable[[], Given]) -> None:
    layer, inputs, options = make()
    report = npgpt.gradcheck(layer, *inputs, **options)
    assert report.passed, f"\n{report}"


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_wrong_layer_does_not_pass(make: Callable[[], Given]) -> None:
    layer, inputs, options = make()
    report = npgpt.gradcheck(layer, *inputs, **options)
    assert not report.passed, f"{make.__doc__}\n{report}"
