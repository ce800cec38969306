"""Which module's documentation is this paragraph from: is a pretrained GPT a good classifier?

The data are paragraphs of ten modules of Python's library, which every machine has; the names of the modules are
replaced. A new head reads the vector of the last token. The GPT is the package's own, which learned from
speeches, after 300 steps on other documentation; its blocks are frozen or trained along. Beside it: the same GPT
untrained, and TF-IDF with logistic regression, which knows no order of words. Each is trained with three seeds. The
words of one paragraph are marked by gradient times input.
"""

# %% The data. N paragraphs, K modules, T tokens, C channels
import importlib
import inspect
import re
import sys

import numpy as np

from npgpt.build import can_compile, make_optimizer, twin
from npgpt.config import TrainConfig
from npgpt.core import Array, Cache, FlatParams, Layer
from npgpt.data import builtin_texts, encode_texts
from npgpt.embeddings import tf_idf
from npgpt.layers import CrossEntropy, Linear
from npgpt.model import GPT
from npgpt.optim import AdamW, WarmupCosine, clip_scale
from npgpt.runs import load_run
from npgpt.runs.run import PRETRAINED
from npgpt.train import training_steps

MODULES = [
    "decimal", "statistics", "logging", "inspect", "doctest", "http.cookiejar", "difflib", "unittest.case", "threading",
    "email.message",
]  # fmt: skip
LENGTH, SEEDS = 48, (0, 1, 2)  # tokens of a paragraph that are read


def paragraphs(name: str) -> list[str]:
    """Return the paragraphs of a module's docstrings, each once, with the words of its name replaced."""
    module, found = importlib.import_module(name), dict[str, None]()
    owners = [o for o in vars(module).values() if getattr(o, "__module__", None) == name]
    owners += [part for owner in owners if inspect.isclass(owner) for part in vars(owner).values()]
    owners = [part for part in owners if inspect.isroutine(part) or inspect.isclass(part) or isinstance(part, property)]
    for owner in [module, *owners]:
        doc = getattr(owner, "__doc__", None)
        for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(doc)) if isinstance(doc, str) else ():
            words = re.sub("|".join(name.split(".")), "it", " ".join(paragraph.split()), flags=re.IGNORECASE)
            if len(words) >= 40:
                found[words] = None
    return list(found)


of_module = [paragraphs(name)[:90] for name in MODULES]
texts = [text for some in of_module for text in some]
truth = np.repeat(np.arange(len(MODULES)), [len(some) for some in of_module])
print(f"{len(texts)} paragraphs of {len(MODULES)} modules; a guess of the most frequent one is right for", end=" ")
print(f"{np.bincount(truth).max() / len(truth):.0%}.")
base = load_run(PRETRAINED)
encoded = [base.tokenizer.encode(text)[:LENGTH] for text in texts]
texts = [base.tokenizer.decode(ids) for ids in encoded]  # what TF-IDF reads, too
lengths = np.array([len(ids) for ids in encoded])
padded = np.array([ids + [0] * (LENGTH - len(ids)) for ids in encoded])  # causal: no token sees the padding after it


class Classifier(Layer):
    """A GPT whose head reads the vector of the last token.

    Forward   h = the vectors before the vocabulary head; y_b = h_b,last(b)·W + b
    Backward  1. only the last vector of each paragraph is in y    ⇒ dh_bt = dy_b·Wᵀ if t = last(b), else 0
    Shapes    ids (B, T), last (B,), y, dy (B, K)
    """

    def __init__(self, gpt: GPT, K: int) -> None:
        self.gpt, self.head = gpt, Linear(gpt.config.n_embd, K)

    def forward(self, ids: Array, last: Array, cache: Cache) -> Array:
        h = self.gpt.forward_to_head(ids, cache.scope("gpt"))
        cache.keep("shape", np.array(h.shape)), cache.keep("last", last)
        return self.head.forward(np.ascontiguousarray(h[np.arange(len(h)), last]), cache.scope("head"))

    def backward(self, dy: Array, cache: Cache) -> Array | None:
        dh = np.zeros(tuple(cache["shape"]), dy.dtype)
        dh[np.arange(len(dh)), cache["last"]] = self.head.backward(dy, cache.scope("head"))  # 1.
        return self.gpt.backward_from_head(dh, cache.scope("gpt"))


def scores(predicted: Array, truth: Array) -> tuple[float, float]:
    """Return accuracy, and macro F1: the mean over the modules of 2·TP/(2·TP + FP + FN)."""
    f1 = []
    for k in range(len(MODULES)):
        hits = int(((predicted == k) & (truth == k)).sum())
        f1.append(2 * hits / max(1, int((predicted == k).sum()) + int((truth == k).sum())))
    return float((predicted == truth).mean()), float(np.mean(f1))


# %% Training: of all parameters, or of the head alone
def trained(gpt: GPT, seed: int, train: Array, frozen: bool) -> Classifier:
    model = Classifier(gpt.astype(np.float32), len(MODULES)).astype(np.float32)
    model.head.initialise(seed)
    model = twin(model) if can_compile() else model
    rng, cache, of_loss, cross_entropy = np.random.default_rng(seed), Cache(), Cache(), CrossEntropy()
    steps, highest = (300, 2e-2) if frozen else (150, 1e-3)
    if frozen:  # the vectors never change, so they are computed once
        h = model.gpt.forward_to_head(padded[train], Cache(record=False))
        h = h[np.arange(len(train)), lengths[train] - 1]
        optimizer: AdamW = AdamW(FlatParams(list(model.head.parameters().values()), np.float32))
    else:
        optimizer = make_optimizer(model)
    rate = WarmupCosine(highest, highest / 10, 20, steps)
    for step in range(steps):
        some = rng.integers(0, len(train), 32)
        model.zero_grad()
        ids, cache = train[some], cache.reset()
        y = model.head.forward(h[some], cache) if frozen else model.forward(padded[ids], lengths[ids] - 1, cache)
        cross_entropy.forward(np.array(y), truth[ids], None, of_loss.reset())
        dy = cross_entropy.backward(1.0, of_loss)
        (model.head if frozen else model).backward(dy, cache)
        optimizer.step(rate(step), clip_scale(optimizer.grad_norm(), 1.0))
    return model


