"""Random numbers that depend on nothing but what they are for.

Every number is an integer hash of a key (made of seed, purpose, step, layer, ...) and a counter (which element). So
no generator has a state to save, the order of drawing does not matter, any loop on any number of threads gives the same
bits, and what was drawn once can be computed again instead of stored.

Normal numbers are twelve uniform ones added, minus 6: mean 0, variance 12 · 1/12 = 1, nothing beyond ±6, and only
integer sums on the way, which are exact on every machine.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from npgpt.exact import mix_twice

Counters = npt.NDArray[np.uint32]


def make_key(*parts: int | str) -> int:
    """A 64-bit key out of what names a purpose: the first 8 bytes, little end first, of BLAKE2b of the parts.

    >>> make_key("dropout", 0, 12, "blocks.0.mlp") == make_key("dropout/0/12/blocks.0.mlp")
    True
    """
    text = "/".join(part if isinstance(part, str) else str(int(part)) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def random_bits(key: int, counters: Counters) -> npt.NDArray[np.uint32]:
    """32 random bits for each counter, the same shape."""
    bits: npt.NDArray[np.uint32] = mix_twice(counters, np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32))
    return bits


def normal(key: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Numbers with mean 0 and variance 1, exact multiples of 2**-32."""
    counters = np.arange(int(np.prod(shape)), dtype=np.uint32)
    total = np.full(counters.shape, 6, dtype=np.uint64)  # twelve times half a unit, so that the mean is exactly 0
    for k in range(12):
        total += random_bits(make_key(key, k), counters)
    return (total / 2.0**32 - 6.0).reshape(shape)


def permutation(key: int, n: int) -> npt.NDArray[np.int64]:
    """The numbers 0 to n - 1 in random order."""
    return np.argsort(random_bits(key, np.arange(n, dtype=np.uint32)), kind="stable")
