"""How well does the default run of ``npgpt train`` predict, against the settings that it had before?

    python benchmarks/bench_first_run.py [--quick] [--json FILE]

Both are trained on the built-in text, in equal time: in the seconds of the old run (500 steps), and in those of the new
one. Bits per byte of the same validation bytes compare them, although their tokens differ; each row has those of its
best weights, which ``npgpt sample`` takes.
"""

import argparse
import time
from typing import Any

from peers import JSON, Report

from npgpt.config import GPTConfig, RunConfig, TrainConfig
from npgpt.presets import DEFAULT, PRESETS
from npgpt.runs import train_run

BEFORE = RunConfig(model=GPTConfig(), train=TrainConfig())  # until November 2026
NOW = RunConfig.from_tables(PRESETS[DEFAULT].tables)


def trained(config: RunConfig, steps: int) -> dict[str, Any]:
    tables = {"model": vars(config.model), "train": vars(config.train)}
    every = max(1, min(config.train.eval_every, steps // 4))
    tables["train"] = tables["train"] | {"steps": steps, "eval_every": every}
    begun: list[float] = []
    run = train_run(RunConfig.from_tables(tables), on_start=lambda _: begun.append(time.perf_counter()))
    seconds = time.perf_counter() - begun[0]
    best = min(run.metrics, key=lambda row: row["val_loss"])
    return {"steps": steps, "seconds": seconds, "bits per byte": best["val_bits_per_byte"], "best step": best["step"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few steps: to see that it runs")
    parser.add_argument("--json", **JSON)
    options = parser.parse_args()
    report, part = Report(), 50 if options.quick else 1
    for config in (BEFORE, NOW):
        trained(config, 2)  # compiles
    short, long = trained(BEFORE, BEFORE.train.steps // part), trained(NOW, NOW.train.steps // part)
    ratio = long["seconds"] / short["seconds"]
    rows = {
        "before": short,
        "now, as long": trained(NOW, max(4, round(long["steps"] / ratio))),
        "before, as long as now": trained(BEFORE, round(short["steps"] * ratio)),
        "now": long,
    }
    print(f"{'':<24}  steps  seconds  bits per byte  best step")
    for name, row in rows.items():
        print(f"{name:<24}{row['steps']:>7}{row['seconds']:>9.1f}{row['bits per byte']:>15.3f}{row['best step']:>11}")
        report.rows.append({"run": name} | row)
    for what, ours, theirs in (("short", "now, as long", "before"), ("long", "now", "before, as long as now")):
        saved = 1 - rows[ours]["bits per byte"] / rows[theirs]["bits per byte"]
        print(f"{what}: {100 * saved:.1f} % fewer bits per byte")
    print(f"default against default: {100 * (1 - long['bits per byte'] / short['bits per byte']):.1f} % fewer")
    report.write(options.json)


if __name__ == "__main__":
    main()
