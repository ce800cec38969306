"""Counter-based random numbers: each is a function of its purpose and its index.

Every number is an integer hash of a key (seed, purpose, step, layer, ...) and a counter (the element's index). So there
is no generator state to save, the order of drawing does not matter, any number of threads gives the same bits, and a
number can be computed again instead of being stored.

A normal number is the sum of twelve uniform ones, minus 6: mean 0, variance 12 · 1/12 = 1, values within ±6. The sums
are of integers, and therefore exact on every machine.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from npgpt.exact import mix_twice

Counters = npt.NDArray[np.uint32]


def make_key(*parts: int | str) -> int:
    """Return a 64-bit key for a purpose: the first 8 bytes, little-endian, of the BLAKE2b hash of its parts.

    >>> make_key("dropout", 0, 12, "blocks.0.mlp") == make_key("dropout/0/12/blocks.0.mlp")
    True
    """
    text = "/".join(part if isinstance(part, str) else str(int(part)) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def random_bits(key: int, counters: Counters) -> npt.NDArray[np.uint32]:
    """Return 32 random bits for each counter: uint32 of the same shape."""
    bits: npt.NDArray[np.uint32] = mix_twice(counters, np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32))
    return bits


def normal(key: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return normal numbers with mean 0 and variance 1, multiples of 2**-32."""
    counters = np.arange(int(np.prod(shape)), dtype=np.uint32)
    total = np.full(counters.shape, 6, dtype=np.uint64)  # twelve times half the spacing, so that the mean is exactly 0
    for k in range(12):
        total += random_bits(make_key(key, k), counters)
    return (total / 2.0**32 - 6.0).reshape(shape)


def permutation(key: int, n: int) -> npt.NDArray[np.int64]:
    """Return the numbers 0 to n - 1 in random order (n,)."""
    return np.argsort(random_bits(key, np.arange(n, dtype=np.uint32)), kind="stable")
