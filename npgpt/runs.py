"""The run folder: what it holds, how it is written so that a crash loses nothing, and how it is read with suspicion.

    run.json           which files are ours, and the version of this layout; written first
    config.toml        the resolved configuration
    tokenizer.json     the vocabulary
    model.safetensors  the weights, one tensor a parameter; replaced as a whole at each checkpoint
    metrics.jsonl      a line for each evaluation
    loss.png           the loss over the steps, if matplotlib is installed
    ledger.jsonl       gradients and updates of each layer over the steps, with --ledger-every

Nothing in it is executed when it is read.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import safetensors.numpy

from npgpt import __version__
from npgpt.build import make_gpt
from npgpt.config import GPTConfig, RunConfig
from npgpt.errors import RunError
from npgpt.model import GPT, deciding_shapes
from npgpt.support.files import part_of, write_atomically
from npgpt.tokenizer import END_OF_TEXT, Tokenizer

FORMAT, VERSION = "npgpt-run", 1
MANIFEST, CONFIG, TOKENIZER, MODEL, METRICS, PICTURE, LEDGER = FILES = (
    "run.json",
    "config.toml",
    "tokenizer.json",
    "model.safetensors",
    "metrics.jsonl",
    "loss.png",
    "ledger.jsonl",
)


class RunFolder:
    """A folder that one run writes into.

    ``RunFolder.check`` says whether a run may go there, before any work is done; ``RunFolder.create`` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def next_free(cls, parent: str | Path = "runs") -> Path:
        """``runs/1``, or the first number after it that is not taken."""
        number = 1
        while Path(parent, str(number)).exists():
            number += 1
        return Path(parent, str(number))

    @staticmethod
    def check(path: Path, overwrite: bool) -> None:
        """Refuse a place where a run would be in the way of something.

        Raises
            RunError if the folder holds a run and overwrite is not said, or holds something that is not ours.
        """
        if not os.path.lexists(path):
            return
        if not path.is_dir():
            raise RunError(f"{path} is no folder; name one for the run")
        ours = read_manifest(path) if (path / MANIFEST).is_file() else []
        if ours and not overwrite:
            raise RunError(f"{path} already holds a run; take another --out, or --overwrite to replace it")
        # Checked with overwrite too, which removes nothing but files that the manifest lists.
        for name in FILES:
            there = os.path.lexists(path / name)
            if there and (name not in ours or not (path / name).is_file()):
                raise RunError(f"{path / name} is in the way, and is no file of a run; take another --out")

    @classmethod
    def create(cls, path: Path, config: RunConfig, tokenizer: Tokenizer, overwrite: bool = False) -> Self:
        """Make the folder; with overwrite, remove first what the manifest of the run there lists."""
        cls.check(path, overwrite)
        config_toml = config.dumps().encode()  # before anything is removed: it may fail
        old = read_manifest(path) if (path / MANIFEST).is_file() else []
        path.mkdir(parents=True, exist_ok=True)
        # The manifest goes first and stays: after a crash at any point the folder can still be overwritten.
        manifest = {"format": FORMAT, "version": VERSION, "npgpt": __version__, "files": list(FILES)}
        write_atomically(path / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        for name in old:
            part_of(path / name).unlink(missing_ok=True)
            if name != MANIFEST:
                (path / name).unlink(missing_ok=True)
        write_atomically(path / CONFIG, config_toml)
        tokenizer.save(path / TOKENIZER)
        return cls(path)

    def save_model(self, model: GPT) -> None:
        save_model(self.path / MODEL, model)

    def add_metrics(self, row: dict[str, Any]) -> None:
        with open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that was read."""

    config: RunConfig
    tokenizer: Tokenizer
    model: GPT


def load_run(path: str | Path) -> Run:
    """Read a run folder.

    Raises
        RunError, ConfigError or TokenizerError that names the file and what is wrong with it.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"{path} is not a folder; name one that `npgpt train` made")
    if not (path / MANIFEST).is_file():
        raise RunError(f"{path} is not a run folder: {MANIFEST} is missing")
    read_manifest(path)
    for name in (CONFIG, TOKENIZER, MODEL):
        if not (path / name).is_file():
            raise RunError(f"{path / name} is missing; a run that was stopped early, or a copy that is not complete")
    config = RunConfig.load(path / CONFIG, complete=True)
    tokenizer = Tokenizer.load(path / TOKENIZER)
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise RunError(f"{path / TOKENIZER} has no {END_OF_TEXT}, which the vocabulary of a run needs")
    if tokenizer.vocab_size != config.model.vocab_size:
        raise RunError(
            f"{path}: {TOKENIZER} has {tokenizer.vocab_size} tokens, but {CONFIG} says vocab_size "
            f"{config.model.vocab_size}; the two are not of one run"
        )
    return Run(config, tokenizer, load_model(path / MODEL, config.model))


def read_manifest(path: Path) -> list[str]:
    """The names of the files that a run folder lists as its own.

    Raises
        RunError if the manifest is damaged, of another version, or lists anything but plain names.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file} is damaged: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RunError(f'{file} is not a manifest of npgpt: it has no "format": "{FORMAT}"')
    if type(manifest.get("version")) is not int or manifest["version"] != VERSION:
        raise RunError(f"{file} is of version {manifest.get('version')!r}; this npgpt reads version {VERSION}")
    names = manifest.get("files")
    if not isinstance(names, list) or not set(map(str, names)) <= set(FILES):
        raise RunError(f"{file} lists files that a run does not have: {names!r}")
    return names


def save_model(path: Path, model: GPT) -> None:
    """Write all parameters; the old file is there until the new one is complete."""
    # safetensors writes the memory of an array, whatever its strides say.
    tensors = {name: np.ascontiguousarray(param.value) for name, param in model.parameters().items()}
    # One entry of metadata, no more: several would be written in random order, and equal weights make unequal files.
    write_atomically(path, safetensors.numpy.save(tensors, {"format": "np"}))


def load_model(path: Path, config: GPTConfig) -> GPT:
    """A model with the weights of a file.

    Raises
        RunError that names the file, and the tensor if it is one: damaged, missing, unknown, or of another shape.
    """
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged, or no safetensors file: {error}") from None
    # Before the model is made, so that a hostile configuration cannot make a huge one.
    n_layer = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    wanted = deciding_shapes(config)
    shape = {name: tensors[name].shape for name in wanted if name in tensors}
    if n_layer != config.n_layer or (shape and shape != wanted):
        raise RunError(f"{path} is not the model of {CONFIG}: it has {n_layer} blocks and {shape}")
    model = make_gpt(config)
    params = model.parameters()
    if missing := sorted(params.keys() - tensors.keys()):
        raise RunError(f"{path}: the tensor {missing[0]} is missing; is {CONFIG} that of another model?")
    if unknown := sorted(tensors.keys() - params.keys()):
        raise RunError(f"{path}: the tensor {unknown[0]!r} is unknown; is {CONFIG} that of another model?")
    for name, param in params.items():
        tensor = tensors[name]
        if tensor.shape != param.value.shape or tensor.dtype != param.value.dtype:
            raise RunError(
                f"{path}: the tensor {name} is {tensor.dtype} {tensor.shape}, but {CONFIG} asks for "
                f"{param.value.dtype} {param.value.shape}"
            )
        if not np.isfinite(tensor).all():
            raise RunError(f"{path}: the tensor {name} holds numbers that are infinite or NaN")
        param.value[...] = tensor
    return model
