"""How fast is the matrix product, beside NumPy's OpenBLAS and PyTorch's MKL, and beside what the CPU could do?

    python benchmarks/bench_matmul.py [--threads 1 2] [--rounds N] [--quick] [--json FILE]

The products of training, forward, dx and dW, of eleven linear layers: the same operands, transposed where the layers
transpose them, with memory for the result that is there already. They are cold, as in a step, where other layers' work
lies between two calls: sixteen sets of operands and results in turn, or as many as 512 MiB hold (two of the largest
head). And they are warm: one set again and again. Results are compared with NumPy's in float64 first. Then all take
turns, each in a process of its own. The ratio is that of the medians, the peer's time over ours (more than 1: we are
ahead), in brackets the quartiles of the ratios of single rounds.
"""

import itertools
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import (
    HAS_TORCH,
    OWN_CHOICE,
    Contestant,
    Npgpt,
    Numpy,
    Report,
    Torch,
    Variables,
    compare,
    geometric_mean,
    number_of_sets,
    parse,
    seconds_per_call,
    shown,
    take_turns,
)

SHAPES = [  # rows, width in, width out
    (768, 128, 384),
    (768, 128, 512),
    (768, 512, 128),
    (768, 128, 65),
    (2048, 384, 1152),
    (2048, 384, 1536),
    (2048, 1536, 384),
    (1024, 384, 8192),
    (256, 768, 3072),
    (256, 3072, 768),
    (256, 768, 50257),
]
QUICK = [0, 3, 5]
HEADS = (65, 8192, 50257)  # widths of vocabularies: the head's matrix lies as (width out, width in)
PRODUCTS = ("forward", "dx", "dW")
STATES = ("cold", "warm")
ALLOWED = 1e-5  # difference of a result in float32, over the largest number in it


def operands(shape: tuple[int, int, int], product: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    M, K, N = shape
    rng = np.random.default_rng(M + K + N)

    def random(*size: int) -> NDArray[np.float32]:
        return rng.standard_normal(size, np.float32)

    if product == "dW":
        x, dy = random(M, K), random(M, N)
        return (dy.T, x) if N in HEADS else (x.T, dy)
    weight = random(N, K).T if N in HEADS else random(K, N)
    return (random(M, K), weight) if product == "forward" else (random(M, N), weight.T)


class Side:
    """What is common to the three: sets of the operands of the product that is measured, and of its result."""

    sets: list[Any]
    turn: Iterator[Any]

    def prepare(self, shape: tuple[int, int, int], product: str) -> int:
        """How many sets there are."""
        self.sets, self.turn = [], iter(())  # the memory of the last ones is free
        a, b = operands(shape, product)
        first = a, b, np.ones((a.shape[0], b.shape[1]), np.float32)
        self.sets = [tuple(self.own(np.copy(array)) for array in first) for _ in range(number_of_sets(first))]
        self.turn = itertools.cycle(self.sets)
        return len(self.sets)

    def own(self, array: NDArray[np.float32]) -> Any:
        return array

    def save(self, path: str) -> None:
        self.multiply(*self.sets[0])
        np.save(path, self.sets[0][2])

    def measure(self, seconds: float) -> dict[str, float]:
        return {
            "cold": seconds_per_call(lambda: self.multiply(*next(self.turn)), seconds),
            "warm": seconds_per_call(lambda: self.multiply(*self.sets[0]), seconds),
        }

    def multiply(self, a: Any, b: Any, out: Any) -> None:
        raise NotImplementedError


class NpgptSide(Side, Npgpt):
    def multiply(self, a: Any, b: Any, out: Any) -> None:
        from npgpt.kernels.matmul import matmul

        matmul(a, b, out)


class NumpySide(Side, Numpy):
    def multiply(self, a: Any, b: Any, out: Any) -> None:
        np.matmul(a, b, out=out)


class TorchSide(Side, Torch):
    def __init__(self, threads: int) -> None:
        import torch

        super().__init__(threads)
        self.own, self.mm = torch.from_numpy, torch.mm

    def multiply(self, a: Any, b: Any, out: Any) -> None:
        self.mm(a, b, out=out)


def check(contestants: list[Contestant], shape: tuple[int, int, int], product: str) -> None:
    a, b = operands(shape, product)
    right = a.astype(np.float64) @ b.astype(np.float64)
    largest = np.abs(right).max()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "result.npy")
        for contestant in contestants:
            contestant.ask("save", path=str(path))
            error = np.abs(np.load(path) - right).max() / largest
            if not error <= ALLOWED:
                raise SystemExit(f"{contestant.label} {shape} {product}: off by {error:.1e}; a benchmark needs equals")


