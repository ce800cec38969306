"""Split UTF-8 into pieces like the patterns of ``tokenizer/patterns.py``, without a regular expression.

The plain form is ``patterns.compiled(name).findall(text)``. Two kinds of functions here must agree with it.
``next_piece_...`` is simple but slow: it reads a piece character by character, with about 20 branches. ``window_...``
converts the 64 bytes from the start of a piece on to bit masks (bit i: byte i is a letter, a digit, ...). A dozen
operations on whole masks find the starts of all pieces among them (1,490 MB/s instead of 115 MB/s on prose). A window
keeps only the starts that no later byte can change. The next window begins at the last of these starts, so the windows
share no state. ``next_piece_...`` handles the other cases: characters that are not ASCII, a piece of 64 bytes, and the
end of the text.

Source    the mask scanner is gigatoken's idea (MIT); the algebra for these three patterns is derived here
"""

from typing import Any

import numpy as np

from npgpt.machine.bits import classify64, equal64, highest_bit, lowest_bit, shift_right
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

_APOSTROPHE, _SPACE, _NEWLINE, _RETURN, _SLASH = 39, 32, 10, 13, 47


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
        # A window finds no start if one of its first characters is not ASCII.
        if at + 64 <= n and text[at] < 128 and text[at + 1] < 128 and pattern != WHOLE:
            if pattern == GPT2:
                starts = window_gpt2(text, at)
            elif pattern == CL100K:
                starts = window_cl100k(text, at)
            else:
                starts = window_o200k(text, at)
            if starts != 0:
                while starts != 0:
                    ends[count] = at + lowest_bit(starts)
                    count += 1
                    starts &= starts - 1
                at = ends[count - 1]
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
    first = np.int64(text[at])
    if first < 0x80:
        return np.int64(classes[BLOCKS + first]), 1
    if first >= 0xF0 and at + 3 < n:
        width = 4
        code = (first & 7) << 18 | (text[at + 1] & 63) << 12 | (text[at + 2] & 63) << 6 | text[at + 3] & 63
    elif first >= 0xE0 and at + 2 < n:
        width = 3
        code = (first & 15) << 12 | (text[at + 1] & 63) << 6 | text[at + 2] & 63
    elif first >= 0xC0 and at + 1 < n:
        width = 2
        code = (first & 31) << 6 | text[at + 1] & 63
    else:
        return OTHER, 1
    return np.int64(classes[BLOCKS + 256 * np.int64(classes[code >> 8]) + (code & 255)]), width


@kernel
def contraction(text: Any, at: int, any_case: bool) -> int:
    """Return the size of a contraction ('s 'd 'm 't 'll 've 're) at the apostrophe ``at``; 0 if there is none."""
    n = len(text)
    if at + 1 >= n:
        return 0
    first = np.int64(text[at + 1])
    second = np.int64(text[at + 2]) if at + 2 < n else 0
    if any_case:
        if first == 0xC5 and second == 0xBF:  # ſ is a form of s
            return 3
        first |= 32 if 65 <= first <= 90 else 0
        second |= 32 if 65 <= second <= 90 else 0
    if first == 115 or first == 100 or first == 109 or first == 116:  # s d m t
        return 2
    if (first == 108 and second == 108) or ((first == 118 or first == 114) and second == 101):  # ll ve re
        return 3
    return 0


@kernel
def next_piece_gpt2(text: Any, at: int, classes: Any) -> int:
    n = len(text)
    if text[at] == _APOSTROPHE:
        size = contraction(text, at, False)
        if size > 0:
            return at + size
    kind, width = character(text, at, classes)
    i = at + width
    if text[at] == _SPACE and i < n:
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
        if text[last] == _NEWLINE or text[last] == _RETURN:
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
    first = at + 1 if text[at] == _SPACE else at
    i = first
    while i < n:
        kind, width = character(text, i, classes)
        if kind > MARK:
            break
        i += width
    if i == first:
        return at
    while i < n and (text[i] == _NEWLINE or text[i] == _RETURN or (slash and text[i] == _SLASH)):
        i += 1
    return i


@kernel
def next_piece_cl100k(text: Any, at: int, classes: Any) -> int:
    n = len(text)
    if text[at] == _APOSTROPHE:
        size = contraction(text, at, True)
        if size > 0:
            return at + size
    kind, width = character(text, at, classes)
    if kind == NUMBER:
        return numbers(text, at, classes)
    i = at + width
    if kind < LOWER and i < n and text[at] != _NEWLINE and text[at] != _RETURN:  # one character before the letters
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
    if text[at] != _NEWLINE and text[at] != _RETURN:
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
    if i > at and i < n and text[i] == _APOSTROPHE:
        i += contraction(text, i, True)
    return i


@kernel
def certain(starts: int, limit: int) -> int:
    """Return the starts that depend only on bytes before ``limit``, without bit 0, the window's start.

    A start at i depends on byte i + 1, the start of a contraction also on i + 2.
    """
    return starts & ~1 & shift_right(-1, 66 - limit) if limit >= 3 else 0


