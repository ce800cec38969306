"""Other tokenizers with the vocabularies of ``vocabularies.py``, for ``bench_tokenizer.py``.

Each maker takes the name of a vocabulary and returns a function that returns a new ``encode``, which has seen no text.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vocabularies import ours, tiktokens

Encode = Callable[[str], Any]


def of_npgpt(name: str) -> Callable[[], Encode]:
    tokenizer = ours(name)

    def make() -> Encode:
        tokenizer.__dict__.pop("_encoder", None)
        tokenizer.encode_array("a new encoder makes its tables here " * 10)
        return tokenizer.encode_array

    return make


def of_tiktoken(name: str) -> Callable[[], Encode]:
    def make() -> Encode:
        encoding = tiktokens(name)
        encoding.encode("its first call compiles its pattern")
        return lambda text: encoding.encode_to_numpy(text, disallowed_special=())

    return make


def huggingface_file(name: str, folder: str) -> str:
    path = Path(folder, "tokenizer.json")
    ours(name).to_huggingface(path)
    return str(path)


def of_gigatoken(name: str) -> Callable[[], Encode]:
    import gigatoken

    def make() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            if name == "gpt2":
                return gigatoken.Tokenizer(huggingface_file(name, folder)).encode
            path = Path(folder, f"{name}.tiktoken")
            ours(name).to_tiktoken(path)
            return gigatoken.Tokenizer.from_tiktoken(path).encode

    return make


def of_snaptokens(name: str) -> Callable[[], Encode]:
    import snaptokens

    def make() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return snaptokens.Tokenizer.from_file(huggingface_file(name, folder)).encode

    return make


def of_fastokens(name: str) -> Callable[[], Encode]:
    import fastokens

    def make() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            if name == "gpt2":
                return fastokens.Tokenizer.from_file(huggingface_file(name, folder)).encode
            path = Path(folder, f"{name}.tiktoken")
            ours(name).to_tiktoken(path)
            return fastokens.Tokenizer.from_tiktoken(str(path), encoding=name).encode

    return make


MAKERS: dict[str, Callable[[str], Callable[[], Encode]]] = {
    "npgpt": of_npgpt,
    "tiktoken": of_tiktoken,
    "gigatoken": of_gigatoken,
    "snaptokens": of_snaptokens,
    "fastokens": of_fastokens,
}


def installed() -> list[str]:
    """Return the names of the tokenizers that can be imported, npgpt first."""
    return [name for name in MAKERS if importlib.util.find_spec(name)]
