"""Numbers that the kernels share with the textbook. Here, because the kept machine code depends on them; no Numba."""

# The patterns that cut a text, by name, and the number of each.
PATTERNS = ("gpt2", "cl100k_base", "o200k_base")
GPT2, CL100K, O200K = range(len(PATTERNS))

# Classes of characters, by name, and the number of each. Both cases are letters, and so are letters without case.
CLASSES = ("other", "mark", "number", "space", "lower", "upper", "letter")
OTHER, MARK, NUMBER, SPACE, LOWER, UPPER, LETTER = range(len(CLASSES))

BLOCKS = 1 << 13  # of 256 code points: as far as four bytes of UTF-8 can reach, sense or nonsense
TOKEN_BITS = 21  # of a token's number, so that a pair and what it makes fit into one int64
