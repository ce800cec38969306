"""Lists, dicts, keywords, several outputs, random generators."""

from collections import OrderedDict, namedtuple

import numpy as np
from strangers.given import given, random, right


@right
def dict_of_features():
    def forward(batch):
        return batch["age"][:, None] * batch["words"] + batch["bias"]

    def backward(dy, batch):
        return {"words": dy * batch["age"][:, None], "age": (dy * batch["words"]).sum(axis=1), "bias": dy.sum(axis=0)}

    batch = {"age": random(3), "words": random(3, 4, seed=1), "bias": random(4, seed=2)}
    return given(forward, batch, backward=backward)


@right
def layers_of_weights_nested_in_lists_and_dicts():
    def forward(x, net):
        inputs = []
        for layer in net["layers"]:
            inputs.append(x)
            x = np.tanh(x @ layer["w"] + layer["b"])
        return x @ net["head"], (inputs, x, net)

    def backward(dout, cache):
        inputs, last, net = cache
        grads = {"layers": [], "head": last.T @ dout}
        dx, y = dout @ net["head"].T, last
        for x, layer in zip(inputs[::-1], net["layers"][::-1]):
            da = dx * (1 - y**2)
            grads["layers"].insert(0, {"w": x.T @ da, "b": da.sum(0)})
            dx, y = da @ layer["w"].T, x
        return dx, grads

    net = {
        "layers": [
            {"w": random(3, 4, seed=1), "b": random(4, seed=2)},
            {"w": random(4, 2, seed=3), "b": random(2, seed=4)},
        ],
        "head": random(2, 2, seed=5),
    }
    return given(forward, random(3, 3), net, backward=backward)


@right
def several_outputs_of_different_shapes_as_a_tuple():
    def forward(x, w):
        y = x @ w
        return y, y.mean(axis=0), y.sum()

    def backward(dy, dmean, dsum, x, w):
        total = dy + dmean / len(x) + dsum
        return total @ w.T, x.T @ total

    return given(forward, random(4, 3), random(3, 2, seed=1), backward=backward)


@right
def several_outputs_as_a_dict():
    def forward(x):
        return {"mean": np.mean(x, axis=0), "spread": np.var(x), "shape_kept": np.exp(-x)}

    def backward(grads, x):
        dx = np.tile(grads["mean"] / len(x), (len(x), 1))
        dx += grads["spread"] * 2 * (x - x.mean()) / x.size
        return dx - grads["shape_kept"] * np.exp(-x)

    return given(forward, random(4, 2), backward=backward)


@right
def several_outputs_as_a_list_with_a_cache():
    def forward(x, ws):
        return [x @ w for w in ws], (x, ws)

    def backward(douts, cache):
        x, ws = cache
        return sum(d @ w.T for d, w in zip(douts, ws)), [x.T @ d for d in douts]

    return given(forward, random(2, 3), [random(3, k, seed=k) for k in (1, 2, 4)], backward=backward)


@right
def named_outputs_and_named_gradients():
    Moments = namedtuple("Moments", "mean variance")
    Grads = namedtuple("Grads", "x weight")

    def forward(x, weight):
        p = weight / weight.sum()
        mean = p @ x
        return Moments(mean, p @ (x - mean) ** 2)

    def backward(d, x, weight):
        total = weight.sum()
        p = weight / total
        mean = p @ x
        dx = p[:, None] * (d.mean + 2 * d.variance * (x - mean))
        dp = x @ d.mean + (x - mean) ** 2 @ d.variance
        return Grads(dx, (dp - dp @ p) / total)

    return given(forward, random(5, 2), 0.5 + np.abs(random(5, seed=1)), backward=backward)


@right
def arrays_given_by_keyword():
    def forward(x, *, weight, bias):
        return x @ weight + bias

    def backward(dy, x, *, weight, bias):
        return {"x": dy @ weight.T, "weight": x.T @ dy, "bias": dy.sum(axis=0)}

    return given(forward, random(3, 4), weight=random(4, 2, seed=1), bias=random(2, seed=2), backward=backward)


@right
def keywords_gathered_in_a_dict():
    def forward(**tensors):
        return tensors["a"] * np.exp(tensors["b"])

    def backward(dy, **tensors):
        e = np.exp(tensors["b"])
        return {"a": dy * e, "b": dy * tensors["a"] * e}

    return given(forward, a=random(2, 3), b=random(2, 3, seed=1), backward=backward)


