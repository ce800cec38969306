"""How a model changes while it learns, layer by layer: what to look at when training does not go as it should.

update/weight     how far a step moves a layer's weights, relative to their size: about 1e-3 is healthy
gradient          the norm of its gradient: one that vanishes, or grows, from layer to layer
attention, mlp    the share of each branch: its norm over that of the residual stream that it is added to
spread            the standard deviation of the residual stream after each block
float32 off       how far the compiled pass in float32 is off the textbook's in float64, at the logits
"""

from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.model import GPT
from npgpt.study.trace.tracing import trace


class Recorder:
    """Looks at a model that is being trained.

    Args
        model: as it is trained; nothing of it is changed.
        ids: a text; one window of it is what the activations are measured on.
    """

    def __init__(self, model: GPT, ids: Array) -> None:
        T = min(model.config.context_length, len(ids) - 1)
        self.model, self.x, self.y = model, np.array([ids[:T]]), np.array([ids[1 : T + 1]])
        self._before = model.flat.values.copy()

    def before(self) -> None:
        """Remember the weights, before the step that is recorded."""
        self._before[:] = self.model.flat.values

    def record(self, step: int) -> dict[str, Any]:
        """What is seen after a step."""
        layers: dict[str, dict[str, float]] = {}
        start = 0
        before = {}
        for param in self.model.flat.params:
            before[id(param)] = self._before[start : start + param.value.size].reshape(param.value.shape)
            start += param.value.size
        for path, param in self.model.parameters().items():
            old = before[id(param)].astype(np.float64)
            moved = float(np.linalg.norm(param.value - old))
            size = float(np.linalg.norm(old))
            layers[path] = {
                "gradient": float(np.linalg.norm(param.grad.astype(np.float64))),
                "update_to_weight": moved / size if size else 0.0,
            }
        made = trace(self.model, self.x, self.y)
        blocks = []
        for i in range(self.model.config.n_layer):
            x, attended = made[f"blocks.{i}.x"].value, made[f"blocks.{i}.attended"].value
            middle, transformed = made[f"blocks.{i}.middle"].value, made[f"blocks.{i}.transformed"].value
            blocks.append(
                {
                    "attention": _share(attended, x),
                    "mlp": _share(transformed, middle),
                    "spread": float((middle + transformed).std()),
                }
            )
        off = made["normed"].off if made["normed"].off is not None else made["stream"].off
        return {"step": step, "layers": layers, "blocks": blocks, "float32_off": off}


def _share(branch: Array, stream: Array) -> float:
    return float(np.linalg.norm(branch) / (np.linalg.norm(stream) or 1.0))
