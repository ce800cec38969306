"""How long does a verdict on all gradients take, and is it right about other people's code?

    python benchmarks/bench_gradcheck.py [--rounds N] [--programs N] [--quick] [--json FILE]

Both judge a layer norm (2, 5, 12) and causal attention (2, 5, 12) with 3 heads, in float64: the inputs and all
parameters; npgpt judges the kept arrays, too, and takes two rounds of weights. PyTorch runs its slow mode, which
differentiates every cell, and its fast mode, which takes one random direction. They take turns; printed are medians in
milliseconds, with the lowest and the highest, and the time over npgpt's. The same is printed for ``methods="fast"`` on
three small layers, plain classes with inputs (3, 5). ``npgpt check`` is timed once.

The second table counts verdicts: on layers as other people write them (tests/study/check/strangers), right and wrong
ones, and on random programs (tests/study/check/programs), right by construction and with one mistake. It also counts
how often each method abstained, and why.

The third table counts names: on layers with a mistake whose true names are known, and on right ones that look
suspicious (tests/study/check/named). Three authors wrote them without a look at the diagnosis.
"""

import importlib
import re
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peers import HAS_TORCH, Report, parse

import npgpt
from npgpt import layers
from npgpt.study.check.diagnosis import is_explanation

B, T, C, H = 2, 5, 12, 3
TESTS = Path(__file__).parents[1] / "tests" / "study" / "check"


