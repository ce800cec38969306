"""Is a wrong gradient that of another forward pass: without its mask, without ε, or with a rounded constant?

The forward pass runs on the tape with some operands changed. Its gradient is what backward gives if it computes
something anew, or by a formula, and forgets or rounds what forward had there.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check.evidence import Doctor
from npgpt.study.check.questions import NEAR, Answer, fits, scale
from npgpt.study.check.sites import Site, shown
from npgpt.study.check.tape import Tape, Taped, gradients

HIDES = 1e4  # a score that is changed by more is masked
SMALL = 0.11  # an added constant that is smaller may be an ε
Change = Callable[[Site, list[Any]], list[Any]]


@contextlib.contextmanager
def changed(change: Change) -> Iterator[None]:
    """Let all forward passes on the tape use other operands."""
    Tape.change = staticmethod(change)
    try:
        yield
    finally:
        Tape.change = None


def gradient_of(doctor: Doctor, name: str, change: Change) -> Array | None:
    """Return the gradient of a tensor through the changed forward pass."""
    try:
        with changed(change), doctor.subject.shifted(doctor.deltas):
            y, leaves = doctor.subject.taped()
    except Exception:  # a stranger's forward may fail with other operands
        return None
    if not isinstance(y, Taped) or y.shape != doctor.dy.shape:
        return None
    return gradients(y, np.where(np.isfinite(y.value), doctor.dy, 0), {name: leaves[name]})[name]


def _explains(doctor: Doctor, name: str, change: Change) -> bool:
    """Return whether the changed forward pass has the gradient that came, in all passes."""
    for one in (doctor, *doctor.others):
        found = gradient_of(one, name, change)
        if found is None or not one.same(one.got[name], found):
            return False
    return True


def unmasked(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g the gradient of the forward pass without its mask, as if the scores were computed again?"""
    seen: list[Site] = []

    def without(site: Site, operands: list[Any]) -> list[Any]:
        made = _without_mask(site, operands)
        if made is not operands:
            seen.append(site)
        return made

    if gradient_of(doctor, name, without) is None or not seen or not _explains(doctor, name, without):
        return None
    says = (
        f"{d} is the gradient without the mask of {shown(seen[0])}: backward computes this again, and does not mask it"
    )
    return Answer("mask", says, sure=True)


def _without_mask(site: Site, operands: list[Any]) -> list[Any]:
    def hides(x: Any) -> bool:
        return not isinstance(x, Taped) and np.size(x) > 0 and bool((np.asarray(x, float) <= -HIDES).any())

    if site.name == "where" and len(operands) == 3:
        condition, a, b = operands
        if isinstance(a, Taped) and hides(b):
            return [np.ones_like(condition, bool), a, b]
        if isinstance(b, Taped) and hides(a):
            return [np.zeros_like(condition, bool), a, b]
    if site.name in ("add", "setitem") and any(map(hides, operands)):
        return [0 * np.nan_to_num(np.asarray(x, float)) if hides(x) else x for x in operands]
    return operands


def another_constant(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g the gradient with a constant left out, or rounded?"""
    constants = _constants(doctor, name)
    for site, (i, c) in constants.items():
        if site.name in ("add", "maximum", "clip") and 0 < c < SMALL and _explains(doctor, name, _with(site, i, 0.0)):
            says = f"{d} is the gradient with 0 in place of {c:g} in {shown(site)}: ε is missing in backward"
            return Answer("epsilon", says, sure=True)
    for site, (i, c) in constants.items():
        other = _fitted(doctor, name, site, i, c, e)
        if other is not None and _explains(doctor, name, _with(site, i, other)):
            kind = "epsilon" if site.name == "add" and 0 < c < SMALL else "constant"
            return Answer(
                kind, f"{d} is the gradient with {other:.10g} in place of {c:.10g} in {shown(site)}", sure=True
            )
    return None


def _constants(doctor: Doctor, name: str) -> dict[Site, tuple[int, float]]:
    """Return the constants of the forward pass: place -> position among the operands, value."""
    found: dict[Site, tuple[int, float]] = {}

    def note(site: Site, operands: list[Any]) -> list[Any]:
        for i, x in enumerate(operands):
            if isinstance(x, int | float | np.floating) and not isinstance(x, bool) and x not in (0, 1, -1):
                found.setdefault(site, (i, float(x)))
        return operands

    gradient_of(doctor, name, note)
    return found


def another_epsilon(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g = e·((v + ε)/(v + ε′))^p in each row, with one number ε′, as where backward takes another ε?"""
    for site, (_, eps) in _constants(doctor, name).items() if doctor.walk is not None else ():
        if site.name != "add" or not 0 < eps < SMALL or doctor.walk is None:
            continue
        for at, _, value in doctor.walk.tape.nodes:
            if at != site or value.size < 2 or not fits(value, e) or (value <= 0).any():
                continue
            shape = (1,) * (e.ndim - value.ndim) + value.shape
            axes = tuple(i for i in range(e.ndim) if shape[i] == 1)
            ratio = (g * e).sum(axes, keepdims=True) / (e * e).sum(axes, keepdims=True)
            if (ratio <= 0).any() or not doctor.same(g, ratio * e):
                continue
            for power in (0.5, 1, 1.5, 2, 3, -0.5, -1, -1.5, -2, -3):
                found = value * ratio ** (-1 / power) - (value - eps)
                if np.ptp(found) < 1e-5 * eps and abs(float(found.flat[0])) < 10:
                    other = round(float(found.flat[0]), 9) + 0.0
                    says = f"with {other:g} in place of {eps:g} in {shown(site)}, in one of its factors"
                    return Answer("epsilon", f"{d} is the gradient {says}")
    return None


def _with(site: Site, i: int, c: float) -> Change:
    def change(here: Site, operands: list[Any]) -> list[Any]:
        return [c if j == i else x for j, x in enumerate(operands)] if here == site else operands

    return change


def _fitted(doctor: Doctor, name: str, site: Site, i: int, c: float, e: Array) -> float | None:
    """Return the number of few digits with which the gradient comes nearest to the one that came; None if none does."""
    g, now, at = doctor.got[name], e, c
    for _ in range(12):
        step = 1e-4 * at
        moved = gradient_of(doctor, name, _with(site, i, at + step))
        if moved is None or not np.isfinite(moved).all() or not (slope := (moved - now) / step).any():
            return None
        at += scale(slope, g - now)
        if not 0 < abs(at) < 100 * abs(c):
            return None
        found = gradient_of(doctor, name, _with(site, i, at))
        if found is None:
            return None
        now = found
        if doctor.same(g, now):
            break
    rounded = float(f"{at:.5g}")
    near = abs(rounded - c) < NEAR * abs(c) or (site.name == "add" and abs(c) < SMALL)
    return rounded if near and rounded != c and abs(at - rounded) < 1e-6 * abs(at) else None
