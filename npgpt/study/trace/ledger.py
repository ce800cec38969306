"""A gradient as a sum: each term is a local derivative times the gradient of the cell that it feeds.

The forward pass runs on taped numbers (``tape.py``). A term ends at a cell of a named tensor: an input, a parameter or
an array that a layer keeps. The chain rule contracts all operations in between. For a cell x of a named tensor

    ∂L/∂x = Σ ∂y/∂x · ∂L/∂y    over the cells y of the next named tensors that x feeds, or the loss itself

and each ∂L/∂y is a sum of the same kind, down to the loss. No backward pass is used here. So if the terms sum to the
gradient of the backward pass, they prove it. If a layer keeps the same array under a second name, that name is an
alias of the first one.
"""

import re
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError, did_you_mean
from npgpt.study.check.cases import Case
from npgpt.study.check.subjects import LayerSubject, NudgedCache
from npgpt.study.check.tape import Taped, taped

Cell = tuple[str, tuple[int, ...]]  # tensor, index
LARGEST = 3_000_000  # taped numbers: about a gigabyte
LOSS = "loss"


@dataclass(frozen=True)
class Term:
    """``slope`` times ``grad``, the gradient of the cell that is fed."""

    slope: float
    grad: float
    tensor: str
    cell: tuple[int, ...]

    @property
    def share(self) -> float:
        return self.slope * self.grad


def label(tensor: str, cell: Sequence[int]) -> str:
    """Return ``blocks.0.attention.q[0,1,3]``; a scalar has no brackets."""
    return f"{tensor}[{','.join(map(str, cell))}]" if len(cell) else tensor


def gradient_label(tensor: str, cell: Sequence[int]) -> str:
    return f"∂L/∂ {label(tensor, cell)}"


def parse_cell(said: str, names: Container[str]) -> Cell:
    """Return the tensor, one of these names, and the cell of a label: ``q[0,1]``, ``dq[0,1]`` or ``∂L/∂ q[0,1]``.

    Raises
        ConfigError if the label has another form.
    """
    found = re.fullmatch(r"\s*(?:∂L/∂)?\s*([\w.]+)\s*(?:\[([\d,\s-]*)\])?\s*", said)
    if not found:
        raise ConfigError(f"{said!r} is not a cell of a tensor; write it like blocks.0.attention.q[0,1,3,0]")
    tensor, numbers = found[1], (found[2] or "").replace(" ", "").split(",")
    tensor = tensor if tensor in names else tensor.removeprefix("d")
    return tensor, tuple(int(number) for number in numbers if number)


@dataclass(frozen=True)
class Entry:
    """One gradient and its terms, the largest first."""

    ledger: "Ledger"
    tensor: str
    cell: tuple[int, ...]
    grad: float
    terms: list[Term]

    def __str__(self) -> str:
        head = f"{gradient_label(self.tensor, self.cell)} = "
        if not self.terms:
            return f"{head}0, the loss does not depend on it"
        signs = [("− " if t.share < 0 else "+ ") + f"{abs(t.slope):.4g}·{abs(t.grad):.4g}" for t in self.terms]
        total = f"{' '.join(signs).removeprefix('+ ')} = {self.grad:.6g}"
        return "\n".join([head + total, *(f"  {t.share:+.6g} = {_product(t)}" for t in self.terms)])

    def why(self, depth: int = 3, width: int = 2) -> str:
        """Return the largest terms, and the largest terms of their gradients, to a depth."""
        lines = [f"{gradient_label(self.tensor, self.cell)} = {self.grad:.6g}"]

        def walk(entry: Entry, level: int) -> None:
            for term in entry.terms[:width]:
                lines.append(f"{'  ' * level}{term.share:+.4g} = {_product(term)}")
                if level < depth and term.tensor != LOSS:
                    walk(self.ledger.entry(term.tensor, term.cell), level + 1)
            if rest := entry.terms[width:]:
                lines.append(f"{'  ' * level}{sum(t.share for t in rest):+.4g}   {len(rest)} more")

        walk(self, 1)
        return "\n".join(lines)

    def where(self) -> str:
        """Return the cells that this cell was computed from, and its derivative by each."""
        made_of = self.ledger.made_of(self.tensor, self.cell)
        if not made_of:
            return f"{label(self.tensor, self.cell)} is an input, a parameter or a constant"
        value = self.ledger.values[self.tensor][self.cell]
        lines = [f"{label(self.tensor, self.cell)} = {value:.6g}, computed from"]
        for (tensor, cell), slope in made_of:
            lines.append(f"  {label(tensor, cell)} = {self.ledger.values[tensor][cell]:.6g}, slope {slope:.6g}")
        return "\n".join(lines)


