"""The weights of a model and the moments of its optimizer as files of tensors, one for each parameter."""

from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from npgpt.build import make_gpt
from npgpt.config import GPTConfig
from npgpt.core import Array
from npgpt.errors import RunError, brief, quote
from npgpt.model import GPT, deciding_shapes
from npgpt.optim import AdamW
from npgpt.runs.layout import CONFIG
from npgpt.support.files import write_atomically

MOMENTS = ("mean", "square")  # attributes of AdamW


def model_bytes(model: GPT) -> bytes:
    return _bytes({name: param.value for name, param in model.parameters().items()})


def save_model(path: Path, model: GPT) -> None:
    """Write all parameters; the old file is replaced only when the new one is complete."""
    write_atomically(path, model_bytes(model))


def moments_bytes(model: GPT, optimizer: AdamW) -> bytes:
    return _bytes(_moments(model, optimizer))


def load_moments(path: Path, model: GPT, optimizer: AdamW) -> None:
    """Copy the moments of a file into the optimizer of a model.

    Raises
        RunError that names the file, and the tensor that is missing, unknown, or of the wrong shape or precision.
    """
    tensors = _read(path)
    _fill(path, _moments(model, optimizer), tensors)


def load_model(path: Path, config: GPTConfig, layers: str = "compiled") -> GPT:
    """Make a model with the weights of a file.

    Raises
        RunError that names the file, and the tensor that is missing, unknown, or of the wrong shape or precision.
    """
    tensors = _read(path)
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
    model = make_gpt(config, layers, seed=None)
    _fill(path, {name: param.value for name, param in model.parameters().items()}, tensors)
    return model


def _moments(model: GPT, optimizer: AdamW) -> dict[str, Array]:
    """Return the moments of each parameter by name: views into the vectors of the optimizer."""
    places, start = {}, 0
    for param in optimizer.flat.params:  # the order within the vectors
        places[param] = slice(start, start := start + param.value.size)
    return {
        f"{moment}.{name}": getattr(optimizer, moment)[places[param]].reshape(param.value.shape)
        for moment in MOMENTS
        for name, param in model.parameters().items()
    }


def _bytes(tensors: dict[str, Array]) -> bytes:
    # safetensors writes an array's memory and ignores its strides. Only one entry of metadata: several are written in
    # random order, so equal weights would give different files.
    return safetensors.numpy.save({name: np.ascontiguousarray(x) for name, x in tensors.items()}, {"format": "np"})


def _read(path: Path) -> dict[str, Array]:
    path.open("rb").close()  # the error of the system names a file that is missing, and a folder
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise RunError(
            f"{path} is damaged, or not a safetensors file: {brief(error)}; restore a copy, or train again"
        ) from None


def _fill(path: Path, arrays: dict[str, Array], tensors: dict[str, Array]) -> None:
    """Copy the tensors of a file into arrays of the same names, shapes and precision."""
    if missing := sorted(arrays.keys() - tensors.keys()):
        raise RunError(f"{path}: the tensor {missing[0]} is missing; does {CONFIG} belong to another model?")
    if unknown := sorted(tensors.keys() - arrays.keys()):
        raise RunError(f"{path}: the tensor {quote(unknown[0])} is unknown; does {CONFIG} belong to another model?")
    for name, array in arrays.items():
        tensor = tensors[name]
        if tensor.shape != array.shape or tensor.dtype != array.dtype:
            raise RunError(
                f"{path}: the tensor {name} is {tensor.dtype} {str(tensor.shape)[:60]}, expected {array.dtype} "
                f"{array.shape} by {CONFIG}"
            )
        if not np.isfinite(tensor).all():
            raise RunError(f"{path}: the tensor {name} has infinite or NaN values; train the run again")
        array[...] = tensor