def predictions(model: Classifier, of: Array) -> Array:
    return np.asarray(model.forward(padded[of], lengths[of] - 1, Cache(record=False)).argmax(-1))


def logistic_regression(x: Array, y: Array, steps: int = 500) -> Array:
    """Return the weights (C, K) by gradient descent on the cross-entropy with a small pull towards 0."""
    w = np.zeros((x.shape[1], len(MODULES)))
    onehot = np.eye(len(MODULES))[y]
    for _ in range(steps):
        p = np.exp(x @ w - (x @ w).max(-1, keepdims=True))
        w -= 20.0 * (x.T @ (p / p.sum(-1, keepdims=True) - onehot) / len(x) + 1e-4 * w)
    return w


pretrained = twin(base.model.astype(np.float32)) if can_compile() else base.model.astype(np.float32)
ids = encode_texts(base.tokenizer, builtin_texts())
for step in training_steps(pretrained, ids, TrainConfig(steps=300, batch_size=16, learning_rate=1e-3)):
    if step.number % 150 == 0:
        print(f"on documentation: step {step.number}, loss {step.loss:.2f}")
found: dict[str, list[tuple[float, float]]] = {}
for seed in SEEDS:
    order = np.random.default_rng(seed).permutation(len(texts))
    test, train = order[: len(order) // 4], order[len(order) // 4 :]
    encoder = tf_idf([texts[i] for i in train])
    x_train, x_test = (np.asarray(encoder.encode([texts[i] for i in part]), float) for part in (train, test))
    guess = (x_test @ logistic_regression(x_train, truth[train])).argmax(-1)
    found.setdefault("TF-IDF, logistic regression", []).append(scores(guess, truth[test]))
    if importlib.util.find_spec("sklearn"):
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        theirs = TfidfVectorizer(sublinear_tf=True)
        x_train = theirs.fit_transform([texts[i] for i in train])
        fitted = LogisticRegression(C=10, max_iter=1000).fit(x_train, truth[train])
        guess = fitted.predict(theirs.transform([texts[i] for i in test]))
        found.setdefault("TF-IDF by scikit-learn", []).append(scores(guess, truth[test]))
    untrained = GPT(base.config.model, seed)
    for name, gpt, frozen in (
        ("GPT untrained, free", untrained, False),
        ("GPT pretrained, frozen", pretrained, True),
        ("GPT pretrained, free", pretrained, False),
    ):
        model = trained(gpt, seed, train, frozen)
        found.setdefault(name, []).append(scores(predictions(model, test), truth[test]))

print(f"\n{'':<30}accuracy            macro F1   (mean and range of {len(SEEDS)} seeds)")
mean = {}
for name, rows in found.items():
    table = np.array(rows)
    mean[name] = float(table[:, 0].mean())
    cells = [f"{c.mean():6.1%} ({c.min():.0%} to {c.max():.0%})" for c in table.T]
    print(f"{name:<30}{cells[0]}   {cells[1]}")
best = max(mean, key=lambda name: mean[name])
gain = mean["GPT pretrained, free"] - mean["GPT untrained, free"]
print(f"\nBest: {best}. The pretrained GPT differs from the untrained one by {100 * gain:+.1f} points. Its last")
print("vector was trained to predict a token, and must first learn to name a module.")
assert mean["GPT pretrained, free"] > mean["GPT pretrained, frozen"] > 1.5 * np.bincount(truth).max() / len(truth)
assert mean["GPT untrained, free"] > 3 * np.bincount(truth).max() / len(truth)

# %% Which tokens speak for the module? Gradient times input: what the score loses, to first order, without a token
model64 = model.astype(np.float64)
which = next(i for i in test if predictions(model, np.array([i]))[0] == truth[i] and lengths[i] > 25)
ids, last = np.array([encoded[which]]), np.array([lengths[which] - 1])
cache = Cache(trace=True)
vectors = model64.gpt.embedding.weight.value[ids]
y = model64.forward(vectors, last, cache)
dvectors = model64.backward(np.eye(len(MODULES))[[truth[which]]], cache)
share = (dvectors * vectors).sum(-1)[0]
more = model64.forward(vectors * (1 + 1e-6), last, Cache(record=False)) - y
assert abs(1e6 * more[0, truth[which]] - share.sum()) < 1e-3 * np.abs(share).sum()
print(f"\nA paragraph of {MODULES[truth[which]]}; tokens with a large share of its score, for (+) and against (−):")
strongest = np.argsort(-np.abs(share))[:8]
print("  " + ", ".join(f"{base.tokenizer.decode([ids[0, t]])!r} {share[t]:+.2f}" for t in strongest))
if sys.stdout.isatty():
    shades = (196, 203, 210, 217, 231, 194, 157, 120, 46)  # colours of 256, from against to for
    for token, part in zip(ids[0], share, strict=True):
        shade = shades[int(np.clip(4 + 4 * part / np.abs(share).max(), 0, 8))]
        print(f"\x1b[30;48;5;{shade}m{base.tokenizer.decode([int(token)])}\x1b[0m", end="")
    print()
print("This is the slope at this point, not what happens if the token is missing; tokens that say the same share it.")