def bench(contestants: list[Contestant], threads: int, rounds: int, quick: bool, report: Report) -> None:
    ours, *peers = contestants
    labels = [peer.label for peer in peers]
    print(
        f"\n{threads} thread{'s' * (threads > 1)}; GF/s of npgpt, their share of the peak, time of each peer / npgpt's"
    )
    beside = "".join(f"{'of peak':>8}  {''.join(f'{label:<18}' for label in labels)}")
    print(f"{'rows, in, out':<16}{'product':<7}" + "".join(f"{state:>5}{beside}" for state in STATES).rstrip())
    rows, peak = [], 0.0
    for shape in [SHAPES[i] for i in QUICK] if quick else SHAPES:
        for product in PRODUCTS:
            sets = max(contestant.ask("prepare", shape=shape, product=product) for contestant in contestants)
            check(contestants, shape, product)
            times = take_turns(contestants, rounds, "measure", seconds=0.02 if quick else 0.05)
            peak = max([peak, *take_turns([ours], 2, "peak")[ours.label]])  # the highest so far: it is a limit
            row: dict[str, Any] = {"threads": threads, "shape": shape, "product": product, "sets": sets, "peak": peak}
            line = f"{', '.join(map(str, shape)):<16}{product:<7}"
            for state in STATES:
                seconds = {label: [each[state] for each in times[label]] for label in times}
                speeds = {label: 2e-9 * math.prod(shape) / median(seconds[label]) for label in times}
                ratios = {label: compare(seconds[ours.label], seconds[label]) for label in labels}
                share = speeds[ours.label] / peak
                row[state] = {"seconds": seconds, "gflops": speeds, "against": ratios, "share_of_peak": share}
                line += f"{speeds[ours.label]:5.0f}{share:8.0%} " + "".join(f"{shown(ratios[x]):<18}" for x in labels)
            rows.append(row)
            print(line.rstrip(), flush=True)
    report.rows += rows
    print(f"peak {peak:.1f} GF/s")
    for state in STATES:
        speed = geometric_mean(row[state]["gflops"][ours.label] for row in rows)
        print(f"{state}, npgpt reaches {speed / peak:.0%} of the peak (geometric mean)")
        report.rows.append(summary := {"threads": threads, "state": state, "share_of_peak": speed / peak})
        for label in labels:
            ratios = [row[state]["against"][label]["ratio"] for row in rows]
            worst = rows[int(np.argmin(ratios))]
            summary[label] = {"geometric_mean": geometric_mean(ratios), "worst": min(ratios)}
            where = f"{worst['product']} of {', '.join(map(str, worst['shape']))}"
            mean = f"geometric mean {geometric_mean(ratios):.3f}"
            print(f"{state}, {label} / npgpt: {mean}, worst {min(ratios):.3f} ({where})", flush=True)


def main() -> None:
    options = parse("How fast is the matrix product, beside OpenBLAS's and MKL's?", rounds=5)
    report = Report()
    if not HAS_TORCH:
        print("# PyTorch is not installed: NumPy is the only peer")
    for threads in options.threads:
        alone: Variables = {"OPENBLAS_NUM_THREADS": "1"}  # NumPy is not asked to multiply there
        contestants = [
            Contestant("npgpt", "bench_matmul:NpgptSide", threads, alone),
            Contestant("NumPy", "bench_matmul:NumpySide", threads, OWN_CHOICE),
        ]
        if HAS_TORCH:
            contestants.append(Contestant("PyTorch", "bench_matmul:TorchSide", threads, alone))
        report.introduce(contestants)
        bench(contestants, threads, options.rounds, options.quick, report)
        for contestant in contestants:
            contestant.close()
    report.write(options.json)


if __name__ == "__main__":
    main()
