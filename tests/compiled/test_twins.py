"""Twins: users' own layers keep their class, and references to gradients stay valid."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import npgpt.compiled as compiled
import npgpt.layers as layers
from npgpt.build import make_gpt, make_optimizer, twin
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache, Layer, Param
from npgpt.errors import ConfigError, ShapeError
from npgpt.model import GPT
from npgpt.study.check import gradcheck
from npgpt.study.check.cases import of_order_one
from npgpt.train import accumulate

CONFIG = GPTConfig(vocab_size=11, context_length=6, n_layer=2, n_head=2, n_embd=8)
IDS = np.random.default_rng(0).integers(0, 11, (3, 7))


class Doubling:
    """Doubles the output of a layer, as an example of code that npgpt does not know."""

    def forward(self, *inputs: Any) -> Array:
        y: Array = 2 * super().forward(*inputs)  # type: ignore[misc]
        return y

    def backward(self, dy: Array, cache: Cache) -> Any:
        return super().backward(2 * dy, cache)  # type: ignore[misc]


def own(layer: Layer) -> Any:
    """Give the layer a class of a user's own."""
    kind = type(layer)
    layer.__class__ = type(f"Own{kind.__name__}", (Doubling, kind), {})
    return layer


def parts(model: GPT) -> dict[str, Layer]:
    found: dict[str, Layer] = {}

    def add(layer: Layer, path: str) -> None:
        for name, child in layer.children().items():
            found[path + name] = child
            add(child, f"{path}{name}.")

    add(model, "")
    return found


def grads(model: GPT) -> tuple[float, Array]:
    loss = accumulate(model, IDS[:, :-1], IDS[:, 1:], Cache(training=True, seed=3))
    assert model.flat is not None
    return loss, model.flat.grads.copy()


@pytest.mark.parametrize("path", [path for path in parts(GPT(CONFIG)) if not path.startswith("blocks.1")])
def test_users_layer_in_a_model_keeps_its_class_and_results(path: str) -> None:
    model = of_order_one(GPT(CONFIG), np.random.default_rng(0))  # at first the gradients of queries and keys are tiny
    own(parts(model)[path])
    plain, other = grads(model), twin(model)
    assert type(parts(other)[path]).__name__.startswith("Own")
    assert any(part.COMPILED for part in parts(other).values())
    loss, grad = grads(other)
    assert loss == pytest.approx(plain[0], rel=1e-5)
    assert np.linalg.norm(grad - plain[1]) < 2e-6 * np.linalg.norm(plain[1])
    assert np.array_equal(grads(twin(other, "textbook"))[1], plain[1])


def test_compiled_classes_extend_their_textbook_classes() -> None:
    twins = compiled.base.TWINS  # type: ignore[attr-defined]
    alone = {layers.LoRA, layers.MeanSquaredError}
    assert twins.keys() >= {kind for kind in vars(layers).values() if isinstance(kind, type)} - alone
    for textbook, kind in twins.items():
        assert issubclass(kind, textbook)
        assert kind.textbook_class() is textbook


class Wrong(compiled.Linear):
    """A user's own layer that inherits from a compiled layer."""

    def backward(self, dy: Array, cache: Cache) -> Array:
        dx: Array = super().backward(dy, cache) * 7
        return dx


class WrongWithBases(Wrong, layers.Linear, Layer):
    """Names bases that it has already."""


class OwnLinear(layers.Linear):
    pass


class WrongWithOwnBase(Wrong, OwnLinear):
    pass


class WrongWithTextbook(Wrong):
    @classmethod
    def textbook_class(cls) -> type[Layer]:
        return WrongInTextbook


class WrongInTextbook(layers.Linear):
    backward = Wrong.backward


@pytest.mark.parametrize("kind", [Wrong, WrongWithBases, WrongWithOwnBase])
def test_subclass_of_a_compiled_layer_has_no_textbook_form_without_its_override(kind: type[layers.Linear]) -> None:
    layer, x = kind(3, 2).initialise(1), np.ones((4, 3), np.float32)
    assert type(twin(layers.Linear(3, 2).astype(np.float32))) is compiled.Linear
    calls: list[Callable[[], Any]] = [
        lambda: gradcheck(layer, x),
        lambda: layer.astype(np.float64),
        lambda: twin(layer, "textbook"),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=rf"{kind.__name__} inherits from a compiled.*npgpt\.layers instead, or"):
            call()


def test_subclass_of_a_compiled_layer_may_name_its_textbook_form() -> None:
    layer = WrongWithTextbook(3, 2).initialise(1)
    assert type(twin(layer, "textbook")) is WrongInTextbook


def test_float64_layer_has_no_compiled_twin() -> None:
    with pytest.raises(ShapeError, match=r"Linear: weight is float64.*\.astype\(np.float32\)"):
        twin(layers.Linear(2, 3))


