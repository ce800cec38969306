"""Readers of run folders and their files, of texts, JSON and a person's Python."""

import dataclasses
import hashlib
import json
import math
import re
import struct
import tomllib
from pathlib import Path
from typing import Any

from reader import Files, Reader, folder_of, function, of_windows, packed, plain, text_of

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, RunConfig
from npgpt.runs import Run
from npgpt.runs.checkpoint import State
from npgpt.study.exercises import EXERCISES
from npgpt.tokenizer import CharTokenizer
from npgpt.train import optimizer_of

CHARACTERS = CharTokenizer.train("the cat sat")
CONFIG = RunConfig(model=GPTConfig(CHARACTERS.vocab_size, context_length=6, n_layer=1, n_head=1, n_embd=4))
HOME = "checkpoints/9/"
LOSSES = {"train_loss": 2.5, "val_loss": 2.75, "tokens_per_s": 0.0}
ROWS = [{"step": 0, **LOSSES, "unigram_loss": 2.5, "bigram_loss": 2.0}, {"step": 9, **LOSSES}]
OF_LAYER, OF_BLOCK = {"gradient": 0.5, "update_to_weight": 1e-3}, {"attention": 0.25, "mlp": 0.5, "spread": 1.0}
RECORD = [
    {"step": 0, "layers": {"weight": OF_LAYER, "\x1b[31m": OF_LAYER}, "blocks": [OF_BLOCK], "float32_off": None},
    {"step": 50, "layers": {"weight": OF_LAYER, "\x1b[31m": OF_LAYER}, "blocks": [OF_BLOCK], "float32_off": 1e-7},
]


def json_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def a_run(folder: Path) -> None:
    model = make_gpt(CONFIG.model, seed=1)
    optimizer = optimizer_of(model, CONFIG.train)
    optimizer.mean[:], optimizer.square[:] = 0.5, 0.25
    state = State(9, losses=(2.5, 3), texts=[{"name": "the cat", "sha256": "0" * 64}], vocab_size=512)
    Run(CONFIG, CHARACTERS, model, ROWS, optimizer=optimizer, state=state).save(folder)
    (folder / "record.jsonl").write_bytes(json_lines(RECORD))
    (folder / "lock").unlink()  # it has the number of this process


def as_on_windows(files: Files) -> Files:
    return {name: data if name.endswith(".safetensors") else of_windows(data) for name, data in files.items()}


def both(files: Files) -> dict[str, Files]:
    return {"folder": files, "windows": as_on_windows(files)}


RUN = folder_of(a_run)
CHECKPOINT = {name.removeprefix(HOME): data for name, data in RUN.items() if name.startswith(HOME)}
NAMES = ["run.json", "config.toml", "tokenizer.json", "model.safetensors", "metrics.jsonl", "record.jsonl"]
MANIFEST_1 = {"format": "npgpt-run", "version": 1, "files": NAMES}
VERSION_1 = {name: (RUN | CHECKPOINT)[name] for name in NAMES} | {"run.json": json.dumps(MANIFEST_1).encode()}
BATCH = {"step": 3, "x": [[0, 1, 2], [3, 4, 5]], "y": [[1, 2, 3], [4, 5, 6]]}

# ---- runs


def read_run(path: Path) -> Any:
    run = function("runs.run.load_run")(path)
    function("embeddings.run_vectors.token_vectors")(path)
    return run.config.dumps(), run.tokenizer.encode("the cat"), run.model.flat.values.tobytes(), run.metrics


def read_checkpoint(path: Path) -> Any:
    """Read a checkpoint whose manifest was written after the damage, as a person who means harm would."""
    listed = {
        file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in sorted(path.iterdir())
        if file.is_file() and file.name != "manifest.json"
    }
    signed = {"format": "npgpt-checkpoint", "version": 1, "files": listed}
    (path / "manifest.json").write_text(json.dumps(signed))
    function("runs.checkpoint.verify")(path)
    state = function("runs.checkpoint.read_state")(path)
    config, tokenizer = function("runs.checkpoint.read_parts")(path)
    run = function("runs.run.load_run")(path)
    optimizer = optimizer_of(run.model, config.train)
    function("runs.checkpoint.restore")(path, run.model, optimizer, state)
    function("runs.weights.load_moments")(path / "optimizer.safetensors", run.model, optimizer)
    moments = optimizer.mean.tobytes(), optimizer.square.tobytes(), optimizer.power1, optimizer.power2
    return (
        dataclasses.asdict(state),
        config.dumps(),
        tokenizer.encode("the cat"),
        run.model.flat.values.tobytes(),
        moments,
    )


