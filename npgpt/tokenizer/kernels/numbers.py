"""Constants that the kernels share with the textbook. The cached machine code depends on them. No Numba here."""

# The names of the split patterns, and the number of each.
PATTERNS = ("gpt2", "cl100k_base", "o200k_base")
GPT2, CL100K, O200K = range(len(PATTERNS))

# The names of the character classes, and the number of each. LOWER, UPPER and LETTER (without case) are letters.
CLASSES = ("other", "mark", "number", "space", "lower", "upper", "letter")
OTHER, MARK, NUMBER, SPACE, LOWER, UPPER, LETTER = range(len(CLASSES))

BLOCKS = 1 << 13  # blocks of 256 code points: all that four bytes can encode, valid UTF-8 or not
TOKEN_BITS = 21  # bits of a token's number: a pair and its merged token fit into one int64