@right
def dropout_with_a_generator():
    def forward(x, rng, p=0.4):
        mask = (rng.random(x.shape) >= p) / (1 - p)
        return x * mask, mask

    def backward(dout, mask):
        return dout * mask

    return given(forward, random(4, 5), np.random.default_rng(3), backward=backward)


@right
def dropout_with_a_seed():
    def forward(x, w, seed):
        keep = np.random.default_rng(seed).random((x.shape[0], w.shape[1])) < 0.7
        return np.tanh(x @ w) * keep / 0.7

    def backward(dy, x, w, seed):
        keep = np.random.default_rng(seed).random((x.shape[0], w.shape[1])) < 0.7
        da = dy * keep / 0.7 * (1 - np.tanh(x @ w) ** 2)
        return da @ w.T, x.T @ da

    return given(forward, random(3, 4), random(4, 5, seed=1), 11, backward=backward)


@right
def dropout_with_settings_in_a_dict():
    def dropout_forward(x, dropout_param):
        p, mode = dropout_param["p"], dropout_param["mode"]
        if "seed" in dropout_param:
            np.random.seed(dropout_param["seed"])
        mask = None
        if mode == "train":
            mask = (np.random.rand(*x.shape) < p) / p
            out = x * mask
        else:
            out = x
        return out.astype(x.dtype, copy=False), (dropout_param, mask)

    def dropout_backward(dout, cache):
        dropout_param, mask = cache
        return dout * mask if dropout_param["mode"] == "train" else dout

    return given(
        dropout_forward,
        random(5, 4),
        {"mode": "train", "p": 0.6, "seed": 7},
        backward=dropout_backward,
        constants=["dropout_param.p"],
    )


@right
def noise_from_a_key_of_whole_numbers():
    def forward(key, mean, logscale):
        noise = np.random.default_rng(key).normal(size=mean.shape)
        return mean + np.exp(logscale) * noise, noise * np.exp(logscale)

    def backward(dout, spread):
        return dout, dout * spread

    return given(forward, np.array([0, 42], dtype=np.uint32), random(3, 2), random(3, 2, seed=1), backward=backward)


@right
def image_and_caption_of_different_kinds():
    """A dict with floats, whole numbers and a word; only the floats have a gradient."""

    def forward(sample, table):
        return sample["pixels"].mean(axis=0) @ table[sample["words"]].T, (sample, table)

    def backward(dout, cache):
        sample, table = cache
        pixels, words = sample["pixels"], sample["words"]
        dpixels = np.broadcast_to(dout @ table[words] / len(pixels), pixels.shape).copy()
        dtable = np.zeros_like(table)
        np.add.at(dtable, words, np.outer(dout, pixels.mean(axis=0)))
        return {"pixels": dpixels}, dtable

    sample = {"pixels": random(4, 3), "words": np.array([1, 1, 0]), "title": "a cat"}
    return given(forward, sample, random(3, 3, seed=1), backward=backward)


@right
def triples_in_a_list_of_tuples():
    def forward(boxes, scale=2.0):
        return np.array([scale * (a * b).sum() + c for a, b, c in boxes])

    def backward(dy, boxes, scale=2.0):
        return [(g * scale * b, g * scale * a, g) for g, (a, b, c) in zip(dy, boxes)]

    boxes = [(random(3, seed=k), random(3, seed=k + 9), np.array(0.5 * k)) for k in range(3)]
    return given(forward, boxes, backward=backward)


@right
def ordered_gradients_with_letters_before_the_names():
    def forward(x, y, temperature):
        return np.tanh(x / temperature) @ y

    def backward(dout, x, y, temperature):
        t = np.tanh(x / temperature)
        du = (dout @ y.T) * (1 - t**2)
        return OrderedDict(dtemperature=-np.sum(du * x) / temperature**2, dy=t.T @ dout, dx=du / temperature)

    return given(forward, random(3, 2), random(2, 4, seed=1), 1.7, backward=backward)


@right
def training_flag_as_an_argument():
    def forward(x, w, training=False):
        h = x @ w
        if training:
            h = h - h.mean(axis=0)
        return h, (x, w, training)

    def backward(dout, cache):
        x, w, training = cache
        if training:
            dout = dout - dout.mean(axis=0)
        return dout @ w.T, x.T @ dout

    return given(forward, random(4, 3), random(3, 2, seed=1), training=True, backward=backward)
