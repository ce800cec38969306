"""Compiled layers, beyond the laws: memory, threads, non-finite values, precision, twins."""

import math
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import npgpt.compiled as compiled
import npgpt.layers as layers
from npgpt.build import make_gpt, make_optimizer, twin
from npgpt.compiled.optim import AdamW as CompiledAdamW
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.errors import ConfigError, ShapeError
from npgpt.machine.pool import set_num_threads
from npgpt.model import GPT
from npgpt.optim import AdamW, clip_scale
from npgpt.study.check.cases import CASES, Sizes, compile_case, make_case
from npgpt.train import accumulate, evaluate

TEXTBOOK_ALONE = {"LoRA", "MeanSquaredError"}  # no GPT trains with them by default
TINY = GPTConfig(vocab_size=11, context_length=6, n_layer=2, n_head=2, n_embd=8)


def test_both_modules_have_the_same_layers() -> None:
    textbook = {name for name, value in vars(layers).items() if isinstance(value, type)} - TEXTBOOK_ALONE
    assert {name for name, value in vars(compiled).items() if isinstance(value, type)} == textbook
    for name in textbook:
        kind = getattr(compiled, name)
        assert issubclass(kind, getattr(layers, name))
        assert kind.__dict__.keys() & {"forward", "_activation", "kind"}, f"{name} computes as the textbook does"


def train(model: GPT, steps: int, batch: int = 3) -> Array:
    random = np.random.default_rng(0)
    optimizer, cache = make_optimizer(model), Cache(training=True, seed=3)
    V, T = model.config.vocab_size, model.config.context_length
    for step in range(steps):
        ids = random.integers(0, V, (batch, T + 1))
        accumulate(model, ids[:, :-1], ids[:, 1:], cache, step=step)
        optimizer.step(1e-2, clip_scale(optimizer.grad_norm(), 1.0))
    return model.flat.values


@pytest.mark.parametrize("options", [{}, {"dropout": 0.2}, {"activation": "gelu", "tie_weights": False}])
def test_compiled_training_equals_textbook_training(options: dict[str, object]) -> None:
    config = GPTConfig(vocab_size=11, context_length=6, n_layer=2, n_head=2, n_embd=8, **options)  # type: ignore[arg-type]
    textbook, fast = (make_gpt(config, kind) for kind in ("textbook", "compiled"))
    assert np.array_equal(textbook.flat.values, fast.flat.values)
    before = textbook.flat.values.copy()
    moved = train(textbook, 5) - before
    assert np.linalg.norm(train(fast, 5) - before - moved) < 1e-3 * np.linalg.norm(moved)


def test_backward_of_dropout_needs_forward_and_its_shape() -> None:
    layer, cache = compiled.Dropout(0.5), Cache(training=True)
    dy = np.ones((3, 4), np.float32)
    for before in (lambda: None, lambda: layer.forward(dy, cache) is cache.reset()):
        before()
        with pytest.raises(KeyError, match="run forward with this cache first"):
            layer.backward(dy, cache)
    y = layer.forward(dy, cache).copy()
    for shape in ((5, 4), (2, 4), (3, 5), (3,), (3, 4, 1), (12,), (4, 3)):
        with pytest.raises(ShapeError, match=r"Dropout: dy has shape .*, expected \(3, 4\)"):
            layer.backward(np.ones(shape, np.float32), cache)
    assert np.array_equal(layer.backward(dy, cache), y)
    assert [*cache.walk()] == []
    unrecorded = Cache(training=True, record=False)
    layer.forward(dy, unrecorded)
    with pytest.raises(KeyError, match="record=False"):
        layer.backward(dy, unrecorded)


def test_rounding_errors_are_similar_to_the_textbooks() -> None:
    """With 2 channels of nearly equal value, layer norm amplifies any float32 error."""
    errors: dict[str, list[float]] = {"textbook": [], "compiled": []}
    for seed in range(100):
        case = make_case("Block", Sizes(B=1, T=37, H=2, D=1), seed)
        for norm in (case.layer.attention_norm, case.layer.mlp_norm):  # type: ignore[attr-defined]
            norm.eps = 1e-5
        fast = compile_case(case)
        grads = []
        for one in (fast.astype(np.float64), case.astype(np.float32), fast):
            cache = one.cache()
            y = one.forward(cache)
            dy = np.random.default_rng(seed).normal(size=y.shape).astype(np.float32)
            one.layer.zero_grad()
            dx = one.backward(dy.astype(y.dtype), cache)["x"]
            grads.append(np.concatenate([dx.ravel(), *(p.grad.ravel() for p in one.layer.parameters().values())]))
        for name, grad in zip(errors, grads[1:], strict=True):
            errors[name].append(np.linalg.norm(grad - grads[0]) / np.linalg.norm(grads[0]))
    assert max(errors["textbook"]) > 2e-5  # the case does occur
    assert np.median(errors["compiled"]) < 1.5 * np.median(errors["textbook"])
    assert max(errors["compiled"]) < 2 * max(errors["textbook"])


