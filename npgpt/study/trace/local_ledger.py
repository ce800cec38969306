"""The ledger of a pass that is too large for one tape: one tensor at a time.

Forward runs on plain numbers, except for the taped cells of one tensor. At the next array that a layer keeps, the tape
holds the local slopes, and forward continues with plain numbers. The gradients of the fed cells are those that backward
noted. So a sum checks one step of backward, whereas ``Ledger`` proves all steps.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError
from npgpt.study.check.cases import Case
from npgpt.study.check.subjects import LayerSubject, NudgedCache
from npgpt.study.check.tape import CONSTANT, Taped
from npgpt.study.trace.ledger import LOSS, Cell, Ledger, cells_of, contracted, label, short, taped_pass

FEW = 10_000  # cells; of a larger tensor, one cell at a time is followed


class LocalLedger(Ledger):
    """A ``Ledger`` that uses the gradients of the backward pass."""

    def __init__(self, case: Case, dy: Array, grads: Mapping[str, Array]) -> None:
        self.case, self.subject = case, LayerSubject(case)
        self.values = {short(name): x for name, x in self.subject.tensors.items() if short(name) in grads}
        self.grads = {**grads, LOSS: np.asarray(dy, float)}
        self.aliases = {}
        self._of_tensor: dict[str, dict[Cell, list[tuple[Cell, float]]]] = {}

    def made_of(self, tensor: str, cell: tuple[int, ...]) -> list[tuple[Cell, float]]:
        raise ConfigError(f"the cells behind {tensor} are known in small passes only: take fewer tokens")

    def _feeds(self, tensor: str, cell: tuple[int, ...] | None = None) -> dict[Cell, list[tuple[Cell, float]]]:
        alone = cell is not None and self.values[tensor].size > FEW
        known = label(tensor, cell) if alone and cell is not None else tensor
        if known not in self._of_tensor:
            self._of_tensor[known] = self._look(tensor, cell if alone else None)
        return self._of_tensor[known]

    def _look(self, tensor: str, cell: tuple[int, ...] | None) -> dict[Cell, list[tuple[Cell, float]]]:
        full = next(name for name in self.subject.tensors if short(name) == tensor)
        self.subject.cache = cache = _LocalCache(self.case)
        y, leaves = taped_pass(self.subject, [full], cell)
        cells = {n: (tensor, place) for place, n in _moving(leaves[full])}
        parents = leaves[full].tape.parents()
        feeds: dict[Cell, list[tuple[Cell, float]]] = defaultdict(list)
        for name, array in [*cache.met.items(), (LOSS, y)]:
            for place, n in _moving(array) if isinstance(array, Taped) else ():
                for source, slope in contracted(n, cells, parents):
                    feeds[source].append(((name, place), slope))
        return feeds


def _moving(array: Taped) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield the index and the number of each cell that is no constant."""
    for place in np.argwhere(array.ids != CONSTANT).tolist():
        yield tuple(place), int(array.ids[tuple(place)])


class _LocalCache(NudgedCache):
    """A cache that returns plain numbers for kept arrays computed from the taped array.

    Attributes
        start: the taped array, if it is kept.
        met: name -> kept array, still taped.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.start: Array = np.empty(0)
        self.met: dict[str, Array] = {}
        self._root = self

    def keep(self, name: str, array: Array) -> Array:
        path, root = self._full(name), self._root
        if path in self.nudges:
            root.start = super().keep(name, array)
            return root.start
        if not isinstance(array, Taped):
            return super().keep(name, array)
        if isinstance(root.start, Taped) and cells_of(array.ids) == cells_of(root.start.ids):
            return super().keep(name, array)  # the same array under another name
        root.met[path] = array
        return super().keep(name, array.value)
