"""Readers of checkpoints: going on from a damaged run, and files whose manifest was signed again after the damage."""

import contextlib
import hashlib
import json
import math
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reader import Reader, folder_of, function
from readers_of_runs import tensors_of

from npgpt.build import make_gpt
from npgpt.config import DataConfig, GPTConfig, RunConfig, TrainConfig
from npgpt.errors import DataError, NpgptError, TrainingError
from npgpt.runs import train_run
from npgpt.runs.weights import moments_file
from npgpt.train import optimizer_of

TEXTS = ["The cat sat on the mat. The dog sat on the log.\n" * 4, "A frog sat on a rock.\n" * 4]
CONFIG = RunConfig(
    DataConfig(tokenizer="char"),
    GPTConfig(vocab_size=60, context_length=6, n_layer=1, n_head=1, n_embd=4),
    TrainConfig(steps=4, batch_size=2, eval_every=2, keep=2, layers="textbook"),
)
NEWEST = "checkpoints/3"  # there are 0 and 2, too


def a_stopped_run(folder: Path) -> None:
    done: list[int] = []
    train_run(CONFIG, TEXTS, out=folder, on_step=lambda run, step: done.append(step.number), stop=lambda: 3 in done)
    (folder / "lock").unlink()  # it has the number of this process
    (folder / "record.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in range(5)))


RUN = folder_of(a_stopped_run)
SMALL = RunConfig.from_tables(tomllib.loads(RUN[f"{NEWEST}/config.toml"].decode()))  # with the size of the vocabulary
MOMENTS = RUN[f"{NEWEST}/optimizer.safetensors"]


def go_on(path: Path) -> Any:
    """Go on to the end as the command does. The bits are those of a run that was never damaged."""
    config = function("runs.resume.asked_config")(path, {})
    with contextlib.suppress(TrainingError):  # a damaged row of metrics may tell of better losses
        train_run(config, TEXTS, resume=path)
    files = [path / "checkpoints/4" / name for name in ("model.safetensors", "optimizer.safetensors")]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


# ---- a manifest that was signed again


def sign(checkpoint: Path) -> None:
    """Write a manifest that is right for the files as they are."""
    listed = {}
    for file in checkpoint.iterdir():
        if file.is_file() and file.name != "manifest.json":
            data = file.read_bytes()
            listed[file.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = {"format": "npgpt-checkpoint", "version": 1, "files": listed}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def read_signed(path: Path) -> Any:
    """Sign a damaged checkpoint, read it, and go on for a step."""
    checkpoint = path / NEWEST
    if checkpoint.is_dir():
        sign(checkpoint)
    config, tokenizer = function("runs.checkpoint.read_parts")(checkpoint)
    state = function("runs.checkpoint.read_state")(checkpoint)
    run = function("runs.run.load_run")(path, last=True)
    done: list[int] = []
    try:
        train_run(None, TEXTS, resume=path, on_step=lambda run, step: done.append(1), stop=lambda: bool(done))
    except NpgptError as error:  # also: the settings or the texts are not those of the run
        raise DataError(f"{path}: {error}") from None
    return asdict(state), config.dumps(), tokenizer.vocab_size, run.model.flat.values.tobytes()


def sound_state(value: Any) -> bool:
    state = value[0]
    powers = [state["power1"], state["power2"]]
    finite = all(math.isfinite(x) for x in [*state["losses"], *(state["row"] or {}).values()])
    return finite and 0 <= state["schedule_from"] <= state["step"] and all(0 <= x <= 1 for x in powers)


def read_moments(path: Path) -> Any:
    model = make_gpt(SMALL.model, "textbook")
    optimizer = optimizer_of(model, SMALL.train)
    function("runs.weights.load_moments")(path, model, optimizer)
    written = path.with_name("written")
    written.write_bytes(b"".join(moments_file(model, optimizer)))
    return tensors_of(written)


TO_GO_ON = ["resume.asked_config", "resume.config_in", "folder.RunFolder.reopen", "metrics.cut_record"]
TO_GO_ON += [f"checkpoint.{name}" for name in ("steps_of", "of_step", "clean", "verify", "restore", "best_step")]
READERS = [
    Reader(
        "going on",
        tuple(f"runs.{name}" for name in TO_GO_ON),
        {"folder": RUN},
        go_on,
        command=lambda path: ["train", "--resume", str(path)],
        sealed="",
    ),
    Reader(
        "signed run",
        ("runs.checkpoint.read_parts", "runs.checkpoint.read_state", "runs.weights.load_model"),
        {"folder": {name: data for name, data in RUN.items() if name.startswith(f"{NEWEST}/") or name == "run.json"}},
        read_signed,
        sound_state,
        command=lambda path: ["sample", str(path), "--max-tokens", "3"],
    ),
    Reader("moments", ("runs.weights.load_moments",), {"w": {"": MOMENTS}}, read_moments, witness=tensors_of),
]
