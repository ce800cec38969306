"""The exceptions of npgpt, for input that it cannot use and for training that diverges.

Each is a ``ValueError``. Its message says what was given, what was expected and what to do. The command line prints the
message alone and ends with exit code 2, or 4 after a ``TrainingError``. A traceback there means a bug in npgpt.
"""

import difflib
from collections.abc import Iterable


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
