r"""Patterns that split a text into pieces before byte-pair encoding; no merge crosses a split.

Without a split, ``dog.``, ``dog!`` and ``dog?`` could each become one token. Every character matches one of the
alternatives, so the pieces together are the whole text.

The file ``unicode_classes.txt`` (Unicode 16.0) decides whether a character is a letter, a number or white space. So the
pieces equal tiktoken's with any version of Python and ``regex``. ``regex`` of November 2026 has a newer Unicode and
differs in 17,560 code points: U+0295, which is a lower-case letter in 16.0, and code points that 16.0 does not assign,
mostly ideographs. ``python -m npgpt.tokenizer.patterns`` lists them.
"""

import functools
from collections.abc import Iterator
from importlib.resources import files

import numpy as np
import regex
from numpy.typing import NDArray

from npgpt.tokenizer.kernels.numbers import BLOCKS, CL100K, CLASSES, GPT2, O200K, PATTERNS, WHOLE

# The alternatives are tried in this order at each position; the first match is the piece.
SOURCES = {
    PATTERNS[GPT2]: (
        r"'(?:[sdmt]|ll|ve|re)",  # lower-case English endings after an apostrophe: it's, don't, we'll, I've, they're
        r" ?\p{L}+",  # a word, with one space before it
        r" ?\p{N}+",  # a number
        r" ?[^\s\p{L}\p{N}]+",  # punctuation and symbols
        r"\s+(?!\S)",  # white space, except the last character before a word, which belongs to the word
        r"\s+",  # remaining white space
    ),
    PATTERNS[CL100K]: (
        r"'(?:[sdmtSDMTſ]|[lL][lL]|[vV][eE]|[rR][eE])",  # in lower or upper case (ſ is an s)
        r"[^\r\n\p{L}\p{N}]?\p{L}+",  # a word, with one character before it that is not a line end
        r"\p{N}{1,3}",  # numbers, up to three digits
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # symbols, with the line ends after them
        r"\s+\Z",  # all white space at the end of the text
        r"\s*[\r\n]+",  # empty lines
        r"\s+(?!\S)",
        r"\s+",
    ),
    PATTERNS[O200K]: (
        # A word: upper case, then lower case, so that camelCase is two words; with its English ending.
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?:'(?:[sdmtSDMTſ]|[lL][lL]|[vV][eE]|[rR][eE]))?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?:'(?:[sdmtSDMTſ]|[lL][lL]|[vV][eE]|[rR][eE]))?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ),
    PATTERNS[WHOLE]: (r"(?s:.+)",),  # no split: merges may cross spaces, line ends and punctuation
}


@functools.cache
def unicode_classes() -> dict[str, list[tuple[int, int]]]:
    """Name of each class -> its ranges of code points, first and last. Code points in no range are "other"."""
    ranges: dict[str, list[tuple[int, int]]] = {name: [] for name in CLASSES}
    for line in files(__package__).joinpath("unicode_classes.txt").read_text("ascii").splitlines():
        if not line.startswith("#"):
            name, *items = line.split()
            for item in items:
                first, _, last = item.partition("-")
                ranges[name].append((int(first, 16), int(last or first, 16)))
    return ranges


@functools.cache
def class_table() -> NDArray[np.uint8]:
    """The classes as an array: the class of code point c is ``table[BLOCKS + 256 * table[c >> 8] + (c & 255)]``.

    Equal blocks of 256 code points are stored once; this leaves 44 of 1,114 kilobytes.
    """
    table = np.zeros(256 * BLOCKS, np.uint8)
    for name, ranges in unicode_classes().items():
        for first, last in ranges:
            table[first : last + 1] = CLASSES.index(name)
    number_of: dict[bytes, int] = {}  # content of a block -> its number; block 0, which has ASCII, comes first
    blocks = [number_of.setdefault(block.tobytes(), len(number_of)) for block in table.reshape(-1, 256)]
    return np.frombuffer(bytes(blocks) + b"".join(number_of), np.uint8)


@functools.cache
def compiled(pattern: str) -> regex.Pattern[str]:
    r"""Compile a pattern, with the classes of ``unicode_classes.txt`` for ``\p{L}`` and so on.

    >>> compiled("gpt2").findall("I'll say: don't!")
    ['I', "'ll", ' say', ':', ' don', "'t", '!']
    """
    members = {
        name: "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
        for name, ranges in unicode_classes().items()
    }
    sets = {
        r"\p{L}": f"[{members['lower']}{members['upper']}{members['letter']}]",
        r"\p{N}": f"[{members['number']}]",
        r"\p{M}": f"[{members['mark']}]",
        r"\p{Ll}": f"[{members['lower']}]",
        r"\p{Lu}": f"[{members['upper']}]",
        r"\p{Lt}": "",  # upper has it already
        r"\p{Lm}": f"[{members['letter']}]",
        r"\p{Lo}": "",
        r"\s": f"[{members['space']}]",
        r"\S": f"[^{members['space']}]",
    }
    source = regex.sub(r"\\[Ss]|\\p\{\w+\}", lambda found: sets[found[0]], "|".join(SOURCES[pattern]))
    return regex.compile(source, regex.VERSION1)  # which has sets within sets


def disagreements_with_regex() -> Iterator[tuple[str, str]]:
    """Yield each class of characters, and the code points in which the installed ``regex`` differs from the table."""
    in_regex = {"mark": r"\p{M}", "number": r"\p{N}", "space": r"\s"}
    in_regex |= {"lower": r"\p{Ll}", "upper": r"[\p{Lu}\p{Lt}]", "letter": r"[\p{Lm}\p{Lo}]"}
    for name, source in in_regex.items():
        matches = regex.compile(source).fullmatch
        known = {code for first, last in unicode_classes()[name] for code in range(first, last + 1)}
        differing = [code for code in range(0x110000) if bool(matches(chr(code))) != (code in known)]
        runs = np.split(differing, np.flatnonzero(np.diff(differing) != 1) + 1) if differing else []
        yield name, " ".join(f"U+{run[0]:04X}" + (f"-{run[-1]:04X}" if len(run) > 1 else "") for run in runs)


if __name__ == "__main__":
    for name, code_points in disagreements_with_regex():
        print(f"{name}: {code_points or 'the same'}")