def sound_checkpoint(value: Any) -> bool:
    """Return whether training could go on: the steps are possible, and every number is finite."""
    state, powers = value[0], value[-1][2:]
    numbers = [*powers, state["losses"][0], *(state["row"] or {}).values(), *state["baselines"].values()]
    possible = (
        0 <= state["schedule_from"] <= state["step"] and state["losses"][1] >= 0 and all(0 <= p <= 1 for p in powers)
    )
    return possible and all(math.isfinite(number) for number in numbers)


def read_batch(path: Path) -> Any:
    return [ids.tolist() for ids in function("runs.checkpoint.read_batch")(path, 9)]


def batch_of(path: Path) -> Any:
    record = json.loads(text_of(path))
    return [record["x"], record["y"]]


def read_manifest(path: Path) -> Any:
    function("runs.folder.RunFolder.check")(path, True)
    return function("runs.layout.read_manifest")(path)


def read_model(path: Path) -> Any:
    model = function("runs.weights.load_model")(path, CONFIG.model)
    return {name: param.value.tobytes() for name, param in sorted(model.parameters().items())}


def tensors_of(path: Path) -> Any:
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + n]), data[8 + n :]
    names = sorted(header.keys() - {"__metadata__"})
    return {name: body[slice(*header[name]["data_offsets"])] for name in names}


def metrics_of(path: Path) -> Any:
    """Read all rows, or all but a last one that is cut off."""
    lines = [line for line in plain(path).rstrip(b"\0").splitlines() if line] if path.exists() else []
    rows = [json.loads(line) for line in lines[:-1]]
    try:
        rows += map(json.loads, lines[-1:])
    except ValueError:
        if plain(path).endswith(b"\n"):
            raise
    return rows


def read_record(path: Path) -> Any:
    rows = function("study.trace.over_time.read_record")(path)
    return json.loads(re.sub("NaN", "null", json.dumps(rows)))


def record_of(folder: Path) -> Any:
    path = next(path for path in (folder / "record.jsonl", folder / "ledger.jsonl") if path.exists())
    return [
        {
            "step": row["step"],
            "layers": {name: numbers(layer, OF_LAYER) for name, layer in row["layers"].items()},
            "blocks": [numbers(block, OF_BLOCK) for block in row["blocks"]],
            "float32_off": numbers(row, ["float32_off"])["float32_off"],
        }
        for row in map(json.loads, plain(path).splitlines())
    ]


def numbers(record: Any, names: Any) -> Any:
    return {name: None if record.get(name) is None else float(record[name]) for name in names}


def read_config(path: Path) -> Any:
    function("config.read_toml")(path)
    return function("config.RunConfig.load")(path).dumps()


def config_of(path: Path) -> Any:
    return RunConfig.from_tables(tomllib.loads(text_of(path))).dumps()


# ---- texts and JSON

TEXT = "The cat sat on the mat.\nDon't panic: it's 1790!\n\n東京 is a town\u2028, \x0bé.\n" * 3
VALUE = {"a": [1, 2.5, None], "b": {"c": "é\ud800"}}


def read_texts(path: Path) -> Any:
    text = function("support.files.read_text")(path)
    assert "".join(function("support.files.read_parts")(path, 16)) == text
    assert text.strip() == "" or function("data.read_texts")([path]) == [text]
    return text


def read_json(path: Path) -> Any:
    function("support.compressed.read_bytes")(path)
    return function("support.json_files.read_json")(path)


# ---- a person's Python

LAYER = b"""import numpy as np


class Double:
    def forward(self, x):
        return 2 * x

    def backward(self, dy):
        return 2 * dy
"""


