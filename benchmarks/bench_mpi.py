"""What does the exact sum of several processes cost, and how much faster are two than one?

    python benchmarks/bench_mpi.py [--quick] [--json FILE]

Each row is a model and a number of micro-batches. One process with one thread, one with two threads, and two ranks with
one thread each take the same steps, the ranks once with each --reduce; they take turns. Efficiency is the time of one
process with one thread over twice that of two ranks. It needs two cores that nothing else uses.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peers import JSON, Report

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, RunConfig, TrainConfig
from npgpt.presets import DEFAULT, PRESETS
from npgpt.runs.ranks import OwnersAdamW, ranks_of_mpiexec
from npgpt.train import optimizer_of, training_steps

MODELS = {
    "default": RunConfig.from_tables(PRESETS[DEFAULT].tables).model,
    "12 M": GPTConfig(vocab_size=2048, context_length=128, n_layer=6, n_head=6, n_embd=384),
}
WAYS = {  # ranks, threads of each, reduce
    "one process": (1, 1, "exact"),
    "one process, two threads": (1, 2, "exact"),
    "two ranks": (2, 1, "exact"),
    "two ranks, fast": (2, 1, "fast"),
}


def work(model_name: str, micro_batches: int, reduce: str, steps: int) -> None:
    """Take steps as a rank; rank 0 prints their median time and the number of parameters."""
    ranks, config = ranks_of_mpiexec(), MODELS[model_name]
    train = TrainConfig(steps=steps + 2, batch_size=16, micro_batches=micro_batches, reduce=reduce)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, 40_000)
    model = make_gpt(config)
    assert model.flat is not None
    optimizer = optimizer_of(model, train)
    if ranks.comm:
        ranks.reduce = reduce
        optimizer = OwnersAdamW(ranks, optimizer)
    times = []
    before = time.perf_counter()
    for _ in training_steps(model, ids, train, optimizer, add_up=ranks.add_up):
        times.append(time.perf_counter() - before)
        before = time.perf_counter()
    if ranks.rank == 0:
        print(json.dumps({"seconds": median(times[2:]), "parameters": model.flat.values.size}))


def measured(way: str, model_name: str, micro_batches: int, steps: int) -> dict[str, Any]:
    n_ranks, threads, reduce = WAYS[way]
    mpiexec = [str(Path(sys.executable).with_name("mpiexec")), "-n", str(n_ranks)] if n_ranks > 1 else []
    command = [*mpiexec, sys.executable, __file__, "--work", model_name, str(micro_batches), reduce, str(steps)]
    variables = os.environ | {"NPGPT_NUM_THREADS": str(threads)}
    ran = subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True, encoding="utf-8")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="few steps of the smaller model: to see that it runs")
    parser.add_argument("--json", **JSON)
    options = parser.parse_args()
    if options.work:
        name, micro_batches, reduce, steps = options.work
        work(name, int(micro_batches), reduce, int(steps))
        return
    report, rounds = Report(), 1 if options.quick else 3
    print(f"{'model':<10}{'M':>3}  {'':<26}{'ms a step':>10}{'MB sent by a rank':>19}")
    for name in list(MODELS)[: 1 if options.quick else None]:
        for micro_batches in (2, 16):
            times: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(rounds):
                for way in WAYS:
                    found = measured(way, name, micro_batches, 3 if options.quick else 6)
                    times[way].append(found["seconds"])
            row: dict[str, Any] = {"model": name, "micro_batches": micro_batches}
            for way, seconds in times.items():
                P, _, reduce = WAYS[way]
                rounds_of_sums = micro_batches / P if reduce == "exact" else 1
                sent = 4 * found["parameters"] * (1 - 1 / P) * (rounds_of_sums + 1)
                row |= {way: median(seconds), f"{way}, bytes": sent}
                print(f"{name:<10}{micro_batches:>3}  {way:<26}{1e3 * median(seconds):>10.1f}{sent / 1e6:>19.1f}")
            row["efficiency"] = median(times["one process"]) / (2 * median(times["two ranks"]))
            row["exact over fast"] = median(times["two ranks"]) / median(times["two ranks, fast"])
            threads = median(times["one process, two threads"]) / median(times["two ranks"])
            print(
                f"  efficiency of two ranks {row['efficiency']:.0%}; exact takes {row['exact over fast']:.2f} of fast;"
            )
            print(f"  two ranks are {threads:.2f} times as fast as two threads of one process", flush=True)
            report.rows.append(row)
    report.write(options.json)


if __name__ == "__main__":
    main()
