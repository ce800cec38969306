"""How long does it take to compile every kernel, and, once that is done, from launch to the end of the first step?

    python benchmarks/bench_startup.py [--threads 1 2] [--rounds N] [--quick] [--json FILE]

It works in a copy of the package without any machine code. There, one process compiles every kernel that Python calls,
and then uses the tokenizer, whose kernels are counted apart. After that processes start anew, and take the first step
of a small GPT (shape A of bench_step.py), with the machine code that they find; seconds count from the moment when the
process is launched. PyTorch, eager, does the same in turns. Printed are medians, with the lowest and the highest.
"""

import importlib
import importlib.util
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from peers import HAS_TORCH, Report, parse

SHAPE = {"vocab_size": 65, "context_length": 64, "n_layer": 4, "n_head": 4, "n_embd": 128}
BATCH = 12
SHOWN = 8  # of the kernels that take longest


class Stages:
    """A clock that says how long each stage took; the first began when the parent launched this process."""

    def __init__(self, launched: float) -> None:
        self.last, self.seconds = launched, {}
        self.end("start Python")

    def end(self, stage: str) -> None:
        now = time.monotonic()  # the same clock in all processes
        self.seconds[stage] = now - self.last
        self.last = now


def compile_all(stages: Stages) -> dict[str, Any]:
    """In an empty copy: every kernel that Python calls, then those of the tokenizer."""
    import npgpt.compiled

    for module in pkgutil.iter_modules(npgpt.compiled.__path__):
        importlib.import_module(f"npgpt.compiled.{module.name}")
    from npgpt.machine.compile import ENTRIES
    from npgpt.machine.pool import pool

    stages.end("import npgpt")
    kernels = {}
    for entry in ENTRIES:
        begun = time.monotonic()
        entry.compile_form()
        function = entry.py_func
        kernels[f"{function.__module__.rpartition('.')[2]}.{function.__name__}"] = time.monotonic() - begun
    begun = time.monotonic()
    pool()  # with the kernel that its threads run
    kernels["pool"] = time.monotonic() - begun
    # The kernels that compute sizes of memory are called by Python, too, in forms of their own.
    kernels["sizes, for Python"] = first_step(stages)["stages"]["load kernels"]
    return {"kernels": kernels, "total": sum(kernels.values()), "tokenizer": use_tokenizer()}


def use_tokenizer() -> dict[str, float]:
    """Seconds of the first use of each of its kernels less those of the second: what compiling takes."""
    import pydoc_data.topics

    from npgpt.tokenizer import BPETokenizer

    text = "\n".join(pydoc_data.topics.topics.values())
    seconds: dict[str, float] = {}
    tokenizer: Any = None
    for sign in (1, -1):
        begun = time.monotonic()
        tokenizer = BPETokenizer.train(text, 300)
        trained = time.monotonic()
        ids = tokenizer.encode(text)
        encoded = time.monotonic()
        if tokenizer.decode(ids) != text:
            raise SystemExit("the tokenizer does not give back its text")
        times = {"train": trained - begun, "encode": encoded - trained, "decode": time.monotonic() - encoded}
        seconds = {name: seconds.get(name, 0.0) + sign * value for name, value in times.items()}
    return seconds


def first_step(stages: Stages) -> dict[str, Any]:
    """What a short program does that trains a small GPT."""
    import numpy as np

    stages.end("import NumPy")
    from npgpt.build import make_gpt, make_optimizer
    from npgpt.config import GPTConfig
    from npgpt.core import Cache
    from npgpt.optim import clip_scale
    from npgpt.train import accumulate

    stages.end("import npgpt")
    import numba  # noqa: F401

    stages.end("import Numba")
    model = make_gpt(GPTConfig(**SHAPE))
    optimizer, cache = make_optimizer(model), Cache(training=True)
    ids = np.random.default_rng(0).integers(0, SHAPE["vocab_size"], (BATCH, SHAPE["context_length"] + 1))
    stages.end("make the model")

    def step(number: int) -> None:
        accumulate(model, ids[:, :-1], ids[:, 1:], cache, step=number)
        optimizer.step(1e-3, clip_scale(optimizer.grad_norm(), 1.0))

    step(1)
    stages.end("first step")
    step(2)
    return finish(stages, "load kernels")


