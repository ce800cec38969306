"""Every gradient is right by every method, and whatever a reader hands in can be checked."""

import math
from typing import Any

import numpy as np
import pytest

from npgpt import layers
from npgpt.cli import main
from npgpt.core import Array, Cache, Layer, Param
from npgpt.errors import ConfigError
from npgpt.study.check.cases import CASES, Case, compile_case, make_case
from npgpt.study.check.checker import check_case, gradcheck
from npgpt.study.check.laws import LAWS, equals_its_textbook_twin, keeps_what_it_declares
from npgpt.study.check.report import METHODS


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_passes_all_methods(name: str) -> None:
    report = check_case(make_case(name))
    assert {check.method for check in report} == set(METHODS)
    assert report.passed and not any(check.skipped for check in report), f"\n{report}"


def test_complex_step_and_tape_find_a_float32_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_float32(self: layers.Linear, dy: Array, cache: Cache) -> Array:
        return right(self, dy, cache).astype(np.float32).astype(np.float64)

    right = layers.Linear.backward
    monkeypatch.setattr(layers.Linear, "backward", in_float32)
    report = check_case(make_case("Linear"))
    seen = {check.method for check in report if check.tensor == "input x" and not check.passed}
    assert {"complex", "tape"} <= seen and "differences" not in seen
    assert report.findings[0].kind == "float32"


def test_softmax_has_zero_gradient_under_upstream_ones() -> None:
    softmax, cache = layers.Softmax(), Cache()
    w = softmax.forward(np.random.default_rng(0).normal(size=(2, 3)), cache)
    assert np.allclose(softmax.backward(np.ones_like(w), cache), 0)


# ---- Mistakes that are no wrong derivative: the laws see them.


def relu_lets_everything_through(self: layers.ReLU, dy: Array, cache: Cache) -> Array:
    return dy


def linear_notes_half(self: layers.Linear, dy: Array, cache: Cache) -> Array:
    x = cache["x"]
    self.weight.grad += x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    self.bias.grad += dy.reshape(-1, dy.shape[-1]).sum(0)
    return 2 * cache.note("x", 0.5 * dy @ self.weight.value.T)


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


def softmax_rounds_its_sum(self: layers.Softmax, dw: Array, cache: Cache) -> Array:
    w = cache["weights"]
    cache.note("weights", dw)
    rounded: Array = (dw * w).sum(-1, keepdims=True).astype(np.float32)
    return w * (dw - rounded)


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


def relu_draws_anew(self: layers.ReLU, x: Array, cache: Cache) -> Array:
    return cache.keep("x", x) * (np.random.default_rng().random(x.shape) > 0.5)


def linear_reads_memory_in_order(self: layers.Linear, x: Array, cache: Cache) -> Array:
    return cache.keep("x", x).ravel(order="K").reshape(x.shape) @ self.weight.value + self.bias.value


def linear_forgets_the_first_pass(self: layers.Linear, x: Array, cache: Cache) -> Array:
    return cache.reset().keep("x", x) @ self.weight.value + self.bias.value


LAW_BREAKERS = [
    (layers.ReLU, "backward", relu_lets_everything_through, "ReLU", "gradients_are_right"),
    (layers.ReLU, "forward", relu_draws_anew, "ReLU", "the_same_again"),
    (layers.Linear, "forward", linear_reads_memory_in_order, "Linear", "memory_layout_does_not_matter"),
    (layers.Linear, "forward", linear_forgets_the_first_pass, "Linear", "second_forward_is_refused"),
    (layers.Linear, "backward", linear_overwrites, "Linear", "two_backwards_double"),
    (layers.Dropout, "backward", dropout_writes_into_dy, "Dropout", "nothing_handed_in_is_changed"),
    (layers.Softmax, "backward", softmax_uses_up_its_cache, "Softmax", "two_backwards_double"),
    (layers.ReLU, "backward", relu_adds_one, "ReLU", "backward_is_linear"),
    (layers.ReLU, "backward", relu_lets_everything_through, "ReLU", "every_kept_array_is_noted"),
    (layers.Linear, "backward", linear_notes_half, "Linear", "noted_gradients_are_right"),
    (layers.Softmax, "backward", softmax_rounds_its_sum, "Attention", "exact_zeros_of_attention"),
    (layers.LearnedPositions, "forward", positions_of_examples, "LearnedPositions", "batch_permutation"),
    (layers.LayerNorm, "forward", norm_over_the_batch, "LayerNorm", "examples_are_independent"),
    (layers.LayerNorm, "forward", norm_in_float64, "LayerNorm", "shapes_and_dtypes"),
    (layers.Scores, "forward", scores_see_the_future, "Attention", "causality"),
    (layers.Linear, "forward", linear_takes_what_fits, "Linear", "wrong_shape_is_refused"),
]


