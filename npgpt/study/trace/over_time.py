"""How a model changes during training, layer by layer: numbers that help to find training problems.

update/weight     the norm of a step's update over the norm of the layer's weights: about 1e-3 is healthy
gradient          the norm of the layer's gradient: it should neither vanish nor grow from layer to layer
attention, mlp    the norm of each branch over the norm of the residual stream that it is added to
spread            the standard deviation of the residual stream after each block
float32 off       the relative error of the compiled pass in float32, after the last layer norm or the last block
"""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.errors import DataError, RunError, quote
from npgpt.model import GPT
from npgpt.runs.layout import OLD_RECORD, RECORD, damage
from npgpt.study.trace.tracing import trace
from npgpt.support.compressed import read_bytes
from npgpt.support.files import failures_named, write_atomically
from npgpt.support.json_files import MAX_JSON, field, parse_json
from npgpt.support.pictures import pyplot

OF_LAYERS, OF_BLOCKS = ("gradient", "update_to_weight"), ("attention", "mlp", "spread")


class Recorder:
    """Records a model during training.

    Args
        model: the model in training; it is not changed.
        ids: a text; the activations are measured on its first window.
    """

    def __init__(self, model: GPT, ids: Array) -> None:
        T = min(model.config.context_length, len(ids) - 1)
        self.model, self.x, self.y = model, np.array([ids[:T]]), np.array([ids[1 : T + 1]])
        self.before()

    def before(self) -> None:
        """Save the weights before the recorded step."""
        self._before = {path: param.value.copy() for path, param in self.model.parameters().items()}

    def record(self, step: int) -> dict[str, Any]:
        """Return the numbers of a step, after it."""
        layers: dict[str, dict[str, float]] = {}
        for path, param in self.model.parameters().items():
            old = self._before[path].astype(np.float64)
            moved, size = float(np.linalg.norm(param.value - old)), float(np.linalg.norm(old))
            layers[path] = {
                "gradient": float(np.linalg.norm(param.grad.astype(np.float64))),
                "update_to_weight": moved / size if size else 0.0,
            }
        made = trace(self.model, self.x, self.y)
        blocks = []
        for i in range(self.model.config.n_layer):
            names = "x", "attended", "middle", "transformed"
            x, attended, middle, transformed = (made[f"blocks.{i}.{name}"].value for name in names)
            shares = {"attention": _share(attended, x), "mlp": _share(transformed, middle)}
            blocks.append(shares | {"spread": float((middle + transformed).std())})
        off = made["normed"].off if made["normed"].off is not None else made["stream"].off
        return {"step": step, "layers": layers, "blocks": blocks, "float32_off": off}


def _share(branch: Array, stream: Array) -> float:
    return float(np.linalg.norm(branch) / (np.linalg.norm(stream) or 1.0))


def add_record(folder: Path, row: dict[str, Any]) -> None:
    """Append a row of ``Recorder.record`` to the record of a run. JSON has no infinity and no NaN; they become null."""
    path = folder / RECORD
    with failures_named(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_finite(row), allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_record(folder: Path) -> list[dict[str, Any]]:
    """Return the recorded rows of a run, as ``Recorder.record`` made them.

    Raises
        RunError that names the file, and the line and the field that is damaged; RunError if nothing was recorded.
    """
    path = folder / RECORD
    if not path.is_file() and (folder / OLD_RECORD).is_file():
        path = folder / OLD_RECORD
    if not path.is_file():
        raise RunError(f"{path} is missing; train with `npgpt train --record-every 50` to record it")
    with damage(path):
        lines = read_bytes(path, MAX_JSON).splitlines()
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            rows.append(_checked(parse_json(line, where), rows, where))
        except DataError as error:
            raise RunError(f"{error}; delete the line, or train again") from None
    if not rows:
        raise RunError(f"{path} is empty: the run ended before the first row")
    return rows


def _checked(row: Any, before: list[dict[str, Any]], where: str) -> dict[str, Any]:
    """Return a row with numbers where ``Recorder.record`` has them, of the layers and blocks of the rows before."""
    layers, blocks = field(row, "layers", dict, where), field(row, "blocks", list, where)
    checked: dict[str, Any] = {
        "step": field(row, "step", int, where),
        "layers": {
            name: {what: _number(layer, what, f"{where}: {quote(name)}") for what in OF_LAYERS}
            for name, layer in layers.items()
        },
        "blocks": [
            {what: _number(block, what, f"{where}: block {i}") for what in OF_BLOCKS} for i, block in enumerate(blocks)
        ],
        "float32_off": field(row, "float32_off", float, where) if row.get("float32_off") is not None else None,
    }
    if before and (layers.keys() != before[0]["layers"].keys() or len(blocks) != len(before[0]["blocks"])):
        raise DataError(f"{where} has other layers or blocks than line 1")
    return checked


def _number(record: Any, name: str, where: str) -> float:
    """Return a field that is a number, or null for one that is not finite."""
    if isinstance(record, dict) and name in record and record[name] is None:
        return float("nan")
    number: float = field(record, name, float, where)
    return number


def draw_record(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the rows of a run: gradients, updates, branches and the residual stream over the steps.

    Raises
        ConfigError if matplotlib is not installed.
    """
    plt = pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    steps = [row["step"] for row in rows]
    for name in rows[0]["layers"]:
        if name.endswith("weight"):
            for axis, what in ((axes[0, 0], "gradient"), (axes[0, 1], "update_to_weight")):
                axis.semilogy(steps, [row["layers"][name][what] or float("nan") for row in rows], label=name)
    for i in range(len(rows[0]["blocks"])):
        for what, style in (("attention", "-"), ("mlp", "--")):
            axes[1, 0].plot(steps, [row["blocks"][i][what] for row in rows], style, label=f"block {i}, {what}")
        axes[1, 1].plot(steps, [row["blocks"][i]["spread"] for row in rows], label=f"after block {i}")
    titles = ("norm of the gradient", "update/weight", "branch/residual stream", "spread of the residual stream")
    for axis, title in zip(axes.ravel(), titles, strict=True):
        axis.set(title=title, xlabel="step")
        axis.legend(fontsize=5)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=120, format="png")
    plt.close(figure)
    write_atomically(path, stream.getvalue())
