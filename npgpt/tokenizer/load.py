"""Read a vocabulary of any kind from a file or a folder."""

from pathlib import Path
from typing import Any

from npgpt.tokenizer.base import Tokenizer, read_tokenizer_json
from npgpt.tokenizer.bpe_tokenizer import BPETokenizer
from npgpt.tokenizer.characters import CharTokenizer
from npgpt.tokenizer.words import WordTokenizer

KINDS: dict[str, Any] = {kind.kind: kind for kind in (BPETokenizer, WordTokenizer, CharTokenizer)}


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a vocabulary.

    Args
        path: a run folder; a file that ``Tokenizer.save`` wrote; a folder with GPT-2's encoder.json and vocab.bpe;
            NAME.tiktoken; or Hugging Face's tokenizer.json, or a folder with it. Files may be compressed by gzip,
            bzip2 or xz.
    Raises
        TokenizerError that names the file and the fault; OSError if the file does not exist.
    """
    inside = Path(path, "tokenizer.json")
    path = inside if inside.is_file() else Path(path)
    if path.is_dir():
        return BPETokenizer.from_gpt2(path / "encoder.json", path / "vocab.bpe")
    if ".tiktoken" in path.suffixes:
        return BPETokenizer.from_tiktoken(path)
    data = read_tokenizer_json(path)
    ours = isinstance(data, dict) and "format" in data
    return Tokenizer.from_json(data, path) if ours else BPETokenizer.from_huggingface_json(data, path)