class Experts(Layer):
    """A user's own layer that holds the gradients of several sub-layers before it adds them."""

    def __init__(self, n: int) -> None:
        self.experts = [layers.MLP(n) for _ in range(3)]

    def forward(self, x: Array, cache: Cache) -> Array:
        x = cache.keep("x", x)
        ys = [expert.forward(x, cache.scope(f"experts.{i}")) for i, expert in enumerate(self.experts)]
        return ys[0] + ys[1] * 2 - ys[2]

    def backward(self, dy: Array, cache: Cache) -> Array:
        scopes = [cache.scope(f"experts.{i}") for i in range(3)]
        found = [e.backward(d, scope) for e, d, scope in zip(self.experts, (dy, 2 * dy, -dy), scopes, strict=True)]
        return cache.note("x", found[0] + found[1] + found[2])


def test_sub_layers_in_a_users_list_do_not_overwrite_gradients() -> None:
    plain = of_order_one(Experts(8), np.random.default_rng(0)).astype(np.float32)
    rng, results = np.random.default_rng(1), []
    x, dy = (rng.normal(size=(2, 5, 8)).astype(np.float32) for _ in range(2))
    for layer in (plain, twin(plain)):
        cache = Cache()
        layer.zero_grad()
        layer.forward(x, cache)
        dx = layer.backward(dy, cache)
        results.append([dx, *(param.grad.copy() for param in layer.parameters().values())])
    for ours, theirs in zip(*results, strict=True):
        assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(theirs)


class Gate(Layer):
    """A user's own layer that adds to its gradient directly."""

    def __init__(self, n: int) -> None:
        self.gain = Param(np.ones(n, np.float32))

    def forward(self, x: Array, cache: Cache) -> Array:
        return cache.keep("x", x) * self.gain.value

    def backward(self, dy: Array, cache: Cache) -> Array:
        self.gain.grad += (dy * cache["x"]).sum((0, 1))
        return cache.note("x", dy * self.gain.value)


def with_gate(model: GPT) -> GPT:
    model.positions = Gate(8)
    model.pack(np.float32)
    return model


@pytest.mark.parametrize("kind", ["textbook", "compiled"])
@pytest.mark.parametrize("change", [lambda model: model, with_gate])
def test_references_to_gradients_stay_valid(kind: str, change: Callable[[GPT], GPT]) -> None:
    model = twin(change(of_order_one(GPT(CONFIG), np.random.default_rng(0))), kind)
    held = {path: param.grad for path, param in model.parameters().items()}
    optimizer, cache = make_optimizer(model), Cache(training=True)
    for step in range(3):
        x, y = (IDS[:, :-1], IDS[:, 1:]) if step != 1 else (IDS[:, :3], IDS[:, 1:4])  # fewer positions
        accumulate(model, x, y, cache, micro_batches=2, step=step)
        fresh = twin(model, "textbook").astype(np.float64)
        accumulate(fresh, x, y, Cache(training=True))
        for path, param in model.parameters().items():
            assert held[path] is param.grad
            right = fresh.parameters()[path].grad
            assert np.linalg.norm(held[path] - right) <= 1e-5 * np.linalg.norm(right) + 1e-6, (path, step)
        optimizer.step(1e-2)
    model.zero_grad()
    assert not any(grad.any() for grad in held.values())


def test_unused_gradient_is_zero_after_the_step() -> None:
    """With vectors as input and untied weights, the embedding is not used."""
    model = make_gpt(GPTConfig(**CONFIG.__dict__ | {"tie_weights": False}))
    accumulate(model, IDS[:, :-1], IDS[:, 1:], Cache(training=True))
    assert model.embedding.weight.grad.any()
    vectors = np.random.default_rng(1).normal(size=(3, 6, 8)).astype(np.float32)
    accumulate(model, vectors, IDS[:, 1:], Cache(training=True))
    assert not model.embedding.weight.grad.any()
    assert model.lm_head.weight.grad.any()


def test_reading_a_gradient_does_not_write_and_assigning_keeps_the_array() -> None:
    param = Param(np.zeros(3))
    param.grad.flags.writeable = False
    assert not param.grad.any()
    param.grad.flags.writeable = True
    held = param.grad
    param.grad += 1
    param.grad = np.array([1.0, 2.0, 3.0])
    assert held is param.grad
    assert held.tolist() == [1, 2, 3]


def test_gradients_accumulate_without_zero_grad() -> None:
    model, cache = make_gpt(CONFIG), Cache()
    once = []
    for _ in range(2):
        model.loss(IDS[:, :-1], IDS[:, 1:], cache.reset())
        model.loss_backward(1.0, cache)
        once.append(model.flat.grads.copy())
    assert np.allclose(once[1], 2 * once[0], rtol=1e-5, atol=1e-7)
