"""Every gradient is right, and the checker would see it if one were not: it is shown mistakes that people make."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npgpt import layers
from npgpt.core import Array, Cache, Layer, Param
from npgpt.layers import IGNORE_INDEX, visible
from npgpt.study.cases import CASES, Case, make_case
from npgpt.study.gradcheck import COMPLEX_STEP, DIFFERENCES, check_case, gradcheck
from npgpt.testing import LAWS


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_passes_by_both_methods(name: str) -> None:
    report = check_case(make_case(name))
    assert {check.method for check in report} == {"central difference", "complex step"}
    assert report.passed, f"\n{report}"


# ---- Mistakes: a backward that is wrong, the sentence that goes with it, and a case in which it must be seen.


def layernorm_drops_eps(self: layers.LayerNorm, dy: Array, cache: Cache) -> Array:
    rstd, xhat = cache["rstd"], cache["xhat"]
    wrong = 1 / np.sqrt(1 / rstd**2 - self.eps)
    self.gain.grad += (dy * xhat).sum((0, 1))
    self.bias.grad += dy.sum((0, 1))
    dxhat = dy * self.gain.value
    return wrong * (dxhat - dxhat.mean(-1, keepdims=True) - xhat * (dxhat * xhat).mean(-1, keepdims=True))


def layernorm_forgets_the_mean(self: layers.LayerNorm, dy: Array, cache: Cache) -> Array:
    dxhat = dy * self.gain.value
    return cache["rstd"] * (dxhat - cache["xhat"] * (dxhat * cache["xhat"]).mean(-1, keepdims=True))


def layernorm_forgets_the_variance(self: layers.LayerNorm, dy: Array, cache: Cache) -> Array:
    dxhat = dy * self.gain.value
    return cache["rstd"] * (dxhat - dxhat.mean(-1, keepdims=True))


def gelu_with_a_rounded_constant(self: layers.TanhGELU, dy: Array, cache: Cache) -> Array:
    x, t = cache["x"], cache["tanh"]
    return 0.5 * dy * (1 + t) + 0.5 * dy * x * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.0447 * x * x)


def exact_gelu_forgets_the_density(self: layers.GELU, dy: Array, cache: Cache) -> Array:
    return dy * cache["cdf"]


def relu_lets_everything_through(self: layers.ReLU, dy: Array, cache: Cache) -> Array:
    return dy


def scores_without_the_scale(self: layers.Scores, ds: Array, cache: Cache) -> tuple[Array, Array]:
    ds = ds * visible(ds.shape[-1])
    return ds @ cache["k"], ds.swapaxes(-1, -2) @ cache["q"]


def scores_dk_not_transposed(self: layers.Scores, ds: Array, cache: Cache) -> tuple[Array, Array]:
    ds = ds * visible(ds.shape[-1]) / math.sqrt(cache["q"].shape[-1])
    return ds @ cache["k"], ds @ cache["q"]


def scores_dk_reshaped(self: layers.Scores, ds: Array, cache: Cache) -> tuple[Array, Array]:
    ds = ds * visible(ds.shape[-1]) / math.sqrt(cache["q"].shape[-1])
    return ds @ cache["k"], (cache["q"].swapaxes(-1, -2) @ ds).reshape(cache["k"].shape)


def scores_swapped(self: layers.Scores, ds: Array, cache: Cache) -> tuple[Array, Array]:
    ds = ds * visible(ds.shape[-1]) / math.sqrt(cache["q"].shape[-1])
    return ds.swapaxes(-1, -2) @ cache["q"], ds @ cache["k"]


def scores_leak_through_the_mask(self: layers.Scores, ds: Array, cache: Cache) -> tuple[Array, Array]:
    ds = ds / math.sqrt(cache["q"].shape[-1])
    return ds @ cache["k"], ds.swapaxes(-1, -2) @ cache["q"]


def softmax_diagonal_only(self: layers.Softmax, dw: Array, cache: Cache) -> Array:
    return dw * cache["weights"] * (1 - cache["weights"])


def linear_sums_one_example(self: layers.Linear, dy: Array, cache: Cache) -> Array:
    x = cache["x"]
    self.weight.grad += x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    self.bias.grad += dy[0].sum(0)
    return dy @ self.weight.value.T


def linear_not_transposed(self: layers.Linear, dy: Array, cache: Cache) -> Array:
    x, weight = cache["x"], self.weight.value
    self.weight.grad += x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    self.bias.grad += dy.reshape(-1, dy.shape[-1]).sum(0)
    return dy @ (weight if weight.shape[0] == weight.shape[1] else weight.T)


def linear_in_float32(self: layers.Linear, dy: Array, cache: Cache) -> Array:
    x = cache["x"]
    self.weight.grad += x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    self.bias.grad += dy.reshape(-1, dy.shape[-1]).sum(0)
    return (dy @ self.weight.value.T).astype(np.float32).astype(np.float64)


def linear_notes_half(self: layers.Linear, dy: Array, cache: Cache) -> Array:
    x = cache["x"]
    self.weight.grad += x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    self.bias.grad += dy.reshape(-1, dy.shape[-1]).sum(0)
    return 2 * cache.note("x", 0.5 * dy @ self.weight.value.T)


def dropout_does_not_drop(self: layers.Dropout, dy: Array, cache: Cache) -> Array:
    return dy / (1 - self.p)


def dropout_does_not_scale(self: layers.Dropout, dy: Array, cache: Cache) -> Array:
    return dy * cache["mask"]


def embedding_loses_repeated_ids(self: layers.Embedding, dy: Array, cache: Cache) -> None:
    self.weight.grad[cache["ids"]] += dy


def positions_take_the_mean(self: layers.LearnedPositions, dy: Array, cache: Cache) -> Array:
    self.weight.grad[: dy.shape[1]] += dy.mean(0)
    return dy


def head_keeps_its_gradient(self: layers.VocabularyHead, dy: Array, cache: Cache) -> Array:
    return dy @ self.weight.value


def block_loses_the_residual(self: layers.Block, dy: Array, cache: Cache) -> Array:
    dmiddle = dy + self.mlp_norm.backward(self.mlp.backward(dy, cache.scope("mlp")), cache.scope("mlp_norm"))
    dinput = self.attention.backward(dmiddle, cache.scope("attention"))
    return self.attention_norm.backward(dinput, cache.scope("attention_norm"))


def loss_divides_by_all(self: layers.CrossEntropy, dloss: float, cache: Cache) -> Array:
    targets, count = cache["targets"], cache["targets"].size
    onehot = np.eye(cache["log_probabilities"].shape[-1])[np.where(targets == IGNORE_INDEX, 0, targets)]
    counted = (targets != IGNORE_INDEX)[..., None]
    return (np.exp(cache["log_probabilities"]) - onehot) * counted * dloss / count


def loss_pushes_where_nothing_counts(self: layers.CrossEntropy, dloss: float, cache: Cache) -> Array:
    targets, count = cache["targets"], int(cache["count"])
    onehot = np.eye(cache["log_probabilities"].shape[-1])[np.where(targets == IGNORE_INDEX, 0, targets)]
    onehot *= (targets != IGNORE_INDEX)[..., None]
    return (np.exp(cache["log_probabilities"]) - onehot) * dloss / count


def loss_ignores_upstream(self: layers.CrossEntropy, dloss: float, cache: Cache) -> Array:
    onehot = np.eye(cache["log_probabilities"].shape[-1])[cache["targets"]]
    return (np.exp(cache["log_probabilities"]) - onehot) / int(cache["count"])


MISTAKES: list[tuple[type[Layer], Callable[..., Any], str, str]] = [
    (layers.LayerNorm, layernorm_drops_eps, "LayerNorm", "input x"),
    (layers.LayerNorm, layernorm_forgets_the_mean, "LayerNorm", "input x"),
    (layers.LayerNorm, layernorm_forgets_the_variance, "Block", "input x"),
    (layers.TanhGELU, gelu_with_a_rounded_constant, "TanhGELU", "input x"),
    (layers.TanhGELU, gelu_with_a_rounded_constant, "Block", "param mlp.up.weight"),
    (layers.GELU, exact_gelu_forgets_the_density, "GELU", "input x"),
    (layers.ReLU, relu_lets_everything_through, "ReLU", "input x"),
    (layers.Scores, scores_without_the_scale, "Attention", "param qkv.weight"),
    (layers.Scores, scores_dk_not_transposed, "Attention", "kept k"),
    (layers.Scores, scores_dk_reshaped, "Attention", "kept k"),
    (layers.Scores, scores_swapped, "Attention", "kept q"),
    (layers.Scores, scores_leak_through_the_mask, "Scores", "input q"),
    (layers.Softmax, softmax_diagonal_only, "Attention", "kept scores"),
    (layers.Linear, linear_sums_one_example, "Linear", "param bias"),
    (layers.Linear, linear_not_transposed, "Attention", "kept mixed"),
    (layers.Linear, linear_notes_half, "Linear", "kept x"),
    (layers.Dropout, dropout_does_not_drop, "Attention-dropout", "kept weights"),
    (layers.Dropout, dropout_does_not_scale, "Dropout", "input x"),
    (layers.Embedding, embedding_loses_repeated_ids, "Embedding", "param weight"),
    (layers.LearnedPositions, positions_take_the_mean, "GPT", "param positions.weight"),
    (layers.VocabularyHead, head_keeps_its_gradient, "GPT-tied", "param gpt.embedding.weight"),
    (layers.Block, block_loses_the_residual, "Block", "input x"),
    (layers.CrossEntropy, loss_divides_by_all, "CrossEntropy-ignore", "input logits"),
    (layers.CrossEntropy, loss_pushes_where_nothing_counts, "CrossEntropy-ignore", "input logits"),
    (layers.CrossEntropy, loss_ignores_upstream, "CrossEntropy", "input logits"),
]


@pytest.mark.parametrize(
    ("kind", "wrong", "name", "tensor"), MISTAKES, ids=lambda part: getattr(part, "__name__", part)
)
@pytest.mark.parametrize("method", [DIFFERENCES, COMPLEX_STEP], ids=lambda method: method.name)
def test_mistake_is_caught(
    kind: type[Layer], wrong: Any, name: str, tensor: str, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "backward", wrong)
    failed = {check.tensor for check in check_case(make_case(name), [method]) if not check.passed}
    assert tensor in failed


def test_a_float32_round_trip_is_caught_by_complex_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers.Linear, "backward", linear_in_float32)
    verdicts = {check.method: check.passed for check in check_case(make_case("Linear")) if check.tensor == "input x"}
    assert verdicts == {"central difference": True, "complex step": False}


def test_upstream_ones_would_let_a_zero_backward_pass() -> None:
    softmax, cache = layers.Softmax(), Cache()
    w = softmax.forward(np.random.default_rng(0).normal(size=(2, 3)), cache)
    assert np.allclose(softmax.backward(np.ones_like(w), cache), 0)


# ---- Mistakes that are no wrong derivative: the laws see them.


def linear_overwrites(self: layers.Linear, dy: Array, cache: Cache) -> Array:
    self.weight.grad[...] = cache["x"].reshape(-1, cache["x"].shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    self.bias.grad += dy.reshape(-1, dy.shape[-1]).sum(0)
    return cache.note("x", dy @ self.weight.value.T)


def dropout_writes_into_dy(self: layers.Dropout, dy: Array, cache: Cache) -> Array:
    dy *= cache["mask"] / (1 - self.p)
    return dy


def softmax_uses_up_its_cache(self: layers.Softmax, dw: Array, cache: Cache) -> Array:
    w = cache["weights"]
    dw = dw - (dw * w).sum(-1, keepdims=True)
    w *= dw
    return w


def relu_adds_one(self: layers.ReLU, dy: Array, cache: Cache) -> Array:
    return cache.note("x", (dy + 1) * (cache["x"] > 0))


def positions_of_examples(self: layers.LearnedPositions, x: Array, cache: Cache) -> Array:
    return x + self.weight.value[: len(x), None]


def norm_over_the_batch(self: layers.LayerNorm, x: Array, cache: Cache) -> Array:
    xhat = cache.keep("xhat", (x - x.mean(0)) / np.sqrt(((x - x.mean(0)) ** 2).mean(0) + self.eps))
    rstd = cache.keep("rstd", np.ones((*x.shape[:-1], 1)))
    return xhat * rstd * self.gain.value + self.bias.value


def scores_see_the_future(self: layers.Scores, q: Array, k: Array, cache: Cache) -> Array:
    return cache.keep("q", q) @ cache.keep("k", k).swapaxes(-1, -2) / math.sqrt(q.shape[-1])


def norm_in_float64(self: layers.LayerNorm, x: Array, cache: Cache) -> Array:
    rstd = cache.keep("rstd", 1 / np.sqrt(x.var(-1, keepdims=True).astype(np.float64) + self.eps))
    return cache.keep("xhat", (x - x.mean(-1, keepdims=True)) * rstd) * self.gain.value + self.bias.value


def linear_takes_what_fits(self: layers.Linear, x: Array, cache: Cache) -> Array:
    return cache.keep("x", x[..., : len(self.weight.value)]) @ self.weight.value + self.bias.value


LAW_BREAKERS = [
    (layers.Linear, "backward", linear_overwrites, "Linear", "two_backwards_double"),
    (layers.Dropout, "backward", dropout_writes_into_dy, "Dropout", "nothing_handed_in_is_changed"),
    (layers.Softmax, "backward", softmax_uses_up_its_cache, "Softmax", "two_backwards_double"),
    (layers.ReLU, "backward", relu_adds_one, "ReLU", "backward_is_linear"),
    (layers.ReLU, "backward", relu_lets_everything_through, "ReLU", "every_kept_array_is_noted"),
    (layers.Linear, "backward", linear_notes_half, "Linear", "noted_gradients_are_right"),
    (layers.LearnedPositions, "forward", positions_of_examples, "LearnedPositions", "batch_permutation"),
    (layers.LayerNorm, "forward", norm_over_the_batch, "LayerNorm", "examples_are_independent"),
    (layers.LayerNorm, "forward", norm_in_float64, "LayerNorm", "shapes_and_dtypes"),
    (layers.Scores, "forward", scores_see_the_future, "Attention", "causality"),
    (layers.Linear, "forward", linear_takes_what_fits, "Linear", "wrong_shape_is_refused"),
]


@pytest.mark.parametrize(
    ("kind", "method", "wrong", "name", "law"), LAW_BREAKERS, ids=lambda p: getattr(p, "__name__", p)
)
def test_law_is_seen_to_be_broken(
    kind: type[Layer], method: str, wrong: Any, name: str, law: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = next(candidate for candidate in LAWS if candidate.__name__ == law)
    judge(make_case(name))
    monkeypatch.setattr(kind, method, wrong)
    with pytest.raises(AssertionError):
        judge(make_case(name))


# ---- The function that readers call.


class Scale(Layer):
    def __init__(self, n: int, factor: float = 1.0) -> None:
        self.gain = Param(np.ones(n, np.float32))
        self.factor = factor

    def forward(self, x: Array, cache: Cache) -> Array:
        return cache.keep("x", x) * self.gain.value

    def backward(self, dy: Array, cache: Cache) -> Array:
        self.gain.grad += (dy * cache["x"]).sum((0, 1))
        return cache.note("x", self.factor * dy * self.gain.value)


def test_gradcheck_of_a_readers_layer() -> None:
    x = np.ones((2, 3, 4), np.float32)
    assert gradcheck(Scale(4), x).passed
    report = gradcheck(Scale(4, factor=1.01), x)
    assert not report.passed
    assert "WRONG" in str(report)
    assert {check.tensor for check in report if not check.passed} == {"input x", "kept x"}


def test_gradcheck_leaves_the_layer_as_it_was() -> None:
    layer = Scale(4)
    gradcheck(layer, np.ones((2, 3, 4)))
    assert layer.gain.value.dtype == np.float32
    assert not layer.gain.grad.any()


def test_key_bias_has_no_gradient() -> None:
    case: Case = make_case("Attention")
    cache = case.cache()
    case.backward(np.random.default_rng(0).normal(size=case.forward(cache).shape), cache)
    q, k, v = np.split(case.layer.parameters()["qkv.bias"].grad, 3)
    assert np.abs(k).max() < 1e-13 < np.abs(q).max()
    assert np.abs(v).max() > 0.1