def _product(term: Term) -> str:
    return f"{term.slope:.6g} · {term.grad:.6g}   {gradient_label(term.tensor, term.cell)}"


class Ledger:
    """All gradients of one pass of a case, as sums.

    Attributes
        values: tensor -> values.
        grads: tensor -> gradients by the tape.
        aliases: second name of a kept array -> first name.
    """

    def __init__(self, case: Case, dy: Array) -> None:
        subject = LayerSubject(case)
        if (n := operations(subject)) > LARGEST:
            raise ConfigError(
                f"a ledger of this pass would hold about {n:,} numbers, more than {LARGEST:,}: take fewer tokens "
                "or a smaller model"
            )
        nudges = {name: taped(np.zeros(x.shape)) for name, x in subject.tensors.items() if not name.startswith("kept ")}
        subject.cache = cache = _LedgerCache(case, {short(n): x for n, x in nudges.items() if n.startswith("input ")})
        y = subject.forward(nudges)
        self.aliases = cache.aliases
        values = {short(name): x for name, x in subject.tensors.items()}
        self.values = {name: x for name, x in values.items() if self.aliases.get(name, name) == name}
        cells = cache.cells
        for name, nudge in nudges.items():
            cells |= {node.number: (short(name), cell) for cell, node in np.ndenumerate(nudge)}
        made = [*cache.made, *(((LOSS, cell), node) for cell, node in np.ndenumerate(y) if isinstance(node, Taped))]
        self._up = {cell: contracted(node, cells) for cell, node in made}
        self._down: dict[Cell, list[tuple[Cell, float]]] = defaultdict(list)
        for fed, sources in self._up.items():
            for source, slope in sources:
                self._down[source].append((fed, slope))
        self.grads = {name: np.zeros(x.shape) for name, x in self.values.items()} | {LOSS: np.array(dy, float)}
        for fed in reversed(self._up):  # from the loss to the inputs
            grad = self._grad(fed)
            for (tensor, cell), slope in self._up[fed]:
                self.grads[tensor][cell] += slope * grad

    def entry(self, tensor: str, cell: Sequence[int]) -> Entry:
        """Return one gradient and its terms."""
        tensor = self.first_name(tensor)
        shape, index = self.values[tensor].shape, tuple(int(i) for i in cell)
        if len(index) != len(shape) or not all(-n <= i < n for i, n in zip(index, shape, strict=True)):
            raise ConfigError(f"{tensor} has the shape {shape}; there is no cell {list(index)}")
        index = tuple(i % n for i, n in zip(index, shape, strict=True))
        terms = [Term(slope, self._grad(to), *to) for to, slope in self._feeds(tensor).get((tensor, index), [])]
        terms.sort(key=lambda term: -abs(term.share))
        return Entry(self, tensor, index, self._grad((tensor, index)), terms)

    def paths(self, tensor: str) -> dict[str, Array]:
        """Return the share of a tensor's gradient through each part that it feeds; the shares sum to the gradient.

        A part is a tensor, or the layer that keeps the tensor if this layer has no sub-layers. For a block's x the
        parts are ``middle`` (the residual connection) and ``attention_norm`` (the branch).
        """
        tensor = self.first_name(tensor)
        scopes = {name.rpartition(".")[0] for name in self.values}
        inner = {scope for scope in scopes if scope and not any(other.startswith(f"{scope}.") for other in scopes)}
        shares: dict[str, Array] = {}
        feeds = self._feeds(tensor)
        for cell in np.ndindex(self.values[tensor].shape):
            for (to, to_cell), slope in feeds.get((tensor, cell), []):
                scope = to.rpartition(".")[0]
                part = scope if scope in inner else to
                share = shares.setdefault(part, np.zeros(self.values[tensor].shape))
                share[cell] += slope * self._grad((to, to_cell))
        return shares

    def made_of(self, tensor: str, cell: tuple[int, ...]) -> list[tuple[Cell, float]]:
        """Return the cells that a cell was computed from, and its slope in each, the steepest first."""
        return sorted(self._up.get((self.first_name(tensor), cell), []), key=lambda pair: -abs(pair[1]))

    def first_name(self, tensor: str) -> str:
        """Return the first name of a tensor that was kept under several names."""
        tensor = self.aliases.get(tensor, tensor)
        if tensor not in self.values:
            raise ConfigError(f"there is no tensor {tensor!r}; {did_you_mean(tensor, [*self.values, *self.aliases])}")
        return tensor

    def _feeds(self, tensor: str) -> dict[Cell, list[tuple[Cell, float]]]:
        """Return cell of a tensor -> the cells that it feeds, with the slopes."""
        return self._down

    def _grad(self, cell: Cell) -> float:
        return float(self.grads[cell[0]][cell[1]])


