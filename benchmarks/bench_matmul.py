"""How fast is the matrix product, beside NumPy's OpenBLAS and PyTorch's MKL, and beside what the CPU could do?

    python benchmarks/bench_matmul.py [--threads 1 2] [--rounds N] [--quick] [--json FILE]

The products of training, forward, dx and dW, of eleven linear layers: the same operands, transposed where the layers
transpose them, with memory for the result that is there already. Results are compared with NumPy's in float64 first.
Then all take turns, each in a process of its own. The ratio is that of the medians, the peer's time over ours (more
than 1: we are ahead), in brackets the quartiles of the ratios of single rounds.
"""

import tempfile
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
    """What is common to the three: operands of the product that is measured, and the result."""

    a: Any
    b: Any
    out: Any

    def prepare(self, shape: tuple[int, int, int], product: str) -> None:
        self.a = self.b = self.out = None
        self.a, self.b = operands(shape, product)
        self.out = np.empty((self.a.shape[0], self.b.shape[1]), np.float32)

    def save(self, path: str) -> None:
        self.multiply()
        np.save(path, self.out)

    def measure(self, seconds: float) -> float:
        return seconds_per_call(self.multiply, seconds)

    def multiply(self) -> None:
        raise NotImplementedError


class NpgptSide(Side, Npgpt):
    def multiply(self) -> None:
        from npgpt.kernels.matmul import matmul

        matmul(self.a, self.b, self.out)


class NumpySide(Side, Numpy):
    def multiply(self) -> None:
        np.matmul(self.a, self.b, out=self.out)


class TorchSide(Side, Torch):
    def prepare(self, shape: tuple[int, int, int], product: str) -> None:
        import torch

        super().prepare(shape, product)
        self.a, self.b, self.out = (torch.from_numpy(array) for array in (self.a, self.b, self.out))
        self.mm = torch.mm

    def multiply(self) -> None:
        self.mm(self.a, self.b, out=self.out)


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
    shapes = [SHAPES[i] for i in QUICK] if quick else SHAPES
    print(f"\n{threads} thread{'s' * (threads > 1)}")
    heads = "".join(f"{'GF/s':>9} {peer.label + ' / npgpt':<18}" for peer in peers)
    print(f"{'rows, in, out':<18}{'product':<9}{'npgpt GF/s':>10} {'of peak':>8}{heads}")
    rows, peak = [], 0.0
    for shape in shapes:
        for product in PRODUCTS:
            for contestant in contestants:
                contestant.ask("prepare", shape=shape, product=product)
            check(contestants, shape, product)
            times = take_turns(contestants, rounds, "measure", seconds=0.02 if quick else 0.05)
            peak = max([peak, *take_turns([ours], 2, "peak")[ours.label]])  # the highest so far: it is a limit
            work = 2e-9 * shape[0] * shape[1] * shape[2]
            speeds = {label: work / median(seconds) for label, seconds in times.items()}
            ratios = {peer.label: compare(times[ours.label], times[peer.label]) for peer in peers}
            row = {"threads": threads, "shape": shape, "product": product, "peak": peak, "gflops": speeds}
            rows.append(row | {"seconds": times, "against": ratios, "share_of_peak": speeds[ours.label] / peak})
            beside = "".join(f"{speeds[label]:9.1f} {shown(ratio):<18}" for label, ratio in ratios.items())
            name = ", ".join(map(str, shape))
            share = speeds[ours.label] / peak
            print(f"{name:<18}{product:<9}{speeds[ours.label]:10.1f} {share:8.0%}{beside}", flush=True)
    report.rows += rows
    share = geometric_mean(row["gflops"][ours.label] for row in rows) / peak
    summary = {"threads": threads, "peak": peak, "share_of_peak": share}
    print(f"peak {peak:.1f} GF/s, of which npgpt reaches {share:.0%} (geometric mean)")
    for peer in peers:
        ratios = [row["against"][peer.label]["ratio"] for row in rows]
        worst = rows[int(np.argmin(ratios))]
        mean = geometric_mean(ratios)
        summary[peer.label] = {"geometric_mean": mean, "worst": min(ratios)}
        where = f"{worst['product']} of {', '.join(map(str, worst['shape']))}"
        print(f"{peer.label} / npgpt: geometric mean {mean:.3f}, worst {min(ratios):.3f} ({where})", flush=True)
    report.rows.append(summary)


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
