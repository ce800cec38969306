"""Which mistakes does a gradient check let through, as its tolerance, its weights and its upstream gradient vary?

    python benchmarks/bench_tolerances.py [--rounds N] [--quick] [--json FILE]

The check is the one of most projects: central differences in float64 with a step of 1e-5, of every cell of every input
and parameter, and the relative error of a whole array, |a - n| / max(1e-8, |a| + |n|), against a tolerance. It judges
npgpt's textbook layers as they are, and with each mistake of ``npgpt gradcheck --mutants`` that changes a gradient.
A parameter is what a new layer has (0 for a bias, 1 for a gain) plus normal numbers times the scale; inputs are normal.
A round draws all of them anew. Printed are medians over the rounds: how many mistakes pass, of all; how many right
layers are accused.
"""

import argparse
import math
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from peers import JSON, Numpy, Report

from npgpt import layers
from npgpt.core import Array
from npgpt.study.check.cases import CASES, make_case
from npgpt.study.check.differences import rise
from npgpt.study.check.subjects import LayerSubject
from npgpt.study.mutants import MUTANTS, Mutant, planted

TOLERANCES = (2e-2, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
NAMED = 1e-3  # the tolerance at which the mistakes are named
SCALES = (0.02, 1.0)
UPSTREAMS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "ones": lambda rng, shape: np.ones(shape),
    "random": lambda rng, shape: rng.normal(size=shape),
}
STEP = 1e-5
CHANGED = 1e-12  # relative error of an array whose gradient a mistake has changed: less is rounding
Gradients = dict[str, Array]


def subject_of(name: str, scale: float, seed: int) -> LayerSubject:
    """Return a layer with inputs, its parameters drawn at this scale."""
    case = make_case(name, seed=seed)
    rng = np.random.default_rng(seed)
    for path, param in case.layer.parameters().items():
        param.value[...] = path.endswith("gain") + scale * rng.normal(size=param.value.shape)
    for _, owner, _ in case.layer.slots():
        if isinstance(owner, layers.LayerNorm):
            owner.eps = 1e-5  # as in a new one; the case has a larger one
    return LayerSubject(case)


def gradients(subject: LayerSubject, dy: Array) -> Gradients:
    return {name: grad for name, grad in subject.gradients(dy.copy()).items() if name[:5] != "kept "}


def differences(subject: LayerSubject, upstreams: dict[str, Array]) -> dict[str, Gradients]:
    """Return upstream -> the gradients by central differences."""
    names = [name for name in subject.tensors if name[:5] != "kept "]
    found = {kind: {name: np.zeros_like(subject.tensors[name]) for name in names} for kind in upstreams}
    for name in names:
        nudge = np.zeros_like(subject.tensors[name])
        for cell in np.ndindex(nudge.shape):
            nudge[cell] = STEP
            slope = rise(subject.forward({name: nudge}), subject.forward({name: -nudge})) / (2 * STEP)
            nudge[cell] = 0
            for kind, dy in upstreams.items():
                found[kind][name][cell] = (dy * slope).sum()
    return found


def error(some: Gradients, others: Gradients) -> float:
    """Return the largest relative error of an array."""

    def of_array(a: Array, n: Array) -> float:
        if a.shape != n.shape or not np.isfinite(a).all():
            return math.inf
        return float(np.linalg.norm(a - n) / max(1e-8, np.linalg.norm(a) + np.linalg.norm(n)))

    return max(of_array(some[name], others[name]) for name in others)


def judge(name: str, mutants: list[Mutant], seed: int) -> list[dict[str, Any]]:
    """Return a row for the right layer and for each mistake in it, for each scale and upstream gradient."""
    rows = []
    for scale in SCALES:
        subject = subject_of(name, scale, seed)
        shape = subject.forward({}).shape
        upstreams = {kind: draw(np.random.default_rng(seed), shape) for kind, draw in UPSTREAMS.items()}
        numeric = differences(subject, upstreams)
        for kind, dy in upstreams.items():
            right = gradients(subject, dy)
            about = {"case": name, "seed": seed, "scale": scale, "upstream": kind}
            rows.append({**about, "mutant": None, "error": error(right, numeric[kind])})
            for mutant in mutants:
                with planted(mutant), np.errstate(all="ignore"):
                    got = gradients(subject, dy)
                changed = error(got, right) > CHANGED
                rows.append({**about, "mutant": mutant.name, "error": error(got, numeric[kind]), "changed": changed})
    return rows


def setting_name(scale: float, upstream: str) -> str:
    return f"weights x {scale:g}, {upstream}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Which mistakes does a gradient check let through?")
    parser.add_argument(
        "--rounds", type=int, help="draws of weights, inputs and upstream gradients (5; with --quick 1)"
    )
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs")
    parser.add_argument("--json", **JSON)
    options = parser.parse_args()
    report = Report()
    print("# NumPy:", ", ".join(f"{name} {value}" for name, value in Numpy(1).about().items()))
    mutants = [mutant for mutant in MUTANTS if not mutant.compiled and mutant.kind != "reference"]
    seeds = range(options.rounds or (1 if options.quick else 5))
    for seed in seeds:
        for name in CASES:
            report.rows += judge(name, [mutant for mutant in mutants if mutant.case == name], seed)
    wrong = {row["mutant"] for row in report.rows if row.get("changed")}
    print(f"\n{len(wrong)} mistakes, {len(CASES)} right layers\n")
    settings = [(scale, kind) for scale in SCALES for kind in UPSTREAMS]
    print(f"{'':<10}" + "".join(f"{setting_name(*setting):>24}" for setting in settings))
    print(f"{'tolerance':<10}" + f"{'let through':>14}{'accused':>10}" * len(settings))
    passed: dict[tuple[float, float, str], list[str]] = {}
    for tolerance in TOLERANCES:
        cells = ""
        for setting in settings:
            rows = [row for row in report.rows if (row["scale"], row["upstream"]) == setting]
            passing = [row for row in rows if row["mutant"] in wrong and row["error"] <= tolerance]
            accused = [row for row in rows if row["mutant"] is None and row["error"] > tolerance]
            for found, width in ((passing, 14), (accused, 10)):
                cells += f"{median(sum(row['seed'] == seed for row in found) for seed in seeds):>{width}g}"
            often = Counter(row["mutant"] for row in passing)
            passed[tolerance, *setting] = sorted(name for name in often if 2 * often[name] > len(seeds))
        print(f"{tolerance:<10.0e}{cells}")
    for setting in settings:
        print(f"\nlet through at {NAMED:.0e}, {setting_name(*setting)}: {', '.join(passed[NAMED, *setting])}")
    report.write(options.json)


if __name__ == "__main__":
    main()
