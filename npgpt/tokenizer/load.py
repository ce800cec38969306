"""Read a vocabulary of any kind from a file or a folder."""

from pathlib import Path
from typing import Any

from npgpt.core.values import path as check_path
from npgpt.errors import TokenizerError
from npgpt.tokenizer.base import Tokenizer
from npgpt.tokenizer.bpe_tokenizer import BPETokenizer
from npgpt.tokenizer.characters import CharTokenizer
from npgpt.tokenizer.words import WordTokenizer

KINDS: dict[str, Any] = {kind.kind: kind for kind in (BPETokenizer, WordTokenizer, CharTokenizer)}


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a vocabulary.

    Args
        path: a run folder; a file that ``Tokenizer.save`` wrote; a folder with GPT-2's encoder.json and vocab.bpe;
            NAME.tiktoken, also gzipped; or Hugging Face's tokenizer.json, or a folder with it.
    Raises
        TokenizerError that names the file and the fault; OSError if the file does not exist.
    """
    path = check_path("load_tokenizer", "path", path, TokenizerError)
    inside = Path(path, "tokenizer.json")
    path = inside if inside.is_file() else Path(path)
    if path.is_dir():
        return BPETokenizer.from_gpt2(path / "encoder.json", path / "vocab.bpe")
    if ".tiktoken" in path.suffixes:
        return BPETokenizer.from_tiktoken(path)
    with path.open("rb") as file:  # npgpt's own files start with their format
        ours = b"npgpt-tokenizer" in file.read(100)
    return Tokenizer.load(path) if ours else BPETokenizer.from_huggingface(path)
