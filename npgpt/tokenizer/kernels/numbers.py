"""Constants of the kernels and of the textbook code. The cached machine code depends on them. No import of Numba."""

# The names of the split patterns, and the number for each name.
PATTERNS = ("gpt2", "cl100k_base", "o200k_base", "none")
GPT2, CL100K, O200K, WHOLE = range(len(PATTERNS))

# The names of the character classes, and the number for each name. LOWER, UPPER and LETTER (without case) are letters.
CLASSES = ("other", "mark", "number", "space", "lower", "upper", "letter")
OTHER, MARK, NUMBER, SPACE, LOWER, UPPER, LETTER = range(len(CLASSES))

BLOCKS = 1 << 13  # blocks of 256 code points: all code points of four bytes, valid UTF-8 or not
TOKEN_BITS = 21  # bits of a token's number: a pair and its merged token fit into one int64
