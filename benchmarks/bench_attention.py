"""How fast is causal attention, forward and backward, beside PyTorch's scaled_dot_product_attention?

    python benchmarks/bench_attention.py [--offsets | --packed] [--threads 1 2] [--rounds N] [--quick] [--json FILE]

Attention proper, without the projections around it: from (B, T, 3·C), in which the queries, keys and values of all
heads lie side by side, to (B, T, C) and back. Both sides begin and end with these arrays, so that cutting them into
heads and putting heads together is counted for both. PyTorch takes part twice, once with an allocator that is tuned to
keep its memory, and the faster is the peer. Results are compared first, then all take turns, each in a process of its
own.

Ratios are those of medians, PyTorch's time over ours (more than 1: we are ahead), with the quartiles of single rounds.
The share of the peak counts the products with keys that are not in the future: 2 forward, 5 backward.

With ``--offsets`` PyTorch is left out, and T = 64 is measured with arrays that begin so many bytes after a page begins:
on a cache line, within one, and half a page further. Each row has processes of its own, because the system decides
anew which memory they get. Heads that lie side by side share a cache line if the arrays begin within one.

With ``--packed`` PyTorch is left out, and a training step of npgpt is measured: documents of unequal lengths in rows of
their own, padded to the longest, against the same documents packed into rows. Tokens are those of documents.
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
OFFSETS = (0, 4, 32, 60, 64, 2048, 2080)  # bytes
PAGE = 4096
DOCUMENTS, CONTEXT = 32, 256  # in a step; the tokens of a packed row
LENGTHS = {"8 to 40": (8, 40), "8 to 256": (8, 256), "all of 64": (64, 64)}  # tokens of a document, at random


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
    def prepare(self, T: int, offset: int = 0) -> None:
        from npgpt.kernels.attention import NO_BIAS, NO_STARTS, forward_size
        from npgpt.kernels.attention_backward import backward_size
        from npgpt.machine.pool import get_num_threads

        qkv, dmixed = arrays(T)
        B, _, C = dmixed.shape
        self.T, rows = T, B * T
        self.qkv, self.dqkv = (placed((rows, 3 * C), offset) for _ in range(2))
        self.dmixed, self.mixed = (placed((rows, C), offset) for _ in range(2))
        self.qkv[...], self.dmixed[...] = qkv.reshape(rows, -1), dmixed.reshape(rows, -1)
        self.largest, self.totals = np.empty((2, B * HEADS * T), np.float32)
        self.options = np.zeros(B, np.int64), 0, 1.0, NO_BIAS  # nothing is dropped
        self.starts = NO_STARTS
        sizes = forward_size(T, SIZE), backward_size(T, SIZE)
        self.works = [placed((get_num_threads(), size), 0) for size in sizes]

    def forward(self) -> None:
        from npgpt.kernels import attention
        from npgpt.machine.pool import pool

        attention.forward(
            pool(),
            *[self.qkv] * 3,
            HEADS,
            self.T,
            self.T,
            self.mixed,
            self.largest,
            self.totals,
            *self.options,
            self.starts,
            self.works[0],
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
            *self.options,
            self.options[-1],
            self.starts,
            self.works[1],
        )

    def both(self) -> None:
        self.forward()
        self.backward()

    def results(self) -> dict[str, Any]:
        return {"mixed": self.mixed, "dqkv": self.dqkv}


def placed(shape: tuple[int, int], offset: int) -> NDArray[np.float32]:
    """An array that begins ``offset`` bytes after a page begins."""
    n = shape[0] * shape[1]
    memory = np.empty(n + PAGE // 2, np.float32)
    first = (offset - memory.ctypes.data) % PAGE // 4
    return memory[first : first + n].reshape(shape)


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


def bench_offsets(rounds: int, quick: bool, report: Report) -> None:
    print(f"\nT = 64, {TOKENS} tokens, {HEADS} heads of {SIZE} channels; milliseconds with 1 and 2 threads")
    print(f"{'bytes':<7}" + "".join(f"{which:<38}" for which in PASSES[:2]))
    for offset in OFFSETS:
        contestants = [Contestant(str(n), "bench_attention:NpgptSide", n) for n in (1, 2)]
        for contestant in contestants:
            contestant.ask("prepare", T=64, offset=offset)
        check(contestants, 64)
        line = f"{offset:<7}"
        for which in PASSES[:2]:
            times = take_turns(contestants, rounds, "measure", which=which, seconds=0.03 if quick else 0.15)
            row = {"offset": offset, "pass": which, "seconds": times} | compare(times["2"], times["1"])
            report.rows.append(row)
            both = " ".join(f"{median(times[label]) * 1e3:6.2f}" for label in times)
            line += f"{both} {shown(row):<24}"
        print(line, flush=True)
        for contestant in contestants:
            contestant.close()


class PackedStep(Npgpt):
    """A training step of GPT C with padded or with packed rows."""

    def prepare(self, lengths: str, packed: bool) -> dict[str, float]:
        from npgpt.build import make_gpt, make_optimizer
        from npgpt.config import GPTConfig
        from npgpt.core import Cache
        from npgpt.data import pack_rows

        low, high = LENGTHS[lengths]
        rng = np.random.default_rng(0)
        texts = [rng.integers(0, 65, n + 1) for n in rng.integers(low, high + 1, DOCUMENTS)]
        self.documents: Any = None
        if packed:
            x, y, self.documents = pack_rows([text[:-1] for text in texts], [text[1:] for text in texts], CONTEXT)
        else:
            alone = [pack_rows([text[:-1]], [text[1:]], CONTEXT)[:2] for text in texts]
            x, y = np.full((2, DOCUMENTS, max(map(len, texts)) - 1), [[[0]], [[-100]]])
            for i, (ids, targets) in enumerate(alone):
                x[i, : ids.size], y[i, : ids.size] = ids[0], targets[0]
        self.x, self.y, self.cache = x, y, Cache(training=True)
        self.model = make_gpt(GPTConfig(65, CONTEXT, n_layer=6, n_head=HEADS, n_embd=HEADS * SIZE))
        self.optimizer = make_optimizer(self.model)
        return {"tokens": int((y >= 0).sum()), "cells": x.size, "loss": self.step()}

    def step(self) -> float:
        from npgpt.train import accumulate

        loss = accumulate(self.model, self.x, self.y, self.cache, documents=self.documents)
        self.optimizer.step(1e-4)
        return loss

    def measure(self, seconds: float) -> float:
        return seconds_per_call(self.step, seconds)


def bench_packed(threads: int, rounds: int, quick: bool, report: Report) -> None:
    print(f"\n{threads} thread{'s' * (threads > 1)}; a step of {DOCUMENTS} documents, rows of at most {CONTEXT} tokens")
    print(f"{'tokens of each':<16}{'in all':>8}{'padded':>8}{'packed':>8}{'padded ms':>11}{'packed ms':>11}   ratio")
    contestants = [Contestant(label, "bench_attention:PackedStep", threads) for label in ("padded", "packed")]
    report.introduce(contestants)
    for lengths in [*LENGTHS][:1] if quick else LENGTHS:
        made = [each.ask("prepare", lengths=lengths, packed=each.label == "packed") for each in contestants]
        if abs(made[0]["loss"] - made[1]["loss"]) > ALLOWED or made[0]["tokens"] != made[1]["tokens"]:
            raise SystemExit(f"the packed rows have another loss than the padded ones: {made}")
        times = take_turns(contestants, rounds, "measure", seconds=0.5 if quick else 2.0)
        row = {"threads": threads, "lengths": lengths, "made": made, "seconds": times}
        row |= compare(times["packed"], times["padded"])
        report.rows.append(row)
        cells = "".join(f"{each['cells']:8}" for each in made)
        ms = "".join(f"{median(times[each.label]) * 1e3:11.0f}" for each in contestants)
        print(f"{lengths:<16}{made[0]['tokens']:8}{cells}{ms}   {shown(row)}", flush=True)
    for contestant in contestants:
        contestant.close()


def main() -> None:
    options = parse(
        "How fast is causal attention, beside PyTorch's?",
        9,
        ("--offsets", {"action": "store_true", "help": "vary where arrays begin, with 1 and 2 threads"}),
        ("--packed", {"action": "store_true", "help": "a step of padded rows against packed ones"}),
    )
    report = Report()
    if options.packed:
        for threads in options.threads:
            bench_packed(threads, options.rounds, options.quick, report)
        report.write(options.json)
        return
    if options.offsets:
        bench_offsets(options.rounds, options.quick, report)
        report.write(options.json)
        return
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
