# B batch, T time, C channels
"""Property tests for your own layers: strategies, laws, and one call that checks all laws.

    from npgpt.testing import assert_obeys_laws

    def test_my_layer():
        assert_obeys_laws(lambda sizes: MyLayer(sizes.C))

``LAWS`` must hold for every layer; a law takes a ``Case``. ``INVARIANTS`` are facts about the gradients of particular
layers. The other functions are strategies for hypothesis. No other module of npgpt imports hypothesis.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from npgpt.core import Array, Layer
from npgpt.study.check import INVARIANTS, LAWS, LAWS_OF_COMPILED, Case, Law, Sizes, check_case, laws_for

__all__ = [
    "INVARIANTS", "LAWS", "LAWS_OF_COMPILED", "Case", "Law", "Sizes", "arrays", "assert_obeys_laws", "dtypes",
    "extreme_values", "gradients_are_right", "shapes", "sizes", "token_ids", "upstream_gradients"
]  # fmt: skip


def assert_obeys_laws(
    make_layer: Callable[[Sizes], Layer],
    inputs: Callable[[Sizes, np.random.Generator], dict[str, Any]] | None = None,
    *,
    time_axis: int | None = None,
    training: bool = False,
    laws: Sequence[Law] = LAWS,
    examples: int = 15,
) -> None:
    """Test a layer over random sizes, weights and inputs: the laws, and every gradient by every method.

    Args
        make_layer: makes the layer from random sizes: ``sizes.C`` channels, ``sizes.T`` tokens, and so on.
        inputs: returns argument of forward -> value; by default, one float64 array x (B, T, C).
        time_axis: the time axis of inputs and output of a causal layer; None for other layers.
        training: whether the passes are training passes.
        laws: the laws to check; leave out those that your layer need not obey.
        examples: the number of random sizes for each law.
    Raises
        AssertionError that names the law, or the tensor and the mistake in its gradient.
    """

    def case(drawn: Sizes, seed: int) -> Case:
        rng = np.random.default_rng(seed)
        made = make_layer(drawn)
        layer = made.astype(np.float64)
        for param in layer.parameters().values():
            param.value[...] = 0.5 * rng.normal(size=param.value.shape)  # small weights would hide mistakes
        given_inputs = inputs(drawn, rng) if inputs else {"x": rng.normal(size=(drawn.B, drawn.T, drawn.C))}
        return Case(type(made).__name__, layer, given_inputs, time_axis=time_axis, training=training)

    def check(law: Law) -> None:
        @settings(max_examples=examples, deadline=None, database=None)
        @given(drawn=sizes(), seed=st.integers(0, 1000))
        def holds(drawn: Sizes, seed: int) -> None:
            law(case(drawn, seed))

        holds()

    for law in (*laws_for(case(Sizes(), 0), laws), gradients_are_right):
        try:
            check(law)
        except AssertionError as error:
            raise AssertionError(f"breaks the law {law.__name__}: {error}") from error


def gradients_are_right(case: Case) -> None:
    """Assert that the checker finds every gradient right, by every method."""
    report = check_case(case, until_wrong=True)
    assert report.passed, f"\n{report}"


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
