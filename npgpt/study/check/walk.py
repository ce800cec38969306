"""The way back over the tape of one pass, with some slopes changed, or the gradients of one result in another order."""

from collections.abc import Iterator

import numpy as np

from npgpt.core import Array
from npgpt.study.check.sites import Site, variable
from npgpt.study.check.tape import Taped
from npgpt.study.check.tape_gradients import all_gradients


class Walk:
    """The way back over the tape of one pass.

    Attributes
        leaves: tensor -> its taped array.
        at: place -> numbers of the steps that it wrote.
        values: the value of each cell.
        idle: number of a step -> zeros, for paths whose shares cancel.
    """

    def __init__(self, y: Taped, dy: Array, leaves: dict[str, Taped]) -> None:
        self.y, self.dy, self.leaves, self.tape = y, dy, leaves, y.tape
        self.at: dict[Site, list[int]] = {}
        for number, step in enumerate(self.tape.steps):
            self.at.setdefault(step.site, []).append(number)
        self.values = np.full(self.tape.n + 1, np.nan)
        for _, first, value in self.tape.nodes:
            self.values[first : first + value.size] = value.ravel()
        for x in leaves.values():
            self.values[x.ids] = x.value
        self.n_edges = sum(len(step.child) for step in self.tape.steps)
        self.idle: dict[int, Array] = {}
        self._find_idle_paths()

    def gradients(self, slopes: dict[int, Array], moved: tuple[int, Array] | None = None) -> dict[str, Array]:
        grad = all_gradients(self.y, self.dy, False, self.idle | slopes, moved)
        return {name: grad[x.ids] for name, x in self.leaves.items()}

    def _find_idle_paths(self) -> None:
        """Cut the path through a maximum that softmax subtracts: it adds nothing, and no backward pass follows it."""
        if not self.tape.used & {"max", "amax", "maximum"}:
            return
        base = self.gradients({})
        for site, numbers in self.at.items():
            if site.name == "subtract" and site.operand == 1:
                slopes = {n: 0 * self.tape.steps[n].slope for n in numbers}
                found = self.gradients(slopes)
                if all(
                    np.allclose(found[name], x, rtol=1e-9, atol=1e-12 * np.abs(x).max(initial=0))
                    for name, x in base.items()
                ):
                    self.idle |= slopes

    def pool(self) -> Iterator[tuple[str, Array]]:
        """Yield the arrays that the forward pass computed: name, value."""
        for name, x in self.leaves.items():
            yield name.split(" ", 1)[1], x.value
        for site, _, value in self.tape.nodes:
            if (name := variable(site)) and value.size > 1:
                yield name, value
