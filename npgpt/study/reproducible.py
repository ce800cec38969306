"""The same bits: small GPTs are trained, and their weights give one hash, to compare with other machines.

The hash is the same for any number of threads, in a forked child, and on every CPU. NumPy, its BLAS and the C library
choose code by CPU, but they compute only integers and + − × ÷ and square roots of the numbers that reach the weights.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version

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
from npgpt.version import __version__

# Sizes that leave partial tiles and registers. In the first model the MLP is so wide (528) that a product takes more
# than one block of k, and threads share it. In the second the context takes several tiles of attention.
MODELS = (
    GPTConfig(37, 11, n_layer=2, n_head=3, n_embd=132, dropout=0.1, activation="gelu_tanh"),
    GPTConfig(37, 75, n_layer=2, n_head=3, n_embd=24, dropout=0.2, activation="gelu", tie_weights=False),
    GPTConfig(37, 11, n_layer=1, n_head=3, n_embd=21, dropout=0.3, activation="relu"),
)
STEPS = 20

# ``weights_hash()`` with these versions. A change of npgpt that changes bits on purpose changes it.
REFERENCE = {"npgpt": "0.1.0", "numpy": "2.4.6", "numba": "0.68.1", "llvm": "22.1.0"}
REFERENCE_HASH = "945b3e160c6de50fef03910ff7eb7b865b0d370199f59f084c09f558eede21bb"

# Settings that make OpenBLAS, the C library and NumPy ignore this CPU's newer instructions.
PLAIN_LIBRARIES = {
    "OPENBLAS_CORETYPE": "Nehalem",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
    "NPY_DISABLE_CPU_FEATURES": " ".join(numpy_kernels.__cpu_dispatch__),
}


def training(steps: int) -> TrainConfig:
    """Return settings that use every part of a step: warm-up, cosine, unequal micro-batches, decay, clipping."""
    return TrainConfig(
        steps=steps, batch_size=5, micro_batches=2, learning_rate=0.01, warmup_steps=5, grad_clip=1.4, seed=3
    )


def text(n: int = 400) -> Array:
    """Return ids that can be learned: each follows from the one before it; about every fourth is random."""
    random = random_bits(make_key("bits"), np.arange(n, dtype=np.uint32))
    ids = np.zeros(n, np.int64)
    for i in range(1, n):
        ids[i] = (5 * ids[i - 1] + 3) % 37 if random[i] % 4 else random[i] // 4 % 37
    return ids


def need_kernels() -> None:
    """Raise where kernels cannot be compiled: the bits of the textbook layers are not promised.

    Raises
        NpgptError, after a warning with the reason.
    """
    if not can_compile():
        raise NpgptError("kernels cannot be compiled here")


def versions_here() -> dict[str, str]:
    """Return the versions on which the hash may depend, by the names of ``REFERENCE``."""
    from npgpt.machine.numba_internals import llvm_version

    return {"npgpt": __version__, "numpy": np.__version__, "numba": version("numba"), "llvm": llvm_version()}


def train(config: GPTConfig, steps: int) -> tuple[GPT, AdamW, list[float]]:
    """Train a compiled GPT. Return it, its optimizer (for the moments), and the float64 numbers of all steps.

    These numbers are learning rates, gradient norms and powers of beta. Rounding to float32 loses their last bits, so
    the weights alone would not show a difference.
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
    """Return the SHA-256 of the results of ``train`` for all ``MODELS``.

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
    """Return (tile, hash) of ``weights_hash`` in a new process with other environment variables.

    Raises
        NpgptError if kernels cannot be compiled here, or if the process fails: with the end of its error output.
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
        raise NpgptError(f"a process with {dict(variables)} failed, exit code {ran.returncode}: {ran.stderr[-1000:]}")
    tile, found = ran.stdout.splitlines()
    return tile, found
