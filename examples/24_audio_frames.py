"""Can a GPT predict sound, if a Linear layer replaces the embedding?

The blocks of a GPT take vectors, so they work for other data than words. Here the tokens are audio frames, 64 samples
at 8 kHz. A Linear layer replaces the look-up, and another one computes the next frame in place of logits. The loss is
the squared error. The sounds are synthetic: tones of three harmonics with vibrato, at random pitches.
"""

import math

import numpy as np

from npgpt.build import can_compile, twin
from npgpt.core import Array, Cache, Layer
from npgpt.layers import Block, LayerNorm, LearnedPositions, Linear, MeanSquaredError
from npgpt.optim import AdamW, WarmupCosine, clip_scale
from npgpt.study.check.cases import of_order_one
from npgpt.study.check.checker import gradcheck

# B batch, T time (frames), F samples in a frame, C channels
F, T, RATE = 64, 16, 8000


# %% The model
class FrameGPT(Layer):
    """A GPT with frames in place of ids, and the next frame in place of logits.

    Forward   x = Linear(frames) + positions;  x = Block(x), n_layer times;  y = Linear(norm(x))
    Backward  given dy: the same layers in reverse, a chain without branches. Frames are floats, so they have a
              gradient; ids have none.
    Shapes    frames, y, dy, dframes (B, T, F)
    Keeps     embedded, positioned, stream, normed
    """

    def __init__(self, F: int, T: int, C: int, n_layer: int, n_head: int) -> None:
        self.embedding = Linear(F, C, 0.1)
        self.positions = LearnedPositions(T, C)
        residual_std = 0.02 / math.sqrt(2 * n_layer)
        self.blocks = [Block(C, n_head, residual_std=residual_std) for _ in range(n_layer)]
        self.norm = LayerNorm(C)
        self.head = Linear(C, F)

    def forward(self, frames: Array, cache: Cache) -> Array:
        embedded = cache.keep("embedded", self.embedding.forward(frames, cache.scope("embedding")))  # (B, T, C)
        x = cache.keep("positioned", self.positions.forward(embedded, cache.scope("positions")))
        for i, block in enumerate(self.blocks):
            x = block.forward(x, cache.scope(f"blocks.{i}"))
        x = cache.keep("stream", x)
        normed = cache.keep("normed", self.norm.forward(x, cache.scope("norm")))
        return self.head.forward(normed, cache.scope("head"))  # (B, T, F)

    def backward(self, dy: Array, cache: Cache) -> Array:
        dnormed = cache.note("normed", self.head.backward(dy, cache.scope("head")))
        dx = cache.note("stream", self.norm.backward(dnormed, cache.scope("norm")))
        for i, block in reversed(list(enumerate(self.blocks))):
            dx = block.backward(dx, cache.scope(f"blocks.{i}"))
        dpositioned = cache.note("positioned", dx)
        dembedded = cache.note("embedded", self.positions.backward(dpositioned, cache.scope("positions")))
        return self.embedding.backward(dembedded, cache.scope("embedding"))


# %% Sounds, and other predictions
def tones(n: int, rng: np.random.Generator) -> Array:
    """Return n sounds of T + 1 frames, (n, T + 1, F) in float32, of mean square 1."""
    seconds = np.arange((T + 1) * F) / RATE
    pitch, rate, depth = 100 * 2 ** rng.random((n, 1)), rng.uniform(4, 7, (n, 1)), rng.uniform(0.005, 0.02, (n, 1))
    turn = 2 * np.pi * rng.random((5, n, 1))
    # the frequency is pitch·(1 + depth·sin(2π·rate·t + turn)); the phase is its integral
    swing = depth / (2 * np.pi * rate) * np.cos(2 * np.pi * rate * seconds + turn[0])
    phase = 2 * np.pi * pitch * (seconds - swing)
    sound = sum(rng.random((n, 1)) / k * np.sin(k * phase + turn[k]) for k in (1, 2, 3))
    sound /= np.sqrt((sound**2).mean(1, keepdims=True))
    frames: Array = sound.reshape(n, T + 1, F).astype(np.float32)
    return frames


def decibel(forecast: Array, following: Array) -> float:
    """Return the signal-to-error ratio: at 0 dB the error has the sound's power, at 10 dB a tenth of it."""
    return float(10 * np.log10((following**2).mean() / ((following - forecast) ** 2).mean()))


