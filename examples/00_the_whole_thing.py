"""What is a GPT, whole? Its model, backward pass, training and sampling stand on this page, in NumPy alone.

Nothing is imported from npgpt. Its layers do the same, one idea a file, each with its derivation; a test compares the
two: the loss and every gradient agree to the last digits. Names of the weights are npgpt's.
"""

import math
import os
import pydoc_data.topics

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the products are small: a second thread would mostly wait
import numpy as np

N_LAYER, N_HEAD, C, T = 2, 4, 64, 64  # blocks, heads, channels, context length
BATCH, STEPS, RATE = 16, 500, 3e-3
random = np.random.default_rng(0)

# %% The text: Python's own help. A token is a character
text = "".join(pydoc_data.topics.topics.values())
characters = sorted(set(text))
ids = np.array([characters.index(c) for c in text[:300_000]])
train, validation = ids[:270_000], ids[270_000:]


def windows(source, n):
    """n windows of T tokens, and the tokens that follow each: (n, T), (n, T)."""
    starts = random.integers(0, len(source) - T - 1, n)
    rows = source[starts[:, None] + np.arange(T + 1)]
    return rows[:, :-1], rows[:, 1:]


# %% The weights. The embedding is also the vocabulary head
def make_weights(vocab_size, dtype=np.float32):
    def normal(*shape, std=0.02):
        return random.normal(0, std, shape)

    w = {"embedding.weight": normal(vocab_size, C), "positions.weight": normal(T, C)}
    for i in range(N_LAYER):
        sizes = {
            "attention.qkv": (C, 3 * C),
            "attention.projection": (C, C),
            "mlp.up": (C, 4 * C),
            "mlp.down": (4 * C, C),
        }
        for name, (n_in, n_out) in sizes.items():
            std = 0.02 / math.sqrt(2 * N_LAYER) if n_out == C else 0.02  # what is added to the residual stream
            w[f"blocks.{i}.{name}.weight"], w[f"blocks.{i}.{name}.bias"] = normal(n_in, n_out, std=std), np.zeros(n_out)
    for path in ["norm", *(f"blocks.{i}.{n}_norm" for i in range(N_LAYER) for n in ("attention", "mlp"))]:
        w[f"{path}.gain"], w[f"{path}.bias"] = np.ones(C), np.zeros(C)
    return {name: x.astype(dtype) for name, x in w.items()}


# %% Forward. Each step returns what its backward step needs
def norm(x, w, path):
    centred = x - x.mean(-1, keepdims=True)
    r = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred * r * w[f"{path}.gain"] + w[f"{path}.bias"], (centred * r, r)


def attention(x, w, path):
    q, k, v = (heads(part) for part in np.split(x @ w[f"{path}.qkv.weight"] + w[f"{path}.qkv.bias"], 3, axis=-1))
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(C // N_HEAD)  # (B, H, T, T)
    scores = np.where(np.tri(x.shape[1], dtype=bool), scores, -np.inf)  # no token looks ahead
    e = np.exp(scores - scores.max(-1, keepdims=True))
    weights = e / e.sum(-1, keepdims=True)
    mixed = together(weights @ v)
    return mixed @ w[f"{path}.projection.weight"] + w[f"{path}.projection.bias"], (x, q, k, v, weights, mixed)


def mlp(x, w, path):
    h = x @ w[f"{path}.up.weight"] + w[f"{path}.up.bias"]
    tanh = np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h * h * h))
    active = 0.5 * h * (1 + tanh)  # GELU
    return active @ w[f"{path}.down.weight"] + w[f"{path}.down.bias"], (x, h, tanh, active)


def heads(x):
    return x.reshape(*x.shape[:2], N_HEAD, -1).transpose(0, 2, 1, 3)  # (B, T, C) -> (B, H, T, D)


def together(x):
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def forward(w, ids):
    """The logits (B, T, V), and what every step kept."""
    x, kept = w["embedding.weight"][ids] + w["positions.weight"][: ids.shape[1]], []
    for i in range(N_LAYER):
        for step, path in ((attention, f"blocks.{i}.attention"), (mlp, f"blocks.{i}.mlp")):
            normed, of_norm = norm(x, w, f"{path}_norm")
            y, of_step = step(normed, w, path)
            x = x + y  # the residual stream
            kept.append((path, of_norm, of_step))
    last, of_norm = norm(x, w, "norm")
    return last @ w["embedding.weight"].T, (kept, last, of_norm)


# %% Backward: the same steps, from the last to the first
def linear_back(dy, x, w, grads, path):
    grads[f"{path}.weight"] = x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    grads[f"{path}.bias"] = dy.sum((0, 1))
    return dy @ w[f"{path}.weight"].T


def norm_back(dy, kept, w, grads, path):
    xhat, r = kept
    grads[f"{path}.gain"], grads[f"{path}.bias"] = (dy * xhat).sum((0, 1)), dy.sum((0, 1))
    d = dy * w[f"{path}.gain"]
    return r * (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True))


