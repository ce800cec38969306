"""The compiled loops of the tokenizer: split, look up, merge, learn, decode."""

started = False  # whether ``bpe_compiled`` has been imported, and Numba with it
