"""Why does a GPT need no inverse of its embedding to predict a token?

A look-up turns a token into a vector. Should the last vector become the token with the nearest embedding? Two small
GPTs predict validation text: one uses the embedding table as its head (tied), the other has its own head (untied). The
example compares predictions by logits with predictions by the nearest embedding.
"""

import numpy as np

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Array, Cache
from npgpt.data import builtin_texts, encode_texts, split_text
from npgpt.tokenizer import BPETokenizer
from npgpt.train import training_steps

# %% The text
parts = [split_text(text, validation_fraction=0.1) for text in builtin_texts()]
tokenizer = BPETokenizer.train([train for train, _ in parts], vocab_size=400)
ids = encode_texts(tokenizer, [train for train, _ in parts])
T, C, V = 32, 48, tokenizer.vocab_size
held = encode_texts(tokenizer, [end for _, end in parts])[: 250 * T + 1]
x, y = held[:-1].reshape(-1, T), held[1:].reshape(-1, T)


# %% Two models, three ways to a token
def surprise(scores: Array) -> float:
    """Return the mean −log softmax of the right token, in nats."""
    shifted = scores - scores.max(-1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(-1))
    return float((log_sum - np.take_along_axis(shifted, y[..., None], -1)[..., 0]).mean())


loss: dict[tuple[bool, str], float] = {}
agree: dict[tuple[bool, str], float] = {}
for tied in (True, False):
    model = make_gpt(GPTConfig(V, T, n_layer=2, n_head=2, n_embd=C, tie_weights=tied))
    for _ in training_steps(model, ids, TrainConfig(steps=400, batch_size=16, learning_rate=5e-3)):
        pass
    cache = Cache()
    logits = model.forward(x, cache).copy()  # (B, T, V)
    h, E = cache["normed"], model.embedding.weight.value  # (B, T, C), (V, C)
    squares = (E**2).sum(1)
    decoders = {
        "logits": logits,
        # |h − e|² = |h|² − 2·h·e + |e|², and |h|² is the same for all e
        "nearest embedding": h @ E.T - squares / 2,
        "nearest by angle": h @ (E / np.sqrt(squares)[:, None]).T,
    }
    print(f"{'tied' if tied else 'untied':<22}next token right     equal to logits   loss in nats")
    for name, scores in decoders.items():
        best = scores.argmax(-1)
        agree[tied, name], loss[tied, name] = float((best == logits.argmax(-1)).mean()), surprise(scores)
        print(f"  {name:<20}{(best == y).mean():16.1%}{agree[tied, name]:20.1%}{loss[tied, name]:15.2f}")
    lengths, length = np.sqrt(squares), np.linalg.norm(h, axis=-1).mean()
    print(
        f"  Length of embeddings: {lengths.min():.2f} to {lengths.max():.2f}; of last vectors: {length:.2f} on average."
    )
    distances = squares[:, None] - 2 * E @ E.T + squares
    found = float((distances.argmin(0) == np.arange(V)).mean())
    kept = float((E @ np.linalg.pinv(E)).diagonal().mean())
    print(
        f"  For an embedding itself, the nearest row is its own token in {found:.0%} of {V} cases. The pseudo-inverse"
    )
    print(f"  of the table returns only {kept:.0%} of a one-hot vector's 1, because {V} numbers became {C}.\n")
    assert found == 1 and abs(kept - C / V) < 1e-3

print(
    "The last vector is not an embedding to be inverted. The head multiplies it by one row for each token, and the\n"
    "logits give a probability for every token, for sampling and for training. In the tied model the rows are the\n"
    "embeddings. There the nearest embedding has the largest logit minus half of the row's square; this is nearly the\n"
    "same while rows are short compared with the last vector. In the untied model head and embedding are unrelated."
)
assert agree[True, "nearest embedding"] > 0.8 and agree[False, "nearest embedding"] < 0.3
assert loss[False, "nearest embedding"] > loss[False, "logits"] + 1
