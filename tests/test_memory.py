"""The memory that training needs, and the memory that is there."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npgpt.memory
from npgpt.build import make_gpt
from npgpt.config import COMBINE, GPTConfig, TrainConfig
from npgpt.core import Cache
from npgpt.errors import ConfigError
from npgpt.layers.schemes import SCHEMES
from npgpt.memory import IN_TILES, check_memory, memory_needed, n_parameters
from npgpt.support.memory import available_memory
from npgpt.train import accumulate

sizes = st.integers(1, 5)


@given(
    V=st.integers(1, 40), T=sizes, L=sizes, H=sizes, D=sizes, P=sizes, tie=st.booleans(),
    positions=st.sampled_from(list(SCHEMES)), combine=st.sampled_from(COMBINE),
)  # fmt: skip
def test_the_number_of_parameters_is_that_of_the_model(
    V: int, T: int, L: int, H: int, D: int, P: int, tie: bool, positions: str, combine: str
) -> None:
    try:
        config = GPTConfig(V, T, L, H, H * D, tie_weights=tie, positions=positions, combine=combine, n_position=P)
    except ConfigError:  # they contradict each other
        return
    assert n_parameters(config) == make_gpt(config, "textbook").flat.values.size


@pytest.mark.filterwarnings("ignore:compiled attention")
@pytest.mark.parametrize("layers", ["compiled", pytest.param("textbook", marks=pytest.mark.slow)])
@pytest.mark.parametrize("positions", SCHEMES)
def test_activations_need_at_least_the_lower_bound(layers: str, positions: str) -> None:
    for changes in ({}, {"vocab_size": 5000}, {"context_length": 128, "n_head": 8}):
        config = GPTConfig(**{"vocab_size": 50, "n_layer": 2, "n_embd": 64, "positions": positions} | changes)
        model, cache = make_gpt(config, layers), Cache(training=True)
        assert layers == "textbook" or (positions in IN_TILES) == model.blocks[0].attention.in_tiles
        x, y = np.random.default_rng(0).integers(0, 50, (2, 7, config.context_length))
        accumulate(model, x[:, :2], y[:, :2], Cache(training=True))  # kernels are compiled here
        tracemalloc.start()
        accumulate(model, x, y, cache, micro_batches=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        bound = memory_needed(config, TrainConfig(batch_size=7, micro_batches=2, layers=layers)).activations
        assert 0.3 * peak < bound < peak, (changes, bound / peak)


def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(there: int, config: GPTConfig, **train: int) -> str:
        monkeypatch.setattr(npgpt.memory, "available_memory", lambda: there)
        with pytest.raises(ConfigError) as caught:
            check_memory(config, TrainConfig(**train))
        return str(caught.value)

    says = refusal(22 << 30, GPTConfig(n_layer=96, n_head=64, n_embd=8192))
    assert says.startswith("the model has 77,324,369,920 parameters: weights, gradients and two moments, 16 bytes a ")
    assert "parameter, need 1,152.2 GiB, and the activations of one micro-batch at least 36.3 GiB; this " in says
    assert says.endswith("process can get 22.0 GiB; use a smaller n_layer, n_embd or vocab_size")
    assert "more micro_batches (up to the batch_size 9999)" in refusal(1 << 30, GPTConfig(), batch_size=9999)
    long = GPTConfig(context_length=10**6)
    assert refusal(1 << 30, long, batch_size=1).endswith("use a smaller context_length, n_layer or n_embd")
    largest = 2**31 - 1
    huge = GPTConfig(largest, largest, largest, 1, largest, positions="relative-bias", tie_weights=False)
    assert "parameters" in refusal(2**62, huge, batch_size=largest)
    need = memory_needed(GPTConfig(), TrainConfig())
    enough = need.parameters + need.activations
    assert refusal(enough - 1, GPTConfig())
    for there in (enough, None):
        monkeypatch.setattr(npgpt.memory, "available_memory", lambda there=there: there)
        check_memory(GPTConfig(), TrainConfig())


def fake(root: Path, files: dict[str, str]) -> str:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return str(root)


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\nSwapFree: 1000 kB\nHugePages_Total:  0\n"}
GROUP = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 9000 << 10),
        # Version 2: the group, one above it without a limit, the top.
        (
            {
                "proc/self/cgroup": "0::/user/job\n",
                f"{GROUP}/user/job/memory.max": "4096000\n",
                f"{GROUP}/user/job/memory.stat": "anon 96000\nfile 2000\n",
                f"{GROUP}/user/memory.max": "max\n",
            },
            4_000_000 + (1000 << 10),
        ),
        ({"proc/self/cgroup": "0::/../outside\n", f"{GROUP}/memory.max": "5000000\n"}, 5_000_000 + (1000 << 10)),
        # Version 1, in a container that sees the path of the machine outside.
        (
            {
                "proc/self/cgroup": "4:cpu,memory:/docker/abc\n0::/\n",
                f"{GROUP}/memory/memory.limit_in_bytes": "3000000\n",
                f"{GROUP}/memory/memory.stat": "rss 1\ntotal_rss 500000\n",
            },
            2_500_000 + (1000 << 10),
        ),
        ({"proc/self/cgroup": "4:memory:/\n", f"{GROUP}/memory/memory.limit_in_bytes": f"{2**63}\n"}, 9000 << 10),
    ],
)
def test_free_memory_is_limited_by_control_groups(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert available_memory(fake(tmp_path, MEMINFO | files)) == expected


def test_free_memory_is_limited_by_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    page = resource.getpagesize()
    root = fake(tmp_path, MEMINFO | {"proc/self/statm": "10 5 1 1 0 1 0\n"})
    monkeypatch.setattr(resource, "getrlimit", lambda which: (100 * page, 200 * page))
    assert available_memory(root) == 90 * page
    monkeypatch.setattr(resource, "getrlimit", lambda which: (page, page))
    assert available_memory(root) == 0


def test_without_linux_it_is_the_memory_of_the_machine_or_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = available_memory(str(tmp_path))
    assert found is not None and found > 1 << 27
    monkeypatch.delattr(os, "sysconf")
    assert available_memory(str(tmp_path)) is None
    here = available_memory()
    assert here is None or here > 1 << 27
