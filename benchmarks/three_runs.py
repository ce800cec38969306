"""The median of three runs of a benchmark, each in a process of its own.

    python benchmarks/three_runs.py bench_step.py --shapes A C D B

Its output is shown as it comes. Then the ratios and shares of each row follow: the median, with the lowest and the
highest of the three. The file in benchmarks/results has the medians of all figures; what is not a number is that of
the first run.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from peers import result_file

SHOWN = ("ratio", "share_of_peak", "geometric_mean", "worst")


def medians(runs: list[Any]) -> Any:
    """One tree of the shape of the first. A run that lacks a place of it (another mode was best) is left out there.

    >>> medians([{"ms": [1, 2], "of": "a"}, {"ms": [3, 2], "of": "a"}, {"ms": [2, 9], "of": "b"}])
    {'ms': [2, 2], 'of': 'a'}
    """
    first = runs[0]
    if isinstance(first, dict):
        return {key: medians([run[key] for run in runs if key in run]) for key in first}
    if isinstance(first, list):
        return [medians([run[i] for run in runs if i < len(run)]) for i in range(len(first))]
    return statistics.median(runs) if isinstance(first, int | float) else first


def lines(rows: list[Any], path: str = "") -> list[str]:
    """A line for each figure of a row (given as that of every run) that a table shows.

    >>> lines([{"shape": "A", "ratio": 1.2}, {"shape": "A", "ratio": 1.1}, {"shape": "A", "ratio": 1.3}], "A")
    ['A, ratio: 1.200 (1.100-1.300)']
    """
    found = []
    for key, value in rows[0].items():
        values = [row[key] for row in rows if key in row]
        if isinstance(value, dict):
            found += lines(values, f"{path}, {key}")
        elif key in SHOWN:
            found.append(f"{path}, {key}: {statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})")
    return found


def main() -> None:
    benchmark, *arguments = sys.argv[1:]
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(3):
            file = Path(folder, f"{number}.json")
            program = Path(__file__).with_name(Path(benchmark).name)
            subprocess.run([sys.executable, str(program), *arguments, "--json", str(file)], check=True)
            runs.append(json.loads(file.read_text()))
    print("\nmedians of three runs, in brackets the lowest and the highest")
    for rows in zip(*(run["rows"] for run in runs), strict=True):
        about = [f"{key} {value}" for key, value in rows[0].items() if isinstance(value, str | int)]
        print("\n".join(lines(list(rows), ", ".join(about))))
    file = result_file(runs[0]["environment"])
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(medians(runs), indent=1))
    print(f"written to {file}")


if __name__ == "__main__":
    main()
