"""The whole model against PyTorch's autograd: the same function written in PyTorch, in float64."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from npgpt.build import twin
from npgpt.config import GPTConfig
from npgpt.core import Cache
from npgpt.layers import IGNORE_INDEX
from npgpt.model import GPT
from npgpt.study.check.cases import of_order_one

pytestmark = pytest.mark.peers

# As people train: more blocks than two, a power of two of heads, a full context, more ids than a kernel's tile.
CONFIG = GPTConfig(vocab_size=70, context_length=12, n_layer=3, n_head=4, n_embd=12)


def torch_loss(config: GPTConfig, p: dict[str, Any], ids: Any, targets: Any, eps: float) -> Any:
    """GPT-2's forward pass in torch operations."""
    import torch.nn.functional as F  # noqa: N812

    C, H = config.n_embd, config.n_head
    bend = {"gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "gelu": F.gelu, "relu": F.relu}[config.activation]
    B, T = ids.shape
    x = F.embedding(ids, p["embedding.weight"]) + p["positions.weight"][:T]
    for i in range(config.n_layer):
        b = f"blocks.{i}."
        y = F.layer_norm(x, (C,), p[b + "attention_norm.gain"], p[b + "attention_norm.bias"], eps)
        qkv = y @ p[b + "attention.qkv.weight"] + p[b + "attention.qkv.bias"]
        q, k, v = (part.view(B, T, H, C // H).transpose(1, 2) for part in qkv.split(C, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C)
        x = x + y @ p[b + "attention.projection.weight"] + p[b + "attention.projection.bias"]
        y = F.layer_norm(x, (C,), p[b + "mlp_norm.gain"], p[b + "mlp_norm.bias"], eps)
        y = bend(y @ p[b + "mlp.up.weight"] + p[b + "mlp.up.bias"])
        x = x + y @ p[b + "mlp.down.weight"] + p[b + "mlp.down.bias"]
    x = F.layer_norm(x, (C,), p["norm.gain"], p["norm.bias"], eps)
    logits = x @ p.get("lm_head.weight", p["embedding.weight"]).T
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX)


@pytest.mark.parametrize(("layers", "tolerance"), [("textbook", 1e-11), ("compiled", 2e-5)])
@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu", "relu"])
@pytest.mark.parametrize("tie_weights", [True, False])
def test_loss_and_gradients_equal_autograd(layers: str, tolerance: float, activation: str, tie_weights: bool) -> None:
    import torch

    random = np.random.default_rng(0)
    config = dataclasses.replace(CONFIG, activation=activation, tie_weights=tie_weights)
    model = of_order_one(GPT(config, dtype=np.float64), random)
    ids, targets = random.integers(0, 70, (2, 3, 12))
    targets[random.random(targets.shape) < 0.3] = IGNORE_INDEX
    params = {path: torch.tensor(param.value, requires_grad=True) for path, param in model.parameters().items()}
    theirs = torch_loss(config, params, torch.tensor(ids), torch.tensor(targets), model.norm.eps)
    theirs.backward()

    if layers == "compiled":
        model = twin(model.astype(np.float32))
    cache = Cache()
    loss = model.loss(ids, targets, cache)
    model.loss_backward(1.0, cache)
    assert math.isclose(loss, theirs.item(), rel_tol=tolerance)
    for path, param in model.parameters().items():
        grad = params[path].grad.numpy()
        off = np.linalg.norm(param.grad - grad) / (np.linalg.norm(grad) + 1e-3 * np.linalg.norm(model.flat.grads))
        assert off < tolerance, f"{path}: {off:.1e}"
