"""What the benchmarks share: contestants in processes of their own that take turns, and the ratio of their medians.

Two thread pools in one process disturb each other, and so do two processes that compute at once. So each contestant is
a child process that waits on a pipe until it is asked; the others sleep meanwhile, and a pause before each turn lets
the threads of the one before stop spinning. Whoever was first in one round is last in the next.
"""

import argparse
import ctypes.util
import importlib
import importlib.util
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

PAUSE = 0.2  # seconds before each turn: OpenBLAS was seen to spin for 90 ms after its last call
GROUP = 0.3e-3  # calls that take less are timed several at once
Variables = dict[str, str | None]  # of a child's environment; None takes one away
OWN_CHOICE: Variables = {"OPENBLAS_CORETYPE": None, "OPENBLAS_L2_SIZE": None}  # OpenBLAS chooses its kernel itself
SETS, ROOM = 16, 512 * 2**20  # sets of cold operands, and the bytes that they take at most
QUIET = 0.05  # of a core, that others may take while we measure
HAS_TORCH, HAS_JAX = (importlib.util.find_spec(name) is not None for name in ("torch", "jax"))
RESULTS = Path(__file__).parent / "results"
JSON: dict[str, Any] = {  # settings of the option --json
    "nargs": "?",
    "const": "",
    "metavar": "FILE",
    "help": "write all figures there; without a name, in benchmarks/results, named by benchmark, CPU and date",
}


