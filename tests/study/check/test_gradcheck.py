"""``gradcheck`` on other people's layers: what it finds, what it asks, what it refuses, how it leaves them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npgpt import gradcheck, layers
from npgpt.core import Array, Cache, Layer, Param
from npgpt.errors import ConfigError

X = np.random.default_rng(0).normal(size=(4, 3))


class Dense:
    def __init__(self, W: Array | None = None, slip: float = 1.0) -> None:
        self.W = np.random.default_rng(1).normal(size=(3, 3)) if W is None else W
        self.b = np.zeros(3)
        self.dW, self.db, self.slip = np.zeros_like(self.W), np.zeros(3), slip

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(x @ self.W + self.b)

    def backward(self, dy: Array) -> Array:
        self.dW, self.db = self.slip * self.x.T @ dy, dy.sum(0)
        return np.asarray(dy @ self.W.T)


class Transposed(Dense):
    """Its dx is right for symmetric weights only."""

    def backward(self, dy: Array) -> Array:
        super().backward(dy)
        return np.asarray(dy @ self.W)


def test_first_line_counts_arrays_and_verdicts_follow() -> None:
    assert str(gradcheck(Dense(), X)).startswith("Dense: 3 of 3 arrays checked, all right\n")
    assert str(gradcheck(Dense(slip=1.1), X)).startswith("Dense: 3 of 3 arrays checked, 1 of 3 gradients WRONG\n")
    assert gradcheck(Dense(), X, expects=3).passed
    report = gradcheck(Dense(), X, expects=4)
    assert not report.passed and "4 arrays were expected, 3 were checked" in str(report)


@pytest.mark.parametrize("W", [np.eye(3), np.ones((3, 3)), np.zeros((3, 3))], ids=["eye", "ones", "zeros"])
def test_weights_that_hide_a_mistake_are_drawn_anew(W: Array) -> None:
    report = gradcheck(Transposed(W.copy()), X)
    assert report.verdict == "undecided" and "with other weights" in str(report), f"\n{report}"
    assert gradcheck(Transposed(W.copy()), X, init=lambda rng, shape: rng.normal(size=shape)).verdict == "undecided"
    assert gradcheck(lambda: Transposed(W.copy()), X).verdict == "undecided"
    assert gradcheck(lambda: Transposed(np.random.normal(size=(3, 3))), X).verdict == "wrong"  # noqa: NPY002
    assert gradcheck(Dense(W.copy()), X).passed


def test_weights_that_must_stay_positive() -> None:
    class Log:
        def __init__(self) -> None:
            self.sigma = np.array([0.1, 0.1, 0.1])

        def forward(self, x: Array) -> Array:
            assert (self.sigma > 0).all()
            self.x = x
            return np.asarray(x * np.log(self.sigma))

        def backward(self, dy: Array) -> Array:
            self.dsigma = (dy * self.x / self.sigma).sum(0)
            return np.asarray(dy * np.log(self.sigma))

    report = gradcheck(Log(), X)
    assert "with other weights forward fails" in str(report)
    assert gradcheck(Log(), X, init={"sigma": lambda rng, shape: 1 + rng.random(shape)}).passed


@pytest.mark.parametrize("training", [None, True])
def test_a_mistake_in_training_only(training: bool | None) -> None:
    class Dropout:
        training = False

        def forward(self, x: Array) -> Array:
            self.mask = (np.random.random(x.shape) > 0.4) / 0.6 if self.training else np.ones(x.shape)  # noqa: NPY002
            return np.asarray(x * self.mask)

        def backward(self, dy: Array) -> Array:
            return np.asarray(777 * dy if self.training else dy)

    dropout = Dropout()
    report = gradcheck(dropout, X, training=training)
    assert report.verdict == "wrong" and dropout.training is False and "training" not in vars(dropout)
    assert gradcheck(Dropout(), X, training=False).passed


def test_arrays_without_a_gradient_do_not_pass() -> None:
    class Embedding:
        def __init__(self) -> None:
            self.table, self.grad_table = X.copy(), np.zeros_like(X)
            self.scale = np.ones(3)

        def forward(self, ids: Array) -> Array:
            return np.asarray(self.table[ids] * self.scale)

        def backward(self, dy: Array) -> None:
            pass

    ids = np.array([[0, 1], [2, 0]])
    report = gradcheck(Embedding(), ids)
    assert report.verdict == "wrong" and report.findings[0].kind == "zero"  # a gradient that is all zeros
    assert "NOT CHECKED array scale" in str(report)
    assert "1 of 1 array checked" in str(gradcheck(Embedding(), ids, constants=["scale"]))


def test_a_tiny_gradient_is_not_zero() -> None:
    report = gradcheck(lambda x: 1e-10 * x, X, backward=lambda dy, x: 0 * dy, methods=["differences"])
    assert report.verdict == "wrong", f"\n{report}"


def test_kinks_are_named_and_moved() -> None:
    x = np.array([[0.0, 1.0, -1.0], [2.0, 0.0, 3.0]])
    report = gradcheck(lambda x: np.maximum(x, 0), x, backward=lambda dy, x: dy * (x > 0))
    assert report.passed and "not differentiable at x[0, 0] [1, 1]" in str(report), f"\n{report}"
    assert x[0, 0] == 0
    assert gradcheck(lambda x: np.maximum(x, 0), x, backward=lambda dy, x: dy * (x >= -1)).verdict == "wrong"


def test_float32_has_the_tolerances_of_float32() -> None:
    def forward(x: Array) -> Array:
        return np.exp(x.astype(np.float32) / np.float32(3))

    report = gradcheck(forward, X, backward=lambda dy, x: dy * forward(x) / 3)
    assert report.passed and "float32" in str(report), f"\n{report}"
    assert gradcheck(forward, X, backward=lambda dy, x: 1.02 * dy * forward(x) / 3).verdict == "wrong"


def test_a_gradient_that_is_right_to_seven_digits_is_undecided() -> None:
    report = gradcheck(np.exp, X, backward=lambda dy, x: dy * np.exp(x.astype(np.float32)).astype(np.float64))
    assert report.verdict == "undecided" and "float32" in str(report)


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e5, 1e8])
def test_steps_follow_the_scale_of_the_input(scale: float) -> None:
    def backward(dy: Array, x: Array) -> Array:
        return np.asarray(dy / scale * (1 - np.tanh(x / scale) ** 2))

    def forward(x: Array) -> Array:
        return np.asarray(np.tanh(x / scale))

    assert gradcheck(forward, scale * X, backward=backward).passed
    assert gradcheck(forward, scale * X, backward=lambda dy, x: 1.001 * backward(dy, x)).verdict == "wrong"
    assert gradcheck(forward, scale * X, backward=backward, methods=["differences"]).passed


def test_report_says_why_a_witness_abstains() -> None:
    def norm(x: Array) -> Array:
        return np.asarray((x - x.mean(1, keepdims=True)) / np.sqrt(np.var(x, 1, keepdims=True) + 0.1))

    def backward(dy: Array, x: Array) -> Array:
        r = 1 / np.sqrt(np.var(x, 1, keepdims=True) + 0.1)
        xhat = (x - x.mean(1, keepdims=True)) * r
        return np.asarray(r * (dy - dy.mean(1, keepdims=True) - xhat * (dy * xhat).mean(1, keepdims=True)))

    report = gradcheck(norm, X, backward=backward)
    assert report.passed and "complex: np.var squares |x|, so the complex step does not apply" in str(report)
    assert not gradcheck(norm, X, backward=lambda dy, x: 1.01 * backward(dy, x)).passed


def test_habits_are_reported() -> None:
    class Rude:
        def forward(self, x: Array) -> Array:
            x *= 2
            return np.asarray(x + 0)

        def backward(self, dy: Array) -> Array:
            dy *= 2
            return dy

    report = gradcheck(Rude(), X)
    assert report.passed, f"\n{report}"
    assert "forward writes into its argument x" in str(report)
    assert "backward writes into the upstream gradient" in str(report)


def test_a_gradient_that_depends_on_the_pass_before() -> None:
    class Stale:
        def __init__(self) -> None:
            self.x: Array | None = None

        def forward(self, x: Array) -> Array:
            self.x = x if self.x is None else self.x
            return np.asarray(x * x)

        def backward(self, dy: Array) -> Array:
            assert self.x is not None
            return np.asarray(2 * self.x * dy)

    report = gradcheck(Stale(), X)
    assert report.verdict == "undecided" and "depends on the pass before" in str(report), f"\n{report}"


def test_forward_must_go_on_with_what_keep_returned() -> None:
    class Forgets(Layer):
        def forward(self, x: Array, cache: Cache) -> Array:
            cache.keep("x", x)
            return np.asarray(x * x)

        def backward(self, dy: Array, cache: Cache) -> Array:
            return cache.note("x", 2 * dy * cache["x"])

    report = gradcheck(Forgets(), X)
    assert report.verdict == "undecided" and 'write x = cache.keep("x", ...)' in str(report), f"\n{report}"


def test_plain_arrays_of_a_layer_are_not_checked() -> None:
    class Scaled(Layer):
        def __init__(self) -> None:
            self.gain, self.factor = Param(np.ones(3)), np.full(3, 2.0)

        def forward(self, x: Array, cache: Cache) -> Array:
            return np.asarray(cache.keep("x", x) * self.gain.value * self.factor)

        def backward(self, dy: Array, cache: Cache) -> Array:
            self.gain.grad += (dy * cache["x"] * self.factor).sum(0)
            return cache.note("x", dy * self.gain.value * self.factor)

    report = gradcheck(Scaled(), X)
    assert not report.passed and "make factor a Param" in str(report)
    assert gradcheck(Scaled(), X, constants=["factor"]).passed


def test_everything_is_left_as_it_was() -> None:
    layer, x = Dense(), X.copy()
    layer.extra = {"history": [np.ones(2)], "rng": np.random.default_rng(3)}  # type: ignore[attr-defined]
    before = {name: np.copy(value) for name, value in vars(layer).items() if isinstance(value, np.ndarray)}
    arrays = {name: value for name, value in vars(layer).items() if isinstance(value, np.ndarray)}
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    gradcheck(layer, x)
    assert np.array_equal(np.random.random(3), expected)  # noqa: NPY002
    assert "x" not in vars(layer) and np.array_equal(x, X)
    for name, value in arrays.items():
        assert getattr(layer, name) is value and np.array_equal(value, before[name])


def fails(call: Callable[[], Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        call()
    return str(caught.value)


def raises(error: Exception) -> Any:
    def forward(x: Array) -> Array:
        raise error

    return forward


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gradcheck(Dense(), np.where(X > 0, np.nan, X)), "NaN or infinite"),
        (lambda: gradcheck(Dense(), np.where(X > 0, np.inf, X)), "NaN or infinite"),
        (lambda: gradcheck(layers.LayerNorm(3), np.where(X > 0, np.nan, X)), "NaN or infinite"),
        (lambda: gradcheck(Dense(), X[:0]), "is empty, with the shape (0, 3)"),
        (lambda: gradcheck(Dense(), X + 1j), "complex numbers"),
        (lambda: gradcheck(Dense(), X.tolist()), "input 0 is a list of numbers; give np.array(...)"),
        (lambda: gradcheck(Dense, X), "Dense is a class: give an object of it"),
        (lambda: gradcheck(layers.LayerNorm, X), "LayerNorm is a class: give an object of it"),
        (lambda: gradcheck(Dense(), X, methods=["tapes"]), "no method 'tapes'; did you mean tape?"),
        (lambda: gradcheck(Dense(), X, methods=[]), "methods is empty"),
        (lambda: gradcheck(lambda x: None, X, backward=lambda dy, x: dy), "forward returned no floats"),
        (lambda: gradcheck(lambda x: x, X), "give its backward pass with backward=..."),
        (lambda: gradcheck(object(), X), "has no method forward"),
        (lambda: gradcheck(raises(KeyError("q")), X, backward=lambda dy, x: dy), "forward raised KeyError: 'q'"),
        (lambda: gradcheck(Dense(), X.T), "forward raised ValueError"),
        (lambda: gradcheck(Dense()), "forward raised TypeError"),
        (lambda: gradcheck(np.exp, X, backward=lambda dy, x: dy[7]), "backward raised IndexError"),
        (lambda: gradcheck(Dense(), X, constants=["nope"]), "constants: there is no array 'nope' in Dense; known"),
        (lambda: gradcheck(Dense(), X, grads={"nope": "dW"}), "grads: there is no array 'nope'"),
        (lambda: gradcheck(Dense(), X, params=["nope"]), "there is no array 'nope'"),
        (lambda: gradcheck(Dense(), X, training=True), "there is no switch for training"),
        (lambda: gradcheck(Dense(), X, init={"V": np.ones(3)}), "init: there is no parameter 'V'"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_gets_a_sentence(call: Callable[[], Any], says: str) -> None:
    assert says in fails(call)


def test_an_input_of_integers_gets_a_note() -> None:
    report = gradcheck(Dense(), np.ones((4, 3), int))
    assert not report.passed and "NOT CHECKED input x: it holds int64; give floats, x.astype(float)" in str(report)


def test_a_slow_method_says_what_it_would_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npgpt.study.check.witnesses.LONGEST", 1e-6)
    report = gradcheck(np.exp, X, backward=lambda dy, x: dy * np.exp(x))
    assert report.passed and "it would take about" in str(report)


@pytest.mark.parametrize(("mean", "spread", "says"), [
    (0, 0, "lacks the path through x.mean(1, keepdims=True) (line {n}) and the path through x.var(1, keepdims=True)"),
    (1, 0, "lacks the path through x.var(1, keepdims=True)"),
    (0, 1, "lacks the path through x.mean(1, keepdims=True)"),
])  # fmt: skip
def test_lost_terms_of_a_normalisation_are_named(mean: float, spread: float, says: str) -> None:
    def forward(x: Array) -> Array:
        return np.asarray((x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 0.1))

    def backward(dy: Array, x: Array) -> Array:
        r, xhat = 1 / np.sqrt(x.var(1, keepdims=True) + 0.1), forward(x)
        lost = mean * dy.mean(1, keepdims=True) + spread * xhat * (dy * xhat).mean(1, keepdims=True)
        return np.asarray(r * (dy - lost))

    (found,) = gradcheck(forward, np.random.default_rng(2).normal(size=(4, 7)), backward=backward).findings
    assert says.format(n=forward.__code__.co_firstlineno + 1) in found.says


def test_a_parameter_that_forward_forgets_is_not_all_right() -> None:
    class Linear:
        def __init__(self) -> None:
            self.W, self.b = np.random.default_rng(1).normal(size=(4, 3)), np.ones(3)

        def forward(self, x: Array) -> Array:
            self.x = x
            return np.asarray(x @ self.W)

        def backward(self, dy: Array) -> Array:
            self.dW, self.db = self.x.T @ dy, dy.sum(0)
            return np.asarray(dy @ self.W.T)

    x = np.random.default_rng(0).normal(size=(5, 4))
    report = gradcheck(Linear(), x)
    assert report.verdict == "undecided" and "forward does not use it" in report.unchecked["array b"]
    assert gradcheck(Linear(), x, constants=["b"]).passed


def test_a_single_number_gets_no_factor_without_a_tape() -> None:
    class Scale:
        def __init__(self) -> None:
            self.a = np.array([0.7])

        def forward(self, x: Array) -> Array:
            self.x = x
            return np.array([math.tanh(float(self.a[0])) * float(v) ** 2 for v in x])

        def backward(self, dy: Array) -> Array:
            self.da = np.array([(dy * self.x).sum()])
            return np.asarray(dy * 2 * self.x * np.tanh(self.a))

    (found,) = gradcheck(Scale(), np.random.default_rng(0).normal(size=4)).findings
    assert found.tensor == "param a" and found.kind == "unknown"
