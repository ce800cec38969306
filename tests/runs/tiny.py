"""A tiny run for tests: it trains in a fraction of a second."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from npgpt.config import DataConfig, GPTConfig, RunConfig, TrainConfig

TEXTS = ["The cat sat on the mat. The dog sat on the log.\n" * 20, "A frog sat on a rock.\n" * 20]
SMALL = RunConfig(
    DataConfig(tokenizer="char"),
    GPTConfig(vocab_size=60, context_length=8, n_layer=1, n_head=1, n_embd=8),
    TrainConfig(steps=4, batch_size=2, eval_every=2),
)


def small(dropout: float = 0.0, **train: Any) -> RunConfig:
    """Return the tiny configuration with other settings of training."""
    model = dataclasses.replace(SMALL.model, dropout=dropout)
    return dataclasses.replace(SMALL, model=model, train=dataclasses.replace(SMALL.train, **train))


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of weights, moments and state of the newest checkpoint of a run."""
    path = checkpoints(folder)[-1]
    found = {name: (path / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")}
    state = json.loads((path / "state.json").read_text())
    if state["row"]:
        del state["row"]["tokens_per_s"]
    found["state"] = json.dumps(state).encode()
    return {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}


def checkpoints(folder: Path) -> list[Path]:
    found = [path for path in (folder / "checkpoints").iterdir() if path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name))


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics, but for the speed."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "tokens_per_s"} for row in lines]
