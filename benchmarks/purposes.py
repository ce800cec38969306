"""What do the examples of other domains and purposes find with other seeds?

    python benchmarks/purposes.py [NUMBER ...] [--seeds 0 1 2] [--json FILE]

Examples 25, 26, 28 and 29 run as they are, with another ``SEED``: of the weights, the data and their order. The
table has the mean of the seeds, with the lowest and the highest. Examples 27 and 30 have three seeds themselves. The
assertions of the examples are for the seed 0, so they are left out here.
"""

import argparse
import contextlib
import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers import JSON, Report

EXAMPLES = Path(__file__).parents[1] / "examples"


def sorting(found: dict[str, Any]) -> dict[str, float]:
    right = found["share_right"]
    rows = {f"right of the {name}": right(found["model"], found[name]) for name in ("seen", "unseen")}
    return rows | {
        f"right without {what}": share
        for what, share in zip(("0.0", "0.1", "1.0", "1.1"), found["without"].values(), strict=True)
    }


def series(found: dict[str, Any]) -> dict[str, float]:
    rows = {}
    for name, error in found["errors"].items():
        rows |= {f"{name}, {h} ahead": float(error[h - 1]) for h in (1, 8, 32)}
    return rows


def instructions(found: dict[str, Any]) -> dict[str, float]:
    return {f"exact match, {kind}": share for kind, share in found["after"].items()}


def lora(found: dict[str, Any]) -> dict[str, float]:
    rows = {}
    for name, (_, seconds, loss, own) in found["rows"].items():
        rows |= {f"{name}: loss": loss, f"{name}: loss of its own text": own, f"{name}: ms a step": 1e3 * seconds}
    return rows


READ: dict[int, Callable[[dict[str, Any]], dict[str, float]]] = {25: sorting, 26: series, 28: instructions, 29: lora}


def run(number: int, seed: int) -> dict[str, float]:
    """Run an example with a seed, and return its numbers."""
    path = next(EXAMPLES.glob(f"{number}_*.py"))
    source = path.read_text(encoding="utf-8")
    source = re.sub(r"^(.*\bSEED = .*?)\b0(  #)", rf"\g<1>{seed}\2", source, count=1, flags=re.M)
    found: dict[str, Any] = {"__name__": path.stem}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(source, str(path), "exec", optimize=1), found)  # without assertions
    return READ[number](found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("numbers", nargs="*", type=int, default=list(READ), metavar="NUMBER")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--json", **JSON)
    options = parser.parse_args()
    report = Report()
    for number in options.numbers:
        start = time.perf_counter()
        of_seed = [run(number, seed) for seed in options.seeds]
        print(f"\nexample {number}, seeds {options.seeds}, {time.perf_counter() - start:.0f} s")
        for name in of_seed[0]:
            values = np.array([row[name] for row in of_seed])
            print(f"  {name:<45}{values.mean():10.3f}   ({values.min():.3f} to {values.max():.3f})", flush=True)
            report.rows.append({"example": number, "name": name, "values": values.tolist()})
    report.write(options.json)


if __name__ == "__main__":
    main()