class Contestant:
    """A child process that makes one object and answers with what its methods return.

    Args
        factory: "module:class", of a module in this folder; the object is ``class(threads=threads, **settings)``.
        environment: variables to set for it.
    """

    def __init__(
        self, label: str, factory: str, threads: int, environment: Variables | None = None, **settings: Any
    ) -> None:
        self.label = label
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPGPT_NUM_THREADS")
        wanted: Variables = {**os.environ, **dict.fromkeys(names, str(threads)), **(environment or {})}
        self.process = subprocess.Popen(
            [sys.executable, __file__, factory, json.dumps({"threads": threads, **settings})],
            env={name: value for name, value in wanted.items() if value is not None},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def ask(self, method: str, **arguments: Any) -> Any:
        """What the child's method returns; SystemExit with its traceback if it raises."""
        assert self.process.stdin and self.process.stdout
        try:
            print(json.dumps([method, arguments]), file=self.process.stdin, flush=True)
            answer = json.loads(self.process.stdout.readline() or "{}")
        except BrokenPipeError:
            answer = {}
        if "answer" not in answer:
            raise SystemExit(f"{self.label}, {method}: {answer.get('error', 'the process died')}")
        return answer["answer"]

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(factory: str, settings: str) -> None:
    """A contestant's life. What it prints goes to the standard error, so that answers stay alone on the pipe."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    contestant = None
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            if contestant is None:
                module, _, name = factory.partition(":")
                contestant = getattr(importlib.import_module(module), name)(**json.loads(settings))
            answer = {"answer": getattr(contestant, method)(**arguments)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def take_turns(contestants: Iterable[Contestant], rounds: int, method: str, **arguments: Any) -> dict[str, list[Any]]:
    """Ask all of them in turns; label -> answers, one a round."""
    order = list(contestants)
    answers: dict[str, list[Any]] = {contestant.label: [] for contestant in order}
    for _ in range(rounds):
        for contestant in order:
            time.sleep(PAUSE)
            answers[contestant.label].append(contestant.ask(method, **arguments))
        order.reverse()
    return answers


def seconds_per_call(function: Callable[[], Any], seconds: float, at_least: int = 3) -> float:
    """The median of several timings, after a call that finds the caches cold and the other threads asleep.

    Args
        seconds: about how long to go on.
        at_least: how many timings, however long they take.
    """
    clock = time.perf_counter
    function()
    start = clock()
    function()
    calls = max(1, math.ceil(GROUP / max(clock() - start, 1e-9)))
    times: list[float] = []
    begun = clock()
    while len(times) < at_least or clock() - begun < seconds:
        start = clock()
        for _ in range(calls):
            function()
        times.append((clock() - start) / calls)
    return statistics.median(times)


def number_of_sets(arrays: Iterable[Any]) -> int:
    """How many sets of these operands lie in memory, so that those of the next call are cold, as in a step."""
    return max(1, min(SETS, ROOM // sum(array.nbytes for array in arrays)))


def compare(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """How many times faster we are: the ratio of medians, and the quartiles of the ratios of single rounds."""
    rounds = [b / a for a, b in zip(ours, theirs, strict=True)]
    low, _, high = statistics.quantiles(rounds, n=4, method="inclusive") if len(rounds) > 1 else rounds * 3
    return {"ratio": statistics.median(theirs) / statistics.median(ours), "quartiles": [low, high]}


def shown(ratio: dict[str, Any]) -> str:
    low, high = ratio["quartiles"]
    return f"{ratio['ratio']:5.2f} ({low:.2f}-{high:.2f})"


def geometric_mean(values: Iterable[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def tuned_allocator() -> tuple[str, Variables]:
    """Another allocator if one is installed, else glibc's, told to keep what is freed and to ask for huge pages."""
    for name in ("jemalloc", "tcmalloc", "tcmalloc_minimal"):
        if library := ctypes.util.find_library(name):
            return name, {"LD_PRELOAD": library, "MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1,metadata_thp:auto"}
    settings = {"mmap_max": 0, "trim_threshold": 2**40, "top_pad": 2**26, "hugetlb": 1}
    return "glibc " + " ".join(f"{name}={value}" for name, value in settings.items()), {
        "GLIBC_TUNABLES": ":".join(f"glibc.malloc.{name}={value}" for name, value in settings.items())
    }


def fastest(times: dict[str, list[float]], labels: Iterable[str]) -> str:
    return min(labels, key=lambda label: statistics.median(times[label]))


def parse(description: str, rounds: int, *more: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """The options that all of these benchmarks have, and some of their own."""
    parser = argparse.ArgumentParser(description=description)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    default = [1, 2] if cores > 1 else [1]
    parser.add_argument("--threads", type=int, nargs="+", default=default, help="numbers of threads (1 2)")
    fewer = min(3, rounds)
    parser.add_argument("--rounds", type=int, help=f"turns of each contestant ({rounds}; with --quick {fewer})")
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs")
    parser.add_argument("--json", **JSON)
    for name, settings in more:
        parser.add_argument(name, **settings)
    options = parser.parse_args()
    options.rounds = options.rounds or (fewer if options.quick else rounds)
    return options


def other_seconds() -> tuple[float, float]:
    """Processor seconds so far of other programs than this one and the children that it has closed; of the host."""
    try:
        numbers = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0, 0.0
    user, nice, system, _, _, interrupts, soft, stolen = (int(number) / os.sysconf("SC_CLK_TCK") for number in numbers)
    return user + nice + system + interrupts + soft - sum(os.times()[:4]), stolen


def result_file(environment: dict[str, Any]) -> Path:
    """Where the results of a ``Report`` belong; another run on the same day takes the place of the first."""
    cpu = re.sub("[^a-z0-9]+", "-", environment["cpu"].lower()).strip("-")
    return RESULTS / f"{environment['benchmark']}-{cpu}-{environment['date']}.json"


class Report:
    """The rows of a benchmark and the machine they were measured on."""

    def __init__(self) -> None:
        from npgpt.machine.numba_internals import host_cpu
        from npgpt.study.machine_facts import about_machine

        about = {"benchmark": Path(sys.argv[0]).stem, "date": time.strftime("%Y-%m-%d")}
        self.environment: dict[str, Any] = about | about_machine()
        self.environment["cpu"] += f" ({host_cpu()})"  # "AMD EPYC" is Zen 4 as well as Zen 5: znver4, znver5
        self.rows: list[dict[str, Any]] = []
        self.begun = time.monotonic()
        self.before = other_seconds()
        print("#", ", ".join(f"{name} {value}" for name, value in self.environment.items()))

    def introduce(self, contestants: Iterable[Contestant]) -> None:
        """Ask each who it is, and print what was not said before."""
        for contestant in contestants:
            about = contestant.ask("about")
            known = about in self.environment.values()
            self.environment[contestant.label] = about
            if not known:
                print(f"# {contestant.label}:", ", ".join(f"{name} {value}" for name, value in about.items()))
        sys.stdout.flush()

    def write(self, path: str | None) -> None:
        """Say how undisturbed the run was, when all contestants are closed, and write the file if one is wanted.

        Args
            path: of the file; "" means ``result_file``.
        """
        elapsed = time.monotonic() - self.begun
        busy, stolen = ((now - before) / elapsed for now, before in zip(other_seconds(), self.before, strict=True))
        self.environment["cores used by others"] = {"here": busy, "on the host": stolen}
        trust = "" if busy + stolen < QUIET else "; with so much of it, do not trust the figures"
        print(f"# {elapsed:.0f} s; other programs took {busy:.2f} of a core, the host {stolen:.2f}{trust}", flush=True)
        if path is not None:
            file = Path(path) if path else result_file(self.environment)
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps({"environment": self.environment, "rows": self.rows}, indent=1))


class Npgpt:
    """The side of npgpt, for contestants to build on; it also knows the machine's peak."""

    def __init__(self, threads: int) -> None:
        from npgpt import set_num_threads

        set_num_threads(threads)
        self._peak: Any = None

    def about(self) -> dict[str, Any]:
        import numba
        import numpy as np

        from npgpt.machine.tile import PRODUCT_TILE
        from npgpt.version import __version__

        return {"version": __version__, "numba": numba.__version__, "numpy": np.__version__, "tile": PRODUCT_TILE.name}

    def peak(self) -> float:
        """The FMA peak of all threads together, in GF/s, measured now."""
        if self._peak is None:
            from peak import Peak

            self._peak = Peak()
        return float(self._peak.measure())


class Numpy:
    """The side of NumPy and the BLAS that it comes with."""

    def __init__(self, threads: int) -> None:
        pass  # the environment has said it

    def about(self) -> dict[str, Any]:
        from npgpt.study.machine_facts import about_versions

        versions = about_versions()
        return {"version": versions["numpy"], "blas": versions["blas"].partition(";")[0]}


class Torch:
    """The side of PyTorch."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)

    def about(self) -> dict[str, Any]:
        import torch

        config = [line.strip(" -") for line in torch.__config__.show().splitlines()]
        libraries = [
            line.partition(" for Intel")[0] for line in config if "Kernel Library" in line or "MKL-DNN" in line
        ]
        return {
            "version": torch.__version__,
            "with": "; ".join(libraries),
            "vectors": torch.backends.cpu.get_cpu_capability(),
        }


def cpu_flags() -> set[str]:
    """What Linux says that this CPU can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def peak_memory() -> float:
    """MB that this process had in memory at most, since it started or since ``reset_peak_memory``; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmHWM in /proc/self/status")


def reset_peak_memory() -> None:
    """From now on the peak counts from what is in memory now: imports, compilers and first steps are forgotten."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    serve(*sys.argv[1:])
