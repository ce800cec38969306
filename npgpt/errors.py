"""The exceptions of npgpt, for input that it cannot use and for training that diverges.

Each is a ``ValueError``. Its message says what was given, what was expected and what to do. The command line prints the
message alone and ends with exit code 2, or 4 after a ``TrainingError``. A traceback there means a bug in npgpt.
"""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any


class NpgptError(ValueError):
    """The base of all exceptions below."""


class ShapeError(NpgptError):
    """An array has the wrong shape or dtype, or ids are out of range."""


class ConfigError(NpgptError):
    """A configuration has an unknown field or a value that is not valid."""


class DataError(NpgptError):
    """A text, a list of ids or a file cannot be used."""


class TrainingError(NpgptError):
    """Training diverged: a loss, a gradient or a logit is not finite."""


class TokenizerError(NpgptError):
    """A tokenizer cannot use a text, an id or a vocabulary."""


class RunError(NpgptError):
    """A run folder is incomplete, damaged or of another version, or an existing file is not to be replaced."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Name the most similar known word, or all known words if none is similar.

    >>> did_you_mean("n_heads", ["n_layer", "n_head"])
    'did you mean n_head?'
    >>> did_you_mean("zzz", ["n_layer", "n_head"])
    'known: n_head, n_layer'
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"


def quote(value: Any, width: int = 60) -> str:
    """Return the ``repr`` of a value from a file or a user, for a message: at most ``width`` characters.

    Strings, lists and objects of any size and depth take the same short time. Control characters are escaped.

    >>> quote(["a" * 99, 1], 20)
    "['aaaaaaaaaaaaaaa..."
    """
    shown = ""
    for piece in _pieces(value, width):
        shown += piece
        if len(shown) > width:
            return shown[: width - 3] + "..."
    return shown


def plain(name: str) -> str:
    """Return a name from a file for a message: as it is if it is a short identifier of ASCII, else quoted.

    >>> plain("n_head"), plain("n\\x1bhead")
    ('n_head', "'n\\\\x1bhead'")
    """
    return name if name.isascii() and name.isidentifier() and len(name) <= 60 else quote(name)


def brief(value: object, width: int = 200) -> str:
    """Return the text of a foreign exception, or a line of a file, for a message: at most ``width`` characters.

    >>> brief("a" * 99, 10)
    'aaaaaaa...'
    """
    try:
        text = str(value)
    except Exception:  # of a class that a user's file makes
        text = type(value).__name__
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _pieces(value: Any, width: int) -> Iterator[str]:
    if isinstance(value, str | bytes):
        yield repr(value[: width + 1])  # one more than fits, so that a cut is seen
    elif isinstance(value, int) and value.bit_length() > 200:
        yield f"an integer of {value.bit_length()} bits"  # Python does not print 5,000 digits
    elif isinstance(value, list | tuple | dict):
        opens, closes = "[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}"
        yield opens
        for k, item in enumerate(value):
            yield ", " if k else ""
            yield from _pieces(item, width)
            if isinstance(value, dict):
                yield ": "
                yield from _pieces(value[item], width)
        yield closes
    else:
        yield repr(value)
