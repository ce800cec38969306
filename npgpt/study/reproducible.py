"""The same bits: small GPTs are trained, and what they have learned becomes one hash, to compare with others.

It is the same for any number of threads, in a forked child, and on every CPU, whatever NumPy, its BLAS and the C
library make of that CPU: on the way to the weights, all of them do integers and + − × ÷ and square roots at most.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
from numpy._core import _multiarray_umath as numpy_kernels  # type: ignore[attr-defined]

from npgpt.build import can_compile, make_gpt
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Array
from npgpt.errors import NpgptError
from npgpt.model import GPT
from npgpt.optim import AdamW
from npgpt.rng import make_key, random_bits
from npgpt.train import optimizer_of, training_steps

# Sizes at which tiles and registers are cut off at their ends. The first has an MLP so wide (528) that a product goes
# through more than one block of k, and threads share it; the second a context of several tiles of attention.
MODELS = (
    GPTConfig(37, 11, n_layer=2, n_head=3, n_embd=132, dropout=0.1, activation="gelu_tanh"),
    GPTConfig(37, 75, n_layer=2, n_head=3, n_embd=24, dropout=0.2, activation="gelu", tie_weights=False),
    GPTConfig(37, 11, n_layer=1, n_head=3, n_embd=21, dropout=0.3, activation="relu"),
)
STEPS = 20

# What makes libraries leave out what this CPU has: OpenBLAS, the C library, and NumPy, which has its own names for it.
PLAIN_LIBRARIES = {
    "OPENBLAS_CORETYPE": "Nehalem",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
    "NPY_DISABLE_CPU_FEATURES": " ".join(numpy_kernels.__cpu_dispatch__),
}


def training(steps: int) -> TrainConfig:
    """Everything that a step can do: a rising and a falling rate, micro-batches of unequal size, decay, clipping."""
    return TrainConfig(
        steps=steps, batch_size=5, micro_batches=2, learning_rate=0.01, warmup_steps=5, grad_clip=1.4, seed=3
    )


def text(n: int = 400) -> Array:
    """Ids that can be learned: each follows from the one before it, but for every fourth, which is random."""
    random = random_bits(make_key("bits"), np.arange(n, dtype=np.uint32))
    ids = np.zeros(n, np.int64)
    for i in range(1, n):
        ids[i] = (5 * ids[i - 1] + 3) % 37 if random[i] % 4 else random[i] // 4 % 37
    return ids


def need_kernels() -> None:
    """Refuse to go on where textbook layers would compute instead, whose bits are nobody's promise.

    Raises
        NpgptError, after the warning that says why.
    """
    if not can_compile():
        raise NpgptError("kernels cannot be compiled here")


def train(config: GPTConfig, steps: int) -> tuple[GPT, AdamW, list[float]]:
    """A compiled GPT after so many steps, the optimizer with its moments, which ``npgpt.train`` does not show, and what
    is float64 on the way: learning rates, norms of gradients, powers of beta. When they are rounded to float32, their
    last bits are mostly lost, and so would not be seen in the weights.
    """
    need_kernels()
    settings = training(steps)
    model = make_gpt(config, "compiled", settings.seed)
    optimizer = optimizer_of(model, settings)
    numbers = []
    for step in training_steps(model, text(), settings, optimizer):
        numbers += [step.learning_rate, step.grad_norm, optimizer.power1, optimizer.power2]
    return model, optimizer, numbers


def weights_hash(steps: int = STEPS, threads: int | None = None) -> str:
    """SHA-256 of what ``train`` returns for each of ``MODELS``, after so many steps by so many threads.

    Raises
        NpgptError if kernels cannot be compiled here.
    """
    need_kernels()
    from npgpt.machine.pool import get_num_threads, set_num_threads

    code, before = hashlib.sha256(), get_num_threads()
    set_num_threads(threads or before)
    try:
        for config in MODELS:
            model, optimizer, numbers = train(config, steps)
            for vector in (model.flat.values, optimizer.mean, optimizer.square):
                code.update(vector.astype("<f4", copy=False).tobytes())
            code.update(np.array(numbers, "<f8").tobytes())
    finally:
        set_num_threads(before)
    return code.hexdigest()


def hash_elsewhere(steps: int, threads: int, variables: Mapping[str, str]) -> tuple[str, str]:
    """(tile, hash) of ``weights_hash`` in a process of its own, with other environment variables.

    Raises
        NpgptError if kernels cannot be compiled here, or that process fails: with the end of what it said.
    """
    need_kernels()
    program = (
        "from npgpt.machine.tile import TILE; from npgpt.study.reproducible import weights_hash; "
        f"print(TILE.name, weights_hash({steps}, {threads}), sep='\\n')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | dict(variables), capture_output=True, encoding="utf-8"
    )
    if ran.returncode:
        raise NpgptError(f"a process with {dict(variables)} ended with {ran.returncode}: {ran.stderr[-1000:]}")
    tile, found = ran.stdout.splitlines()
    return tile, found
