"""When a run is said to diverge, and when to overfit."""

from typing import Any

import pytest

from npgpt.runs.judgement import best_of, diverging, overfitting_since


def rows(losses: str, training: str | None = None) -> list[dict[str, Any]]:
    """Return rows of these validation and training losses, ten steps apart; by default training falls."""
    validation = [float(loss) for loss in losses.split()]
    train = [float(loss) for loss in training.split()] if training else [9 - i / 10 for i in range(len(validation))]
    return [
        {"step": 10 * i, "val_loss": v, "train_loss": t} for i, (v, t) in enumerate(zip(validation, train, strict=True))
    ]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ("6 3 4.6 4.6", True),
        ("6 3 4.6 4.4", False),  # 4.5 is 1.5 times the best
        ("6 3 80 4", False),  # it came back
        ("6 3 4.6 4 4.6", False),  # not in succession
        ("6 5.2 4.9 5.1 5.1", True),  # above the unigram's loss, 5, after 4.9
        ("6 5.2 5.1 5.3 5.4", False),  # never below it
        ("6 80", False),
        ("6 80 90", True),
        ("6 5 4 3 2", False),
    ],
)
def test_a_run_diverges_at_two_evaluations_in_succession(losses: str, expected: bool) -> None:
    rises = " ".join(str(i) for i in range(len(losses.split())))
    assert diverging(rows(losses, rises), unigram_loss=5.0) == expected


def test_overfitting_is_said_once_with_the_step_of_the_best_weights() -> None:
    found = rows("6 4 3 3.1 3.2 3.3 3.4")
    assert [overfitting_since(found[:n]) for n in range(1, 8)] == [None, None, None, None, 20, None, None]
    assert overfitting_since(rows("6 3 3.01 3.02 3.02")) is None  # a rise of less than 1 %
    assert overfitting_since(rows("6 3 3.1 3.2", "5 4 4.1 4.2")) is None  # training does not improve
    again = rows("6 3 3.1 3.2 2.9 3.1 3.2")
    assert [overfitting_since(again[:n]) for n in range(1, 8)] == [None, None, None, 10, None, None, 40]


def test_the_first_of_equal_rows_is_the_best() -> None:
    assert best_of(rows("6 3 3 4"))["step"] == 10


def test_a_run_that_overfits_does_not_diverge() -> None:
    assert not diverging(rows("4 2 2.4 4 5", "3 1.4 1.0 0.6 0.4"), unigram_loss=3.0)
    assert diverging(rows("4 2 2.4 4 5", "3 1.4 1.0 1.6 2.4"), unigram_loss=3.0)
