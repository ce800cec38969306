"""Train a run, and write and read its folder.

The folder is written so that a crash loses nothing, and every file is checked when it is read:

    run.json           the list of npgpt's files, and the version of this layout; written first
    config.toml        the resolved configuration
    tokenizer.json     the vocabulary
    model.safetensors  the weights, one tensor for each parameter; replaced as a whole at each evaluation
    metrics.jsonl      one line for each evaluation
    loss.png           the loss over the steps, if matplotlib is installed
    record.jsonl       gradients and updates of each layer over the steps, with --record-every

Reading a folder executes nothing.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import safetensors.numpy

from npgpt.baselines import bigram_loss, unigram_loss
from npgpt.build import make_gpt
from npgpt.config import GPTConfig, RunConfig
from npgpt.core import Array
from npgpt.core.values import flag
from npgpt.core.values import path as check_path
from npgpt.core.values import texts as check_texts
from npgpt.data import encode_texts, read_texts, split_texts
from npgpt.errors import ConfigError, DataError, RunError, TrainingError, brief, quote
from npgpt.model import GPT, deciding_shapes
from npgpt.support.compressed import read_bytes
from npgpt.support.files import part_of, write_atomically
from npgpt.support.json_files import MAX_JSON, field, numbers_line, parse_json, read_json
from npgpt.support.pictures import draw_losses
from npgpt.tokenizer import END_OF_TEXT, KINDS, Tokenizer
from npgpt.train import Step, evaluate, training_steps
from npgpt.version import __version__

FORMAT, VERSION = "npgpt-run", 1
BASELINES = ("unigram_loss", "bigram_loss")
MANIFEST, CONFIG, TOKENIZER, MODEL, METRICS, PICTURE, RECORD = FILES = (
    "run.json",
    "config.toml",
    "tokenizer.json",
    "model.safetensors",
    "metrics.jsonl",
    "loss.png",
    "record.jsonl",
)
OLD_RECORD = "ledger.jsonl"  # its name in npgpt 0.1


class RunFolder:
    """The folder of one run.

    ``RunFolder.check`` refuses a folder that must not be used, before any work is done. ``RunFolder.create`` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def next_free(cls, parent: str | Path = "runs") -> Path:
        """Return ``runs/1``, or the first ``runs/N`` that does not exist."""
        number = 1
        while Path(parent, str(number)).exists():
            number += 1
        return Path(parent, str(number))

    @staticmethod
    def check(path: Path, overwrite: bool) -> None:
        """Raise RunError if a run must not be written to this path.

        A run in the folder is replaced only with overwrite. A file that has the name of a run's file, but that no run
        wrote, is never replaced.
        """
        if not os.path.lexists(path):
            return
        if not path.is_dir():
            raise RunError(f"{path} is not a folder; give a folder for the run")
        ours = read_manifest(path) if (path / MANIFEST).is_file() else []
        if ours and not overwrite:
            raise RunError(f"{path} already holds a run; use another --out, or --overwrite to replace it")
        # Also with overwrite, which removes only files that the manifest lists.
        for name in FILES:
            there = os.path.lexists(path / name)
            if there and (name not in ours or not (path / name).is_file()):
                raise RunError(f"{path / name} exists and is not a file of a run; use another --out")

    @classmethod
    def create(cls, path: Path, config: RunConfig, tokenizer: Tokenizer, overwrite: bool = False) -> Self:
        """Make the folder; with overwrite, first remove the files that its manifest lists."""
        cls.check(path, overwrite)
        config_toml = config.dumps().encode()  # this may fail, so it comes before anything is removed
        old = read_manifest(path) if (path / MANIFEST).is_file() else []
        path.mkdir(parents=True, exist_ok=True)
        # The manifest is written first and stays: so after any crash the folder can still be overwritten.
        made_by = {"npgpt": __version__, "python": platform.python_version()}  # which the built-in text depends on
        manifest = {"format": FORMAT, "version": VERSION, **made_by, "files": list(FILES)}
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
        line = numbers_line(row, RunError)
        with open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(line)


