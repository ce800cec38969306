"""The kit for users' own layers, tested on right layers and on wrong ones."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

import npgpt
from npgpt import layers
from npgpt.core import Array, Cache, Layer, Param
from npgpt.errors import ConfigError
from npgpt.layers import IGNORE_INDEX
from npgpt.study.check.cases import of_order_one
from npgpt.study.check.jacobians import jacobian, of_gelu, of_layer_norm, of_softmax, side_by_side
from npgpt.testing import (
    INVARIANTS,
    LAWS,
    LawBroken,
    Sizes,
    arrays,
    assert_obeys_laws,
    extreme_values,
    parametrize_with_laws,
    shapes,
    sizes,
    token_ids,
    upstream_gradients,
)


class Gate(Layer):
    """y = x·tanh(a·x), a for each channel."""

    def __init__(self, n: int) -> None:
        self.slope = Param(np.ones(n))

    def forward(self, x: Array, cache: Cache) -> Array:
        x = cache.keep("x", x)
        t = cache.keep("t", np.tanh(self.slope.value * x))
        y: Array = x * t
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        x, t = cache["x"], cache["t"]
        dt = cache.note("t", dy * x)
        dz = dt * (1 - t * t)
        self.slope.grad += (dz * x).sum((0, 1))
        return cache.note("x", dy * t + dz * self.slope.value)


class Overwriting(Gate):
    def backward(self, dy: Array, cache: Cache) -> Array:
        self.slope.grad[...] = 0
        return super().backward(dy, cache)


class Lossy(Gate):
    def backward(self, dy: Array, cache: Cache) -> Array:
        x, t = cache["x"], cache["t"]
        dt = cache.note("t", dy * x)
        self.slope.grad += (dt * (1 - t * t) * x).sum((0, 1))
        return cache.note("x", dy * t)


def test_right_layer_passes() -> None:
    assert_obeys_laws(lambda sizes: Gate(sizes.C), time_axis=1, examples=5)
    assert_obeys_laws(
        lambda sizes: layers.Embedding(sizes.V, sizes.C),
        inputs=lambda sizes, rng: {"ids": rng.integers(0, sizes.V, (sizes.B, sizes.T))},
        examples=5,
    )


@pytest.mark.parametrize(
    ("kind", "said"), [(Overwriting, "two_backwards_double"), (Lossy, "noted_gradients_are_right")]
)
def test_wrong_layer_fails_with_the_name_of_the_law(kind: type[Gate], said: str) -> None:
    with pytest.raises(LawBroken, match=f"{kind.__name__} breaks the law {said}"):
        assert_obeys_laws(lambda sizes: kind(sizes.C), skip=["gradients_are_right"], examples=5)


def test_message_has_the_tensor_the_cell_the_mistake_the_smallest_sizes_and_lines_that_repeat_it() -> None:
    with pytest.raises(LawBroken) as caught:
        assert_obeys_laws(lambda sizes: Lossy(sizes.C), examples=5)
    law, wrong, cell, mistake, others, smallest, _, *lines = str(caught.value).splitlines()
    assert law == "Lossy breaks the law gradients_are_right:" and "input x is wrong" in wrong
    assert re.fullmatch(r"  at \[\d, \d, \d+\] expected .*, got .*", cell) and mistake
    assert others == "  wrong, too: kept x"
    assert smallest == "The smallest sizes that break it: B=1, T=1, H=1, D=1, V=1 (C=1)."
    assert len(lines) == 3
    names: dict[str, Any] = {"np": np, "npgpt": npgpt, "Sizes": Sizes, "make": lambda sizes: Lossy(sizes.C)}
    exec(textwrap.dedent("\n".join(lines)).replace("print(", "report = ("), names)
    assert names["report"].verdict == "wrong"


def test_lines_of_another_law_repeat_it() -> None:
    with pytest.raises(LawBroken) as caught:
        assert_obeys_laws(lambda sizes: Overwriting(sizes.C), laws=["two_backwards_double"])
    lines = textwrap.dedent("\n".join(str(caught.value).splitlines()[-3:]))
    names = {"np": np, "Sizes": Sizes, "make": lambda of: Overwriting(of.C), "assert_obeys_laws": assert_obeys_laws}
    with pytest.raises(LawBroken, match="two_backwards_double"):
        exec(lines, names)


def test_message_is_the_same_each_time() -> None:
    def message() -> str:
        with pytest.raises(LawBroken) as caught:
            assert_obeys_laws(lambda sizes: Lossy(sizes.C), examples=5)
        return str(caught.value)

    assert message() == message()


TEST_FILE = """
import numpy as np
from npgpt.testing import assert_obeys_laws, parametrize_with_laws

class Half:
    def forward(self, x):
        self.x = x
        return x**2

    def backward(self, dy):
        return dy * self.x

