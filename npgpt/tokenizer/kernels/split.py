"""Cut UTF-8 into pieces as the patterns of ``tokenizer/patterns.py`` do, without running a regular expression.

The plain form is ``patterns.compiled(name).findall(text)``. Here are two ways that must agree with it.
``next_piece_...`` is the plain one: from the start of a piece it reads character by character to its end.
``window_...`` takes the 64 bytes from the start of a piece on, turns them into bit masks (bit i: byte i is a letter, a
digit, ...) and finds the starts of all pieces among them by a dozen operations on whole masks; the 20 or so branches
that a piece costs otherwise are what makes the plain way slow (prose: 115 against 1,490 MB/s). A window keeps only
those starts that no byte behind it could change, and the next window begins at the last of them: no state passes from
one to the next. What a window cannot tell (characters that are not ASCII, a piece of 64 bytes, the end of the text) is
left to the plain way.

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
)

_APOSTROPHE, _SPACE, _NEWLINE, _RETURN, _SLASH = 39, 32, 10, 13, 47


@kernel
def split(text: Any, at: int, pattern: int, classes: Any, ends: Any) -> int:
    """Write the ends of the next pieces of ``text`` from ``at`` on into ``ends``; return how many.

    There are fewer than ``len(ends) - 63`` only at the end of the text, for one window may find 63.

    Args
        classes: the class of code point c is ``classes[BLOCKS + 256 * classes[c >> 8] + (c & 255)]``. The block
            numbers in front are BLOCKS, so that four bytes of nonsense are within bounds too.
    """
    n = len(text)
    room = len(ends) - 63
    count = 0
    while at < n and count < room:
        # A window tells nothing when one of its first characters is not ASCII; then do not try.
        if at + 64 <= n and text[at] < 128 and text[at + 1] < 128:
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
    """The end of the piece that starts at ``at < len(text)``."""
    if pattern == GPT2:
        return next_piece_gpt2(text, at, classes)
    if pattern == CL100K:
        return next_piece_cl100k(text, at, classes)
    return next_piece_o200k(text, at, classes)


@kernel
def character(text: Any, at: int, classes: Any) -> tuple[int, int]:
    """Class and number of bytes of the character at ``at < len(text)``; a byte that is no UTF-8 is OTHER."""
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
    """The bytes of 's 'd 'm 't 'll 've 're at ``at``, where an apostrophe stands; 0 if there is none."""
    n = len(text)
    if at + 1 >= n:
        return 0
    first = np.int64(text[at + 1])
    second = np.int64(text[at + 2]) if at + 2 < n else 0
    if any_case:
        if first == 0xC5 and second == 0xBF:  # ſ is an s in another case
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
    """All letters are one, and marks are other characters."""
    if kind >= LOWER:
        return LETTER
    return OTHER if kind == MARK else kind


@kernel
def white_space(text: Any, at: int, pattern: int, classes: Any) -> int:
    r"""The end of ``\s+$``, ``\s*[\r\n]+``, ``\s+(?!\S)`` or ``\s``: GPT-2 has no second, o200k_base no first."""
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
    return last if last > at else i  # the last one goes with the word