def test_second_forward_does_not_change_kept_arrays() -> None:
    for name in CASES:
        case = compile_case(make_case(name))
        cache = case.cache()
        case.forward(cache)
        kept = {path: value.copy() for path, value, _ in cache.walk()}
        if not kept:
            continue  # there is nothing to write over
        floats = case.float_inputs()
        others = {key: x + 1 if key in floats else np.flip(x) for key, x in case.inputs.items()}
        with pytest.raises(KeyError, match="already kept"):
            case.forward(cache, **others)
        assert all(np.array_equal(value, kept[path], equal_nan=True) for path, value, _ in cache.walk())


def test_bits_do_not_depend_on_threads() -> None:
    config = GPTConfig(vocab_size=61, context_length=33, n_layer=2, n_head=2, n_embd=40, dropout=0.1)
    results = []
    for n in (1, 2, 3):
        set_num_threads(n)
        results.append(train(make_gpt(config), 4, batch=5))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_micro_batch_gradients_add_up_to_the_batch_gradient() -> None:
    random, model = np.random.default_rng(0), make_gpt(TINY)
    ids = random.integers(0, 11, (6, 7))
    ids[1, 3:] = ids[4] = 0
    targets = np.where(ids[:, 1:] == 0, layers.IGNORE_INDEX, ids[:, 1:])
    losses, grads = [], []
    for parts in (1, 2, 3):
        losses.append(accumulate(model, ids[:, :-1], targets, Cache(training=True), parts))
        grads.append(model.flat.grads.copy())
    for loss, grad in zip(losses[1:], grads[1:], strict=True):
        assert loss == pytest.approx(losses[0], rel=1e-6)
        assert np.linalg.norm(grad - grads[0]) < 1e-6 * np.linalg.norm(grads[0])


@pytest.mark.parametrize("factor", [2, 3])
def test_later_steps_do_not_allocate_in_proportion_to_the_model(factor: int) -> None:
    config = GPTConfig(40 * factor, 24 * factor, n_layer=2, n_head=2, n_embd=32 * factor, dropout=0.1)
    model = make_gpt(config)
    optimizer, cache = make_optimizer(model), Cache(training=True)
    ids = np.random.default_rng(0).integers(0, 40, (4, config.context_length + 1))

    def step() -> None:
        accumulate(model, ids[:, :-1], ids[:, 1:], cache, 2)
        optimizer.step(1e-2, clip_scale(optimizer.grad_norm(), 1.0))

    step()
    step()
    tracemalloc.start()
    step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000  # ids, targets and Python objects; one (B, T, C) has 24,000 or 55,000 bytes


def test_nan_and_infinity_propagate() -> None:
    for wrong in (math.nan, math.inf):
        for name in (
            "Linear",
            "LayerNorm",
            "Softmax",
            "TanhGELU",
            "GELU",
            "Attention",
            "MLP",
            "Block",
            "VocabularyHead",
        ):
            case = compile_case(make_case(name))
            x = next(iter(case.inputs.values())).copy()
            x[0, 0] = wrong  # in the first example; the others must not change
            cache = case.cache()
            y = case.forward(cache, **{next(iter(case.inputs)): x})
            assert not np.isfinite(y[0]).all(), (name, wrong)
            assert np.isfinite(y[1]).all(), (name, wrong)
            (dx,) = case.backward(y, cache).values()
            assert np.isfinite(dx[1]).all(), (name, wrong)
            assert not np.isfinite(dx[0]).all() or wrong == math.inf, (
                name,
                wrong,
            )  # the slope of GELU at infinity is finite
    model = make_gpt(TINY)
    model.flat.values[-3] = math.nan
    assert math.isnan(evaluate(model, np.arange(10)))


def test_other_precisions_are_rejected_with_a_remedy() -> None:
    x, cache = np.zeros((1, 2, 8)), Cache()
    for name in ("Linear", "LayerNorm", "MLP", "Block"):
        case = compile_case(make_case(name))
        with pytest.raises(ShapeError, match=r"float64, expected float32; convert it with \.astype"):
            case.layer.forward(np.zeros(case.inputs["x"].shape), cache)
    for layer in (compiled.GELU(), compiled.ReLU(), compiled.Softmax()):
        with pytest.raises(ShapeError, match="compiled layers compute in float32"):
            layer.forward(x, cache)


