"""Position schemes: independent computation, longer contexts, compiled twins, and invalid settings."""

import dataclasses
import os
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npgpt import build, compiled, layers
from npgpt.build import make_gpt, make_optimizer
from npgpt.config import GPTConfig, RunConfig
from npgpt.core import Array, Cache
from npgpt.errors import ConfigError, ShapeError
from npgpt.exact import cos_and_sin, exponential
from npgpt.layers.schemes import SCHEMES
from npgpt.layers.scores import slopes, turn
from npgpt.machine.pool import get_num_threads, set_num_threads
from npgpt.model import GPT, deciding_shapes
from npgpt.optim import clip_scale
from npgpt.runs.weights import load_model, save_model
from npgpt.sampling import generate
from npgpt.study.check.cases import Case, TrainingLoss, of_order_one
from npgpt.study.check.checker import check_case
from npgpt.study.reproducible import PLAIN_LIBRARIES
from npgpt.train import accumulate

SMALL = GPTConfig(vocab_size=11, context_length=6, n_layer=2, n_head=2, n_embd=8)
CHOICES: dict[str, dict[str, Any]] = {
    **{positions: {"positions": positions} for positions in SCHEMES},
    "concatenated": {"combine": "concatenate", "n_position": 3},
    "sinusoids concatenated": {"positions": "sinusoidal", "combine": "concatenate", "n_position": 3},
    "unprojected": {"combine": "concatenate-unprojected", "n_position": 3, "tie_weights": False},
}


def model_of(name: str, kernels: str = "textbook", **options: Any) -> GPT:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_gpt(dataclasses.replace(SMALL, **CHOICES[name] | options), kernels)


def queries_and_keys(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=(2, *shape))


