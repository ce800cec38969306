# B batch, T time, C channels
"""Property tests for your own layers: strategies, laws, and two ways to hold a layer to all laws.

    from npgpt.testing import assert_obeys_laws, parametrize_with_laws

    @parametrize_with_laws(lambda: LayerNorm(5), x)      # a test for each law
    def test_layer_norm(law):
        law()

    def test_my_layer():                                 # the same in one test, over layers of many sizes
        assert_obeys_laws(lambda sizes: MyLayer(sizes.C))

``LAWS`` must hold for every layer of npgpt, ``LAWS_OF_STRANGERS`` for everybody's. ``INVARIANTS`` are facts about the
gradients of particular layers. The other functions are strategies for hypothesis. No other module of npgpt imports it.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from npgpt.core import Array
from npgpt.errors import ConfigError, did_you_mean
from npgpt.study.check import INVARIANTS, LAWS, LAWS_OF_COMPILED, Case, Law, LawBroken, Sizes
from npgpt.study.check.laws import gradients_are_right
from npgpt.study.check.laws_of_strangers import LAWS_OF_STRANGERS
from npgpt.study.check.trials import NAMES, Trials

__all__ = [
    "INVARIANTS", "LAWS", "LAWS_OF_COMPILED", "LAWS_OF_STRANGERS", "Case", "Law", "LawBroken", "Sizes", "arrays",
    "assert_obeys_laws", "dtypes", "extreme_values", "gradients_are_right", "parametrize_with_laws", "shapes", "sizes",
    "token_ids", "upstream_gradients"
]  # fmt: skip

Inputs = Callable[[Sizes, np.random.Generator], Any]


def assert_obeys_laws(
    layer: Any,
    *given: Any,
    inputs: Inputs | None = None,
    time_axis: int | None = None,
    laws: Collection[str] | None = None,
    skip: Collection[str] = (),
    examples: int = 15,
    **options: Any,
) -> None:
    """Hold a layer to every law that it could break: among them, that each gradient is right.

    Args
        layer: an object, a layer of npgpt, a function with ``backward=``, or a function that makes a layer, as in
            ``npgpt.gradcheck``; or a pair (forward, backward); or a function of sizes that makes layers, with
            ``sizes.C`` channels, ``sizes.T`` tokens, and so on.
        given, options: the inputs, and the options of ``npgpt.gradcheck``: ``params``, ``grads``, ``constants``,
            ``init``, ``training``, ``expects``, and the keyword arguments of forward.
        inputs: for a function of sizes: (sizes, rng) -> an array, a tuple of arrays, or a dict by name. By default,
            x (B, T, C).
        time_axis: the time axis of inputs and output of a causal layer; None for other layers.
        laws: the names of the laws; by default, all that the layer could break. Those about examples are among them
            only for x (B, T, C): name ``batch_permutation`` and ``examples_are_independent`` for other inputs.
        skip: the names of laws that the layer need not obey.
        examples: the number of sizes, for a function of sizes.
    Raises
        LawBroken, an AssertionError: the law, the tensor, the cell, the mistake, and lines that repeat the failure.
        ConfigError if there is no law of a name.
    """
    __tracebackhide__ = True
    for _, law in _laws(layer, given, inputs, time_axis, laws, skip, examples, options):
        law()


def parametrize_with_laws(
    layer: Any,
    *given: Any,
    inputs: Inputs | None = None,
    time_axis: int | None = None,
    laws: Collection[str] | None = None,
    skip: Collection[str] = (),
    expected_to_fail: Mapping[str, str] | None = None,
    examples: int = 15,
    **options: Any,
) -> Any:
    """Return a decorator that runs a test once for each law; the test calls its argument ``law``.

    Args
        expected_to_fail: the name of a law -> the reason why the layer is known to break it.
        The others are those of ``assert_obeys_laws``.
    """
    import pytest

    reasons = dict(expected_to_fail or {})
    _refuse_unknown(reasons)
    marks = {name: pytest.mark.xfail(reason=reason) for name, reason in reasons.items()}
    found = _laws(layer, given, inputs, time_axis, laws, skip, examples, options)
    return pytest.mark.parametrize(
        "law", [pytest.param(law, id=name, marks=[marks[name]] if name in marks else []) for name, law in found]
    )


class _BoundLaw:
    """A law and the layer that is held to it."""

    def __init__(self, trials: Trials, name: str) -> None:
        self.trials, self.name = trials, name

    def __repr__(self) -> str:
        return f"<{self.name} of {self.trials.name()}>"

    def __call__(self) -> None:
        __tracebackhide__ = True
        try:
            self.trials.check(self.name)
        except LawBroken as error:
            broken = LawBroken(*error.args)
        else:
            return
        raise broken  # from here, so that nobody sees the frames inside


def _laws(
    layer: Any, given: Any, inputs: Any, time_axis: Any, laws: Any, skip: Any, examples: Any, options: Any
) -> list[tuple[str, _BoundLaw]]:
    laws, skip = ([said] if isinstance(said, str) else said for said in (laws, skip))
    _refuse_unknown([*(laws or ()), *skip])
    trials = Trials(layer, given, options, inputs, time_axis, examples)
    return [(name, _BoundLaw(trials, name)) for name in (trials.laws() if laws is None else laws) if name not in skip]


def _refuse_unknown(names: Collection[str]) -> None:
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"there is no law {name!r}; {did_you_mean(str(name), NAMES)}")


def sizes(T: int = 5, D: int = 4, V: int = 6) -> st.SearchStrategy[Sizes]:
    """Draw small sizes from 1 on: at most 3 examples, 3 heads, and the given maxima of T, D and V."""
    return st.builds(
        Sizes, B=st.integers(1, 3), T=st.integers(1, T), H=st.integers(1, 3), D=st.integers(1, D), V=st.integers(1, V)
    )


def dtypes() -> st.SearchStrategy[Any]:
    """Draw float32 or float64."""
    return st.sampled_from([np.float32, np.float64])


def shapes(axes: int = 3, largest: int = 5, empty: bool = False) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw shapes of 1 to ``axes`` axes, of sizes up to ``largest``; with ``empty``, size 0 too."""
    size = st.integers(0 if empty else 1, largest)
    return st.lists(size, min_size=1, max_size=axes).map(tuple)


