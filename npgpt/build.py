"""Where a model is made, and where it is decided by which layers it computes."""

import functools
import struct
import sys
import warnings
from types import ModuleType

from npgpt import layers as textbook
from npgpt import optim
from npgpt.config import KERNELS, GPTConfig
from npgpt.errors import ConfigError, did_you_mean
from npgpt.model import GPT


def make_gpt(config: GPTConfig, kernels: str = "compiled", seed: int = 0) -> GPT:
    """A GPT in float32 with GPT-2's initialisation.

    Args
        kernels: which layers compute it: "compiled" (Numba, fast, the same bits on every machine) or "textbook"
            (plain NumPy). The first weights are the same.
        seed: decides the first weights.
    Warns
        once, if the kernel of attention does not know the positions, so that a slower way is gone.
    Raises
        ConfigError if there are no such kernels.
    """
    if kernels not in KERNELS:
        raise ConfigError(f"kernels {kernels!r} are unknown; {did_you_mean(kernels, KERNELS)}")
    model = GPT(config, textbook, seed)
    layers = compiled_layers() if kernels == "compiled" else None
    if layers is None:
        return model
    model = model.twin(layers)
    if not model.blocks[0].attention.in_tiles:  # type: ignore[attr-defined]  # compiled attention has it
        _say_that_it_is_slower(config.positions)
    return model


@functools.cache
def _say_that_it_is_slower(positions: str) -> None:
    warnings.warn(
        f"compiled attention has no kernel for {positions} positions (for rotary it has): its parts compute one after "
        "the other, with whole (T, T) scores, which takes more time and memory",
        stacklevel=4,
    )


def compiled_layers() -> ModuleType | None:
    """``npgpt.compiled``, or None and a warning that says why, where kernels cannot be compiled."""
    try:
        from npgpt.machine.numba_internals import jit_disabled  # takes a while: only when it is needed

        if jit_disabled():
            raise ImportError("NUMBA_DISABLE_JIT is set")
        if struct.calcsize("P") != 8 or sys.byteorder != "little":
            raise ImportError("this is no 64-bit little-endian machine")
        from npgpt import compiled
    except ImportError as error:
        warnings.warn(f"no compiled layers here ({error}): the textbook's compute, more slowly", stacklevel=3)
        return None
    return compiled


def make_optimizer(
    model: GPT, beta1: float = 0.9, beta2: float = 0.95, eps: float = 1e-8, weight_decay: float = 0.1
) -> optim.AdamW:
    """AdamW for all parameters of a model, compiled if its layers are."""
    if type(model.lm_head) is textbook.VocabularyHead:
        return optim.AdamW(model.flat, beta1, beta2, eps, weight_decay)
    from npgpt.compiled.optim import AdamW

    return AdamW(model.flat, beta1, beta2, eps, weight_decay)
