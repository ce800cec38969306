# B batch, T time, H heads, D head size, C channels, F hidden, V vocabulary; letters: b t h d c f v, i query, j key
"""How every tensor of a GPT's pass is computed, as data: the page of a trace forms the terms of any cell from it.

There are four kinds of operation. Each is defined for one cell of its output; a letter stands for an index:

    products    out = Σ scale · a · b    over the letters that are not the output's: matrix products, sums, residuals
    softmax     out_c = e^(x_c)/Σ_k e^(x_k),  or its logarithm
    norm        out = 1/√(mean((x − mean x)²) + ε),  and x̂_c = (x_c − mean x)·r
    function    out = f(x), element by element

A ``View`` says where the cells of an operand lie: at ``offset + Σ stride·index`` of the flat tensor. So splitting into
heads, a transposition or the row that an id selects need no kind of their own.
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import npgpt.layers as layers
from npgpt.core import Array, Layer
from npgpt.layers import IGNORE_INDEX
from npgpt.model import GPT
from npgpt.study.check.cases import TrainingLoss
from npgpt.study.explain.score_rules import Cut, UnknownLayer, View, scores_of
from npgpt.study.trace.ledger import LOSS
from npgpt.study.trace.passes import TracedPass


@dataclass(frozen=True)
class Product:
    scale: float
    factors: list[View]  # one or two


@dataclass(frozen=True)
class Operation:
    """One step of the forward pass.

    Attributes
        kind: "products", "softmax", "log_softmax", "rstd", "xhat", or a function: "tanh_gelu", "gelu_cdf", "relu".
        layer: path of the layer that computes it.
        along: the letter of a row, for softmax and norm.
        eps: of a norm.
    """

    kind: str
    layer: str
    out: View
    products: list[Product] = field(default_factory=list)
    ins: list[View] = field(default_factory=list)
    along: str = ""
    eps: float = 0.0

    def views(self) -> list[View]:
        return [self.out, *self.ins, *(view for product in self.products for view in product.factors)]


class Operations:
    """The operations of a trace of ``TrainingLoss``, in the order of the forward pass.

    Attributes
        found: the operations.
        first_names: second name of an array or of a shared parameter -> first name.
        constants: name -> fixed numbers that enter a pass and have no gradient.
    Raises
        UnknownLayer if the trace is of another layer, or if a part is of a user's own class.
    """

    def __init__(self, trace: TracedPass) -> None:
        self.found: list[Operation] = []
        self.constants: dict[str, Array] = {}
        self._training = trace.case.training
        self._shapes: dict[str, tuple[int, ...]] = {tensor.name: tensor.value.shape for tensor in trace} | {LOSS: ()}
        gpt = gpt_of(trace)
        self.first_names = trace.aliases | tied_names(gpt)
        self._gpt(gpt, trace.case.inputs["ids"], trace.case.inputs["targets"])

    # What the operations are written with

    def _view(self, name: str, letters: str, cut: Cut = lambda cells: cells) -> View:
        """Return the view of a tensor after ``cut``, which must not copy; a letter names each axis, "." is no name."""
        name = self.first_names.get(name, name)
        cells = np.empty(self._shapes[name], np.int8)  # its strides count cells
        part = cut(cells)
        start, first = (array.__array_interface__["data"][0] for array in (cells, part))
        axes = [(letter, axis) for axis, letter in enumerate(letters) if letter != "."]
        sizes = {letter: part.shape[axis] for letter, axis in axes}
        last = first + sum((sizes[letter] - 1) * part.strides[axis] for letter, axis in axes)
        if part.size and not (start <= min(first, last) and max(first, last) < start + cells.size):
            raise AssertionError(f"{name}: {cut} makes a copy")
        return View(name, first - start, {letter: part.strides[axis] for letter, axis in axes}, sizes)

    def _constant(self, name: str, value: Array) -> str:
        self.constants[name] = np.ascontiguousarray(value, float)
        self._shapes[name] = value.shape
        return name

    def _add(self, layer: str, out: View, *products: tuple[float, list[View]]) -> None:
        self.found.append(Operation("products", layer, out, [Product(scale, views) for scale, views in products]))

    def _apply(self, kind: str, layer: str, out: View, *ins: View, along: str = "", eps: float = 0.0) -> None:
        self.found.append(Operation(kind, layer, out, [], list(ins), along, eps))

    # The layers, in the order of the forward pass

    def _gpt(self, gpt: GPT, ids: Array, targets: Array) -> None:
        if ids.ndim == 2:
            _exactly(gpt.embedding, layers.Embedding)
            for b, t in np.ndindex(ids.shape):
                row = self._view("embedding.weight", "c", partial(_item, ids[b, t]))
                self._add("embedding", self._view("embedded", "c", partial(_item, (b, t))), (1.0, [row]))
        self._positions(gpt.positions, ids.shape[1])
        self._dropout(gpt.dropout, "dropout", "positioned", "blocks.0.x", "btc")
        for i, block in enumerate(gpt.blocks):
            after = f"blocks.{i + 1}.x" if i + 1 < len(gpt.blocks) else "stream"
            self._block(_exactly(block, layers.Block), f"blocks.{i}", after)
        self._norm(gpt.norm, "norm", "stream", "normed")
        _exactly(gpt.lm_head, layers.VocabularyHead)
        factors = [self._view("normed", "btc"), self._view("lm_head.weight", "vc")]
        self._add("lm_head", self._view("logits", "btv"), (1.0, factors))
        _exactly(gpt.cross_entropy, layers.CrossEntropy)
        logs = "cross_entropy.log_probabilities"
        self._apply("log_softmax", "cross_entropy", self._view(logs, "btv"), self._view("logits", "btv"), along="v")
        counted = [(b, t, slice(v, v + 1)) for (b, t), v in np.ndenumerate(targets) if v != IGNORE_INDEX]
        picked = [self._view(logs, ".", partial(_item, cell)) for cell in counted]
        self._add("cross_entropy", self._view(LOSS, ""), *((-1 / len(counted), [view]) for view in picked))

    def _positions(self, positions: Layer, T: int) -> None:
        x, out = self._view("embedded", "btc"), self._view("positioned", "btc")
        if type(positions) is layers.NoPositions:
            return  # positioned is another name of embedded
        if type(positions) is not layers.ConcatenatedPositions:
            self._add("positions", out, (1.0, [x]), (1.0, [self._vectors(positions, "positions", T)]))
            return
        C, both = positions.n_embd, "positions.both"
        beside = self._view("positions.beside", "btc")
        self._add("positions.vectors", beside, (1.0, [self._vectors(positions.vectors, "positions.vectors", T)]))
        self._add("positions", self._view(both, "btc", lambda x: x[..., :C]), (1.0, [x]))
        self._add("positions", self._view(both, "btc", lambda x: x[..., C:]), (1.0, [beside]))
        if positions.projection:
            out = self._view("positioned", "btf")
            self._linear(positions.projection, "positions.projection", self._view(both, "btc"), out)

    def _vectors(self, positions: Layer, path: str, T: int) -> View:
        if type(positions) is layers.LearnedPositions:
            return self._view(f"{path}.weight", "tc", lambda weight: weight[:T])
        fixed: layers.SinusoidalPositions = _exactly(positions, layers.SinusoidalPositions)
        return self._view(self._constant(f"{path}.table", fixed.table(np.empty((1, T, fixed.n_embd)))), "tc")

    def _dropout(self, dropout: Layer, path: str, x: str, out: str, letters: str) -> None:
        """Add dropout if it is active in this pass. Otherwise ``out`` is another name of ``x``."""
        p = _exactly(dropout, layers.Dropout).p
        if self._training and p:
            factors = [self._view(x, letters), self._view(f"{path}.mask", letters)]
            self._add(path, self._view(out, letters), (1 / (1 - p), factors))

    def _block(self, block: layers.Block, path: str, after: str) -> None:
        x, attended, middle, transformed = (f"{path}.{name}" for name in ("x", "attended", "middle", "transformed"))
        self._norm(block.attention_norm, f"{path}.attention_norm", x, f"{path}.attention_input")
        self._attention(_exactly(block.attention, layers.Attention), f"{path}.attention", f"{path}.attention_input")
        self._dropout(
            block.attention.residual_dropout, f"{path}.attention.residual_dropout",
            f"{path}.attention.projected", attended, "btc",
        )  # fmt: skip
        self._add(path, self._view(middle, "btc"), *((1.0, [self._view(name, "btc")]) for name in (x, attended)))
        self._norm(block.mlp_norm, f"{path}.mlp_norm", middle, f"{path}.mlp_input")
        self._mlp(_exactly(block.mlp, layers.MLP), f"{path}.mlp", f"{path}.mlp_input", transformed)
        self._add(path, self._view(after, "btc"), *((1.0, [self._view(n, "btc")]) for n in (middle, transformed)))

    def _norm(self, norm: Layer, path: str, x: str, out: str) -> None:
        eps = _exactly(norm, layers.LayerNorm).eps
        rstd, xhat = self._view(f"{path}.rstd", "bt."), self._view(f"{path}.xhat", "btc")
        self._apply("rstd", path, rstd, self._view(x, "btc"), along="c", eps=eps)
        self._apply("xhat", path, xhat, self._view(x, "btc"), rstd, along="c")
        gain, bias = self._view(f"{path}.gain", "c"), self._view(f"{path}.bias", "c")
        self._add(path, self._view(out, "btc"), (1.0, [xhat, gain]), (1.0, [bias]))

    def _linear(self, linear: Layer, path: str, x: View, out: View, letters: str = "f", first: int = 0) -> None:
        """Add a linear map of ``x``. Its outputs from ``first`` on have these letters in ``out``."""
        _exactly(linear, layers.Linear)
        shape = tuple(out.sizes[letter] for letter in letters)
        part = slice(first, first + math.prod(shape))
        weight = self._view(f"{path}.weight", f"c{letters}", lambda weight: weight[:, part].reshape(-1, *shape))
        bias = self._view(f"{path}.bias", letters, lambda bias: bias[part].reshape(shape))
        self._add(path, out, (1.0, [x, weight]), (1.0, [bias]))

    def _attention(self, attention: layers.Attention, path: str, x: str) -> None:
        C = len(attention.qkv.weight.value)
        for part, name in enumerate("qkv"):
            out = self._view(f"{path}.{name}", "bhtd")
            self._linear(attention.qkv, f"{path}.qkv", self._view(x, "btc"), out, "hd", part * C)
        scores_of(self._view, self._add, self._constant, attention.score, path)
        weights = f"{path}.softmax.weights"
        _exactly(attention.softmax, layers.Softmax)
        for i in range(self._shapes[f"{path}.q"][2]):  # a query attends to itself and to the tokens before it
            row = [self._view(n, "bhj", partial(_item, np.s_[:, :, i, : i + 1])) for n in (weights, f"{path}.scores")]
            self._apply("softmax", f"{path}.softmax", *row, along="j")
        self._dropout(attention.dropout, f"{path}.dropout", weights, f"{path}.dropped", "bhij")
        _exactly(attention.mixing, layers.Mixing)
        mixed, factors = self._view(f"{path}.mixed", "bhid"), [f"{path}.dropped", f"{path}.v"]
        self._add(f"{path}.mixing", mixed, (1.0, [self._view(factors[0], "bhij"), self._view(factors[1], "bhjd")]))
        heads = (mixed.sizes["h"], mixed.sizes["d"])
        merged = f"{path}.projection.x"
        split = self._view(merged, "bihd", lambda x: x.reshape(*x.shape[:2], *heads))
        self._add(path, split, (1.0, [mixed]))
        out = self._view(f"{path}.projected", "btf")
        self._linear(attention.projection, f"{path}.projection", self._view(merged, "btc"), out)

    def _mlp(self, mlp: layers.MLP, path: str, x: str, after: str) -> None:
        hidden, active, projected = (f"{path}.{name}" for name in ("hidden", "active", "projected"))
        self._linear(mlp.up, f"{path}.up", self._view(x, "btc"), self._view(hidden, "btf"))
        where, z, y = f"{path}.activation", self._view(hidden, "btf"), self._view(active, "btf")
        if type(mlp.activation) is layers.ReLU:
            self._apply("relu", where, y, z)
        elif type(mlp.activation) is layers.TanhGELU:
            tanh = self._view(f"{where}.tanh", "btf")
            self._apply("tanh_gelu", where, tanh, z)
            self._add(where, y, (0.5, [z]), (0.5, [z, tanh]))
        else:
            _exactly(mlp.activation, layers.GELU)
            cdf = self._view(f"{where}.cdf", "btf")
            self._apply("gelu_cdf", where, cdf, z)
            self._add(where, y, (1.0, [z, cdf]))
        self._linear(mlp.down, f"{path}.down", self._view(active, "btc"), self._view(projected, "btf"))
        self._dropout(mlp.dropout, f"{path}.dropout", projected, after, "btc")


def operations_of(trace: TracedPass) -> Operations | None:
    """Return the operations of a trace; None if it has documents, or a part that is none of npgpt's own layers."""
    try:
        return None if trace.case.documents is not None else Operations(trace)
    except UnknownLayer:
        return None


def _exactly(layer: Any, kind: type) -> Any:
    if type(layer) is not kind:
        raise UnknownLayer(type(layer).__name__)
    return layer


def gpt_of(trace: TracedPass) -> GPT:
    """Return the model of a trace of its loss.

    Raises
        UnknownLayer if the trace is of another layer.
    """
    gpt: GPT = _exactly(_exactly(trace.case.layer, TrainingLoss).gpt, GPT)
    return gpt


def tied_names(gpt: GPT) -> dict[str, str]:
    """Return the second name of a shared Param -> its first name."""
    first: dict[int, str] = {}
    return {path: name for path, _, param in gpt.slots() if (name := first.setdefault(id(param), path)) != path}


def _item(index: Any, cells: Array) -> Array:
    part: Array = cells[index]
    return part
