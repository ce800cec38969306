"""Tokenizers: words, characters and byte pairs, with one protocol (``base.Tokenizer``)."""

from npgpt.errors import TokenizerError
from npgpt.tokenizer.base import END_OF_TEXT, Tokenizer
from npgpt.tokenizer.bpe_tokenizer import BPETokenizer
from npgpt.tokenizer.characters import CharTokenizer
from npgpt.tokenizer.load import KINDS, load_tokenizer
from npgpt.tokenizer.words import UNKNOWN, WordTokenizer

__all__ = [
    "END_OF_TEXT", "KINDS", "UNKNOWN", "BPETokenizer", "CharTokenizer", "Tokenizer", "TokenizerError", "WordTokenizer",
    "load_tokenizer"
]  # fmt: skip
