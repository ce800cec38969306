"""The operations on bytes against plain Python."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.exact import mix
from npgpt.machine import bits
from npgpt.machine.compile import kernel
from npgpt.rng import random_bits


@kernel
def masks(data: Any, byte: int) -> Any:
    return bits.classify64(data, 3), bits.equal64(data, 3, byte)


@kernel
def loads(data: Any) -> Any:
    return bits.load64(data, 3), bits.load32(data, 3)


@kernel
def numbers(a: int, b: int, count: int) -> Any:
    return bits.fold_multiply(a, b), bits.shift_right(a, count), bits.lowest_bit(a), bits.highest_bit(a)


@kernel
def stores(out: Any, low: int, high: int) -> Any:
    bits.prefetch(out, 0)
    bits.store128(out, 3, low, high)


int64 = st.integers(-(1 << 63), (1 << 63) - 1)


def signed(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


@given(st.binary(min_size=67, max_size=67) | st.text(" \n\r\tazAZ09é'", min_size=67).map(lambda s: s.encode()[:67]))
def test_byte_masks(data: bytes) -> None:
    found, equal = masks(np.frombuffer(data, np.uint8), ord("'"))
    members = [
        b"abcdefghijklmnopqrstuvwxyz",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        b"0123456789",
        b" \t\n\v\f\r",
        b"\n\r",
        b" ",
        bytes(range(128, 256)),
    ]
    for mask, of in zip((*found, equal), (*members, b"'"), strict=True):
        assert mask == signed(sum(1 << i for i, byte in enumerate(data[3:]) if byte in of))


@given(st.binary(min_size=11, max_size=11))
def test_loads_are_little_endian(data: bytes) -> None:
    expected = int.from_bytes(data[3:11], "little", signed=True), int.from_bytes(data[3:7], "little")
    assert loads(np.frombuffer(data, np.uint8)) == expected


@given(int64, int64, st.integers(0, 63))
def test_integer_operations(a: int, b: int, count: int) -> None:
    product = (a % (1 << 64)) * (b % (1 << 64))
    unsigned = a % (1 << 64)
    lowest = (unsigned & -unsigned).bit_length() - 1 if unsigned else 64
    expected = (
        signed((product ^ product >> 64) % (1 << 64)),
        signed(unsigned >> count),
        lowest,
        unsigned.bit_length() - 1,
    )
    assert numbers(a, b, count) == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32])
def test_store_writes_exactly_16_bytes(dtype: type) -> None:
    out = np.full(24, 7, dtype)
    stores(out, 1 << 56, -2)
    expected = np.full(24, 7, dtype).view(np.uint8)
    start = 3 * out.itemsize
    expected[start : start + 16] = np.frombuffer((1 << 56 | ((1 << 64) - 2) << 64).to_bytes(16, "little"), np.uint8)
    assert (out.view(np.uint8) == expected).all()


@kernel
def one_word(low: Any, high: Any, counter: Any) -> Any:
    return bits.random_word(low, high, counter)


uint32 = st.integers(0, 2**32 - 1)


def remainder_mix(h: int) -> int:
    """MurmurHash3's fmix32 in Python integers."""
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


@given(uint32, uint32, st.lists(uint32, min_size=1))
def test_the_mixer_gives_the_same_bits_for_arrays_and_numbers(low: int, high: int, counters: list[int]) -> None:
    array = np.array(counters, np.uint32)
    mixed = mix(array)
    assert mixed.dtype == np.uint32
    assert mixed.tolist() == [remainder_mix(h) for h in counters]
    found = random_bits(high << 32 | low, array)
    assert found.dtype == np.uint32
    assert found.tolist() == [remainder_mix(remainder_mix(h ^ low) ^ high) for h in counters]
    numbers = np.uint32(low), np.uint32(high)
    assert found.tolist() == [one_word(*numbers, counter) for counter in array]


@kernel
def one_argument_too_few(a: int) -> Any:
    return bits.shift_right(a)


def test_an_emitted_function_keeps_its_name_and_checks_its_arguments() -> None:
    assert bits.shift_right.__name__ == "shift_right"
    assert bits.shift_right.__doc__ == "``value >> count``, filled with zeros; 0 <= count < 64."
    with pytest.raises(ValueError, match="shorter"):
        one_argument_too_few(1)
