"""The ledger of a pass that is too large to be taped as a whole: one tensor at a time.

Forward runs on plain numbers but for one tensor, whose cells are taped. Where it meets the next array that a layer
keeps, the tape has what it needs, the local slopes, and forward goes on with plain numbers again. The gradients of the
cells that are fed are those that backward noted; so the sum checks one step of backward, where ``Ledger`` proves all.
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError
from npgpt.study.check.cases import Case
from npgpt.study.check.subjects import LayerSubject, NudgedCache
from npgpt.study.check.tape import Taped, taped
from npgpt.study.trace.ledger import LOSS, Cell, Ledger, contracted, short


class LocalLedger(Ledger):
    """As ``Ledger``, with the gradients that backward gave."""

    def __init__(self, case: Case, dy: Array, grads: Mapping[str, Array]) -> None:
        self.case, self.subject = case, LayerSubject(case)
        self.values = {short(name): x for name, x in self.subject.tensors.items() if short(name) in grads}
        self.grads = {**grads, LOSS: np.asarray(dy, float)}
        self.aliases = {}
        self._of_tensor: dict[str, dict[Cell, list[tuple[Cell, float]]]] = {}

    def made_of(self, tensor: str, cell: tuple[int, ...]) -> list[tuple[Cell, float]]:
        raise ConfigError(f"what {tensor} was made of is told of small passes only: take fewer tokens, a smaller model")

    def _feeds(self, tensor: str) -> dict[Cell, list[tuple[Cell, float]]]:
        if tensor not in self._of_tensor:
            self._of_tensor[tensor] = self._look(tensor)
        return self._of_tensor[tensor]

    def _look(self, tensor: str) -> dict[Cell, list[tuple[Cell, float]]]:
        full = next(name for name in self.subject.tensors if short(name) == tensor)
        cache = _LocalCache(self.case, tensor if full.startswith("kept ") else "")
        self.subject.cache = cache
        nudges = {} if full.startswith("kept ") else {full: taped(np.zeros(self.values[tensor].shape))}
        y = np.asarray(self.subject.forward(nudges))
        start = next(iter(nudges.values())) if nudges else cache.start
        cells = {node.number: (tensor, cell) for cell, node in np.ndenumerate(start) if isinstance(node, Taped)}
        feeds: dict[Cell, list[tuple[Cell, float]]] = defaultdict(list)
        for name, array in [*cache.met.items(), (LOSS, y)]:
            for cell, node in np.ndenumerate(array):
                if isinstance(node, Taped):
                    for source, slope in contracted(node, cells):
                        feeds[source].append(((name, cell), slope))
        return feeds


class _LocalCache(NudgedCache):
    """Tapes one kept array, and takes the tape off all those that are made of it.

    Attributes
        start: the taped cells.
        met: name -> what was kept, still taped.
    """

    def __init__(self, case: Case, tensor: str) -> None:
        super().__init__(case)
        self.tensor, self.start = tensor, np.empty(0, object)
        self.met: dict[str, Array] = {}
        self._root = self

    def keep(self, name: str, array: Array) -> Array:
        path, root = self._full(name), self._root
        if path == self.tensor:
            root.start = taped(array)
            return super().keep(name, root.start)
        if array.dtype != object:
            return super().keep(name, array)
        if array.shape == root.start.shape and all(map(_is, array.ravel(), root.start.ravel())):
            return super().keep(name, array)  # the same array under another name
        root.met[path] = array
        return super().keep(name, array.astype(float))


def _is(a: object, b: object) -> bool:
    return a is b
