"""Is a wrong gradient that of another forward pass: without its mask, without ε, or with a rounded constant?

The forward pass runs on the tape with some operands changed. Its gradient is what backward gives if it computes
something anew, or by a formula, and forgets or rounds what forward had there.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check.evidence import Doctor
from npgpt.study.check.questions import Answer, fits, scale
from npgpt.study.check.sites import Site, shown
from npgpt.study.check.tape import Tape, Taped
from npgpt.study.check.tape_gradients import gradients

HIDES = 1e4  # a score that is changed by more is masked
MOST_LEAVES = 8  # arrays of a layer that are tried in each other's places
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
    found = _gradients(doctor, change, {}) or {}
    return found.get(name)


def _gradients(doctor: Doctor, change: Change, deltas: dict[str, Array]) -> dict[str, Array] | None:
    """Return all gradients through the changed forward pass, with something added to some tensors."""
    try:
        with changed(change), doctor.subject.shifted(doctor.deltas), doctor.subject.shifted(deltas):
            y, leaves = doctor.subject.taped()
    except Exception:  # a stranger's forward may fail with other operands
        return None
    if not isinstance(y, Taped) or y.shape != doctor.dy.shape:
        return None
    return gradients(y, np.where(np.isfinite(y.value), doctor.dy, 0), leaves)


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
        plain = x if not isinstance(x, Taped) else x.value if (x.ids < 0).all() else np.zeros(0)
        return bool((np.asarray(plain, float) <= -HIDES).any())

    if site.name == "where" and len(operands) == 3:
        condition, a, b = operands
        if hides(b) and not hides(a):
            return [np.ones_like(condition, bool), a, b]
        if hides(a) and not hides(b):
            return [np.zeros_like(condition, bool), a, b]
    if site.name in ("add", "setitem") and any(map(hides, operands)):
        return [np.zeros(np.shape(x)) if hides(x) else x for x in operands]
    return operands


def another_constant(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g the gradient with a constant left out, or rounded?"""
    constants = _constants(doctor, name)
    for site, (i, c) in constants.items():
        if site.name in ("add", "maximum", "clip") and 0 < c < SMALL and _explains(doctor, name, _with(site, i, 0.0)):
            says = f"{d} is the gradient with 0 in place of {c:g} in {shown(site)}: ε is missing in backward"
            return Answer("epsilon", says, sure=True)
    near = np.linalg.norm(g - e) < 0.5 * np.linalg.norm(e)
    for site, (i, c) in constants.items() if near else ():
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
                    says = f"has {other:g} where forward has {eps:g}, in {shown(site)}, in one of its factors"
                    return Answer("epsilon", f"{d} {says}")
    return None


def another_leaf(doctor: Doctor, name: str, d: str, g: Array, e: Array) -> Answer | None:
    """Is g the gradient with one array transposed, turned round, or in the place of another one?"""
    arrays = {n: x for n, x in doctor.tensors.items() if n[:5] != "kept " and n != name and x.ndim}
    if len(arrays) > MOST_LEAVES:
        return None
    for one, x in arrays.items():
        short = one.split(" ", 1)[1]
        if x.ndim > 1 and x.shape[-1] == x.shape[-2] and _is_with(doctor, name, one, one, _transposed):
            return Answer("transposed", f"{d} is the gradient with {short}ᵀ in place of {short}", sure=True)
        for turn, axes in ((_reversed, "its last axis"), (_turned_round, "its last two axes")):
            if _is_with(doctor, name, one, one, turn):
                return Answer("transposed", f"{d} is the gradient with {short} reversed along {axes}", sure=True)
    for one, two in itertools.permutations(arrays, 2):
        if arrays[one].shape == arrays[two].shape and _is_with(doctor, name, one, two, np.positive):
            here, there = (n.split(" ", 1)[1] for n in (one, two))
            return Answer("wrong operand", f"{d} is the gradient with {there} in place of {here}", sure=True)
    return None


def _transposed(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def _reversed(x: Array) -> Array:
    return np.flip(x, -1)


def _turned_round(x: Array) -> Array:
    return np.flip(x, (-1, -2)[: x.ndim])


def _is_with(doctor: Doctor, name: str, here: str, there: str, change: Callable[[Array], Array]) -> bool:
    """Return whether the gradient that came is that with another array, in all passes."""
    for one in (doctor, *doctor.others):
        key = here, there, change.__name__
        if key not in one.memo:
            delta = change(one.tensors[there]) - one.tensors[here]
            one.memo[key] = _gradients(one, lambda site, operands: operands, {here: delta})
        found = one.memo[key]
        if found is None or not one.same(one.got[name], found[name]):
            return False
    return True


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
        if np.linalg.norm(now - g) > 0.5 * np.linalg.norm(e - g):
            return None
    rounded = float(f"{at:.5g}")
    near = abs(rounded - c) < 0.05 * abs(c) or (site.name == "add" and abs(c) < SMALL)
    return rounded if near and rounded != c and abs(at - rounded) < 1e-6 * abs(at) else None
