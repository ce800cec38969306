"""Can a GPT predict a chaotic series, and should the numbers be tokens or vectors?

The series of Mackey and Glass (1977) looks like a heartbeat out of step: nearby pasts lead to distant futures. One GPT
reads it as tokens, 100 bins, and predicts probabilities. Another reads the numbers themselves through a Linear, and its
loss is the squared error. Both are compared with "the same value again" and with a linear autoregression, by horizon.
The token model also draws a fan of possible futures. `--plot` draws everything as 26_time_series.png.
"""

# %% The series: B examples, T values that a model sees, C channels
import math
import sys

import numpy as np

from npgpt.build import can_compile, make_gpt, twin
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Array, Cache, KeyValues, Layer
from npgpt.layers import Block, LayerNorm, LearnedPositions, Linear, MeanSquaredError
from npgpt.optim import AdamW, WarmupCosine, clip_scale
from npgpt.study.check.cases import of_order_one
from npgpt.study.check.checker import gradcheck
from npgpt.train import training_steps

T, C, BINS, HORIZONS, FAN = 64, 64, 100, (1, 2, 4, 8, 16, 32), 30
SEED = 0  # benchmarks/purposes.py tries other seeds


def mackey_glass(n: int, delay: int = 17, fine: int = 10) -> Array:
    """Return n values of dx/dt = 0.2·x(t − 17)/(1 + x(t − 17)¹⁰) − 0.1·x(t), three units of time apart."""
    x = np.full((n + 100) * 3 * fine + delay * fine, 1.2)
    for t in range(delay * fine, len(x) - 1):
        past = x[t - delay * fine]
        x[t + 1] = x[t] + (0.2 * past / (1 + past**10) - 0.1 * x[t]) / fine
    return x[delay * fine :: 3 * fine][100:][:n]


series = mackey_glass(6000)
series = (series - series.mean()) / series.std()
train, test = series[:5000], series[5000:]
starts = np.arange(0, len(test) - T - max(HORIZONS), 8)
pasts = np.stack([test[s : s + T] for s in starts])  # (n, T)
futures = np.stack([test[s + T : s + T + max(HORIZONS)] for s in starts])  # (n, 32)
print(f"{len(series):,} values of standard deviation 1; {len(train):,} for training; {len(starts)} pasts for tests.")

# %% 1. As tokens: equal bins, and the mean of a bin to turn it back into a number
edges = np.linspace(train.min(), train.max(), BINS + 1)[1:-1]
ids = np.digitize(series, edges)
centres = np.array([train[ids[:5000] == b].mean() if (ids[:5000] == b).any() else np.nan for b in range(BINS)])
centres = np.where(np.isnan(centres), np.linspace(train.min(), train.max(), BINS), centres)
by_token = make_gpt(GPTConfig(BINS, 2 * T, n_layer=2, n_head=4, n_embd=C, positions="rotary"), seed=SEED)
for step in training_steps(by_token, ids[:5000], TrainConfig(steps=1200, batch_size=16, learning_rate=3e-3, seed=SEED)):
    if step.number % 400 == 0:
        print(f"tokens   step {step.number}   loss {step.loss:.3f} nats; a blind guess has {math.log(BINS):.3f}")


def drawn(past: Array, n_ahead: int, temperature: float, rng: np.random.Generator) -> Array:
    """Return one future (n, n_ahead) for each past of ids; temperature 0 takes the likeliest bin."""
    kept = KeyValues()
    cache, new, written = Cache(record=False, past=kept), past, []
    for _ in range(n_ahead):
        logits = by_token.forward(new, cache.reset())[:, -1].astype(np.float64)
        kept.advance(new.shape[1])
        if temperature:
            logits = logits / temperature + rng.gumbel(size=logits.shape)  # the largest is a draw from softmax
        new = logits.argmax(-1)[:, None]
        written.append(new[:, 0])
    return np.stack(written, 1)


# %% 2. As numbers: a Linear in place of the embedding, and another one in place of the head
class SeriesGPT(Layer):
    """A GPT from values to the next values.

    Forward   x = Linear(values) + positions;  x = Block(x), n_layer times;  y = Linear(norm(x))
    Backward  given dy: the same layers in reverse; each passes its gradient to the one before
    Shapes    values, y, dy, dvalues (B, T, 1)
    """

    def __init__(self, T: int, C: int, n_layer: int, n_head: int) -> None:
        blocks = [Block(C, n_head, residual_std=0.02 / math.sqrt(2 * n_layer)) for _ in range(n_layer)]
        self.parts = [Linear(1, C, 0.5), LearnedPositions(T, C), *blocks, LayerNorm(C), Linear(C, 1, 0.1)]

    def forward(self, x: Array, cache: Cache) -> Array:
        for i, part in enumerate(self.parts):
            x = part.forward(x, cache.scope(f"parts.{i}"))
        return x

    def backward(self, dy: Array, cache: Cache) -> Array:
        for i, part in reversed(list(enumerate(self.parts))):
            dy = part.backward(dy, cache.scope(f"parts.{i}"))
        return dy


