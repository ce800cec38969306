"""Models of all kinds, and a NumPy reader of the operations that a page carries."""

import time
from typing import Any

import numpy as np

from npgpt.config import GPTConfig
from npgpt.core import Array, Cache, Layer, Param
from npgpt.model import GPT
from npgpt.study.check.cases import of_order_one
from npgpt.study.explain.rules import Operation, Operations
from npgpt.study.explain.score_rules import View
from npgpt.study.trace.tracing import Trace
from npgpt.tokenizer import Tokenizer, WordTokenizer

# name -> settings of the model, length of the text, whether dropout is active
SCHEMES: dict[str, tuple[dict[str, Any], int, bool]] = {
    "learned": ({}, 5, False),
    "one token": ({}, 1, False),
    "rotary": ({"positions": "rotary"}, 14, False),
    "rotary, odd heads": ({"positions": "rotary", "n_embd": 6}, 5, False),
    "alibi": ({"positions": "alibi"}, 5, False),
    "relative bias, beyond the last distance": ({"positions": "relative-bias"}, 14, False),
    "relative keys, beyond the last distance": ({"positions": "relative-keys"}, 14, False),
    "no positions": ({"positions": "none"}, 5, False),
    "sinusoidal": ({"positions": "sinusoidal"}, 5, False),
    "concatenated": ({"combine": "concatenate", "n_position": 4}, 5, False),
    "unprojected": ({"combine": "concatenate-unprojected", "n_position": 4, "tie_weights": False}, 5, False),
    "relu": ({"activation": "relu"}, 5, False),
    "gelu, untied": ({"activation": "gelu", "tie_weights": False}, 5, False),
    "dropout": ({"dropout": 0.2}, 5, True),
}


# Every ledger of some cells of a tensor: whether each agrees, and the terms of gradients as [tensor, cell, slope]
LEDGERS = """([name, cells]) => {
    const tensor = page.tensors.get(name), found = [];
    for (const flat of cells ?? Array.from({ length: tensor.size }, (_, i) => i)) {
        const gradient = tensor.hasGradient ? gradientLedger(page, tensor, flat) : null;
        const value = tensor.makers.length ? valueLedger(tensor, flat) : null;
        found.push({
            gradient: gradient && { isRight: gradient.isRight, sum: gradient.sum, proof: gradient.proof,
                apart: gradient.apart,
                terms: gradient.terms.map((t) => [t.to.name, t.flat, t.slope]) },
            value: value && { isRight: value.isRight, result: value.result } });
    }
    return found;
}"""


class Square(Layer):
    """A reader's layer: y = (a·x)²."""

    def __init__(self) -> None:
        self.a = Param(np.array([3.0]))

    def forward(self, x: Array, cache: Cache) -> Array:
        z = cache.keep("z", self.a.value * x)
        return z * z

    def backward(self, dy: Array, cache: Cache) -> Array:
        dz = cache.note("z", 2 * dy * cache["z"])
        self.a.grad += (dz * cache["z"] / self.a.value).sum()
        return dz * self.a.value


def wait_for(shown: Any, condition: str, seconds: float = 60) -> None:
    """Wait until an expression is true. Playwright's own wait would break the page's Content-Security-Policy."""
    until = time.monotonic() + seconds
    while not shown.evaluate(condition):
        assert time.monotonic() < until, condition
        time.sleep(0.02)


def visit(shown: Any, address: str) -> None:
    """Go to another address of an open page."""
    shown.evaluate("(address) => page.go(address)", address or "#overview")


def rebuilt(made: Trace, rules: Operations) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """Return the values, the gradients by one step of backward each, and which cells an operation computes."""
    stored = {t.name: np.ascontiguousarray(t.value, float) for t in made} | rules.constants | {"loss": made.output}
    given = {t.name: np.ascontiguousarray(t.grad) for t in made if t.grad is not None} | {"loss": made.dy}
    values = {name: np.zeros(x.shape) for name, x in stored.items()}
    grads = {name: np.zeros(x.shape) for name, x in stored.items()}
    covered = {name: np.zeros(x.shape, bool) for name, x in stored.items()}
    for operation in rules.found:
        cells(covered, operation.out, list(operation.out.sizes))[...] = True
        forward_and_back(operation, stored, given, values, grads)
    return values, grads, covered


