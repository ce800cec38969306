"""Vectors from a run folder: of a model's tokens, before and after training, and of texts."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from npgpt.build import make_gpt
from npgpt.core import Array
from npgpt.core.values import path as check_path
from npgpt.embeddings.documents import State, gpt_vectors
from npgpt.embeddings.vectors import WordVectors
from npgpt.runs import load_run
from npgpt.runs.layout import MODEL
from npgpt.tokenizer import BPETokenizer, Tokenizer


def token_vectors(folder: str | Path) -> tuple[WordVectors, WordVectors]:
    """Return the token embeddings of a run before training (initialised from the seed) and after."""
    run = load_run(check_path("token_vectors", "folder", folder))
    words, first = token_names(run.tokenizer), make_gpt(run.config.model, "textbook", run.config.train.seed)
    return WordVectors(words, first.embedding.weight.value), WordVectors(words, run.model.embedding.weight.value)


def token_names(tokenizer: Tokenizer) -> list[str]:
    """Return the text of each token, with escapes for invalid UTF-8, and the id after a text that would be repeated."""
    special = {token: text for text, token in tokenizer.special_tokens.items()}
    names: dict[str, None] = {}
    for token in range(tokenizer.vocab_size):
        if token in special:
            name = special[token]
        elif isinstance(tokenizer, BPETokenizer):
            name = tokenizer.token_bytes[token].decode("utf-8", "backslashreplace")
        else:
            name = tokenizer.decode([token])
        while not name or name in names:
            name = f"{name}<{token}>"
        names[name] = None
    return list(names)


class RunEncoder:
    """The hidden states of a run's model (``gpt_vectors``). An index stores the folder, and a hash of the weights."""

    def __init__(self, folder: str | Path) -> None:
        folder = check_path("RunEncoder", "folder", folder)
        self.run = load_run(folder)
        self.folder = str(Path(folder).absolute())
        assert self.run.path is not None
        self.weights = hashlib.blake2b((self.run.path / MODEL).read_bytes(), digest_size=16).hexdigest()

    def encode(self, texts: Sequence[str]) -> Array:
        return gpt_vectors(self.run.model, self.run.tokenizer, texts)

    def state(self) -> State:
        return {"run": self.folder, "weights": self.weights}, {}
