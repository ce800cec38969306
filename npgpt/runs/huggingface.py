# V vocabulary, N context length, C channels, Q = 3·C queries, keys and values, F hidden
"""Folders of GPT-2 models as Hugging Face's ``transformers`` writes and reads them.

    config.json                    the sizes (``gpt2_config.py``)
    model.safetensors              the weights; or several files, listed in model.safetensors.index.json
    tokenizer.json                 the vocabulary; or vocab.json and merges.txt
    tokenizer_config.json          written, but not read: the rest decides the ids

The tables below say which tensor is which parameter of npgpt, and its shape. Both store a weight as (in, out), and
queries, keys and values side by side in this order, so that a tensor is copied as it is. Nothing in a folder is
executed: files of pickles are not read.
"""

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from npgpt.build import make_gpt
from npgpt.config import DataConfig, GPTConfig, RunConfig
from npgpt.core import Array
from npgpt.core.values import path as check_path
from npgpt.errors import ConfigError, DataError, RunError, TokenizerError, brief, quote
from npgpt.layers import LayerNorm
from npgpt.model import GPT
from npgpt.runs.gpt2_config import read_config, written_config
from npgpt.runs.run import Run
from npgpt.support.files import flush_folder, part_of, write_atomically
from npgpt.support.json_files import field, parse_json, read_json
from npgpt.tokenizer import END_OF_TEXT, BPETokenizer, load_tokenizer

CONFIG, WEIGHTS, INDEX, TOKENIZER = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
)
# GPT-2's name -> (npgpt's name, shape).
OF_MODEL = {
    "wte.weight": ("embedding.weight", "VC"),
    "wpe.weight": ("positions.weight", "NC"),
    "ln_f.weight": ("norm.gain", "C"),
    "ln_f.bias": ("norm.bias", "C"),
    "lm_head.weight": ("lm_head.weight", "VC"),  # absent if it is tied to wte.weight
}
OF_BLOCK = {  # h.0., h.1., ... -> blocks.0., blocks.1., ...
    "ln_1.weight": ("attention_norm.gain", "C"),
    "ln_1.bias": ("attention_norm.bias", "C"),
    "attn.c_attn.weight": ("attention.qkv.weight", "CQ"),
    "attn.c_attn.bias": ("attention.qkv.bias", "Q"),
    "attn.c_proj.weight": ("attention.projection.weight", "CC"),
    "attn.c_proj.bias": ("attention.projection.bias", "C"),
    "ln_2.weight": ("mlp_norm.gain", "C"),
    "ln_2.bias": ("mlp_norm.bias", "C"),
    "mlp.c_fc.weight": ("mlp.up.weight", "CF"),
    "mlp.c_fc.bias": ("mlp.up.bias", "F"),
    "mlp.c_proj.weight": ("mlp.down.weight", "FC"),
    "mlp.c_proj.bias": ("mlp.down.bias", "C"),
}
PREFIX, HEAD = "transformer.", "lm_head.weight"  # a model without its head is saved without the prefix
_MASK = re.compile(r"h\.\d+\.attn\.(masked_)?bias")  # buffers of old files: the causal mask, and the number for -inf
_SHARD = re.compile(r"[A-Za-z0-9_.-]+\.safetensors")
MAX_HEADER = 1 << 24  # bytes; that of the largest GPT-2 has 60,000
WORDS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # type of a tensor -> how NumPy reads it


