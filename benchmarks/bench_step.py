"""How long does a training step take, beside PyTorch's, and how near is it to what the CPU could do at most?

    python benchmarks/bench_step.py [--shapes A C D B] [--threads 1 2] [--modes MODE ...] [--rounds N] [--quick]
                                    [--where] [--json [FILE]]

A step is forward, loss, backward, clipping and AdamW, from the same weights (GPT-2's initialisation) and on the same
batches, whose ids are as unequally frequent as words are. PyTorch takes part in four modes, eager and compiled, each
with the allocator as it is and tuned, and always with scaled_dot_product_attention and the fused AdamW; the fastest is
the peer. First losses are compared; then all take turns, each in a process of its own. D and B take several minutes
each, and B 15 GB of memory for all modes together. Two more are shown and are not the peer: JAX (jit, donated buffers)
for A and C, and PyTorch compiled with bfloat16 autocast on a CPU with instructions for it (AMX or AVX-512 BF16).

JAX has no setting for its threads. XLA makes as many as the variable NPROC says; the cores that it kept busy are
counted, and more than that many end the benchmark. ``--where`` shows instead where the time goes (where.py).

The ratio is that of the medians, the peer's time over ours (more than 1: we are ahead), in brackets the quartiles of
single rounds. Memory is the peak while steps are taken, after the first few. The share of the peak counts the
multiplications and additions that forward and backward need.
"""

import math
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from peers import (
    HAS_JAX,
    HAS_TORCH,
    Contestant,
    Npgpt,
    Report,
    Torch,
    Variables,
    compare,
    cpu_flags,
    fastest,
    parse,
    peak_memory,
    reset_peak_memory,
    shown,
    take_turns,
    tuned_allocator,
)


class Shape(NamedTuple):
    """What a model and its batch are made of: layers, heads, width, time, batch, vocabulary."""

    L: int
    H: int
    C: int
    T: int
    B: int
    V: int


SHAPES = {
    "A": Shape(4, 4, 128, 64, 12, 65),  # nanoGPT's recipe for a CPU
    "C": Shape(6, 6, 384, 256, 8, 65),
    "D": Shape(6, 6, 384, 128, 8, 8192),
    "B": Shape(12, 12, 768, 64, 4, 50257),  # GPT-2, the smallest
}
MODES = {  # compiled? a tuned allocator?
    "eager": (False, False),
    "eager, tuned": (False, True),
    "compiled": (True, False),
    "compiled, tuned": (True, True),
}
OF_JAX = ("A", "C")
MULTIPLIES_BFLOAT16 = bool({"amx_tile", "avx512_bf16"} & cpu_flags())
BATCHES = 64
WARM_UP = 4  # steps, whose losses are compared
LEARNING_RATE = 3e-4
TURN = 0.4  # seconds of steps in a turn, about


def flops(shape: Shape) -> float:
    """Of forward and backward: each product of a linear layer, of the head and of attention, the visible half alone."""
    L, _, C, T, B, V = shape
    of_token = L * 2 * 12 * C * C + 2 * C * V
    of_attention = L * 2 * 2 * C * T * (T + 1) / 2  # q·k and w·v, with the keys that are not in the future
    return 3 * B * (T * of_token + of_attention)


def batches(shape: Shape) -> NDArray[np.int64]:
    """(BATCHES, B, T + 1) ids: the k-th is as frequent as 1/(k + 3)."""
    rng = np.random.default_rng(0)
    weights = 1 / (np.arange(shape.V) + 3)
    return rng.choice(shape.V, (BATCHES, shape.B, shape.T + 1), p=weights / weights.sum())


class Steps:
    """What both sides share: batches in turn, and the clock."""

    def __init__(self, shape: Shape) -> None:
        self.batches, self.number = batches(shape), 0

    def warm_up(self) -> dict[str, Any]:
        """The first losses, and the seconds of a step then."""
        losses, seconds = [], []
        for _ in range(WARM_UP):
            start = time.perf_counter()
            losses.append(self.step())
            seconds.append(time.perf_counter() - start)
        self.whole_peak = peak_memory()
        reset_peak_memory()
        return {"losses": losses, "seconds": min(seconds[1:])}

    def measure(self, steps: int) -> float:
        times = []
        for _ in range(steps + (steps > 2)):  # a first one, not counted, where there are many
            start = time.perf_counter()
            self.step()
            times.append(time.perf_counter() - start)
        return median(times[-steps:])

    def memory(self) -> dict[str, float]:
        """MB at most, in the steps and since the process started."""
        peak = peak_memory()
        return {"steps": peak, "whole": max(peak, self.whole_peak)}

    def next_batch(self) -> NDArray[np.int64]:
        self.number += 1
        return self.batches[self.number % BATCHES]

    def step(self) -> float:
        raise NotImplementedError