@pytest.mark.parametrize(
    ("kind", "method", "wrong", "name", "law"), LAW_BREAKERS, ids=lambda p: getattr(p, "__name__", p)
)
def test_law_rejects_a_broken_layer(
    kind: type[Layer], method: str, wrong: Any, name: str, law: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = next(candidate for candidate in LAWS if candidate.__name__ == law)
    judge(make_case(name))
    monkeypatch.setattr(kind, method, wrong)
    with pytest.raises(AssertionError):
        judge(make_case(name))


def test_every_law_has_a_broken_layer() -> None:
    assert {law for *_, law in LAW_BREAKERS} == {law.__name__ for law in LAWS}


def test_laws_of_compiled_layers_reject_broken_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    from npgpt.compiled import LayerNorm

    for attribute, wrong, law in (
        ("KEEPS", (), keeps_what_it_declares),
        ("backward", lambda norm, dy, cache: 1.001 * dy, equals_its_textbook_twin),
    ):
        law(compile_case(make_case("LayerNorm")))
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(LayerNorm, attribute, wrong)
            law(compile_case(make_case("LayerNorm")))


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


def test_gradcheck_of_a_users_layer() -> None:
    x = np.ones((2, 3, 4), np.float32)
    assert gradcheck(Scale(4), x).passed
    report = gradcheck(Scale(4, factor=1.01), x)
    assert not report.passed
    assert "WRONG" in str(report)
    assert {check.tensor for check in report if not check.passed} == {"input x", "kept x"}
    assert {found.kind for found in report.findings} == {"factor"}


def test_gradcheck_does_not_change_the_layer() -> None:
    layer = Scale(4)
    layer.gain.value[:] = layer.gain.grad[:] = before = [1, -2, 3, 0]
    gradcheck(layer, np.ones((2, 3, 4)))
    assert layer.gain.value.dtype == np.float32
    assert layer.gain.value.tolist() == layer.gain.grad.tolist() == before


def test_key_bias_has_no_gradient() -> None:
    case: Case = make_case("Attention")
    cache = case.cache()
    case.backward(np.random.default_rng(0).normal(size=case.forward(cache).shape), cache)
    q, k, v = np.split(case.layer.parameters()["qkv.bias"].grad, 3)
    assert np.abs(k).max() < 1e-13 < np.abs(q).max()
    assert np.abs(v).max() > 0.1


class Stateful:
    """The common kind: everything on itself, the parameters as attributes."""

    def __init__(self, wrong: float = 1.0) -> None:
        self.W = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
        self.scale = np.float32(2) * np.ones(2, np.float32)  # no gradient: a constant
        self.dW = np.zeros_like(self.W)
        self.wrong = wrong

    def forward(self, x: Array) -> Array:
        self.x = x
        y: Array = np.tanh(x @ self.W) * self.scale
        return y

    def backward(self, dy: Array) -> Array:
        dz = dy * self.scale * (1 - np.tanh(self.x @ self.W) ** 2)
        self.dW = self.wrong * (self.x.T @ dz)
        dx: Array = dz @ self.W.T
        return dx


class WithDicts:
    """Parameters in a dict, gradients in another, which are added to."""

    def __init__(self) -> None:
        self.params = {"W": np.random.default_rng(0).normal(size=(3, 2))}
        self.grads = {"W": np.zeros((3, 2))}

    def forward(self, x: Array) -> Array:
        self.x = x
        y: Array = x @ self.params["W"]
        return y

    def backward(self, dy: Array) -> Array:
        self.grads["W"] += self.x.T @ dy
        dx: Array = dy @ self.params["W"].T
        return dx


def test_gradcheck_of_objects_with_their_own_state() -> None:
    x = np.random.default_rng(1).normal(size=(4, 3))
    report = gradcheck(Stateful(), x)
    assert not report.passed and "NOT CHECKED array scale" in str(report) and "2 of 3 arrays checked" in str(report)
    report = gradcheck(Stateful(), x, constants=["scale"])
    assert report.passed, f"\n{report}"
    assert {check.tensor for check in report} == {"input x", "param W"}
    assert gradcheck(WithDicts(), x).passed
    wrong = gradcheck(Stateful(-1.0), x)
    assert [(found.tensor, found.kind) for found in wrong.findings] == [("param W", "sign")]


class NoLayer:
    """With a cache, but of no class of ours."""

    def __init__(self) -> None:
        self.gain = Param(np.ones(3))

    def forward(self, x: Array, cache: Cache) -> Array:
        return cache.keep("x", x) * self.gain.value

    def backward(self, dy: Array, cache: Cache) -> Array:
        self.gain.grad += (dy * cache["x"]).sum(0)
        return cache.note("x", dy * self.gain.value)


def test_gradcheck_of_an_object_with_a_cache() -> None:
    made = NoLayer()
    report = gradcheck(made, np.random.default_rng(0).normal(size=(2, 3)))
    assert report.passed and {check.tensor for check in report} == {"input x", "param gain", "kept x"}
    assert type(made) is NoLayer and (made.gain.value == 1).all() and not made.gain.grad.any()


def test_gradcheck_of_a_pair_of_functions() -> None:
    def forward(a: Array, b: Array) -> Array:
        y: Array = a * np.sin(b) * math.cos(0.5)
        return y

    def backward(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        return dy * np.sin(b) * math.cos(0.5), dy * a * np.cos(b) * math.cos(0.5)

    a, b = np.random.default_rng(0).normal(size=(2, 5))
    report = gradcheck(forward, a, b, backward=backward)
    assert report.passed, f"\n{report}"
    assert not gradcheck(forward, a, b, backward=lambda dy, a, b: (dy * np.sin(b), dy * a)).passed
    report = gradcheck(forward, a, b, backward=lambda dy, a, b: dy * np.sin(b))
    assert not report.passed and "1 of 2 arrays checked" in str(report) and "NOT CHECKED input b" in str(report)
    assert gradcheck(forward, a, b, backward=lambda dy, a, b: dy * np.sin(b) * math.cos(0.5), constants=["b"]).passed
    with pytest.raises(ConfigError, match="returned 3 gradients, expected 2: input a, input b"):
        gradcheck(forward, a, b, backward=lambda dy, a, b: (dy, dy, dy))


def test_wrong_shape_of_a_gradient_is_a_finding() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3))
    report = gradcheck(lambda x: x * 2, x, backward=lambda dy, x: (dy * 2).T)
    assert not report.passed and [(found.tensor, found.kind) for found in report.findings] == [("input x", "shape")]
    assert "dx has the shape (3, 2), but input x has (2, 3)" in str(report)


