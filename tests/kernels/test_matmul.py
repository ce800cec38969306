"""The matrix product equals the plain loop to the last bit, for any shape, strides, threads and tile."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import binding

from npgpt import layers
from npgpt.core import Cache
from npgpt.kernels import elementwise, finish, matmul
from npgpt.machine import tile
from npgpt.machine.numba_internals import cpu_asked_for, machine
from npgpt.machine.pool import get_num_threads, set_num_threads

Floats = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    n = get_num_threads()
    yield
    set_num_threads(n)


def expected(a: Floats, b: Floats, c: Floats, add: bool) -> Floats:
    c = np.array(c)
    matmul.plain_matmul(np.ascontiguousarray(a), np.ascontiguousarray(b), c, add)
    return c


def laid_out(random: np.random.Generator, shape: tuple[int, int], how: str) -> Floats:
    """Return a random matrix: contiguous, transposed, or every other number of a larger one, reversed."""
    n, m = shape
    numbers = random.normal(size=(n, m)).astype(np.float32)
    room = {"rows": (n, m), "columns": (m, n), "slice": (n, m + 5), "gaps": (2 * n, 3 * m)}[how]
    memory = np.full(room, np.nan, np.float32)
    view = {"rows": memory, "columns": memory.T, "slice": memory[:, 2 : 2 + m], "gaps": memory[::-2, ::-3][:n, :m]}[how]
    view[...] = numbers
    return view


layouts = st.sampled_from(["rows", "columns", "slice", "gaps"])
length = st.one_of(st.integers(0, 40), st.sampled_from([64, 65, 97]))


@given(
    M=length, K=st.one_of(length, st.just(600)), N=length, how=st.tuples(layouts, layouts, layouts), add=st.booleans(),
    threads=st.integers(1, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_product_equals_the_plain_loop(
    M: int, K: int, N: int, how: tuple[str, str, str], add: bool, threads: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    a, b, c = (laid_out(random, shape, how) for shape, how in zip([(M, K), (K, N), (M, N)], how, strict=True))
    wanted = expected(a, b, c, add)
    set_num_threads(threads)
    assert matmul.matmul(a, b, c, add) is c
    assert np.array_equal(c, wanted)


@pytest.mark.parametrize(
    ("M", "K", "N"), [(700, 70, 30), (30, 1100, 700), (200, 513, 97), (3, 2, 2000), (8, 1100, 700), (1, 1, 1)]
)
def test_large_products_on_several_threads(M: int, K: int, N: int) -> None:
    random = np.random.default_rng(0)
    a, b = laid_out(random, (M, K), "columns"), laid_out(random, (K, N), "columns")
    wanted = expected(a, b, np.zeros((M, N), np.float32), False)
    for threads in (1, 2, 3):
        set_num_threads(threads)
        assert np.array_equal(matmul.matmul(a, b, np.full((M, N), np.nan, np.float32)), wanted)


def test_the_product_writes_only_its_output() -> None:
    random = np.random.default_rng(0)
    for M, N in ((1, 1), (11, 31), (13, 33), (25, 65)):
        memory = np.full((M + 2, N + 40), 7, np.float32)
        out = memory[1:-1, 20 : 20 + N]
        a, b = laid_out(random, (M, 9), "rows"), laid_out(random, (9, N), "rows")
        matmul.matmul(a, b, out)
        assert np.array_equal(out, expected(a, b, out, False))
        out[:] = 7
        assert (memory == 7).all()


@given(M=length, N=length, K=st.integers(0, 30), seed=st.integers(0, 99))
def test_operations_on_the_result(M: int, N: int, K: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = laid_out(random, (M, K), "rows"), laid_out(random, (K, N), "columns")
    other, bias = laid_out(random, (M, N), "rows"), random.normal(size=N).astype(np.float32)
    z, out = expected(a, b, other, False), np.empty((M, N), np.float32)
    assert np.array_equal(matmul.matmul(a, b, out, how=finish.BIAS, bias=bias), z + bias)
    assert np.array_equal(matmul.matmul(a, b, out, how=finish.RESIDUAL, bias=bias, other=other), z + bias + other)
    for kind, layer in ((elementwise.TANH_GELU, layers.TanhGELU()), (elementwise.RELU, layers.ReLU())):
        second, cache = np.empty((M, N), np.float32), Cache()
        matmul.matmul(a, b, out, how=finish.ACTIVATION + kind, bias=bias, second=second)
        assert np.array_equal(second, z + bias)
        assert np.allclose(out, layer.forward(second.astype(np.float64), cache), rtol=1e-5, atol=1e-6)
        matmul.matmul(a, b, out, how=finish.SLOPE + kind, other=other, second=second)
        y = layer.forward(other.astype(np.float64), cache.reset())
        assert np.allclose(second, y, rtol=1e-5, atol=1e-6)
        assert np.allclose(out, layer.backward(z.astype(np.float64), cache), rtol=1e-5, atol=1e-5)


def test_nan_and_infinity_affect_only_their_rows_and_columns() -> None:
    a, b = np.ones((30, 40), np.float32), np.ones((40, 50), np.float32)
    a[3, 5], a[7, 1], b[2, 9] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        assert np.array_equal(np.isnan(matmul.matmul(a, b, np.empty((30, 50), np.float32))), np.isnan(a @ b))


def test_the_chosen_tile_fits_the_cpu() -> None:
    if not cpu_asked_for()["NUMBA_CPU_NAME"]:
        has_fma = binding.get_host_cpu_features().get("fma")  # on x86-64; AVX-512 may be there and not be preferred
        fitting = {"x86_64": (tile.WIDE, tile.MIDDLE) if has_fma else (tile.NARROW,), "aarch64": (tile.NEON,)}
        assert tile.chosen_tile() in fitting.get(machine(), (tile.NARROW,))
    for one in (tile.WIDE, tile.MIDDLE, tile.NEON, tile.NARROW):
        assert 24 % one.rows == 0  # blocks of attention are cut at multiples of 24 and 96
        assert 32 % one.columns == 0
    assert tile.chosen_product_tile() in (tile.chosen_tile(), tile.LOW)


@pytest.mark.parametrize("width", sorted({tile.TILE_ROWS, matmul.TILE_ROWS, matmul.TILE_COLUMNS, 32}))
@pytest.mark.parametrize("along", [False, True])
@given(st.integers(1, 40), st.integers(1, 70))
def test_packing_leaves_nothing_of_what_the_memory_held(width: int, along: bool, n_k: int, n: int) -> None:
    source = np.ones(n_k * n, np.float32)
    panels = -(-n // width)
    packed = np.full(panels * (n_k * width + matmul.GAP), np.nan, np.float32)
    k_stride, stride = (1, n_k) if along else (n, 1)
    matmul.pack_panels(source, 0, k_stride, stride, n_k, n, n, width, matmul.GAP, packed, 0)
    for panel in packed.reshape(panels, -1):
        assert not np.isnan(panel[: n_k * width]).any()


BITS = """
import hashlib
import numpy as np
from npgpt.kernels import matmul
from npgpt.machine import tile
random = np.random.default_rng(0)
code = hashlib.sha256()
for M, K, N in ((1, 1, 1), (5, 9, 33), (30, 70, 40), (26, 600, 65)):
    for a in (random.normal(size=(M, K)), random.normal(size=(K, M)).T):
        for b in (random.normal(size=(K, N)), random.normal(size=(N, K)).T):
            a, b = (x.astype(np.float32, order="K") for x in (a, b))
            code.update(matmul.matmul(a, b, np.empty((M, N), np.float32)).tobytes())
print(tile.PRODUCT_TILE.name, code.hexdigest(), sep="|")
"""


@pytest.mark.skipif(tile.TILE is tile.NEON, reason="the names of processors are those of x86-64")
@pytest.mark.slow
def test_every_tile_gives_the_same_bits() -> None:
    found = {}
    for processor in ("generic", "haswell", "skylake-avx512", "znver4"):
        if processor in ("skylake-avx512", "znver4") and tile.chosen_tile() is not tile.WIDE:
            continue
        variables = os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
        done = subprocess.run([sys.executable, "-c", BITS], env=variables, capture_output=True, text=True, check=True)
        name, digest = done.stdout.strip().split("|")
        found[name] = digest
    assert len(found) >= 2
    assert len(set(found.values())) == 1, found
