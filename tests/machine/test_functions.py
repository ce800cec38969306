"""The functions of sixteen lanes against the plain ones in float64; their bits do not depend on the CPU."""

import hashlib
import math
import os
import platform
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npgpt.layers
from npgpt.core import Cache
from npgpt.machine import functions
from npgpt.machine.compile import kernel
from npgpt.machine.functions import PLAIN
from npgpt.machine.vector import load, store

Floats = npt.NDArray[np.float32]

# Name -> the rows of the results of ``run``.
ROWS = {"exp": [0], "log": [1], "sigmoid": [2], "tanh": [3], "tanh_gelu": [4, 5], "gelu": [6, 7], "relu": [8, 9]}
TEXTBOOK = {"tanh_gelu": "TanhGELU", "gelu": "GELU", "relu": "ReLU"}
LARGEST = float(np.finfo(np.float32).max)


@kernel
def run_kernel(x: Any, out: Any) -> None:
    n = len(x)
    for i in range(0, n, 16):
        one = load(x, i)
        store(out, i, functions.exp(one))
        store(out, n + i, functions.log(one))
        store(out, 2 * n + i, functions.sigmoid(one))
        store(out, 3 * n + i, functions.tanh(one))
        y, slope = functions.tanh_gelu(one)
        store(out, 4 * n + i, y)
        store(out, 5 * n + i, slope)
        y, slope = functions.gelu(one)
        store(out, 6 * n + i, y)
        store(out, 7 * n + i, slope)
        y, slope = functions.relu(one)
        store(out, 8 * n + i, y)
        store(out, 9 * n + i, slope)


