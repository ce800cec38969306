"""The peer of ``npgpt.model.GPT``: the same model as one writes it in PyTorch, to be measured beside ours.

Names are those of npgpt's layers.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, C: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.qkv, self.projection = nn.Linear(C, 3 * C), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(attend(self.qkv(x), self.n_head))


def attend(qkv: Tensor, n_head: int) -> Tensor:
    """(B, T, 3·C) -> (B, T, C) by PyTorch's fused attention."""
    B, T, n = qkv.shape
    q, k, v = (part.view(B, T, n_head, -1).transpose(1, 2) for part in qkv.split(n // 3, dim=2))
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return mixed.transpose(1, 2).reshape(B, T, n // 3)


class MLP(nn.Module):
    def __init__(self, C: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, C: int, n_head: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(C), nn.LayerNorm(C)
        self.attention, self.mlp = Attention(C, n_head), MLP(C)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    """Of the same sizes as npgpt's, with the head tied to the embedding."""

    def __init__(self, V: int, T: int, n_layer: int, n_head: int, C: int) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(V, C), nn.Embedding(T, C)
        self.blocks = nn.ModuleList([Block(C, n_head) for _ in range(n_layer)])
        self.norm = nn.LayerNorm(C)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The mean loss."""
        x = self.embedding(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.embedding.weight)
        return functional.cross_entropy(logits.flatten(0, -2), targets.flatten())

    def load(self, weights: Any) -> None:
        """Take npgpt's weights, by their paths there; its linear layers have them the other way round."""
        modules = dict(self.named_modules())
        with torch.no_grad():
            for path, param in self.named_parameters():
                owner = modules[path.rpartition(".")[0]]
                name = path.replace(".weight", ".gain") if isinstance(owner, nn.LayerNorm) else path
                value = np.asarray(weights[name])
                param.copy_(torch.from_numpy(value.T if isinstance(owner, nn.Linear) and value.ndim == 2 else value))


def make_optimizer(params: list[Tensor], learning_rate: float, beta2: float = 0.95) -> torch.optim.Optimizer:
    """AdamW with npgpt's settings: in one fused pass, weight decay on matrices alone."""
    groups = [
        {"params": [param for param in params if param.ndim >= 2], "weight_decay": 0.1},
        {"params": [param for param in params if param.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, beta2), eps=1e-8, fused=True)
