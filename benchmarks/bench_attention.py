"""How fast is causal attention, forward and backward, beside PyTorch's scaled_dot_product_attention?

    python benchmarks/bench_attention.py [--threads 1 2] [--rounds N] [--quick] [--json FILE]

Attention proper, without the projections around it: from (B, T, 3·C), in which the queries, keys and values of all
heads lie side by side, to (B, T, C) and back. Both sides begin and end with these arrays, so that cutting them into
heads and putting heads together is counted for both. PyTorch takes part twice, once with an allocator that is tuned to
keep its memory, and the faster is the peer. Results are compared first, then all take turns, each in a process of its
own.

Ratios are those of medians, PyTorch's time over ours (more than 1: we are ahead), with the quartiles of single rounds.
The share of the peak counts the products with keys that are not in the future: 2 forward, 5 backward.
"""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import (
    HAS_TORCH,
    Contestant,
    Npgpt,
    Report,
    Torch,
    compare,
    fastest,
    parse,
    seconds_per_call,
    shown,
    take_turns,
    tuned_allocator,
)

HEADS, SIZE, TOKENS = 6, 64, 2048  # heads, channels of each, tokens of a batch
TIMES = (64, 128, 256, 1024)
PASSES = ("forward", "backward", "both")
ALLOWED = 1e-5  # difference, over the largest number


