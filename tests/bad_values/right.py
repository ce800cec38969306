"""What right calls are made of: texts, ids, a run in a folder, small models."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import values as a

import npgpt
from npgpt import config, embeddings, layers, optim, tokenizer
from npgpt.core import Cache, FlatParams, Param
from npgpt.embeddings import vectors
from npgpt.study.check.cases import Sizes

Call = tuple[Callable[..., Any], dict[str, a.Given]]
TEXTS = ["the cat sat on the mat. the dog sat on the log.", "the king and the queen sat on the mat, the cat too."]
SENTENCES = [sentence.split() for sentence in TEXTS]
WORDS, TABLE = ["man", "woman", "king", "queen"], np.array([[1, 0], [1, 1], [4, 0], [4, 1]], np.float32)
IDS = np.arange(40) % 7
SMALL = Sizes(B=2, T=3, H=2, D=2, V=5)


def call(function: Callable[..., Any], **arguments: a.Given) -> Call:
    return function, arguments


@functools.cache
def run(folder: Path) -> npgpt.Run:
    """Train a run, and write the files that the calls read."""
    made = npgpt.train_run(
        npgpt.RunConfig(
            config.DataConfig(tokenizer="char"),
            config.GPTConfig(context_length=4, n_layer=1, n_head=2, n_embd=4),
            config.TrainConfig(steps=1, layers="textbook"),
        ),
        TEXTS,
    )
    made.save(folder / "run")
    tokenizer.BPETokenizer([(116, 104)]).save(folder / "bpe.json")
    tokenizer.WordTokenizer(WORDS).save(folder / "words.json")
    tokenizer.CharTokenizer("abc").save(folder / "chars.json")
    bpe = tokenizer.BPETokenizer([(116, 104)])
    bpe.to_tiktoken(folder / "a.tiktoken")
    bpe.to_gpt2(folder / "encoder.json", folder / "vocab.bpe")
    bpe.to_huggingface(folder / "tokenizer.json")
    embeddings.save_vectors(table(), folder / "vectors.txt")
    embeddings.make_index(["a", "b"], TEXTS).save(folder / "index")
    gpt = npgpt.make_gpt(config.GPTConfig(258, 4, 1, 2, 4), "textbook")
    npgpt.save_huggingface(npgpt.Run(npgpt.RunConfig(model=gpt.config), bpe, gpt), folder / "gpt2")
    (folder / "text").write_text(TEXTS[0])
    (folder / "config.toml").write_text(npgpt.RunConfig().dumps())
    (folder / "analogies").write_text(": a\nman king woman queen\n")
    (folder / "pairs").write_text("man\tking\t1\nwoman\tqueen\t2\n")
    return made


def table() -> vectors.WordVectors:
    return vectors.WordVectors(WORDS, TABLE)


def linear() -> Any:
    return layers.Linear(2, 2).initialise(0)


def model() -> npgpt.GPT:
    return npgpt.make_gpt(config.GPTConfig(7, 4, 1, 2, 4), "textbook")


def loss_backward(dloss: Any) -> Any:
    gpt, cache = model(), Cache()
    gpt.loss(IDS[None, :4], IDS[None, 1:5], cache)
    gpt.loss_backward(dloss, cache)
    return gpt.flat.grads


def flat() -> FlatParams:
    return FlatParams([Param(np.ones((2, 2)))], np.float32)


def adamw(kind: type) -> optim.AdamW:
    made = kind(flat())
    made.flat.grads[:] = 0.5
    return made


def stepped(kind: type, **arguments: Any) -> Any:
    optimizer = adamw(kind)
    optimizer.step(**arguments)
    return optimizer.flat.values
