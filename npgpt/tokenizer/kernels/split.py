"""Split UTF-8 into pieces like the patterns of ``tokenizer/patterns.py``, without a regular expression.

The plain form is ``patterns.compiled(name).findall(text)``. Two kinds of functions must agree with it.
``next_piece_...`` is simple but slow: it reads a piece character by character, with about 20 branches. ``windows.py``
finds the starts of all pieces among 64 bytes at once. ``next_piece_...`` handles the rest: characters that windows
do not know, a piece of 64 bytes, and the end of the text.
"""

from typing import Any

from npgpt.machine.bits import count_bits, highest_bit, load8, lowest_bit, store64
from npgpt.machine.compile import kernel
from npgpt.tokenizer.kernels.numbers import (
    BLOCKS,
    CL100K,
    GPT2,
    LETTER,
    LOWER,
    MARK,
    NUMBER,
    O200K,
    OTHER,
    SPACE,
    UPPER,
    WHOLE,
)
from npgpt.tokenizer.kernels.windows import APOSTROPHE, SLASH, contraction, window_cl100k, window_gpt2, window_o200k

_SPACE, _NEWLINE, _RETURN = 32, 10, 13


@kernel
def split(text: Any, at: int, pattern: int, classes: Any, ends: Any) -> int:
    """Write the ends of the next pieces of ``text`` from ``at`` on to ``ends``; return their number.

    The number is below ``len(ends) - 63`` only at the end of the text, since one window may find 63 ends.

    Args
        classes: the class of code point c is ``classes[BLOCKS + 256 * classes[c >> 8] + (c & 255)]``. The first BLOCKS
            items are block numbers, enough for any four bytes, valid UTF-8 or not.
    """
    n = len(text)
    room = len(ends) - 63
    count = 0
    while at < n and count < room:
        # A window finds no start if one of its first characters is of a script that it does not know.
        if at + 64 <= n and load8(text, at) < 0xD2 and load8(text, at + 1) < 0xD2 and pattern != WHOLE:
            if pattern == GPT2:
                starts = window_gpt2(text, at)
            elif pattern == CL100K:
                starts = window_cl100k(text, at)
            else:
                starts = window_o200k(text, at)
            if starts != 0:
                found = count_bits(starts)
                base = at
                at += highest_bit(starts)
                for first in range(count, count + found, 8):  # by eights: the CPU foresees their number better
                    for i in range(8):
                        store64(ends, first + i, base + lowest_bit(starts))
                        starts &= starts - 1
                count += found
                continue
        at = next_piece(text, at, pattern, classes)
        ends[count] = at
        count += 1
    return count


@kernel
def next_piece(text: Any, at: int, pattern: int, classes: Any) -> int:
    """Return the end of the piece that starts at ``at < len(text)``."""
    if pattern == WHOLE:
        return len(text)
    if pattern == GPT2:
        return next_piece_gpt2(text, at, classes)
    if pattern == CL100K:
        return next_piece_cl100k(text, at, classes)
    return next_piece_o200k(text, at, classes)


@kernel
def character(text: Any, at: int, classes: Any) -> tuple[int, int]:
    """Return the class and the size in bytes of the character at ``at < len(text)``; an invalid byte is OTHER."""
    n = len(text)
    first = load8(text, at)
    if first < 0x80:
        return load8(classes, BLOCKS + first), 1
    if first >= 0xF0 and at + 3 < n:
        width = 4
        code = (
            (first & 7) << 18
            | (load8(text, at + 1) & 63) << 12
            | (load8(text, at + 2) & 63) << 6
            | load8(text, at + 3) & 63
        )
    elif first >= 0xE0 and at + 2 < n:
        width = 3
        code = (first & 15) << 12 | (load8(text, at + 1) & 63) << 6 | load8(text, at + 2) & 63
    elif first >= 0xC0 and at + 1 < n:
        width = 2
        code = (first & 31) << 6 | load8(text, at + 1) & 63
    else:
        return OTHER, 1
    return load8(classes, BLOCKS + 256 * load8(classes, code >> 8) + (code & 255)), width


@kernel
def next_piece_gpt2(text: Any, at: int, classes: Any) -> int:
    n = len(text)
    if load8(text, at) == APOSTROPHE:
        size = contraction(text, at, False)
        if size > 0:
            return at + size
    kind, width = character(text, at, classes)
    i = at + width
    if load8(text, at) == _SPACE and i < n:
        following, width = character(text, i, classes)
        if following != SPACE:
            kind = following
            i += width
    if kind == SPACE:
        return white_space(text, at, GPT2, classes)
    group = group_of(kind)
    while i < n:
        kind, width = character(text, i, classes)
        if group_of(kind) != group:
            break
        i += width
    return i


