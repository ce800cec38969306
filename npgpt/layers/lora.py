# C channels in, F channels out, r rank
import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.layer import with_layers
from npgpt.core.shapes import check_array, check_gradient
from npgpt.core.values import real, whole
from npgpt.errors import ConfigError
from npgpt.layers.linear import Linear, rows


class LoRA(Layer):
    """A frozen linear map, and a trained update of low rank beside it: low-rank adaptation.

    Forward   h = x·A,  y = x·W + b + σ·h·B,  σ = α/r
      W and b are constants. A·B is a matrix like W with r·(C + F) numbers in place of C·F. B begins at 0, so y begins
      as that of the frozen map.
    Backward  given dy = ∂L/∂y:
      1. B_rf is in y_btf with the factor σ·h_btr                  ⇒ dB = σ·hᵀ·dy
      2. h_btr is in y_btf for every f, with the factor σ·B_rf     ⇒ dh = σ·dy·Bᵀ
      3. h = x·A, as in Linear                                     ⇒ dA = xᵀ·dh
      4. x is in x·W and in x·A                                    ⇒ dx = dy·Wᵀ + dh·Aᵀ
    Shapes    x, dx (..., C); y, dy (..., F); A (C, r); B (r, F); h, dh (..., r)
    Keeps     x, h
    Raises    ShapeError if x.shape[-1] != C, or if x and A differ in precision; ConfigError if r < 1
    Source    Hu et al. 2021, arXiv:2106.09685

    Args
        linear: the map to adapt; its arrays are used, and never changed.
        rank: r.
        alpha: α; with a fixed α, the learning rate need not change with r.

    >>> linear = Linear(2, 1)
    >>> linear.weight.value[:] = [[3], [4]]
    >>> lora, cache = LoRA(linear, rank=1, alpha=2.), Cache()
    >>> lora.A.value[:], lora.B.value[:] = [[1], [0]], [[10]]
    >>> lora.forward(np.array([[1., 2.]]), cache)               # 11 + 2·1·10
    array([[31.]])
    >>> lora.backward(np.array([[1.]]), cache)                  # 3 + 2·10·1, 4
    array([[23.,  4.]])
    >>> lora.merged().weight.value
    array([[23.],
           [ 4.]])
    """

    def __init__(self, linear: Linear, rank: int, alpha: float = 16.0) -> None:
        self.W, self.b = linear.weight.value.view(), linear.bias.value.view()
        self.W.flags.writeable = self.b.flags.writeable = False  # constants: arrays, not Params
        rank = whole("LoRA", "rank", rank, 1)
        self.scale = real("LoRA", "alpha", alpha) / rank
        n_in, n_out = self.W.shape
        self.A = Param(np.zeros((n_in, rank), self.W.dtype), 1 / np.sqrt(n_in))
        self.B = Param(np.zeros((rank, n_out), self.W.dtype))

    def forward(self, x: Array, cache: Cache) -> Array:
        check_array("LoRA", "x", x, (..., self.W.shape[0]), like=self.A.value)
        x = cache.keep("x", x)
        h = cache.keep("h", (rows(x) @ self.A.value).reshape(*x.shape[:-1], self.A.value.shape[1]))
        W, b = self.frozen()
        y = rows(x) @ W + b + self.scale * (rows(h) @ self.B.value)
        return y.reshape(*x.shape[:-1], self.W.shape[1])

    def backward(self, dy: Array, cache: Cache) -> Array:
        x, h = cache["x"], cache["h"]
        check_gradient("LoRA", "dy", dy, (*x.shape[:-1], self.W.shape[1]), like=x)
        self.B.grad += self.scale * (rows(h).T @ rows(dy))  # 1.
        dh = cache.note("h", self.scale * (rows(dy) @ self.B.value.T).reshape(h.shape))  # 2.
        self.A.grad += rows(x).T @ rows(dh)  # 3.
        W, _ = self.frozen()
        return cache.note("x", (rows(dy) @ W.T + rows(dh) @ self.A.value.T).reshape(x.shape))  # 4.

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo |= {id(self.W): self.W, id(self.b): self.b}  # a copy has the same constants
        memo[id(self)] = other = type(self).__new__(type(self))
        vars(other).update(copy.deepcopy(vars(self), memo))
        return other

    @property
    def weight(self) -> SimpleNamespace:
        """W as ``weight.value``, for a layer that asks its Linear for a size."""
        return SimpleNamespace(value=self.frozen()[0])

    def frozen(self) -> tuple[Array, Array]:
        """Return W and b in the precision of A, which ``astype`` may have changed."""
        precision = self.A.value.real.dtype
        return self.W.astype(precision, copy=False), self.b.astype(precision, copy=False)

    def merged(self) -> Linear:
        """Return one linear map that computes the same, up to rounding: its weight is W + σ·A·B."""
        made = self.unmerged()
        made.weight.value += self.scale * (self.A.value @ self.B.value)
        return made

    def unmerged(self) -> Linear:
        """Return the frozen map without the update, with the very bits that it had."""
        made = Linear(*self.W.shape)
        for param, value in zip((made.weight, made.bias), self.frozen(), strict=True):
            param.move(value.copy(), np.zeros_like(value))
        return made


def add_lora(layer: Layer, rank: int, alpha: float = 16.0, seed: int = 0) -> list[LoRA]:
    """Put a LoRA in place of every Linear inside a layer, such as a GPT of textbook layers, and return them.

    Their parameters are what an optimizer should get: ``AdamW(FlatParams([param for lora in loras for param in
    lora.parameters().values()]))``. All other parameters of the layer stay as they are if they are not in it.

    Raises
        ConfigError if there is no textbook Linear in it.
    """
    made, seed = list[LoRA](), whole("add_lora", "seed", seed, 0)

    def adapted(linear: Linear) -> LoRA:
        made.append(LoRA(linear, rank, alpha).initialise(seed + len(made)))
        return made[-1]

    _replace(layer, Linear, adapted)
    if not made:
        raise ConfigError(
            f"add_lora: {type(layer).__name__} has no npgpt.layers.Linear inside; for compiled layers, give "
            'twin(model, "textbook")'
        )
    return made


def merge_lora(layer: Layer) -> None:
    """Put the merged Linear in place of every LoRA inside a layer: then it costs what it did before."""
    _replace(layer, LoRA, LoRA.merged)


def remove_lora(layer: Layer) -> None:
    """Put the Linear that was adapted in place of every LoRA inside a layer."""
    _replace(layer, LoRA, LoRA.unmerged)


def _replace(layer: Layer, kind: type[Layer], change: Callable[[Any], Layer]) -> None:
    made: dict[int, Layer] = {}  # a layer that is used twice is replaced by one

    def changed(child: Layer) -> Layer:
        if type(child) is not kind:
            return child
        if id(child) not in made:
            made[id(child)] = change(child)
        return made[id(child)]

    for part in list(layer.walk()):
        for name, value in list(vars(part).items()):
            vars(part)[name] = with_layers(value, changed)
    layer.forget_flat()
