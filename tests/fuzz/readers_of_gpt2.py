"""Readers of the folders of GPT-2 models, in one file of weights and in several."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from reader import Reader, folder_of, function
from safetensors.numpy import load_file, save_file

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, RunConfig
from npgpt.runs import Run, save_huggingface
from npgpt.tokenizer import BPETokenizer

SIZES = GPTConfig(257, context_length=3, n_layer=1, n_head=1, n_embd=2, n_inner=3, tie_weights=False)


def whole(folder: Path) -> None:
    run = Run(RunConfig(model=SIZES), BPETokenizer([], ["<|endoftext|>"]), make_gpt(SIZES, "textbook", seed=1))
    save_huggingface(run, folder)


def shards(folder: Path) -> None:
    whole(folder)
    tensors = load_file(folder / "model.safetensors")
    place = {name: f"model-{1 + i % 2}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(place.values()):
        save_file({name: x for name, x in tensors.items() if place[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    (folder / "model.safetensors").unlink()


def read(path: Path) -> Any:
    run = function("runs.huggingface.load_huggingface")(path, layers="textbook")
    function("runs.gpt2_config.read_config")(path / "config.json")
    return run.config.dumps(), run.tokenizer.encode("the cat"), run.model.flat.values.tobytes()


def sound(value: Any) -> bool:
    return bool(np.isfinite(np.frombuffer(value[2], np.float32)).all())


COVERS = (
    "runs.huggingface.load_huggingface",
    "runs.huggingface.load_huggingface_model",
    "runs.gpt2_config.read_config",
)
READERS = [Reader("GPT-2", COVERS, {"folder": folder_of(whole), "old": folder_of(shards)}, read, sound)]
