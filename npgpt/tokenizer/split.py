"""Patterns that cut a text into pieces before byte-pair encoding; no merge ever joins across a cut.

Without a cut, ``dog.``, ``dog!`` and ``dog?`` would each be learned as a token of their own. Every character matches
one of the alternatives, so the pieces put together are the text again.
"""

import regex

# Tried in this order at each position; the first that matches takes the piece.
_GPT2 = (
    r"'(?:[sdmt]|ll|ve|re)",  # English endings after an apostrophe, lower case: it's, don't, we'll, I've, they're
    r" ?\p{L}+",  # a word, with the one space before it
    r" ?\p{N}+",  # a number
    r" ?[^\s\p{L}\p{N}]+",  # punctuation and symbols
    r"\s+(?!\S)",  # white space, but for the last one before a word, which goes with the word
    r"\s+",  # white space that is left
)

# Files name a pattern by its key; a pattern that comes from a file is never run.
PATTERNS = {"gpt2": regex.compile("|".join(_GPT2))}
