"""A reverse-mode tape: an array that records, for each of its cells, the operations that made it.

A ``Taped`` array runs through the unchanged forward pass of a layer. Each of its cells has a value and a number. An
operation gives its result new numbers, and writes edges (child, parent, slope) on the tape, one for each pair of a cell
of the result and a cell that it was computed from. A walk back over the edges gives every gradient by the chain rule,
exact up to rounding. The tape calls no backward pass of a layer, so it is an independent check.

    y = f(a, b) with cells a and b   ⇒   da += ∂f/∂a · dy,   db += ∂f/∂b · dy

An operation that only moves cells (an index, a transposition, a concatenation) moves their numbers and writes no edge.
``tape_ufuncs`` and ``tape_functions`` hold the operations.

>>> import npgpt.study.check.tape_functions
>>> from npgpt.study.check.tape_gradients import gradients
>>> tape = Tape()
>>> x = tape.leaf(np.array([2.0, 3.0]))
>>> y = np.exp(x[0]) * x[1]
>>> gradients(y, np.array(1.0), {"x": x})["x"].round(6)      # 3·e², e²
array([22.167168,  7.389056])
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from npgpt.core import Array
from npgpt.study.check.sites import Site, caller

CONSTANT = -1  # the number of a cell that depends on no leaf


class TapeError(TypeError):
    """The forward pass leaves the tape: it converts cells to plain numbers, or uses a function without a derivative."""


class _Sealed:
    """The one element of every array below ``Taped``. Code that bypasses the tape meets it, and fails."""

    def _refuse(self, *_: Any) -> Any:
        raise TapeError("a taped number was converted to a plain one")

    __float__ = __int__ = __index__ = __complex__ = __bool__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __neg__ = __abs__ = _refuse
    __hash__ = None


_SEALED = np.empty(1, object)
_SEALED[0] = _Sealed()
_SEALED.flags.writeable = False


class Step(NamedTuple):
    """The edges from the cells of one result to those of one operand.

    Attributes
        child, parent, slope: flat arrays; parents are older than children.
        site: the place in the code that called the operation.
        shape: the shape of all pairs of cells; for a product, that of all its terms.
        known: which of these pairs have an edge: those whose operand depends on a leaf; None if all have.
        spread: returns the slopes that a product would have if its other operand were another array; None for other
            operations, and for an array of another shape.
    """

    child: Array
    parent: Array
    slope: Array
    site: Site
    shape: tuple[int, ...]
    known: Array | None
    spread: Callable[[Array], Array | None] | None


class Tape:
    """The edges of one forward pass.

    Attributes
        n: number of cells so far.
        steps: the edges of each operation.
        nodes: (site, number of the first cell, value) of each result of an operation.
        used: names of the NumPy functions that the pass called.
        change: a function of (site, operands) that returns other operands: it asks for another forward pass.
    """

    change: ClassVar[Callable[[Site, list[Any]], list[Any]] | None] = None

    def __init__(self) -> None:
        self.n = 0
        self.steps: list[Step] = []
        self.nodes: list[tuple[Site, int, Array]] = []
        self.used: set[str] = set()
        self._site: Site | None = None

    def enter(self, name: str, operands: Sequence[Any] = ()) -> list[Any]:
        """Note which operation comes now, and which place in the code calls it; return its operands."""
        self.used.add(name)
        code, at = caller()
        last = self._site
        again = last is not None and (last.code, last.at) == (code, at)
        self._site = Site(code, at, name, last.order + 1 if again and last is not None else 0)
        return list(operands) if Tape.change is None else Tape.change(self._site, list(operands))

    def leaf(self, value: Array) -> "Taped":
        """Return an array of new cells without parents."""
        value = np.array(value, np.float64)
        return Taped(self, value, self.numbers(value))

    def constant(self, value: Any) -> "Taped":
        """Return an array whose cells depend on no leaf. Cells that do can be assigned to it."""
        value = np.array(value, np.float64)
        return Taped(self, value, np.full(value.shape, CONSTANT))

    def parents(self) -> "Parents":
        """Return the edges by child."""
        return Parents(self)

    def numbers(self, value: Array) -> Array:
        """Return the numbers of new cells, for each number of an array."""
        if self._site is not None:
            self.nodes.append((self._site, self.n, value.copy()))
        self.n += value.size
        return np.arange(self.n - value.size, self.n).reshape(value.shape)

    def operation(self, value: Any, *parents: tuple[Any, Any]) -> "Taped":
        """Return the result of an operation on corresponding cells.

        Args
            value: its value.
            parents: (operand, slope), each broadcast to the shape of the value; plain operands are ignored.
        """
        value = np.asarray(value, np.float64)
        children = self.numbers(value)
        self.edges(children, *((x.ids if isinstance(x, Taped) else None, slope) for x, slope in parents))
        return Taped(self, value, children)

    def edges(self, children: Array, *parents: tuple[Any, Any], spreads: Any = (None, None, None)) -> None:
        """Write edges between corresponding cells. All three arrays are broadcast to one shape.

        A child without any parent that depends on a leaf becomes a constant, in place.

        Args
            parents: (numbers, slopes) of each operand; None for the numbers of one that is not on the tape.
            spreads: ``Step.spread`` of each operand.
        """
        alive = np.zeros(children.shape, bool)
        assert self._site is not None
        for position, ((ids, slope), spread) in enumerate(zip(parents, spreads, strict=False)):
            if ids is None:
                continue
            site = self._site._replace(operand=position)
            child, parent, slope = np.broadcast_arrays(children, ids, slope)
            known = parent >= 0
            if known.all():
                alive[...] = True
                cells = child.flatten(), parent.flatten(), slope.astype(float).ravel()  # ids may change
                self.steps.append(Step(*cells, site, child.shape, None, spread))
            else:
                np.logical_or.at(alive, np.unravel_index(child[known] - children.min(), alive.shape), True)
                cells = child[known], parent[known], slope[known].astype(float)
                self.steps.append(Step(*cells, site, child.shape, known, spread))
        children[~alive] = CONSTANT


class Parents:
    """The edges of a tape, sorted by child."""

    def __init__(self, tape: Tape) -> None:
        columns = zip(*(step[:3] for step in tape.steps), strict=True)
        child, parent, slope = [np.concatenate(column) for column in columns] or [np.zeros(0, int)] * 3
        order = np.argsort(child, kind="stable")
        self.start: list[int] = np.searchsorted(child[order], np.arange(tape.n + 1)).tolist()
        self.parent, self.slope = parent[order].tolist(), slope[order].tolist()

    def of(self, number: int) -> Iterator[tuple[int, float]]:
        """Yield the number of each cell that a cell was computed from, and the slope."""
        first, last = self.start[number], self.start[number + 1]
        return zip(self.parent[first:last], self.slope[first:last], strict=True)


class Taped(np.ndarray):
    """An array on a tape. To other code it is an array of float64.

    Attributes
        tape: where operations on it are written.
        value: the numbers.
        ids: the number of each cell, ``CONSTANT`` for one that depends on no leaf. A view has views of both.
    """

    tape: Tape
    value: Array
    ids: Array
    __array_priority__ = 1e6

    def __new__(cls, tape: Tape, value: Array, ids: Array) -> "Taped":
        made = super().__new__(cls, value.shape, object, _SEALED, 0, (0,) * value.ndim)
        made.tape, made.value, made.ids = tape, value, ids
        return made

    def __array_finalize__(self, _: Any) -> None:
        """Views that NumPy makes by itself stay without numbers; to read one raises AttributeError."""

    run_ufunc: ClassVar[Callable[..., Any]]  # ``tape_functions`` sets both
    run_function: ClassVar[Callable[..., Any]]

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return self.run_ufunc(self.tape, ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        return self.run_function(self.tape, function, inputs, options)

    # ---- Cells are moved: their numbers move with them.

    def moved(self, move: Callable[[Array], Any]) -> Any:
        """Return the result of a function that only moves cells."""
        value, ids = move(self.value), move(self.ids)
        if isinstance(value, list | tuple):
            return [Taped(self.tape, v, i) for v, i in zip(value, ids, strict=True)]
        return Taped(self.tape, np.asarray(value), np.asarray(ids))

    def __getitem__(self, key: Any) -> "Taped":
        key = plain_index(key)
        made = Taped(self.tape, np.asarray(self.value[key]), np.asarray(self.ids[key]))
        return made.told_apart() if _may_repeat(key) else made

    def told_apart(self) -> "Taped":
        """Give cells that occur several times a number for each time, so that a diagnosis can tell them apart."""
        known = self.ids[self.ids >= 0]
        if len(np.unique(known)) == len(known):
            return self
        self.tape.enter("index")
        return self.tape.operation(self.value, (self, 1.0))

    def __setitem__(self, key: Any, new: Any) -> None:
        key = plain_index(key)
        if Tape.change is not None:
            (changed,) = self.tape.enter("setitem", [new])
            if changed is not new:
                return
        new = np.asanyarray(new) if not isinstance(new, list | tuple) else joined(self.tape, new)
        self.value[key] = new.value if isinstance(new, Taped) else new
        self.ids[key] = new.ids if isinstance(new, Taped) else CONSTANT

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def view(self, *kind: Any) -> Any:
        return self.moved(lambda x: x.view())

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, _: Any) -> Any:
        return self.copy()

    @property
    def T(self) -> Any:  # noqa: N802
        return self.transpose()

    @property
    def mT(self) -> Any:  # noqa: N802
        return self.swapaxes(-1, -2)

    @property
    def flat(self) -> Any:
        return self.reshape(-1)

    @property
    def real(self) -> "Taped":
        return self

    @property
    def imag(self) -> Array:
        return np.zeros(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    @property
    def strides(self) -> tuple[int, ...]:
        return self.value.strides

    @property
    def itemsize(self) -> int:
        return 8

    def take(self, *args: Any, **options: Any) -> "Taped":
        made: Taped = self.moved(lambda x: x.take(*args, **options))
        return made.told_apart()

    # ---- Cells are computed.

    def astype(self, dtype: Any, *_: Any, **options: Any) -> Any:
        dtype = np.dtype(dtype)
        self.tape.used.add(f"astype {dtype}")
        if dtype.kind in "biu":
            return self.value.astype(dtype)
        if dtype.kind not in "fO":
            raise TapeError(f"taped numbers cannot be converted to {dtype}")
        return self.copy()

    def fill(self, new: Any) -> None:
        self[...] = new

    def item(self, *_: Any) -> Any:
        return self._refuse()

    def _refuse(self, *_: Any) -> Any:
        raise TapeError("forward converts a taped number to a plain one, for example by float() or math.exp")

    tolist = __float__ = __int__ = __index__ = __complex__ = __array__ = _refuse

    def __bool__(self) -> bool:
        return bool(self.value)

    def __contains__(self, x: Any) -> bool:
        return x in self.value

    def __pow__(self, n: Any, *_: Any) -> Any:  # NumPy's own ``**`` turns some powers into other functions
        return np.power(self, n)

    def __ipow__(self, n: Any) -> Any:
        return np.power(self, n, out=self)

    def __round__(self, *_: Any) -> Any:
        return np.rint(self)

    def __repr__(self) -> str:
        return f"Taped({self.value!r})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    def sort(self, axis: int = -1, **_: Any) -> None:
        self[...] = np.sort(self, axis)

    def conj(self, *_: Any) -> "Taped":
        return self

    conjugate = conj


def _by_function(name: str) -> Any:
    return lambda self, *args, **options: getattr(np, name)(self, *args, **options)


def _by_moving(name: str) -> Any:
    return lambda self, *args, **options: self.moved(lambda x: getattr(x, name)(*args, **options))


def _by_reading(name: str) -> Any:
    return lambda self, *args, **options: getattr(self.value, name)(*args, **options)


for _name in ("sum", "mean", "var", "std", "max", "min", "prod", "cumsum", "cumprod", "dot", "clip", "trace", "round"):
    setattr(Taped, _name, _by_function(_name))
for _name in ("reshape", "transpose", "swapaxes", "squeeze", "ravel", "flatten", "copy", "repeat", "diagonal"):
    setattr(Taped, _name, _by_moving(_name))
for _name in ("argmax", "argmin", "argsort", "argpartition", "any", "all", "nonzero"):
    setattr(Taped, _name, _by_reading(_name))


def _may_repeat(key: Any) -> bool:
    """Return whether an index may name a cell several times: one with an array or a list of integers."""
    parts = key if isinstance(key, tuple) else (key,)
    return any(isinstance(part, list) or (isinstance(part, np.ndarray) and part.dtype.kind in "iu") for part in parts)


def plain_index(key: Any) -> Any:
    """Return an index without taped arrays: only their values are used."""
    if isinstance(key, tuple):
        return tuple(plain_index(part) for part in key)
    return key.value if isinstance(key, Taped) else key


def joined(tape: Tape, parts: Any) -> Any:
    """Return nested lists that hold taped numbers as one taped array; other lists as a plain array."""
    if isinstance(parts, Taped):
        return parts
    if not isinstance(parts, list | tuple) or not _holds_taped(parts):
        return np.array(parts)
    rows = [joined(tape, part) for part in parts]
    value = np.stack([row.value if isinstance(row, Taped) else row for row in rows])
    ids = np.stack([row.ids if isinstance(row, Taped) else np.full(row.shape, CONSTANT) for row in rows])
    return Taped(tape, value.astype(np.float64), ids)


def _holds_taped(parts: Any) -> bool:
    return isinstance(parts, Taped) or (isinstance(parts, list | tuple) and any(map(_holds_taped, parts)))