@parametrize_with_laws(Half(), np.random.default_rng(0).normal(size=(3, 5)))
def test_half(law):
    law()

@parametrize_with_laws(Half(), np.ones((3, 5)), skip=["gradients_are_right"])
def test_skipped(law):
    law()

@parametrize_with_laws(Half(), np.ones((3, 5)), expected_to_fail={"gradients_are_right": "known"})
def test_known(law):
    law()

def test_sizes():
    assert_obeys_laws(lambda sizes: Half())
"""


@pytest.mark.parametrize("options", [[], ["-O"]], ids=["plain", "with python -O"])
def test_failure_in_pytest_is_short_and_shows_no_frame_of_npgpt(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "test_half.py").write_text(TEST_FILE)
    command = [sys.executable, *options, "-W", "ignore", "-m", "pytest", "-p", "no:cacheprovider", "-q", "test_half.py"]
    environment = os.environ | {"COLUMNS": "100"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert run.returncode == 1 and "2 failed" in run.stdout and "1 xfailed" in run.stdout, run.stdout
    assert "FAILED test_half.py::test_half[gradients_are_right] - npgpt.testing" in run.stdout
    assert not re.search(r"npgpt/(study|testing)", run.stdout) and "hypothesis" not in run.stdout
    for failure in re.findall(r"^_{3,} test_.*?(?=^_{3,} |^={3,} )", run.stdout, re.M | re.S):
        assert len(failure.splitlines()) <= 25, failure
        assert "dx is the true gradient times 0.5" in failure and "at [" in failure and "E   " in failure


def test_laws_that_do_not_apply_are_not_listed() -> None:
    def listed(*arguments: Any, **options: Any) -> list[str]:
        return [str(of.id) for of in parametrize_with_laws(*arguments, **options).args[1]]

    x = np.ones((2, 3, 4))
    of_gate = listed(Gate(4), x)
    assert of_gate[0] == "gradients_are_right" and "two_backwards_double" in of_gate and "causality" not in of_gate
    assert listed(Gate(4), x, time_axis=1) == [law.__name__ for law in LAWS if law.__name__ in [*of_gate, "causality"]]
    plain = listed((lambda x: x * 2, lambda dy: dy * 2), x)
    assert plain[0] == "gradients_are_right" and "two_backwards_double" not in plain and "causality" not in plain
    assert "backward_is_linear" not in listed((lambda x: (x**2).sum(), lambda x: 2 * x), x)  # there is no dy
    assert listed(Gate(4), x, skip="gradients_are_right") == of_gate[1:]
    assert listed((lambda x: x.no_such_name, lambda dy: dy), x) == ["gradients_are_right"]  # it will say why


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"skip": ["gradient_is_right"]}, "there is no law 'gradient_is_right'; .*gradients_are_right"),
        ({"laws": ["linear"]}, "there is no law 'linear'"),
        ({"inputs": lambda sizes, rng: rng}, "inputs= is for a factory that takes sizes"),
    ],
)
def test_wrong_arguments_get_a_sentence(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        assert_obeys_laws(Gate(4), np.ones((2, 3, 4)), **options)


def test_factory_that_takes_sizes_takes_no_inputs() -> None:
    with pytest.raises(ConfigError, match="makes layers of many sizes and needs no inputs"):
        assert_obeys_laws(lambda sizes: Gate(sizes.C), np.ones((2, 3, 4)))


class ReLUAndClip:
    def __init__(self, rng: np.random.Generator) -> None:
        self.W, self.b = rng.normal(size=(5, 4)), rng.normal(size=4)

    def forward(self, x: Array) -> Array:
        self.x, h = x, x @ self.W + self.b
        self.open = (h > 0) & (h < 1.5)
        return np.clip(np.maximum(h, 0), -1.5, 1.5)

    def backward(self, dy: Array) -> Array:
        d = dy * self.open
        self.dW, self.db = self.x.T @ d, d.sum(0)
        return d @ self.W.T


def test_right_layer_with_many_kinks_never_fails_by_chance() -> None:
    """50 runs in CI, 1,000 in the deep profile."""
    n = {"quick": 10, "ci": 50, "deep": 1000}[os.environ.get("NPGPT_PROFILE", "quick")]
    for seed in range(n):
        rng = np.random.default_rng(seed)
        assert_obeys_laws(ReLUAndClip(rng), rng.normal(size=(20, 5)))


@given(st.data())
def test_strategies_draw_valid_arrays(data: Any) -> None:
    shape = data.draw(shapes(empty=True))
    x = data.draw(arrays(shape))
    assert x.shape == shape and np.isfinite(x).all() and x.dtype in (np.float32, np.float64)
    assert data.draw(upstream_gradients(shape)).shape == shape
    ids = data.draw(token_ids(7, shape))
    assert ids.shape == shape and ((ids >= 0) & (ids < 7)).all()
    assert np.isfinite(data.draw(extreme_values(shape))).all()


def test_strategies_reach_what_they_are_for() -> None:
    find(arrays((3, 2)), lambda x: not x.flags.c_contiguous)
    find(extreme_values((3,)), lambda x: bool(np.abs(x).max() == np.finfo(np.float32).max))
    find(extreme_values((3,)), lambda x: bool(((x != 0) & (np.abs(x) < np.finfo(np.float32).tiny)).any()))
    find(token_ids(7, (4,)), lambda ids: {0, 6} <= set(ids.tolist()))
    find(upstream_gradients((4,)), lambda dy: len(set(dy.tolist())) == 4)
    find(shapes(empty=True), lambda shape: 0 in shape)


@given(sizes(), st.integers(0, 1000))
def test_invariants_hold(drawn: Sizes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    B, T, C, V = drawn.B, drawn.T, drawn.C, drawn.V
    x, dy = rng.normal(size=(2, B, T, C))
    targets = rng.integers(0, V, (B, T))
    targets[0, 1:] = IGNORE_INDEX
    attention = of_order_one(layers.Attention(C, drawn.H), rng)
    INVARIANTS["rows_of_dlogits_sum_to_zero"](layers.CrossEntropy(), rng.normal(size=(B, T, V)), targets)
    INVARIANTS["key_bias_has_no_gradient"](attention, x, dy)
    INVARIANTS["nothing_reaches_the_future"](attention, x, dy)
    INVARIANTS["softmax_does_not_see_a_shift"](layers.Softmax(), x, dy)
    if C > 2:
        wide = rng.normal(size=(B, T, C)) + 3 * np.arange(C)
        norm = layers.LayerNorm(C, eps=0)
        norm.gain.value[:] = rng.normal(size=C)  # gains of 1 would hide a forgotten gain
        INVARIANTS["layer_norm_sends_nothing_along_ones_and_xhat"](norm, wide, dy)


class OfSquares(layers.Softmax):
    def forward(self, s: Array, cache: Cache) -> Array:
        return super().forward(s * s, cache)


def add_to_bias(attention: Any, dx: Array, cache: Cache) -> Array:
    attention.qkv.bias.grad += 1
    return dx


BROKEN = [
    ("rows_of_dlogits_sum_to_zero", layers.CrossEntropy(), lambda loss, d, cache: d + 1, "dlogits sums to"),
    ("layer_norm_sends_nothing_along_ones_and_xhat", layers.LayerNorm(4, eps=0), lambda norm, d, cache: d + 1, "dx·1"),
    (
        "layer_norm_sends_nothing_along_ones_and_xhat",
        layers.LayerNorm(4, eps=0),
        lambda norm, d, cache: d + cache["xhat"],
        "dx·x̂",
    ),
    ("key_bias_has_no_gradient", layers.Attention(4, 2), add_to_bias, "keys' bias"),
    (
        "nothing_reaches_the_future",
        layers.Attention(4, 2).initialise(0),
        lambda attention, d, cache: d + d.sum(1, keepdims=True),
        "output 0 sends",
    ),
    ("softmax_does_not_see_a_shift", layers.Softmax(), lambda softmax, d, cache: d + 1, "does not sum to zero"),
    ("softmax_does_not_see_a_shift", OfSquares(), lambda softmax, d, cache: d, "changes the weights"),
]


@pytest.mark.parametrize(("name", "layer", "spoil", "says"), BROKEN, ids=[says for *_, says in BROKEN])
def test_invariant_rejects_a_broken_layer(
    name: str, layer: Layer, spoil: Any, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = layer.backward
    monkeypatch.setattr(layer, "backward", lambda dy, cache: spoil(layer, backward(dy, cache), cache))
    x, dy = np.random.default_rng(0).normal(size=(2, 2, 3, 4))
    with pytest.raises(AssertionError, match=says):
        INVARIANTS[name](layer, x, np.array([[0, 1, 2], [3, 2, 1]]) if name.startswith("rows") else dy)


def test_every_invariant_has_a_broken_layer() -> None:
    assert {name for name, *_ in BROKEN} == INVARIANTS.keys()


def test_jacobians_equal_textbook_formulas() -> None:
    x = np.array([0.5, -1.0, 2.0])
    w = layers.Softmax().forward(x, Cache())
    norm = layers.LayerNorm(3, eps=0.1)
    norm.gain.value[:] = [1, 2, 3]
    assert np.allclose(jacobian(layers.Softmax(), x), of_softmax(w), atol=1e-12)
    assert np.allclose(jacobian(norm, x), of_layer_norm(x, norm.gain.value, 0.1), atol=1e-12)
    assert np.allclose(jacobian(layers.GELU(), x), of_gelu(x), atol=1e-12)
    assert "largest difference" in side_by_side(layers.GELU(), x, of_gelu(x))