rng = np.random.default_rng(SEED)
report = gradcheck(of_order_one(SeriesGPT(3, 4, 1, 2), rng), rng.normal(size=(2, 3, 1)))
assert report.passed
print(f"\nnumbers  {len(report)} checks of its gradients: all right")
by_number = SeriesGPT(T, C, 2, 4).astype(np.float32).initialise(SEED)
by_number = twin(by_number) if can_compile() else by_number
assert by_number.flat is not None
squared_error, optimizer = MeanSquaredError(), AdamW(by_number.flat, weight_decay=0.0)
rate, cache, of_loss, STEPS = WarmupCosine(3e-3, 3e-4, 50, 1200), Cache(), Cache(), 1200
for number in range(1, STEPS + 1):
    at = rng.integers(0, len(train) - T, 16)
    windows = np.stack([train[a : a + T + 1] for a in at]).astype(np.float32)[..., None]  # (B, T + 1, 1)
    by_number.zero_grad()
    y = by_number.forward(windows[:, :-1], cache.reset())
    loss = squared_error.forward(y, windows[:, 1:], of_loss.reset())
    dy, _ = squared_error.backward(1.0, of_loss)
    by_number.backward(dy, cache)
    optimizer.step(rate(number - 1), clip_scale(optimizer.grad_norm(), 1.0))
    if number % 400 == 0:
        print(f"numbers  step {number}   squared error {loss:.5f}; the mean of the series would give 1")


def continued(predict: "object", past: Array, n_ahead: int) -> Array:
    """Feed each prediction back as the next value."""
    seen = past
    for _ in range(n_ahead):
        seen = np.concatenate([seen, predict(seen[:, -T:])[:, None]], axis=1)  # type: ignore[operator]
    return seen[:, -n_ahead:]


def next_number(past: Array) -> Array:
    return np.asarray(by_number.forward(past.astype(np.float32)[..., None], Cache(record=False))[:, -1, 0], float)


# %% 3. The others: the same value again, and one linear map from the last 64 values
windows = np.lib.stride_tricks.sliding_window_view(train, T + 1)
linear = np.linalg.lstsq(windows[:, :T], windows[:, T], rcond=1e-6)[0]
ahead, last = max(HORIZONS), pasts[:, -1:]
fan = np.stack([centres[drawn(ids[5000:][starts[:, None] + np.arange(T)], ahead, 1.0, rng)] for _ in range(FAN)])
forecasts = {
    "the same value again": np.repeat(last, ahead, axis=1),
    "linear autoregression": continued(lambda past: past @ linear, pasts, ahead),
    "GPT on tokens, likeliest": centres[drawn(ids[5000:][starts[:, None] + np.arange(T)], ahead, 0.0, rng)],
    f"GPT on tokens, mean of {FAN}": fan.mean(0),
    "GPT on numbers": continued(next_number, pasts, ahead),
}
errors = {name: np.sqrt(((made - futures) ** 2).mean(0)) for name, made in forecasts.items()}

# %% What came out: the root of the mean squared error, in standard deviations of the series
print(f"\n{'values ahead':<28}" + "".join(f"{h:>8}" for h in HORIZONS))
for name, error in errors.items():
    print(f"{name:<28}" + "".join(f"{error[h - 1]:8.3f}" for h in HORIZONS))
inside = np.mean((fan.min(0) <= futures) & (futures <= fan.max(0)), axis=0)
print(f"{'share inside the fan':<28}" + "".join(f"{inside[h - 1]:8.0%}" for h in HORIZONS))
persistence, line, likeliest, mean, numbers = errors.values()
best = {h: min(errors, key=lambda name: errors[name][h - 1]) for h in HORIZONS}
print()
for name in dict.fromkeys(best.values()):
    print(f"Best at {', '.join(str(h) for h in HORIZONS if best[h] == name)} values ahead: {name}.")
print(
    f"A bin is {edges[1] - edges[0]:.3f} wide, which limits tokens one value ahead. But tokens give a distribution: the"
)
print("fan shows how the future becomes uncertain, and its mean is better than the one likeliest future.")
assert max(numbers[0], mean[0], line[0]) < persistence[0] / 3 and max(numbers[7], mean[7]) < line[7]
covered = [inside[h - 1] for h in HORIZONS]
assert mean[15] < likeliest[15] and covered == sorted(covered) and covered[-1] > 0.9

# %% The picture
if "--plot" in sys.argv:  # in a notebook: if True
    from npgpt.support.pictures import pyplot

    figure, (left, right) = pyplot().subplots(1, 2, figsize=(13, 4.5), layout="constrained")
    which, t = 20, np.arange(1, ahead + 1)
    left.plot(np.arange(-T + 1, 1), pasts[which], "k")
    left.plot(t, fan[:, which].T, color="C0", alpha=0.2, linewidth=0.8)
    left.plot(t, forecasts["GPT on numbers"][which], "C1", label="GPT on numbers")
    left.plot(t, forecasts["linear autoregression"][which], "C2", label="linear autoregression")
    left.plot(t, futures[which], "k--", label="what came")
    left.plot([], [], color="C0", label=f"GPT on tokens, {FAN} draws")
    left.set(xlabel="values ahead", title="one past, and its futures")
    for name, error in errors.items():
        right.plot(t, error, label=name)
    right.set(xlabel="values ahead", title="root mean squared error, standard deviations")
    left.legend(loc="upper left")
    right.legend()
    figure.savefig("26_time_series.png", dpi=110)
    print("\nThe picture is in 26_time_series.png.")