def read_layers(path: Path) -> Any:
    found = function("study.check.files.find_layers")(function("study.check.files.load")(path))
    return [item.name for item in found]


def read_exercise(path: Path) -> Any:
    return function("study.exercises.catalogue.check_file")(path)[0].name


def on_unix_and_windows(data: bytes) -> dict[str, Files]:
    return {"unix.py": {"": data}, "windows.py": {"": of_windows(data)}}


OF_OLD_RUN = ("runs.run.load_run", "embeddings.run_vectors.token_vectors")
OF_RUN = (*OF_OLD_RUN, "runs.checkpoint.best_step")
OF_CHECKPOINT = (
    "runs.checkpoint.verify",
    "runs.checkpoint.read_state",
    "runs.checkpoint.read_parts",
    "runs.checkpoint.restore",
    "runs.weights.load_moments",
)
COMPILATION = 1000  # MiB: Python itself takes 920 to compile 300,000 lines of one letter
OF_CONFIG = ("config.RunConfig.load", "config.read_toml")
OF_FILES = ("data.read_texts", "support.text_files.read_files", "support.text_files.expand_paths")
OF_TEXT = ("support.files.read_text", "support.files.read_parts", *OF_FILES)
OF_JSON = ("support.json_files.read_json", "support.compressed.read_bytes", "support.compressed.open_bytes")
OF_METRICS, OF_RECORD = "runs.metrics.read_metrics", "study.trace.over_time.read_record"
READERS = [
    Reader(
        "run",
        OF_RUN,
        {"folder": RUN},
        read_run,
        command=lambda path: ["sample", str(path), "--max-tokens", "3"],
        sealed="checkpoints/",
    ),
    Reader("run of version 1", OF_OLD_RUN, both(VERSION_1), read_run),
    Reader("checkpoint", OF_CHECKPOINT, {"c": CHECKPOINT}, read_checkpoint, sound=sound_checkpoint),
    Reader(
        "batch", ("runs.checkpoint.read_batch",), packed("b", json.dumps(BATCH).encode()), read_batch, witness=batch_of
    ),
    Reader(
        "manifest of a run",
        ("runs.layout.read_manifest", "runs.folder.RunFolder.check"),
        both({"run.json": RUN["run.json"]}),
        read_manifest,
        witness=lambda path: json.loads(text_of(path / "run.json"))["files"],
    ),
    Reader(
        "weights",
        ("runs.weights.load_model",),
        {"w": {"": CHECKPOINT["model.safetensors"]}},
        read_model,
        witness=tensors_of,
    ),
    Reader("metrics", (OF_METRICS,), packed("m", json_lines(ROWS)), function(OF_METRICS), witness=metrics_of),
    Reader(
        "record",
        (OF_RECORD,),
        both({"record.jsonl": json_lines(RECORD)}) | {"old": {"ledger.jsonl": json_lines(RECORD)}},
        read_record,
        witness=record_of,
        command=lambda path: ["explain", "--over-time", "--run", str(path)],
    ),
    Reader("configuration", OF_CONFIG, packed("c", RUN["config.toml"]), read_config, witness=config_of),
    Reader(
        "text",
        OF_TEXT,
        packed("t", TEXT.encode()),
        read_texts,
        witness=text_of,
        command=lambda path: ["vectors", "index", str(path), "--out", f"{path}.out", "--overwrite"],
    ),
    Reader(
        "JSON",
        OF_JSON,
        packed("j", json.dumps(VALUE, indent=1).encode()),
        read_json,
        witness=lambda path: json.loads(text_of(path)),
    ),
    Reader(
        "Python file",
        ("study.check.files.load",),
        on_unix_and_windows(LAYER),
        read_layers,
        command=lambda path: ["check", str(path)],
        most_memory=COMPILATION,
    ),
    Reader(
        "exercise",
        ("study.exercises.catalogue.check_file",),
        on_unix_and_windows(EXERCISES["linear"].template().encode()),
        read_exercise,
        command=lambda path: ["exercise", "check", str(path)],
        most_memory=COMPILATION,
    ),
]
