"""Why does a GPT need no inverse of its embedding to say a token?

A token becomes a vector by a lookup. Should the last vector not go the way back, to the token whose embedding is
nearest? Two small GPTs, one whose head is the embedding's table (tied) and one with a head of its own (untied), answer
on text that they were not trained on: by their logits, and by the nearest embedding.
"""

import numpy as np

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Array, Cache
from npgpt.data import builtin_texts, encode_texts, split_text
from npgpt.tokenizer import BPETokenizer
from npgpt.train import training_steps

parts = [split_text(text, validation_fraction=0.1) for text in builtin_texts()]
tokenizer = BPETokenizer.train([train for train, _ in parts], vocab_size=400)
ids = encode_texts(tokenizer, [train for train, _ in parts])
T, C, V = 32, 48, tokenizer.vocab_size
held = encode_texts(tokenizer, [end for _, end in parts])[: 250 * T + 1]
x, y = held[:-1].reshape(-1, T), held[1:].reshape(-1, T)


def surprise(scores: Array) -> float:
    """Mean −log softmax of the right token, in nats."""
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
    print(f"{'tied' if tied else 'untied':<22}next token right   as the logits say   loss in nats")
    for name, scores in decoders.items():
        best = scores.argmax(-1)
        agree[tied, name], loss[tied, name] = float((best == logits.argmax(-1)).mean()), surprise(scores)
        print(f"  {name:<20}{(best == y).mean():16.1%}{agree[tied, name]:20.1%}{loss[tied, name]:15.2f}")
    lengths, length = np.sqrt(squares), np.linalg.norm(h, axis=-1).mean()
    print(f"  An embedding is {lengths.min():.2f} to {lengths.max():.2f} long, a last vector {length:.2f} on average.")
    distances = squares[:, None] - 2 * E @ E.T + squares
    found = float((distances.argmin(0) == np.arange(V)).mean())
    kept = float((E @ np.linalg.pinv(E)).diagonal().mean())
    print(
        f"  Embeddings themselves: the nearest row finds {found:.0%} of the {V} tokens again; the pseudo-inverse of the"
    )
    print(f"  table leaves {kept:.0%} of a one-hot vector's 1, as {V} numbers went into {C}.\n")
    assert found == 1 and abs(kept - C / V) < 1e-3

print(
    "The last vector is no embedding that was lost and must be found. It is a question to every token at once: a row\n"
    "of the head says how much each channel speaks for its token, and the logits are all the answers, to draw from\n"
    "and to learn by. Tied, the rows are the embeddings, and the nearest one is the largest logit less half the row's\n"
    "square: nearly the same, while rows are short beside the last vector. Untied, nothing asked the two to be alike."
)
assert agree[True, "nearest embedding"] > 0.8 and agree[False, "nearest embedding"] < 0.3
assert loss[False, "nearest embedding"] > loss[False, "logits"] + 1