@dataclasses.dataclass
class Run:
    """A trained model, or one in training, with its tokenizer, configuration and metrics.

    Attributes
        metrics: a row for each evaluation: step, train_loss, val_loss, tokens_per_s; the first also has the baselines.
        baselines: unigram_loss and bigram_loss, in nats per token, of the same validation text.
        train_ids, validation_ids: the ids of the texts; None in a loaded run.
    """

    config: RunConfig
    tokenizer: Tokenizer
    model: GPT
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    baselines: dict[str, float] = dataclasses.field(default_factory=dict)
    train_ids: Array | None = None
    validation_ids: Array | None = None

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a run folder; RunError in the cases of ``RunFolder.check``, and for a row that is not of numbers."""
        overwrite = flag("save", "overwrite", overwrite)
        [numbers_line(row, RunError) for row in self.metrics]  # may fail, so it comes before anything is removed
        folder = RunFolder.create(check_path("save", "path", path, RunError), self.config, self.tokenizer, overwrite)
        for row in self.metrics:
            folder.add_metrics(row)
        folder.save_model(self.model)


def train_run(
    config: RunConfig | None = None,
    texts: Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    on_start: Callable[[Run], Any] | None = None,
    on_step: Callable[[Run, Step], Any] | None = None,
    on_evaluation: Callable[[Run, dict[str, Any]], Any] | None = None,
) -> Run:
    """Train a tokenizer and a GPT.

    Args
        texts: documents; by default those that the configuration names, or the built-in ones.
        out: the run folder, written at each evaluation; by default nothing is written (``Run.save`` writes it later).
        overwrite: whether an existing run in this folder may be replaced.
        on_start: called before the first evaluation.
        on_step: called after each optimizer step, before an evaluation at that step.
        on_evaluation: called with the new row of metrics, after the weights have been written.
    Raises
        ConfigError, DataError or TokenizerError if the texts cannot be used; RunError if the folder must not be written
        to; TrainingError if a loss is not finite: the weights of the last evaluation are kept.
    """
    config, overwrite = config or RunConfig(), flag("train_run", "overwrite", overwrite)
    out = None if out is None else check_path("train_run", "out", out, RunError)
    if out is not None:
        _check_out(Path(out), overwrite, config)  # before any work is done
    given = [texts] if isinstance(texts, str) else texts
    documents = read_texts(config.data.text) if given is None else check_texts("train_run", "texts", given)
    train_texts, validation_texts = split_texts(documents, config.data.validation_fraction)
    tokenizer = train_tokenizer(config, train_texts)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size))
    ids, validation_ids = encode_texts(tokenizer, train_texts), encode_texts(tokenizer, validation_texts)
    model = make_gpt(config.model, config.train.layers, config.train.seed)
    training = training_steps(model, ids, config.train)
    baselines = {
        "unigram_loss": unigram_loss(ids, validation_ids, tokenizer.vocab_size),
        "bigram_loss": bigram_loss(ids, validation_ids, tokenizer.vocab_size),
    }
    run = Run(config, tokenizer, model, [], baselines, ids, validation_ids)
    if on_start:
        on_start(run)
    folder = RunFolder.create(Path(out), config, tokenizer, overwrite) if out is not None else None
    losses = [evaluate(model, ids[: 1 + 16 * config.model.context_length])]
    tokens, started = 0, time.perf_counter()
    for step in itertools.chain([None], training):
        if step:
            losses.append(step.loss)
            tokens += step.n_tokens
            if on_step:
                on_step(run, step)
        number = step.number if step else 0
        if number % config.train.eval_every == 0 or number == config.train.steps:
            speed = tokens / (time.perf_counter() - started) if step else 0.0
            row = _evaluate(run, number, losses, speed)
            if folder:
                folder.add_metrics(row)
                folder.save_model(model)
            if on_evaluation:
                on_evaluation(run, row)
            losses.clear()
            tokens, started = 0, time.perf_counter()
    if folder:
        with contextlib.suppress(ConfigError):  # without matplotlib there is no picture
            draw_losses(folder.path / PICTURE, run.metrics)
    return run


def _check_out(out: Path, overwrite: bool, config: RunConfig) -> None:
    RunFolder.check(out, overwrite)
    for text in config.data.text:
        if Path(text).resolve() in [(out / name).resolve() for name in FILES]:
            raise RunError(f"the run in {out} would replace the training text {text}; use another --out")


def _evaluate(run: Run, step: int, losses: list[float], tokens_per_s: float) -> dict[str, Any]:
    """Evaluate, add a row to the metrics of the run, and return it.

    Raises
        TrainingError if the validation loss is not finite.
    """
    assert run.validation_ids is not None  # it is being trained
    val_loss = evaluate(run.model, run.validation_ids)
    if not math.isfinite(val_loss):
        kept = f"; the weights of step {run.metrics[-1]['step']} are kept" if run.metrics else ""
        raise TrainingError(
            f"step {step}: training diverged; the validation loss is {val_loss}{kept}. "
            "Use a lower learning_rate or a longer warm-up (warmup_steps)"
        )
    row = {"step": step, "train_loss": sum(losses) / len(losses), "val_loss": val_loss, "tokens_per_s": tokens_per_s}
    run.metrics.append(row if step else row | run.baselines)
    return run.metrics[-1]


def train_tokenizer(config: RunConfig, texts: Sequence[str]) -> Tokenizer:
    """Train the tokenizer of a configuration on texts."""
    tokenizer: Tokenizer = KINDS[config.data.tokenizer].train(texts, config.model.vocab_size)
    return tokenizer


def load_run(path: str | Path) -> Run:
    """Read a run folder.

    Raises
        RunError, ConfigError or TokenizerError that names the file and the mistake in it.
    """
    path = check_path("load_run", "path", path, RunError)
    if not path.is_dir():
        raise RunError(f"{path} is not a folder; give a run folder, which `npgpt train` makes")
    if not (path / MANIFEST).is_file():
        raise RunError(f"{path} is not a run folder: {MANIFEST} is missing")
    read_manifest(path)
    for name in (CONFIG, TOKENIZER, MODEL):
        if not (path / name).is_file():
            raise RunError(
                f"{path / name} is missing: the run was stopped early, or its copy is incomplete; copy or train again"
            )
    config = RunConfig.load(path / CONFIG, complete=True)
    tokenizer = Tokenizer.load(path / TOKENIZER)
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise RunError(
            f"{path / TOKENIZER} has no token {END_OF_TEXT}, which every run needs; restore a copy, or train again"
        )
    if tokenizer.vocab_size != config.model.vocab_size:
        raise RunError(
            f"{path}: {TOKENIZER} has {tokenizer.vocab_size} tokens, but vocab_size in {CONFIG} is "
            f"{config.model.vocab_size}: the files belong to different runs"
        )
    metrics = read_metrics(path / METRICS)
    baselines = {name: loss for name, loss in (metrics[0] if metrics else {}).items() if name in BASELINES}
    return Run(config, tokenizer, load_model(path / MODEL, config.model), metrics, baselines)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics file. A last row that a crash cut off is left out.

    Raises
        RunError that names the file and the line, if a row is no object of numbers; or if the path is no file.
    """
    rows: list[dict[str, Any]] = []
    if not os.path.lexists(path):
        return rows
    if not path.is_file():
        raise RunError(f"{path} is not a file; remove it, or restore a copy")
    with damage(path):
        data = read_bytes(path, MAX_JSON).removeprefix(b"\xef\xbb\xbf").rstrip(b"\0")  # a power cut may leave NULs
    lines = data.splitlines()
    cut_off = len(lines) if not data.endswith((b"\n", b"\r")) and lines[-1:] and lines[-1].startswith(b"{") else 0
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        where = f"{path}, line {number}"
        try:
            row = parse_json(line, where)
            for name in row if isinstance(row, dict) else ("step",):
                field(row, name, float, where)
        except DataError as error:
            if number == cut_off and not line.rstrip().endswith(b"}"):
                break
            raise RunError(f"{error}; correct the line, or delete the file") from None
        rows.append(row)
    return rows


