# D documents, C channels
"""An index of documents: names, unit vectors, and search by cosine, in one safetensors file.

The file has the vectors as the tensor ``vectors``, the arrays of the encoder that made them as ``encoder.<name>``, and
everything else as JSON in one entry of metadata. Reading it executes nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import safetensors.numpy

from npgpt.core import Array
from npgpt.core.shapes import as_floats
from npgpt.core.values import path as check_path
from npgpt.core.values import texts as check_texts
from npgpt.core.values import whole
from npgpt.embeddings.vectors import unit
from npgpt.errors import DataError, ShapeError, brief, quote
from npgpt.support.compressed import packed_for, read_bytes
from npgpt.support.files import write_atomically
from npgpt.support.json_files import parse_json

FORMAT, VERSION = "npgpt-index", 1
OF_ENCODER = "encoder."  # prefix of the names of its tensors


@dataclass(frozen=True)
class Hit:
    """A document found by a search.

    Attributes
        number: its position in the index.
        score: the cosine of its vector and the search vector, −1 to 1.
    """

    number: int
    name: str
    score: float
    text: str


class DocumentIndex:
    """Documents that can be searched by their vectors.

    Args
        names: one for each document.
        texts: the text to show for each document, or its beginning.
        vectors: (D, C) floats; stored as unit vectors in float32. A row of zeros has the cosine 0 with everything.
        settings, arrays: the state of the encoder that made the vectors (``Encoder.state``), stored for searches.
    Raises
        ShapeError or DataError if they do not match, or if a number is infinite or NaN.

    >>> index = DocumentIndex(["a", "b"], ["first", "second"], np.array([[1., 0.], [3., 4.]]))
    >>> [(hit.name, round(hit.score, 3)) for hit in index.search(np.array([0., 2.]))]
    [('b', 0.8), ('a', 0.0)]
    """

    def __init__(
        self,
        names: Sequence[str],
        texts: Sequence[str],
        vectors: Array,
        settings: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Array] | None = None,
    ) -> None:
        self.names = check_texts("DocumentIndex", "names", names)
        self.texts = check_texts("DocumentIndex", "texts", texts)
        if isinstance(vectors, np.ndarray) and vectors.dtype.kind != "f":
            raise ShapeError(f"vectors are {vectors.dtype} {vectors.shape}, expected floats (D, C)")
        vectors = as_floats("DocumentIndex", "vectors", vectors)
        self.settings, self.arrays = dict(settings or {}), dict(arrays or {})
        D = len(self.names)
        if D == 0 or len(self.texts) != D:
            raise DataError(f"an index needs one text for each name, and one document at least; got {D} names and "
                            f"{len(self.texts)} texts")  # fmt: skip
        if vectors.ndim != 2 or len(vectors) != D or vectors.shape[1] == 0:
            raise ShapeError(
                f"vectors are {vectors.dtype} {vectors.shape}, expected floats (D, C) for D = {D} documents"
            )
        if not np.isfinite(vectors).all():
            raise DataError("a vector has a number that is infinite or NaN; the model that made it is damaged")
        self.vectors = unit(vectors).astype(np.float32)

    def __len__(self) -> int:
        return len(self.names)

    def search(self, vector: Array, n: int = 10) -> list[Hit]:
        """Return the n documents with the largest cosines, largest first; equal ones in the order of the index.

        Raises
            ShapeError if the vector is not (C,); DataError if it is not finite.
        """
        n, vector, C = whole("search", "n", n, 0), as_floats("search", "vector", vector), self.vectors.shape[1]
        if vector.shape != (C,):
            raise ShapeError(
                f"the search vector has shape {vector.shape}, expected ({C},); make it by the encoder of the index"
            )
        if not np.isfinite(vector).all():
            raise DataError("the search vector has a number that is infinite or NaN")
        scores = self.vectors @ unit(vector.astype(np.float64))
        best = np.argsort(-scores, kind="stable")[:n]
        return [Hit(int(d), self.names[d], float(scores[d]), self.texts[d]) for d in best]

    def save(self, path: str | Path) -> None:
        """Write the index to one file, compressed if its name ends with .gz, .bz2 or .xz.

        A crash leaves either the old file or the new one.
        """
        path = check_path("save", "path", path)
        tensors = {"vectors": self.vectors} | {OF_ENCODER + name: array for name, array in self.arrays.items()}
        header = {"version": VERSION, "names": self.names, "texts": self.texts, "encoder": self.settings}
        metadata = {FORMAT: json.dumps(header, ensure_ascii=True, allow_nan=False)}
        # safetensors writes an array's memory and ignores its strides
        packed = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        write_atomically(path, packed_for(path, safetensors.numpy.save(packed, metadata)))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an index that ``save`` wrote.

        Raises
            DataError that names the file, and the field that is damaged, missing or of another version.
        """
        path = check_path("load", "path", path)
        data = read_bytes(path)
        try:
            tensors = safetensors.numpy.load(data)
            beginning = data[8 : 8 + int.from_bytes(data[:8], "little")]
            del data
            metadata = parse_json(beginning, "its beginning").get("__metadata__") or {}
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged, or not an index: {brief(error)}; make it again") from None
        if FORMAT not in metadata:
            raise DataError(f"{path} is not an index of npgpt: {FORMAT!r} is missing in its metadata")
        try:
            header = parse_json(metadata[FORMAT], "its header")
        except DataError as error:
            raise DataError(f"{path} is damaged: {error}; make it again") from None
        version = header.get("version") if isinstance(header, dict) else None
        if type(version) is not int or version != VERSION:
            raise DataError(f"{path} has version {quote(version)}; this npgpt reads version {VERSION}")
        for field in ("names", "texts"):
            values = header.get(field)
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                raise DataError(f"{path} is damaged: {field} is not a list of strings; make it again")
        if not isinstance(header.get("encoder"), dict):
            raise DataError(f"{path} is damaged: encoder is not an object; make it again")
        if "vectors" not in tensors:
            raise DataError(f"{path} is damaged: the tensor vectors is missing; make it again")
        vectors = tensors.pop("vectors")
        if unknown := [name for name in tensors if not name.startswith(OF_ENCODER)]:
            raise DataError(f"{path} is damaged: the tensor {quote(unknown[0])} is unknown; make it again")
        arrays = {name.removeprefix(OF_ENCODER): array for name, array in tensors.items()}
        try:
            return cls(header["names"], header["texts"], vectors, header["encoder"], arrays)
        except (ShapeError, DataError) as error:
            raise DataError(f"{path} is damaged: {error}") from None
