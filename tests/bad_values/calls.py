"""A right call of every public function: name -> (function, its arguments with their kinds).

A function that would change what it works on makes it anew at each call.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import calls_of_layers
import calls_of_training
import numpy as np
import values as a
from right import SENTENCES, TABLE, TEXTS, WORDS, Call, call, run, table

from npgpt import config, data, embeddings, runs, tokenizer
from npgpt.embeddings import documents, evaluate, lookup, vectors, word2vec
from npgpt.embeddings.formats import is_vectors
from npgpt.support import files


def options(kind: type, **changed: a.Given) -> Call:
    """Return the call of a configuration: the kind of each field follows from its type and its limits."""
    arguments = {}
    for name, item in kind.__dataclass_fields__.items():
        limits, value = item.metadata["limits"], item.default
        if value is None:
            arguments[name] = a.maybe_count(3) if config.kind_of(item) is int else a.maybe_not_negative(0.5)
        elif item.type is bool:
            arguments[name] = a.flag(value)
        elif item.type is str:
            arguments[name] = a.choice(value)
        elif item.type is int:
            arguments[name] = {1: a.count, 0: a.natural, None: a.whole}[limits.get("at_least")](value)
        elif item.type is float:
            arguments[name] = a.positive(value) if "above" in limits else a.not_negative(value)
    return kind, arguments | changed


def way(function: Callable[..., Any]) -> Call:
    def filled(dy: Any, ids: Any) -> Any:
        dtable = np.zeros((4, 2), np.float32)
        function(dy, ids, dtable)
        return dtable

    return call(filled, dy=a.floats(np.ones((3, 2), np.float32)), ids=a.ids(np.array([0, 2, 2])))


def of_files(folder: Path) -> dict[str, Call]:
    """Return the calls that need a run and files in a folder."""
    trained = run(folder)
    char, bpe, word = trained.tokenizer, tokenizer.BPETokenizer([(116, 104)]), tokenizer.WordTokenizer(WORDS)
    out = folder / "out"
    found = {
        "runs.load_run": call(runs.load_run, path=a.maybe_source(folder / "run"), last=a.flag(False)),
        "runs.newest_or_pretrained_run": call(runs.newest_or_pretrained_run, last=a.flag(False)),
        "runs.newest_run": call(runs.newest_run, parent=a.source(folder / "runs")),
        "runs.train_run": call(
            lambda **given: runs.train_run(trained.config, **given).model.flat.values,
            texts=a.maybe_texts(TEXTS),
            overwrite=a.flag(True),
            out=a.maybe_target(folder / "another run"),
            init=a.maybe_source(folder / "run"),
        ),
        "runs.train_run, numbered": call(
            lambda runs_: runs.train_run(trained.config, TEXTS, runs=runs_).model.flat.values,
            runs_=a.maybe_target(folder / "runs"),
        ),
        "runs.train_run, goes on": call(
            lambda resume: runs.train_run(trained.config, TEXTS, resume=resume).model.flat.values,
            resume=a.maybe_source(folder / "run"),
        ),
        "runs.Run.save": call(trained.save, path=a.target(folder / "a run"), overwrite=a.flag(True)),
        "runs.load_huggingface": call(
            lambda **given: runs.load_huggingface(**given).model.flat.values,
            folder=a.source(folder / "gpt2"),
            vocab=a.maybe_source(folder / "bpe.json"),
            layers=a.choice("textbook"),
        ),
        "runs.load_huggingface_model": call(
            lambda **given: runs.load_huggingface_model(**given).flat.values,
            folder=a.source(folder / "gpt2"),
            layers=a.choice("textbook"),
        ),
        "runs.save_huggingface": call(
            runs.save_huggingface, model=a.fixed(trained.model), folder=a.target(folder / "another gpt2")
        ),
        "config.RunConfig.load": call(
            config.RunConfig.load, path=a.source(folder / "config.toml"), complete=a.flag(False)
        ),
        "embeddings.load_vectors": call(embeddings.load_vectors, path=a.source(folder / "vectors.txt")),
        "embeddings.save_vectors": call(
            embeddings.save_vectors, vectors=a.fixed(table()), path=a.target(out), format=a.maybe_choice("glove")
        ),
        "embeddings.read_analogies": call(evaluate.read_analogies, path=a.source(folder / "analogies")),
        "embeddings.evaluate.is_analogies": call(evaluate.is_analogies, path=a.source(folder / "analogies")),
        "embeddings.read_pairs": call(evaluate.read_pairs, path=a.source(folder / "pairs")),
        "embeddings.formats.is_vectors": call(is_vectors, path=a.source(folder / "vectors.txt")),
        "embeddings.token_vectors": call(embeddings.token_vectors, folder=a.source(folder / "run")),
        "embeddings.token_names": call(embeddings.token_names, tokenizer=a.fixed(char)),
        "embeddings.RunEncoder.__init__": call(embeddings.RunEncoder, folder=a.source(folder / "run")),
        "embeddings.RunEncoder.encode": call(embeddings.RunEncoder(folder / "run").encode, texts=a.texts(TEXTS)),
        "embeddings.DocumentIndex.load": call(embeddings.DocumentIndex.load, path=a.source(folder / "index")),
        "embeddings.DocumentIndex.save": call(embeddings.DocumentIndex.load(folder / "index").save, path=a.target(out)),
        "embeddings.open_index": call(embeddings.open_index, path=a.source(folder / "index"), run_folder=a.fixed(None)),
        "embeddings.make_index": call(
            embeddings.make_index,
            names=a.texts(["a", "b"]),
            texts=a.texts(TEXTS),
            method=a.choice("tf-idf"),
            vectors=a.fixed(None),
            run_folder=a.fixed(None),
        ),
        "embeddings.gpt_vectors": call(
            embeddings.gpt_vectors,
            model=a.fixed(trained.model),
            tokenizer=a.fixed(char),
            texts=a.texts(TEXTS),
            batch_size=a.count(32),
        ),
        "embeddings.draw_maps": call(
            embeddings.draw_maps,
            maps=a.fixed({"a": (WORDS, TABLE)}),
            path=a.target(folder / "out.png"),
            lines=a.fixed(()),
        ),
        "data.read_texts": call(data.read_texts, paths=a.texts([str(folder / "text")])),
        "files.read_text": call(files.read_text, path=a.source(folder / "text")),
        "files.read_parts": call(files.read_parts, path=a.source(folder / "text"), size=a.count(1 << 22)),
        "tokenizer.load_tokenizer": call(tokenizer.load_tokenizer, path=a.source(folder / "bpe.json")),
        "tokenizer.Tokenizer.load": call(tokenizer.Tokenizer.load, path=a.source(folder / "bpe.json")),
        "tokenizer.BPETokenizer.from_tiktoken": call(
            bpe.from_tiktoken,
            path=a.source(folder / "a.tiktoken"),
            pattern=a.maybe_choice("gpt2"),
            special_tokens=a.fixed(None),
        ),
        "tokenizer.BPETokenizer.from_gpt2": call(
            bpe.from_gpt2, encoder_json=a.source(folder / "encoder.json"), vocab_bpe=a.source(folder / "vocab.bpe")
        ),
        "tokenizer.BPETokenizer.from_huggingface": call(bpe.from_huggingface, path=a.source(folder / "tokenizer.json")),
        "tokenizer.BPETokenizer.to_tiktoken": call(bpe.to_tiktoken, path=a.target(out)),
        "tokenizer.BPETokenizer.to_gpt2": call(
            bpe.to_gpt2, encoder_json=a.target(out), vocab_bpe=a.target(folder / "o2")
        ),
        "tokenizer.BPETokenizer.to_huggingface": call(bpe.to_huggingface, path=a.target(out)),
    }
    for made in (bpe, word, char):  # every tokenizer, with what it has from its base
        name, good = f"tokenizer.{type(made).__name__}", [0, 1, 1]
        for method in ("decode", "stream", "decode_bytes", "decode_with_offsets"):
            if hasattr(made, method):
                found[f"{name}.{method}"] = call(getattr(made, method), ids=a.ids_or_bytes(np.array(good)))
        special = {"allowed_special": a.texts(["<|endoftext|>"]), "disallowed_special": a.fixed(())}
        found |= {
            f"{name}.encode": call(made.encode, text=a.text("the king"), **special),
            f"{name}.encode_ordinary": call(made.encode_ordinary, text=a.text("the king")),
            f"{name}.save": call(made.save, path=a.target(out)),
        }
    found |= {
        "tokenizer.BPETokenizer.encode_array": call(bpe.encode_array, text=a.text("the king"), **special),
        "tokenizer.BPETokenizer.encode_batch": call(
            bpe.encode_batch, texts=a.texts(TEXTS), n_threads=a.count(1), **special
        ),
        "tokenizer.BPETokenizer.merge_steps": call(bpe.merge_steps, word=a.text("the")),
        "data.encode_texts": call(data.encode_texts, tokenizer=a.fixed(bpe), texts=a.texts(TEXTS)),
    }
    return found


def of_tokenizers() -> dict[str, Call]:
    bpe = {"special_tokens": a.texts(["<|endoftext|>"]), "pattern": a.choice("gpt2")}
    return {
        "tokenizer.BPETokenizer.__init__": call(
            tokenizer.BPETokenizer,
            merges=a.free_ids(np.array([[116, 104]])),
            **bpe,
            ids=a.maybe_ids(np.arange(257)),
            counts=a.maybe_ids(np.array([3])),
        ),
        "tokenizer.BPETokenizer.train": call(
            tokenizer.BPETokenizer.train,
            text=a.text_or_texts(TEXTS[0]),
            vocab_size=a.count(260),
            **bpe,
            min_frequency=a.count(1),
            progress=a.flag(False),
        ),
        "tokenizer.CharTokenizer.__init__": call(tokenizer.CharTokenizer, characters=a.one_or_more(["a", "b"])),
        "tokenizer.CharTokenizer.train": call(
            tokenizer.CharTokenizer.train, text=a.one_or_more(TEXTS), vocab_size=a.maybe_count(9)
        ),
        "tokenizer.WordTokenizer.__init__": call(tokenizer.WordTokenizer, words=a.texts(WORDS)),
        "tokenizer.WordTokenizer.train": call(
            tokenizer.WordTokenizer.train, text=a.one_or_more(TEXTS), vocab_size=a.maybe_count(9)
        ),
    }


def of_embeddings() -> dict[str, Call]:
    words = table()
    bag = documents.BagOfWords(WORDS, np.ones(4), TABLE)
    pv = embeddings.train_pv_dbow(TEXTS, embeddings.PVConfig(n_embd=4, min_count=1, epochs=1), "textbook")
    index = embeddings.DocumentIndex(["a", "b"], TEXTS, np.eye(2))
    cautious = {"restrict_vocab": a.maybe_count(4), "case_insensitive": a.flag(True)}
    sections, pairs = {"a": [("man", "king", "woman", "queen")]}, [("man", "king", 1.0), ("woman", "queen", 2.0)]
    found = {
        "embeddings.BagOfWords.__init__": call(
            documents.BagOfWords,
            words=a.texts(WORDS),
            weights=a.floats(np.ones(4)),
            vectors=a.maybe_floats(np.ones((4, 2))),
            direction=a.maybe_floats(np.array([0.6, 0.8])),
        ),
        "embeddings.BagOfWords.encode": call(bag.encode, texts=a.texts(TEXTS)),
        "embeddings.tf_idf": call(
            lambda **given: documents.tf_idf(**given).state(), texts=a.texts(TEXTS), max_words=a.maybe_count(3)
        ),
        "embeddings.mean": call(lambda table: documents.mean(table).state(), table=a.fixed(words)),
        "embeddings.sif": call(
            lambda **given: documents.sif(**given).state(),
            table=a.fixed(words),
            texts=a.texts(TEXTS),
            a=a.positive(1e-3),
        ),
        "embeddings.documents.words_of": call(documents.words_of, text=a.text("The cat")),
        "embeddings.documents.numbers_of": call(
            documents.numbers_of, text=a.text("The cat"), index=a.fixed({"cat": 0})
        ),
        "embeddings.documents.common_direction": call(documents.common_direction, x=a.floats(TABLE)),
        "embeddings.documents.without": call(
            documents.without, x=a.floats(TABLE), direction=a.floats(np.array([1.0, 0.0], np.float32))
        ),
        "embeddings.evaluate_analogies": call(
            evaluate.evaluate_analogies,
            vectors=a.fixed(words),
            sections=a.fixed(sections),
            **cautious,
            exclude_inputs=a.flag(True),
        ),
        "embeddings.evaluate_pairs": call(
            evaluate.evaluate_pairs, vectors=a.fixed(words), pairs=a.fixed(pairs), **cautious
        ),
        "embeddings.spearman": call(
            evaluate.spearman, x=a.floats(np.array([1.0, 2, 3])), y=a.floats(np.array([1.0, 3, 2]))
        ),
        "embeddings.evaluate.ranks": call(evaluate.ranks, x=a.floats(np.array([1.0, 2, 3]))),
        "embeddings.DocumentIndex.__init__": call(
            embeddings.DocumentIndex,
            names=a.texts(["a", "b"]),
            texts=a.texts(TEXTS),
            vectors=a.floats(np.eye(2)),
            settings=a.fixed(None),
            arrays=a.fixed(None),
        ),
        "embeddings.DocumentIndex.search": call(index.search, vector=a.floats(np.array([1.0, 2.0])), n=a.natural(2)),
        "embeddings.one_hot": call(
            lookup.one_hot, ids=a.ids(np.array([2, 0])), vocab_size=a.count(3), dtype=a.dtype(np.float64)
        ),
        "embeddings.project": call(
            embeddings.project, vectors=a.floats(np.array([[1.0, 2], [2, 1], [3, 5]])), n_axes=a.count(2)
        ),
        "embeddings.parallelogram": call(
            embeddings.parallelogram,
            vectors=a.fixed(words),
            a=a.text("man"),
            b=a.text("woman"),
            c=a.text("king"),
            d=a.text("queen"),
        ),
        "embeddings.text_map": call(
            embeddings.text_map,
            words=a.texts(["ab", "c"]),
            coordinates=a.floats(np.array([[0.0, 0], [1, 1]])),
            width=a.count(7),
            height=a.count(3),
        ),
        "embeddings.PVModel.__init__": call(
            embeddings.PVModel,
            words=a.texts(WORDS),
            table=a.floats(TABLE),
            keep=a.floats(np.ones(4, np.float32)),
            noise=a.floats(np.full(4, 0.25, np.float32)),
            negative=a.count(2),
            pull=a.positive(0.1),
        ),
        "embeddings.PVModel.encode": call(pv.encode, texts=a.texts(TEXTS), steps=a.steps(5)),
        "embeddings.PVModel.shares": call(pv.shares, texts=a.texts(TEXTS)),
        "embeddings.train_pv_dbow": call(
            lambda **given: embeddings.train_pv_dbow(**given).state(),
            texts=a.texts(TEXTS),
            layers=a.choice("textbook"),
            config=a.fixed(embeddings.PVConfig(n_embd=4, min_count=1, epochs=1)),
        ),
        "embeddings.train_word2vec": call(
            word2vec.train_word2vec,
            sentences=a.texts(SENTENCES),
            layers=a.choice("compiled"),
            config=a.fixed(embeddings.Word2VecConfig(n_embd=4, min_count=1, epochs=1)),
        ),
        "embeddings.to_sentences": call(embeddings.to_sentences, text=a.text(TEXTS[0]), keep_case=a.flag(False)),
        "embeddings.cosine": call(embeddings.cosine, u=a.floats(np.array([1.0, 0])), v=a.floats(np.array([1.0, 1]))),
        "embeddings.unit": call(embeddings.unit, x=a.floats(np.array([3.0, 4]))),
        "embeddings.WordVectors.__init__": call(vectors.WordVectors, words=a.texts(WORDS), vectors=a.floats(TABLE)),
        "embeddings.WordVectors.__contains__": call(words.__contains__, word=a.text("man")),
        "embeddings.WordVectors.__getitem__": call(words.__getitem__, word=a.text("man")),
        "embeddings.WordVectors.unit": call(words.unit, word=a.text("man")),
        "embeddings.WordVectors.similarity": call(words.similarity, a=a.text("man"), b=a.text("king")),
        "embeddings.WordVectors.most_similar": call(
            words.most_similar, word=a.floats(np.array([1.0, 0])), n=a.natural(2), exclude=a.texts(["man"])
        ),
        "embeddings.WordVectors.analogy": call(
            words.analogy,
            a=a.text("man"),
            b=a.text("woman"),
            c=a.text("king"),
            n=a.natural(2),
            exclude_inputs=a.flag(True),
        ),
    }
    for name in ("by_one_hot", "by_add_at", "by_sorted_segments", "by_kernel"):
        found[f"embeddings.lookup.{name}"] = way(getattr(lookup, name))
    return found


def of_configurations() -> dict[str, Call]:
    return {
        "config.DataConfig.__init__": options(config.DataConfig, text=a.texts(["a.txt"])),
        "config.GPTConfig.__init__": options(
            config.GPTConfig, positions=a.choice("alibi"), activation=a.choice("gelu")
        ),
        "config.TrainConfig.__init__": options(config.TrainConfig),
        "embeddings.PVConfig.__init__": options(embeddings.PVConfig),
        "embeddings.Word2VecConfig.__init__": options(embeddings.Word2VecConfig),
    }


@functools.cache
def calls(folder: Path) -> dict[str, Call]:
    return (
        of_files(folder)
        | of_tokenizers()
        | calls_of_layers.of_layers()
        | calls_of_layers.of_embeddings()
        | calls_of_training.of_training()
        | of_embeddings()
        | of_configurations()
        | calls_of_layers.of_cases()
    )
