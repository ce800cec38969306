"""The layers beside the GPT against PyTorch's autograd, in float64: squared error, LoRA, a classifier's head."""

import numpy as np
import pytest

from npgpt.core import Cache
from npgpt.layers import CrossEntropy, Linear, LoRA, MeanSquaredError
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
