"""Sixteen lanes against NumPy: every function, partial loads and stores of every length, no access past the end."""

import ctypes
import math
import mmap
import os
import platform
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.machine import vector
from npgpt.machine.compile import kernel
from npgpt.machine.vector import load, store
from npgpt.rng import random_bits

Floats = npt.NDArray[np.float32]

floats = st.floats(width=32)
finite = st.floats(-(2.0**60), 2.0**60, width=32)
normal = st.floats(2.0**-126, float(np.finfo(np.float32).max), width=32)


def sixteen(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Floats]:
    return st.lists(numbers, min_size=16, max_size=16).map(lambda drawn: np.array(drawn, np.float32))


def same(ours: Floats, theirs: Floats) -> bool:
    """Return whether the bits are the same; all NaNs are equal."""
    unknown = np.isnan(ours)
    return bool((unknown == np.isnan(theirs)).all() and (ours.view("i4") == theirs.view("i4"))[~unknown].all())


@kernel
def operate(x: Any, y: Any, number: Any, out: Any) -> None:
    a, b = load(x, 0), load(y, 0)
    store(out, 0, a + b)
    store(out, 16, a - b)
    store(out, 32, a * b)
    store(out, 48, a / b)
    store(out, 64, a + number)
    store(out, 80, number - a)
    store(out, 96, a * number)
    store(out, 112, number / a)
    total = a
    total += b
    store(out, 128, total)
    total -= number
    store(out, 144, total)
    total *= a
    store(out, 160, total)
    total /= b
    store(out, 176, total)


@given(sixteen(floats), sixteen(floats), floats)
def test_operators(a: Floats, b: Floats, drawn: float) -> None:
    number = np.float32(drawn)
    out = np.empty((12, 16), np.float32)
    operate(a, b, number, out)
    with np.errstate(all="ignore"):
        total = a + b
        less = total - number
        theirs = [a + b, a - b, a * b, a / b, a + number, number - a, a * number, number / a]
        theirs += [total, less, less * a, less * a / b]
    for row, expected in zip(out, theirs, strict=True):
        assert same(row, expected)


def test_a_float64_is_rounded_to_float32() -> None:
    ones, out = np.ones(16, np.float32), np.empty((12, 16), np.float32)
    operate(ones, ones, 0.1, out)
    assert (out[6] == np.float32(0.1)).all()


@kernel
def apply(x: Any, y: Any, z: Any, number: Any, out: Any) -> None:
    a, b, c = load(x, 0), load(y, 0), load(z, 0)
    store(out, 0, vector.sqrt(a))
    store(out, 16, vector.absolute(a))
    store(out, 32, vector.copysign(a, b))
    store(out, 48, vector.maximum(a, b))
    store(out, 64, vector.select_less(a, b, c, a))
    store(out, 80, vector.round_to_integer(a))
    store(out, 96, vector.splat(number))


@given(sixteen(floats), sixteen(floats), sixteen(floats), floats)
def test_functions_of_each_lane(a: Floats, b: Floats, c: Floats, drawn: float) -> None:
    number = np.float32(drawn)
    out = np.empty((7, 16), np.float32)
    apply(a, b, c, number, out)
    with np.errstate(all="ignore"):
        theirs = [np.sqrt(a), np.abs(a), np.copysign(a, b), np.where(a > b, a, b), np.where(a < b, c, a), np.rint(a)]
    for row, expected in zip(out, [*theirs, np.full(16, number)], strict=True):
        assert same(row, expected)


@kernel
def fuse(x: Any, y: Any, z: Any, number: Any, out: Any) -> None:
    a, b, c = load(x, 0), load(y, 0), load(z, 0)
    store(out, 0, vector.fma(a, b, c))
    store(out, 16, vector.fma(a, number, c))
    store(out, 32, vector.fma(number, b, number))
    store(out, 48, a * b + c)


@given(sixteen(finite), sixteen(finite), sixteen(finite), finite)
def test_only_fma_fuses(a: Floats, b: Floats, c: Floats, drawn: float) -> None:
    number = np.full(16, drawn, np.float32)
    out = np.empty((4, 16), np.float32)
    fuse(a, b, c, number[0], out)
    for row, (p, q, r) in zip(out, [(a, b, c), (a, number, c), (number, b, number)], strict=False):
        for result, *terms in zip(row, p, q, r, strict=True):
            left, right, addend = (Fraction(float(term)) for term in terms)
            exact = left * right + addend
            error = abs(Fraction(float(result)) - exact)
            for neighbour in (-np.inf, np.inf):
                assert error <= abs(Fraction(float(np.nextafter(result, np.float32(neighbour)))) - exact)
    with np.errstate(all="ignore"):
        assert same(out[3], a * b + c)


def test_a_product_is_rounded_before_a_sum_but_not_in_fma() -> None:
    a = np.full(16, 1 + 2.0**-23, np.float32)
    out = np.empty((4, 16), np.float32)
    fuse(a, a, -(a * a), a[0], out)
    assert (out[0] == 2.0**-46).all() and (out[3] == 0).all()


