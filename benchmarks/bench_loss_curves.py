"""Does a loss curve show that a gradient is wrong?

    python benchmarks/bench_loss_curves.py [--steps N] [--seeds N] [--quick] [--picture FILE] [--json FILE]

A small GPT learns from the documentation of Python, by textbook layers in float64: first as they are, then with each
mistake of ``npgpt gradcheck --mutants`` that changes a gradient of this GPT (2 blocks, 2 heads, 32 channels, dropout
0.1). A seed gives the initial weights, the order of the examples and the dropout; all mistakes get the same seeds.
Printed, best first: the mean validation loss at the end; how far it is from that of the right code, in standard
deviations of the right code over the seeds; and how far off the gradient is, as a share of its norm, after the right
training.
"""

import argparse
import math
import os
from statistics import fmean, stdev
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # NumPy's, read when it is imported

import numpy as np
from peers import JSON, Numpy, Report

from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Cache
from npgpt.data import SlidingWindows, builtin_texts, encode_texts, split_text
from npgpt.errors import TrainingError
from npgpt.model import GPT
from npgpt.study.mutants import MUTANTS, Mutant, planted
from npgpt.support.pictures import pyplot
from npgpt.tokenizer import BPETokenizer
from npgpt.train import accumulate, evaluate, training_steps

NOISE = 2  # standard deviations that count as noise
CHANGED = 1e-7  # of the gradient's norm: less is rounding
RIGHT = "the right code"
Row = dict[str, Any]