def arrays(T: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """qkv (B, T, 3·C) and dmixed (B, T, C)."""
    rng = np.random.default_rng(T)
    C, B = HEADS * SIZE, TOKENS // T
    return rng.standard_normal((B, T, 3 * C), np.float32), rng.standard_normal((B, T, C), np.float32)


def flops(T: int) -> dict[str, float]:
    product = TOKENS // T * HEADS * 2 * SIZE * T * (T + 1) / 2
    return {"forward": 2 * product, "backward": 5 * product, "both": 7 * product}


class Side:
    """What both sides share."""

    def measure(self, which: str, seconds: float) -> float:
        return seconds_per_call(getattr(self, which), seconds)

    def both(self) -> None:
        raise NotImplementedError

    def save(self, path: str) -> None:
        self.both()
        np.savez(path, **self.results())

    def results(self) -> dict[str, Any]:
        raise NotImplementedError


class NpgptSide(Side, Npgpt):
    def prepare(self, T: int) -> None:
        from npgpt.kernels.attention import forward_size
        from npgpt.kernels.attention_backward import backward_size
        from npgpt.machine.pool import get_num_threads

        qkv, dmixed = arrays(T)
        B, _, C = dmixed.shape
        self.T, self.qkv, self.dmixed = T, qkv.reshape(-1, 3 * C), dmixed.reshape(-1, C)
        self.mixed, self.dqkv = np.empty_like(self.dmixed), np.empty_like(self.qkv)
        self.largest, self.totals = np.empty((2, B * HEADS * T), np.float32)
        self.dropping = np.zeros(B, np.int64), 0, 1.0  # nothing is dropped
        sizes = forward_size(T, SIZE), backward_size(T, SIZE)
        self.works = [aligned(get_num_threads() * size).reshape(-1, size) for size in sizes]

    def forward(self) -> None:
        from npgpt.kernels import attention
        from npgpt.machine.pool import pool

        attention.forward(
            pool(), self.qkv, HEADS, self.T, self.mixed, self.largest, self.totals, *self.dropping, self.works[0]
        )

    def backward(self) -> None:
        from npgpt.kernels import attention_backward
        from npgpt.machine.pool import pool

        attention_backward.backward(
            pool(),
            self.dmixed,
            self.qkv,
            self.largest,
            self.totals,
            HEADS,
            self.T,
            self.dqkv,
            *self.dropping,
            self.works[1],
        )

    def both(self) -> None:
        self.forward()
        self.backward()

    def results(self) -> dict[str, Any]:
        return {"mixed": self.mixed, "dqkv": self.dqkv}


def aligned(n: int) -> NDArray[np.float32]:
    """n numbers from the start of a cache line on."""
    memory = np.empty(n + 16, np.float32)
    first = -memory.ctypes.data // 4 % 16
    return memory[first : first + n]


class TorchSide(Side, Torch):
    def prepare(self, T: int) -> None:
        import torch

        qkv, dmixed = arrays(T)
        self.qkv, self.dmixed = torch.from_numpy(qkv).requires_grad_(), torch.from_numpy(dmixed)
        self.mixed = self.forward()

    def forward(self) -> Any:
        from torch_gpt import attend

        return attend(self.qkv, HEADS)

    def backward(self) -> None:
        self.qkv.grad = None
        self.mixed.backward(self.dmixed, retain_graph=True)

    def both(self) -> None:
        self.qkv.grad = None
        self.forward().backward(self.dmixed)

    def results(self) -> dict[str, Any]:
        return {"mixed": self.mixed.detach().numpy(), "dqkv": self.qkv.grad.numpy()}


def reference(T: int) -> dict[str, NDArray[np.float64]]:
    """By the textbook's layers, in float64."""
    from npgpt.core import Cache
    from npgpt.layers import Mixing, Scores, Softmax

    qkv, dmixed = (array.astype(np.float64) for array in arrays(T))
    B, _, C = dmixed.shape
    q, k, v = qkv.reshape(B, T, 3, HEADS, SIZE).transpose(2, 0, 3, 1, 4)
    scores, softmax, mixing, cache = Scores(), Softmax(), Mixing(), Cache()
    weights = softmax.forward(scores.forward(q, k, cache.scope("scores")), cache.scope("softmax"))
    mixed = mixing.forward(weights, v, cache.scope("mixing"))
    dweights, dv = mixing.backward(dmixed.reshape(B, T, HEADS, SIZE).transpose(0, 2, 1, 3), cache.scope("mixing"))
    dq, dk = scores.backward(softmax.backward(dweights, cache.scope("softmax")), cache.scope("scores"))
    dqkv = np.stack([dq, dk, dv]).transpose(1, 3, 0, 2, 4)  # (B, T, 3, H, D)
    return {"mixed": mixed.transpose(0, 2, 1, 3).reshape(B, T, C), "dqkv": dqkv.reshape(B, T, 3 * C)}


def check(contestants: list[Contestant], T: int) -> None:
    right = reference(T)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.npz")
        for contestant in contestants:
            contestant.ask("save", path=str(path))
            with np.load(path) as found:
                for name, array in right.items():
                    error = np.abs(found[name].reshape(array.shape) - array).max() / np.abs(array).max()
                    if not error <= ALLOWED:
                        raise SystemExit(f"{contestant.label}, T {T}: {name} is off by {error:.1e}")


def bench(contestants: list[Contestant], threads: int, rounds: int, quick: bool, report: Report) -> None:
    ours, *peers = contestants
    print(f"\n{threads} thread{'s' * (threads > 1)}; {TOKENS} tokens, {HEADS} heads of {SIZE} channels")
    print(f"{'T':<6}{'pass':<10}{'npgpt ms':>9} {'of peak':>8}{'PyTorch ms   ratio' if peers else '':>20}")
    peak = 0.0
    for T in (64, 256) if quick else TIMES:
        for contestant in contestants:
            contestant.ask("prepare", T=T)
        check(contestants, T)
        peak = max([peak, *take_turns([ours], 2, "peak")["npgpt"]])
        for which in PASSES:
            times = take_turns(contestants, rounds, "measure", which=which, seconds=0.03 if quick else 0.15)
            seconds = median(times["npgpt"])
            share = flops(T)[which] / seconds / 1e9 / peak
            row: dict[str, Any] = {"threads": threads, "T": T, "pass": which, "seconds": times, "peak": peak}
            row["share_of_peak"] = share
            line = f"{T:<6}{which:<10}{seconds * 1e3:9.2f} {share:8.0%}"
            if peers:
                best = fastest(times, [peer.label for peer in peers])
                row |= compare(times["npgpt"], times[best]) | {"best": best}
                line += f"{median(times[best]) * 1e3:12.2f}   {shown(row)}  {best}"
            report.rows.append(row)
            print(line, flush=True)


def main() -> None:
    options = parse("How fast is causal attention, beside PyTorch's?", rounds=9)
    report = Report()
    print(f"# tuned allocator: {tuned_allocator()[0]}" if HAS_TORCH else "# PyTorch is not installed: no peer")
    for threads in options.threads:
        contestants = [Contestant("npgpt", "bench_attention:NpgptSide", threads)]
        if HAS_TORCH:
            contestants.append(Contestant("PyTorch", "bench_attention:TorchSide", threads))
            tuned = tuned_allocator()[1]
            contestants.append(Contestant("PyTorch, tuned", "bench_attention:TorchSide", threads, tuned))
        report.introduce(contestants)
        bench(contestants, threads, options.rounds, options.quick, report)
        for contestant in contestants:
            contestant.close()
    report.write(options.json)


if __name__ == "__main__":
    main()
