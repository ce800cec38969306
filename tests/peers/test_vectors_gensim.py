"""Word vectors against gensim: each loads the other's files, and their scores are equal."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.embeddings.evaluate import TOTAL, evaluate_analogies, evaluate_pairs, read_analogies, read_pairs, spearman
from npgpt.embeddings.formats import installed_glove, load_vectors, save_vectors
from npgpt.embeddings.vectors import WordVectors

pytestmark = pytest.mark.vector_peers

WORDS = ["the", "don't", "東京", "é", "a\u00a0b", "\u3000", "#", "1", "naïve", "\x1fx", "😀", "\u2028"]
HOW = [("word2vec", {"binary": False}), ("binary", {"binary": True}), ("glove", {"no_header": True})]
each = pytest.mark.parametrize(("kind", "flags"), HOW, ids=[kind for kind, _ in HOW])


@pytest.fixture
def keyed_vectors() -> Any:
    """``gensim.models.KeyedVectors``."""
    pytest.importorskip("gensim", reason="needs gensim: the extra 'peers', see pyproject.toml")
    from gensim.models import KeyedVectors

    return KeyedVectors


@pytest.fixture
def test_data() -> Path:
    """Return the folder with gensim's test files."""
    gensim = pytest.importorskip("gensim", reason="needs gensim: the extra 'peers', see pyproject.toml")
    return Path(gensim.__file__).parent / "test" / "test_data"


def drawn(seed: int, words: list[str], C: int = 7) -> WordVectors:
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-30, 30, (len(words), C))
    return WordVectors(words, rng.normal(size=(len(words), C)) * scale)


def theirs(keyed_vectors: Any, table: WordVectors) -> Any:
    peer = keyed_vectors(table.width)
    peer.add_vectors(table.words, table.vectors)
    return peer


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # with no_header it leaves a file open
@each
def test_gensim_loads_our_files(keyed_vectors: Any, kind: str, flags: dict[str, bool], tmp_path: Path) -> None:
    table = drawn(0, WORDS)
    save_vectors(table, tmp_path / "v", kind)
    peer = keyed_vectors.load_word2vec_format(str(tmp_path / "v"), **flags)
    gc.collect()
    assert peer.index_to_key == table.words
    assert peer.vectors.dtype == np.float32 and peer.vectors.tobytes() == table.vectors.tobytes()


@each
def test_we_load_gensims_files(keyed_vectors: Any, kind: str, flags: dict[str, bool], tmp_path: Path) -> None:
    table = drawn(1, WORDS)
    peer = theirs(keyed_vectors, table)
    flags = {"write_header": False} if kind == "glove" else flags
    peer.save_word2vec_format(str(tmp_path / "v"), **flags)
    read = load_vectors(tmp_path / "v")
    assert read.words == table.words
    assert read.vectors.tobytes() == table.vectors.tobytes()


def test_neighbours_and_analogies_equal_gensims(keyed_vectors: Any) -> None:
    table = WordVectors([f"w{i}" for i in range(500)], np.random.default_rng(2).normal(size=(500, 20)))
    peer = theirs(keyed_vectors, table)
    for k in range(0, 90, 3):
        a, b, c = (f"w{k + i}" for i in range(3))
        for ours, its in (
            (table.most_similar(a, 5), peer.most_similar(a, topn=5)),
            (table.analogy(a, b, c, 5), peer.most_similar(positive=[b, c], negative=[a], topn=5)),
        ):
            assert [word for word, _ in ours] == [word for word, _ in its]
            assert [cos for _, cos in ours] == pytest.approx([cos for _, cos in its], abs=1e-6)
        assert table.similarity(a, b) == pytest.approx(float(peer.similarity(a, b)), abs=1e-6)


@given(seed=st.integers(0, 1000))
def test_spearman_equals_scipy(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs scipy, which gensim brings")
    x, y = np.random.default_rng(seed).integers(0, 8, (2, 12))
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def some_questions(path: Path, every: int, out: Path) -> Path:
    """Return every n-th question of each section."""
    lines = path.read_text().splitlines()
    out.write_text("\n".join(line for i, line in enumerate(lines) if line.startswith(":") or i % every == 0) + "\n")
    return out


def same_scores(peer: Any, table: WordVectors, path: Path, pairs: Path, restrict_vocab: int, fold: bool) -> int:
    """Compare section by section; return the number of questions."""
    _, sections = peer.evaluate_word_analogies(str(path), restrict_vocab=restrict_vocab, case_insensitive=fold)
    scores = evaluate_analogies(table, read_analogies(path), restrict_vocab, fold)
    its = [(len(s["correct"]), len(s["correct"]) + len(s["incorrect"])) for s in sections]
    assert [(s.n_first, s.n_asked) for s in scores] == its
    assert scores[-1].section == TOTAL
    _, rank, unknown = peer.evaluate_word_pairs(str(pairs), restrict_vocab=restrict_vocab, case_insensitive=fold)
    ours = evaluate_pairs(table, read_pairs(pairs), restrict_vocab, fold)
    assert ours.spearman == pytest.approx(rank.statistic, abs=1e-6)
    assert ours.n_unknown / (ours.n_unknown + ours.n_asked) * 100 == pytest.approx(unknown)
    return scores[-1].n_asked


@pytest.mark.parametrize("fold", [True, False])
def test_scores_equal_gensims(keyed_vectors: Any, test_data: Path, tmp_path: Path, fold: bool) -> None:
    """Random vectors of words, half of them in upper and lower case, in random order."""
    family = (test_data / "questions-words.txt").read_text().split(": family\n")[1].split(":")[0]
    (tmp_path / "q.txt").write_text(f": as it is\n{family}: in capitals\n{family.title()}")
    words = sorted(set(family.split()))
    words += [word.title() for word in words[::2]]
    rng = np.random.default_rng(3)
    table = WordVectors([str(word) for word in rng.permutation(words)], rng.normal(size=(len(words), 3)))
    pairs = zip(words, words[5:], rng.integers(9, size=len(words)), strict=False)
    (tmp_path / "p.tsv").write_text("".join(f"{a}\t{b}\t{judged}\n" for a, b, judged in pairs))
    peer = theirs(keyed_vectors, table)
    assert same_scores(peer, table, tmp_path / "q.txt", tmp_path / "p.tsv", len(words) - 6, fold) > 100


@pytest.mark.parquet
@pytest.mark.glove
def test_scores_of_glove_equal_gensims(keyed_vectors: Any, test_data: Path, tmp_path: Path) -> None:
    glove = load_vectors(installed_glove() or "")
    table = WordVectors(glove.words[:30_000], glove.vectors[:30_000])
    questions = some_questions(test_data / "questions-words.txt", 50, tmp_path / "q.txt")
    peer = theirs(keyed_vectors, table)
    assert same_scores(peer, table, questions, test_data / "wordsim353.tsv", 30_000, True) > 200
