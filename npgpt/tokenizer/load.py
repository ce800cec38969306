"""Read a vocabulary of any kind from a file or a folder."""

from pathlib import Path
from typing import Any

from npgpt.core.values import path as check_path
from npgpt.errors import TokenizerError
from npgpt.tokenizer.base import Tokenizer, read_tokenizer_json
from npgpt.tokenizer.bpe_tokenizer import BPETokenizer
from npgpt.tokenizer.characters import CharTokenizer
from npgpt.tokenizer.words import WordTokenizer

KINDS: dict[str, Any] = {kind.kind: kind for kind in (BPETokenizer, WordTokenizer, CharTokenizer)}


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a vocabulary.

    Args
        path: a run folder; a file that ``Tokenizer.save`` wrote; a folder with GPT-2's encoder.json and vocab.bpe, or
            vocab.json and merges.txt;
            NAME.tiktoken; or Hugging Face's tokenizer.json, or a folder with it. Files may be compressed by gzip,
            bzip2 or xz.
    Raises
        TokenizerError that names the file and the fault; OSError if the file does not exist.
    """
    path = check_path("load_tokenizer", "path", path, TokenizerError)
    inside = Path(path, "tokenizer.json")
    path = inside if inside.is_file() else Path(path)
    if path.is_dir():
        theirs = (path / "vocab.json").is_file()  # Hugging Face's names of the same two files
        names = ("vocab.json", "merges.txt") if theirs else ("encoder.json", "vocab.bpe")
        return BPETokenizer.from_gpt2(*(path / name for name in names))
    if ".tiktoken" in path.suffixes:
        return BPETokenizer.from_tiktoken(path)
    data = read_tokenizer_json(path)
    ours = isinstance(data, dict) and "format" in data
    return Tokenizer.from_json(data, path) if ours else BPETokenizer.from_huggingface_json(data, path)