def contracted(node: Taped, cells: Mapping[int, Cell]) -> list[tuple[Cell, float]]:
    """Return ∂node/∂(named cell), along all paths without another named cell."""
    slopes = {node.number: 1.0}
    nodes = {node.number: node}
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current.number not in cells:
            for parent, _ in current.parents:
                if parent.number not in nodes:
                    nodes[parent.number] = parent
                    waiting.append(parent)
    found: list[tuple[Cell, float]] = []
    for number in sorted(nodes, reverse=True):
        slope = slopes.get(number, 0.0)
        if number in cells:
            if slope:
                found.append((cells[number], slope))
            continue
        for parent, local in nodes[number].parents:
            slopes[parent.number] = slopes.get(parent.number, 0.0) + local * slope
    return found


def short(name: str) -> str:
    """Return a name without its kind (``kept``, ``param``) and without the wrapper ``gpt`` of ``TrainingLoss``."""
    return name.split(" ", 1)[1].removeprefix("gpt.")


def operations(subject: LayerSubject) -> int:
    """Estimate how many numbers the tape will hold: two for each pair of a weight and a row."""
    rows = max((x.size // max(1, x.shape[-1]) for n, x in subject.tensors.items() if n.startswith("kept")), default=1)
    weights = sum(x.size for name, x in subject.tensors.items() if name.startswith("param "))
    return 2 * rows * weights


class _LedgerCache(NudgedCache):
    """A cache that returns a new taped number for each kept cell, so that a term can end there.

    Attributes
        cells: ``number`` of a taped number -> its cell, for inputs and kept arrays.
        made: (cell, the taped number from which it was made), for all kept cells.
        aliases: name -> first name of the same array.
    """

    def __init__(self, case: Case, inputs: Mapping[str, Array]) -> None:
        super().__init__(case)
        self.cells: dict[int, Cell] = {}
        self.made: list[tuple[Cell, Taped]] = []
        self.aliases: dict[str, str] = {}
        self._shapes = {name: x.shape for name, x in inputs.items()}
        for name, x in inputs.items():
            self.cells |= {node.number: (name, cell) for cell, node in np.ndenumerate(x)}

    def keep(self, name: str, array: Array) -> Array:
        path = self._full(name)
        if array.dtype != object:
            return super().keep(name, array)
        numbers = {self._number(node) for node in array.ravel() if isinstance(node, Taped)}
        tensors = {self.cells[number][0] if number in self.cells else None for number in numbers}
        first = tensors.pop() if len(tensors) == 1 else None
        if first is not None and array.shape == self._shapes[first] and len(numbers) == array.size:
            self.aliases[path] = first
            return super().keep(name, array)
        fresh: Any = array.copy()
        for cell, node in np.ndenumerate(array):
            if isinstance(node, Taped):  # a masked score is the float −∞
                fresh[cell] = node + 0.0
                self.cells[fresh[cell].number] = path, cell
                self.made.append(((path, cell), node))
        self._shapes[path] = array.shape
        return super().keep(name, fresh)

    def _number(self, node: Taped) -> int:
        """Return the number of a cell; an input's array holds input + nudge, and the nudge is the cell."""
        if node.number not in self.cells and len(node.parents) == 1 and node.parents[0][1] == 1.0:
            return node.parents[0][0].number
        return node.number