def test_own_cosines_sines_and_powers_equal_numpy() -> None:
    for T, D in ((1, 1), (5, 6), (300, 7), (4096, 64)):
        angles = np.outer(np.arange(T), 10000.0 ** (-2 * np.arange((D + 1) // 2) / D))
        cos, sin = cos_and_sin(T, D)
        assert cos.shape == sin.shape == angles.shape
        assert np.abs(cos - np.cos(angles)).max() < 2e-11  # the rounding error of an angle of 4,095
        assert np.abs(sin - np.sin(angles)).max() < 2e-11
    x = np.linspace(-40, 0, 81)
    assert np.abs([exponential(v) for v in x] / np.exp(x) - 1).max() < 1e-13
    assert np.abs(slopes(12) / 2.0 ** (-8 * np.arange(1, 13) / 12) - 1).max() < 1e-14


def test_a_time_step_rotates_the_sinusoids() -> None:
    table = layers.SinusoidalPositions(6).table(np.zeros((1, 20, 6)))
    points = table[:, 1::2] + 1j * table[:, 0::2]  # cos + i·sin
    step = np.exp(1j * 10000.0 ** (-2 * np.arange(3) / 6))
    assert np.abs(points[3:] - points[:-3] * step**3).max() < 1e-13


def test_concatenation_and_projection_equal_addition() -> None:
    layer = layers.ConcatenatedPositions(layers.LearnedPositions(5, 2), 3, 2)
    of_order_one(layer, np.random.default_rng(0))
    weight, bias = (layer.parameters()[f"projection.{name}"].value for name in ("weight", "bias"))
    x = np.random.default_rng(1).normal(size=(2, 4, 3))
    added = x @ weight[:3] + (layer.parameters()["vectors.weight"].value[:4] @ weight[3:] + bias)
    assert np.allclose(layer.forward(x, Cache()), added, atol=1e-14)


def test_rotary_scores_equal_complex_products() -> None:
    q, k = queries_and_keys(2, 3, 7, 4)
    angles = np.outer(np.arange(7), 10000.0 ** (-2 * np.arange(2) / 4))
    turned_q, turned_k = (np.exp(1j * angles) * (x[..., 0::2] + 1j * x[..., 1::2]) for x in (q, k))
    right = (turned_q @ turned_k.conj().swapaxes(-1, -2)).real / 2
    scores = layers.RotaryScores().forward(q, k, Cache())
    seen = np.isfinite(scores)
    assert np.array_equal(seen[0, 0], np.tri(7, dtype=bool))
    assert np.abs(scores - right)[seen].max() < 1e-12


def test_rotation_is_invertible_and_keeps_lengths() -> None:
    for D in (1, 2, 5, 8):
        x = queries_and_keys(2, 3, 7, D)[0]
        assert np.allclose(turn(turn(x), back=True), x, atol=1e-13)
        assert np.allclose(np.linalg.norm(turn(x), axis=-1), np.linalg.norm(x, axis=-1))
        assert np.array_equal(turn(x)[..., D // 2 * 2 :], x[..., D // 2 * 2 :])  # for odd D, the last channel


def test_distance_scores_equal_their_formulas() -> None:
    B, H, T, D, N = 2, 3, 6, 4, 4
    q, k = queries_and_keys(B, H, T, D)
    kinds = {
        "bias": layers.RelativeBiasScores(H, N),
        "keys": layers.RelativeKeyScores(N, D),
        "alibi": layers.AlibiScores(),
    }
    found = {}
    for name, layer in kinds.items():
        of_order_one(layer, np.random.default_rng(1))
        found[name] = layer.forward(q, k, Cache())
    bias, keys = (kinds[name].parameters()["weight"].value for name in ("bias", "keys"))
    for b, h, i, j in np.ndindex(B, H, T, T):
        if j > i:
            assert all(scores[b, h, i, j] == -np.inf for scores in found.values())
            continue
        dot, n = q[b, h, i] @ k[b, h, j] / 2, min(i - j, N - 1)
        right = {
            "bias": dot + bias[h, n],
            "keys": dot + q[b, h, i] @ keys[n] / 2,
            "alibi": dot - 2 ** (-8 * (h + 1) / H) * (i - j),
        }
        for name, scores in found.items():
            assert abs(scores[b, h, i, j] - right[name]) < 1e-12


def test_scores_depend_only_on_the_distance() -> None:
    """The same query and key have the same score at every position with the same distance."""
    rng = np.random.default_rng(0)
    q, k = (np.broadcast_to(rng.normal(size=(1, 2, 1, 4)), (1, 2, 9, 4)) for _ in range(2))
    for name in ("RelativeBiasScores", "RelativeKeyScores", "RotaryScores", "AlibiScores"):
        sizes = {"RelativeBiasScores": (2, 5), "RelativeKeyScores": (5, 4)}.get(name, ())
        scores = of_order_one(getattr(layers, name)(*sizes), rng).forward(q, k, Cache())
        for n in range(9):
            diagonal = np.diagonal(scores, -n, 2, 3)
            assert np.abs(diagonal - diagonal[..., :1]).max() < 1e-12
        assert np.abs(scores[0, 0, 8, 8] - scores[0, 0, 8, :8]).min() > 1e-6  # and they do depend on it


@pytest.mark.parametrize("name", CHOICES)
def test_only_without_positions_one_block_ignores_the_order(name: str) -> None:
    model = of_order_one(model_of(name, n_layer=1).astype(np.float64), np.random.default_rng(0))
    ids, mixed = np.array([[1, 2, 3, 4, 5]]), np.array([[3, 1, 4, 2, 5]])
    last = [model.forward(x, Cache())[0, -1] for x in (ids, mixed)]
    assert np.allclose(*last, atol=1e-12) == (name == "none")


@pytest.mark.parametrize("name", ["unprojected", "sinusoids concatenated"])
def test_gradients_of_schemes_without_a_case(name: str) -> None:
    gpt = of_order_one(model_of(name, n_layer=1).astype(np.float64), np.random.default_rng(3))
    assert isinstance(gpt, GPT)
    ids = np.random.default_rng(1).integers(0, 11, (2, 2, 4))
    assert check_case(Case(name, TrainingLoss(gpt), {"ids": ids[0], "targets": ids[1]})).passed


def test_added_learned_positions_are_the_default() -> None:
    names = list(make_gpt(SMALL, "textbook").parameters())
    assert names[:3] == ["embedding.weight", "positions.weight", "blocks.0.attention_norm.gain"]
    assert not [name for name in names if "score" in name or "vectors" in name]
    assert (GPTConfig().positions, GPTConfig().combine) == ("learned", "add")


@pytest.mark.parametrize("name", CHOICES)
def test_tied_weights_are_one_matrix_with_any_positions(name: str) -> None:
    model = model_of(name)
    if model.config.tie_weights:
        assert model.lm_head.weight is model.embedding.weight
        assert model.embedding.weight.value.shape == (11, 8)
    shapes = deciding_shapes(model.config)
    assert "embedding.weight" in shapes
    assert {key: model.lm_head.weight.value.shape if key == "lm_head.weight" else param.value.shape
            for key, param in model.parameters().items() if key in shapes} == shapes  # fmt: skip


@pytest.mark.parametrize("kernels", ["textbook", "compiled"])
@pytest.mark.parametrize("positions", SCHEMES)
def test_longer_inputs_than_the_context_unless_positions_are_learned(positions: str, kernels: str) -> None:
    model, ids = model_of(positions, kernels), np.arange(20)[None] % 11
    if positions == "learned":
        with pytest.raises(ShapeError, match=r"20 tokens in a row, expected 1 to 6 \(context_length\)"):
            model.forward(ids, Cache())
        return
    logits = model.forward(ids, Cache()).copy()
    assert logits.shape == (1, 20, 11)
    assert np.allclose(logits[:, :6], model.forward(ids[:, :6], Cache()), atol=1e-5)
    with pytest.raises(ShapeError, match="0 tokens"):
        model.forward(ids[:, :0], Cache())


@pytest.mark.parametrize("positions", SCHEMES)
def test_sampling_with_a_longer_context(positions: str) -> None:
    model = model_of(positions)
    prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    short = list(generate(model, prompt, 12, seed=1))
    assert short == list(generate(model, prompt[-6:], 12, seed=1, context=6))
    most = 6 if positions == "learned" else 24
    assert len(list(generate(model, prompt, 12, context=most))) == 12
    for wrong in (most + 1, 0, -3):
        with pytest.raises(ConfigError, match=f"the context must be 1 to {most} tokens, not {wrong}"):
            list(generate(model, prompt, 1, context=wrong))


def test_context_errors_give_the_reason() -> None:
    with pytest.raises(ConfigError, match="learned vectors for 6 positions only"):
        list(generate(model_of("learned"), [1], 1, context=7))
    with pytest.raises(ConfigError, match="trained on 6 tokens, and longer contexts are unreliable"):
        list(generate(model_of("rotary"), [1], 1, context=25))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"positions": "rotery"}, "positions 'rotery' is unknown; did you mean rotary"),
        ({"combine": "concat"}, "combine 'concat' is unknown; did you mean concatenate"),
        ({"n_position": 0}, "n_position must be at least 1"),
        ({"positions": "alibi", "combine": "concatenate"}, "combine 'concatenate' needs positions that are vectors"),
        (
            {"combine": "concatenate-unprojected"},
            r"cannot share weights; set tie_weights to false \(--no-tie-weights\)",
        ),
        (
            {"combine": "concatenate-unprojected", "tie_weights": False, "n_position": 8},
            "n_position 8 leaves no channel of n_embd 8 for the token",
        ),
        ({"positions": "rotary", "n_head": 8}, "'rotary' rotate pairs of channels, but n_embd 8 among n_head 8 heads"),
    ],
)
def test_incompatible_settings_are_rejected(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **choices)


def test_config_of_an_older_version_is_read(tmp_path: Path) -> None:
    lines = RunConfig().dumps().splitlines()
    older = [line for line in lines if not line.startswith(("positions", "combine", "n_position"))]
    assert len(lines) - len(older) == 3
    (tmp_path / "config.toml").write_text("\n".join(older))
    assert RunConfig.load(tmp_path / "config.toml", complete=True) == RunConfig()


@pytest.mark.parametrize("name", CHOICES)
def test_saved_model_round_trip(name: str, tmp_path: Path) -> None:
    model = of_order_one(model_of(name), np.random.default_rng(0))  # not what a fresh model of the same seed has
    save_model(tmp_path / "model.safetensors", model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = load_model(tmp_path / "model.safetensors", model.config)
    assert np.array_equal(again.flat.values, model.flat.values)


def train(model: GPT, steps: int = 4, batch: int = 3) -> Array:
    random = np.random.default_rng(0)
    optimizer, cache = make_optimizer(model), Cache(training=True, seed=3)
    V, T = model.config.vocab_size, model.config.context_length
    for step in range(steps):
        ids = random.integers(0, V, (batch, T + 1))
        accumulate(model, ids[:, :-1], ids[:, 1:], cache, step=step)
        optimizer.step(1e-2, clip_scale(optimizer.grad_norm(), 1.0))
    return model.flat.values


@pytest.mark.parametrize("name", CHOICES)
def test_compiled_training_equals_textbook_training(name: str) -> None:
    textbook, fast = (model_of(name, kernels, dropout=0.2) for kernels in ("textbook", "compiled"))
    assert np.array_equal(textbook.flat.values, fast.flat.values)
    before = textbook.flat.values.copy()
    moved = train(textbook) - before
    assert np.linalg.norm(train(fast) - before - moved) < 2e-3 * np.linalg.norm(moved)


@pytest.mark.parametrize("name", CHOICES)
def test_bits_do_not_depend_on_threads(name: str) -> None:
    before, results = get_num_threads(), []
    try:
        for n in (1, 3):
            set_num_threads(n)
            model = model_of(name, "compiled", context_length=33, n_embd=40, dropout=0.1)
            results.append(train(model, batch=5).copy())
    finally:
        set_num_threads(before)
    assert np.array_equal(*results)


HASHES = """
import hashlib, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
from test_positions import CHOICES, model_of, train
for name in CHOICES:
    weights = train(model_of(name, "compiled", context_length=9, n_embd=24, dropout=0.1))
    print(name, hashlib.sha256(weights.tobytes()).hexdigest())
"""


def test_bits_do_not_depend_on_cpu_features_of_libraries() -> None:
    """NumPy, BLAS and the C library use less of the CPU; sines, powers and products are npgpt's own."""
    found = [
        subprocess.run(
            [sys.executable, "-c", HASHES, str(Path(__file__).parent)],
            env=os.environ | variables,
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
        for variables in ({}, PLAIN_LIBRARIES)
    ]
    assert found[0] == found[1]
    assert len(found[0].splitlines()) == len(CHOICES)


def test_missing_tiled_kernel_warns_once() -> None:
    in_tiles = {}
    for positions in SCHEMES:
        build._say_that_it_is_slower.cache_clear()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            models = [make_gpt(dataclasses.replace(SMALL, positions=positions)) for _ in range(2)]
            make_gpt(dataclasses.replace(SMALL, positions=positions), "textbook")
        attention = models[0].blocks[0].attention
        assert isinstance(attention, compiled.Attention)
        in_tiles[positions] = attention.in_tiles
        assert len(said) == (0 if attention.in_tiles else 1)
        assert all(f"no tiled kernel for {positions} positions" in str(warning.message) for warning in said)
    assert [positions for positions in SCHEMES if not in_tiles[positions]] == ["relative-keys"]


def test_tiled_attention_refuses_biases_of_other_heads() -> None:
    attention = build.twin(layers.Attention(8, 2, score=layers.RelativeBiasScores(1, 5)).astype(np.float32))
    with pytest.raises(ShapeError, match="RelativeBiasScores: q"):
        attention.forward(np.zeros((2, 5, 8), np.float32), Cache())


def test_compiled_attention_accepts_a_users_score_layer() -> None:
    class Shifted(layers.Scores):
        """Scores minus the first channel of the query: softmax does not depend on it."""

        def forward(self, q: Array, k: Array, cache: Cache) -> Array:
            return super().forward(q, k, cache) - q[..., :1]

        def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
            dq, dk = super().backward(ds, cache)
            dq = dq.copy()
            dq[..., :1] -= np.where(np.isfinite(ds), ds, 0).sum(-1, keepdims=True)
            return dq, dk

    plain = of_order_one(layers.Attention(8, 2), np.random.default_rng(1)).astype(np.float32)
    own = build.twin(plain)
    own.score = Shifted()  # type: ignore[assignment]
    assert not own.in_tiles  # type: ignore[attr-defined]
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    results = []
    for attention in (plain, own):
        cache = Cache()
        attention.zero_grad()
        y = attention.forward(x, cache).copy()
        results.append((y, attention.backward(np.cos(9 * x), cache).copy(), attention.qkv.weight.grad.copy()))
    for one, other in zip(*results, strict=True):
        assert np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("positions", ["rotary", "alibi", "relative-bias"])
def test_training_in_tiles_allocates_only_in_the_first_step(positions: str) -> None:
    config = GPTConfig(40, 96, n_layer=2, n_head=2, n_embd=128, dropout=0.1, positions=positions)
    model = make_gpt(config)
    optimizer, cache = make_optimizer(model), Cache(training=True)
    ids = np.random.default_rng(0).integers(0, 40, (12, config.context_length + 1))

    def step() -> None:
        accumulate(model, ids[:, :-1], ids[:, 1:], cache, 2)
        optimizer.step(1e-2, clip_scale(optimizer.grad_norm(), 1.0))

    step()
    step()
    tracemalloc.start()
    step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150_000  # NumPy's loops have buffers of 8,192 numbers; one (B, T, C) has 295,000 bytes


@pytest.mark.parametrize("kind", ["textbook", "compiled"])
def test_gpt_accepts_vectors_instead_of_ids(kind: str) -> None:
    from npgpt.study.check.checker import gradcheck

    model = make_gpt(GPTConfig(11, 8, n_layer=1, n_head=2, n_embd=8), layers=kind)
    ids = np.array([[1, 5, 2, 5]])
    vectors = model.embedding.weight.value[ids]
    by_ids, by_vectors = Cache(), Cache()
    assert np.array_equal(model.forward(ids, by_ids), model.forward(vectors, by_vectors))
    dlogits = np.random.default_rng(0).normal(size=(1, 4, 11)).astype(np.float32)
    assert model.backward(dlogits, by_ids) is None
    dvectors = model.backward(dlogits, by_vectors)
    assert dvectors is not None and dvectors.shape == vectors.shape
    plain, cache = build.twin(model, "textbook").astype(np.float64), Cache()
    plain.forward(vectors.astype(np.float64), cache)
    right = plain.backward(dlogits.astype(np.float64), cache)
    assert np.linalg.norm(dvectors - right) < 1e-5 * np.linalg.norm(right)
    if kind == "textbook":
        assert gradcheck(model, vectors).passed
    with pytest.raises(ShapeError, match="expected"):
        model.forward(vectors[..., :3], Cache())
