"""The rule by which witnesses decide about a gradient.

There are three families of witnesses: differences (with sweep and Taylor), the complex step (with adjoint), the tape. A
witness agrees with a gradient, or differs from it, or cannot tell, or abstains. A gradient is

wrong       if no witness agrees, and two families differ, or differences alone by 100 times their estimated error
right       if no witness differs, and two families agree, or differences alone with an estimated error small enough
undecided   otherwise
"""

from collections.abc import Mapping
from dataclasses import dataclass

AGREES, DIFFERS, UNCLEAR, ABSTAINS = "agrees", "differs", "cannot tell", "abstains"
RIGHT, WRONG, UNDECIDED = "right", "wrong", "undecided"
BELOW_DIFFERENCES = 1e-6  # a relative error that differences may overlook
FAMILIES = {
    "tape": "tape",
    "differences": "differences",
    "sweep": "differences",
    "Taylor": "differences",
    "complex": "complex",
    "adjoint": "complex",
}
# Method -> the largest error that it has for a right gradient of a layer of npgpt; for Taylor, the smallest slope.
TOLERANCES = {"tape": 1e-12, "differences": 1e-7, "complex": 1e-12, "sweep": 1e-8, "Taylor": 1.8, "adjoint": 1e-12}


@dataclass(frozen=True)
class Opinion:
    """What one method says about the gradient of one tensor.

    Attributes
        state: AGREES, DIFFERS, UNCLEAR or ABSTAINS.
        error: relative; for Taylor, the slope.
        reason: why it cannot tell, or abstains.
        roughly: it cannot tell alone, but it confirms a witness that can.
        backs: it abstains, because differences contradict it, but it agrees with the gradient.
        nearly: it abstains, because differences contradict it, by so little that a kink may be near.
    """

    state: str
    error: float = 0.0
    reason: str = ""
    roughly: bool = False
    backs: bool = False
    nearly: bool = False


@dataclass(frozen=True)
class Verdict:
    """The verdict on one tensor: RIGHT, WRONG or UNDECIDED, and why if it is not plain."""

    state: str
    reason: str = ""
    by: tuple[str, ...] = ()


def decide(opinions: Mapping[str, Opinion]) -> Verdict:
    """Return the verdict that follows from method -> opinion."""
    families: dict[str, Opinion] = {}
    for method, opinion in opinions.items():  # within a family, the first method that can tell speaks
        family = FAMILIES[method]
        if family == "differences" and method != family and family in opinions:
            continue  # sweep and Taylor show what differences have weighed
        if family not in families or (families[family].state in (UNCLEAR, ABSTAINS) and not families[family].roughly):
            families[family] = opinion
    agree = tuple(f for f, opinion in families.items() if opinion.state == AGREES)
    differ = tuple(f for f, opinion in families.items() if opinion.state == DIFFERS)
    if agree == ("differences",) and differ and max(families[f].error for f in differ) < BELOW_DIFFERENCES:
        agree = ()
    if differ == ("differences",) and {"tape", "complex"} <= set(agree):  # they confirm each other
        differ = ()
    roughly = [f for f, opinion in families.items() if opinion.roughly and f not in agree]
    if agree and differ:
        return Verdict(UNDECIDED, f"{' and '.join(agree)} agree with it, {' and '.join(differ)} differ")
    backed = [f for f, opinion in families.items() if opinion.backs]
    if differ == ("differences",) and backed:
        says = f"differences differ, by {families['differences'].error:.0e}, but {' and '.join(backed)} agree with it; "
        return Verdict(UNDECIDED, says + "a point that is not differentiable may be near")
    if differ == ("differences",) and any(opinion.nearly for opinion in families.values()):
        says = "differences alone differ, and another witness disagrees with them a little; "
        return Verdict(UNDECIDED, says + "a point that is not differentiable may be near")
    if differ and (len(differ) >= 2 or differ == ("differences",)):
        return Verdict(WRONG, "one witness: differences alone" if len(differ) == 1 else "", differ)
    doubts = [f for f, opinion in families.items() if opinion.state == UNCLEAR and f != "differences"]
    if agree and not doubts and (len(agree) + len(roughly) >= 2 or agree == ("differences",)):
        return Verdict(RIGHT, "one witness: differences alone" if len(agree) + len(roughly) == 1 else "", agree)
    reasons = [f"{f}: {opinion.reason}" for f, opinion in families.items() if opinion.reason]
    if agree or differ:
        reasons.insert(
            0, f"only {(agree or differ)[0]} {'agrees' if agree else 'differs'}, and one witness is not enough"
        )
    return Verdict(UNDECIDED, "; ".join(reasons) or "no witness could tell")
