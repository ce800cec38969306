"""How do time and memory of a training step grow with the length, the vocabulary, the width, the batch and the threads?

    python benchmarks/bench_scaling.py [--threads N] [--rounds N] [--quick] [--picture FILE] [--json FILE]

One size grows at a time, from a small GPT on; each size has a process of its own. Printed are the median of the steps
with its quartiles, the peak of memory beyond that of a process with hardly any model, and how each has grown: if it is
n times as much, of n times the size, the power is 1; of attention's products, which grow with the square, 2.
"""

import math
import os
from statistics import median, quantiles
from typing import Any

from bench_step import Shape, flops
from peers import Contestant, Report, parse

BASE = Shape(L=4, H=4, C=128, T=256, B=1, V=512)
TINY = Shape(L=1, H=1, C=16, T=8, B=1, V=16)
SWEEPS = {
    "T": ("tokens in a row", [64, 128, 256, 512, 1024, 2048, 4096]),
    "V": ("vocabulary", [100, 1000, 10_000, 100_000]),
    "C": ("width, in heads of 32", [64, 128, 256, 512, 1024]),
    "B": ("examples in a batch", [1, 2, 4, 8, 16, 32]),
    "threads": ("threads, 8 examples", [1, 2, 4, 8, 16, 32, 64]),
}
TURN = 0.2  # seconds of steps in a turn, about


def shape_of(key: str, size: int) -> Shape:
    if key == "C":
        return BASE._replace(C=size, H=size // 32)
    return BASE._replace(B=8) if key == "threads" else BASE._replace(**{key: size})


def measure(shape: Shape, threads: int, rounds: int) -> dict[str, Any]:
    with Contestant("npgpt", "bench_step:NpgptStep", threads, shape=shape) as contestant:
        first = contestant.ask("warm_up")
        steps = max(1, math.ceil(TURN / first["seconds"]))
        seconds = [contestant.ask("measure", steps=steps) for _ in range(rounds)]
        low, _, high = quantiles(seconds, n=4, method="inclusive") if rounds > 1 else seconds * 3
        memory = contestant.ask("memory")["steps"]
    return {"seconds": median(seconds), "quartiles": [low, high], "memory": memory, "flops": flops(shape)}


def power(before: dict[str, Any], now: dict[str, Any], what: str) -> float:
    """p, if ``what`` has grown with the size to the power of p."""
    if before[what] <= 0 or now[what] <= 0:
        return math.nan
    return math.log(now[what] / before[what]) / math.log(now["size"] / before["size"])


def sweep(key: str, sizes: list[int], threads: int, rounds: int, nothing: float) -> list[dict[str, Any]]:
    print(f"\n{SWEEPS[key][0]}")
    print(f"{key:>8}{'ms':>10}  {'quartiles':<18}{'power':>6}{'GF/s':>8}{'MB':>9}{'power':>7}")
    rows: list[dict[str, Any]] = []
    for size in sizes:
        found = measure(shape_of(key, size), size if key == "threads" else threads, rounds)
        found["memory"] = max(0.0, found["memory"] - nothing)
        rows.append({"sweep": key, "size": size, **found})
        row, before = rows[-1], rows[-2] if len(rows) > 1 else None
        powers = [f"{power(before, row, what):.2f}" if before else "" for what in ("seconds", "memory")]
        between = "-".join(f"{1e3 * quartile:.2f}" for quartile in row["quartiles"])
        speed = row["flops"] / row["seconds"] / 1e9
        print(
            f"{size:>8}{1e3 * row['seconds']:10.2f}  {between:<18}{powers[0]:>6}{speed:8.1f}{row['memory']:9.1f}"
            f"{powers[1]:>7}",
            flush=True,
        )
    return rows


def draw(rows: list[dict[str, Any]], path: str, about: str) -> None:
    """A column for each sweep: time above, memory below, on axes where a power is a straight line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(SWEEPS), figsize=(3 * len(SWEEPS), 5.5), sharex="col", layout="constrained")
    for column, (key, (title, _)) in enumerate(SWEEPS.items()):
        of_sweep = [row for row in rows if row["sweep"] == key]
        sizes = [row["size"] for row in of_sweep]
        for axis, what, scale in ((axes[0, column], "seconds", 1e3), (axes[1, column], "memory", 1.0)):
            axis.loglog(sizes, [scale * row[what] for row in of_sweep], "o-", color="C0", label="measured")
            axis.set_ylim(axis.get_ylim())  # of what was measured
            start = scale * of_sweep[-1][what]  # proportional growth ends where the measurement does
            if start > 0:
                sign = -1 if key == "threads" and what == "seconds" else 1
                line = [start * (size / sizes[-1]) ** sign for size in sizes]
                axis.loglog(sizes, line, ":", color="grey", label="proportional")
            axis.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=60, fontsize=7)
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        axes[0, column].set_title(title, fontsize=9)
        axes[1, column].set_xlabel(key)
    axes[0, 0].set_ylabel("ms a step")
    axes[1, 0].set_ylabel("MB at most")
    axes[0, 0].legend(fontsize=7)
    figure.suptitle(f"A training step of a small GPT ({about})", fontsize=10)
    figure.savefig(path, dpi=120)
    print(f"\npicture in {path}")


def main() -> None:
    options = parse(
        "How do time and memory of a training step grow?",
        5,
        ("--picture", {"metavar": "FILE", "help": "draw it there"}),
    )
    report = Report()
    threads, cores = max(options.threads), os.cpu_count() or 1
    base = ", ".join(f"{name} {size}" for name, size in BASE._asdict().items())
    print(f"# from {base}; {threads} thread{'s' * (threads > 1)}")
    measure(TINY, threads, 1)  # fills the cache: what compiles has a compiler in its memory
    nothing = measure(TINY, threads, 1)["memory"]
    print(f"# memory is counted from {nothing:.0f} MB on, with hardly any model")
    for key, (_, sizes) in SWEEPS.items():
        if key == "threads":
            sizes = sorted({*(size for size in sizes if size <= cores), *options.threads})
        report.rows += sweep(key, sizes[:3] if options.quick else sizes, threads, options.rounds, nothing)
    if options.picture:
        draw(report.rows, options.picture, base)
    report.write(options.json)


if __name__ == "__main__":
    main()