def run(x: Floats) -> dict[str, Floats]:
    """Name -> results (1 or 2, n)."""
    padded = np.zeros(-(-len(x) // 16) * 16, np.float32)
    padded[: len(x)] = x
    out = np.empty((10, len(padded)), np.float32)
    run_kernel(padded, out)
    return {name: out[rows, : len(x)] for name, rows in ROWS.items()}


def every_nth_float(n: int) -> Floats:
    return np.arange(0, 1 << 32, n, dtype=np.uint64).astype(np.uint32).view(np.float32)


def ulp(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the distance to the next float32."""
    spacing: npt.NDArray[np.float64] = np.ldexp(1.0, np.maximum(np.frexp(value)[1] - 24, -149))
    return spacing


def check(x: Floats) -> None:
    """Compare the errors of all functions at finite numbers with the documented ones."""
    results = run(x)
    for name, plain in PLAIN.items():
        inside = x > 0 if name == "log" else np.isfinite(x)
        at = x[inside].astype(np.float64)
        want = np.array([plain(number) for number in at.tolist()], np.float64).reshape(len(at), len(ROWS[name])).T
        got = results[name][:, inside]
        with np.errstate(over="ignore"):
            error = np.where(got == want.astype(np.float32), 0, np.abs(got - want))  # inf may be right, too
        for row, (errors, right) in enumerate(zip(error, want, strict=True)):
            allowed = bound(name, row, at, right)
            worst = np.argmax(errors - allowed) if len(at) else 0
            assert (errors <= allowed).all(), f"{name}[{row}]({at[worst]!r}) is {got[row, worst]!r}, not {right[worst]}"


def bound(name: str, row: int, x: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> Any:
    u = np.minimum(math.sqrt(2 / math.pi) * np.abs(x + 0.044715 * x * x * x), 60)
    crossing = (x > -2) & (x < 0)  # where the slopes of the GELUs are 0 somewhere
    spacing = ulp(np.minimum(np.abs(right), LARGEST))
    if name == "tanh_gelu" and row == 0:
        return np.where(x > 0, 2.5, 3 + 4 * u) * spacing + np.where(x < -8, 11 * 2.0**-149, 0)
    if name == "tanh_gelu":
        return np.where(crossing, 8e-8, np.where(x > 0, 2.7, 4 + 5 * u) * spacing) + (x < -8) * 2.0**-143
    if name == "gelu":
        return np.where(crossing & (row == 1), 1.2e-7, np.where(x < -13, 10, 6) * spacing)
    return {"exp": 1.01, "log": 0.93, "sigmoid": 2.4, "tanh": 2.5, "relu": 0}[name] * spacing


def test_every_32771st_float() -> None:
    check(every_nth_float(32771))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=16))
def test_random_floats(numbers: list[float]) -> None:
    check(np.array(numbers, np.float32))


@given(st.floats(-14, 14))
def test_exponentials_near_special_arguments(x: float) -> None:
    """Arguments where the reduction changes to the next integer, or where a result becomes subnormal."""
    check(np.array([x, 10 * x, math.log(2) * (round(x) + 0.5), -87.4 - x, 2.0 ** (9 * x)], np.float32))


@pytest.mark.parametrize("name", ["tanh_gelu", "gelu"])
def test_the_plain_slope_is_the_slope_of_the_plain_function(name: str) -> None:
    for x in np.linspace(-6, 6, 61):
        h = 1e-5
        assert (PLAIN[name](x + h)[0] - PLAIN[name](x - h)[0]) / (2 * h) == pytest.approx(PLAIN[name](x)[1], abs=1e-9)


SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, LARGEST, -LARGEST, 1e20, -1e20, 2.0**-149, -(2.0**-149)]
LIMITS: dict[str, list[float]] = {
    "exp": [1, 1, math.inf, 0, math.nan, math.inf, 0, math.inf, 0, 1, 1],
    "log": [-math.inf, -math.inf, math.inf] + [math.nan] * 2,
    "sigmoid": [0.5, 0.5, 1, 0, math.nan, 1, 0, 1, 0, 0.5, 0.5],
    "tanh": [0.0, -0.0, 1, -1, math.nan, 1, -1, 1, -1, 2.0**-149, -(2.0**-149)],
    "tanh_gelu": [0.0, -0.0, math.inf, -0.0, math.nan, LARGEST, -0.0, float(np.float32(1e20)), -0.0],
    "gelu": [0.0, -0.0, math.inf, -0.0, math.nan, LARGEST, -0.0, float(np.float32(1e20)), -0.0],
    "relu": [0.0, -0.0, math.inf, math.nan, math.nan, LARGEST, -0.0, float(np.float32(1e20)), -0.0, 2.0**-149, -0.0],
}
SLOPES: dict[str, list[float]] = {
    "tanh_gelu": [0.5, 0.5, 1, 0, math.nan, 1, 0, 1, 0, 0.5, 0.5],
    "gelu": [0.5, 0.5, 1, 0, math.nan, 1, 0, 1, 0, 0.5, 0.5],
    "relu": [0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0],
}


def test_limits_and_signed_zeros() -> None:
    results = run(np.array(SPECIAL, np.float32))
    for row, table in enumerate((LIMITS, SLOPES)):
        for name, want in table.items():
            for x, got, right in zip(SPECIAL, results[name][row], want, strict=False):
                same = struct.pack("f", got) == struct.pack("f", right) or (math.isnan(got) and math.isnan(right))
                assert same, f"{name}[{row}]({x}) is {got}, not {right}"
    assert np.isnan(run(np.array([-1, -1e-40], np.float32))["log"]).all()


@pytest.mark.parametrize("name", TEXTBOOK)
def test_the_results_are_finite_where_the_textbooks_are(name: str) -> None:
    x = np.concatenate([np.array(SPECIAL, np.float32), every_nth_float(1_000_003)])
    layer, cache = getattr(npgpt.layers, TEXTBOOK[name])(), Cache()
    with np.errstate(all="ignore"):
        textbook = layer.forward(x, cache), layer.backward(np.ones_like(x), cache)
    for ours, theirs in zip(run(x)[name], textbook, strict=True):
        known = ~np.isnan(theirs)
        finite = np.isfinite(theirs)
        assert np.array_equal(ours[known & ~finite], theirs[known & ~finite])
        assert np.allclose(ours[finite], theirs[finite], rtol=1e-6, atol=1e-6)


def digest() -> str:
    """Hash the bits of all results, for arguments from all of float32. All NaNs are equal."""
    x = np.concatenate([every_nth_float(1_048_583), np.linspace(-16, 16, 2048, dtype=np.float32)])
    whole = hashlib.sha256()
    for results in run(x).values():
        whole.update(np.where(np.isnan(results), np.float32(np.nan), results).tobytes())
    return whole.hexdigest()


# NUMBA_CPU_NAME alone keeps the host's features, such as AVX-512, for every name except "generic".
OTHERS = {
    "four lanes at a time and fma by the C library": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    "eight lanes": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
    "a C library without fma": {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
    },
}


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="names CPUs and glibc's settings")
@pytest.mark.parametrize("other", OTHERS)
def test_other_cpus_give_the_same_bits(other: str) -> None:
    code = "from tests.machine import test_functions; print(test_functions.digest())"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | OTHERS[other]
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == digest()