def attention_back(dy, kept, w, grads, path):
    x, q, k, v, weights, mixed = kept
    dmixed = heads(linear_back(dy, mixed, w, grads, f"{path}.projection"))
    dweights, dv = dmixed @ v.swapaxes(-1, -2), weights.swapaxes(-1, -2) @ dmixed
    dscores = weights * (dweights - (dweights * weights).sum(-1, keepdims=True)) / math.sqrt(C // N_HEAD)
    dqkv = [together(d) for d in (dscores @ k, dscores.swapaxes(-1, -2) @ q, dv)]
    dx = linear_back(np.concatenate(dqkv, axis=-1), x, w, grads, f"{path}.qkv")
    grads[f"{path}.qkv.bias"][C : 2 * C] = 0  # softmax does not depend on the keys' bias: the rest is rounding
    return dx


def mlp_back(dy, kept, w, grads, path):
    x, h, tanh, active = kept
    dactive = linear_back(dy, active, w, grads, f"{path}.down")
    slope = 0.5 * (1 + tanh) + 0.5 * h * (1 - tanh * tanh) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * h * h)
    return linear_back(dactive * slope, x, w, grads, f"{path}.up")


def loss_and_gradients(w, ids, targets):
    """The mean cross-entropy in nats, and its gradient by every weight."""
    logits, (kept, last, of_norm) = forward(w, ids)
    logp = logits - logits.max(-1, keepdims=True)
    logp -= np.log(np.exp(logp).sum(-1, keepdims=True))
    loss = -np.take_along_axis(logp, targets[..., None], -1).mean()
    dlogits = np.exp(logp)
    np.put_along_axis(dlogits, targets[..., None], np.take_along_axis(dlogits, targets[..., None], -1) - 1, -1)
    dlogits /= targets.size  # (p − onehot)/N
    flat = dlogits.reshape(-1, dlogits.shape[-1])
    grads = {"embedding.weight": flat.T @ last.reshape(-1, C), "positions.weight": np.zeros_like(w["positions.weight"])}
    dx = norm_back(dlogits @ w["embedding.weight"], of_norm, w, grads, "norm")
    for path, of_step_norm, of_step in reversed(kept):
        back = attention_back if path.endswith("attention") else mlp_back
        dx = dx + norm_back(back(dx, of_step, w, grads, path), of_step_norm, w, grads, f"{path}_norm")
    grads["positions.weight"][: ids.shape[1]] = dx.sum(0)
    np.add.at(grads["embedding.weight"], ids, dx)  # each occurrence of a token adds
    return loss, grads


# %% AdamW: steps of equal size in every direction, and a pull of the matrices towards 0
def adamw(w, grads, state, step, rate, decay=0.1, b1=0.9, b2=0.99):
    for name, g in grads.items():
        m, v = state.setdefault(name, [np.zeros_like(g), np.zeros_like(g)])
        m += (1 - b1) * (g - m)
        v += (1 - b2) * (g * g - v)
        if w[name].ndim == 2:
            w[name] *= 1 - rate * decay
        w[name] -= rate * (m / (1 - b1**step)) / (np.sqrt(v / (1 - b2**step)) + 1e-8)


def sample(w, start, n):
    found = [characters.index(c) for c in start]
    for _ in range(n):
        logits = forward(w, np.array([found[-T:]]))[0][0, -1] / 0.7  # colder than 1: likelier tokens
        p = np.exp(logits - logits.max())
        found.append(int(random.choice(len(p), p=p / p.sum())))
    return "".join(characters[i] for i in found)


# %% Training
def main():
    w, state = make_weights(len(characters)), {}
    print(
        f"{sum(x.size for x in w.values()):,} weights, {len(characters)} characters, {len(train):,} tokens of training"
    )
    for step in range(1, STEPS + 1):
        rate = RATE * min(1, step / 50) * (1 - 0.9 * step / STEPS)  # up, then down
        loss, grads = loss_and_gradients(w, *windows(train, BATCH))
        adamw(w, grads, state, step, rate)
        if step % 100 == 0 or step == 1:
            print(f"step {step:>4}  loss {loss:.3f}")
    measured = np.mean([loss_and_gradients(w, *windows(validation, 64))[0] for _ in range(4)])
    pairs = np.ones((len(characters), len(characters)))  # how often a character follows another, and one more
    np.add.at(pairs, (train[:-1], train[1:]), 1)
    bigram = -np.log(pairs / pairs.sum(1, keepdims=True))[validation[:-1], validation[1:]].mean()
    print(f"validation loss {measured:.3f}; a table of pairs of characters has {bigram:.3f}")
    print("\n" + sample(w, "The ", 200))
    assert measured < bigram - 0.2, "the model uses more than the last character"


if __name__ == "__main__":
    main()