@kernel
def group_of(kind: int) -> int:
    """Map all letters to LETTER, and marks to OTHER."""
    if kind >= LOWER:
        return LETTER
    return OTHER if kind == MARK else kind


@kernel
def white_space(text: Any, at: int, pattern: int, classes: Any) -> int:
    r"""Return the end of ``\s+$``, ``\s*[\r\n]+``, ``\s+(?!\S)`` or ``\s``. GPT-2 lacks the second, o200k the first."""
    n = len(text)
    i = last = at
    line_end = -1
    while i < n:
        kind, width = character(text, i, classes)
        if kind != SPACE:
            break
        last = i
        i += width
        if load8(text, last) == _NEWLINE or load8(text, last) == _RETURN:
            line_end = i
    if pattern != GPT2 and line_end > 0 and (pattern == O200K or i < n):
        return line_end
    if i == n:
        return n
    return last if last > at else i  # the last space belongs to the next word


@kernel
def numbers(text: Any, at: int, classes: Any) -> int:
    """Return the end of one to three numbers."""
    i = at
    for _ in range(3):
        if i >= len(text):
            break
        kind, width = character(text, i, classes)
        if kind != NUMBER:
            break
        i += width
    return i


@kernel
def others(text: Any, at: int, slash: bool, classes: Any) -> int:
    r"""Return the end of `` ?[^\s\p{L}\p{N}]+[\r\n]*``, with ``slash`` ``[\r\n/]*`` at the end; ``at`` if none."""
    n = len(text)
    first = at + 1 if load8(text, at) == _SPACE else at
    i = first
    while i < n:
        kind, width = character(text, i, classes)
        if kind > MARK:
            break
        i += width
    if i == first:
        return at
    while i < n and (load8(text, i) == _NEWLINE or load8(text, i) == _RETURN or (slash and load8(text, i) == SLASH)):
        i += 1
    return i


@kernel
def next_piece_cl100k(text: Any, at: int, classes: Any) -> int:
    n = len(text)
    if load8(text, at) == APOSTROPHE:
        size = contraction(text, at, True)
        if size > 0:
            return at + size
    kind, width = character(text, at, classes)
    if kind == NUMBER:
        return numbers(text, at, classes)
    i = at + width
    if (
        kind < LOWER and i < n and load8(text, at) != _NEWLINE and load8(text, at) != _RETURN
    ):  # one character before the letters
        kind, width = character(text, i, classes)
        i += width
    if kind >= LOWER:
        while i < n:
            kind, width = character(text, i, classes)
            if kind < LOWER:
                break
            i += width
        return i
    i = others(text, at, False, classes)
    return i if i > at else white_space(text, at, CL100K, classes)


@kernel
def next_piece_o200k(text: Any, at: int, classes: Any) -> int:
    kind, width = character(text, at, classes)
    if kind == NUMBER:
        return numbers(text, at, classes)
    if kind >= LOWER or kind == MARK:
        return cased_word(text, at, classes)
    if load8(text, at) != _NEWLINE and load8(text, at) != _RETURN:
        i = cased_word(text, at + width, classes)  # one character before the letters
        if i > at + width:
            return i
    i = others(text, at, True, classes)
    return i if i > at else white_space(text, at, O200K, classes)


@kernel
def cased_word(text: Any, at: int, classes: Any) -> int:
    r"""Return the end of ``A*B+`` or else ``A+B*``, with an optional contraction; ``at`` if there is neither.

    A is ``[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`` and B ``[\p{Ll}\p{Lm}\p{Lo}\p{M}]``. A* takes as many characters as
    it can. If no B follows, it backtracks to the last character that is in both A and B.
    """
    n = len(text)
    i = at
    both = at  # the end of the last character that is in A and in B
    kind = OTHER
    while i < n:
        kind, width = character(text, i, classes)
        if kind != UPPER and kind != LETTER and kind != MARK:
            break
        i += width
        if kind != UPPER:
            both = i
    if i < n and kind == LOWER:
        while i < n:
            kind, width = character(text, i, classes)
            if kind != LOWER and kind != LETTER and kind != MARK:
                break
            i += width
    elif both > at:
        i = both
    if i > at and i < n and load8(text, i) == APOSTROPHE:
        i += contraction(text, i, True)
    return i
