# B batch, T time, H heads, D head size
"""How many digits of attention's gradients are right, as the scores grow, beside PyTorch and the textbook layers?

    python benchmarks/bench_attention_gradients.py [--length T] [--quick] [--json FILE]

Everything is float32, against the textbook layers in float64 for the same operands: the largest relative error of dq,
dk and dv, each by its norm. First all products q·k are exact in float32, so errors are the kernels' own. Then they are
not: each side rounds them at the size of the scores, which no kernel can mend. Last, what the gradients of the queries
and keys are if only the first output, whose query sees one key, has an upstream gradient: exactly 0 is right.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from peers import HAS_TORCH, JSON, Numpy, Report

from npgpt.core import Array, Cache
from npgpt.kernels import attention, attention_backward
from npgpt.kernels.attention import NO_BIAS, NO_STARTS, forward_size
from npgpt.kernels.attention_backward import backward_size
from npgpt.layers import Mixing, Scores, Softmax
from npgpt.machine.pool import get_num_threads, pool

SIZES = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7)
B, H = 2, 2
Operands = list[Array]  # q, k, v and dm, each (B, H, T, D)


def exact_products(size: float, T: int, D: int) -> Operands:
    """Scores are near ``size`` or ``-size``. All q·k are multiples of ``unit`` that float32 holds exactly."""
    rng = np.random.default_rng(D)
    q, k = np.zeros((2, B, H, T, D))
    few, unit = min(D - 1, 6), 2 ** math.ceil(math.log2(D) / 2)
    q[..., :few] = unit * rng.integers(-1, 2, (B, H, T, few))
    k[..., :few] = rng.integers(-1, 2, (B, H, T, few))
    q[..., -1] = unit * round(size * math.sqrt(D) / unit) * rng.choice([-1, 1], (B, H, T))
    k[..., -1] = 1
    return [q, k, *rng.standard_normal((2, B, H, T, D), np.float32)]


def rounded_products(size: float, T: int, D: int) -> Operands:
    """Scores of normal numbers, shifted by ``size``."""
    q, k, v, dm = np.random.default_rng(D).standard_normal((4, B, H, T, D), np.float32)
    q[..., 0], k[..., 0] = size * math.sqrt(D), 1
    return [q, k, v, dm]


def by_kernel(q: Array, k: Array, v: Array, dm: Array, p: float = 0.0) -> Array:
    """Return dq, dk and dv as one array (3, B, H, T, D).

    Args
        p: probability of dropping a weight.
    """
    B, H, T, D = q.shape
    qkv = np.stack([q, k, v]).transpose(1, 3, 0, 2, 4).astype(np.float32, "C").reshape(B * T, 3 * H * D)
    dmixed = dm.transpose(0, 2, 1, 3).astype(np.float32, "C").reshape(B * T, H * D)
    mixed, dqkv, (largest, totals) = np.empty_like(dmixed), np.empty_like(qkv), np.empty((2, B * H * T), np.float32)
    options: tuple[Any, ...] = np.arange(5, 5 + B), round(p * 2**32), 1 / (1 - p), NO_BIAS
    works = [np.empty((get_num_threads(), size(T, D)), np.float32) for size in (forward_size, backward_size)]
    attention.forward(pool(), qkv, qkv, qkv, H, T, T, mixed, largest, totals, *options, NO_STARTS, works[0])
    options = *options, NO_BIAS, NO_STARTS
    attention_backward.backward(pool(), dmixed, qkv, largest, totals, H, T, dqkv, *options, works[1])
    return dqkv.reshape(B, T, 3, H, D).transpose(2, 0, 3, 1, 4)


def by_textbook(q: Array, k: Array, v: Array, dm: Array, dtype: Any = np.float32) -> Array:
    q, k, v, dm = (x.astype(dtype) for x in (q, k, v, dm))
    scores, softmax, mixing, cache = Scores(), Softmax(), Mixing(), Cache()
    s = scores.forward(q, k, cache.scope("scores"))
    mixing.forward(softmax.forward(s, cache.scope("softmax")), v, cache.scope("mixing"))
    dw, dv = mixing.backward(dm, cache.scope("mixing"))
    return np.stack([*scores.backward(softmax.backward(dw, cache.scope("softmax")), cache.scope("scores")), dv])


def by_torch(q: Array, k: Array, v: Array, dm: Array) -> Array:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    operands = [torch.from_numpy(x.astype(np.float32)).requires_grad_() for x in (q, k, v)]
    scaled_dot_product_attention(*operands, is_causal=True).backward(torch.from_numpy(dm.astype(np.float32)))
    return np.stack([x.grad.numpy() for x in operands])


def difference(got: Array, right: Array) -> float:
    """Return the largest difference of dq, dk and dv, each over its norm."""
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(got, right, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="How many digits of attention's gradients are right?")
    parser.add_argument("--length", type=int, default=256, metavar="T", help="tokens of an example (256)")
    parser.add_argument("--quick", action="store_true", help="one head size instead of three: to see that it runs")
    parser.add_argument("--json", **JSON)
    options = parser.parse_args()
    report = Report()
    print("# NumPy:", ", ".join(f"{name} {value}" for name, value in Numpy(1).about().items()))
    sides: dict[str, Callable[..., Array]] = {"npgpt compiled": by_kernel, "npgpt textbook": by_textbook}
    if HAS_TORCH:
        import torch

        print(f"# PyTorch: version {torch.__version__}, vectors {torch.backends.cpu.get_cpu_capability()}")
        sides["PyTorch"] = by_torch
    T = options.length
    titles = "".join(f"{name:>18}" for name in sides)
    for make, title in ((exact_products, "exact in float32"), (rounded_products, "rounded")):
        for D in (64,) if options.quick else (16, 32, 64):
            print(f"\nproducts q·k {title}; {T} tokens, {H} heads of {D} channels\n{'|score|':<9}{titles}")
            for size in SIZES:
                operands = make(size, T, D)
                right = by_textbook(*operands, dtype=np.float64)
                errors = {name: difference(side(*operands), right) for name, side in sides.items()}
                report.rows.append({"products": title, "D": D, "score": size, "errors": errors})
                print(f"{size:<9.0e}" + "".join(f"{error:18.1e}" for error in errors.values()), flush=True)
    print(f"\none visible key; largest |dq| or |dk|, of order-one operands\n{'D':<9}{titles}")
    for D in (64,) if options.quick else (16, 32, 64):
        operands = rounded_products(1.0, T, D)
        operands[-1][:, :, 1:] = 0
        left = {name: float(np.abs(side(*operands)[:2]).max()) for name, side in sides.items()}
        report.rows.append({"one visible key": left, "D": D})
        print(f"{D:<9}" + "".join(f"{noise:18.1e}" for noise in left.values()))
    report.write(options.json)


if __name__ == "__main__":
    main()
