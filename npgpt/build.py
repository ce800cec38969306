"""Where a model is made, and where it is decided by which layers it computes."""

from npgpt import layers as textbook
from npgpt.config import GPTConfig
from npgpt.errors import ConfigError, did_you_mean
from npgpt.model import GPT

KERNELS = {"textbook": textbook}


def make_gpt(config: GPTConfig, kernels: str = "textbook", seed: int = 0) -> GPT:
    """A GPT in float32 with GPT-2's initialisation.

    Args
        kernels: which layers compute it; only "textbook" so far.
        seed: decides the first weights.
    Raises
        ConfigError if there are no such kernels.
    """
    if kernels not in KERNELS:
        raise ConfigError(f"kernels {kernels!r} are unknown; {did_you_mean(kernels, KERNELS)}")
    return GPT(config, KERNELS[kernels], seed)
