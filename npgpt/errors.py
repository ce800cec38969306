"""What npgpt raises when it is given something that it cannot use.

All of them are ``ValueError``s whose message says what was given, what was expected and what to do. The command
line prints that message alone and ends with exit code 2; a traceback there means a fault of npgpt's own.
"""

import difflib
from collections.abc import Iterable


class NpgptError(ValueError):
    """The base of all errors below."""


class ShapeError(NpgptError):
    """An array of the wrong shape or dtype, or ids that are out of range."""


class ConfigError(NpgptError):
    """A configuration with an unknown field, or with a value that makes no model."""


class DataError(NpgptError):
    """A text or a list of ids that cannot be trained on."""


class TrainingError(NpgptError):
    """Training that went astray."""


class TokenizerError(NpgptError):
    """A text, an id, a vocabulary or a vocabulary file that a tokenizer cannot use."""


class RunError(NpgptError):
    """A run folder that is incomplete, damaged, of another version, or in the way."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Name the nearest known word, or all of them when none is near.

    >>> did_you_mean("n_heads", ["n_layer", "n_head"])
    'did you mean n_head?'
    >>> did_you_mean("zzz", ["n_layer", "n_head"])
    'known: n_head, n_layer'
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
