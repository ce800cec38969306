"""What do checkpoints cost, and does the memory of a long run grow?

    python benchmarks/bench_runs.py [--quick] [--json FILE]

The first table: the model of `GPTConfig()` (0.9 million parameters), with its evaluations, and with a checkpoint at
every step: the seconds that writing checkpoints took, over all seconds of training, and the bytes of a checkpoint. The
second: the memory in use of a process that trains a tiny model for 10,000 steps, with 100 evaluations and checkpoints.
"""

import dataclasses
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import Report, parse

from npgpt.config import GPTConfig, RunConfig, TrainConfig
from npgpt.runs import Run, train_run
from npgpt.runs.folder import RunFolder
from npgpt.train import Step


class Timed:
    """Counts the checkpoints that are written, and their seconds."""

    def __init__(self) -> None:
        self.seconds, self.n, self.save = 0.0, 0, RunFolder.save

    def __enter__(self) -> "Timed":
        def save(*given: Any) -> None:
            begun = time.perf_counter()
            self.save(*given)
            self.seconds, self.n = self.seconds + time.perf_counter() - begun, self.n + 1

        RunFolder.save = save  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        RunFolder.save = self.save  # type: ignore[method-assign]


def bench_cost(train: TrainConfig, report: Report) -> None:
    """Train the model of `GPTConfig()`, and print the share of its checkpoints."""
    train_run(RunConfig(train=dataclasses.replace(train, steps=2)))  # compiles, reads and encodes for the first time
    begun: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Timed() as timed:
        run = train_run(
            RunConfig(train=train), out=Path(folder, "run"), on_start=lambda _: begun.append(time.perf_counter())
        )
        seconds = time.perf_counter() - begun[0]
        newest = Path(folder, "run/checkpoints", str(run.state.step))
        size = sum(file.stat().st_size for file in newest.iterdir())
    row = {"steps": train.steps, "eval_every": train.eval_every, "seconds": seconds, "checkpoints": timed.n}
    report.rows.append(row | {"seconds of checkpoints": timed.seconds, "bytes": size})
    print(
        f"{train.steps} steps, {timed.n} checkpoints of {size / 1e6:.1f} MB: {timed.seconds:.2f} of {seconds:.1f} s, "
        f"{100 * timed.seconds / seconds:.2f} %; {1000 * timed.seconds / timed.n:.0f} ms each",
        flush=True,
    )


def resident() -> int:
    """The bytes of memory in use by this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bench_memory(steps: int, report: Report) -> None:
    seen: list[tuple[int, int]] = []

    def look(_: Run, step: Step) -> None:
        if step.number % (steps // 10) == 0:
            seen.append((step.number, resident()))

    model = GPTConfig(context_length=16, n_layer=1, n_head=2, n_embd=32)
    config = RunConfig(model=model, train=TrainConfig(steps=steps, batch_size=4, eval_every=steps // 100))
    with tempfile.TemporaryDirectory() as folder:
        train_run(config, out=Path(folder, "run"), on_step=look)
    report.rows.append({"memory": seen})
    print("\nmemory in use, in MB, by step: " + ", ".join(f"{step}: {size / 1e6:.1f}" for step, size in seen))
    print(f"from step {seen[0][0]} to {seen[-1][0]}: {(seen[-1][1] - seen[0][1]) / 1e6:+.2f} MB", flush=True)


def main() -> None:
    options = parse((__doc__ or "").splitlines()[0], rounds=1)
    report = Report()
    steps = 40 if options.quick else 500
    bench_cost(TrainConfig(steps=steps, eval_every=steps // 5), report)
    bench_cost(TrainConfig(steps=20, eval_every=10, save_at=list(range(20))), report)
    bench_memory(500 if options.quick else 10_000, report)
    report.write(options.json)


if __name__ == "__main__":
    main()
