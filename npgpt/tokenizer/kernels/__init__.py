"""The compiled loops of the tokenizer: split, look up, merge, learn, decode."""

started = False  # whether ``bpe_compiled``, and so Numba, has been imported
