"""The compiled loops of the tokenizer: cut, look up, merge, learn, decode."""
