"""Gradient checkers on the same functions: false alarms, silent passes, what they name, and how long they take.

    python benchmarks/bench_checkers.py [--programs N] [--quick] [--json FILE]

The functions have a forward and a backward pass in NumPy: those of tests/study/check/strangers whose backward pass
takes the upstream gradient, then forward's inputs or what forward left for it, and gives a gradient of each float
input; and random programs (tests/study/check/programs), right by construction or with one mistake. Each checker gets
them in its own form, with its own defaults, at the same inputs. SciPy gives a number, not a verdict: here it accuses if
this is more than 1e-6 of the gradient's norm, under a random upstream gradient. Functions with a kink at the inputs, in
single precision or of tiny inputs are counted apart. Milliseconds are medians over all functions of a table.

npgpt was written with these functions at hand, and the others were not; and what it judges besides (hidden weights,
other inputs, behaviour in training) is not counted. So the tables compare defaults, not merits. What is not installed
is skipped. Chainer's ``check_backward`` is left out: Chainer 7.8.1 imports ``np.sctypes``, which NumPy 2 has removed.
"""

import argparse
import importlib
import importlib.util
import inspect
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from peers import JSON, Numpy, Report

import npgpt
from npgpt.core import Array
from npgpt.errors import ConfigError
from npgpt.study.check.diagnosis import is_explanation

TESTS = Path(__file__).parents[1] / "tests" / "study" / "check"
UPSTREAM = ("d", "g", "up")  # beginnings of the name of an upstream gradient
HARD = "hard ones among both"
RIGHT, WRONG, UNDECIDED, ERROR = "right", "wrong", "undecided", "error"


class Function(NamedTuple):
    """A function of float64 arrays with a backward pass.

    Attributes
        forward: the arrays -> one array.
        backward: (the arrays, dy) -> a gradient of each of them.
        xs: the arrays to check it at.
        make: makes what ``npgpt.gradcheck`` gets, anew, because some functions store what they saw.
    """

    name: str
    is_right: bool
    forward: Callable[..., Array]
    backward: Callable[[tuple[Array, ...], Array], list[Array]]
    xs: list[Array]
    make: Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]]


class Answer(NamedTuple):
    """The verdict of a checker; whether it names the input whose gradient is wrong, and the mistake."""

    verdict: str
    names_input: bool = False
    names_mistake: bool = False
    message: str = ""


def as_function(is_right: bool, make: Callable[[], Any]) -> Function | None:
    """Return other people's function in one form; None if it has another convention."""
    layer, inputs, options = make()
    places = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and x.dtype == np.float64]
    if set(options) != {"backward"} or not places or not callable(layer):
        return None
    back, names = options["backward"], list(inspect.signature(options["backward"]).parameters)
    if [name for name in names if name.startswith(UPSTREAM)] != names[:1]:
        return None

    def run(xs: tuple[Array, ...]) -> tuple[Any, tuple[Any, ...], list[Any]]:
        """Return the output, what forward left for backward, and forward's inputs."""
        arguments = list(inputs)
        for place, x in zip(places, xs, strict=True):
            arguments[place] = np.array(x)
        out = layer(*arguments)
        return (out[0], out[1:], arguments) if isinstance(out, tuple) else (out, (), arguments)

    def forward(*xs: Array) -> Array:
        return np.array(run(xs)[0], float)

    def backward(xs: tuple[Array, ...], dy: Array) -> list[Array]:
        _, left, arguments = run(xs)
        rest = next(rest for rest in (left, arguments, ()) if len(rest) == len(names) - 1)
        grads = back(np.array(dy), *rest)
        return [np.array(grad, float) for grad in (grads if isinstance(grads, tuple) else (grads,))]

    xs = [inputs[place] for place in places]
    y, left, _ = run(tuple(xs))
    is_array = isinstance(y, float | np.floating) or (isinstance(y, np.ndarray) and y.dtype.kind == "f")
    if not is_array or len(names) - 1 not in (len(left), len(inputs), 0):
        return None
    try:
        grads = backward(tuple(xs), np.ones(np.shape(y)))
    except (TypeError, ValueError, AttributeError):
        return None  # it takes other arguments, or gives something else than arrays
    if [grad.shape for grad in grads] != [x.shape for x in xs]:
        return None
    return Function(make.__name__, is_right, forward, backward, xs, make)


