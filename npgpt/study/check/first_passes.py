"""The first passes of a layer: is it repeatable, what does it make, what does it replace, in what precision?"""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError, NpgptError
from npgpt.study.check.places import Held, find
from npgpt.study.check.strangers import StrangerSubject
from npgpt.study.check.trees import leaves


class NotRepeatableError(ConfigError):
    """Two forward passes over the same numbers differ."""


def in_float64(subject: StrangerSubject) -> None:
    """Let arrays of other precisions be copies in float64; arrays that share memory share it again."""
    every = find(subject.root).values()
    if any(x.dtype == np.float16 for x in [*(held.array for held in every), *subject.given_inputs]):
        subject.coarsest = float(np.finfo(np.float16).eps) / 4
    subject.single |= any(held.array.dtype.itemsize < 8 for held in every)
    for held in every:
        if not held.array.flags.writeable and held.array.dtype == np.float64:
            with contextlib.suppress(TypeError, ValueError, AttributeError):
                held.array = held.array.copy()
                held.replace(held.array)
    others = [held for held in every if held.array.dtype != np.float64]
    for kind in {held.array.dtype for held in others}:
        wide: dict[int, Array] = {}
        for held in (h for h in others if h.array.dtype == kind):
            base = held.array
            while isinstance(base.base, np.ndarray) and base.base.dtype == kind:
                base = base.base
            whole = wide.setdefault(id(base), base.astype(np.float64, order="K"))
            offset = (
                (held.array.__array_interface__["data"][0] - base.__array_interface__["data"][0]) * 8 // kind.itemsize
            )
            strides = tuple(n * 8 // kind.itemsize for n in held.array.strides)
            same_layout = whole.strides == tuple(n * 8 // kind.itemsize for n in base.strides)
            try:
                view = np.ndarray(held.array.shape, np.float64, whole, offset, strides) if same_layout else None
                held.replace(held.array.astype(np.float64) if view is None else view)
            except (TypeError, ValueError, AttributeError):
                continue


def warm_up(subject: StrangerSubject) -> None:
    """Run forward twice, and start from there if the first pass made arrays that the second one left alone.

    Some layers make their weights when they first see an input. Copies of inputs are no weights.
    """
    before = {id(held.array) for held in find(subject.root).values()}
    try:
        subject.run()
        first = find(subject.root)
        inputs = [x for tree in subject.passed.values() for x in leaves(tree).values() if isinstance(x, np.ndarray)]
        subject.run(again=True)
    except Exception:  # the next pass says what is wrong
        subject.state.restore()
        return
    second = {id(held.array) for held in find(subject.root).values()}
    made = [held.array for held in first.values() if id(held.array) in second - before]
    made = [
        x
        for x in made
        if not any(x.size == y.size and np.array_equal(np.sort(x, None), np.sort(y, None)) for y in inputs)
    ]
    if made:
        in_float64(subject)
        subject.begin()
    else:
        subject.state.restore()


def lasting_arrays(subject: StrangerSubject) -> tuple[dict[str, Held], list[Held]]:
    """Return the arrays that forward leaves, and those that it replaces: statistics, and what an earlier pass saved."""
    found = find(subject.root)
    subject.run()
    after = {id(held.array) for held in find(subject.root).values()}
    subject.state.restore()
    replaced = [held for held in found.values() if id(held.array) not in after]
    return {path: held for path, held in found.items() if id(held.array) in after}, replaced


def repeatable_pass(subject: StrangerSubject) -> Any:
    """Return what forward returns, and see to it that every pass returns the same."""
    for seeded in (False, True):
        subject.seeded = seeded
        try:
            with _draws() as drew:
                first = leaves(subject.run())
        except NpgptError:
            raise
        except Exception as error:
            raise failed("forward", subject.name, subject.arguments, error) from error
        if drew and not seeded:  # two small masks may be equal by chance
            continue
        again = subject.run()
        if equal_leaves(first, leaves(again)):
            if seeded:
                subject.remarks.append("forward draws random numbers; every pass draws the same ones")
            return again
    raise NotRepeatableError(
        f"{subject.name}: forward gives other numbers each time, also from the same seeds; "
        "pass the random generator, or the mask, as an argument"
    )


@contextlib.contextmanager
def _draws() -> Iterator[list[bool]]:
    """Yield a list that is not empty afterwards if somebody drew random numbers in between, or made a generator."""

    def states() -> tuple[Any, ...]:
        _, key, *rest = np.random.get_state()  # noqa: NPY002
        return np.asarray(key).tobytes(), *rest, random.getstate()

    found: list[bool] = []
    before, make = states(), np.random.default_rng

    def watched(seed: Any = None) -> np.random.Generator:
        found.extend([True] * (seed is None))
        return make(seed)

    np.random.default_rng = watched
    try:
        yield found
    finally:
        np.random.default_rng = make
        found.extend([True] * (states() != before))


def failed(way: str, name: str, arguments: Mapping[str, Any], error: Exception) -> ConfigError:
    """Return the error that says how forward or backward failed, and what it was given."""
    given = ", ".join(f"{key} {shown(x)}" if isinstance(x, np.ndarray) else key for key, x in arguments.items())
    return ConfigError(f"{name}: {way} raised {type(error).__name__}: {error}. It was called with {given or 'nothing'}")


def equal_leaves(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    def same(x: Any, y: Any) -> bool:
        if isinstance(x, np.ndarray):
            return x.shape == np.shape(y) and np.array_equal(x, y, equal_nan=x.dtype.kind in "fc")
        return not isinstance(x, float) or x == y or x != x

    return a.keys() == b.keys() and all(same(x, b[key]) for key, x in a.items())


def shown(x: Any) -> str:
    return f"{type(x).__name__}{x.shape if isinstance(x, np.ndarray) else ''}"
