# B batch, T time, H heads, D head size, C channels (C = H·D), V vocabulary
"""Cases for the laws and the checker: each layer with weights of order one, and inputs for it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

import npgpt.layers as layers
from npgpt.build import AnyLayer, twin
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache, Layer
from npgpt.layers import IGNORE_INDEX
from npgpt.model import GPT


@dataclass(frozen=True)
class Sizes:
    """The sizes of a case. No two of them, nor √D or a product, are equal: so a factor has only one name."""

    B: int = 3
    T: int = 5
    H: int = 2
    D: int = 7
    V: int = 17

    @property
    def C(self) -> int:  # noqa: N802
        return self.H * self.D


@dataclass(frozen=True)
class Case:
    """A layer in float64 and inputs for it.

    Attributes
        inputs: argument of forward -> value, in order. Float arrays get gradients, others do not.
        wrong: inputs of a shape that the layer must reject; None if it takes any shape.
        time_axis: the time axis of inputs and output of a causal layer; None for other layers.
        training: whether dropout is active. Its masks are the same in every pass of a case.
        documents: the number of each token's document, if a row holds several (``Cache``).
        sizes: letter -> size.
    """

    name: str
    layer: Layer
    inputs: dict[str, Any]
    wrong: dict[str, Any] | None = None
    time_axis: int | None = None
    training: bool = False
    documents: Array | None = None
    sizes: dict[str, int] = field(default_factory=dict)

    def arrays(self) -> dict[str, Array]:
        return {name: x for name, x in self.inputs.items() if isinstance(x, np.ndarray)}

    def float_inputs(self) -> dict[str, Array]:
        return {name: x for name, x in self.arrays().items() if x.dtype.kind == "f"}

    def cache(self, **settings: Any) -> Cache:
        return Cache(**{"training": self.training, "seed": 1, "step": 2, "documents": self.documents} | settings)

    def forward(self, cache: Cache, **changed: Any) -> Array:
        """Run the layer on the inputs; ``changed`` replaces some of them."""
        return self.layer.forward(*(self.inputs | changed).values(), cache)

    def backward(self, dy: Array, cache: Cache) -> dict[str, Array]:
        """Run backward; return input -> gradient."""
        grads = self.layer.backward(dy, cache)
        grads = () if grads is None else grads if isinstance(grads, tuple) else (grads,)
        # A wrong backward may return a number, which the laws then find to be of the wrong shape.
        return dict(zip(self.float_inputs(), map(np.asarray, grads), strict=True))

    def astype(self, dtype: npt.DTypeLike) -> "Case":
        inputs = self.inputs | {name: x.astype(dtype) for name, x in self.float_inputs().items()}
        return dataclasses.replace(self, layer=self.layer.astype(dtype), inputs=inputs)


class TrainingLoss(Layer):
    """``GPT.loss`` and ``GPT.loss_backward`` as a layer from ids and targets to a scalar."""

    def __init__(self, gpt: GPT) -> None:
        self.gpt = gpt

    def forward(self, ids: Array, targets: Array, cache: Cache) -> Array:
        return self.gpt.loss(ids, targets, cache)

    def backward(self, dloss: Array, cache: Cache) -> None:
        self.gpt.loss_backward(dloss, cache)


Random = np.random.Generator
Make = Callable[[str, Sizes, Random], Case]


def of_order_one(layer: AnyLayer, random: Random) -> AnyLayer:
    """Draw every parameter, biases and gains too, with standard deviation 1/2: small weights hide mistakes.

    With a standard deviation of 1, softmax saturates after a few layers, and the curvature spoils central differences.
    Layer norms get a large ε. So a missing ε is found, and nearly equal channels do not amplify rounding errors.
    """
    for param in layer.parameters().values():
        param.value[...] = 0.5 * random.normal(size=param.value.shape)
    for _, owner, _ in layer.slots():
        if isinstance(owner, layers.LayerNorm):
            owner.eps = 0.1
    return layer


def _axes(sizes: Sizes) -> tuple[int, ...]:
    """Return the axes before the channels: (B, T), or (B,) if T is 1, for layers that take any number of axes."""
    return (sizes.B, sizes.T) if sizes.T > 1 else (sizes.B,)


def _on_tokens(
    make: Callable[[Sizes], Layer], any_axes: bool = False, any_shape: bool = False, scale: float = 1.0, **settings: Any
) -> Make:
    """Return a function that makes cases of a layer with an input x of shape (B, T, C), or of other axes too."""

    def case(name: str, sizes: Sizes, random: Random) -> Case:
        axes = _axes(sizes) if any_axes or any_shape else (sizes.B, sizes.T)
        x = scale * random.normal(size=(*axes, sizes.C))
        wrong = None if any_shape else {"x": np.zeros((*axes, sizes.C + 1))}
        layer = of_order_one(make(sizes), random)
        return Case(name, layer, {"x": x}, wrong, time_axis=x.ndim - 2, **settings)

    return case


def _packed(make: Make) -> Make:
    """Return a function that makes the same cases with documents of one or two tokens, at other places in each row."""

    def case(name: str, sizes: Sizes, random: Random) -> Case:
        documents = (np.arange(sizes.T) + np.arange(sizes.B)[:, None]) * 2 // 3
        return dataclasses.replace(make(name, sizes, random), documents=documents)

    return case


def _relu(name: str, sizes: Sizes, random: Random) -> Case:
    x = random.normal(size=(*_axes(sizes), sizes.C))
    return Case(name, layers.ReLU(), {"x": x + 0.1 * np.sign(x)}, time_axis=x.ndim - 2)  # away from the kink


def _embedding(name: str, sizes: Sizes, random: Random) -> Case:
    layer = of_order_one(layers.Embedding(sizes.V, sizes.C), random)
    ids = _ids(_axes(sizes), sizes.V, random)
    return Case(name, layer, {"ids": ids}, {"ids": ids + sizes.V}, time_axis=ids.ndim - 1)


def _scores(make: Callable[[Sizes], Layer]) -> Make:
    def case(name: str, sizes: Sizes, random: Random) -> Case:
        q, k = random.normal(size=(2, sizes.B, sizes.H, sizes.T, sizes.D))
        return Case(name, of_order_one(make(sizes), random), {"q": q, "k": k}, {"q": q, "k": k[..., :0]}, time_axis=2)

    return case


def _fewer(sizes: Sizes) -> int:
    """Return the number of distances of a score layer: fewer than T where possible, so that some share the last one."""
    return max(1, sizes.T - 1)


def _softmax(name: str, sizes: Sizes, random: Random) -> Case:
    scores = random.normal(size=(sizes.B, sizes.H, sizes.T, sizes.T))
    return Case(name, layers.Softmax(), {"s": np.where(layers.visible(sizes.T), scores, -np.inf)})


def _mixing(name: str, sizes: Sizes, random: Random) -> Case:
    w = random.normal(size=(sizes.B, sizes.H, sizes.T, sizes.T))
    v = random.normal(size=(sizes.B, sizes.H, sizes.T, sizes.D))
    return Case(name, layers.Mixing(), {"w": w, "v": v}, {"w": w[..., :0], "v": v})


def _cross_entropy(ignored: bool) -> Make:
    def case(name: str, sizes: Sizes, random: Random) -> Case:
        logits = random.normal(size=(*_axes(sizes), sizes.V))
        targets = _targets(logits.shape[:-1], sizes.V, random, ignored)
        wrong = {"logits": logits, "targets": targets[None], "count": None}
        return Case(name, layers.CrossEntropy(), {"logits": logits, "targets": targets, "count": None}, wrong)

    return case


def _head_loss(name: str, sizes: Sizes, random: Random) -> Case:
    layer = of_order_one(layers.HeadLoss(layers.VocabularyHead(sizes.V, sizes.C), layers.CrossEntropy()), random)
    x = random.normal(size=(*_axes(sizes), sizes.C))
    inputs = {"x": x, "targets": _targets(x.shape[:-1], sizes.V, random, ignored=True), "count": None}
    return Case(name, layer, inputs, inputs | {"x": x[..., :-1]})


def _squared_error(name: str, sizes: Sizes, random: Random) -> Case:
    y, t = random.normal(size=(2, *_axes(sizes), sizes.C))
    return Case(name, layers.MeanSquaredError(), {"y": y, "t": t}, {"y": y, "t": t[..., :-1]})


def _lora(name: str, sizes: Sizes, random: Random) -> Case:
    frozen = of_order_one(layers.Linear(sizes.C, sizes.C + 1), random)
    layer = of_order_one(layers.LoRA(frozen, rank=3, alpha=5.0), random)
    x = random.normal(size=(*_axes(sizes), sizes.C))
    return Case(name, layer, {"x": x}, {"x": x[..., :-1]}, time_axis=x.ndim - 2)


def _gpt(n_layer: int = 1, loss: bool = True, ignored: bool = False, **options: Any) -> Make:
    """Return a function that makes cases of a whole model: its logits, or its loss for a full context."""

    def case(name: str, sizes: Sizes, random: Random) -> Case:
        D = max(sizes.D, 2) if options.get("positions") == "rotary" else sizes.D  # a rotation needs a pair of channels
        context_length = sizes.T if loss else sizes.T + 1
        config = GPTConfig(sizes.V, context_length, n_layer, n_head=sizes.H, n_embd=sizes.H * D, **options)
        gpt = of_order_one(GPT(config, dtype=np.float64), random)
        ids = _ids((sizes.B, sizes.T), sizes.V, random)
        wrong = ids[:, :0] if config.any_length else np.zeros((sizes.B, context_length + 1), dtype=int)  # or too long
        training = "dropout" in options
        if not loss:
            return Case(name, gpt, {"ids": ids}, {"ids": wrong}, time_axis=1, training=training)
        inputs = {"ids": ids, "targets": _targets(ids.shape, sizes.V, random, ignored)}
        return Case(name, TrainingLoss(gpt), inputs, {"ids": wrong, "targets": wrong}, training=training)

    return case


def _ids(shape: tuple[int, ...], V: int, random: Random) -> Array:
    ids = random.integers(0, V, shape)
    ids.flat[[0, ids.size // 2, -1]] = V - 1  # the last id, three times
    return ids


def _targets(shape: tuple[int, ...], V: int, random: Random, ignored: bool) -> Array:
    targets = random.integers(0, V, shape)
    if ignored:
        targets[random.random(shape) < 0.4] = IGNORE_INDEX
    targets.flat[0] = V - 1  # the last id; at least one target is not ignored
    return targets


CASES: dict[str, Make] = {
    "Linear": _on_tokens(lambda s: layers.Linear(s.C, s.C + 1), any_axes=True),
    "Embedding": _embedding,
    "LearnedPositions": _on_tokens(lambda s: layers.LearnedPositions(s.T + 1, s.C)),
    "LearnedPositions-packed": _packed(_on_tokens(lambda s: layers.LearnedPositions(s.T + 1, s.C))),
    "SinusoidalPositions": _on_tokens(lambda s: layers.SinusoidalPositions(s.C, 0.5)),
    "ConcatenatedPositions": _on_tokens(
        lambda s: layers.ConcatenatedPositions(layers.LearnedPositions(s.T + 1, s.D), s.C, s.D)
    ),
    "ConcatenatedPositions-unprojected": _on_tokens(
        lambda s: layers.ConcatenatedPositions(layers.LearnedPositions(s.T + 1, s.D), s.C, s.D, projected=False)
    ),
    "NoPositions": _on_tokens(lambda s: layers.NoPositions(), any_shape=True),
    "LayerNorm": _on_tokens(lambda s: layers.LayerNorm(s.C), any_axes=True),
    "ReLU": _relu,
    "TanhGELU": _on_tokens(lambda s: layers.TanhGELU(), any_shape=True, scale=2.0),
    "GELU": _on_tokens(lambda s: layers.GELU(), any_shape=True, scale=2.0),
    "Dropout": _on_tokens(lambda s: layers.Dropout(0.3), any_shape=True, training=True),
    "Scores": _scores(lambda s: layers.Scores()),
    "RelativeBiasScores": _scores(lambda s: layers.RelativeBiasScores(s.H, _fewer(s))),
    "RelativeKeyScores": _scores(lambda s: layers.RelativeKeyScores(_fewer(s), s.D)),
    "RotaryScores": _scores(lambda s: layers.RotaryScores()),
    "AlibiScores": _scores(lambda s: layers.AlibiScores()),
    "Softmax": _softmax,
    "Mixing": _mixing,
    "Attention": _on_tokens(lambda s: layers.Attention(s.C, s.H)),
    "Attention-dropout": _on_tokens(lambda s: layers.Attention(s.C, s.H, 0.2), training=True),
    "Attention-packed": _packed(_on_tokens(lambda s: layers.Attention(s.C, s.H, 0.2), training=True)),
    "Attention-rotary": _on_tokens(
        lambda s: layers.Attention(s.C, s.H, 0.3, score=layers.RotaryScores()), training=True
    ),
    "Attention-relative-bias": _on_tokens(
        lambda s: layers.Attention(s.C, s.H, 0.3, score=layers.RelativeBiasScores(s.H, _fewer(s))), training=True
    ),
    "Attention-relative-keys": _on_tokens(
        lambda s: layers.Attention(s.C, s.H, 0.3, score=layers.RelativeKeyScores(_fewer(s), s.D)), training=True
    ),
    "MLP": _on_tokens(lambda s: layers.MLP(s.C), any_axes=True),
    "Block": _on_tokens(lambda s: layers.Block(s.C, s.H)),
    "Block-dropout": _on_tokens(lambda s: layers.Block(s.C, s.H, 0.1, "gelu"), training=True),
    "VocabularyHead": _on_tokens(lambda s: layers.VocabularyHead(s.V, s.C), any_axes=True),
    "CrossEntropy": _cross_entropy(ignored=False),
    "CrossEntropy-ignore": _cross_entropy(ignored=True),
    "HeadLoss": _head_loss,
    "MeanSquaredError": _squared_error,
    "LoRA": _lora,
    "GPT": _gpt(loss=False),
    "GPT-tied": _gpt(n_layer=3),
    "GPT-untied": _gpt(tie_weights=False),
    "GPT-dropout": _gpt(dropout=0.2),
    "GPT-ignore": _gpt(ignored=True),
    "GPT-packed": _packed(_gpt(n_layer=2)),
    "GPT-sinusoidal": _gpt(positions="sinusoidal"),
    "GPT-concatenated": _gpt(combine="concatenate", n_position=2),
    "GPT-relative-bias": _gpt(positions="relative-bias"),
    "GPT-relative-keys": _gpt(positions="relative-keys"),
    "GPT-rotary": _gpt(positions="rotary", n_layer=2),
    "GPT-alibi": _gpt(positions="alibi"),
    "GPT-none": _gpt(positions="none"),
}

# A block and a whole model have many tensors; small sizes keep the check of every cell fast.
SMALL = Sizes(B=3, T=4, H=2, D=3, V=11)

# Sizes beyond the borders that the others do not cross: 4 heads, and ids from 64 on; more than 64 rows, of two axes.
BORDERS = {"wide": Sizes(B=2, T=5, H=4, D=3, V=70), "rows": Sizes(B=69, T=1, H=4, D=2, V=70)}


def make_case(name: str, sizes: Sizes | None = None, seed: int = 0) -> Case:
    """Return the case of this name, by default with the checker's sizes; ``Linear@rows`` has those of a border."""
    kind, _, border = name.partition("@")
    sizes = sizes or (BORDERS[border] if border else SMALL if kind.startswith(("Block", "GPT")) else Sizes())
    case = CASES[kind](name, sizes, np.random.default_rng(seed))
    return dataclasses.replace(case, sizes={letter: getattr(sizes, letter) for letter in "BTHDVC"})


def compile_case(case: Case) -> Case:
    """Return the case in float32, with a compiled layer."""
    case = case.astype(np.float32)
    return dataclasses.replace(case, layer=twin(case.layer, "compiled"))
