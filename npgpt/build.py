"""Where a model is made, and where it is decided by which layers it computes."""

import functools
import struct
import sys
import warnings
from typing import TypeVar

from npgpt.config import LAYERS, GPTConfig
from npgpt.core import Layer
from npgpt.errors import ConfigError, NpgptError, did_you_mean
from npgpt.model import GPT
from npgpt.optim import AdamW

AnyLayer = TypeVar("AnyLayer", bound=Layer)


def make_gpt(config: GPTConfig, layers: str = "compiled", seed: int = 0) -> GPT:
    """A GPT in float32 with GPT-2's initialisation.

    Args
        layers: what computes it: "compiled" (Numba, fast, the same bits on every machine) or "textbook" (plain NumPy).
            The first weights are the same. Where Numba cannot compile, the textbook computes, and a warning says so.
        seed: decides the first weights.
    Warns
        once, if attention has no kernel for the positions; a slower path is used.
    Raises
        ConfigError if there are no such layers.
    """
    check_layers(layers)
    model = GPT(config, seed)
    if layers == "textbook" or not can_compile(stacklevel=3):
        return model
    model = twin(model, "compiled")
    if not model.blocks[0].attention.in_tiles:  # type: ignore[attr-defined]  # compiled attention has it
        _say_that_it_is_slower(config.positions)
    return model


def twin(layer: AnyLayer, layers: str = "compiled") -> AnyLayer:
    """The same layer over the very same Params, computed by other layers. What one of the two learns, the other knows.

    A layer of a reader's own stays as it is, and so does what is made of it.

    Args
        layers: "compiled" or "textbook".
    Raises
        ConfigError if there are no such layers; NpgptError if Numba cannot compile here; ShapeError if a compiled layer
        would have parameters in another precision than float32.
    """
    check_layers(layers)
    if layers == "textbook":
        return layer.recast(lambda part: part.textbook_class())
    if why := why_not_compiled():
        raise NpgptError(f"no compiled layers here: {why}")
    from npgpt.compiled.base import compiled_class

    return layer.recast(compiled_class)


def check_layers(layers: str) -> None:
    """Refuse layers that there are not.

    Raises
        ConfigError that names those that there are.
    """
    if layers not in LAYERS:
        raise ConfigError(f"layers {layers!r} are unknown; {did_you_mean(layers, LAYERS)}")


@functools.cache
def _say_that_it_is_slower(positions: str) -> None:
    warnings.warn(
        f"compiled attention has no kernel for {positions} positions (it has one for rotary): its parts compute one "
        "after the other, with whole (T, T) scores, which takes more time and memory",
        stacklevel=4,
    )


def can_compile(stacklevel: int = 2) -> bool:
    """Whether there are compiled layers here; if not, a warning says why."""
    if why := why_not_compiled():
        warnings.warn(f"no compiled layers here ({why}): the textbook's compute, more slowly", stacklevel=stacklevel)
    return not why


def why_not_compiled() -> str:
    """Why kernels cannot be compiled here; empty if they can."""
    try:
        from npgpt.machine.numba_internals import jit_disabled  # takes a while: only when it is needed

        if jit_disabled():
            return "NUMBA_DISABLE_JIT is set"
        if struct.calcsize("P") != 8 or sys.byteorder != "little":
            return "this is no 64-bit little-endian machine"
        import npgpt.compiled  # noqa: F401
    except ImportError as error:
        return str(error)
    return ""


def make_optimizer(
    layer: Layer, beta1: float = 0.9, beta2: float = 0.95, eps: float = 1e-8, weight_decay: float = 0.1
) -> AdamW:
    """AdamW for all parameters of a model, or of another layer that was packed; compiled if a layer of it is.

    Raises
        ConfigError if the layer was not packed into one vector.
    """
    if layer.flat is None:
        raise ConfigError(f"{type(layer).__name__}: its parameters are not in one vector yet; call pack() first")
    settings = layer.flat, beta1, beta2, eps, weight_decay
    if not any(owner.COMPILED for _, owner, _ in layer.slots()):
        return AdamW(*settings)
    from npgpt.compiled.optim import AdamW as CompiledAdamW

    return CompiledAdamW(*settings)
