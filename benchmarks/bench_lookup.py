"""What does it cost to look rows up, and to add their gradients back, as the vocabulary grows?

    python benchmarks/bench_lookup.py [--rounds N] [--quick] [--json FILE] [--vocab V ...] [--ids N] [--channels C]

Forward two ways, the lookup and one-hot times the matrix, and backward four ways (npgpt/embeddings/lookup.py), each
of which adds to a gradient that is there already; then what it takes to set that gradient to zero, which a training
step does besides. float32, ids as frequent as words are, one process, one thread, all in turns; results are compared
first. Times are medians over the rounds. Memory is the most that one call allocates at a time, beyond ids, dy and the
two tables. What would need more than 1 GB is skipped.
"""

import argparse
import os
import tracemalloc
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # NumPy's, read when it is imported

import numpy as np
from peers import JSON, Report, seconds_per_call

from npgpt import set_num_threads
from npgpt.embeddings.lookup import WAYS, one_hot

VOCABULARIES = (100, 1_000, 10_000, 100_000)
LIMIT = 1e9  # bytes that the one-hot way may take
ALLOWED = 1e-5  # norm of the difference, over the norm
ONE_HOT, ZERO = "one-hot", "set to zero"
Calls = dict[str, Callable[[], Any]]


def one_hot_bytes(n: int, V: int, C: int) -> int:
    """The one-hot matrix, and its product in the backward pass, in float32."""
    return 4 * (n * V + V * C)


def contestants(V: int, C: int, n: int) -> tuple[Calls, Calls, Any]:
    """Forward and backward, way -> a call; and the gradient that backward adds to."""
    rng = np.random.default_rng(0)
    weights = 1 / (np.arange(V) + 3)
    ids = rng.choice(V, n, p=weights / weights.sum())
    table, dy = rng.standard_normal((V, C), np.float32), rng.standard_normal((n, C), np.float32)
    grad = np.zeros_like(table)
    forward: Calls = {"lookup": lambda: table[ids], ONE_HOT: lambda: one_hot(ids, V, np.float32) @ table}
    backward: Calls = {name: partial(way, dy, ids, grad) for name, way in WAYS.items()}
    backward[ZERO] = partial(grad.fill, 0)
    return forward, backward, grad


def check(forward: Calls, backward: Calls, grad: Any) -> None:
    results = {name: call() for name, call in forward.items()}
    for name, result in results.items():
        if not np.array_equal(result, results["lookup"]):
            raise SystemExit(f"forward, {name}: not what the lookup gives")
    backward["add.at"]()
    right = grad.copy()
    for name in backward.keys() - {ZERO}:
        grad.fill(0)
        backward[name]()
        error = np.linalg.norm(grad - right) / np.linalg.norm(right)
        if not error <= ALLOWED:
            raise SystemExit(f"backward, {name}: off by {error:.1e}")
    grad.fill(0)


def megabytes(call: Callable[[], Any]) -> float:
    """NumPy reports to tracemalloc what it allocates; kernels write into what they are given."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def bench(V: int, options: argparse.Namespace, report: Report) -> list[dict[str, Any]]:
    forward, backward, grad = contestants(V, options.channels, options.ids)
    if one_hot_bytes(options.ids, V, options.channels) > LIMIT:
        del forward[ONE_HOT], backward[ONE_HOT]
    check(forward, backward, grad)
    calls = {("forward", name): call for name, call in forward.items()}
    calls |= {("backward", name): call for name, call in backward.items()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    order = list(calls)
    for _ in range(options.rounds):
        for key in order:
            times[key].append(seconds_per_call(calls[key], 0.01 if options.quick else 0.05))
        order.reverse()
    rows = [
        {"V": V, "pass": key[0], "way": key[1], "seconds": times[key], "MB": megabytes(call)}
        for key, call in calls.items()
    ]
    report.rows += rows
    return rows


def print_table(title: str, rows: list[list[dict[str, Any]]], value: Callable[[dict[str, Any]], float]) -> None:
    columns = [("forward", name) for name in ("lookup", ONE_HOT)] + [("backward", name) for name in (*WAYS, ZERO)]
    print(f"\n{title:<14}{'forward':>16}{'':>6}{'backward':>14}")
    print(f"{'V':>9}" + "".join(f"{name:>{max(11, len(name) + 2)}}" for _, name in columns))
    for of_one in rows:
        found = {(row["pass"], row["way"]): f"{value(row):.3f}" for row in of_one}
        cells = "".join(f"{found.get(key, '-'):>{max(11, len(key[1]) + 2)}}" for key in columns)
        print(f"{of_one[0]['V']:>9,}{cells}")


def main() -> None:
    parser = argparse.ArgumentParser(description="What does it cost to look rows up, and to add their gradients back?")
    parser.add_argument("--rounds", type=int, help="turns of each (7; with --quick 3)")
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs")
    parser.add_argument("--json", **JSON)
    parser.add_argument("--vocab", type=int, nargs="+", default=VOCABULARIES, metavar="V", help="sizes of vocabularies")
    parser.add_argument("--ids", type=int, default=512, help="how many rows are looked up (512)")
    parser.add_argument("--channels", type=int, default=64, help="numbers in a row (64)")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 7)
    set_num_threads(1)
    report = Report()
    rows = [bench(V, options, report) for V in options.vocab]
    print(f"\n{options.ids} ids, {options.channels} channels, float32, one thread")
    print_table("milliseconds", rows, lambda row: median(row["seconds"]) * 1e3)
    print_table("MB allocated", rows, lambda row: row["MB"])
    for V in options.vocab:
        needed = one_hot_bytes(options.ids, V, options.channels)
        if needed > LIMIT:
            print(f"V = {V:,}: one-hot was skipped; it takes {needed / 1e9:.1f} GB, more than {LIMIT / 1e9:.0f}")
    report.write(options.json)


if __name__ == "__main__":
    main()