class NpgptStep(Npgpt, Steps):
    def __init__(self, threads: int, shape: list[int], weights: str = "") -> None:
        from npgpt.build import make_gpt, make_optimizer
        from npgpt.config import GPTConfig
        from npgpt.core import Cache

        Npgpt.__init__(self, threads)
        Steps.__init__(self, of := Shape(*shape))
        self.model = make_gpt(GPTConfig(of.V, of.T, of.L, of.H, of.C))
        self.optimizer = make_optimizer(self.model, 0.9, 0.95, 1e-8, 0.1)
        self.cache = Cache(training=True)
        if weights and not Path(weights).exists():
            np.savez(weights, **{path: param.value for path, param in self.model.parameters().items()})

    def step(self) -> float:
        from npgpt.optim import clip_scale
        from npgpt.train import accumulate

        ids = self.next_batch()
        loss = accumulate(self.model, ids[:, :-1], ids[:, 1:], self.cache, step=self.number)
        self.optimizer.step(LEARNING_RATE, clip_scale(self.optimizer.grad_norm(), 1.0))
        return loss


class TorchStep(Torch, Steps):
    def __init__(self, threads: int, shape: list[int], weights: str, compiled: bool, bfloat16: bool = False) -> None:
        import torch
        from torch_gpt import GPT, make_optimizer

        Torch.__init__(self, threads)
        Steps.__init__(self, of := Shape(*shape))
        model = GPT(of.V, of.T, of.L, of.H, of.C)
        with np.load(weights) as arrays:
            model.load(arrays)
        self.params = list(model.parameters())
        self.optimizer = make_optimizer(self.params, LEARNING_RATE)
        self.loss = torch.compile(model) if compiled else model
        self.as_tensor, self.clip = torch.from_numpy, torch.nn.utils.clip_grad_norm_
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)

    def step(self) -> float:
        ids = self.as_tensor(self.next_batch())
        self.optimizer.zero_grad()
        with self.autocast:
            loss = self.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        self.clip(self.params, 1.0)
        self.optimizer.step()
        return loss.item()


class JaxStep(Steps):
    def __init__(self, threads: int, shape: list[int], weights: str) -> None:
        import jax
        from jax_gpt import make_step

        super().__init__(of := Shape(*shape))
        self.threads = threads
        with np.load(weights) as arrays:
            params = {path: jax.numpy.array(array) for path, array in arrays.items()}
        self.state = (params, *(jax.tree.map(jax.numpy.zeros_like, params) for _ in range(2)))
        self.jitted = make_step(of.L, of.H, LEARNING_RATE)

    def about(self) -> dict[str, Any]:
        import jax

        start, computed = time.perf_counter(), time.process_time()
        self.measure(3)
        cores = (time.process_time() - computed) / (time.perf_counter() - start)
        if cores > self.threads + 0.1:
            raise RuntimeError(f"JAX kept {cores:.2f} cores busy, but {self.threads} were allowed; NPROC has no effect")
        return {"version": jax.__version__, "devices": str(jax.devices()), "cores busy": f"{cores:.2f}"}

    def step(self) -> float:
        ids = self.next_batch()
        *state, loss = self.jitted(*self.state, np.float32(self.number), ids)
        self.state = tuple(state)
        return float(loss)


def require_equal(mode: str, ours: list[float], theirs: list[float], allowed: float = 1e-4) -> None:
    """The losses of the first steps: rounding alone may tell them apart, more from step to step."""
    if abs(ours[0] / theirs[0] - 1) > allowed or abs(ours[-1] / theirs[-1] - 1) > 1e-2:
        raise SystemExit(f"{mode}: losses {theirs}, ours {ours}; a benchmark of different things says nothing")


def start_peers(modes: list[str], shape: Shape, threads: int, weights: str, losses: list[float]) -> list[Contestant]:
    """PyTorch in each mode, warm, and seen to compute what we do."""
    peers = []
    for mode in modes:
        compiled, tuned = MODES[mode]
        settings: dict[str, Any] = {"shape": shape, "weights": weights, "compiled": compiled}
        environment = tuned_allocator()[1] if tuned else {}
        peers.append(Contestant(mode, "bench_step:TorchStep", threads, environment, **settings))
        require_equal(mode, losses, peers[-1].ask("warm_up")["losses"])
    return peers


def start_others(name: str, threads: int, weights: str, losses: list[float]) -> list[Contestant]:
    """Those that are shown beside the peer."""
    others, settings = [], {"shape": SHAPES[name], "weights": weights}
    if HAS_JAX and name in OF_JAX:
        environment: Variables = {"NPROC": str(threads), "JAX_PLATFORMS": "cpu"}
        others.append(Contestant("JAX", "bench_step:JaxStep", threads, environment, **settings))
        require_equal("JAX", losses, others[-1].ask("warm_up")["losses"])
    if HAS_TORCH and MULTIPLIES_BFLOAT16:
        settings |= {"compiled": True, "bfloat16": True}
        others.append(Contestant("bfloat16", "bench_step:TorchStep", threads, tuned_allocator()[1], **settings))
        require_equal("bfloat16", losses, others[-1].ask("warm_up")["losses"], 1e-2)
    return others


