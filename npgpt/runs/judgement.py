"""What the losses of a run say about it."""

import itertools
from collections.abc import Sequence
from typing import Any

WORSE, RISEN = 1.5, 1.01  # times the lowest validation loss


def best_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row with the lowest validation loss, the first of equal ones."""
    return min(rows, key=lambda row: row["val_loss"])


def diverging(rows: Sequence[dict[str, Any]], unigram_loss: float) -> bool:
    """Return whether the last two validation losses are far worse than the best one before them.

    Far worse is above 1.5 times the best, or above the unigram's loss after having been below it. If the training loss
    is below that of the best row, the model overfits, and does not diverge.
    """
    if len(rows) < 3:
        return False
    before = best_of(rows[:-2])
    best, learns = before["val_loss"], all(row["train_loss"] < before["train_loss"] for row in rows[-2:])
    far = all(row["val_loss"] > WORSE * best or row["val_loss"] > unigram_loss > best for row in rows[-2:])
    return far and not learns


def overfitting_since(rows: Sequence[dict[str, Any]]) -> int | None:
    """Return the step of the best validation loss, if validation has risen since while training improved; else None.

    Validation must be 1 % above the best at two successive evaluations. It is returned at the second one only.
    """
    at = rows.index(best_of(rows))
    best, later = rows[at], rows[at + 1 :]
    worse = [r["val_loss"] > RISEN * best["val_loss"] and r["train_loss"] < best["train_loss"] for r in later]
    pairs = [a and b for a, b in itertools.pairwise(worse)]
    return int(best["step"]) if pairs and pairs[-1] and not any(pairs[:-1]) else None