def strangers() -> Iterator[Function]:
    from strangers import given

    for file in sorted(TESTS.joinpath("strangers").glob("*.py")):
        importlib.import_module(f"strangers.{file.stem}")
    for makers, is_right in ((given.RIGHT, True), (given.WRONG, False)):
        for make in makers:
            if not make.__module__.startswith("strangers.hidden"):  # mistakes in what is no input
                made = as_function(is_right, make)
                if made and np.array_equal(made.forward(*made.xs), made.forward(*made.xs)):  # and not random
                    yield made


def programs(n: int) -> Iterator[Function]:
    from programs.programs import make_program, mutate

    for seed in range(n):
        program = make_program(seed)
        if program.kinks:
            continue  # its gradient there is a convention
        for made, is_right in ((program, True), (mutate(program, seed), False)):
            if made is not None:
                given = (made.forward, tuple(made.inputs.values()), {"backward": made.backward})
                back = lambda xs, dy, made=made: list(made.backward(dy, *xs))  # noqa: E731
                yield Function(f"program {seed}", is_right, made.forward, back, list(given[1]), lambda g=given: g)


def upstream(function: Function) -> Array:
    return np.asarray(np.random.default_rng(0).normal(size=np.shape(function.forward(*function.xs))))


def is_hard(function: Function) -> bool:
    """Return whether differences from both sides disagree along some direction by more than a thousandth.

    So they do at kinks, in single precision, and where an input is no larger than their step.
    """
    dy, y, rng = upstream(function), function.forward(*function.xs), np.random.default_rng(1)
    for i, x in enumerate(function.xs):
        for _ in range(5):
            step = 1e-6 * rng.normal(size=x.shape)
            right, left = (
                sign * dy * (function.forward(*function.xs[:i], x + sign * step, *function.xs[i + 1 :]) - y)
                for sign in (1, -1)
            )
            if not np.abs(right.sum() - left.sum()) <= 1e-3 * (np.abs(right).sum() + np.abs(left).sum()):
                return True
    return False


def by_torch(function: Function, fast: bool) -> Answer:
    import torch
    from torch.autograd.gradcheck import GradcheckError

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *xs: Any) -> Any:
            ctx.save_for_backward(*xs)
            return torch.from_numpy(np.asarray(function.forward(*(x.detach().numpy() for x in xs))))

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            xs = tuple(x.detach().numpy() for x in ctx.saved_tensors)
            return tuple(torch.from_numpy(grad) for grad in function.backward(xs, dy.numpy()))

    xs = [torch.tensor(x, requires_grad=True) for x in function.xs]
    try:
        torch.autograd.gradcheck(Wrapped.apply, xs, fast_mode=fast)
    except GradcheckError as error:
        return Answer(WRONG, "with respect to input" in str(error), message=str(error))
    return Answer(RIGHT)


def by_jax(function: Function) -> Answer:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    kinds = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (function.forward(*function.xs), *function.xs)]

    @jax.custom_vjp
    def wrapped(*xs: Any) -> Any:
        return jax.pure_callback(lambda *xs: function.forward(*map(np.asarray, xs)), kinds[0], *xs)

    def back(xs: Any, dy: Any) -> Any:
        def call(dy: Any, *xs: Any) -> tuple[Array, ...]:
            return tuple(function.backward(tuple(map(np.asarray, xs)), np.asarray(dy)))

        return jax.pure_callback(call, tuple(kinds[1:]), dy, *xs)

    wrapped.defvjp(lambda *xs: (wrapped(*xs), xs), back)
    try:
        check_grads(wrapped, tuple(map(jax.numpy.asarray, function.xs)), order=1, modes=["rev"])
    except AssertionError as error:
        return Answer(WRONG, message=str(error))
    return Answer(RIGHT)


def by_autograd(function: Function) -> Answer:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    wrapped = primitive(function.forward)
    defvjp(wrapped, *(lambda ans, *xs, i=i: lambda dy: function.backward(xs, dy)[i] for i in range(len(function.xs))))
    np.random.seed(0)  # noqa: NPY002 - its directions
    try:
        check_grads(wrapped, tuple(range(len(function.xs))), modes=["rev"], order=1)(*function.xs)
    except AssertionError as error:
        return Answer(WRONG, message=str(error))
    return Answer(RIGHT)