@kernel
def numbers(text: Any, at: int, classes: Any) -> int:
    """The end of one to three numbers."""
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
    r"""The end of `` ?[^\s\p{L}\p{N}]+[\r\n]*``, with ``slash`` of ``[\r\n/]*`` behind; ``at`` if it is not there."""
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
    r"""The end of ``A*B+`` or else ``A+B*``, and a contraction; ``at`` if there is neither.

    A is ``[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`` and B ``[\p{Ll}\p{Lm}\p{Lo}\p{M}]``. A* takes all it can; if no B follows,
    it gives back as little as makes B+ match: that ends behind the last character taken that is in both.
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
    """The starts that depend on bytes before ``limit`` only; the window's own, bit 0, is left out.

    A start at i depends on i + 1; if it is that of a contraction, on i + 2.
    """
    return starts & ~1 & shift_right(-1, 66 - limit) if limit >= 3 else 0


@kernel
def contractions(text: Any, at: int, candidates: int, starts: int, any_case: bool, with_word: bool) -> int:
    """Correct ``starts`` where a contraction begins: it is a piece, or with_word the end of one."""
    end = -1
    while candidates != 0:
        i = lowest_bit(candidates)
        candidates &= candidates - 1
        if i > 61:  # what it could change is not certain anyway
            break
        size = contraction(text, at + i, any_case)
        if size == 0 or (with_word and i == end):  # a word has one contraction at most
            continue
        end = i + size
        inside = ((1 << size) - 1) << i
        starts = starts & ~inside | (0 if with_word else 1 << i) | (1 << i << size)
    return starts


@kernel
def window_gpt2(text: Any, at: int) -> int:
    """The certain starts of pieces in the 64 bytes from ``at`` on, which is a start itself: bit i for ``at + i``."""
    lower, upper, digits, white, _, spaces, foreign = classify64(text, at)
    letters = lower | upper
    other = ~(letters | digits | white)
    # Where a run of one kind begins, unless a space stands before it and belongs to it.
    starts = (letters & ~(letters << 1) | digits & ~(digits << 1) | other & ~(other << 1)) & ~(spaces << 1)
    # White space: where the run begins; and its last one, which stands alone or goes with the word.
    starts |= white & ~(white << 1) | white & ~shift_right(white, 1)
    candidates = equal64(text, at, _APOSTROPHE) & starts & shift_right(letters, 1)
    if candidates != 0:
        starts = contractions(text, at, candidates, starts, False, False)
    return certain(starts, lowest_bit(foreign))


@kernel
def window_cl100k(text: Any, at: int) -> int:
    """As ``window_gpt2``."""
    lower, upper, digits, white, line_ends, spaces, foreign = classify64(text, at)
    letters = lower | upper
    starts, single = starts_by_class(letters, digits, white, line_ends, spaces)
    candidates = equal64(text, at, _APOSTROPHE) & single & shift_right(letters, 1)
    if candidates != 0:
        starts = contractions(text, at, candidates, starts, True, False)
    return outside_last_white_run(starts, white, lowest_bit(foreign))


@kernel
def window_o200k(text: Any, at: int) -> int:
    """As ``window_gpt2``. A slash after a line end is left to the plain way: it may belong to what is before."""
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
    """What cl100k_base and o200k_base have in common: starts, and other characters that may go with letters behind."""
    other = ~(letters | digits | white)
    single = other & ~(other << 1) & ~(spaces << 1)  # begins a run of others, and no space before it takes it
    blank = white & ~line_ends
    # Letters take one character before them: a blank, or an other one at the start of a piece. Others take a space.
    starts = letters & ~(letters << 1) & ~((single | blank) << 1) | single
    # Digits in threes, counted from the start of their run: every third bit that has three digits before it.
    group = digits & ~(digits << 1)
    fourth = digits & (digits << 1) & (digits << 2) & (digits << 3)
    while group != 0:
        starts |= group
        group = (group << 3) & fourth
    # White space: the start of a run, but line ends directly behind others belong to those; adding a bit to the start
    # of a run of ones carries to the first zero behind it.
    taken = line_ends & (other << 1)
    behind_taken = (line_ends + taken) & ~line_ends
    starts |= white & ~(white << 1) & ~taken | behind_taken
    starts |= blank & ~shift_right(white, 1)  # the last one of a run goes with what follows, or alone
    # Behind the last line end of a run: a blank after a line end, if the run of blanks ends without another.
    first = (line_ends << 1) & blank
    not_last = (blank + first) & ~blank & line_ends
    while not_last != 0:
        before = first & ((1 << lowest_bit(not_last)) - 1)
        first ^= 1 << highest_bit(before)
        not_last &= not_last - 1
    return starts | first, single


@kernel
def outside_last_white_run(starts: int, white: int, limit: int) -> int:
    """Certain starts; in a run of white space that reaches the limit only its first, for a line end may come yet."""
    if limit < 3:
        return 0
    starts = certain(starts, limit)
    run = highest_bit(~white & shift_right(-1, 64 - limit)) + 1
    if run < limit:
        starts &= (1 << run << 1) - 1
    return starts
