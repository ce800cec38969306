"""Safe display of text from a file, a model or a prompt."""

import os
import shlex
import sys
import unicodedata

from npgpt.errors import DataError
from npgpt.support.files import decode_text

# Control characters, invisible characters that reorder or join others, line separators, halves of surrogate pairs.
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # of the category Cf, but some scripts and emoji need them


def escape_controls(text: str, keep: str = "\n\t") -> str:
    """Escape all characters that could move the cursor, change colours or reorder the text.

    >>> escape_controls("a\\x1b[31mb\\n")
    'a\\\\x1b[31mb\\n'
    """
    return "".join(_escape(c) if c not in keep and _is_hidden(c) else c for c in text)


def typed(path: object) -> str:
    """Return a path as it can be typed in a shell.

    >>> typed("my run"), typed("--odd"), typed("a\x1b")
    ("'my run'", './--odd', "$'a\\\\x1b'")
    """
    text = str(path)
    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(text))
    return f"$'{''.join(plain)}'"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED_CATEGORIES and character not in _JOINERS


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def shows_colours() -> bool:
    """Return whether standard output is a terminal, and NO_COLOR is not set: https://no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def write_text(text: str) -> None:
    """Write text to standard output at once: escaped on a terminal, unchanged into a file or a pipe."""
    sys.stdout.write(escape_controls(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def given_text(text: str | None) -> str:
    """Return the text of the command line, or standard input if there is none.

    Raises
        DataError if the text is not UTF-8.
    """
    if text is None:
        return decode_text(sys.stdin.buffer.read(), "standard input")
    try:
        return os.fsencode(text).decode("utf-8")  # Python keeps bytes that the locale cannot decode as surrogates
    except UnicodeError:
        raise DataError(
            "the text on the command line is not UTF-8; put it into a UTF-8 file and use standard input"
        ) from None