def torch_checks(fast: bool) -> dict[str, Callable[[], bool]]:
    import torch

    def x() -> "torch.Tensor":
        return torch.randn(B, T, C, dtype=torch.float64, requires_grad=True)

    gain, bias = (torch.randn(C, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weights = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((C, 3 * C), (3 * C,), (C, C), (C,))]

    def attention(x, wqkv, bqkv, wo, bo):  # type: ignore[no-untyped-def]
        q, k, v = (part.view(B, T, H, C // H).transpose(1, 2) for part in (x @ wqkv + bqkv).split(C, -1))
        hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
        weights = ((q @ k.transpose(-1, -2)) / (C // H) ** 0.5).masked_fill(hidden, -torch.inf).softmax(-1)
        return (weights @ v).transpose(1, 2).reshape(B, T, C) @ wo + bo

    def norm(x, gain, bias):  # type: ignore[no-untyped-def]
        return torch.nn.functional.layer_norm(x, (C,), gain, bias)

    return {
        "layer norm": lambda: torch.autograd.gradcheck(norm, (x(), gain, bias), fast_mode=fast),
        "attention": lambda: torch.autograd.gradcheck(attention, (x(), *weights), fast_mode=fast),
    }


def our_checks() -> dict[str, Callable[[], bool]]:
    x = np.random.default_rng(0).normal(size=(B, T, C))
    made = {"layer norm": layers.LayerNorm(C), "attention": layers.Attention(C, H)}
    for layer in made.values():
        layer.initialise(0)
    return {name: lambda layer=layer: npgpt.gradcheck(layer, x).passed for name, layer in made.items()}  # type: ignore[misc]


class Linear:
    def __init__(self, n: int, m: int) -> None:
        self.W, self.b = np.random.default_rng(0).normal(size=(n, m)), np.zeros(m)

    def forward(self, x):  # type: ignore[no-untyped-def]
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):  # type: ignore[no-untyped-def]
        self.dW, self.db = self.x.T @ dy, dy.sum(0)
        return dy @ self.W.T


class Norm:
    def __init__(self, n: int) -> None:
        self.gain, self.bias = np.ones(n), np.zeros(n)

    def forward(self, x):  # type: ignore[no-untyped-def]
        centred = x - x.mean(-1, keepdims=True)
        self.rstd = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        self.xhat = centred * self.rstd
        return self.xhat * self.gain + self.bias

    def backward(self, dy):  # type: ignore[no-untyped-def]
        self.dgain, self.dbias, d = (dy * self.xhat).sum(0), dy.sum(0), dy * self.gain
        return self.rstd * (d - d.mean(-1, keepdims=True) - self.xhat * (d * self.xhat).mean(-1, keepdims=True))


class ReLU:
    def forward(self, x):  # type: ignore[no-untyped-def]
        self.mask = x > 0
        return x * self.mask

    def backward(self, dy):  # type: ignore[no-untyped-def]
        return dy * self.mask


def our_fast_checks() -> dict[str, Callable[[], bool]]:
    x = np.random.default_rng(0).normal(size=(3, 5))
    made = {"linear": Linear(5, 4), "layer norm": Norm(5), "relu": ReLU()}
    return {n: lambda layer=layer: npgpt.gradcheck(layer, x, methods="fast").passed for n, layer in made.items()}  # type: ignore[misc]


def torch_fast_checks() -> dict[str, Callable[[], bool]]:
    import torch

    def some(*shape: int) -> "torch.Tensor":
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    def check(function, *inputs):  # type: ignore[no-untyped-def]
        return lambda: torch.autograd.gradcheck(function, inputs, fast_mode=True)

    def norm(x, gain, bias):  # type: ignore[no-untyped-def]
        return torch.nn.functional.layer_norm(x, (5,), gain, bias)

    return {
        "linear": check(lambda x, w, b: x @ w + b, some(3, 5), some(5, 4), some(4)),
        "layer norm": check(norm, some(3, 5), some(5), some(5)),
        "relu": check(torch.relu, some(3, 5)),
    }


def strangers() -> Iterable[tuple[str, Any]]:
    from strangers.given import RIGHT, WRONG

    for file in sorted(TESTS.joinpath("strangers").glob("*.py")):
        importlib.import_module(f"strangers.{file.stem}")
    for kind, makers in (("right layers", RIGHT), ("wrong layers", WRONG)):
        yield from ((kind, make()) for make in makers)


def programs(n: int) -> Iterable[tuple[str, Any]]:
    from programs.programs import make_program, mutate

    for seed in range(n):
        program = make_program(seed)
        for kind, made in (("right programs", program), ("mutants", mutate(program, seed))):
            if made is not None:
                yield kind, (made.forward, tuple(made.inputs.values()), {"backward": made.backward})


def judge(cases: Iterable[tuple[str, Any]], report: Report) -> None:
    """Print the verdicts on all cases, the abstentions, and the time of a verdict."""
    verdicts: dict[str, Counter[str]] = {}
    reasons: Counter[str] = Counter()
    times: dict[str, list[float]] = {}
    for kind, (layer, inputs, settings) in cases:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = npgpt.gradcheck(layer, *inputs, **settings)
        times.setdefault(kind, []).append(1e3 * (time.perf_counter() - start))
        verdicts.setdefault(kind, Counter())[found.verdict] += 1
        for method, why in {check.method: check.skipped for check in found if check.skipped}.items():
            reasons[f"{method}: {re.sub(r'[-+.0-9e]+ and [-+.0-9e]+$', '... and ...', why)}"] += 1
    for kind, counts in verdicts.items():
        report.rows.append({"kind": kind, "verdicts": dict(counts), "milliseconds": median(times[kind])})
        shown = ", ".join(f"{verdict} {counts[verdict]}" for verdict in ("right", "wrong", "undecided"))
        print(
            f"{kind:<16}{counts.total():>6}: {shown}; {median(times[kind]):.1f} ms, longest {max(times[kind]):.0f} ms"
        )
    for why, n in reasons.most_common(12):
        print(f"  abstained {n:>4} times: {why[:95]}")
    report.rows.append({"abstentions": dict(reasons)})


def names(report: Report) -> None:
    """Print how many mistakes of each author get a name, and how many names are not among the labels.

    A mistake has the name of the tensor that is wrong first, or else the first name that is given.
    """
    from named.given import MISTAKES, SOUND

    for file in sorted(TESTS.joinpath("named").glob("author_*/*.py")):
        importlib.import_module(f"named.{file.parent.name}.{file.stem}")
    authors: dict[str, Counter[str]] = {}
    for make in (*MISTAKES, *SOUND):
        layer, inputs, settings = make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = npgpt.gradcheck(layer, *inputs, **settings)
        given = [finding for finding in found.findings if is_explanation(finding.kind)]
        n = authors.setdefault(make.__module__.split(".")[1], Counter())
        if make in SOUND:
            n["right layers"] += 1
            n["right layers with a name"] += bool(given)
            continue
        given.sort(key=lambda finding: finding.tensor != make.tensor)  # type: ignore[attr-defined]
        n["mistakes"] += 1
        n["found wrong"] += found.verdict == "wrong"
        n["named"] += bool(given)
        n["names not among the labels"] += bool(given) and given[0].kind not in make.kinds  # type: ignore[attr-defined]
    for author, n in authors.items():
        report.rows.append({"author": author, "names": dict(n)})
        print(f"{author}: {', '.join(f'{what} {count}' for what, count in n.items())}")


def race(contestants: dict[str, dict[str, Callable[[], bool]]], rounds: int, report: Report) -> None:
    """Let the contestants take turns; print the times of each layer."""
    for layer in contestants["npgpt"]:
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(rounds + 1):
            for name, checks in contestants.items():
                start = time.perf_counter()
                assert checks[layer]()
                if turn:  # the first one warms up
                    times[name].append(1e3 * (time.perf_counter() - start))
        ours = median(times["npgpt"])
        report.rows.append({"layer": layer, "milliseconds": times})
        shown = [
            f"{n} {median(t):.1f} ({min(t):.1f} to {max(t):.1f}) [{median(t) / ours:.2f}]" for n, t in times.items()
        ]
        print(f"{layer:<12}{'   '.join(shown)}", flush=True)


def main() -> None:
    more = ("--programs", {"type": int, "default": 1000, "metavar": "N", "help": "number of random programs (1000)"})
    options = parse(__doc__, 20, more)
    report = Report()
    contestants = {"npgpt": our_checks()}
    if HAS_TORCH:
        contestants |= {"torch slow": torch_checks(fast=False), "torch fast": torch_checks(fast=True)}
    print("\nmilliseconds for a verdict: median (lowest to highest); in brackets, time over npgpt's")
    race(contestants, options.rounds, report)
    print('\nthe same for small layers, with methods="fast"')
    fast = {"npgpt": our_fast_checks()} | ({"torch fast": torch_fast_checks()} if HAS_TORCH else {})
    race(fast, options.rounds, report)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "npgpt", "check"], check=True, stdout=subprocess.DEVNULL)
    report.rows.append({"all layers": time.perf_counter() - start})
    print(f"npgpt check: {time.perf_counter() - start:.1f} s")
    print("\nverdicts")
    sys.path.insert(0, str(TESTS))
    judge(strangers(), report)
    judge(programs(20 if options.quick else options.programs), report)
    print("\nnames")
    names(report)
    report.write(options.json)


if __name__ == "__main__":
    main()
