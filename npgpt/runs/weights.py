"""The weights of a model and the moments of its optimizer as files of tensors, one for each parameter."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from npgpt.build import make_gpt
from npgpt.config import GPTConfig
from npgpt.core import Array
from npgpt.errors import NpgptError, RunError, brief, quote
from npgpt.model import GPT, deciding_shapes
from npgpt.optim import AdamW
from npgpt.runs.layout import CONFIG
from npgpt.support.files import Buffer, write_atomically

MOMENTS = ("mean", "square")  # attributes of AdamW
PIECE = 1 << 24  # bytes that are written at once


def model_file(model: GPT) -> Iterator[Buffer]:
    """Yield the file of all parameters in pieces."""
    return pieces({name: param.value for name, param in model.parameters().items()})


def save_model(path: Path, model: GPT) -> None:
    """Write all parameters; the old file is replaced only when the new one is complete."""
    write_atomically(path, model_file(model))


def moments_file(model: GPT, optimizer: AdamW) -> Iterator[Buffer]:
    """Yield the file of all moments in pieces."""
    return pieces(_moments(model, optimizer))


def load_moments(path: Path, model: GPT, optimizer: AdamW) -> None:
    """Copy the moments of a file into the optimizer of a model.

    Raises
        RunError that names the file, and the tensor that is missing, unknown, or of the wrong shape or precision.
    """
    with _opened(path) as file:
        _fill(path, _moments(model, optimizer), file)


def load_model(path: Path, config: GPTConfig, layers: str = "compiled") -> GPT:
    """Make a model with the weights of a file.

    Raises
        RunError that names the file, and the tensor that is missing, unknown, or of the wrong shape or precision.
    """
    with _opened(path) as file:
        # Checked before the model is made, so that a hostile configuration cannot make a huge one.
        names = set(file.keys())
        n_layer = len({name.split(".")[1] for name in names if name.startswith("blocks.")})
        wanted = deciding_shapes(config)
        if missing := sorted(wanted.keys() - names):
            raise RunError(f"{path}: the tensor {missing[0]} is missing; does {CONFIG} belong to another model?")
        shape = {name: tuple(file.get_slice(name).get_shape()) for name in wanted}
        if n_layer != config.n_layer or shape != wanted:
            raise RunError(
                f"{path} does not fit {CONFIG}: it has {n_layer} blocks and the shapes {quote(shape, 120)}, "
                f"expected {config.n_layer} blocks and {wanted}"
            )
    model = make_gpt(config, layers, seed=None)
    with _opened(path) as file:
        _fill(path, {name: param.value for name, param in model.parameters().items()}, file)
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


def pieces(tensors: dict[str, Array]) -> Iterator[Buffer]:
    """Yield the bytes that ``safetensors.numpy.save`` returns, for which it needs a second copy of the tensors.

    Small tensors are put together, so a small model is one piece.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "np"}}
    names, end = sorted(tensors), 0
    for name in names:
        kind, start, end = f"F{8 * tensors[name].itemsize}", end, end + tensors[name].nbytes
        header[name] = {"dtype": kind, "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    said = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    said += b" " * (-len(said) % 8)
    some = bytearray(len(said).to_bytes(8, "little") + said)
    for name in names:
        data = np.ascontiguousarray(tensors[name], tensors[name].dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
        if len(some) + data.size > PIECE:
            yield some
            some = bytearray()
        if data.size > PIECE:
            yield from (data[start : start + PIECE].data for start in range(0, data.size, PIECE))
        else:
            some += data.data
    yield some


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file of tensors. They are read one at a time: all of them would be a second copy of a model."""
    path.open("rb").close()  # the error of the system names a file that is missing, and a folder
    try:
        with safetensors.safe_open(path, "np") as file:
            yield file
    except NpgptError:
        raise
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise RunError(
            f"{path} is damaged, or not a safetensors file: {brief(error)}; restore a copy, or train again"
        ) from None


def _fill(path: Path, arrays: dict[str, Array], file: Any) -> None:
    """Copy the tensors of a file into arrays of the same names and shapes. A float16 is widened, which is exact."""
    names = set(file.keys())
    if missing := sorted(arrays.keys() - names):
        raise RunError(f"{path}: the tensor {missing[0]} is missing; does {CONFIG} belong to another model?")
    if unknown := sorted(names - arrays.keys()):
        raise RunError(f"{path}: the tensor {quote(unknown[0])} is unknown; does {CONFIG} belong to another model?")
    for name, array in arrays.items():
        tensor = file.get_tensor(name)
        if tensor.shape != array.shape or tensor.dtype not in (array.dtype, np.float16):
            raise RunError(
                f"{path}: the tensor {name} is {tensor.dtype} {str(tensor.shape)[:60]}, expected {array.dtype} "
                f"{array.shape} by {CONFIG}"
            )
        if not np.isfinite(tensor).all():
            raise RunError(f"{path}: the tensor {name} has infinite or NaN values; train the run again")
        array[...] = tensor
