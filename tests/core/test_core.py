"""Param, Cache and Layer: ownership, sharing, and errors."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt import gradcheck, layers, twin
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache, FlatParams, Layer, Param
from npgpt.core.shapes import check_array, check_ids
from npgpt.core.values import flag, real, whole
from npgpt.errors import ConfigError, ShapeError
from npgpt.layers import Linear
from npgpt.model import GPT

TINY = GPTConfig(vocab_size=7, context_length=4, n_layer=2, n_head=2, n_embd=6)
IDS = np.array([[1, 2, 3], [4, 5, 6]])


def test_keep_returns_the_array_and_rejects_a_repeated_name() -> None:
    cache, x = Cache(), np.ones(3)
    assert cache.keep("x", x) is x is cache["x"]
    with pytest.raises(KeyError, match=r"x is already kept: reset\(\)"):
        cache.keep("x", x)
    cache.reset()
    cache.keep("x", x)


def test_without_record_only_names_are_kept() -> None:
    cache = Cache(record=False)
    cache.keep("x", np.ones(3))
    with pytest.raises(KeyError, match="already kept"):
        cache.keep("x", np.ones(3))
    with pytest.raises(KeyError, match="record=False"):
        cache["x"]
    assert list(cache.walk()) == []


def test_sub_layers_and_arrays_have_distinct_names() -> None:
    cache = Cache()
    cache.scope("a")
    with pytest.raises(KeyError, match="sub-layer"):
        cache.keep("a", np.ones(1))
    cache.keep("b", np.ones(1))
    with pytest.raises(KeyError, match="kept array"):
        cache.scope("b")


def test_backward_before_forward_raises() -> None:
    with pytest.raises(KeyError, match=r"blocks\.0\.x was not kept: run forward"):
        Cache().scope("blocks.0")["x"]


def test_note_stores_a_copy_only_in_a_trace_and_replaces_it() -> None:
    for trace in (False, True):
        cache, grad = Cache(trace=trace), np.ones(2)
        cache.scope("a").keep("x", np.zeros(2))
        assert cache.scope("a").note("x", grad) is grad
        grad[:] = 5
        ((path, _, noted),) = cache.walk()
        assert path == "a.x"
        assert noted is None if not trace else noted.tolist() == [1, 1]
        cache.scope("a").note("x", grad)
        assert not trace or next(cache.walk())[2].tolist() == [5, 5]


def test_note_rejects_a_gradient_of_another_shape() -> None:
    cache = Cache()
    cache.keep("x", np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"gradient of x has shape \(2,\), the array \(2, 3\)"):
        cache.note("x", np.zeros(2))


def test_walk_follows_forward_order_and_can_be_limited_to_a_scope() -> None:
    model = GPT(TINY)
    cache = Cache()
    model.loss(IDS, IDS, cache)
    paths = [path for path, _, _ in cache.walk()]
    assert paths[:3] == ["embedding.ids", "embedded", "positioned"]
    assert paths[-1] == "cross_entropy.log_probabilities"
    inside = [path for path, _, _ in cache.scope("blocks.1").scope("attention").walk()]
    assert inside == [path for path in paths if path.startswith("blocks.1.attention.")]
    assert {f"blocks.1.attention.{name}" for name in ("q", "k", "v", "scores", "weights", "mixed")} <= set(inside)


def test_settings_are_read_from_the_root_and_reset_changes_three_of_them() -> None:
    cache = Cache(seed=3)
    scope = cache.scope("a").scope("b")
    cache.reset(training=True, step=7, first_example=2)
    assert (scope.training, scope.seed, scope.step, scope.first_example) == (True, 3, 7, 2)
    cache.reset()
    assert (scope.training, scope.step, scope.first_example) == (True, 7, 2)
    with pytest.raises(ValueError, match=r"scope 'a\.b' cannot be reset alone"):
        scope.reset()


def test_buffers_belong_to_one_scope_and_survive_reset() -> None:
    cache = Cache()
    first = cache.scope("a").buffer("x", (2, 3), np.float32)
    cache.reset()
    assert np.shares_memory(first, cache.scope("a").buffer("x", (3,), np.float32))
    assert not np.shares_memory(first, cache.scope("b").buffer("x", (2, 3), np.float32))
    assert not np.shares_memory(first, cache.scope("a").buffer("x", (2, 3), np.float64))


def test_scratch_is_shared_by_all_scopes() -> None:
    cache = Cache()
    assert np.shares_memory(cache.scope("a").scratch("x", (4,), float), cache.scope("b").scratch("x", (2, 2), float))


def test_parameters_are_views_of_one_vector_with_matrices_first() -> None:
    model = GPT(TINY)
    for param in model.parameters().values():
        assert np.shares_memory(param.value, model.flat.values)
        assert np.shares_memory(param.grad, model.flat.grads)
    matrices = [param for param in model.parameters().values() if param.value.ndim == 2]
    assert sum(param.value.size for param in matrices) == model.flat.n_matrix
    model.flat.values[: model.flat.n_matrix] = 0
    assert not any(param.value.any() for param in matrices)
    assert model.norm.gain.value.all()


def test_tied_weights_are_one_parameter_listed_once() -> None:
    tied, untied = GPT(TINY), GPT(GPTConfig(**TINY.__dict__ | {"tie_weights": False}))
    assert tied.lm_head.weight is tied.embedding.weight
    assert "lm_head.weight" not in tied.parameters()
    assert set(untied.parameters()) - set(tied.parameters()) == {"lm_head.weight"}
    assert untied.flat.values.size - tied.flat.values.size == 7 * 6


def test_astype_copies_values_and_keeps_ties() -> None:
    model = GPT(TINY)
    double = model.astype(np.float64)
    assert double.lm_head.weight is double.embedding.weight is not model.embedding.weight
    assert double.flat.values.dtype == np.float64
    assert np.array_equal(double.flat.values, model.flat.values)
    double.flat.values[:] = 0
    assert model.flat.values.any()
    assert all(np.shares_memory(param.value, double.flat.values) for param in double.parameters().values())


def test_deep_copy_is_packed_tied_and_independent() -> None:
    model = GPT(TINY)
    other = copy.deepcopy(model)
    for gpt in (model, other):
        cache = Cache()
        gpt.loss(IDS, IDS, cache)
        gpt.loss_backward(1.0, cache)
    assert np.array_equal(model.flat.grads, other.flat.grads) and model.flat.grads.any()
    other.zero_grad()
    assert model.flat.grads.any() and not other.flat.grads.any()
    other.flat.values[:] = 1
    assert (other.norm.gain.value == 1).all() and (other.lm_head.weight.value == 1).all()
    assert other.flat.values.dtype == np.float32
    assert other.lm_head.weight is other.embedding.weight
    assert not (model.flat.values == 1).all()


def test_packing_a_parent_replaces_the_vectors_of_children() -> None:
    block = layers.Block(4, 2)
    block.mlp.pack(np.float64)
    block.pack(np.float32)
    assert block.mlp.flat is None


def test_recast_layer_shares_parameters_and_vectors() -> None:
    model = GPT(TINY)
    other = model.recast(type)
    assert other is not model and other.norm is not model.norm
    assert other.flat is model.flat
    assert all(other.parameters()[path] is param for path, param in model.parameters().items())
    assert other.lm_head.weight is model.embedding.weight
    assert np.array_equal(model.forward(IDS, Cache()), other.forward(IDS, Cache()))


def test_initialisation_depends_only_on_seed_and_path() -> None:
    one, other = GPT(TINY), GPT(GPTConfig(**TINY.__dict__ | {"n_layer": 3}))
    assert np.array_equal(one.blocks[1].mlp.up.weight.value, other.blocks[1].mlp.up.weight.value)
    assert not np.array_equal(one.flat.values, GPT(TINY, seed=1).flat.values)
    wide = GPT(GPTConfig(vocab_size=400, n_layer=2, n_embd=64))
    assert wide.embedding.weight.value.std() == pytest.approx(0.02, rel=0.03)
    assert wide.blocks[0].mlp.down.weight.value.std() == pytest.approx(0.02 / 2, rel=0.03)  # √(2·n_layer) = 2


def test_repr_names_parameters_and_children() -> None:
    assert repr(layers.Linear(2, 3)) == "Linear(weight (2, 3), bias (3,))"
    assert repr(layers.MLP(2)) == "MLP(up, activation, down, dropout)"
    assert repr(Param(np.zeros((2, 3)))) == "Param(2, 3)"


@given(st.lists(st.sampled_from([(2, 3), (4,), (1, 1), (0,), ()]), max_size=6))
def test_flat_vector_holds_every_number_once(shapes: list[tuple[int, ...]]) -> None:
    params = [Param(np.full(shape, float(i + 1))) for i, shape in enumerate(shapes)]
    flat = FlatParams(params, np.float32)
    assert sorted(flat.values.tolist()) == sorted(
        float(i + 1) for i, s in enumerate(shapes) for _ in range(np.prod(s, dtype=int))
    )
    assert [param.value.shape for param in params] == shapes


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([1.0], "must be a NumPy array, not list"),
        (np.zeros((2, 5)), r"x has shape \(2, 5\), expected \(\.\.\., 4\)"),
        (np.zeros(()), r"x has shape \(\), expected"),
        (np.zeros((2, 4), np.float32), r"x is float32, expected float64; .*astype\(np.float64\)"),
        (np.zeros((2, 4), int), "x is int64"),
    ],
)
def test_check_array_names_the_given_and_the_expected(array: object, message: str) -> None:
    with pytest.raises(ShapeError, match=f"Linear: .*{message}"):
        layers.Linear(4, 2).forward(array, Cache())


def test_check_array_accepts_complex_numbers() -> None:
    check_array("Linear", "x", np.zeros((2, 4), complex), (..., 4), like=np.zeros(1))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([[1, 2], [3, 9]]), r"ids\[1, 1\] is 9, but the vocabulary has 7 ids, 0 to 6"),
        (np.array([[-1, 2]]), r"ids\[0, 0\] is -1"),
        (np.array([[1.0]]), "array of integers, not an array of float64"),
        ([[1]], "array of integers, not list"),
        (np.array([1, 2]), r"ids has shape \(2,\), expected \(B, T\)"),
        (np.array([[1, 2, 3, 4, 5]]), r"5 tokens in a row, expected 1 to 4 \(context_length\)"),
        (np.zeros((1, 0), int), "0 tokens in a row"),
    ],
)
def test_model_rejects_invalid_ids(ids: object, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        GPT(TINY).forward(ids, Cache())


def test_model_rejects_invalid_targets() -> None:
    with pytest.raises(ShapeError, match=r"targets\[0, 1\] is 7"):
        GPT(TINY).loss(IDS[:1], np.array([[0, 7, 0]]), Cache())
    check_ids("x", "ids", np.array([-100, 3]), 4, "vocabulary", ignore=-100)


def test_layer_without_parameters() -> None:
    assert layers.ReLU().parameters() == {}
    assert isinstance(layers.ReLU().astype(np.float32), Layer)


# ---- Parts of a layer, wherever they stand.


class Scattered(Layer):
    """Params and layers in lists, tuples and dicts, and in lists of dicts."""

    def __init__(self) -> None:
        self.gains = [Param(np.full(3, 2.0)), Param(np.full(3, 3.0))]
        self.pair = (Param(np.full(3, 0.5)), 7)
        self.heads = {"q": Linear(3, 3), "deep": [{"v": Linear(3, 3)}]}
        self.sizes = [3, 3]

    def forward(self, x: Array, cache: Cache) -> Array:
        y = cache.keep("x", x) * self.gains[0].value * self.gains[1].value * self.pair[0].value
        y = cache.keep("y", y)
        return self.heads["q"].forward(y, cache.scope("q")) + self.heads["deep"][0]["v"].forward(y, cache.scope("v"))

    def backward(self, dz: Array, cache: Cache) -> Array:
        dy = self.heads["q"].backward(dz, cache.scope("q")) + self.heads["deep"][0]["v"].backward(dz, cache.scope("v"))
        cache.note("y", dy)
        gains = [*self.gains, self.pair[0]]
        for i, gain in enumerate(gains):
            others = np.prod([other.value for j, other in enumerate(gains) if j != i], axis=0)
            gain.grad += (dy * cache["x"] * others).sum((0, 1))
        return cache.note("x", dy * np.prod([gain.value for gain in gains], axis=0))


def test_parts_in_lists_tuples_and_dicts_are_found_trained_copied_and_recast() -> None:
    layer = Scattered()
    paths = ["gains.0", "gains.1", "pair.0", "heads.q.weight", "heads.q.bias"]
    paths += ["heads.deep.0.v.weight", "heads.deep.0.v.bias"]
    assert sorted(layer.parameters()) == sorted(paths)
    assert len(layer.pack(np.float64).values) == 3 * 3 + 2 * 12
    report = gradcheck(layer, np.random.default_rng(0).normal(size=(2, 4, 3)))
    assert report.passed and {f"param {path}" for path in paths} <= report.verdicts.keys(), f"\n{report}"
    compiled = twin(layer.astype(np.float32), "compiled")
    assert type(compiled.heads["deep"][0]["v"]).COMPILED and compiled.sizes == [3, 3]
    assert compiled.parameters().keys() == layer.parameters().keys()
    copied = copy.deepcopy(layer)
    assert copied.gains[0] is not layer.gains[0] and copied.parameters().keys() == layer.parameters().keys()


class Holder:
    def __init__(self, param: Param) -> None:
        self.inner = [param]


@pytest.mark.parametrize(("make", "name"), [(Holder, "helper.inner.0"), (lambda param: {param}, "helper.0")])
def test_a_param_where_nobody_would_train_it_is_refused_by_name(make: Callable[[Param], Any], name: str) -> None:
    layer = Linear(2, 2)
    layer.helper = make(Param(np.ones(2)))  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=name):
        layer.parameters()


@pytest.mark.parametrize("value", [np.timedelta64(3), np.timedelta64(3, "ns"), np.datetime64(3, "ns")], ids=repr)
@pytest.mark.parametrize("convert", [whole, real, flag])
def test_times_are_no_numbers(value: Any, convert: Callable[..., Any]) -> None:
    for scalar in (value, np.array(value)):
        with pytest.raises(ConfigError, match="n must be .*, not (np|an array)"):
            convert("who", "n", scalar)


@pytest.mark.parametrize("seed", [10**5000, -(10**5000), 2**64], ids=["long", "negative", "65 bits"])
def test_seeds_have_64_bits(seed: int) -> None:
    for call in (lambda: Cache(seed=seed), lambda: GPT(TINY, seed=seed)):
        with pytest.raises(ConfigError, match=r"seed must be at .*18446744073709551615, not (an integer of|18446)"):
            call()
    assert whole("who", "n", np.uint64(2**64 - 1)) == 2**64 - 1
