"""How fast is each layer, forward and backward: the textbook's, the compiled one, PyTorch's?

    python benchmarks/bench_layers.py [--threads 1 2] [--only LAYER ...] [--rounds N] [--quick] [--json FILE]

The sizes are those of the training steps A and C (see bench_step.py), and where the vocabulary counts those of D too.
The gradients of inputs and parameters are computed, and written over those of the pass before. PyTorch is in eager
mode, and takes part twice, once with an allocator that is tuned to keep its memory; the faster is the peer. Results
are compared first, then all take turns, each in a process of its own.

Ratios are those of medians, the other's time over the compiled layer's (more than 1: ours is ahead), forward and
backward together, in brackets the quartiles of single rounds.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean, median
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from bench_step import SHAPES, Shape
from peers import (
    HAS_TORCH,
    Contestant,
    Npgpt,
    Numpy,
    Report,
    Torch,
    Variables,
    compare,
    fastest,
    parse,
    shown,
    take_turns,
    tuned_allocator,
)

ALLOWED = 1e-4  # norm of the difference, over the norm
LOSSES = ("CrossEntropy", "HeadLoss")  # what comes from above is the number 1


class Case(NamedTuple):
    """How to make a layer of a shape, what goes in, and the same as a function for PyTorch."""

    make: Callable[[ModuleType, Shape], Any]
    inputs: Callable[[np.random.Generator, Shape], list[Any]]
    torch: Callable[..., Any]  # (parameters, shape, *inputs)


def _normal(*axes: str) -> Callable[[np.random.Generator, Shape], list[Any]]:
    """One array; ``F`` is 4·C."""

    def make(rng: np.random.Generator, s: Shape) -> list[Any]:
        sizes = s._asdict() | {"F": 4 * s.C}
        return [rng.standard_normal([sizes[axis] for axis in axes], np.float32)]

    return make


def _ids(rng: np.random.Generator, s: Shape) -> Any:
    weights = 1 / (np.arange(s.V) + 3)
    return rng.choice(s.V, (s.B, s.T), p=weights / weights.sum())


def _with_targets(*axes: str) -> Callable[[np.random.Generator, Shape], list[Any]]:
    return lambda rng, s: [*_normal(*axes)(rng, s), _ids(rng, s)]


def _functional() -> Any:
    import torch

    return torch.nn.functional


def _linear(p: dict[str, Any], s: Shape, x: Any, name: str = "") -> Any:
    return _functional().linear(x, p[f"{name}weight"], p[f"{name}bias"])


def _norm(p: dict[str, Any], s: Shape, x: Any, name: str = "") -> Any:
    return _functional().layer_norm(x, (s.C,), p[f"{name}gain"], p[f"{name}bias"], 1e-5)


def _attention(p: dict[str, Any], s: Shape, x: Any, name: str = "") -> Any:
    from torch_gpt import attend

    return _linear(p, s, attend(_linear(p, s, x, f"{name}qkv."), s.H), f"{name}projection.")


def _mlp(p: dict[str, Any], s: Shape, x: Any, name: str = "") -> Any:
    hidden = _linear(p, s, x, f"{name}up.")
    return _linear(p, s, _functional().gelu(hidden, approximate="tanh"), f"{name}down.")


def _block(p: dict[str, Any], s: Shape, x: Any) -> Any:
    x = x + _attention(p, s, _norm(p, s, x, "attention_norm."), "attention.")
    return x + _mlp(p, s, _norm(p, s, x, "mlp_norm."), "mlp.")


def _cross_entropy(p: dict[str, Any], s: Shape, logits: Any, targets: Any) -> Any:
    return _functional().cross_entropy(logits.flatten(0, -2), targets.flatten())


def _head_loss(p: dict[str, Any], s: Shape, x: Any, targets: Any) -> Any:
    return _cross_entropy(p, s, _functional().linear(x, p["lm_head.weight"]), targets)


CASES = {
    "Embedding": Case(
        lambda layers, s: layers.Embedding(s.V, s.C),
        lambda rng, s: [_ids(rng, s)],
        lambda p, s, ids: _functional().embedding(ids, p["weight"]),
    ),
    "LearnedPositions": Case(
        lambda layers, s: layers.LearnedPositions(s.T, s.C),
        _normal("B", "T", "C"),
        lambda p, s, x: x + p["weight"][: s.T],
    ),
    "LayerNorm": Case(lambda layers, s: layers.LayerNorm(s.C), _normal("B", "T", "C"), _norm),
    "Linear": Case(lambda layers, s: layers.Linear(s.C, 3 * s.C), _normal("B", "T", "C"), _linear),
    "TanhGELU": Case(
        lambda layers, s: layers.TanhGELU(),
        _normal("B", "T", "F"),
        lambda p, s, x: _functional().gelu(x, approximate="tanh"),
    ),
    "GELU": Case(lambda layers, s: layers.GELU(), _normal("B", "T", "F"), lambda p, s, x: _functional().gelu(x)),
    "Softmax": Case(
        lambda layers, s: layers.Softmax(), _normal("B", "H", "T", "T"), lambda p, s, x: _functional().softmax(x, -1)
    ),
    "Attention": Case(lambda layers, s: layers.Attention(s.C, s.H), _normal("B", "T", "C"), _attention),
    "MLP": Case(lambda layers, s: layers.MLP(s.C), _normal("B", "T", "C"), _mlp),
    "Block": Case(lambda layers, s: layers.Block(s.C, s.H), _normal("B", "T", "C"), _block),
    "CrossEntropy": Case(lambda layers, s: layers.CrossEntropy(), _with_targets("B", "T", "V"), _cross_entropy),
    "HeadLoss": Case(
        lambda layers, s: layers.HeadLoss(layers.VocabularyHead(s.V, s.C), layers.CrossEntropy()),
        _with_targets("B", "T", "C"),
        _head_loss,
    ),
}
STEP = "AdamW step"  # no layer: all parameters of the model at once
OF_VOCABULARY = ("Embedding", "CrossEntropy", "HeadLoss", STEP)


def make_layer(name: str, shape: Shape) -> Any:
    """The textbook's layer in float32, with GPT-2's weights; for the step, the whole model."""
    from npgpt import layers
    from npgpt.build import make_gpt
    from npgpt.config import GPTConfig

    if name == STEP:
        return make_gpt(GPTConfig(shape.V, shape.T, shape.L, shape.H, shape.C), layers="textbook")
    layer = CASES[name].make(layers, shape)
    layer.pack(np.float32)
    return layer.initialise(0)


def fill_gradients(params: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    for param in params.values():
        param.grad[...] = rng.standard_normal(param.value.shape, np.float32)


class Side:
    """What all sides share."""

    def measure(self, seconds: float) -> list[float]:
        """Seconds forward, backward and both."""
        clock, begun = time.perf_counter, 0.0
        times: list[tuple[float, float]] = []
        while len(times) < 2 or clock() - begun < seconds:
            start = clock()
            self.forward()
            middle = clock()
            self.backward()
            times.append((middle - start, clock() - middle))
            if not begun:
                times.clear()  # the first one warms up
                begun = clock()
        forward, backward = zip(*times, strict=True)
        return [median(forward), median(backward), median(map(sum, times))]

    def save(self, path: str) -> None:
        self.forward()
        self.backward()
        np.savez(path, **self.results())

    def forward(self) -> None:
        raise NotImplementedError

    def backward(self) -> None:
        raise NotImplementedError

    def results(self) -> dict[str, Any]:
        raise NotImplementedError


class LayerSide(Side):
    """npgpt's layers; the compiled and the textbook's differ in ``twin`` alone."""

    def prepare(self, name: str, shape: list[int]) -> None:
        from npgpt.build import make_optimizer
        from npgpt.core import Cache

        of = Shape(*shape)
        self.layer, self.name, self.cache = self.twin(make_layer(name, of)), name, Cache()
        if name == STEP:
            fill_gradients(self.layer.parameters())
            self.optimizer = make_optimizer(self.layer, 0.9, 0.95, 1e-8, 0.1)
            return
        self.inputs = CASES[name].inputs(np.random.default_rng(0), of)
        self.arguments = [*self.inputs, None] if name in LOSSES else self.inputs
        y = self.layer.forward(*self.arguments, self.cache)
        self.dy = 1.0 if name in LOSSES else np.random.default_rng(2).standard_normal(y.shape, np.float32)

    def twin(self, layer: Any) -> Any:
        raise NotImplementedError

    def forward(self) -> None:
        if self.name == STEP:
            self.optimizer.step(1e-4)
        else:
            self.y = self.layer.forward(*self.arguments, self.cache.reset())

    def backward(self) -> None:
        if self.name != STEP:
            self.layer.zero_grad(self.cache)
            self.dx = self.layer.backward(self.dy, self.cache)
            self.cache.clear_unwritten()

    def results(self) -> dict[str, Any]:
        params = self.layer.parameters()
        if self.name == STEP:
            return {path: param.value for path, param in params.items()}
        dx = {} if self.dx is None or self.name == "Embedding" else {"dx": self.dx}
        return {"y": self.y, **dx, **{path: param.grad for path, param in params.items()}}


class CompiledSide(LayerSide, Npgpt):
    def twin(self, layer: Any) -> Any:
        from npgpt.build import twin

        return twin(layer, "compiled")


class TextbookSide(LayerSide, Numpy):
    def __init__(self, threads: int) -> None:
        from npgpt.support.memory import keep_freed_memory

        super().__init__(threads)
        keep_freed_memory()  # as ``npgpt train`` does

    def twin(self, layer: Any) -> Any:
        return layer


class TorchSide(Side, Torch):
    def prepare(self, name: str, shape: list[int]) -> None:
        import torch

        from npgpt.layers import Linear

        self.name, self.shape, layer = name, Shape(*shape), make_layer(name, Shape(*shape))
        params = layer.parameters()
        # PyTorch's linear layers have their matrices the other way round.
        self.turned = {path for path, owner, _ in layer.slots() if isinstance(owner, Linear) and "weight" in path}
        self.params: dict[str, Any] = {}
        for path, param in params.items():
            value = np.ascontiguousarray(param.value.T if path in self.turned else param.value)
            self.params[path] = torch.from_numpy(value.copy()).requires_grad_()
        if name == STEP:
            from torch_gpt import make_optimizer

            fill_gradients(params)
            for path, param in params.items():
                value = np.ascontiguousarray(param.grad.T if path in self.turned else param.grad)
                self.params[path].grad = torch.from_numpy(value.copy())
            self.optimizer = make_optimizer(list(self.params.values()), 1e-4)
            return
        arrays = CASES[name].inputs(np.random.default_rng(0), self.shape)
        self.inputs = [torch.from_numpy(array).requires_grad_(array.dtype == np.float32) for array in arrays]
        self.leaves = [x for x in (*self.inputs, *self.params.values()) if x.requires_grad]
        y = CASES[name].torch(self.params, self.shape, *self.inputs)
        dy = np.float32(1) if name in LOSSES else np.random.default_rng(2).standard_normal(y.shape, np.float32)
        self.dy = torch.from_numpy(np.asarray(dy))

    def forward(self) -> None:
        if self.name == STEP:
            self.optimizer.step()
        else:
            self.y = CASES[self.name].torch(self.params, self.shape, *self.inputs)

    def backward(self) -> None:
        if self.name != STEP:
            for leaf in self.leaves:
                leaf.grad = None
            self.y.backward(self.dy)

    def results(self) -> dict[str, Any]:
        tensors = {path: param if self.name == STEP else param.grad for path, param in self.params.items()}
        found = {path: tensor.T if path in self.turned else tensor for path, tensor in tensors.items()}
        if self.name != STEP:
            found |= {"y": self.y} | ({"dx": self.inputs[0].grad} if self.inputs[0].requires_grad else {})
        return {name: tensor.detach().numpy() for name, tensor in found.items()}


def check(contestants: list[Contestant], name: str) -> None:
    """All against the first, which is the textbook."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, f"{i}.npz")) for i in range(len(contestants))]
        for contestant, path in zip(contestants, paths, strict=True):
            contestant.ask("save", path=path)
        for contestant, path in zip(contestants[1:], paths[1:], strict=True):
            with np.load(paths[0]) as right, np.load(path) as found:
                if set(right) != set(found):
                    raise SystemExit(f"{contestant.label}, {name}: {set(right) ^ set(found)} are not in both")
                for what in right:
                    error = np.linalg.norm(found[what] - right[what]) / (np.linalg.norm(right[what]) + 1e-30)
                    if not error <= ALLOWED:
                        raise SystemExit(f"{contestant.label}, {name}: {what} is off by {error:.1e}")


