"""A right call of every public function: name -> (function, its arguments with their kinds).

A function that would change what it works on makes it anew at each call.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from values import (
    Given,
    choice,
    count,
    fixed,
    flag,
    floats,
    free_ids,
    ids,
    maybe_choice,
    maybe_count,
    maybe_floats,
    maybe_ids,
    maybe_not_negative,
    maybe_target,
    maybe_texts,
    maybe_whole,
    natural,
    not_negative,
    one_or_more,
    positive,
    real,
    source,
    steps,
    target,
    targets,
    text,
    text_or_texts,
    texts,
    whole,
)

import npgpt
from npgpt import baselines, build, config, data, embeddings, layers, optim, runs, sampling, tokenizer, train
from npgpt.core import Cache, FlatParams, Param
from npgpt.embeddings import documents, evaluate, lookup, vectors, word2vec
from npgpt.embeddings.formats import is_vectors
from npgpt.machine import pool
from npgpt.study.check.cases import CASES, Sizes, compile_case, make_case
from npgpt.support import files

Call = tuple[Callable[..., Any], dict[str, Given]]
TEXTS = ["the cat sat on the mat. the dog sat on the log.", "the king and the queen sat on the mat, the cat too."]
SENTENCES = [sentence.split() for sentence in TEXTS]
WORDS, TABLE = ["man", "woman", "king", "queen"], np.array([[1, 0], [1, 1], [4, 0], [4, 1]], np.float32)
IDS = np.arange(40) % 7
SMALL = Sizes(B=2, T=3, H=2, D=2, V=5)


def call(function: Callable[..., Any], **arguments: Given) -> Call:
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


def options(kind: type, **changed: Given) -> Call:
    """Return the call of a configuration: the kind of each field follows from its type and its limits."""
    arguments = {}
    for name, item in kind.__dataclass_fields__.items():
        limits, value = item.metadata["limits"], item.default
        if item.type is bool:
            arguments[name] = flag(value)
        elif item.type is str:
            arguments[name] = choice(value)
        elif item.type is int:
            arguments[name] = {1: count, 0: natural, None: whole}[limits.get("at_least")](value)
        elif item.type is float:
            arguments[name] = positive(value) if "above" in limits else not_negative(value)
    return kind, arguments | changed


def way(function: Callable[..., Any]) -> Call:
    def filled(dy: Any, ids: Any) -> Any:
        dtable = np.zeros((4, 2), np.float32)
        function(dy, ids, dtable)
        return dtable

    return call(filled, dy=floats(np.ones((3, 2), np.float32)), ids=ids(np.array([0, 2, 2])))


def of_files(folder: Path) -> dict[str, Call]:
    """Return the calls that need a run and files in a folder."""
    trained = run(folder)
    char, bpe, word = trained.tokenizer, tokenizer.BPETokenizer([(116, 104)]), tokenizer.WordTokenizer(WORDS)
    out = folder / "out"
    found = {
        "runs.load_run": call(runs.load_run, path=source(folder / "run")),
        "runs.train_run": call(
            lambda **a: runs.train_run(trained.config, **a).model.flat.values, texts=maybe_texts(TEXTS),
            overwrite=flag(True), out=maybe_target(folder / "another run"),
        ),
        "runs.Run.save": call(trained.save, path=target(folder / "a run"), overwrite=flag(True)),
        "config.RunConfig.load": call(config.RunConfig.load, path=source(folder / "config.toml"), complete=flag(False)),
        "embeddings.load_vectors": call(embeddings.load_vectors, path=source(folder / "vectors.txt")),
        "embeddings.save_vectors": call(
            embeddings.save_vectors, vectors=fixed(table()), path=target(out), format=maybe_choice("glove")
        ),
        "embeddings.read_analogies": call(evaluate.read_analogies, path=source(folder / "analogies")),
        "embeddings.evaluate.is_analogies": call(evaluate.is_analogies, path=source(folder / "analogies")),
        "embeddings.read_pairs": call(evaluate.read_pairs, path=source(folder / "pairs")),
        "embeddings.formats.is_vectors": call(is_vectors, path=source(folder / "vectors.txt")),
        "embeddings.token_vectors": call(embeddings.token_vectors, folder=source(folder / "run")),
        "embeddings.token_names": call(embeddings.token_names, tokenizer=fixed(char)),
        "embeddings.RunEncoder.__init__": call(embeddings.RunEncoder, folder=source(folder / "run")),
        "embeddings.RunEncoder.encode": call(embeddings.RunEncoder(folder / "run").encode, texts=texts(TEXTS)),
        "embeddings.DocumentIndex.load": call(embeddings.DocumentIndex.load, path=source(folder / "index")),
        "embeddings.DocumentIndex.save": call(embeddings.DocumentIndex.load(folder / "index").save, path=target(out)),
        "embeddings.open_index": call(embeddings.open_index, path=source(folder / "index"), run_folder=fixed(None)),
        "embeddings.make_index": call(
            embeddings.make_index, names=texts(["a", "b"]), texts=texts(TEXTS), method=choice("tf-idf"),
            vectors=fixed(None), run_folder=fixed(None),
        ),
        "embeddings.gpt_vectors": call(
            embeddings.gpt_vectors, model=fixed(trained.model), tokenizer=fixed(char), texts=texts(TEXTS),
            batch_size=count(32),
        ),
        "embeddings.draw_maps": call(
            embeddings.draw_maps, maps=fixed({"a": (WORDS, TABLE)}), path=target(folder / "out.png"), lines=fixed(()),
        ),
        "data.read_texts": call(data.read_texts, paths=texts([str(folder / "text")])),
        "files.read_text": call(files.read_text, path=source(folder / "text")),
        "files.read_parts": call(files.read_parts, path=source(folder / "text"), size=count(1 << 22)),
        "tokenizer.load_tokenizer": call(tokenizer.load_tokenizer, path=source(folder / "bpe.json")),
        "tokenizer.Tokenizer.load": call(tokenizer.Tokenizer.load, path=source(folder / "bpe.json")),
        "tokenizer.BPETokenizer.from_tiktoken": call(
            bpe.from_tiktoken, path=source(folder / "a.tiktoken"), pattern=maybe_choice("gpt2"),
            special_tokens=fixed(None),
        ),
        "tokenizer.BPETokenizer.from_gpt2": call(
            bpe.from_gpt2, encoder_json=source(folder / "encoder.json"), vocab_bpe=source(folder / "vocab.bpe")
        ),
        "tokenizer.BPETokenizer.from_huggingface": call(bpe.from_huggingface, path=source(folder / "tokenizer.json")),
        "tokenizer.BPETokenizer.to_tiktoken": call(bpe.to_tiktoken, path=target(out)),
        "tokenizer.BPETokenizer.to_gpt2": call(bpe.to_gpt2, encoder_json=target(out), vocab_bpe=target(folder / "o2")),
        "tokenizer.BPETokenizer.to_huggingface": call(bpe.to_huggingface, path=target(out)),
    }  # fmt: skip
    for made in (bpe, word, char):  # every tokenizer, with what it has from its base
        name, good = f"tokenizer.{type(made).__name__}", [0, 1, 1]
        for method in ("decode", "stream", "decode_bytes", "decode_with_offsets"):
            if hasattr(made, method):
                found[f"{name}.{method}"] = call(getattr(made, method), ids=ids(np.array(good)))
        special = {"allowed_special": texts(["<|endoftext|>"]), "disallowed_special": fixed(())}
        found |= {
            f"{name}.encode": call(made.encode, text=text("the king"), **special),
            f"{name}.encode_ordinary": call(made.encode_ordinary, text=text("the king")),
            f"{name}.save": call(made.save, path=target(out)),
        }
    found |= {
        "tokenizer.BPETokenizer.encode_array": call(bpe.encode_array, text=text("the king"), **special),
        "tokenizer.BPETokenizer.encode_batch": call(
            bpe.encode_batch, texts=texts(TEXTS), n_threads=count(1), **special
        ),
        "tokenizer.BPETokenizer.merge_steps": call(bpe.merge_steps, word=text("the")),
        "data.encode_texts": call(data.encode_texts, tokenizer=fixed(bpe), texts=texts(TEXTS)),
    }
    return found


def of_tokenizers() -> dict[str, Call]:
    bpe = {"special_tokens": texts(["<|endoftext|>"]), "pattern": choice("gpt2")}
    return {
        "tokenizer.BPETokenizer.__init__": call(
            tokenizer.BPETokenizer, merges=free_ids(np.array([[116, 104]])), **bpe,
            ids=maybe_ids(np.arange(257)), counts=maybe_ids(np.array([3])),
        ),
        "tokenizer.BPETokenizer.train": call(
            tokenizer.BPETokenizer.train, text=text_or_texts(TEXTS[0]), vocab_size=count(260), **bpe,
            min_frequency=count(1), progress=flag(False),
        ),
        "tokenizer.CharTokenizer.__init__": call(tokenizer.CharTokenizer, characters=one_or_more(["a", "b"])),
        "tokenizer.CharTokenizer.train": call(
            tokenizer.CharTokenizer.train, text=one_or_more(TEXTS), vocab_size=maybe_count(9)
        ),
        "tokenizer.WordTokenizer.__init__": call(tokenizer.WordTokenizer, words=texts(WORDS)),
        "tokenizer.WordTokenizer.train": call(
            tokenizer.WordTokenizer.train, text=one_or_more(TEXTS), vocab_size=maybe_count(9)
        ),
    }  # fmt: skip


def of_layers() -> dict[str, Call]:
    """Return the calls that make layers, and those of the ground: Param, Cache, Layer."""
    sizes, score = {"n_embd": count(4), "n_head": count(2)}, {"score": fixed(None)}
    rest = {"dropout": not_negative(0.5), "residual_std": not_negative(0.02)}
    std = {"std": not_negative(0.02)}
    return {
        "layers.Linear.__init__": call(layers.Linear, n_in=count(3), n_out=count(2), **std),
        "layers.Embedding.__init__": call(layers.Embedding, vocab_size=count(3), n_embd=count(2), **std),
        "layers.VocabularyHead.__init__": call(
            layers.VocabularyHead, vocab_size=count(3), n_embd=count(2), weight=fixed(None), **std
        ),
        "layers.LayerNorm.__init__": call(layers.LayerNorm, n_embd=count(3), eps=not_negative(1e-5)),
        "layers.Dropout.__init__": call(layers.Dropout, p=not_negative(0.5)),
        "layers.MLP.__init__": call(layers.MLP, n_embd=count(2), activation=choice("gelu"), **rest),
        "layers.Attention.__init__": call(layers.Attention, **sizes, **rest, **score),
        "layers.Block.__init__": call(layers.Block, **sizes, activation=choice("gelu"), **rest, **score),
        "layers.LearnedPositions.__init__": call(layers.LearnedPositions, context_length=count(3), n_embd=count(2), **std),
        "layers.SinusoidalPositions.__init__": call(layers.SinusoidalPositions, n_embd=count(2), scale=real(1.0)),
        "layers.ConcatenatedPositions.__init__": call(
            layers.ConcatenatedPositions, vectors=fixed(layers.LearnedPositions(3, 2)), n_embd=count(2),
            n_position=count(2), projected=flag(True), std=maybe_not_negative(0.5),
        ),
        "layers.RelativeBiasScores.__init__": call(layers.RelativeBiasScores, n_head=count(2), n_distances=count(3)),
        "layers.RelativeKeyScores.__init__": call(
            layers.RelativeKeyScores, n_distances=count(3), head_size=count(2), **std
        ),
        "layers.visible": call(layers.visible, T=natural(3)),
        "embeddings.DocumentWords.__init__": call(
            embeddings.DocumentWords, n_documents=count(2), vocab_size=count(3), n_embd=count(2)
        ),
        "embeddings.NegativeSampling.__init__": call(embeddings.NegativeSampling, vocab_size=count(3), n_embd=count(2)),
        "embeddings.OneHotEmbedding.__init__": call(embeddings.OneHotEmbedding, vocab_size=count(3), n_embd=count(2), **std),
        "core.Param.__init__": call(Param, value=floats(np.ones((2, 2))), std=not_negative(0.0)),
        "core.Cache.__init__": call(
            Cache, training=flag(False), record=flag(True), trace=flag(False), seed=whole(0), step=whole(0),
            first_example=whole(0),
        ),
        "core.Layer.initialise": call(linear().initialise, seed=whole(0)),
        "core.Layer.pack": call(linear().pack, dtype=fixed(np.float32)),
        "core.Layer.astype": call(linear().astype, dtype=fixed(np.float32)),
        "npgpt.GPT.__init__": call(npgpt.GPT, config=fixed(config.GPTConfig(7, 4, 1, 2, 4)), seed=whole(0), dtype=fixed("f4")),
        "npgpt.GPT.loss": call(
            lambda **a: model().loss(cache=Cache(), **a), ids=ids(IDS[None, :4]),
            targets=targets(np.array([[1, -100, 2, 3]])), count=maybe_count(3),
        ),
        "npgpt.GPT.loss_backward": call(loss_backward, dloss=real(1.0)),
        "build.make_gpt": call(
            build.make_gpt, config=fixed(config.GPTConfig(7, 4, 1, 2, 4)), layers=choice("textbook"), seed=whole(0)
        ),
        "build.twin": call(build.twin, layer=fixed(layers.ReLU()), layers=choice("textbook")),
    }  # fmt: skip


def of_training() -> dict[str, Call]:
    rates = {
        "beta1": not_negative(0.9),
        "beta2": not_negative(0.95),
        "eps": positive(1e-8),
        "weight_decay": not_negative(0.1),
    }
    step = {"learning_rate": not_negative(0.1), "grad_scale": not_negative(1.0)}
    from npgpt.compiled.optim import AdamW as CompiledAdamW

    x, y = IDS[:8].reshape(2, 4), targets(IDS[1:9].reshape(2, 4))
    first = config.TrainConfig(steps=1)
    found = {
        "optim.clip_scale": call(optim.clip_scale, norm=not_negative(5.0), max_norm=positive(1.0)),
        "optim.WarmupCosine.__init__": call(
            optim.WarmupCosine, highest=not_negative(1.0), lowest=not_negative(0.2), warmup=natural(2), steps=count(7)
        ),
        "optim.WarmupCosine.__call__": call(optim.WarmupCosine(1.0, 0.2, 2, 7).__call__, step=natural(3)),
        "build.make_optimizer": call(build.make_optimizer, layer=fixed(model()), **rates),
        "train.evaluate": call(train.evaluate, model=fixed(model()), ids=ids(IDS), batch_size=count(16)),
        "train.accumulate": call(
            lambda **a: train.accumulate(model(), cache=Cache(), **a), x=ids(x), y=y, micro_batches=count(1),
            step=natural(0),
        ),
        "train.training_steps": call(
            lambda ids: train.training_steps(model(), ids, first), ids=ids(IDS)
        ),
        "train.optimizer_of": call(train.optimizer_of, model=fixed(model()), config=fixed(first)),
        "train.optimizer_steps": call(
            lambda grad_clip: train.optimizer_steps(adamw(optim.AdamW), lambda step: 0.1, [(1.0, 3)], grad_clip),
            grad_clip=positive(1.0),
        ),
        "data.SlidingWindows.__init__": call(
            lambda **a: list(data.SlidingWindows(**a)), ids=free_ids(IDS), context_length=count(3), stride=count(1), batch_size=count(1),
            shuffle=flag(False), seed=whole(0), drop_last=flag(False),
        ),
        "data.SlidingWindows.batch": call(data.SlidingWindows(IDS, 3).batch, step=natural(2)),
        "data.split_texts": call(data.split_texts, texts=texts(TEXTS), validation_fraction=not_negative(0.5)),
        "data.split_text": call(data.split_text, text=text(TEXTS[0]), validation_fraction=not_negative(0.5)),
        "sampling.generate": call(
            sampling.generate, model=fixed(model()), ids=ids(np.array([1, 2])), max_tokens=steps(3),
            temperature=not_negative(1.0), top_k=maybe_count(3), seed=whole(0), stop=maybe_whole(6),
            context=maybe_count(4),
        ),
        "sampling.check_context": call(sampling.check_context, config=fixed(model().config), context=count(3)),
        "baselines.unigram_loss": call(baselines.unigram_loss, train_ids=ids(IDS), ids=ids(IDS), vocab_size=count(7)),
        "baselines.bigram_loss": call(baselines.bigram_loss, train_ids=ids(IDS), ids=ids(IDS), vocab_size=count(7)),
        "pool.set_num_threads": call(pool.set_num_threads, n=count(1)),
    }  # fmt: skip
    found["npgpt.trace"] = call(
        lambda x, dy, training: [x.value for x in npgpt.trace(linear(), x, dy=dy, training=training)],
        x=floats(np.ones((1, 2))), dy=maybe_floats(np.ones((1, 2))), training=flag(False),
    )  # fmt: skip
    for name, kind in (("optim", optim.AdamW), ("compiled", CompiledAdamW)):
        found[f"{name}.AdamW.__init__"] = call(kind, flat=fixed(flat()), **rates)
        found[f"{name}.AdamW.step"] = call(functools.partial(stepped, kind), **step)
    return found


def of_embeddings() -> dict[str, Call]:
    words = table()
    bag = documents.BagOfWords(WORDS, np.ones(4), TABLE)
    pv = embeddings.train_pv_dbow(TEXTS, embeddings.PVConfig(n_embd=4, min_count=1, epochs=1), "textbook")
    index = embeddings.DocumentIndex(["a", "b"], TEXTS, np.eye(2))
    cautious = {"restrict_vocab": maybe_count(4), "case_insensitive": flag(True)}
    sections, pairs = {"a": [("man", "king", "woman", "queen")]}, [("man", "king", 1.0), ("woman", "queen", 2.0)]
    found = {
        "embeddings.BagOfWords.__init__": call(
            documents.BagOfWords, words=texts(WORDS), weights=floats(np.ones(4)), vectors=maybe_floats(np.ones((4, 2))),
            direction=maybe_floats(np.ones(2)),
        ),
        "embeddings.BagOfWords.encode": call(bag.encode, texts=texts(TEXTS)),
        "embeddings.tf_idf": call(lambda **a: documents.tf_idf(**a).state(), texts=texts(TEXTS), max_words=maybe_count(3)),
        "embeddings.mean": call(lambda table: documents.mean(table).state(), table=fixed(words)),
        "embeddings.sif": call(lambda **a: documents.sif(**a).state(), table=fixed(words), texts=texts(TEXTS), a=positive(1e-3)),
        "embeddings.documents.words_of": call(documents.words_of, text=text("The cat")),
        "embeddings.documents.numbers_of": call(documents.numbers_of, text=text("The cat"), index=fixed({"cat": 0})),
        "embeddings.documents.common_direction": call(documents.common_direction, x=floats(TABLE)),
        "embeddings.documents.without": call(documents.without, x=floats(TABLE), direction=floats(np.array([1.0, 0.0], np.float32))),
        "embeddings.evaluate_analogies": call(
            evaluate.evaluate_analogies, vectors=fixed(words), sections=fixed(sections), **cautious, exclude_inputs=flag(True)
        ),
        "embeddings.evaluate_pairs": call(evaluate.evaluate_pairs, vectors=fixed(words), pairs=fixed(pairs), **cautious),
        "embeddings.spearman": call(evaluate.spearman, x=floats(np.array([1.0, 2, 3])), y=floats(np.array([1.0, 3, 2]))),
        "embeddings.evaluate.ranks": call(evaluate.ranks, x=floats(np.array([1.0, 2, 3]))),
        "embeddings.DocumentIndex.__init__": call(
            embeddings.DocumentIndex, names=texts(["a", "b"]), texts=texts(TEXTS), vectors=floats(np.eye(2)),
            settings=fixed(None), arrays=fixed(None),
        ),
        "embeddings.DocumentIndex.search": call(index.search, vector=floats(np.array([1.0, 2.0])), n=natural(2)),
        "embeddings.one_hot": call(lookup.one_hot, ids=ids(np.array([2, 0])), vocab_size=count(3), dtype=fixed(np.float64)),
        "embeddings.project": call(embeddings.project, vectors=floats(np.array([[1.0, 2], [2, 1], [3, 5]])), n_axes=count(2)),
        "embeddings.parallelogram": call(
            embeddings.parallelogram, vectors=fixed(words), a=text("man"), b=text("woman"), c=text("king"), d=text("queen")
        ),
        "embeddings.text_map": call(
            embeddings.text_map, words=texts(["ab", "c"]), coordinates=floats(np.array([[0.0, 0], [1, 1]])),
            width=count(7), height=count(3),
        ),
        "embeddings.PVModel.__init__": call(
            embeddings.PVModel, words=texts(WORDS), table=floats(TABLE), keep=floats(np.ones(4, np.float32)),
            noise=floats(np.full(4, 0.25, np.float32)), negative=count(2), pull=positive(0.1),
        ),
        "embeddings.PVModel.encode": call(pv.encode, texts=texts(TEXTS), steps=steps(5)),
        "embeddings.PVModel.shares": call(pv.shares, texts=texts(TEXTS)),
        "embeddings.train_pv_dbow": call(
            lambda **a: embeddings.train_pv_dbow(**a).state(), texts=texts(TEXTS), layers=choice("textbook"),
            config=fixed(embeddings.PVConfig(n_embd=4, min_count=1, epochs=1)),
        ),
        "embeddings.train_word2vec": call(
            word2vec.train_word2vec, sentences=texts(SENTENCES), layers=choice("compiled"),
            config=fixed(embeddings.Word2VecConfig(n_embd=4, min_count=1, epochs=1)),
        ),
        "embeddings.to_sentences": call(embeddings.to_sentences, text=text(TEXTS[0]), keep_case=flag(False)),
        "embeddings.cosine": call(embeddings.cosine, u=floats(np.array([1.0, 0])), v=floats(np.array([1.0, 1]))),
        "embeddings.unit": call(embeddings.unit, x=floats(np.array([3.0, 4]))),
        "embeddings.WordVectors.__init__": call(vectors.WordVectors, words=texts(WORDS), vectors=floats(TABLE)),
        "embeddings.WordVectors.__contains__": call(words.__contains__, word=text("man")),
        "embeddings.WordVectors.__getitem__": call(words.__getitem__, word=text("man")),
        "embeddings.WordVectors.unit": call(words.unit, word=text("man")),
        "embeddings.WordVectors.similarity": call(words.similarity, a=text("man"), b=text("king")),
        "embeddings.WordVectors.most_similar": call(words.most_similar, word=floats(np.array([1.0, 0])), n=natural(2), exclude=texts(["man"])),
        "embeddings.WordVectors.analogy": call(
            words.analogy, a=text("man"), b=text("woman"), c=text("king"), n=natural(2), exclude_inputs=flag(True)
        ),
    }  # fmt: skip
    for name in ("by_one_hot", "by_add_at", "by_sorted_segments", "by_kernel"):
        found[f"embeddings.lookup.{name}"] = way(getattr(lookup, name))
    return found


def of_configurations() -> dict[str, Call]:
    return {
        "config.DataConfig.__init__": options(config.DataConfig, text=texts(["a.txt"])),
        "config.GPTConfig.__init__": options(config.GPTConfig, positions=choice("alibi"), activation=choice("gelu")),
        "config.TrainConfig.__init__": options(config.TrainConfig),
        "embeddings.PVConfig.__init__": options(embeddings.PVConfig),
        "embeddings.Word2VecConfig.__init__": options(embeddings.Word2VecConfig),
    }


def of_cases() -> dict[str, Call]:
    """Return forward and backward of every layer that has a case, textbook and compiled."""
    found: dict[str, Call] = {}
    for name in (name for name in CASES if not name.startswith("GPT-") or name == "GPT-tied"):
        textbook = make_case(name, SMALL)
        for twin, case in (("layers", textbook), ("compiled", compile_case(textbook))):
            arguments = {
                key: (floats if x.dtype.kind == "f" else targets if key == "targets" else ids)(x) if isinstance(x, np.ndarray) else fixed(x)
                for key, x in case.inputs.items()
            }  # fmt: skip
            if "count" in arguments:
                arguments["count"] = maybe_count(3)

            def forward(case: Any = case, **changed: Any) -> Any:
                return np.array(case.layer.forward(*changed.values(), case.cache()))

            def backward(dy: Any, case: Any = case) -> Any:
                cache = case.cache()
                case.forward(cache)
                case.layer.zero_grad()
                grads = case.layer.backward(dy, cache)
                return grads, [param.grad.copy() for param in case.layer.parameters().values()]

            y = np.asarray(case.forward(case.cache())).copy()
            dy = np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)
            found[f"{twin}.{name}.forward"] = forward, arguments
            found[f"{twin}.{name}.backward"] = backward, {"dy": floats(dy) if y.ndim else real(1.0)}
    return found


@functools.cache
def calls(folder: Path) -> dict[str, Call]:
    return (
        of_files(folder)
        | of_tokenizers()
        | of_layers()
        | of_training()
        | of_embeddings()
        | of_configurations()
        | of_cases()
    )
