# B batch, T time, H heads, V vocabulary
"""What the page of a trace carries: arrays as they are, bit by bit, and how each was computed.

A small model's page carries the edges of the tape, too: every term of every gradient, found without any rule.
"""

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError
from npgpt.study.check.subjects import LayerSubject
from npgpt.study.explain.rules import Operation, gpt_of, operations_of, tied_names
from npgpt.study.explain.score_rules import View
from npgpt.study.explain.sources import about, line_of_gradient, line_of_value
from npgpt.study.trace.ledger import LOSS, Ledger, operations
from npgpt.study.trace.passes import Traced, TracedPass, owners

LARGEST_PAGE = 12_000_000  # bytes
SMALL_PAGE = 3_000_000  # bytes; a larger page carries no edges, and no gradients of parameters: the page forms them
BYTES_OF_EDGE = 32  # in base64
BYTES_OF_OPERATION, REST = 400, 250_000  # the rest: code, derivations, names
LIKELIEST = 5


class Carried:
    """The data of a page.

    Attributes
        left_out: names of tensors that did not fit.
    """

    def __init__(self, trace: TracedPass, labels: Sequence[str], largest: int = LARGEST_PAGE) -> None:
        self.trace, self.labels = trace, list(labels)
        self.rules = operations_of(trace)
        self.names = [t.name for t in trace if t.name not in trace.aliases and t.value.dtype.kind == "f"]
        self.names += [t.name for t in trace if t.value.dtype.kind == "b"]  # masks of dropout
        self.constants = self.rules.constants if self.rules else {}
        self.output = LOSS if LOSS not in self.names else f"{LOSS} (the output)"
        self.index = {name: i for i, name in enumerate([*self.names, *self.constants, self.output])}
        self.books = self._books()
        self.is_small = self.books is not None and self._bytes(self.books) <= min(SMALL_PAGE, largest - REST)
        # Without operations, the page can form no gradient
        self.all_gradients = self.is_small or self.rules is None
        self.left_out = self._too_large(largest)

    def _books(self) -> Ledger | None:
        """Return the ledger of the whole pass, or None if it is too large, or if the tape cannot follow the layer."""
        if operations(LayerSubject(self.trace.case)) > 2 * SMALL_PAGE // BYTES_OF_EDGE:  # about the number of edges
            return None
        try:
            return self.trace.books
        except ConfigError:
            return None

    def _bytes(self, books: Ledger) -> int:
        edges = sum(1 for _ in books.edges())
        return edges * BYTES_OF_EDGE + sum(self._bytes_of(self.trace[name], True) for name in self.names)

    def _bytes_of(self, tensor: Traced, with_gradient: bool) -> int:
        grad = tensor.grad if with_gradient or tensor.kind != "param" else None
        rows = tensor.value.shape[0] if tensor.value.ndim else 1
        sums = 0 if with_gradient or tensor.kind != "param" else 8 * (rows + tensor.value.size // max(1, rows))
        return (as_stored(tensor.value).nbytes + (0 if grad is None else grad.nbytes) + sums) * 4 // 3  # in base64

    def _too_large(self, largest: int) -> list[str]:
        """Return the tensors that do not fit, the largest first."""
        sizes = {name: self._bytes_of(self.trace[name], self.all_gradients) for name in self.names}
        operations = len(self.rules.found) if self.rules else 0
        words = sum(len(label.encode("utf-8", "replace")) + 4 for label in self.labels)
        total, found = sum(sizes.values()) + REST + operations * BYTES_OF_OPERATION + words, []
        for name in sorted(sizes, key=lambda name: -sizes[name]):
            if total <= largest:
                break
            found.append(name)
            total -= sizes[name]
        return found

    def data(self) -> dict[str, Any]:
        """Return what becomes the page's JSON."""
        inside = owners(self.trace.case.layer)
        used = {inside.get(operation.layer, inside[""]) for operation in self.rules.found} if self.rules else set()
        used |= {self.trace[name].layer for name in self.names}
        return {
            "tensors": [*map(self._tensor, self.names), *map(self._constant, self.constants), self._loss()],
            "operations": [self._operation(each, inside) for each in self.rules.found] if self.rules else [],
            "edges": self._edges() if self.is_small else None,
            "layers": {layer.__name__: about(layer) for layer in sorted(used, key=lambda layer: layer.__name__)},
            "aliases": self.trace.aliases | (tied_names(gpt_of(self.trace)) if self.rules else {}),
            "left_out": self.left_out,
            "text": self._text() if self.rules else None,
            "model": self._model() if self.rules else None,
        }

    def _tensor(self, name: str) -> dict[str, Any]:
        tensor = self.trace[name]
        found: dict[str, Any] = {"name": name, "kind": tensor.kind, "shape": tensor.value.shape}
        found |= {"layer": tensor.layer.__name__, "axes": axes_of(name, tensor) if self.rules else None}
        last = name.rpartition(".")[2] if tensor.kind == "kept" else ""
        found["lines"] = [line_of_value(tensor.layer, last), line_of_gradient(tensor.layer, name.rpartition(".")[2])]
        if name not in self.left_out:
            found["value"] = packed(as_stored(tensor.value))
            if tensor.grad is not None and (self.all_gradients or tensor.kind != "param"):
                found["grad"] = packed(tensor.grad)
        if tensor.grad is not None and "grad" not in found:
            found["has_gradient"] = True
            if tensor.kind == "param":  # the page forms this gradient; these sums, of backward's own, check it
                rows = tensor.grad.reshape(tensor.grad.shape[0] if tensor.grad.ndim else 1, -1)
                found["sums"] = [packed(rows.sum(1)), packed(rows.sum(0))]
        return found

    def _constant(self, name: str) -> dict[str, Any]:
        value = self.constants[name]
        made = {"name": name, "kind": "constant", "shape": value.shape, "value": packed(value), "lines": [-1, -1]}
        return made | {"layer": "", "axes": None}

    def _loss(self) -> dict[str, Any]:
        output, dy = np.asarray(self.trace.output, float), np.asarray(self.trace.dy, float)
        kind = "loss" if self.rules else "output"
        found = {"name": self.output, "kind": kind, "shape": output.shape, "value": packed(output), "grad": packed(dy)}
        return found | {"lines": [-1, -1], "layer": "", "axes": None}

    def _operation(self, operation: Operation, inside: dict[str, Any]) -> dict[str, Any]:
        layer = inside.get(operation.layer, inside[""])
        sizes: dict[str, int] = {}
        for view in operation.views():
            sizes |= view.sizes
        operands = {view.tensor for view in operation.views()[1:]}
        return {
            "kind": operation.kind,
            "path": operation.layer,
            "layer": layer.__name__,
            "sizes": sizes,
            "out": self._view(operation.out),
            "products": [[p.scale, [self._view(view) for view in p.factors]] for p in operation.products],
            "ins": [self._view(view) for view in operation.ins],
            "along": operation.along,
            "eps": operation.eps,
            "line": line_of_value(layer, self._name_inside(operation.layer, operation.out.tensor)),
            "lines": {
                self.index[name]: line_of_gradient(layer, self._name_inside(operation.layer, name))
                for name in sorted(operands)
                if name not in self.constants
            },
        }

    def _view(self, view: View) -> list[Any]:
        return [self.index[view.tensor], view.offset, {letter: n for letter, n in view.strides.items() if n}]

    def _name_inside(self, layer: str, tensor: str) -> str:
        """Return the name of a tensor among what a layer keeps, or its parameters; "" if it is not among them."""
        assert self.rules is not None
        second = [name for name, first in self.rules.first_names.items() if first == tensor]
        inside = [name.rpartition(".")[2] for name in (tensor, *second) if name.rpartition(".")[0] == layer]
        return inside[-1] if inside else ""

    def _edges(self) -> dict[str, str]:
        """Return the tape's edges: cell ``to`` was computed from cell ``of``, with a local slope."""
        assert self.books is not None
        rows = [
            (self.index[to], flat(self.books, to, at), self.index[of], flat(self.books, of, place), slope)
            for (to, at), (of, place), slope in self.books.edges()
        ]
        columns = list(zip(*rows, strict=True)) or [()] * 5
        names = ("to", "at", "of", "from")
        found = {name: packed(np.array(column, np.int32)) for name, column in zip(names, columns, strict=False)}
        return found | {"slope": packed(np.array(columns[4], float))}

    def _text(self) -> dict[str, Any]:
        ids, targets = self.trace.case.inputs["ids"], self.trace.case.inputs["targets"]
        logs = self.trace["cross_entropy.log_probabilities"].value

        def label(i: int) -> str:
            return self.labels[i] if 0 <= i < len(self.labels) else str(i)

        predictions = []
        for b, t in np.ndindex(targets.shape):
            best = np.argsort(-logs[b, t], kind="stable")[:LIKELIEST]
            right = int(targets[b, t])
            loss = number(-logs[b, t, right]) if right >= 0 else None
            predictions.append({"loss": loss, "likeliest": [[int(i), number(np.exp(logs[b, t, i]))] for i in best]})
        tokens = [[label(int(i)) for i in row] for row in ids] if ids.ndim == 2 else None
        return {
            "ids": ids.tolist() if ids.ndim == 2 else None,
            "targets": targets.tolist(),
            "tokens": tokens,
            "vocabulary": [label(i) for i in range(logs.shape[-1])],
            "predictions": predictions,
        }

    def _model(self) -> dict[str, Any]:
        gpt = gpt_of(self.trace)
        parameters = sum(param.value.size for param in gpt.parameters().values())
        return dataclasses.asdict(gpt.config) | {"parameters": parameters}


def flat(books: Ledger, tensor: str, cell: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(cell, books.grads[tensor].shape)) if cell else 0


def number(x: float) -> float | str:
    """Return a number for JSON, which has no NaN and no infinity: these become texts."""
    return float(x) if np.isfinite(x) else {np.inf: "Infinity", -np.inf: "-Infinity"}.get(float(x), "NaN")


def as_stored(value: Array) -> Array:
    """Return weights that came from float32 in float32 again, and masks as numbers; all else as it is."""
    if value.dtype.kind == "b":
        return value.astype(np.float32)
    single = value.astype(np.float32)
    return single if np.array_equal(single, value, equal_nan=True) else np.ascontiguousarray(value, float)


def packed(array: Array) -> str:
    """Return ``f8:`` (or f4, i4) and the bytes of an array in C order, little-endian, in base64."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return f"{little.dtype.str[1:]}:{base64.b64encode(little.tobytes()).decode()}"


def axes_of(name: str, tensor: Traced) -> list[str]:
    """Return what each axis of a GPT's tensor counts."""
    last, ndim, layer = name.rpartition(".")[2], tensor.value.ndim, tensor.layer.__name__
    by_layer = {
        "Embedding": ["vocabulary", "channel"],
        "VocabularyHead": ["vocabulary", "channel"],
        "LearnedPositions": ["position", "channel"],
        "RelativeBiasScores": ["head", "distance"],
        "RelativeKeyScores": ["distance", "channel"],
    }
    if tensor.kind == "param" and layer in by_layer:
        return by_layer[layer]
    if ndim == 4:
        is_of_keys = last in ("scores", "weights", "dropped", "mask")
        return ["text", "head", "token", "distance" if last == "products" else "key" if is_of_keys else "channel"]
    if ndim == 3:
        return ["text", "token", "vocabulary" if last in ("logits", "log_probabilities") else "channel"]
    return ["input", "output"] if ndim == 2 else ["channel"] * ndim
