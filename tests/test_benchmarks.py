"""What the benchmarks share: files, sets of operands, medians of runs, the rows of ``bench_step.py --where``."""

from typing import Any

import numpy as np
import peers
import pytest
from three_runs import lines, medians
from where import like, replay, row_of

from npgpt.kernels import matmul
from npgpt.kernels.columns import column_sums
from npgpt.machine.pool import pool


def test_a_result_is_named_by_benchmark_cpu_and_date() -> None:
    environment = {"benchmark": "bench_step", "cpu": "Intel(R) Xeon(R) @ 2.1GHz (emeraldrapids)", "date": "2026-11-28"}
    assert peers.result_file(environment).parts[-3:] == (
        "benchmarks",
        "results",
        "bench_step-intel-r-xeon-r-2-1ghz-emeraldrapids-2026-11-28.json",
    )


@pytest.mark.parametrize(("size", "sets"), [(2**20, 16), (2**27, 4), (2**30, 1)])
def test_cold_operands_are_sixteen_sets_or_as_many_as_fit(size: int, sets: int) -> None:
    assert peers.number_of_sets([np.empty(size, np.uint8)]) == sets


def test_medians_of_runs() -> None:
    runs: list[dict[str, Any]] = [
        {"shape": "A", "ratio": ratio, "seconds": [ratio, 1], mode: 1} for ratio, mode in ((2, "x"), (1, "x"), (9, "y"))
    ]
    assert medians(runs) == {"shape": "A", "ratio": 2, "seconds": [2, 1], "x": 1}
    assert lines(runs, "shape A") == ["shape A, ratio: 2.000 (1.000-9.000)"]


def test_a_copy_of_an_operand_has_its_strides() -> None:
    array = np.arange(24.0).reshape(4, 6)[:, 1:4].T
    copy = like(array)
    assert copy.strides == array.strides and (copy == array).all() and copy.ctypes.data % 64 == 0


def test_rows_of_products_and_kernels() -> None:
    x, dy, weight = (np.ones(shape, np.float32) for shape in ((8, 3), (8, 5), (3, 5)))
    multiply: Any = matmul._multiply
    assert row_of(multiply, False, (pool(), x, weight)) == "forward 8 x 3 x 5"
    assert row_of(multiply, True, (pool(), dy, weight.T)) == "dx 8 x 5 x 3"
    assert row_of(multiply, True, (pool(), x.T, dy)) == "dW 3 x 8 x 5"
    assert row_of(column_sums, True, (pool(), dy)) == "column_sums"


def test_a_replayed_call_leaves_its_arguments_alone() -> None:
    x, partial, out = (np.ones(shape, np.float32) for shape in ((8, 3), (1, 3), (3,)))
    cold, warm = replay(column_sums, (pool(), x, partial, out, True), seconds=1e-4)
    assert cold > 0 and warm > 0 and (out == 1).all()
