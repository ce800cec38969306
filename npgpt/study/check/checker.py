"""Is a gradient right? ``gradcheck`` asks witnesses that share no code with backward; ``verdict`` has the rule.

A check runs in rounds. The layer is judged as it was given. Then its weights are drawn anew, because zeros, ones and an
identity hide mistakes. A layer that behaves differently in training is judged there, too. A gradient is right if every
round finds it right. Every array that the layer holds is checked, or it is constant, or the check is not complete.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from npgpt.errors import ConfigError
from npgpt.study.check.cases import Case, make_case
from npgpt.study.check.judge import check, on_the_way_back, upstream
from npgpt.study.check.report import METHODS, Report
from npgpt.study.check.rounds import rounds_of
from npgpt.study.check.subjects import LayerSubject

__all__ = ["check", "check_case", "check_cases", "gradcheck", "on_the_way_back", "upstream"]

MANY_CASES = 8  # from which on starting processes pays


def gradcheck(
    layer: Any,
    *inputs: Any,
    backward: Callable[..., Any] | None = None,
    params: Any = None,
    grads: Mapping[str, Any] | None = None,
    constants: Sequence[Any] = (),
    init: Any = None,
    training: bool | None = None,
    expects: int | None = None,
    methods: str | Sequence[str] = METHODS,
    seed: int = 0,
    **keywords: Any,
) -> Report:
    """Check every gradient of something that has a forward and a backward pass. It is left as it was.

    Args
        layer: an object with ``forward(x, ...)`` and ``backward(dy)``; a layer of npgpt; a function, with ``backward``;
            or a function without arguments that makes such an object. ``conventions`` lists how backward may be called,
            ``discovery`` where parameters and their gradients are found.
        inputs, keywords: the arguments of forward; arrays, and lists and dicts of arrays. Floats become float64.
        params: further arrays that forward reads: name -> array, or a list of arrays and of paths such as ``"table"``.
        grads: path of a parameter -> where its gradient is after backward: a path, or a function of the layer.
        constants: paths of arrays, or arrays, that are not trained.
        init: how weights are drawn anew: path -> an array or a function of (rng, shape); or one such function for all.
        training: whether the layer is in training; None checks the layer as it is, and in training too.
        expects: the number of arrays that must be checked.
        methods: the methods to ask; or "fast", for small layers inside a loop: the tape and one difference, with the
            given weights and in the given mode alone. A gradient that is not plainly right is judged longer.
        seed: of the upstream gradient and the directions.
    Raises
        ConfigError if the layer cannot be run as it was given.
    """
    methods = (methods,) if isinstance(methods, str) and methods != "fast" else methods
    if not methods:
        raise ConfigError(f"methods is empty; known: {', '.join(METHODS)}")
    if expects is not None and not isinstance(expects, int):
        raise ConfigError(f"expects is {expects!r}; give a number of arrays")
    rounds = rounds_of(layer, inputs, keywords, backward, params, grads, constants, init, training)
    try:
        with np.errstate(), np.printoptions():  # forward may set them
            report = rounds.glance(seed) if methods == "fast" else rounds.run(methods, seed)
    finally:
        rounds.close()
    report.expects = expects
    return report


def check_case(case: Case, methods: Sequence[str] = METHODS, seed: int = 0, until_wrong: bool = False) -> Report:
    """Check every gradient of a case."""
    return check(LayerSubject(case), methods, seed, until_wrong)


def check_cases(names: Sequence[str]) -> Iterator[Report]:
    """Check cases of ``CASES``, in order; many of them by as many processes as there are cores."""
    if len(names) < MANY_CASES:
        yield from map(_report, names)
        return
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_report, names)


def _report(name: str) -> Report:
    report = check_case(make_case(name))
    assert report.sweep
    report.witnesses = None  # it cannot go to another process
    return report
