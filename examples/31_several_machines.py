"""How can several machines train one model, and when are they worth it?

Four ranks first add their gradients in this process, to the bits of one. A model of the time, with its arithmetic, then
says what 8, 64 and 1,024 machines gain for GPT-2. If `pip install 'npgpt[mpi]'` was run, three processes train.
"""

# %% 1. The sum: M micro-batches, P ranks, a vector of n gradients
import hashlib
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

M, n = 10, 60_000
gradients = np.random.default_rng(0).normal(size=(M, n)).astype(np.float32)
right = gradients[0].copy()
for gradient in gradients[1:]:
    right += gradient


def by_owners(P: int) -> np.ndarray:
    """Each rank owns a block of the vector, and adds it in the order of the micro-batches, as they come in rounds."""
    totals: list[np.ndarray] = [np.zeros(0)] * P
    for first in range(0, M, P):  # round r: number rP + k is computed by rank k
        for gradient in gradients[first : first + P]:
            for owner, block in enumerate(np.array_split(gradient, P)):  # each block is sent to its owner
                totals[owner] = totals[owner] + block if len(totals[owner]) else block
    return np.concatenate(totals)


def by_ranks(P: int) -> np.ndarray:
    """Each rank adds its own gradients; the sums of the ranks are added: an all-reduce."""
    return np.sum([gradients[rank::P].sum(0, dtype=np.float32) for rank in range(P)], axis=0, dtype=np.float32)


print(f"{M} gradients of {n:,} numbers are added. Numbers that differ from the sum of one rank:")
print("ranks   by owners, in order   by ranks (all-reduce)")
for P in (1, 2, 3, 4):
    owners, ranks = (int((of(P) != right).sum()) for of in (by_owners, by_ranks))
    print(f"{P:>5}{owners:>21,}{ranks:>24,}")
    assert owners == 0
    assert P == 1 or ranks > n // 10
print("Rounded sums depend on their order. With owners the order depends on M alone, so P may change.\n")

# %% 2. Bytes: what a rank sends in a step
# In order: M/P rounds, in each all of the vector but its own block; then the new values of its block to the others.
# All-reduce: a reduce-scatter and the new values.


def sent(P: int, M: int, n: int, exact: bool) -> float:
    """Return the bytes that a rank sends in a step, for n numbers of 4 bytes."""
    return 4 * n * (1 - 1 / P) * ((M / P if exact else 1) + 1)


assert sent(4, 4, n, exact=True) == sent(4, 4, n, exact=False)  # one micro-batch a rank: the order costs nothing
assert sent(4, 8, n, exact=True) == 1.5 * sent(4, 4, n, exact=True)

# %% 3. Time: GPT-2 on 8, 64 and 1,024 machines
PARAMETERS, T, B = 124_439_808, 1024, 1024  # a step: 1,024 examples of 1,024 tokens
FLOPS = 6 * (PARAMETERS - T * 768) + 12 * 3 * 2 * 768 * T  # a token: six per weight; q·k and w·v of half of the pairs
RATE = 2e12  # operations a second of one machine: an assumption, a server with 64 cores; example 17 measures yours
LATENCY = 30e-6  # seconds of a message, by TCP; npgpt doctor measures it within this machine
print("GPT-2, steps of a million tokens; each machine computes 2·10¹² operations a second.")
print(f"  compute        = {B * T:,} tokens · {FLOPS / 1e6:.0f} million operations / (P · 2·10¹²)")
print("  communication  = bytes sent / bandwidth + (M/P + 1)·(P − 1) messages · 30 µs")
print("  efficiency     = compute / (compute + communication): nothing overlaps here\n")
print("machines      M   Gbit/s   GB sent   compute, s   communication, s   efficiency   speed against one")
found: dict[tuple[int, int, int], float] = {}
for P in (8, 64, 1024):
    for micro_batches in sorted({P, 1024}):
        for gigabits in (10, 100):
            size = sent(P, micro_batches, PARAMETERS, exact=True)
            compute = B * T * FLOPS / (P * RATE)
            communication = size / (gigabits * 1e9 / 8) + (micro_batches / P + 1) * (P - 1) * LATENCY
            found[P, micro_batches, gigabits] = efficiency = compute / (compute + communication)
            print(
                f"{P:>8}{micro_batches:>7}{gigabits:>9}{size / 1e9:>10.1f}{compute:>13.2f}{communication:>19.2f}"
                f"{efficiency:>13.0%}{P * efficiency:>17.1f} x"
            )
print(
    "With M = P each machine has one micro-batch, and the order costs no byte more than an all-reduce. M = 1,024 gives"
)
print("the same bits on 8 machines as on 1,024, and 8 machines pay for it with 128 rounds a step. A machine's memory")
print("decides how large a micro-batch may be. On 1,024 machines the network has the last word: a step has too little")
print("to compute, and larger steps help more than a faster network.")
assert found[8, 8, 100] > 0.98 and found[8, 1024, 10] < found[8, 8, 10]
assert found[1024, 1024, 10] < 0.5 < found[64, 64, 100]

# %% 4. Three processes on this machine
mpiexec = Path(sys.executable).with_name("mpiexec")
train = shlex.split(
    "-m npgpt train --text 31.txt --tokenizer char --steps 20 --batch-size 6 --micro-batches 6 --eval-every 20 "
    "--n-layer 1 --n-head 2 --n-embd 32 --context-length 16 --dropout 0.1"
)
if mpiexec.exists():
    print("\nmpiexec -n P npgpt train --micro-batches 6 ... on this machine, SHA-256 of the weights:")
    with tempfile.TemporaryDirectory() as name:
        folder, hashes = Path(name), []
        (folder / "31.txt").write_text("Many hands make light work, if they agree on the order. " * 40)
        for P in (1, 3):
            command = [mpiexec, "-n", str(P), sys.executable, *train, "--out", str(P)]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            weights = (folder / str(P) / "checkpoints" / "20" / "model.safetensors").read_bytes()
            hashes.append(hashlib.sha256(weights).hexdigest())
            print(f"  P = {P}: {hashes[-1]}")
    assert hashes[0] == hashes[1]
else:
    print("\npip install 'npgpt[mpi]' brings mpiexec; then this example also trains with three processes.")
