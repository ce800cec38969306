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
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError, did_you_mean
from npgpt.study.check.cases import Case
from npgpt.study.check.subjects import LayerSubject, NudgedCache
from npgpt.study.check.tape import CONSTANT, Parents, Tape, Taped, TapeError

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
        return self.slope * self.grad + 0.0  # 0 has no sign


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
    found = re.fullmatch(
        r"\s*(?:∂L/∂)?\s*([^\s\[\]?][^\[\]?]*?)\s*(?:\[(\s*(?:-?\d+\s*(?:,\s*-?\d+\s*)*)?)\])?\s*", said
    )
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
        subject.cache = cache = _LedgerCache(case)
        y, leaves = taped_pass(subject, [name for name in subject.tensors if not name.startswith("kept ")])
        self.aliases = cache.aliases
        values = {short(name): x for name, x in subject.tensors.items()}
        self.values = {name: x for name, x in values.items() if self.aliases.get(name, name) == name}
        if LOSS in self.values:
            raise ConfigError(f"{subject.name} has an array called {LOSS!r}; a ledger calls the output so: rename it")
        tensors = [*((short(name), x.ids) for name, x in leaves.items()), *((name, ids) for name, ids, _ in cache.made)]
        cells = {int(n): (name, cell) for name, ids in tensors for cell, n in np.ndenumerate(ids) if n != CONSTANT}
        of_loss = [(LOSS, y.ids, y.ids)] if isinstance(y, Taped) else []
        made = [((name, cell), int(n)) for name, _, ids in [*cache.made, *of_loss] for cell, n in np.ndenumerate(ids)]
        parents = y.tape.parents() if isinstance(y, Taped) else Tape().parents()
        self._up = {cell: contracted(n, cells, parents) for cell, n in made if n != CONSTANT}
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
        terms = [Term(slope, self._grad(to), *to) for to, slope in self._feeds(tensor, index).get((tensor, index), [])]
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

    def edges(self) -> Iterator[tuple[Cell, Cell, float]]:
        """Yield (cell, a cell that it was computed from, the slope of the first by the second)."""
        for to, sources in self._up.items():
            yield from ((to, of, slope) for of, slope in sources)

    def first_name(self, tensor: str) -> str:
        """Return the first name of a tensor that was kept under several names."""
        tensor = self.aliases.get(tensor, tensor)
        if tensor not in self.values:
            raise ConfigError(f"there is no tensor {tensor!r}; {did_you_mean(tensor, [*self.values, *self.aliases])}")
        return tensor

    def _feeds(self, tensor: str, cell: tuple[int, ...] | None = None) -> dict[Cell, list[tuple[Cell, float]]]:
        """Return cell of a tensor -> the cells that it feeds, with the slopes; of one cell, or of all."""
        return self._down

    def _grad(self, cell: Cell) -> float:
        return float(self.grads[cell[0]][cell[1]])


def taped_pass(
    subject: LayerSubject, names: Sequence[str], cell: tuple[int, ...] | None = None
) -> tuple[Any, dict[str, Taped]]:
    """Run forward on the tape, with all cells of some tensors, or with one cell of each.

    Raises
        ConfigError if forward leaves the tape: the ledger would say that a cell feeds nothing.
    """
    try:
        return subject.taped(names, cell)
    except TapeError as error:
        raise ConfigError(f"{subject.name}: a ledger cannot follow this forward pass: {error}") from error


def contracted(number: int, cells: Mapping[int, Cell], parents: Parents) -> list[tuple[Cell, float]]:
    """Return ∂cell/∂(named cell), along all paths without another named cell. A slope of 0 is a term, too."""
    slopes = {number: 1.0}
    waiting, nodes = [number], {number}
    while waiting:
        current = waiting.pop()
        if current not in cells:
            new = {parent for parent, _ in parents.of(current)} - nodes
            nodes |= new
            waiting += new
    found: list[tuple[Cell, float]] = []
    for current in sorted(nodes, reverse=True):  # a number comes after all numbers that it was computed from
        slope = slopes.get(current, 0.0)
        if current in cells:
            found.append((cells[current], slope))
            continue
        for parent, local in parents.of(current):
            slopes[parent] = slopes.get(parent, 0.0) + local * slope
    return found


def short(name: str) -> str:
    """Return a name without its kind (``kept``, ``param``) and without the wrapper ``gpt`` of ``TrainingLoss``."""
    return name.split(" ", 1)[1].removeprefix("gpt.")


def cells_of(array: Array) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Return where an array lies and how it is seen: equal for two names of one array, not for a copy."""
    return array.__array_interface__["data"][0], array.shape, array.strides


def operations(subject: LayerSubject) -> int:
    """Estimate how many numbers the tape will hold: two for each pair of a weight and a row."""
    rows = max((x.size // max(1, x.shape[-1]) for n, x in subject.tensors.items() if n.startswith("kept")), default=1)
    weights = sum(x.size for name, x in subject.tensors.items() if name.startswith("param "))
    return 2 * rows * weights


class _LedgerCache(NudgedCache):
    """A cache that returns new taped cells for each kept array, so that a term can end there.

    Attributes
        made: (name, numbers of the new cells, numbers of the cells that they were made from) of each kept array.
        aliases: name -> first name of the same array.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.made: list[tuple[str, Array, Array]] = []
        self.aliases: dict[str, str] = {}
        self._root = self

    def keep(self, name: str, array: Array) -> Array:
        path, root = self._full(name), self._root
        if not isinstance(array, Taped):
            return super().keep(name, array)
        known = [*((short(n), x.ids) for n, x in root.leaves.items()), *((n, ids) for n, ids, _ in root.made)]
        for first, ids in known:
            if cells_of(array.ids) == cells_of(ids):
                self.aliases[path] = first
                return super().keep(name, array)
        fresh: Any = array + 0.0  # a masked score stays the constant −∞
        root.made.append((path, fresh.ids, array.ids.copy()))
        return super().keep(name, fresh)
