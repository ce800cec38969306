"""What a law raises if a layer breaks it."""

from typing import Any


class LawBroken(AssertionError):  # noqa: N818 - it says what happened
    """A layer breaks a law. The message says which tensor, which cell, and why."""

    __module__ = "npgpt.testing"  # where people find it


def require(holds: Any, says: str) -> None:
    """Raise LawBroken if something does not hold. An ``assert`` would check nothing under ``python -O``."""
    if not holds:
        raise LawBroken(says)
