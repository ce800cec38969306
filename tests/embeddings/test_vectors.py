"""Neighbours, analogies, scores and maps against their definitions."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from npgpt.core import Array
from npgpt.embeddings.evaluate import TOTAL, Score, evaluate_analogies, evaluate_pairs, ranks, spearman
from npgpt.embeddings.maps import draw_maps, parallelogram, project, text_map
from npgpt.embeddings.vectors import WordVectors, cosine, similar_spellings
from npgpt.errors import ConfigError, DataError, ShapeError

# royal, female, young, fruit: in the plane of the first two king − man + woman is queen exactly
HAND = {"man": [0, 0, 1, 0], "woman": [0, 1, 1, 0], "king": [2, 0, 1, 0], "queen": [2, 1, 1, 0], "apple": [0, 0, 1, 3]}


def by_hand() -> WordVectors:
    return WordVectors(list(HAND), np.array(list(HAND.values()), np.float32))


def at_random(seed: int, V: int = 30, C: int = 5) -> WordVectors:
    rng = np.random.default_rng(seed)
    return WordVectors([f"w{i}" for i in range(V)], rng.normal(size=(V, C)))


def angle(u: Array, v: Array) -> float:
    """Compute the cosine with plain loops."""
    product = sum(float(a) * float(b) for a, b in zip(u, v, strict=True))
    return product / math.sqrt(sum(float(a) ** 2 for a in u)) / math.sqrt(sum(float(b) ** 2 for b in v))


@given(seed=st.integers(0, 1000), n=st.integers(0, 40))
def test_neighbours_have_the_largest_cosines(seed: int, n: int) -> None:
    table = at_random(seed)
    expected = sorted(((angle(table["w0"], table[word]), word) for word in table.words[1:]), reverse=True)[:n]
    found = table.most_similar("w0", n)
    assert [word for word, _ in found] == [word for _, word in expected]
    assert [cos for _, cos in found] == pytest.approx([cos for cos, _ in expected], abs=1e-6)


@given(seed=st.integers(0, 1000), exclude=st.booleans())
def test_an_analogy_is_a_sum_of_unit_vectors(seed: int, exclude: bool) -> None:
    table = at_random(seed)
    a, b, c = (table[word] / np.linalg.norm(table[word]) for word in ("w1", "w2", "w3"))
    others = [word for word in table.words if not (exclude and word in ("w1", "w2", "w3"))]
    expected = max(others, key=lambda word: angle(b - a + c, table[word]))
    (found, cos), *_ = table.analogy("w1", "w2", "w3", 1, exclude_inputs=exclude)
    assert found == expected
    assert cos == pytest.approx(angle(b - a + c, table[found]), abs=1e-6)


def test_king_and_queen() -> None:
    table = by_hand()
    assert table.analogy("man", "king", "woman", 1)[0][0] == "queen"
    assert {word for word, _ in table.analogy("man", "king", "woman")} == {"queen", "apple"}
    assert len(table.analogy("man", "king", "woman", exclude_inputs=False)) == 5
    assert table.most_similar("king", 1, exclude=["queen"])[0][0] == "man"


def test_a_word_is_not_its_own_neighbour_but_a_vector_is() -> None:
    table = by_hand()
    assert "king" not in dict(table.most_similar("king"))
    word, cos = table.most_similar(table["king"] * 3, 1)[0]
    assert (word, round(cos, 6)) == ("king", 1)


def test_equal_words_keep_their_order() -> None:
    table = WordVectors(list("abcdef"), [[1, 0], [1, 1], [2, 0], [3, 0], [0, 1], [4, 0]])
    assert [word for word, _ in table.most_similar("a", 3)] == ["c", "d", "f"]


@given(scale=st.floats(1e-36, 1e37))
def test_lengths_do_not_matter(scale: float) -> None:
    """In float32 the squares of these numbers would overflow or underflow."""
    table = at_random(0)
    scaled = WordVectors(table.words, table.vectors * np.float32(scale))
    assert np.allclose(scaled.units, table.units, atol=1e-6)
    assert scaled.similarity("w1", "w2") == pytest.approx(table.similarity("w1", "w2"), abs=1e-6)
    assert cosine(np.array([1e-200, 0]), np.array([1e200, 1e200])) == pytest.approx(math.sqrt(0.5))


def test_a_vector_of_zeros_has_no_direction() -> None:
    table = WordVectors(["zero", "a", "b"], [[0, 0], [1, 0], [0, 1]])
    assert table.similarity("zero", "a") == 0
    assert table.most_similar("zero", 2) == [("a", 0), ("b", 0)]
    assert not table.units[0].any()


@pytest.mark.parametrize(
    ("words", "vectors", "error", "message"),
    [
        (["a", "b"], [[1.0, 2.0]], ShapeError, r"\(1, 2\); expected \(V, C\)"),
        (["a"], [1.0, 2.0], ShapeError, "expected"),
        (["a"], np.zeros((1, 0)), ShapeError, "numbers"),
        ([], np.zeros((0, 3)), ShapeError, "at least one"),
        (["a", "b", "a"], np.ones((3, 2)), DataError, "'a' occurs more than once"),
        (["a", "b"], [[1.0, 2.0], [math.nan, 1.0]], DataError, "'b' has a number that is infinite or NaN"),
        (["a", "b"], [[math.inf, 2.0], [-math.inf, 1.0]], DataError, "'a' has a number"),
        (["a"], [[1e39]], DataError, "infinite"),
    ],
)
def test_invalid_arguments_are_rejected(words: list[str], vectors: Array, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        WordVectors(words, vectors)


def test_a_vector_of_another_width_is_rejected() -> None:
    with pytest.raises(ShapeError, match=r"the vector has shape \(3,\), expected \(4,\)"):
        by_hand().most_similar(np.ones(3))
    with pytest.raises(DataError, match="infinite or NaN"):
        by_hand().most_similar(np.array([1, 0, 0, np.nan]))


@pytest.mark.parametrize(
    ("given", "offered"),
    [("quene", "queen"), ("King", "king"), ("qeen", "queen"), ("appples", "apple"), ("womn", "woman")],
)
def test_the_error_for_an_unknown_word_suggests_similar_ones(given: str, offered: str) -> None:
    with pytest.raises(DataError, match=f"'{given}' is not among these 5 words; did you mean '{offered}'"):
        by_hand()[given]


@pytest.mark.parametrize("word", ["zzzzzz", "", "x" * 10**6])
def test_the_error_suggests_no_word_if_none_is_similar(word: str) -> None:
    with pytest.raises(DataError, match="no word here is spelt like it") as caught:
        by_hand().similarity("king", word)
    assert len(str(caught.value)) < 200


def test_spellings_are_found_among_400_000_words() -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    index = {"".join(rng.choice(letters, n)): i for i, n in enumerate(rng.integers(3, 12, 40_000))}
    index |= {f"{word}{k}": 0 for k in range(9) for word in list(index)} | {"accommodation": 7}
    start = time.process_time()
    assert "accommodation" in similar_spellings("acomodaton", index)
    assert time.process_time() - start < 2  # half a second on an idle machine


def score(table: WordVectors, questions: list[tuple[str, str, str, str]], exclude: bool, fold: bool) -> tuple[int, int]:
    """Count right answers at the first place and among five, by sorting all words for each question."""
    same = str.upper if fold else str
    rows = {same(word): table.vectors[i] for i, word in reversed(list(enumerate(table.words)))}
    first = five = 0
    for question in questions:
        a, b, c = (rows[same(word)] / np.linalg.norm(rows[same(word)]) for word in question[:3])
        left_out = {same(word) for word in question[:3]} if exclude else set()
        words = [word for word in table.words if same(word) not in left_out]
        order = [same(word) for word in sorted(words, key=lambda word: -angle(b - a + c, table[word]))]
        first += order[0] == same(question[3])
        five += same(question[3]) in order[:5]
    return first, five


@given(seed=st.integers(0, 10_000), exclude=st.booleans(), fold=st.booleans())
def test_scores_equal_those_by_sorting(seed: int, exclude: bool, fold: bool) -> None:
    rng = np.random.default_rng(seed)
    words = [f"{letter}{i}" for i in range(6) for letter in "aAb"]
    table = WordVectors(words, rng.normal(size=(18, 3)))
    drawn = [tuple(map(str, rng.choice(words, 4))) for _ in range(20)]
    questions = [(a, b, c, d) for a, b, c, d in drawn]
    sections = {"one": questions[:9], "none": [], "two": [*questions[9:], ("a1", "a2", "a3", "unknown")]}
    one, none, two, total = evaluate_analogies(table, sections, None, fold, exclude)
    assert (total.n_first, total.n_among_five) == score(table, questions, exclude, fold)
    assert (one.n_first, one.n_among_five) == score(table, questions[:9], exclude, fold)
    assert (total.section, total.n_asked, total.n_unknown) == (TOTAL, 20, 1)
    assert (one.n_asked, none.n_asked, two.n_asked, two.n_unknown) == (9, 0, 11, 1)
    assert math.isnan(none.top1) and total.top1 == total.n_first / 20


def test_restrict_vocab_keeps_the_first_words() -> None:
    table = by_hand()
    question = [("man", "king", "woman", "queen")]
    assert evaluate_analogies(table, {"s": question}, 4)[0] == Score("s", 1, 1, 1, 0)
    assert evaluate_analogies(table, {"s": question}, 3)[0] == Score("s", 0, 0, 0, 1)
    assert evaluate_analogies(table, {"s": [("Man", "KING", "woman", "queen")]}, 4)[0].n_first == 1
    assert evaluate_analogies(table, {"s": [("Man", "KING", "woman", "queen")]}, 4, False)[0].n_unknown == 1


@given(x=nps.arrays(int, st.integers(2, 12), elements=st.integers(0, 5)), seed=st.integers(0, 99))
def test_ranks_are_mean_positions_and_spearman_is_their_correlation(x: Array, seed: int) -> None:
    places = [np.mean([1 + i for i, other in enumerate(sorted(x)) if other == number]) for number in x]
    assert ranks(x).tolist() == pytest.approx(places)
    y = np.random.default_rng(seed).integers(0, 6, len(x))
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(x, y) == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1], abs=1e-12)
        assert spearman(x, np.exp(y)) == pytest.approx(spearman(x, y))  # only the order matters
    else:
        assert math.isnan(spearman(x, y))


def test_pairs() -> None:
    pairs = [("king", "queen", 9.0), ("Man", "woman", 8.0), ("king", "apple", 1.0), ("king", "xyz", 5.0)]
    found = evaluate_pairs(by_hand(), pairs)
    assert (found.spearman, found.n_asked, found.n_unknown) == (1.0, 3, 1)
    with pytest.raises(DataError, match="only 0 of 4 pairs"):
        evaluate_pairs(by_hand(), pairs, restrict_vocab=1)


@given(seed=st.integers(0, 1000), n=st.integers(2, 9), C=st.integers(2, 7))
def test_the_axes_have_the_largest_variance(seed: int, n: int, C: int) -> None:
    x = np.random.default_rng(seed).normal(size=(n, C))
    seen = project(x)
    assert np.allclose(seen.axes @ seen.axes.T, np.eye(2), atol=1e-12)
    assert np.allclose(seen.coordinates, (x - x.mean(0)) @ seen.axes.T)
    assert np.allclose(seen.coordinates.mean(0), 0)
    spread = np.linalg.eigvalsh(np.cov(x.T))[::-1]  # another way, without singular values
    assert seen.shares == pytest.approx(spread[:2] / spread.sum(), abs=1e-9)
    assert (seen.axes[np.arange(2), np.abs(seen.axes).argmax(1)] > 0).all()
    if C == 2:  # a rotation loses nothing
        assert seen.shares.sum() == pytest.approx(1)
        assert np.linalg.norm(seen.coordinates[0] - seen.coordinates[1]) == pytest.approx(np.linalg.norm(x[0] - x[1]))


def test_a_map_of_equal_vectors_is_a_point() -> None:
    seen = project(np.ones((3, 4)))
    assert not seen.coordinates.any() and not seen.shares.any()
    assert text_map(["a", "b", "c"], seen.coordinates, 5, 3).split() == ["a"]
    for x in (np.ones((1, 3)), np.ones((3, 1)), np.ones(3)):
        with pytest.raises(ShapeError, match="at least two"):
            project(x)


def test_parallelogram() -> None:
    shape = parallelogram(at_random(3), "w0", "w1", "w2", "w3")
    a, b, c, d = (at_random(3).unit(f"w{i}") for i in range(4))
    assert shape.gap == pytest.approx(np.linalg.norm(d - b + a - c))
    assert shape.sides["d - b"] == pytest.approx(np.linalg.norm(d - b))
    assert shape.parallel == pytest.approx(angle(b - a, d - c))


def test_words_on_a_map_are_escaped_and_stay_inside() -> None:
    drawn = text_map(["\x1b[31m", "x" * 50], np.array([[0, 0], [1, 1]]), 20, 3)
    assert "\x1b" not in drawn and "\\x1b[31m" in drawn
    assert max(map(len, drawn.splitlines())) <= 20


@pytest.mark.viz
def test_pictures(tmp_path: Path) -> None:
    words = ["$x_1", "東京\x1b", "a"]
    maps = {"one $": (words, np.eye(3)[:, :2]), "two": (words, np.eye(3)[:, 1:])}
    draw_maps(maps, tmp_path / "map.png", [(0, 1)])
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="unknown type of picture"):
        draw_maps(maps, tmp_path / "map.words")
