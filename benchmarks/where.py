"""Where does the time of a training step go? By product and by kernel, beside the same calls alone.

    python benchmarks/bench_step.py --where [--shapes A C D B] [--threads 1 2] [--quick] [--json FILE]

Once everything is compiled, functions that read the clock take the places of the kernels in npgpt's modules. A row is
a kind of call: a kernel, or a product by its sizes (M x K times K x N). Its time in a step is the median over steps.
The same calls, alone, run on copies of their operands: cold (sets in turn, as in bench_matmul.py) and warm (one set).
"""

import itertools
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from bench_step import NpgptStep
from numpy.typing import NDArray
from peers import number_of_sets, seconds_per_call

SHARED = {"pool", "packs", "works", "partial"}  # arguments that are the same memory in every call


class WhereStep(NpgptStep):
    """A training step of npgpt, with a clock at each kernel once ``where`` is asked."""

    def where(self, steps: int, seconds: float) -> dict[str, Any]:
        """The rows of the table, and the seconds of a step with and without the clocks.

        Args
            steps: how many to measure.
            seconds: how long a call alone is measured, in each state.
        """
        without = self.measure(steps)
        self._watch()
        self.backward, of_rows, of_steps = False, defaultdict(list), []
        for _ in range(steps):
            self.calls: list[Any] = []
            start = perf_counter()
            self.step()
            of_steps.append(perf_counter() - start)
            spent: Counter[str] = Counter()
            for kernel, backward, arguments, took in self.calls:
                spent[row_of(kernel, backward, arguments)] += took
            for row, total in spent.items():
                of_rows[row].append(total)
        rows = {row: {"seconds": median(totals), **self._alone(row, seconds)} for row, totals in of_rows.items()}
        return {"rows": rows, "step": median(of_steps), "without clocks": without}

    def _watch(self) -> None:
        from npgpt.machine.compile import ENTRIES

        clocked = {id(kernel): self._clocked(kernel) for kernel in ENTRIES}
        for module in [module for name, module in sys.modules.items() if name.startswith("npgpt.")]:
            for name, value in list(vars(module).items()):
                if id(value) in clocked:
                    setattr(module, name, clocked[id(value)])
        loss, loss_backward = self.model.loss, self.model.loss_backward

        def forward(*arguments: Any) -> Any:
            self.backward = False
            return loss(*arguments)

        def backward(*arguments: Any) -> Any:
            self.backward = True
            return loss_backward(*arguments)

        vars(self.model).update(loss=forward, loss_backward=backward)

    def _clocked(self, kernel: Any) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = perf_counter()
            answer = kernel(*arguments)
            self.calls.append((kernel, self.backward, arguments, perf_counter() - start))
            return answer

        return call

    def _alone(self, row: str, seconds: float) -> dict[str, float]:
        """The calls of a row in the last step, each form of call measured once."""
        forms: dict[Any, list[Any]] = defaultdict(list)
        for kernel, backward, arguments, _ in self.calls:
            if row_of(kernel, backward, arguments) == row:
                form = [(x.shape, x.strides) if isinstance(x, np.ndarray) else type(x) is float or x for x in arguments]
                forms[str(form)].append((kernel, arguments))
        about = {"calls": 0, "cold": 0.0, "warm": 0.0, "flops": 0.0}
        for calls in forms.values():
            kernel, arguments = calls[0]
            cold, warm = replay(kernel, arguments, seconds)
            about["calls"] += len(calls)
            about["cold"] += len(calls) * cold
            about["warm"] += len(calls) * warm
            if name_of(kernel) == "matmul":
                (M, K), N = arguments[1].shape, arguments[2].shape[1]
                about["flops"] += len(calls) * 2.0 * M * K * N
        return about


def name_of(kernel: Any) -> str:
    """The module, where there is one such kernel; else both names."""
    module, name = kernel.py_func.__module__.rpartition(".")[2], kernel.py_func.__name__
    return "matmul" if name == "_multiply" else name if name not in ("forward", "backward") else f"{module} {name}"


def row_of(kernel: Any, backward: bool, arguments: tuple[Any, ...]) -> str:
    """The row of a call. The first operand of the product that gives dW is transposed."""
    if name_of(kernel) != "matmul":
        return name_of(kernel)
    a, b = arguments[1:3]
    kind = "forward" if not backward else "dW" if a.strides[0] == a.itemsize else "dx"
    return f"{kind} {a.shape[0]} x {a.shape[1]} x {b.shape[1]}"


def like(array: NDArray[Any]) -> NDArray[Any]:
    """A copy with the same strides, that begins on a cache line, as the buffers of layers do."""
    extent = array.itemsize + sum((n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True))
    memory = np.zeros(extent + 64, np.uint8)
    copy: NDArray[Any] = np.ndarray(array.shape, array.dtype, memory, -memory.ctypes.data % 64, array.strides)
    copy[...] = array
    return copy


def replay(kernel: Any, arguments: tuple[Any, ...], seconds: float) -> tuple[float, float]:
    """Seconds of a call, cold and warm. An array that is given twice, as input and output, is one array here too."""
    names = kernel.py_func.__code__.co_varnames
    arrays = {
        (x.ctypes.data, x.shape): x
        for name, x in zip(names, arguments, strict=False)
        if isinstance(x, np.ndarray) and x.size and name not in SHARED
    }
    sets = []
    for _ in range(number_of_sets(arrays.values())):
        copies = {key: like(x) for key, x in arrays.items()}
        sets.append([copies.get((x.ctypes.data, x.shape), x) if isinstance(x, np.ndarray) else x for x in arguments])
    turn = itertools.cycle(sets)
    return seconds_per_call(lambda: kernel(*next(turn)), seconds), seconds_per_call(lambda: kernel(*sets[0]), seconds)


def show(title: str, found: dict[str, Any]) -> None:
    """Print the table: products, then other kernels, the longest first, and what is left for Python."""
    step, rows = found["step"], found["rows"]
    print(f"\n{title}: a step takes {step * 1e3:.2f} ms, {found['without clocks'] * 1e3:.2f} without the clocks")
    print(f"{'':<36}{'':>6}{'in the step':>18}{'alone, ms':>18}{'GF/s':>24}")
    print(f"{'':<36}{'calls':>6}{'ms':>9}{'share':>9}{'cold':>9}{'warm':>9}{'in step':>8}{'cold':>8}{'warm':>8}")

    def line(name: str, of: list[dict[str, Any]]) -> None:
        calls, seconds, cold, warm, flops = (sum(row[key] for row in of) for key in KEYS)
        rates = "".join(f"{flops / time / 1e9:8.0f}" for time in (seconds, cold, warm)) if flops else ""
        times = f"{seconds * 1e3:9.3f}{seconds / step:9.1%}{cold * 1e3:9.3f}{warm * 1e3:9.3f}"
        print(f"{name:<36}{calls:6}{times}{rates}", flush=True)

    longest = sorted(rows, key=lambda name: -rows[name]["seconds"])
    products, others = ([name for name in longest if bool(rows[name]["flops"]) == is_one] for is_one in (True, False))
    for names, together in ((products, "all products"), (others, "all other kernels")):
        for name in names:
            line(name, [rows[name]])
        line(together, [rows[name] for name in names])
    rest = step - sum(row["seconds"] for row in rows.values())
    print(f"{'Python between kernels':<42}{rest * 1e3:9.3f}{rest / step:9.1%}", flush=True)


KEYS = ("calls", "seconds", "cold", "warm", "flops")
