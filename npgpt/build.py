"""Make a model, textbook or compiled, and its optimizer."""

import functools
import struct
import sys
import warnings
from typing import TypeVar

from npgpt.config import LAYERS, GPTConfig
from npgpt.core import Layer
from npgpt.core.values import shown
from npgpt.errors import ConfigError, NpgptError, did_you_mean
from npgpt.model import GPT
from npgpt.optim import AdamW

AnyLayer = TypeVar("AnyLayer", bound=Layer)


def make_gpt(config: GPTConfig, layers: str = "compiled", seed: int | None = 0) -> GPT:
    """Make a GPT in float32 with GPT-2's initialisation.

    Args
        layers: "compiled" (Numba: fast, the same bits on every machine) or "textbook" (plain NumPy). Both start with
            the same weights. Where Numba cannot compile, textbook layers are used, and a warning gives the reason.
        seed: of the initial weights; None leaves them at zero, for a file to fill.
    Warns
        once, if attention has no kernel for these positions: then a slower path is used.
    Raises
        ConfigError if ``layers`` is unknown.
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
    """Return the compiled or the textbook layer over the same Param objects, so training one also trains the other.

    A user's own layer keeps its class. So does a composite if its compiled twin would do that layer's work itself.

    Args
        layers: "compiled" or "textbook".
    Raises
        ConfigError if ``layers`` is unknown; NpgptError if Numba cannot compile here; ShapeError if the parameters of a
        compiled layer would not be in float32.
    """
    check_layers(layers)
    if layers == "textbook":
        return layer.recast(lambda part: part.textbook_class())
    if why := why_not_compiled():
        raise NpgptError(f"compiled layers are not available here: {why}")
    from npgpt.compiled.base import compiled_class

    return layer.recast(compiled_class)


def check_layers(layers: str) -> None:
    """Raise ConfigError if ``layers`` is unknown; the error names the known values."""
    if not isinstance(layers, str) or layers not in LAYERS:
        raise ConfigError(f"layers {shown(layers)} are unknown; {did_you_mean(str(layers), LAYERS)}")


@functools.cache
def _say_that_it_is_slower(positions: str) -> None:
    warnings.warn(
        f"compiled attention has no tiled kernel for {positions} positions (it has one for relative-bias); a slower "
        "path is used, which needs more memory for whole (T, T) scores",
        stacklevel=4,
    )


def can_compile(stacklevel: int = 2) -> bool:
    """Whether compiled layers are available here; if not, a warning gives the reason."""
    if why := why_not_compiled():
        warnings.warn(
            f"compiled layers are not available here ({why}); the slower textbook layers are used",
            stacklevel=stacklevel,
        )
    return not why


def why_not_compiled() -> str:
    """Return the reason why kernels cannot be compiled here, or "" if they can."""
    try:
        from npgpt.machine.numba_internals import jit_disabled  # takes a while: only when it is needed

        if jit_disabled():
            return "NUMBA_DISABLE_JIT is set"
        if struct.calcsize("P") != 8 or sys.byteorder != "little":
            return "this machine is not 64-bit little-endian"
        import npgpt.compiled  # noqa: F401
    except ImportError as error:
        return str(error)
    return ""


def make_optimizer(
    layer: Layer, beta1: float = 0.9, beta2: float = 0.95, eps: float = 1e-8, weight_decay: float = 0.1
) -> AdamW:
    """Make AdamW for all parameters of a model or another packed layer. It is compiled if any part of the layer is.

    Raises
        ConfigError if the layer was not packed, or if its parameters have changed since.
    """
    if layer.flat is None:
        raise ConfigError(f"{type(layer).__name__}: its parameters are not in one vector; call pack() first")
    layer.flat.check()
    if set(layer.parameters().values()) != set(layer.flat.params):
        raise ConfigError(f"{type(layer).__name__} got or lost parameters after pack(), so call pack() again")
    settings = layer.flat, beta1, beta2, eps, weight_decay
    if not any(owner.COMPILED for _, owner, _ in layer.slots()):
        return AdamW(*settings)
    from npgpt.compiled.optim import AdamW as CompiledAdamW

    return CompiledAdamW(*settings)
