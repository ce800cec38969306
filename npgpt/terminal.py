"""Text that comes from a file, a model or a prompt, made safe to show."""

import sys
import unicodedata

# Besides control characters: what reorders text, what breaks lines, and halves of surrogate pairs.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def escape_controls(text: str, keep: str = "\n\t") -> str:
    """The text with everything escaped that could move the cursor, change colours or reorder what is shown.

    >>> escape_controls("a\\x1b[31mb\\n")
    'a\\\\x1b[31mb\\n'
    """
    return "".join(_escape(c) if c not in keep and _is_hidden(c) else c for c in text)


def _is_hidden(character: str) -> bool:
    return character in _REORDERING or unicodedata.category(character) in _ESCAPED_CATEGORIES


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def write_text(text: str) -> None:
    """Write text to standard output at once: escaped on a terminal, as it is into a file or a pipe."""
    sys.stdout.write(escape_controls(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