def cells(arrays: dict[str, Array], view: View, letters: list[str]) -> Array:
    """Return the cells of a view, with an axis for each letter; a letter that the view lacks has the stride 0."""
    array = arrays[view.tensor].reshape(-1)[view.offset :]
    shape = [view.sizes.get(letter, 1) for letter in letters]
    strides = [view.strides.get(letter, 0) * array.itemsize for letter in letters]
    return np.lib.stride_tricks.as_strided(array, shape, strides)


def forward_and_back(
    operation: Operation,
    stored: dict[str, Array],
    given: dict[str, Array],
    values: dict[str, Array],
    grads: dict[str, Array],
) -> None:
    sizes: dict[str, int] = {}
    for view in operation.views():
        sizes |= view.sizes
    letters, out = list(sizes), operation.out
    if operation.kind == "products":
        for product in operation.products:
            used = sorted({letter for view in [out, *product.factors] for letter in view.sizes})
            for at in np.ndindex(*(sizes[letter] for letter in used)):
                index = dict(zip(used, at, strict=True))
                factors = [stored[v.tensor].reshape(-1)[place(v, index)] for v in product.factors]
                values[out.tensor].reshape(-1)[place(out, index)] += product.scale * np.prod(factors)
                for k, view in enumerate(product.factors):
                    others = product.scale * np.prod(factors[:k] + factors[k + 1 :])
                    if view.tensor in given:
                        dy = given[out.tensor].reshape(-1)[place(out, index)]
                        grads[view.tensor].reshape(-1)[place(view, index)] += others * dy
        return
    along = operation.along
    letters = [letter for letter in letters if letter != along] + ([along] if along else [])
    x = cells(stored, operation.ins[0], letters)
    dx, y = cells(grads, operation.ins[0], letters), cells(values, out, letters)
    dy = cells(given, out, letters)
    if operation.kind in ("softmax", "log_softmax"):
        e = np.exp(x - x.max(-1, keepdims=True))
        p = e / e.sum(-1, keepdims=True)
        y[...] = p if operation.kind == "softmax" else np.log(p)
        dx += (
            p * (dy - (dy * p).sum(-1, keepdims=True))
            if operation.kind == "softmax"
            else dy - p * dy.sum(-1, keepdims=True)
        )
    elif operation.kind == "rstd":
        r = 1 / np.sqrt(x.var(-1, keepdims=True) + operation.eps)
        y[...] = r
        dx += -(r**3) * (x - x.mean(-1, keepdims=True)) / x.shape[-1] * dy
    elif operation.kind == "xhat":
        r, centred = cells(stored, operation.ins[1], letters), x - x.mean(-1, keepdims=True)
        y[...] = centred * r
        dx += r * (dy - dy.mean(-1, keepdims=True))
        cells(grads, operation.ins[1], letters)[...] += (dy * centred).sum(-1, keepdims=True)
    elif operation.kind == "relu":
        y[...], dx[...] = np.maximum(x, 0), dx + dy * (x > 0)
    else:
        h = 1e-30  # by the complex step
        z = x + 1j * h
        if operation.kind == "tanh_gelu":
            f = np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))
        else:
            from npgpt.layers.activations import erf

            f = 0.5 * (1 + erf(z / np.sqrt(2)))
        y[...], dx[...] = f.real, dx + dy * f.imag / h


def place(view: View, index: dict[str, int]) -> int:
    return view.offset + sum(stride * index[letter] for letter, stride in view.strides.items())


def small_model(text: str) -> tuple[GPT, Tokenizer]:
    """Return an untrained model of one block with random weights, and a tokenizer of the text's words."""
    tokenizer = WordTokenizer.train(text)
    config = GPTConfig(tokenizer.vocab_size, 16, n_layer=1, n_head=2, n_embd=8)
    return of_order_one(GPT(config, dtype=np.float64), np.random.default_rng(0)), tokenizer