def test_skipped_methods_do_not_pass_a_report() -> None:
    report = gradcheck(lambda x: math.exp(x[0]) * x, np.ones(2), backward=lambda dy, x: 0 * dy, methods=["tape"])
    assert not report.passed and "UNDECIDED" in str(report) and report[0].skipped


def test_large_tensors_are_checked_along_random_directions() -> None:
    x = np.random.default_rng(0).normal(size=(2, 30, 20))
    assert gradcheck(Scale(20), x).passed
    assert not gradcheck(Scale(20, factor=1.001), x).passed


def test_check_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "softmax", "--sweep"]) == 0
    shown = capsys.readouterr().out
    assert "Softmax  right      2 of 2" in shown and "1e-09" in shown and "all right" in shown.splitlines()[-1]
    assert all(len(line) < 80 for line in shown.splitlines())
    assert main(["check", "--mutants", "scores-without-scale"]) == 0
    shown = capsys.readouterr().out
    assert "is missing" in shown and "mutants killed" in shown
    assert main(["check", "softmx"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_public_names_of_study() -> None:
    import npgpt.study.trace.tracing

    assert npgpt.study.gradcheck(layers.Softmax(), np.array([[0.0, 1.0]])).passed
    assert npgpt.study.jacobian(layers.Softmax(), np.array([0.0, 1.0])).shape == (2, 2)
    assert len(npgpt.study.trace.tracing.trace(layers.Softmax(), np.array([[0.0, 1.0]]))) == 2


def test_diagnosis_names_a_factor() -> None:
    class Unscaled(layers.Scores):
        def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
            dq, dk = super().backward(ds, cache)
            return dq, cache.note("k", dk * math.sqrt(64))

    q, k = np.random.default_rng(0).normal(size=(2, 1, 2, 4, 64))
    findings = gradcheck(Unscaled(), q, k).findings
    assert {found.tensor for found in findings} == {"input k", "kept k"}
    assert findings[0].says == (
        "dk is the true gradient times 8 (8 is the root of the length of axis 3 of q): 1/8 is missing"
    )
