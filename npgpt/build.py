"""Where a model is made, and where it is decided by which layers it computes."""

from npgpt import layers as textbook
from npgpt import optim
from npgpt.config import GPTConfig
from npgpt.errors import ConfigError, did_you_mean
from npgpt.model import GPT

KERNELS = ("compiled", "textbook")


def make_gpt(config: GPTConfig, kernels: str = "compiled", seed: int = 0) -> GPT:
    """A GPT in float32 with GPT-2's initialisation.

    Args
        kernels: which layers compute it: "compiled" (Numba, fast, the same bits on every machine) or "textbook"
            (plain NumPy). The first weights are the same.
        seed: decides the first weights.
    Raises
        ConfigError if there are no such kernels.
    """
    if kernels not in KERNELS:
        raise ConfigError(f"kernels {kernels!r} are unknown; {did_you_mean(kernels, KERNELS)}")
    model = GPT(config, textbook, seed)
    if kernels == "textbook":
        return model
    from npgpt import compiled  # Numba takes a while to import: only when it is needed

    return model.twin(compiled)


def make_optimizer(model: GPT, beta1: float, beta2: float, eps: float, weight_decay: float) -> optim.AdamW:
    """AdamW for all parameters of a model, compiled if its layers are."""
    kind = optim.AdamW
    if is_compiled(model):
        from npgpt.compiled.optim import AdamW as kind  # noqa: N813
    return kind(model.flat, beta1, beta2, eps, weight_decay)


def is_compiled(model: GPT) -> bool:
    """Whether a model's layers are those of npgpt.compiled."""
    return type(model.lm_head) is not textbook.VocabularyHead