def bench(contestants: list[Contestant], threads: int, options: Any, report: Report) -> None:
    ours, others = contestants[1].label, [contestant.label for contestant in contestants[2:]]
    print(f"\n{threads} thread{'s' * (threads > 1)}; milliseconds forward + backward")
    columns = f"{'textbook':>19} {'compiled':>17} {'PyTorch' if others else '':>17}"
    print(f"{'layer':<17}{'size':<5}{columns}   textbook / compiled{'     PyTorch / compiled' if others else ''}")
    ratios = []
    for name in [name for name in [*CASES, STEP] if name in options.only]:
        for size in ("A",) if options.quick else ("A", "C", "D") if name in OF_VOCABULARY else ("A", "C"):
            for contestant in contestants:
                contestant.ask("prepare", name=name, shape=SHAPES[size])
            check(contestants, name)
            answers = take_turns(contestants, options.rounds, "measure", seconds=0.02 if options.quick else 0.05)
            both = {label: [times[2] for times in turns] for label, turns in answers.items()}
            row: dict[str, Any] = {"threads": threads, "layer": name, "size": size, "seconds": answers}
            row["textbook"] = compare(both[ours], both["textbook"])
            line = f"{name:<17}{size:<5}{_parts(answers['textbook']):>19} {_parts(answers[ours]):>17}"
            if others:
                best = fastest(both, others)
                row["PyTorch"] = compare(both[ours], both[best]) | {"best": best}
                ratios.append(row["PyTorch"]["ratio"])
                line += f" {_parts(answers[best]):>17}   {shown(row['textbook']):<24}{shown(row['PyTorch'])}  {best}"
            else:
                line += f"   {shown(row['textbook'])}"
            report.rows.append(row)
            print(line, flush=True)
    if ratios:
        print(f"PyTorch / compiled: geometric mean {geometric_mean(ratios):.2f}, worst {min(ratios):.2f}")