@kernel
def take_exponents(x: Any, n: Any, out: Any) -> None:
    store(out, 0, vector.power_of_two(load(n, 0)))
    mantissa, exponent = vector.split_exponent(load(x, 0))
    store(out, 16, mantissa)
    store(out, 32, exponent)


@given(sixteen(normal), sixteen(st.integers(-126, 127).map(float)))
def test_powers_of_two_and_exponents(x: Floats, n: Floats) -> None:
    x[:4] = [2.0**-126, math.sqrt(0.5), math.sqrt(2), 1]
    out = np.empty((3, 16), np.float32)
    take_exponents(x, n, out)
    assert (out[0] == np.exp2(n.astype(np.float64))).all()
    assert (out[1].astype(np.float64) * np.exp2(out[2].astype(np.float64)) == x).all()
    assert (np.float32(math.sqrt(0.5)) <= out[1]).all() and (out[1] < np.float32(math.sqrt(2))).all()


@kernel
def reduce(x: Any) -> Any:
    return vector.sum_lanes(load(x, 0)), vector.max_lanes(load(x, 0))


@given(sixteen(st.floats(allow_nan=False, width=32)))
def test_reductions(x: Floats) -> None:
    tree = x
    with np.errstate(all="ignore"):
        while len(tree) > 1:
            tree = tree[: len(tree) // 2] + tree[len(tree) // 2 :]
    total, largest = reduce(x)
    assert same(np.array([total], np.float32), tree)
    assert largest == x.max()


@kernel
def draw(low: int, high: int, counter: int, step: int, threshold: int, kept: Any, out: Any) -> None:
    store(out, 0, vector.random_lanes(low, high, counter, step, threshold, kept))


@given(*[st.integers(0, 2**32 - 1)] * 4, st.just(1) | st.integers(1, 2**20))
def test_random_lanes_equal_the_generator(low: int, high: int, counter: int, threshold: int, step: int) -> None:
    bits = random_bits(high << 32 | low, (counter + step * np.arange(16)).astype(np.uint32))
    out = np.empty(16, np.float32)
    for limit in (threshold, *bits.tolist(), 0, 2**32 - 1):  # sixteen are reached exactly
        draw(low, high, counter, step, limit, np.float32(1.25), out)
        assert (out == np.where(bits >= limit, np.float32(1.25), np.float32(0))).all()


@kernel
def copy(x: Any, x_offset: int, out: Any, out_offset: int) -> None:
    store(out, out_offset, load(x, x_offset))


@kernel
def store_part(value: Any, out: Any, offset: int, count: int) -> None:  # passes lanes in a real call
    vector.store_some(out, offset, count, value)


@kernel
def copy_some(x: Any, x_offset: int, n_read: int, fill: Any, out: Any, out_offset: int, n_written: int) -> None:
    store_part(vector.load_some(x, x_offset, n_read, fill), out, out_offset, n_written)


def test_loads_and_stores_at_any_offset() -> None:
    x = np.arange(40, dtype=np.float32)
    for offset in range(24):
        out = np.full(40, -1, np.float32)
        copy(x, offset, out, 23 - offset)
        expected = np.full(40, -1, np.float32)
        expected[23 - offset : 39 - offset] = x[offset : offset + 16]
        assert (out == expected).all()


@pytest.mark.parametrize("n_read", range(17))
def test_partial_loads_and_stores(n_read: int) -> None:
    x = np.arange(1, 41, dtype=np.float32)
    for n_written in range(17):
        out = np.full(40, -1, np.float32)
        copy_some(x, 5, n_read, np.float32(0.5), out, 7, n_written)
        lanes = np.append(x[5 : 5 + n_read], np.full(16 - n_read, 0.5, np.float32))
        expected = np.full(40, -1, np.float32)
        expected[7 : 7 + n_written] = lanes[:n_written]
        assert (out == expected).all()


def copy_at_the_edge_of_memory() -> None:
    """Load and store at the end of arrays that end at a page; the next page can be neither read nor written."""
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.float32)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert protect(whole.ctypes.data + mmap.PAGESIZE, mmap.PAGESIZE, 0) == 0  # PROT_NONE
    page = whole[: mmap.PAGESIZE // 4]
    page[-16:] = np.arange(16)
    inside = np.full(16, -1, np.float32)
    for count in range(17):
        copy_some(page, len(page) - count, count, np.float32(9), inside, 0, 16)
        assert inside.tolist() == [*range(16 - count, 16), *[9] * (16 - count)]
        copy_some(inside, 0, 16, np.float32(0), page, len(page) - count, count)
        assert page[len(page) - count :].tolist() == inside[:count].tolist()
        page[-16:] = np.arange(16)


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect")
@pytest.mark.parametrize("cpu", ["", "haswell", "generic"])
def test_partial_loads_and_stores_stay_within_the_array(cpu: str) -> None:
    """Run in a separate process, since a wrong access would end it."""
    if cpu and platform.machine() != "x86_64":
        pytest.skip("names a CPU")
    chosen = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""} if cpu else {}
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | chosen
    code = "from tests.machine import test_vector; test_vector.copy_at_the_edge_of_memory()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