def first_torch_step(stages: Stages) -> dict[str, Any]:
    """The same in PyTorch."""
    import torch

    stages.end("import PyTorch")
    import torch_gpt

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    V, T, n_layer, n_head, C = SHAPE.values()
    model = torch_gpt.GPT(V, T, n_layer, n_head, C)
    optimizer = torch_gpt.make_optimizer(list(model.parameters()), 1e-3)
    ids = torch.randint(V, (BATCH, T + 1))
    stages.end("make the model")

    def step() -> None:
        optimizer.zero_grad()
        model(ids[:, :-1], ids[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    step()
    stages.end("first step")
    step()
    return finish(stages, "prepare the step")


def finish(stages: Stages, preparing: str) -> dict[str, Any]:
    """Cut the first step into what a second one takes, and what came before it."""
    stages.end("second step")
    seconds = stages.seconds
    second = seconds.pop("second step")
    total = sum(seconds.values())
    seconds[preparing] = max(0.0, seconds.pop("first step") - second)
    seconds["step"] = second
    return {"stages": seconds, "total": total}


def launch(what: str, copy: Path, threads: int) -> Any:
    """Run one of the functions above in a new process that finds npgpt in ``copy``."""
    names = ("NPGPT_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, "PYTHONPATH": str(copy), **dict.fromkeys(names, str(threads))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's second start finds bytecode, too
    ran = subprocess.run(
        [sys.executable, __file__, "--child", what, str(copy), str(time.monotonic())],
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    if ran.returncode:
        raise SystemExit(f"{what}: {ran.stderr}")
    if what != "compile_all" and "compiling" in ran.stderr:
        raise SystemExit(f"{what} compiled, though all kernels should have been found: {ran.stderr}")
    return json.loads(ran.stdout)


def child(what: str, copy: str, launched: str) -> None:
    stages = Stages(float(launched))
    answer = globals()[what](stages)
    if "npgpt" in sys.modules and not str(sys.modules["npgpt"].__file__).startswith(copy):
        raise SystemExit(f"this is not the copy: {sys.modules['npgpt'].__file__}")
    print(json.dumps(answer))


def main() -> None:
    options = parse("How long does compiling take, and how long the first step?", rounds=7)
    report = Report()
    package = importlib.util.find_spec("npgpt")
    assert package and package.submodule_search_locations
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        source = package.submodule_search_locations[0]
        shutil.copytree(source, copy / "npgpt", ignore=shutil.ignore_patterns("__pycache__"))
        compiled = launch("compile_all", copy, max(options.threads))
        report.rows.append(compiled)
        kernels = sorted(compiled["kernels"].items(), key=lambda item: -item[1])
        print(f"\nevery kernel, compiled from an empty cache, {len(kernels)} in all: {compiled['total']:.1f} s")
        for name, seconds in kernels[:SHOWN]:
            print(f"  {seconds:6.2f} s  {name}")
        print(f"  {sum(seconds for _, seconds in kernels[SHOWN:]):6.2f} s  the others")
        tokenizer = compiled["tokenizer"]
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in tokenizer.items())
        print(f"the tokenizer's, apart: {sum(tokenizer.values()):.1f} s ({parts})", flush=True)
        for threads in options.threads:
            bench_first_step(copy, threads, options.rounds, report)
    report.write(options.json)


def bench_first_step(copy: Path, threads: int, rounds: int, report: Report) -> None:
    sides = {"npgpt": "first_step"} | ({"PyTorch": "first_torch_step"} if HAS_TORCH else {})
    for what in sides.values():
        launch(what, copy, threads)  # files are in memory from here on
    answers: dict[str, list[Any]] = {label: [] for label in sides}
    for _ in range(rounds):
        for label, what in sides.items():
            answers[label].append(launch(what, copy, threads))
    print(f"\nfrom launch to the end of the first step, {threads} thread{'s' * (threads > 1)}")
    for label, runs in answers.items():
        totals = [run["total"] for run in runs]
        stages = {stage: median(run["stages"][stage] for run in runs) for stage in runs[0]["stages"]}
        report.rows.append({"threads": threads, "of": label, "seconds": totals, "stages": stages})
        print(f"  {label:<8}{median(totals):6.2f} s ({min(totals):.2f} to {max(totals):.2f})", end=": ")
        print(", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items()), flush=True)


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
