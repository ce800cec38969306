"""Try the bad values, and judge what each got."""

import contextlib
import dataclasses
import itertools
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from calls import Call
from values import ANYTHING, REFUSED, Must

from npgpt.errors import NpgptError

LONGEST = 700  # characters of a message


@dataclasses.dataclass
class Try:
    """One call with one bad value.

    Attributes
        got: refused, right, fine (any answer, for a value without a right one); or a fault: accepted, another answer,
            refused although good, a foreign error.
    """

    function: str
    argument: str
    value: str
    got: str
    said: str = ""

    @property
    def fault(self) -> bool:
        return self.got not in ("refused", "right", "fine")


def tries(name: str, call: Call) -> Iterator[Try]:
    """Yield a try of each bad value of each argument."""
    for argument, given in call[1].items():
        for value, bad, demand in given.kind(given.value):
            got, said = judge(call, argument, bad, demand)
            yield Try(name, argument, value, got, said)


def judge(call: Call, argument: str, bad: Any, demand: Any) -> tuple[str, str]:
    """Return what a bad value got, and the message."""
    try:
        answer = run(call, argument, bad)
    except NpgptError as error:
        said = str(error)
        if isinstance(demand, Must):
            return "refused although good", said
        if not said.strip() or len(said) > LONGEST:
            return "refused without a sentence", said[:LONGEST]
        return "refused", said
    except OSError as error:  # of a path: a file that does not exist, a folder
        return ("refused" if str(bad) in str(error) else "a foreign OSError"), str(error)
    except Exception as error:
        return f"a foreign {type(error).__name__}", str(error)
    if demand is REFUSED or demand is ANYTHING:
        return ("accepted", str(answer)[:100]) if demand is REFUSED else ("fine", "")
    good = demand.value if isinstance(demand, Must) else demand
    right = run(call, argument, good)
    exact = isinstance(demand, Must)
    return (
        ("right", "")
        if same(answer, right, exact)
        else ("another answer", f"{str(answer)[:200]} not {str(right)[:200]}")
    )


def run(call: Call, argument: str, value: Any) -> Any:
    function, arguments = call
    chosen = {name: given.value for name, given in arguments.items()} | {argument: value}
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        return frozen(function(**chosen))


def frozen(answer: Any, depth: int = 0) -> Any:
    """Return an answer as values to compare: copies of arrays, dicts of attributes, lists of what it yields."""
    if isinstance(answer, np.ndarray):
        return answer.copy()
    if isinstance(answer, str | bytes | int | float | complex | type | type(None) | np.generic | Path) or depth > 6:
        return answer
    if isinstance(answer, types.GeneratorType | map | filter):
        return [frozen(item, depth + 1) for item in itertools.islice(answer, 40)]
    if isinstance(answer, dict):
        return {str(key): frozen(item, depth + 1) for key, item in answer.items()}
    if isinstance(answer, list | tuple | set):
        return [frozen(item, depth + 1) for item in answer]
    return (
        {name: frozen(item, depth + 1) for name, item in vars(answer).items()}
        if hasattr(answer, "__dict__")
        else repr(answer)
    )


def same(a: Any, b: Any, exact: bool) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key], exact) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y, exact) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray | np.generic) or isinstance(b, np.ndarray | np.generic):
        x, y = np.asarray(a), np.asarray(b)
        if x.dtype.kind in "OcfV" and y.dtype.kind == "f" and x.shape == y.shape:
            if exact and (x.dtype != y.dtype or x.tobytes() != y.tobytes()) and x.dtype != np.float64:
                return False  # float64: NumPy sums in an order that depends on the memory layout
            near = 1e-9 if exact else 2e-2
            return bool(np.allclose(x.astype(complex), y, rtol=near, atol=near, equal_nan=True))
        return x.shape == y.shape and bool((x == y).all())
    if callable(a) and callable(b):
        return True
    equal = a == b or (a != a and b != b)
    return bool(equal) and (type(a) is type(b) or (isinstance(a, str) and isinstance(b, str)))
