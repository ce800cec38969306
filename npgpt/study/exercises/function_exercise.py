"""An exercise on a function: examples judge it, and known mistakes explain what it does wrong."""

import copy
import textwrap
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npgpt.study.exercises.own_lines import filled, line_of, told

CLOSE = 1e-12

Example = tuple[tuple[Any, ...], Any]  # the arguments, and what the function must return


@dataclass(frozen=True)
class Mistake:
    """A usual mistake: ``says``, and what it changes in the solution, as pairs of old and new text."""

    says: str
    changes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FunctionExercise:
    """Write a function.

    Attributes
        asks: the question, in one line.
        signature, doc, body: of the function; the body is the solution.
        hints: in the order in which they are shown.
        examples: what it must return, computed by code that shares nothing with the solution.
        returns: the names of the returned values.
        parts: name of each returned value -> what it must be; those that others are computed from come first.
        mistakes: a mistake is named only if the solution with it returns what the user's function returned.
        imports: lines at the top of the file.
    """

    name: str
    asks: str
    signature: str
    doc: str
    body: str
    hints: list[str]
    examples: Callable[[], Iterable[Example]]
    returns: tuple[str, ...]
    parts: dict[str, str]
    mistakes: Sequence[Mistake]
    imports: str = ""

    @property
    def function(self) -> str:
        """The function's name."""
        return self.signature.partition("(")[0]

    @property
    def arguments(self) -> list[str]:
        """The names of its arguments."""
        return self.signature.partition("(")[2].rstrip(")").split(", ")

    def head(self) -> str:
        """Return the first lines of the file, and the function up to its docstring."""
        doc = textwrap.indent(f'"""{self.doc}"""\n', "    ", lambda line: bool(line.strip()))
        top = f"# npgpt exercise: {self.name}\n# {self.asks}\n# Then run: npgpt exercise check {self.name}.py\n"
        return f"{top}{self.imports}\n\ndef {self.signature}:\n{doc}"

    def template(self) -> str:
        """Return the file to start from."""
        return self.head() + '    raise NotImplementedError("write it here")\n'

    def solution(self) -> str:
        """Return the file with a right solution."""
        return self.head() + textwrap.indent(self.body, "    ")

    def judge(self, module: types.ModuleType, file: str, source: str) -> str:
        """Return a description of the first mistake; empty if there is none."""
        function = getattr(module, self.function, None)
        if not callable(function):
            return f"the file has no function {self.function}"
        for given, right in self.examples():
            arguments = copy.deepcopy(given)
            call = self._call(given)
            try:
                found = function(*arguments)
            except NotImplementedError as error:
                return f"{self.function} is not written yet: line {line_of(error, file)} raises NotImplementedError"
            except Exception as error:
                named = self._named(given, error)
                return f"{call}\nraised an exception:\n{told(error, file, source)}{named}"
            for name, now, before in zip(self.arguments, arguments, given, strict=True):
                if not _same(now, before):
                    return f"{call}\nchanged its argument {name}: work on a copy of it, or on a new list"
            wrong, must = self._compared(found, right)
            if wrong:
                return f"{call}\n{wrong}{self._named(given, found) or must}"
        return ""

    def with_mistake(self, mistake: Mistake) -> str:
        """Return the file with a mistake."""
        body = self.body
        for old, new in mistake.changes:
            assert old in body, f"{self.name}: {old!r} is not in the solution"
            body = body.replace(old, new)
        return self.head() + textwrap.indent(body, "    ")

    def _call(self, given: tuple[Any, ...]) -> str:
        shown = ", ".join(f"{name}={_short(value)}" for name, value in zip(self.arguments, given, strict=True))
        return filled(f"{self.function}({shown})", "    ")

    def _compared(self, found: Any, right: Any) -> tuple[str, str]:
        """Return how the returned value differs from the right one, and a line on what it must be; empty if equal."""
        end = f"\nEnd the function with:  return {', '.join(self.returns)}"
        if found is None:
            return "returned None.", end
        if len(self.returns) == 1:
            found, right = (found,), (right,)
        elif not isinstance(found, tuple | list) or len(found) != len(self.returns):
            return f"returned {_described(found)}, expected {len(self.returns)} values.", end
        values = dict(zip(self.returns, zip(found, right, strict=True), strict=True))
        for name, must in self.parts.items():
            got, expected = values[name]
            if not _same(got, expected):
                return filled(f"{_difference(name, got, expected)}."), "\n" + filled(must)
        return "", ""

    def _named(self, given: tuple[Any, ...], outcome: Any) -> str:
        """Return a line with the mistake that has the same outcome, a value or an exception; empty if there is none."""
        for mistake in self.mistakes:
            space: dict[str, Any] = {}
            exec(self.with_mistake(mistake), space)
            try:
                its = space[self.function](*copy.deepcopy(given))
            except Exception as error:
                its = error
            raised = isinstance(outcome, Exception) and type(its) is type(outcome) and str(its) == str(outcome)
            if raised or _same(its, outcome):
                return "\n" + filled(f"The same happens if {mistake.says}")
        return ""


def _same(a: Any, b: Any) -> bool:
    """Return whether two values are equal up to rounding, as numbers, arrays, or lists of them."""
    try:
        x, y = np.asarray(a), np.asarray(b)
    except ValueError:  # rows of different lengths
        a_rows, b_rows = isinstance(a, tuple | list), isinstance(b, tuple | list)
        return a_rows and b_rows and len(a) == len(b) and all(map(_same, a, b))
    if x.dtype.kind not in "biufc" or y.dtype.kind not in "biufc":
        return type(a) is type(b) and isinstance(a, tuple | list) and len(a) == len(b) and all(map(_same, a, b))
    return x.shape == y.shape and np.allclose(x, y, rtol=0, atol=CLOSE, equal_nan=True)


def _difference(name: str, got: Any, expected: Any) -> str:
    """Say which part of the returned value differs, what came, and what was expected."""
    try:
        x, y = np.asarray(got), np.asarray(expected)
    except ValueError:
        return f"{name} has rows of different lengths: {sorted({len(row) for row in got})}"
    if x.dtype.kind not in "biuf" or (not y.ndim and x.ndim):
        return f"{name} is {_described(got)}, expected {_described(expected)}"
    if y.ndim < 2:
        return f"{name} is {_short(got)}, expected {_short(expected)}"
    if x.shape != y.shape:
        return f"{name} has the shape {x.shape}, expected {y.shape}"
    row = int(np.argwhere((x != y).any(axis=1))[0, 0])
    return f"row {row} of {name} is {x[row].tolist()}, expected {y[row].tolist()}"


def _described(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array of the shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r} ({type(value).__name__})"


def _short(value: Any) -> str:
    """Return a number with six digits; the first and last items of long lists."""
    if isinstance(value, float | np.floating):
        return f"{value:.9g}"
    items = value.tolist() if isinstance(value, np.ndarray) and value.ndim else value
    if isinstance(items, list) and len(items) > 10:
        return f"[{items[0]}, {items[1]}, {items[2]}, ..., {items[-1]}] of {len(items)}"
    return repr(items)