def read_manifest(path: Path) -> list[str]:
    """Return the names of the files that the manifest of a run folder lists.

    Raises
        RunError if the manifest is damaged, has another version, or lists names that are not of a run's files.
    """
    file = path / MANIFEST
    with damage(file):
        manifest = read_json(file)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RunError(f'{file} is not a manifest of npgpt: "format": "{FORMAT}" is missing')
    if type(manifest.get("version")) is not int or manifest["version"] != VERSION:
        raise RunError(f"{file} has version {quote(manifest.get('version'))}; this npgpt reads version {VERSION}")
    names = manifest.get("files")
    if not isinstance(names, list) or not all(name in (*FILES, OLD_RECORD) for name in names):
        raise RunError(f"{file} lists files that a run does not have: {quote(names)}")
    return names


@contextlib.contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn a DataError, which begins with the path of a run's file, into a RunError."""
    try:
        yield
    except DataError as error:
        why = f"it{str(error).removeprefix(str(path))}"
        raise RunError(f"{path} is damaged: {why}; restore a copy, or train again") from None


def save_model(path: Path, model: GPT) -> None:
    """Write all parameters; the old file is replaced only when the new one is complete."""
    # safetensors writes an array's memory and ignores its strides.
    tensors = {name: np.ascontiguousarray(param.value) for name, param in model.parameters().items()}
    # Only one entry of metadata: several are written in random order, so equal weights would give different files.
    write_atomically(path, safetensors.numpy.save(tensors, {"format": "np"}))