@st.composite
def arrays(draw: Any, shape: Any = None, dtype: Any = None, lowest: float = -4.0, highest: float = 4.0) -> Array:
    """Draw arrays of ordinary numbers in any memory layout: contiguous, with gaps, transposed, reversed.

    Args
        shape, dtype: values or strategies; random by default.
    """
    wanted = draw(shape) if isinstance(shape, st.SearchStrategy) else draw(shapes()) if shape is None else shape
    kind = draw(dtype) if isinstance(dtype, st.SearchStrategy) else draw(dtypes()) if dtype is None else dtype
    elements = st.floats(lowest, highest, width=32)
    x: Array = draw(numpy_strategies.arrays(kind, wanted, elements=elements))
    layout = draw(st.sampled_from(["contiguous", "with gaps", "turned", "backwards"]))
    if layout == "with gaps":
        room = np.zeros((*x.shape, 2), x.dtype)
        room[..., 1] = x
        return room[..., 1]
    if layout == "turned":
        return np.ascontiguousarray(x.T).T
    return x[::-1].copy()[::-1] if layout == "backwards" and x.ndim else x


def upstream_gradients(shape: tuple[int, ...], dtype: Any = np.float64) -> st.SearchStrategy[Array]:
    """Draw random upstream gradients: under constant ones, softmax and layer norm have the gradient zero."""

    def draw(seed: int) -> Array:
        dy: Array = np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(dtype)
        return dy

    return st.integers(0, 2**32 - 1).map(draw)


def token_ids(vocab_size: int, shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    """Draw ids of a vocabulary; its first id, its last id and repeated ids are frequent."""
    some = st.one_of(st.just(0), st.just(vocab_size - 1), st.integers(0, vocab_size - 1))
    return numpy_strategies.arrays(np.int64, shape, elements=some)


def extreme_values(shape: tuple[int, ...], dtype: Any = np.float32) -> st.SearchStrategy[Array]:
    """Draw finite numbers at the limits of a precision: huge, tiny, subnormal, both zeros."""
    info = np.finfo(dtype)
    ends = [0.0, -0.0, 1.0, -1.0, info.max, info.min, info.tiny, -info.tiny, info.smallest_subnormal, info.eps, 88.0]
    return numpy_strategies.arrays(dtype, shape, elements=st.sampled_from([float(x) for x in ends]))