class Trial:
    """The text, the GPT and its training; ``model`` is the one of the first seed, trained by the right code."""

    def __init__(self, steps: int, seeds: int) -> None:
        parts = [split_text(text, validation_fraction=0.1) for text in builtin_texts()]
        tokenizer = BPETokenizer.train([train for train, _ in parts], vocab_size=300)
        self.ids = encode_texts(tokenizer, [train for train, _ in parts])
        self.validation_ids = encode_texts(tokenizer, [end for _, end in parts])[:8193]
        self.config = GPTConfig(tokenizer.vocab_size, context_length=32, n_layer=2, n_head=2, n_embd=32, dropout=0.1)
        self.steps, self.seeds = steps, seeds
        self.right = [self.loss(seed) for seed in range(seeds)]
        self.right_gradient = self.gradient()

    def loss(self, seed: int) -> float:
        """Train; return the validation loss at the end, infinite if the training diverged."""
        model = GPT(self.config, seed, dtype=np.float64)
        config = TrainConfig(
            steps=self.steps, batch_size=8, learning_rate=5e-3, warmup_steps=self.steps // 10, seed=seed
        )
        if seed == 0 and not hasattr(self, "model"):
            self.model = model
        try:
            for _ in training_steps(model, self.ids, config):
                pass
        except TrainingError:
            return math.inf
        return evaluate(model, self.validation_ids)

    def gradient(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the gradient of one batch."""
        accumulate(self.model, *SlidingWindows(self.ids, 32, batch_size=8).batch(1000), Cache(training=True))
        return np.concatenate([param.grad.ravel() for param in self.model.parameters().values()])

    def row(self, mutant: Mutant) -> Row | None:
        """Train with a mistake; None if it does not change the gradient."""
        with planted(mutant), np.errstate(all="ignore"):
            off = np.linalg.norm(self.gradient() - self.right_gradient) / np.linalg.norm(self.right_gradient)
            if not off > CHANGED:
                return None
            losses = [self.loss(seed) for seed in range(self.seeds)]
        units = (fmean(losses) - fmean(self.right)) / stdev(self.right)
        return {"name": mutant.name, "says": mutant.says, "losses": losses, "units": units, "off": float(off)}


def mistakes(quick: bool) -> list[Mutant]:
    """Return those in a textbook layer's backward pass, each once."""
    once = {(m.target, m.new): m for m in reversed(MUTANTS) if not m.compiled and m.kind != "reference"}
    return sorted(once.values(), key=lambda mutant: mutant.name)[:: 12 if quick else 1]


def draw(rows: list[Row], right: list[float], path: str) -> None:
    """A line for each mistake, the lowest loss on top, and the band of the right code's noise."""
    plt = pyplot()
    shown = [row for row in rows if math.isfinite(fmean(row["losses"]))]
    figure, axes = plt.subplots(figsize=(8, 1.5 + 0.155 * len(shown)), layout="constrained")
    middle, spread = fmean(right), stdev(right)
    noise, label = NOISE * spread, f"the right code, ± {NOISE} standard deviations"
    axes.axvspan(middle - noise, middle + noise, color="C2", alpha=0.25, lw=0, label=label)
    axes.axvline(middle, color="C2", lw=1)
    for y, row in enumerate(shown):
        color = "C3" if abs(row["units"]) <= NOISE else "C0"
        axes.plot(row["losses"], [y] * len(row["losses"]), ".", color=color, ms=3, alpha=0.5)
        axes.plot(fmean(row["losses"]), y, "o", color=color, ms=4)
    axes.plot([], [], "o", color="C3", ms=4, label="a mistake that ends within the noise")
    axes.plot([], [], "o", color="C0", ms=4, label="a mistake that ends outside it")
    axes.set_yticks(range(len(shown)), [row["name"] for row in shown], fontsize=7)
    axes.set_xscale(
        "function", functions=(lambda x: np.arcsinh((x - middle) / spread), lambda u: middle + spread * np.sinh(u))
    )
    losses = [loss for row in shown for loss in (*row["losses"], middle)]
    low, high = min(losses) - 2 * spread, max(losses) + 2 * spread
    ticks = [middle + k * spread for k in (-5, -2, 0, 2, 5, 15, 50, 150, 500, 1500, 5000)]
    ticks = [tick for tick in ticks if low < tick < high]
    axes.set_xticks(ticks, [f"{tick:.2f}" for tick in ticks], fontsize=8)
    axes.minorticks_off()
    axes.set(xlim=(low, high + 0.1 * (high - middle)), ylim=(len(shown) - 0.4, -0.6))
    axes.set_xlabel(
        "validation loss at the end, nats per token (stretched around the right code's)\nsmall dots: each seed"
    )
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper right", fontsize=8)
    figure.savefig(path, dpi=120)
    print(f"picture in {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a loss curve show that a gradient is wrong?")
    parser.add_argument("--steps", type=int, help="steps of each training (1000; with --quick 20)")
    parser.add_argument("--seeds", type=int, help="trainings with each mistake, at least 2 (5; with --quick 2)")
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs")
    parser.add_argument("--picture", metavar="FILE", help="draw it there")
    parser.add_argument("--json", **JSON)
    options = parser.parse_args()
    report = Report()
    print("# NumPy:", ", ".join(f"{name} {value}" for name, value in Numpy(1).about().items()))
    trial = Trial(options.steps or (20 if options.quick else 1000), options.seeds or (2 if options.quick else 5))
    middle, spread = fmean(trial.right), stdev(trial.right)
    print(f"# {trial.right_gradient.size:,} weights, {trial.steps} steps, {trial.seeds} seeds")
    print(f"{RIGHT}: {middle:.3f}, standard deviation {spread:.3f} ({min(trial.right):.3f} to {max(trial.right):.3f})")
    found = [row for mutant in mistakes(options.quick) if (row := trial.row(mutant))]
    rows = sorted(found, key=lambda row: fmean(row["losses"]))
    print(f"\n{'mistake':<36}{'loss':>8}{'distance':>10}{'gradient off by':>17}")
    for row in rows:
        print(f"{row['name']:<36}{fmean(row['losses']):>8.3f}{row['units']:>10.1f}{100 * row['off']:>15.3g} %")
    within = [row for row in rows if abs(row["units"]) <= NOISE]
    better = sum(fmean(row["losses"]) < middle for row in rows)
    print(f"\n{len(within)} of {len(rows)} mistakes end within {NOISE} standard deviations; {better} end lower than it")
    if within:
        worst = max(within, key=lambda row: row["off"])
        print(f"the largest of these puts the gradient off by {100 * worst['off']:.3g} %: it {worst['says']}")
    report.rows = [{"name": RIGHT, "losses": trial.right}, *rows]
    if options.picture:
        draw(rows, trial.right, options.picture)
    report.write(options.json)


if __name__ == "__main__":
    main()