def load_model(path: Path, config: GPTConfig) -> GPT:
    """Make a model with the weights of a file.

    Raises
        RunError that names the file, and the tensor that is missing, unknown, or of the wrong shape or precision.
    """
    path.open("rb").close()  # the error of the system names a file that is missing, and a folder
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise RunError(
            f"{path} is damaged, or not a safetensors file: {brief(error)}; restore a copy, or train again"
        ) from None
    # Checked before the model is made, so that a hostile configuration cannot make a huge one.
    n_layer = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    wanted = deciding_shapes(config)
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise RunError(f"{path}: the tensor {missing[0]} is missing; does {CONFIG} belong to another model?")
    shape = {name: tensors[name].shape for name in wanted}
    if n_layer != config.n_layer or shape != wanted:
        raise RunError(
            f"{path} does not fit {CONFIG}: it has {n_layer} blocks and the shapes {quote(shape, 120)}, "
            f"expected {config.n_layer} blocks and {wanted}"
        )
    model = make_gpt(config)
    params = model.parameters()
    if missing := sorted(params.keys() - tensors.keys()):
        raise RunError(f"{path}: the tensor {missing[0]} is missing; does {CONFIG} belong to another model?")
    if unknown := sorted(tensors.keys() - params.keys()):
        raise RunError(f"{path}: the tensor {quote(unknown[0])} is unknown; does {CONFIG} belong to another model?")
    for name, param in params.items():
        tensor = tensors[name]
        if tensor.shape != param.value.shape or tensor.dtype != param.value.dtype:
            raise RunError(
                f"{path}: the tensor {name} is {tensor.dtype} {str(tensor.shape)[:60]}, expected {param.value.dtype} "
                f"{param.value.shape} by {CONFIG}"
            )
        if not np.isfinite(tensor).all():
            raise RunError(f"{path}: the tensor {name} has infinite or NaN values; train the run again")
        param.value[...] = tensor
    return model
