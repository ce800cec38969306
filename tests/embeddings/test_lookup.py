"""A lookup equals a one-hot matrix product, and all ways to compute its gradient agree."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npgpt.layers as layers
from npgpt.core import Array, Cache
from npgpt.embeddings.lookup import WAYS, OneHotEmbedding, by_kernel, one_hot
from npgpt.errors import ShapeError
from npgpt.study.check.cases import Case, Sizes, of_order_one
from npgpt.study.check.checker import gradcheck
from npgpt.study.check.laws import Law, laws_for
from npgpt.testing import assert_obeys_laws, sizes

SHAPES = st.lists(st.integers(0, 6), min_size=1, max_size=3).map(tuple)  # of ids; with a 0 there are none
SEEDS = st.integers(0, 2**32 - 1)
KINDS = st.sampled_from([np.int64, np.int32, np.uint8])
EVERY_WAY = pytest.mark.parametrize("way", WAYS)


def draw(V: int, C: int, shape: tuple[int, ...], seed: int, dtype: Any = np.float64) -> tuple[Array, Array, Array]:
    """Return dy, ids and a table of earlier gradients. All are integers, so their sums are exact."""
    rng = np.random.default_rng(seed)
    dy, dtable = (rng.integers(-99, 99, size).astype(dtype) for size in ((*shape, C), (V, C)))
    return dy, rng.integers(0, V, shape), dtable


def plain_loop(dy: Array, ids: Array, dtable: Array) -> Array:
    right = dtable.copy()
    for place in np.ndindex(ids.shape):
        right[ids[place]] += dy[place]
    return right


@given(V=st.integers(1, 9), C=st.integers(1, 5), shape=SHAPES, seed=SEEDS, kind=KINDS)
def test_both_layers_agree(V: int, C: int, shape: tuple[int, ...], seed: int, kind: Any) -> None:
    rng = np.random.default_rng(seed)
    lookup, product = layers.Embedding(V, C), OneHotEmbedding(V, C)
    lookup.weight.value[:] = product.weight.value[:] = rng.normal(size=(V, C))
    ids, dy = rng.integers(0, V, shape).astype(kind), rng.normal(size=(*shape, C))
    passes = [(layer, Cache()) for layer in (lookup, product)]
    y, z = (layer.forward(ids, cache) for layer, cache in passes)
    assert np.array_equal(y, z)  # a sum of zeros and one number
    assert [layer.backward(dy, cache) for layer, cache in passes] == [None, None]
    assert np.allclose(lookup.weight.grad, product.weight.grad, rtol=1e-12, atol=1e-12)


@EVERY_WAY
def test_each_way_equals_the_plain_loop(way: str) -> None:
    @given(V=st.integers(1, 9), C=st.integers(1, 80), shape=SHAPES, seed=SEEDS, kind=KINDS)
    def check(V: int, C: int, shape: tuple[int, ...], seed: int, kind: Any) -> None:
        for dtype in (np.float32,) if way == "compiled" else (np.float32, np.float64):
            dy, ids, dtable = draw(V, C, shape, seed, dtype)
            right = plain_loop(dy, ids, dtable)
            WAYS[way](dy, ids.astype(kind), dtable)
            assert dtable.dtype == dtype and np.array_equal(dtable, right)

    check()


@given(V=st.integers(1, 9), shape=SHAPES, seed=SEEDS)
def test_the_ways_agree_up_to_rounding(V: int, shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    dy, ids = rng.standard_normal((*shape, 3), np.float32), rng.integers(0, V, shape)
    tables = {name: np.zeros((V, 3), np.float32) for name in WAYS}
    for name, way in WAYS.items():
        way(dy, ids, tables[name])
    for name, table in tables.items():
        assert np.allclose(table, tables["add.at"], rtol=1e-5, atol=1e-4), name


@EVERY_WAY
@pytest.mark.parametrize("ids", [[], [2], [1, 1, 1, 1], [2, 0, 2], [3, 2, 1, 0]], ids=str)
def test_no_id_one_id_and_repeated_ids(way: str, ids: list[int]) -> None:
    dy = np.arange(2 * len(ids), dtype=np.float32).reshape(-1, 2)
    dtable = np.ones((4, 2), np.float32)
    right = plain_loop(dy, np.array(ids, int), dtable)
    WAYS[way](dy, np.array(ids, int), dtable)
    assert np.array_equal(dtable, right)


@EVERY_WAY
def test_memory_layout_does_not_matter(way: str) -> None:
    dy, ids, dtable = draw(7, 20, (3, 4), 0, np.float32)
    right = plain_loop(dy, ids, dtable)
    before = dy.copy(), ids.copy()
    room = np.zeros((*dy.shape, 2), np.float32)
    room[..., 1] = dy
    WAYS[way](room[..., 1], np.asfortranarray(ids), dtable)
    assert np.array_equal(dtable, right)
    assert np.array_equal(room[..., 1], before[0]) and np.array_equal(ids, before[1])


def test_rows_without_an_id_stay_unchanged() -> None:
    for name, way in WAYS.items():
        dtable = np.full((5, 3), 7, np.float32)
        way(np.ones((2, 3), np.float32), np.array([4, 4]), dtable)
        assert dtable[:4].tolist() == [[7, 7, 7]] * 4, name
        assert dtable[4].tolist() == [9, 9, 9], name


def make_case(of: Sizes, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, of.V, (of.B, of.T))
    layer = of_order_one(OneHotEmbedding(of.V, of.C), rng)
    return Case("OneHotEmbedding", layer, {"ids": ids}, {"ids": ids + of.V}, time_axis=1)


@pytest.mark.parametrize("law", laws_for(make_case(Sizes(), 0)), ids=lambda law: law.__name__)
def test_laws(law: Law) -> None:
    @given(of=sizes(), seed=st.integers(0, 1000))
    def check(of: Sizes, seed: int) -> None:
        law(make_case(of, seed))

    check()


def test_the_checker_confirms_every_gradient_of_the_one_hot_layer() -> None:
    case = make_case(Sizes(), 0)
    report = gradcheck(case.layer, case.inputs["ids"])
    assert report.passed, f"\n{report}"
    assert {check.tensor for check in report} == {"param weight", "kept onehot"}
    assert_obeys_laws(
        lambda of: OneHotEmbedding(of.V, of.C),
        inputs=lambda of, rng: {"ids": rng.integers(0, of.V, (of.B, of.T))},
        laws=["gradients_are_right"],
    )


class LosesRepeats(OneHotEmbedding):
    def backward(self, dy: Array, cache: Cache) -> None:
        cache.note("onehot", dy @ self.weight.value.T)
        self.weight.grad[cache["onehot"].argmax(-1)] += dy


class LeavesOutOneHot(OneHotEmbedding):
    def backward(self, dy: Array, cache: Cache) -> None:
        super().backward(dy, cache)
        cache.note("onehot", cache["onehot"] * (dy @ self.weight.value.T))  # only at the one


@pytest.mark.parametrize(
    ("wrong", "tensor"), [(LosesRepeats, "param weight"), (LeavesOutOneHot, "kept onehot")], ids=str
)
def test_the_checker_finds_mistakes(wrong: type[OneHotEmbedding], tensor: str) -> None:
    layer = of_order_one(wrong(5, 3), np.random.default_rng(0))
    report = gradcheck(layer, np.array([[1, 4, 1], [0, 1, 2]]))
    assert {check.tensor for check in report if not check.passed} == {tensor}


def test_an_infinite_weight_affects_only_the_product() -> None:
    lookup, product = layers.Embedding(3, 2), OneHotEmbedding(3, 2)
    lookup.weight.value[2, 0] = product.weight.value[2, 0] = np.inf
    ids = np.array([0, 1])
    assert not lookup.forward(ids, Cache()).any()
    with np.errstate(invalid="ignore"):
        y = product.forward(ids, Cache())
    assert np.isnan(y[:, 0]).all() and not y[:, 1].any()


def test_one_hot() -> None:
    onehot = one_hot(np.array([[1, 1], [0, 2]], np.uint64), 3, np.float32)
    assert onehot.dtype == np.float32
    assert onehot.tolist() == [[[0, 1, 0], [0, 1, 0]], [[1, 0, 0], [0, 0, 1]]]
    assert one_hot(np.zeros((2, 0), int), 3).shape == (2, 0, 3)
    with pytest.raises(ShapeError, match=r"one_hot: ids\[1\] is 3, but the vocabulary has 3 ids, 0 to 2"):
        one_hot(np.array([0, 3]), 3)


@EVERY_WAY
def test_wrong_shapes_and_ids_are_rejected(way: str) -> None:
    dy, ids, dtable = np.zeros((2, 3), np.float32), np.array([0, 4]), np.zeros((5, 3), np.float32)
    add = WAYS[way]
    with pytest.raises(ShapeError, match=r"ids\[1\] is 5, but the vocabulary has 5 ids"):
        add(dy, ids + 1, dtable)
    with pytest.raises(ShapeError, match=r"ids\[0\] is -1"):
        add(dy, ids - 1, dtable)
    with pytest.raises(ShapeError, match=r"dy has shape \(2, 2\), expected \(2, 3\)"):
        add(dy[:, :2], ids, dtable)
    with pytest.raises(ShapeError, match=r"dtable has shape \(15,\), expected \(V, C\)"):
        add(dy, ids, dtable.reshape(-1))
    with pytest.raises(ShapeError, match="dy is float64, expected float32"):
        add(dy.astype(np.float64), ids, dtable)
    with pytest.raises(ShapeError, match="ids must be an array of integers"):
        add(dy, ids.astype(float), dtable)


def test_the_kernel_rejects_other_types_and_layouts() -> None:
    ids = np.array([0, 4])
    with pytest.raises(ShapeError, match="by_kernel: dtable is float64, expected float32; convert it with"):
        by_kernel(np.zeros((2, 3)), ids, np.zeros((5, 3)))
    with pytest.raises(ShapeError, match=r"dtable \(5, 3\) is not C-contiguous"):
        by_kernel(np.zeros((2, 3), np.float32), ids, np.zeros((3, 5), np.float32).T)
