"""Layers against PyTorch's autograd, in float64: squared error, LoRA, a classifier's head, attention in packed rows."""

import numpy as np
import pytest

from npgpt.build import twin
from npgpt.core import Cache
from npgpt.layers import Attention, CrossEntropy, Linear, LoRA, MeanSquaredError
from npgpt.study.check.cases import of_order_one

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)])
def test_mean_squared_error(shape: tuple[int, ...]) -> None:
    import torch

    y, t = np.random.default_rng(0).normal(size=(2, *shape))
    theirs = [torch.tensor(x, requires_grad=True) for x in (y, t)]
    loss = torch.nn.functional.mse_loss(*theirs)
    (3 * loss).backward()
    ours, cache = MeanSquaredError(), Cache()
    assert float(ours.forward(y, t, cache)) == pytest.approx(loss.item(), rel=1e-15)
    for grad, their in zip(ours.backward(3.0, cache), theirs, strict=True):
        assert np.abs(grad - their.grad.numpy()).max() < 1e-15


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_lora(rank: int) -> None:
    import torch

    rng = np.random.default_rng(rank)
    ours = of_order_one(LoRA(of_order_one(Linear(6, 8), rng), rank, alpha=5.0), rng)
    x, dy = rng.normal(size=(2, 4, 6)), rng.normal(size=(2, 4, 8))
    tx, ta, tb = (torch.tensor(a, requires_grad=True) for a in (x, ours.A.value, ours.B.value))
    y = tx @ torch.tensor(ours.W.copy()) + torch.tensor(ours.b.copy()) + 5.0 / rank * (tx @ ta @ tb)
    y.backward(torch.tensor(dy))
    cache = Cache()
    assert np.abs(ours.forward(x, cache) - y.detach().numpy()).max() < 1e-13
    for grad, their in ((ours.backward(dy, cache), tx), (ours.A.grad, ta), (ours.B.grad, tb)):
        assert np.abs(grad - their.grad.numpy()).max() < 1e-12


def test_a_classifiers_head_on_the_last_token() -> None:
    import torch

    rng = np.random.default_rng(0)
    h, last, classes = rng.normal(size=(5, 7, 6)), rng.integers(0, 7, 5), rng.integers(0, 4, 5)
    head, cross_entropy, cache = of_order_one(Linear(6, 4), rng), CrossEntropy(), Cache()
    logits = head.forward(h[np.arange(5), last], cache.scope("head"))
    loss = cross_entropy.forward(logits, classes, None, cache.scope("loss"))
    dh = np.zeros_like(h)
    dh[np.arange(5), last] = head.backward(cross_entropy.backward(1.0, cache.scope("loss")), cache.scope("head"))
    th, tw, tb = (torch.tensor(a, requires_grad=True) for a in (h, head.weight.value, head.bias.value))
    theirs = torch.nn.functional.cross_entropy(th[torch.arange(5), torch.tensor(last)] @ tw + tb, torch.tensor(classes))
    theirs.backward()
    assert float(loss) == pytest.approx(theirs.item(), rel=1e-14)
    for grad, their in ((dh, th), (head.weight.grad, tw), (head.bias.grad, tb)):
        assert np.abs(grad - their.grad.numpy()).max() < 1e-14


@pytest.mark.parametrize("lengths", [[5, 1, 9], [40, 100, 3]])
def test_packed_documents_are_a_block_diagonal_mask(lengths: list[int]) -> None:
    import torch

    T, C, H, rng = sum(lengths), 8, 2, np.random.default_rng(0)
    ours, documents = of_order_one(Attention(C, H), rng), np.repeat(np.arange(len(lengths)), lengths)
    x, dy = rng.normal(size=(2, 2, T, C))
    weights = ours.qkv.weight, ours.qkv.bias, ours.projection.weight, ours.projection.bias
    tx, w, b, wp, bp = (torch.tensor(a, requires_grad=True) for a in (x, *(weight.value for weight in weights)))
    q, k, v = (tx @ w + b).reshape(2, T, 3, H, C // H).permute(2, 0, 3, 1, 4)
    mask = torch.block_diag(*(torch.ones(n, n, dtype=torch.bool).tril() for n in lengths))
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    y = mixed.transpose(1, 2).reshape(2, T, C) @ wp + bp
    y.backward(torch.tensor(dy))
    for layer, allowed in ((ours, 1e-12), (twin(ours.astype(np.float32)), 2e-6)):
        cache, dtype = Cache(documents=np.stack([documents] * 2)), layer.qkv.weight.value.dtype
        assert np.abs(layer.forward(x.astype(dtype), cache) - y.detach().numpy()).max() < allowed * y.abs().max().item()
        dx = layer.backward(dy.astype(dtype), cache)
        grads = [dx, *(weight.grad for weight in (layer.qkv.weight, layer.projection.weight, layer.projection.bias))]
        for grad, their in zip(grads, (tx, w, wp, bp), strict=True):
            assert np.abs(grad - their.grad.numpy()).max() < allowed * np.abs(grad).max()