@kernel
def contractions(text: Any, at: int, candidates: int, starts: int, any_case: bool, with_word: bool) -> int:
    """Correct ``starts`` at contractions: each is a piece, or the end of a piece if ``with_word``."""
    end = -1
    while candidates != 0:
        i = lowest_bit(candidates)
        candidates &= candidates - 1
        if i > 61:  # this contraction could change only uncertain starts
            break
        size = contraction(text, at + i, any_case)
        if size == 0 or (with_word and i == end):  # a word has at most one contraction
            continue
        end = i + size
        inside = ((1 << size) - 1) << i
        starts = starts & ~inside | (0 if with_word else 1 << i) | (1 << i << size)
    return starts


@kernel
def window_gpt2(text: Any, at: int) -> int:
    """Return the certain starts in the 64 bytes from the start ``at`` on: bit i is for ``at + i``."""
    lower, upper, digits, white, _, spaces, foreign = classify64(text, at)
    letters = lower | upper
    other = ~(letters | digits | white)
    # The start of a run of one kind, unless the piece begins at the space before the run.
    starts = (letters & ~(letters << 1) | digits & ~(digits << 1) | other & ~(other << 1)) & ~(spaces << 1)
    # White space: the start of a run, and its last character, which is a piece or belongs to the next word.
    starts |= white & ~(white << 1) | white & ~shift_right(white, 1)
    candidates = equal64(text, at, _APOSTROPHE) & starts & shift_right(letters, 1)
    if candidates != 0:
        starts = contractions(text, at, candidates, starts, False, False)
    return certain(starts, lowest_bit(foreign))


@kernel
def window_cl100k(text: Any, at: int) -> int:
    """Like ``window_gpt2``, for cl100k_base."""
    lower, upper, digits, white, line_ends, spaces, foreign = classify64(text, at)
    letters = lower | upper
    starts, single = starts_by_class(letters, digits, white, line_ends, spaces)
    candidates = equal64(text, at, _APOSTROPHE) & single & shift_right(letters, 1)
    if candidates != 0:
        starts = contractions(text, at, candidates, starts, True, False)
    return outside_last_white_run(starts, white, lowest_bit(foreign))


@kernel
def window_o200k(text: Any, at: int) -> int:
    """Like ``window_gpt2``, for o200k_base. A slash after a line end is a limit: the earlier piece may include it."""
    lower, upper, digits, white, line_ends, spaces, foreign = classify64(text, at)
    letters = lower | upper
    starts, _ = starts_by_class(letters, digits, white, line_ends, spaces)
    starts |= upper & (lower << 1)  # camelCase
    candidates = equal64(text, at, _APOSTROPHE) & (letters << 1) & shift_right(letters, 1)
    if candidates != 0:
        starts = contractions(text, at, candidates, starts, True, True)
    foreign |= equal64(text, at, _SLASH) & (line_ends << 1)
    return outside_last_white_run(starts, white, lowest_bit(foreign))


@kernel
def starts_by_class(letters: int, digits: int, white: int, line_ends: int, spaces: int) -> tuple[int, int]:
    """Return the starts common to cl100k_base and o200k_base, and the others that letters may follow."""
    other = ~(letters | digits | white)
    single = other & ~(other << 1) & ~(spaces << 1)  # begins a run of others without a space before it
    blank = white & ~line_ends
    # A piece of letters includes one character before them: a blank, or an "other" character that starts a piece. A
    # piece of others includes one space before them.
    starts = letters & ~(letters << 1) & ~((single | blank) << 1) | single
    # Digits are grouped in threes from the start of their run: every third digit starts a piece.
    group = digits & ~(digits << 1)
    fourth = digits & (digits << 1) & (digits << 2) & (digits << 3)
    while group != 0:
        starts |= group
        group = (group << 3) & fourth
    # White space: the start of a run, except that line ends directly after others belong to them. A bit added to the
    # start of a run of ones carries to the first zero after it.
    taken = line_ends & (other << 1)
    behind_taken = (line_ends + taken) & ~line_ends
    starts |= white & ~(white << 1) & ~taken | behind_taken
    starts |= blank & ~shift_right(white, 1)  # the last blank of a run is a piece or belongs to the next piece
    # After the last line end of a run: a blank after a line end, if no line end follows its run of blanks.
    first = (line_ends << 1) & blank
    not_last = (blank + first) & ~blank & line_ends
    while not_last != 0:
        before = first & ((1 << lowest_bit(not_last)) - 1)
        first ^= 1 << highest_bit(before)
        not_last &= not_last - 1
    return starts | first, single


@kernel
def outside_last_white_run(starts: int, white: int, limit: int) -> int:
    """Return the certain starts. In a white-space run up to the limit only the first is: a line end may follow."""
    if limit < 3:
        return 0
    starts = certain(starts, limit)
    run = highest_bit(~white & shift_right(-1, 64 - limit)) + 1
    if run < limit:
        starts &= (1 << run << 1) - 1
    return starts