def _parts(turns: list[list[float]]) -> str:
    forward, backward, _ = (median(part) * 1e3 for part in zip(*turns, strict=True))
    return f"{forward:.3f} + {backward:.3f}"


def main() -> None:
    options = parse(
        "How fast is each layer, forward and backward?",
        5,
        ("--only", {"nargs": "+", "choices": [*CASES, STEP], "default": [*CASES, STEP], "metavar": "LAYER"}),
    )
    report = Report()
    print(f"# tuned allocator: {tuned_allocator()[0]}" if HAS_TORCH else "# PyTorch is not installed: no such column")
    for threads in options.threads:
        alone: Variables = {"OPENBLAS_NUM_THREADS": "1"}  # the textbook alone multiplies with NumPy
        contestants = [
            Contestant("textbook", "bench_layers:TextbookSide", threads),
            Contestant("compiled", "bench_layers:CompiledSide", threads, alone),
        ]
        if HAS_TORCH:
            tuned = alone | tuned_allocator()[1]
            contestants.append(Contestant("PyTorch", "bench_layers:TorchSide", threads, alone))
            contestants.append(Contestant("PyTorch, tuned", "bench_layers:TorchSide", threads, tuned))
        report.introduce(contestants)
        bench(contestants, threads, options, report)
        for contestant in contestants:
            contestant.close()
    report.write(options.json)


if __name__ == "__main__":
    main()
