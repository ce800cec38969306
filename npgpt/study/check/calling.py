"""How a stranger's backward pass is called: each plan of ``conventions`` is tried, and compared with a difference."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError, NpgptError
from npgpt.study.check.conventions import CACHES, DY, RATE, RATES, gradient_stems, plans, returned_names
from npgpt.study.check.differences import rise
from npgpt.study.check.strangers import StrangerSubject
from npgpt.study.check.trees import Output, leaves
from npgpt.study.check.witnesses import sizes_of

WORDS_IN_D = ("data", "den", "der", "dev", "dia", "dif", "dim", "dis", "dro")  # names that are no gradient's


def n_cached(subject: StrangerSubject, returned: Any) -> tuple[int, int]:
    """Return how many of the last results of forward are a cache, not output, and what else may be right."""
    if not isinstance(returned, tuple | list) or len(returned) < 2 or not Output(returned[0]).numbers:
        return 0, 0
    needed, _, any_number, _ = subject.asks
    for i, part in enumerate(returned[1:], 1):
        if any(
            not isinstance(x, np.ndarray | float | np.floating) or np.asarray(x).dtype.kind != "f"
            for x in leaves(part).values()
        ):
            return len(returned) - i, len(returned) - i
    if any(name.lower() in CACHES for name in needed):
        return 1, 1
    if len(needed) != 2 or any_number:
        return 0, 0
    if not gradient_stems(needed[1]):
        return 1, 0
    return (0, 1) if needed[1].startswith(WORDS_IN_D) else (0, 0)


def choose_call(subject: StrangerSubject, maybe_cached: int) -> None:
    """Choose a way to call backward: the first that agrees with a difference; else the first that raises nothing."""
    subject.returned_names = returned_names(subject.back)
    needed, optional, _, _ = subject.asks
    best: tuple[float, list[str], str, int] | None = None
    first_error: Exception | None = None
    tried: list[tuple[int, list[str], Array]] = []
    for cached in dict.fromkeys((subject.n_cached, maybe_cached)):
        subject.n_cached = cached
        output = subject.output(subject.run())
        n_outputs = len(output.tree) if isinstance(output.tree, tuple | list | Mapping) else 1
        found = plans(subject.back, list(subject.arguments), n_outputs, bool(cached))
        tried += [(cached, plan, output.y) for plan in found]
    for cached, plan, y in tried:
        subject.plan, subject.n_cached = plan, cached
        if not plan and np.size(y) != 1:
            continue
        dy = np.random.default_rng(11).normal(size=np.shape(y)) if DY in plan else np.ones(np.shape(y))
        optional_rate = next((n for n in optional if n.lower() in RATES), "")
        subject.rate_name = optional_rate if RATE in plan and len(plan) > len(needed) else ""
        try:
            gap = _gap(subject, dy)
        except Exception as error:
            first_error = first_error or error
            continue
        if best is None or (best[0] > 1e-3 and gap < 1e-3):
            best = gap, plan, subject.rate_name, cached
        if gap < 1e-3:
            break
    if best is not None:
        subject.plan, subject.rate_name, subject.n_cached = best[1:]
        return
    if isinstance(first_error, NpgptError):
        raise first_error
    if first_error is None:
        raise ConfigError(
            f"{subject.name}: no way was found to call backward with {', '.join(needed) or 'no arguments'}"
        )
    raise ConfigError(
        f"{subject.name}: backward raised {type(first_error).__name__}: {first_error}. It was called as "
        f"backward({', '.join(tried[0][1]) if tried else ''}) after forward({', '.join(subject.arguments)})"
    ) from first_error


def _gap(subject: StrangerSubject, dy: Array) -> float:
    """Return how far the gradients of the inputs are from a difference, roughly, at numbers beside the given ones."""
    rng = np.random.default_rng(14)
    with np.errstate(all="ignore"):
        given = subject.assigned(subject.call_back(subject.run(), dy))
    inputs = {path: x for path, x in subject.inputs.items() if given.get(f"input {path}") is not None}
    if subject.inputs and not inputs:
        return 1.5
    base = {path: x + 0.1 * sizes_of(x) * rng.normal(size=x.shape) for path, x in inputs.items()}
    v = {path: sizes_of(x) * rng.normal(size=x.shape) for path, x in inputs.items()}

    def at(t: float) -> Any:
        return subject.run(lambda path, x: base[path] + t * v[path] if path in base else x)

    with np.errstate(all="ignore"):
        found = subject.assigned(subject.call_back(at(0), dy))
        ours = 0.0
        for path, direction in v.items():
            x = found[f"input {path}"]
            if np.size(x) != direction.size:
                return 2.0
            ours += float((np.reshape(np.asarray(x, float), direction.shape) * direction).sum())
        above, below = (np.asarray(subject.output(at(t)).y, float) for t in (1e-5, -1e-5))
        theirs = float((dy * rise(above, below)).sum()) / 2e-5
    gap = abs(ours - theirs) / (abs(ours) + abs(theirs) or 1.0)
    return gap if np.isfinite(gap) else 1.5
