"""A run's token vectors, before and after training, and the names of its tokens."""

from pathlib import Path

import numpy as np
import pytest

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, RunConfig, TrainConfig
from npgpt.embeddings import token_names, token_vectors
from npgpt.runs import Run
from npgpt.tokenizer import BPETokenizer, CharTokenizer, WordTokenizer


def test_the_vectors_before_training_follow_from_the_seed(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.train("the theme")
    sizes = GPTConfig(tokenizer.vocab_size, 8, n_layer=1, n_head=1, n_embd=8)
    config = RunConfig(model=sizes, train=TrainConfig(seed=3))
    model = make_gpt(config.model, "textbook", seed=3)
    first = model.embedding.weight.value.copy()
    model.embedding.weight.value += 1
    Run(config, tokenizer, model).save(tmp_path / "run")
    before, after = token_vectors(tmp_path / "run")
    assert before.words == after.words == token_names(tokenizer)
    assert np.array_equal(before.vectors, first) and np.array_equal(after.vectors, model.embedding.weight.value)


@pytest.mark.parametrize(
    "tokenizer",
    [BPETokenizer.train("the theme", 262), WordTokenizer.train("the theme"), CharTokenizer.train("the theme\n")],
    ids=lambda tokenizer: tokenizer.kind,
)
def test_token_names_are_distinct(tokenizer: BPETokenizer | WordTokenizer | CharTokenizer) -> None:
    names = token_names(tokenizer)
    assert len(set(names)) == len(names) == tokenizer.vocab_size
    assert all(names) and "<|endoftext|>" in names
    whole = [text for text in ("the", "t") if tokenizer.decode(tokenizer.encode(text)[:1]) == text]
    assert whole and all(names[tokenizer.encode(text)[0]] == text for text in whole)
