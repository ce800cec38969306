"""Named configurations for ``npgpt train --preset NAME``; the default one makes a first run worth showing."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """What it is for, in a few words, and its tables of field -> value. Other fields have their defaults."""

    help: str
    tables: dict[str, dict[str, Any]]


# fmt: off
PRESETS = {
    "two-minutes": Preset(
        "a million parameters, byte pairs, rotary positions, two minutes on two cores",
        {
            "model": {"vocab_size": 2048, "positions": "rotary", "dropout": 0.2},
            "train": {"steps": 1800, "learning_rate": 2e-3, "warmup_steps": 100, "beta2": 0.99, "eval_every": 200},
        },
    ),
    "shakespeare-char": Preset(
        "nanoGPT's recipe for a CPU, characters, two minutes on two cores",
        {
            "data": {"tokenizer": "char"},
            "model": {"context_length": 64, "n_layer": 4, "n_head": 4, "n_embd": 128, "dropout": 0.0},
            "train": {
                "steps": 2000, "batch_size": 12, "learning_rate": 1e-3, "min_learning_rate_ratio": 0.1,
                "warmup_steps": 100, "beta2": 0.99, "eval_every": 250,
            },
        },
    ),
    "small": Preset(
        "5 million parameters, byte pairs, a quarter of an hour on two cores",
        {
            "data": {"tokenizer": "bpe"},
            "model": {
                "vocab_size": 2048, "context_length": 128, "n_layer": 6, "n_head": 4, "n_embd": 256, "dropout": 0.1,
            },
            "train": {
                "steps": 4000, "batch_size": 16, "learning_rate": 1e-3, "warmup_steps": 100, "beta2": 0.99,
                "eval_every": 250,
            },
        },
    ),
    "gpt2": Preset(
        "the shape of GPT-2, 124 million parameters, for a large text and days",
        {
            "data": {"tokenizer": "bpe"},
            "model": {"vocab_size": 50257, "context_length": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768},
            "train": {
                "steps": 20_000, "batch_size": 32, "micro_batches": 32, "learning_rate": 6e-4, "warmup_steps": 700,
            },
        },
    ),
}
DEFAULT = "two-minutes"  # of the command; ``RunConfig()`` has the defaults of the fields