def gpt2_tensors(config: GPTConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return GPT-2's name -> (npgpt's name, shape) of each tensor of a model.

    >>> gpt2_tensors(GPTConfig())["h.3.attn.c_attn.weight"]
    ('blocks.3.attention.qkv.weight', (128, 384))
    """
    C = config.n_embd
    sizes = {"V": config.vocab_size, "N": config.context_length, "C": C, "Q": 3 * C, "F": config.n_inner or 4 * C}
    names = {name: place for name, place in OF_MODEL.items() if name != HEAD or not config.tie_weights}
    for i in range(config.n_layer):
        names |= {f"h.{i}.{name}": (f"blocks.{i}.{ours}", shape) for name, (ours, shape) in OF_BLOCK.items()}
    return {name: (ours, tuple(sizes[letter] for letter in shape)) for name, (ours, shape) in names.items()}


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its name there, its type and shape, and its first byte."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    def read(self) -> Array:
        """Return the values in float32 or float16.

        Raises
            DataError if the file ends too early, or a value is not finite.
        """
        x = np.fromfile(self.path, WORDS[self.dtype], math.prod(self.shape), offset=self.start)
        if x.size < math.prod(self.shape):
            raise DataError(f"{self.path} became shorter while it was read; convert again")
        if self.dtype == "BF16":  # the upper half of a float32
            x = (x.astype(np.uint32) << 16).view(np.float32)
        if not np.isfinite(x).all():
            raise DataError(f"{self.path}: the tensor {self.name} has infinite or NaN values; use another copy")
        return x.reshape(self.shape)


def load_huggingface_model(folder: str | Path, layers: str = "compiled") -> GPT:
    """Make a model in float32 with the weights of a GPT-2. Tensors are read one at a time.

    Args
        folder: with ``config.json`` and the weights in float32, float16 or bfloat16; a tokenizer is not needed.
        layers: as in ``make_gpt``.
    Raises
        DataError that names the file, and the field, or the tensor that is missing, unknown, or of another shape or
        type; ConfigError if the sizes contradict each other.
    """
    folder = check_path("load_huggingface", "folder", folder)
    if not (folder / CONFIG).is_file():
        raise DataError(f"{folder} is not a folder of a GPT-2 as Hugging Face writes it: {CONFIG} is missing")
    config, without_bias = read_config(folder / CONFIG)
    tensors, where = _tensors(folder), f"{folder}: the weights do not fit {CONFIG}"
    n_layer = len({name.split(".")[1] for name in tensors if name.startswith("h.")})
    if n_layer != config.n_layer:  # before the table is made: n_layer may lie, and be huge
        raise DataError(f"{where}: they have {n_layer} blocks, expected {config.n_layer} (n_layer)")
    wanted = gpt2_tensors(config)
    head = tensors.pop(HEAD, None) if config.tie_weights else None
    if unknown := sorted(tensors.keys() - wanted.keys()):
        raise DataError(f"{where}: the tensor {quote(unknown[0])} is unknown; a GPT-2 of these sizes does not have it")
    missing = sorted(name for name in wanted.keys() - tensors.keys() if not (without_bias and name.endswith(".bias")))
    if missing:
        advice = f'; if the model has no biases, write "bias": false into {CONFIG}' * missing[0].endswith(".bias")
        raise DataError(f"{where}: the tensor {missing[0]} {wanted[missing[0]][1]} is missing{advice}")
    first = "h.0.attn.c_attn.weight"  # (C, 3C) as Conv1D stores it, or (3C, C) as Linear does; the others follow
    turned = tensors[first].shape == wanted[first][1][::-1]
    for name in (name for name in wanted if name in tensors):
        _check(tensors[name], wanted[name][1], turned and _of_linear(name))
    model = make_gpt(config, layers, seed=None)  # only now: what config.json says is what the files hold
    params = model.parameters()
    for name, (ours, _) in wanted.items():
        value = params[ours].value
        if name not in tensors:
            value[...] = 0  # a bias
        else:
            x = tensors[name].read()
            value[...] = x.T if turned and _of_linear(name) else x
    if head is not None:
        _check(head, wanted["wte.weight"][1], False)
        if not np.array_equal(head.read(), model.embedding.weight.value):
            raise DataError(
                f"{where}: tie_word_embeddings is true, but {HEAD} is not equal to wte.weight; set it to false to keep "
                f"both, or remove {HEAD}"
            )
    return model


def load_huggingface(folder: str | Path, vocab: str | Path | None = None, layers: str = "compiled") -> Run:
    """Return a GPT-2 with its tokenizer, as a run at step 0 that ``Run.save`` can write.

    Args
        folder: as for ``load_huggingface_model``, with ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.
        vocab: the vocabulary if the folder has none, as for ``load_tokenizer``.
    Raises
        The errors of ``load_huggingface_model``; TokenizerError if there is no tokenizer, or it is that of another
        model.
    """
    folder = check_path("load_huggingface", "folder", folder)
    model = load_huggingface_model(folder, layers)
    has_own = any((folder / name).is_file() for name in (TOKENIZER, "vocab.json"))
    if vocab is None and not has_own:
        raise TokenizerError(
            f"{folder} has no vocabulary: {TOKENIZER}, or vocab.json and merges.txt; give one with --vocab (vocab=)"
        )
    source = folder if vocab is None else check_path("load_huggingface", "vocab", vocab)
    tokenizer = load_tokenizer(source)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise TokenizerError(
            f"{source}: the vocabulary has {tokenizer.vocab_size} tokens, expected {model.config.vocab_size} "
            f"(vocab_size in {folder / CONFIG}); give the vocabulary of this model with --vocab (vocab=)"
        )
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise TokenizerError(f"{source} has no special token {END_OF_TEXT}, which every run needs; add it there")
    return Run(RunConfig(DataConfig(tokenizer=tokenizer.kind), model.config), tokenizer, model)


def save_huggingface(model: Run | GPT, folder: str | Path) -> None:
    """Write a folder that ``transformers`` loads: ``GPT2LMHeadModel.from_pretrained``, ``AutoTokenizer``.

    The weights are written in float32. ``config.json`` comes last, so a folder with it is whole.

    Args
        model: a run; of a GPT, the weights are written without a tokenizer.
        folder: must be empty, or not exist.
    Raises
        ConfigError or TokenizerError if GPT-2 cannot express the model or its tokenizer, with the reason; RunError if
        the folder is not empty or a weight is not finite.
    """
    gpt, tokenizer = (model.model, model.tokenizer) if isinstance(model, Run) else (model, None)
    if not isinstance(gpt, GPT):
        raise ConfigError(f"save_huggingface: model must be a Run or a GPT, not {quote(model)}")
    folder = check_path("save_huggingface", "folder", folder, RunError)
    end = tokenizer.special_tokens[END_OF_TEXT] if tokenizer else None
    config = written_config(gpt.config, end)
    if tokenizer and not isinstance(tokenizer, BPETokenizer):
        raise TokenizerError(
            f"a tokenizer of kind {tokenizer.kind!r} cannot become a GPT-2's, which merges bytes; "
            "save_huggingface(run.model, folder) writes the weights alone"
        )
    for part in gpt.walk():
        if not type(part).__module__.startswith("npgpt."):
            raise ConfigError(f"{type(part).__name__} is not a layer of npgpt, and GPT-2 has no place for it")
        if isinstance(part, LayerNorm) and part.eps != gpt.config.layer_norm_epsilon:
            raise ConfigError(f"a norm has eps {part.eps}, expected {gpt.config.layer_norm_epsilon} by its config")
    params, tensors = gpt.parameters(), {}
    for name, (ours, _) in gpt2_tensors(gpt.config).items():
        value = tensors[name if name == HEAD else PREFIX + name] = np.ascontiguousarray(params[ours].value, np.float32)
        if not np.isfinite(value).all():
            raise RunError(f"the weights {ours} have infinite or NaN values, which are not written; train again")
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists and is not an empty folder; give another one")
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(tokenizer, BPETokenizer):
        tokenizer.to_huggingface(folder / TOKENIZER)
        # Without this, transformers takes the split pattern of GPT-2, whatever tokenizer.json says.
        how = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
        write_atomically(folder / "tokenizer_config.json", (json.dumps(how, indent=2) + "\n").encode())
    path = folder / WEIGHTS
    try:
        safetensors.numpy.save_file(tensors, part_of(path), {"format": "pt"})  # "pt": as transformers expects it
        with part_of(path).open("rb") as file:
            os.fsync(file.fileno())
    except (safetensors.SafetensorError, OSError) as error:
        part_of(path).unlink(missing_ok=True)
        raise RunError(f"{path} could not be written: {brief(error)}; make room, or use another folder") from None
    os.replace(part_of(path), path)
    flush_folder(folder)
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def _of_linear(name: str) -> bool:
    """Whether a tensor is the weight of a linear map, which some programs store as (out, in)."""
    return name.startswith("h.") and ".c_" in name and name.endswith(".weight")


def _check(stored: Stored, shape: tuple[int, ...], turned: bool) -> None:
    expected = shape[::-1] if turned else shape
    if stored.shape != expected or stored.dtype not in WORDS:
        raise DataError(
            f"{stored.path}: the tensor {stored.name} is {stored.dtype} {brief(stored.shape, 60)}, expected "
            f"F32, F16 or BF16 {expected} by {CONFIG}"
        )


def _tensors(folder: Path) -> dict[str, Stored]:
    """Return the tensors of a folder by name, without the prefix and without masks."""
    found: dict[str, Stored] = {}
    for stored in _in_file(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else _in_shards(folder):
        name = stored.name.removeprefix(PREFIX)
        if name in found:
            raise DataError(f"{stored.path}: the tensor {quote(name)} stands there twice, with {PREFIX} and without")
        if not _MASK.fullmatch(name):
            found[name] = stored
    return found


def _in_shards(folder: Path) -> list[Stored]:
    index, found = folder / INDEX, []
    if not index.is_file():
        raise DataError(
            f"{folder} has neither {WEIGHTS} nor {INDEX}; npgpt reads no pickles such as pytorch_model.bin: let "
            "transformers load the model, and save it with save_pretrained"
        )
    listed = field(read_json(index), "weight_map", dict, str(index))
    for name, file in listed.items():
        if not isinstance(file, str) or not _SHARD.fullmatch(file):
            raise DataError(
                f"{index}: {quote(name)} lies in {quote(file)}, expected the name of a .safetensors file in this folder"
            )
    for file in sorted(set(listed.values())):
        if not (folder / file).is_file():
            raise DataError(f"{folder / file} is missing, which {INDEX} lists; copy the folder again")
        tensors = _in_file(folder / file)
        wrong = {stored.name for stored in tensors} ^ {name for name, place in listed.items() if place == file}
        if wrong:
            raise DataError(f"{folder / file}: the tensor {quote(min(wrong))} is in this file or in {INDEX}, not both")
        found += tensors
    return found


def _in_file(path: Path) -> list[Stored]:
    """Return the tensors of a file. Its header is checked by safetensors; the values are not read."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > MAX_HEADER:
            raise DataError(f"{path}: a header of {size:,} bytes is too large for a GPT-2; is it a safetensors file?")
        header = file.read(size)
    try:
        with safetensors.safe_open(path, "np") as opened:  # shapes, offsets and the size of the file agree
            known = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  # it is no dict
            shapes = {name: (tensor.get_dtype(), tuple(tensor.get_shape())) for name, tensor in known.items()}
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise DataError(f"{path} is damaged, or not a safetensors file: {brief(error)}; use another copy") from None
    starts = parse_json(header, str(path))  # NumPy has no bfloat16, so safetensors cannot read it for us
    return [
        Stored(path, name, *shapes[name], 8 + size + field(starts, name, dict, str(path))["data_offsets"][0])
        for name in shapes
    ]