def bench(name: str, threads: int, options: Any, report: Report) -> dict[str, Any]:
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, "weights.npz"))
        ours = Contestant("npgpt", "bench_step:NpgptStep", threads, shape=shape, weights=weights)
        first = ours.ask("warm_up")
        modes = options.modes if HAS_TORCH else []
        peers = start_peers(modes, shape, threads, weights, first["losses"])
        others = start_others(name, threads, weights, first["losses"])
    contestants = [ours, *peers, *others]
    report.introduce(contestants)
    steps = 2 if options.quick else math.ceil(TURN / first["seconds"])
    times = take_turns(contestants, options.rounds, "measure", steps=steps)
    memory = {contestant.label: contestant.ask("memory") for contestant in contestants}
    peak = max(take_turns([ours], 3, "peak")["npgpt"])  # compiles, which takes memory
    for contestant in contestants:
        contestant.close()
    seconds = median(times["npgpt"])
    row = {"shape": name, "threads": threads, "seconds": times, "flops": flops(shape), "peak": peak, "memory": memory}
    row |= {"share_of_peak": flops(shape) / seconds / 1e9 / peak, "losses": first["losses"]}
    line = f"{name:<6}{threads:<8}{seconds * 1e3:9.2f} {row['share_of_peak']:8.0%} {memory['npgpt']['steps']:9.0f}"
    if modes:
        best = fastest(times, modes)
        row |= compare(times["npgpt"], times[best]) | {"best_mode": best}
        row["memory_ratio"] = memory[best]["steps"] / memory["npgpt"]["steps"]
        beside = f"{median(times[best]) * 1e3:9.2f}  {shown(row)}  {memory[best]['steps']:7.0f}"
        line += f"   {best:<17}{beside} {row['memory_ratio']:6.2f}   "
        line += ", ".join(f"{mode} {median(times[mode]) * 1e3:.2f}" for mode in modes)
    row["others"] = {other.label: compare(times["npgpt"], times[other.label]) for other in others}
    for label, ratio in row["others"].items():
        line += f"\n{'':<14}{label}: {median(times[label]) * 1e3:.2f} ms, ratio {shown(ratio).lstrip()}, "
        line += f"{memory[label]['steps']:.0f} MB"
    if len(report.rows) == 1:
        print(heading())
    print(line, flush=True)
    return row


def show_where(name: str, threads: int, quick: bool, report: Report) -> None:
    import where  # which is built on this module

    with Contestant("npgpt", "where:WhereStep", threads, shape=SHAPES[name]) as ours:
        steps = 3 if quick else max(5, math.ceil(2 / ours.ask("warm_up")["seconds"]))
        found = ours.ask("where", steps=steps, seconds=0.02 if quick else 0.1)
    report.rows.append({"shape": name, "threads": threads, **found})
    where.show(f"{name}, {threads} thread{'s' * (threads > 1)}", found)


def fill_kernel_cache() -> None:
    """In a process of its own: one that has compiled has a compiler in its memory."""
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, "weights.npz"))
        with Contestant("npgpt", "bench_step:NpgptStep", 1, shape=SHAPES["A"], weights=weights) as first:
            first.ask("warm_up")


def heading() -> str:
    beside = f"   {'best PyTorch':<20}{'ms':>6}   ratio             MB over ours   ms of each mode" if HAS_TORCH else ""
    return f"{'shape':<6}{'threads':<8}{'npgpt ms':>9} {'of peak':>8} {'MB':>9}{beside}"


def main() -> None:
    options = parse(
        "How long does a training step take, beside PyTorch's?",
        7,
        ("--shapes", {"nargs": "+", "choices": SHAPES, "help": "(A C; with --quick A)"}),
        ("--where", {"action": "store_true", "help": "npgpt alone: where a step's time goes, by kernel and product"}),
        ("--modes", {"nargs": "+", "choices": MODES, "help": "of PyTorch (all; with --quick the eager ones)"}),
    )
    options.shapes = options.shapes or (["A"] if options.quick else ["A", "C"])
    options.modes = options.modes or list(MODES)[: 2 if options.quick else 4]
    report = Report()
    report.environment["tuned allocator"] = tuned_allocator()[0]
    print(f"# tuned allocator: {tuned_allocator()[0]}" if HAS_TORCH else "# PyTorch is not installed: no peer")
    if HAS_TORCH and not MULTIPLIES_BFLOAT16:
        print("# PyTorch's bfloat16 autocast is left out: without AMX or AVX-512 BF16 it is slower than float32")
    for name in options.shapes:
        print(f"# shape {name}: {', '.join(f'{key} {value}' for key, value in SHAPES[name]._asdict().items())}")
    report.rows.append({"flops": {name: flops(shape) for name, shape in SHAPES.items()}})
    fill_kernel_cache()
    if options.where:
        report.environment["benchmark"] += "-where"
    for name in options.shapes:
        for threads in options.threads:
            if options.where:
                show_where(name, threads, options.quick, report)
            else:
                report.rows.append(bench(name, threads, options, report))
    report.write(options.json)


if __name__ == "__main__":
    main()
