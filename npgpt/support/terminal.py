"""Text that comes from a file, a model or a prompt, made safe to show."""

import os
import sys
import unicodedata

from npgpt.errors import DataError
from npgpt.support.files import decode_text

# Control characters, what is not seen but reorders or joins what is, what breaks lines, halves of surrogate pairs.
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # of the category Cf, but needed to write some scripts and emoji


def escape_controls(text: str, keep: str = "\n\t") -> str:
    """The text with everything escaped that could move the cursor, change colours or reorder what is shown.

    >>> escape_controls("a\\x1b[31mb\\n")
    'a\\\\x1b[31mb\\n'
    """
    return "".join(_escape(c) if c not in keep and _is_hidden(c) else c for c in text)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED_CATEGORIES and character not in _JOINERS


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def write_text(text: str) -> None:
    """Write text to standard output at once: escaped on a terminal, as it is into a file or a pipe."""
    sys.stdout.write(escape_controls(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def given_text(text: str | None) -> str:
    """A text from the command line, or, if there is none, from standard input.

    Raises
        DataError if it is not UTF-8.
    """
    if text is None:
        return decode_text(sys.stdin.buffer.read(), "standard input") if sys.stdin else ""
    try:
        return os.fsencode(text).decode("utf-8")  # Python hides bytes that its locale cannot read as surrogates
    except UnicodeError:
        raise DataError("the text on the command line is not UTF-8") from None
