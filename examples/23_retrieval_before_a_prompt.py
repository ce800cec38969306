"""Can a GPT answer questions about facts it was not trained on, if a search result comes before the prompt?

800 facts about an invented world are notes of one sentence each. A small GPT is trained to read notes: each example is
a new random note, a question and its answer. So the GPT does not know the facts of this world. It only knows where a
note contains an answer. Its answers about this world are right about as often as the search finds the right note.
"""

import numpy as np

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Cache
from npgpt.embeddings import DocumentIndex, tf_idf
from npgpt.tokenizer import END_OF_TEXT, WordTokenizer
from npgpt.train import training_steps

# %% An invented world
rng = np.random.default_rng(0)
names = [f"{a}{b}{c}{d}" for a in "bdfghjklmnprstvz" for b in "aou" for c in "lmnrst" for d in "ei"]
rng.shuffle(names)
PLACES, ANSWERS = names[:200], names[200:500]
KINDS = ["capital", "river", "king", "harbour"]
NOTES = [
    "The {kind} of {place} is {answer}.",
    "{answer} is the {kind} of {place}.",
    "In {place} the {kind} is {answer}.",
    "{place} has {answer} for its {kind}.",
]


def note_of(kind: str, place: str, answer: str) -> str:
    return str(rng.choice(NOTES)).format(kind=kind, place=place, answer=answer)


def question_of(kind: str, place: str) -> str:
    return f"What is the {kind} of {place}?"


def ask(prompt: str) -> str:
    """Return the most probable next token."""
    logits = model.forward(np.array([tokenizer.encode(prompt)]), cache.reset())
    return tokenizer.decode([int(logits[0, -1].argmax())])


# %% 1. A model that reads notes.
steps, batch = 700, 32
examples = []
for _ in range(steps * batch):
    kind, place, answer = str(rng.choice(KINDS)), str(rng.choice(PLACES)), str(rng.choice(ANSWERS))
    examples.append(f"{note_of(kind, place, answer)} {question_of(kind, place)} {answer}")
tokenizer = WordTokenizer.train(examples)
encoded = [tokenizer.encode(example) for example in examples]
T = 1 + max(map(len, encoded))
end = tokenizer.special_tokens[END_OF_TEXT]
ids = np.array([tokens + [end] * (T - len(tokens)) for tokens in encoded]).ravel()  # padded to equal length
model = make_gpt(GPTConfig(tokenizer.vocab_size, T, n_layer=2, n_head=4, n_embd=64))
for step in training_steps(model, ids, TrainConfig(steps=steps, batch_size=batch, learning_rate=5e-3, stride=T)):
    if step.number % 100 == 0:
        print(f"step {step.number}   loss {step.loss:.3f}")

# %% 2. The notes of this world, and an index of them.
cache = Cache(record=False)
facts = [(kind, place, str(rng.choice(ANSWERS))) for kind in KINDS for place in PLACES]
notes = [note_of(*fact) for fact in facts]
encoder = tf_idf(notes)
index = DocumentIndex([f"note {i}" for i in range(len(notes))], notes, encoder.encode(notes))

# %% 3. Questions alone, after a random note, after the note that the search finds, and after the right note.
asked = rng.choice(len(facts), 300, replace=False)
questions = [question_of(*facts[i][:2]) for i in asked]
right = np.array([facts[i][2] for i in asked])
found = np.array([index.search(vector, 1)[0].number for vector in encoder.encode(questions)])
drawn = rng.integers(0, len(facts), len(asked))
answers = {
    "nothing": np.array([ask(question) for question in questions]),
    "a note at random": np.array([ask(f"{notes[i]} {q}") for i, q in zip(drawn, questions, strict=True)]),
    "the note found": np.array([ask(f"{notes[i]} {q}") for i, q in zip(found, questions, strict=True)]),
    "the right note": np.array([ask(f"{notes[i]} {q}") for i, q in zip(asked, questions, strict=True)]),
}
for i in (0, 1, 2):
    print(f"\n{questions[i]}   ({right[i]})\n  found:  {notes[found[i]]}\n  answer: {answers['the note found'][i]}")
shares = {before: float((said == right).mean()) for before, said in answers.items()}
print("\nbefore the question   right answers")
for before, share in shares.items():
    print(f"{before:<22}{share:12.1%}")
recall = float((found == asked).mean())
misled = answers["the note found"][found != asked]
repeats = float((misled == np.array([facts[i][2] for i in found[found != asked]])).mean())
print(f"\nThe search finds the right note for {recall:.1%} of the questions.")
print(f"For {repeats:.0%} of the others the model repeats the answer of the wrong note: it cannot detect the error.")
assert shares["nothing"] < 0.05 and shares["a note at random"] < 0.05
assert shares["the right note"] > 0.9 and abs(shares["the note found"] - recall) < 0.05
assert repeats > 0.9