def test_compiled_layer_is_float32_and_becomes_textbook_in_float64() -> None:
    layer = compiled.Block(8, 2).initialise(0)
    assert {param.value.dtype for param in layer.parameters().values()} == {np.dtype(np.float32)}
    assert type(layer.attention.qkv) is compiled.Linear
    double = layer.astype(np.float64)
    assert type(double) is layers.Block
    assert type(double.attention.qkv) is layers.Linear
    assert type(layer.astype(np.float32)) is compiled.Block
    assert type(double.astype(np.float32)) is layers.Block  # a textbook layer stays one


def test_twins_share_their_parameters_and_the_flat_vector() -> None:
    model = make_gpt(TINY)
    other = twin(model, "textbook")
    assert type(other.blocks[1].mlp) is layers.MLP
    assert other.flat is model.flat
    other.flat.values[:] = 0
    assert not model.parameters()["blocks.1.mlp.up.weight"].value.any()
    assert other.head_loss.lm_head is other.lm_head  # a shared layer stays shared


@pytest.mark.parametrize("n", [1, 17, 5000])
def test_compiled_adamw_equals_the_textbook(n: int) -> None:
    random = np.random.default_rng(0)
    models = [make_gpt(GPTConfig(n, 3, 1, 1, 3)) for _ in range(2)]
    optimizers = [AdamW(models[0].flat), CompiledAdamW(models[1].flat)]
    for _ in range(4):
        grads = random.normal(size=models[0].flat.values.size)
        for model, optimizer in zip(models, optimizers, strict=True):
            model.flat.grads[:] = grads
            optimizer.step(1e-2, 0.7)
    assert optimizers[0].grad_norm() == pytest.approx(optimizers[1].grad_norm(), rel=1e-6)
    assert np.allclose(models[0].flat.values, models[1].flat.values, rtol=1e-5, atol=1e-7)


def test_cache_can_be_reused_for_other_batch_sizes() -> None:
    case, small = compile_case(make_case("Block", Sizes(B=3, T=7))), compile_case(make_case("Block", Sizes(B=1, T=2)))
    cache = case.cache()
    y = case.forward(cache).copy()
    case.layer.forward(small.inputs["x"], cache.reset())
    assert np.array_equal(case.forward(cache.reset()), y)


def test_consecutive_layers_of_one_role_do_not_overwrite_their_input() -> None:
    n = 600  # wider than the part of a row that a product reads before it writes
    chain = [compiled.Linear(n, n).initialise(i) for i in range(3)]
    cache, x = Cache(), np.random.default_rng(0).normal(size=(2, 3, n)).astype(np.float32)
    for i, layer in enumerate(chain):
        x = layer.forward(x, cache.scope(f"blocks.{i}", "block"))
    d = expected = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    for i in (2, 1, 0):
        d, expected = chain[i].backward(d, cache.scope(f"blocks.{i}", "block")), expected @ chain[i].weight.value.T
    assert np.linalg.norm(d - expected) < 1e-5 * np.linalg.norm(expected)


def test_unknown_layers_are_rejected() -> None:
    for make in (lambda: make_gpt(TINY, layers="compield"), lambda: twin(layers.ReLU(), "compield")):
        with pytest.raises(ConfigError, match="'compield' are unknown; did you mean compiled"):
            make()


def test_without_numba_jit_textbook_layers_are_used_with_a_warning() -> None:
    code = (
        "from npgpt.build import *; from npgpt.config import *; print(type(make_gpt(GPTConfig(5)).lm_head).__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "npgpt.layers.head"
    assert "(NUMBA_DISABLE_JIT is set); the slower textbook layers are used" in done.stderr


def test_every_case_has_a_compiled_twin() -> None:
    for name in CASES.keys() - TEXTBOOK_ALONE:
        layer = compile_case(make_case(name)).layer
        kinds = [type(part).__module__ for part in (layer, *layer.children().values())]
        assert any(kind.startswith("npgpt.compiled") for kind in kinds) or name.startswith("GPT"), name


@pytest.mark.parametrize("layer", [compiled.LayerNorm(3), compiled.Linear(3, 3)])
def test_a_parameter_that_was_replaced_by_a_shorter_one_is_refused(layer: layers.LayerNorm | layers.Linear) -> None:
    layer.bias.value = np.zeros(1, np.float32)
    with pytest.raises(ShapeError, match=r"bias has shape \(1,\), expected \(3,\)"):
        layer.forward(np.ones((2, 3), np.float32), Cache())
