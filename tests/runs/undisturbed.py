"""Small runs that were never stopped, and what a run that was stopped is compared with."""

import dataclasses
import functools
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from children import Child
from file_calls import Calls

from npgpt.config import DataConfig, GPTConfig, RunConfig, TrainConfig
from npgpt.core import Array
from npgpt.runs import Run, train_run
from npgpt.runs.weights import model_file
from npgpt.train import training_windows

TEXTS = ("The cat sat on the mat. The dog sat on the log.\n" * 8, "A frog sat on a rock.\n" * 12)
MODEL = GPTConfig(vocab_size=22, context_length=8, n_layer=1, n_head=2, n_embd=8)
TRAIN = TrainConfig(steps=20, batch_size=4, eval_every=3, warmup_steps=5)


def _config(model: dict[str, Any], train: dict[str, Any]) -> RunConfig:
    model_config, train_config = dataclasses.replace(MODEL, **model), dataclasses.replace(TRAIN, **train)
    return RunConfig(DataConfig(tokenizer="char"), model_config, train_config)


CONFIGS = {
    "compiled": _config({}, {"micro_batches": 2, "keep": 1}),
    "compiled-dropout": _config({"dropout": 0.1}, {"micro_batches": 3, "save_at": [0, 1, 10]}),
    "compiled-rotary": _config({"positions": "rotary", "n_layer": 2, "dropout": 0.1}, {"stride": 2, "keep": 2}),
    "compiled-alibi": _config({"positions": "alibi", "n_embd": 16, "tie_weights": False}, {"eval_every": 7}),
    "textbook-dropout": _config({"dropout": 0.1}, {"layers": "textbook", "micro_batches": 2, "save_at": [5, 20]}),
    "textbook-relative": _config({"positions": "relative-bias"}, {"layers": "textbook", "micro_batches": 3, "keep": 1}),
    "compiled-sinusoidal": _config({"positions": "sinusoidal"}, {"grad_clip": 0.1, "save_at": [4], "eval_every": 5}),
}


@dataclasses.dataclass
class Undisturbed:
    """A run that was never stopped.

    Attributes
        weights: the SHA-256 of the weights after each step.
        result: see ``result``.
        n_calls: the number of calls that write (``Calls``).
        seconds: how long it takes in a child process.
    """

    config: RunConfig
    folder: Path
    weights: dict[int, str]
    result: dict[str, Any]
    n_calls: int
    seconds: float


@functools.cache
def undisturbed(name: str) -> Undisturbed:
    """Train the configuration of a name, once in a process."""
    config, home = with_files(CONFIGS[name]), Path(tempfile.mkdtemp(prefix="npgpt-undisturbed-"))
    weights: dict[int, str] = {}

    def seen(run: Run, _: Any) -> None:
        weights[run.state.step] = weights_of(run)

    with Calls(home).counted() as calls:
        run = train_run(config, out=home / "run", on_step=seen, on_evaluation=seen)
    started = time.monotonic()
    with Calls(home).counted():
        assert Child(lambda announce: train_run(config, out=home / "again") and 0).end() == (0, [])
    return Undisturbed(config, home / "run", weights, result(run), len(calls.seen), time.monotonic() - started)


@functools.cache
def text_files() -> list[str]:
    """Return the names of files with the texts, so that a command can read them."""
    home = Path(tempfile.mkdtemp(prefix="npgpt-texts-"))
    for i, text in enumerate(TEXTS):
        (home / f"{i}.txt").write_text(text)
    return sorted(map(str, home.iterdir()))


def with_files(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, text=text_files()))


def weights_of(run: Run) -> str:
    return sha256(b"".join(model_file(run.model)))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def result(run: Run) -> dict[str, Any]:
    """Return all that must be the same after a run that was stopped: what is on the disk, and the next batch."""
    assert run.path is not None and run.train_ids is not None
    newest = run.path / "checkpoints" / str(run.config.train.steps)
    windows = training_windows(run.train_ids, run.config.model.context_length, run.config.train)
    batch: tuple[Array, Array] = windows.batch(run.config.train.steps)
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    state = json.loads((newest / "state.json").read_text())
    files = ("model.safetensors", "optimizer.safetensors", "config.toml", "tokenizer.json")
    return {
        **{name: sha256((newest / name).read_bytes()) for name in files},
        "next batch": sha256(b"".join(part.tobytes() for part in batch)),
        "rows": [{name: number for name, number in row.items() if name != "tokens_per_s"} for row in rows],
        "state": {name: value for name, value in state.items() if name != "row"},
        "names": sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*")),
    }