def by_scipy(function: Function) -> Answer:
    from scipy.optimize import check_grad

    dy, ends = upstream(function), np.cumsum([x.size for x in function.xs])[:-1]

    def apart(flat: Array) -> tuple[Array, ...]:
        return tuple(part.reshape(x.shape) for part, x in zip(np.split(flat, ends), function.xs, strict=True))

    def gradient(flat: Array) -> Array:
        return np.concatenate([grad.ravel() for grad in function.backward(apart(flat), dy)])

    start = np.concatenate([x.ravel() for x in function.xs])
    off = check_grad(lambda flat: float((dy * function.forward(*apart(flat))).sum()), gradient, start)
    return Answer(RIGHT if off <= 1e-6 * np.linalg.norm(gradient(start)) else WRONG)


def by_npgpt(function: Function, **settings: Any) -> Answer:
    layer, inputs, options = function.make()
    report = npgpt.gradcheck(layer, *inputs, **options, **settings)
    wrong = [name for name, verdict in report.verdicts.items() if verdict.state == WRONG]
    return Answer(report.verdict, bool(wrong), any(is_explanation(finding.kind) for finding in report.findings))


CHECKERS: dict[str, tuple[str, Callable[[Function], Answer]]] = {  # name -> (its package, the call)
    "torch, slow": ("torch", lambda function: by_torch(function, fast=False)),
    "torch, fast": ("torch", lambda function: by_torch(function, fast=True)),
    "jax": ("jax", by_jax),
    "autograd": ("autograd", by_autograd),
    "scipy": ("scipy", by_scipy),
    "npgpt": ("npgpt", by_npgpt),
    "npgpt, fast": ("npgpt", lambda function: by_npgpt(function, methods="fast")),
}


def installed(sample: Function) -> Iterator[str]:
    """Yield the checkers that can be had here; each has judged a function, to warm up."""
    for name, (package, check) in CHECKERS.items():
        if importlib.util.find_spec(package) is None:
            print(f"# {name} was skipped: {package} is not installed")
            continue
        try:
            check(sample)
        except ConfigError as error:
            print(f"# {name} was skipped: {error}")
        else:
            yield name


def judge(function: Function, check: Callable[[Function], Answer]) -> dict[str, Any]:
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            answer = check(function)
        except Exception as error:  # counted: the checker cannot judge this function
            answer = Answer(ERROR, message=f"{type(error).__name__}: {error}")
    return {"ms": 1e3 * (time.perf_counter() - start), **answer._asdict()}


def table(title: str, rows: list[dict[str, Any]]) -> None:
    n = Counter(row["is_right"] for row in rows if row["checker"] == rows[0]["checker"])
    print(f"\n{title}: {n[True]} right, {n[False]} wrong")
    heads = ("false alarms", "silent passes", "undecided", "errors", "names input", "names mistake", "ms")
    print(f"{'':<12}" + "".join(f"{head:>14}" for head in heads))
    for checker in dict.fromkeys(row["checker"] for row in rows):
        of = [row for row in rows if row["checker"] == checker]
        counts = Counter((row["verdict"], row["is_right"]) for row in of)
        caught = [row for row in of if row["verdict"] == WRONG and not row["is_right"]]
        cells = [
            counts[WRONG, True],
            counts[RIGHT, False],
            counts[UNDECIDED, True] + counts[UNDECIDED, False],
            counts[ERROR, True] + counts[ERROR, False],
            sum(row["names_input"] for row in caught),
            sum(row["names_mistake"] for row in caught),
            f"{median(row['ms'] for row in of):.1f}",
        ]
        print(f"{checker:<12}" + "".join(f"{cell:>14}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description="Gradient checkers on the same functions.")
    parser.add_argument("--programs", type=int, help="number of random programs (100; with --quick 5)")
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs")
    parser.add_argument("--json", **JSON)
    options = parser.parse_args()
    report = Report()
    print("# NumPy:", ", ".join(f"{name} {value}" for name, value in Numpy(1).about().items()))
    sys.path.insert(0, str(TESTS))
    step = 8 if options.quick else 1
    n_programs = options.programs or (5 if options.quick else 100)
    checkers = list(installed(next(strangers())))
    sources = {
        "other people's functions": lambda: list(strangers())[::step],
        "random programs": lambda: programs(n_programs),
    }
    with np.errstate(all="ignore"):
        for source, functions in sources.items():
            for function in functions():
                kind = HARD if is_hard(function) else source
                about = {"kind": kind, "function": function.name, "is_right": function.is_right}
                report.rows += [{**about, "checker": name, **judge(function, CHECKERS[name][1])} for name in checkers]
    for kind in (*sources, HARD):
        table(kind, [row for row in report.rows if row["kind"] == kind])
    report.write(options.json)


if __name__ == "__main__":
    main()