def one_matrix(k: int) -> Array:
    """Fit one matrix from k frames to the next, for all sounds, by least squares; return its forecast of the last."""
    sounds = tones(1500, np.random.default_rng(2))
    past = np.concatenate([sounds[:, i - k : i].reshape(len(sounds), -1) for i in range(k, T + 1)])
    matrix = least_squares(past, np.concatenate([sounds[:, i] for i in range(k, T + 1)]))
    forecast: Array = test[:, T - k : T].reshape(len(test), -1) @ matrix
    return forecast


def fitted_afresh(past: Array, order: int) -> Array:
    """Predict the next F samples from the last ``order`` ones, by a matrix fitted to this sound alone."""
    windows = np.lib.stride_tricks.sliding_window_view(past, order + F)
    forecast: Array = past[-order:] @ least_squares(windows[:, :order], windows[:, order:])
    return forecast


def least_squares(x: Array, y: Array) -> Array:
    """Return the matrix W that minimizes |x·W − y|², with a small ridge term so that it is unique."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    matrix: Array = np.linalg.solve(x.T @ x + 1e-6 * len(x) * np.eye(x.shape[1]), x.T @ y)
    return matrix


# %% 1. The gradients, by six methods that share no code with the backward pass.
rng = np.random.default_rng(0)
small = of_order_one(FrameGPT(F=3, T=2, C=4, n_layer=1, n_head=2), rng)
reports = gradcheck(small, rng.normal(size=(2, 2, 3))), gradcheck(MeanSquaredError(), *rng.normal(size=(2, 2, 2, 3)))
print(f"{sum(map(len, reports))} checks of the gradients: {'all right' if all(r.passed for r in reports) else 'WRONG'}")
assert all(report.passed for report in reports)

# %% 2. Training, on new random sounds in each step.
model, squared_error, cache = FrameGPT(F, T, 64, 2, 4).astype(np.float32).initialise(0), MeanSquaredError(), Cache()
assert model.flat is not None  # astype packs
if can_compile():
    model = twin(model)  # the same parameters, compiled layers
steps, optimizer, loss_cache = 600, AdamW(model.flat, weight_decay=0.0), Cache()
rate = WarmupCosine(1e-2, 1e-4, 50, steps)
for step in range(steps):
    sounds = tones(32, rng)
    model.zero_grad()
    y = model.forward(sounds[:, :-1], cache.reset())
    loss = squared_error.forward(y, sounds[:, 1:], loss_cache.reset())
    dy, _ = squared_error.backward(1.0, loss_cache)
    model.backward(np.ascontiguousarray(dy), cache)
    optimizer.step(rate(step), clip_scale(optimizer.grad_norm(), 1.0))
    if step % 200 == 0:
        print(f"step {step:>4}   squared error {loss:.3f}")

# %% 3. The next frame of test sounds.
test = tones(200, np.random.default_rng(1))
predicted = model.forward(test[:, :-1], Cache(record=False))
levels = {
    "the same frame again": decibel(test[:, T - 1], test[:, T]),
    "one matrix, from the last frame": decibel(one_matrix(1), test[:, T]),
    "one matrix, from the last 8": decibel(one_matrix(8), test[:, T]),
}
for k in (1, 2, 4, T):
    levels[f"GPT, from the first {k} frame{'s' * (k > 1)}"] = decibel(predicted[:, k - 1], test[:, k])
for order in (16, 64):
    fitted = np.stack([fitted_afresh(sound[:T].ravel(), order) for sound in test])
    levels[f"fitted to each sound, {order} samples"] = decibel(fitted, test[:, T])
print("\nThe next frame, predicted by              signal-to-error ratio")
for name, level in levels.items():
    print(f"  {name:<36}{level:8.1f} dB   {'#' * max(0, round(level))}")
print(
    "\nOne matrix for all sounds is poor, because the next frame depends on the pitch. The GPT also has one set of\n"
    "weights for all sounds, but it attends to the earlier frames, and more frames give a better prediction. Linear\n"
    "prediction fits a matrix to each sound. For pure tones without noise it is hard to beat."
)
gpt = levels[f"GPT, from the first {T} frames"]
assert gpt > levels["one matrix, from the last 8"] + 5 and gpt > levels["the same frame again"] + 5
assert gpt > levels["GPT, from the first 1 frame"] + 5
assert levels["fitted to each sound, 64 samples"] > gpt
