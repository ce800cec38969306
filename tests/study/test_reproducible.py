"""The same weights to the last bit, for any number of threads and any CPU, whatever other libraries do."""

import functools
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llvmlite import binding

from npgpt import compiled, layers
from npgpt.build import make_gpt
from npgpt.cli import main
from npgpt.config import GPTConfig
from npgpt.machine.pool import get_num_threads
from npgpt.study import machine_facts, promises, reproducible
from npgpt.study.reproducible import (
    MODELS,
    PLAIN_LIBRARIES,
    REFERENCE,
    REFERENCE_HASH,
    STEPS,
    hash_elsewhere,
    text,
    train,
    training,
    versions_here,
    weights_hash,
)
from npgpt.train import training_steps

# Numba adds this machine's features to another CPU's name, if it is not told that they are none.
CPUS = {name: {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""} for name in ("haswell", "skylake-avx512", "generic")}
NEEDS = {"haswell": ("avx2", "fma", "bmi2", "f16c", "lzcnt", "movbe"), "generic": ()}
NEEDS["skylake-avx512"] = (*NEEDS["haswell"], "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
NUMPY = {name: PLAIN_LIBRARIES[name] for name in ("NPY_DISABLE_CPU_FEATURES",)}  # their names depend on its version
GLIBC = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA"}

# Prints hashes: of what does change with the settings below, and, as "ours", of what must not: where training starts,
# what it reads, and (over more steps than the models are trained for, since few of those bits change) its rates.
WITNESS = """
import hashlib, json, math
import numpy as np
from npgpt.build import make_gpt
from npgpt.compiled.optim import AdamW
from npgpt.core import FlatParams, Param
from npgpt.data import SlidingWindows
from npgpt.optim import WarmupCosine
from npgpt.rng import make_key, random_bits
from npgpt.study.reproducible import MODELS, text

def code(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()

x = 1 + random_bits(make_key("x"), np.arange(60_000, dtype=np.uint32)) / 2**22
a = x.astype(np.float32)[:10_000].reshape(100, 100)
models = [make_gpt(config, kernels, seed=3) for config in MODELS for kernels in ("compiled", "textbook")]
windows = SlidingWindows(text(), 11, batch_size=5, shuffle=True, seed=3)
schedule = WarmupCosine(0.01, 0.001, 5, 3000)
optimizer = AdamW(FlatParams([Param(np.zeros(1))], np.float32))
numbers = []
for step in range(3000):
    optimizer.step(0.0)
    numbers += [schedule(step), optimizer.power1, optimizer.power2]
print(json.dumps({
    "np.log, float32": code(np.log(x.astype(np.float32))),
    "np.log, float64": code(np.log(x)),
    "matmul": code(a @ a),
    "math.cos": code([math.cos(v) for v in x]),
    "float ** int": code([0.999**t for t in range(5000)]),
    "ours": code(
        *(model.flat.values for model in models), *(np.stack(windows.batch(step)) for step in range(70)), numbers
    ),
}))
"""


def need(cpu: str) -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"{cpu} is an x86-64 CPU, this one is {platform.machine()}")
    has = binding.get_host_cpu_features()
    if missing := [name for name in NEEDS[cpu] if not has.get(name)]:
        pytest.skip(f"this CPU has no {', '.join(missing)}, so it cannot run code for {cpu}")


@functools.cache
def trained_for(cpu: str) -> tuple[str, str]:
    return hash_elsewhere(STEPS, 2, CPUS[cpu])


@functools.cache
def reference() -> str:
    return weights_hash(STEPS, 1)


def witness(variables: dict[str, str]) -> dict[str, str]:
    ran = subprocess.run(
        [sys.executable, "-c", WITNESS], env=os.environ | variables, capture_output=True, encoding="utf-8", check=True
    )
    seen: dict[str, str] = json.loads(ran.stdout)
    return seen


@functools.cache
def unchanged() -> dict[str, str]:
    return witness({})


def test_hashed_weights_equal_trained_weights() -> None:
    clipped = []
    for config in MODELS:
        ours, optimizer, _ = train(config, STEPS)
        theirs = make_gpt(config, seed=training(STEPS).seed)
        clipped += [
            step.grad_norm > training(STEPS).grad_clip for step in training_steps(theirs, text(), training(STEPS))
        ]
        assert (ours.flat.values == theirs.flat.values).all()
        assert optimizer.mean.any() and optimizer.square.any()
    assert 0 < sum(clipped) < len(clipped)


@pytest.mark.parametrize("threads", [2, 3])
def test_hash_is_equal_for_any_number_of_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, used = reference(), []

    def watched(config: GPTConfig, steps: int) -> object:
        used.append(get_num_threads())
        return train(config, steps)

    monkeypatch.setattr(reproducible, "train", watched)
    assert weights_hash(STEPS, threads) == expected
    assert used == [threads] * len(MODELS)


def test_hash_is_equal_in_another_process() -> None:
    assert hash_elsewhere(STEPS, 1, {})[1] == reference()


def test_hash_is_made_with_the_threads_and_the_settings_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above and those below would compare a hash with itself."""
    threads, programs = [], []

    def spy(config: GPTConfig, steps: int) -> Any:
        threads.append(get_num_threads())
        return train(config, steps)

    def run(command: list[str], env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        programs.append((command[-1], env["MALLOC_ARENA_MAX"]))
        return subprocess.CompletedProcess(command, 0, "tile\nhash\n", "")

    monkeypatch.setattr(reproducible, "train", spy)
    monkeypatch.setattr(subprocess, "run", run)
    weights_hash(1, 3)
    assert threads == [3] * len(MODELS)
    assert hash_elsewhere(2, 3, {"MALLOC_ARENA_MAX": "7"}) == ("tile", "hash")
    ((program, setting),) = programs
    assert "weights_hash(2, 3)" in program and setting == "7"


@pytest.mark.slow
@pytest.mark.parametrize("cpu", CPUS)
def test_hash_is_equal_for_any_cpu(cpu: str) -> None:
    need(cpu)
    assert trained_for(cpu)[1] == reference()


@pytest.mark.slow
def test_each_kind_of_cpu_has_its_own_tile() -> None:
    for cpu in CPUS:
        need(cpu)
    tiles = {cpu: trained_for(cpu)[0] for cpu in CPUS}
    assert len(set(tiles.values())) == len(CPUS), tiles


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables", [NUMPY, GLIBC, {"OPENBLAS_CORETYPE": "Haswell"}, {"OPENBLAS_CORETYPE": "Nehalem"}], ids=str
)
def test_hash_is_equal_for_any_library_settings(variables: dict[str, str]) -> None:
    if variables.get("OPENBLAS_CORETYPE") == "Haswell":
        need("haswell")
    assert hash_elsewhere(STEPS, 2, variables)[1] == reference()
    assert witness(variables)["ours"] == unchanged()["ours"]


@pytest.mark.slow
def test_hash_is_equal_without_vector_units() -> None:
    """Without vector units and fused multiply-adds, which the C library then computes: that is slow, so one step."""
    need("generic")
    assert hash_elsewhere(1, 2, CPUS["generic"] | PLAIN_LIBRARIES)[1] == weights_hash(1, 1)


@pytest.mark.slow
def test_library_settings_change_other_results() -> None:
    """Else the tests above would show nothing."""
    need("haswell")
    has = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__
    if not any(has.get(name) for name in NUMPY["NPY_DISABLE_CPU_FEATURES"].split()):
        pytest.skip(f"NumPy {np.__version__} has no code of its own for this CPU that could be left out")

    def changed(variables: dict[str, str]) -> set[str]:
        seen = witness(variables)
        return {name for name, code in unchanged().items() if seen[name] != code}

    assert {"np.log, float32", "np.log, float64"} <= changed(NUMPY)
    if platform.libc_ver()[0] == "glibc":
        assert {"math.cos", "float ** int"} <= changed(GLIBC)
    if "openblas" in machine_facts.about_versions()["blas"]:
        assert "matmul" in changed({"OPENBLAS_CORETYPE": "Nehalem"})


def test_hash_depends_on_every_step() -> None:
    assert len({weights_hash(steps, 1) for steps in (1, 2, 3)}) == 3


def test_doctor_reports_that_all_promises_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    page = capsys.readouterr().out
    assert "all promises hold here" in page
    assert "FAILS" not in page
    assert reference()[:16] in page
    assert "npgpt's own; Numba's threading layer is not used" in page
    assert max(map(len, page.splitlines())) <= 80
    monkeypatch.setattr(promises, "CHECKS", {"equal": promises.compiled_equals_textbook})
    assert main(["doctor", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["hash"] == reference()
    assert seen["holds"] and all(promise["holds"] for promise in seen["promises"])


def test_doctor_exits_with_1_if_a_promise_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> tuple[bool, str]:
        raise RuntimeError("a surprise")

    monkeypatch.setattr(promises, "CHECKS", {"one": lambda: (False, "no"), "two": fail, "three": lambda: (True, "yes")})
    assert main(["doctor"]) == 1
    page = capsys.readouterr().out
    assert "FAILS         one: no" in page
    assert "FAILS         two: cannot be checked: RuntimeError: a surprise" in page
    assert "holds         three: yes" in page
    assert "NOT ALL PROMISES HOLD HERE" in page
    assert main(["doctor", "--json"]) == 1


@pytest.mark.parametrize("check", promises.CHECKS.values(), ids=lambda check: check.__name__)
def test_each_promise_is_found_broken(check: Callable[[], tuple[bool, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrong gradient, a kernel that is 1% off, and a hash here that no other is equal to."""
    backward = compiled.LayerNorm.backward
    monkeypatch.setattr(promises, "LAYERS", ("ReLU",))
    monkeypatch.setattr(layers.ReLU, "backward", lambda self, dy, cache: dy)
    monkeypatch.setattr(compiled.LayerNorm, "backward", lambda self, dy, cache: 1.01 * backward(self, dy, cache))
    monkeypatch.setattr(promises, "hash_here", lambda: "ours")
    monkeypatch.setattr(promises, "weights_hash", lambda *_: "other")
    monkeypatch.setattr(promises, "hash_elsewhere", lambda *_: ("tile", "other"))
    monkeypatch.setattr(promises, "versions_here", lambda: REFERENCE)
    holds, seen = check()
    assert not holds, seen


def test_the_hash_equals_the_reference_or_says_which_versions_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    if versions_here() == REFERENCE:
        assert reference() == REFERENCE_HASH
    monkeypatch.setattr(promises, "hash_here", lambda: "other")
    monkeypatch.setattr(promises, "versions_here", lambda: REFERENCE | {"numba": "9.9"})
    holds, seen = promises.same_as_the_reference()
    assert holds and seen == f"not comparable: numba 9.9, not {REFERENCE['numba']}"


def test_doctor_detects_different_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter(["same", "other", "same", "same"])
    monkeypatch.setattr(promises, "weights_hash", lambda *_: next(codes))
    promises.hash_here.cache_clear()
    try:
        holds, seen = promises.same_for_any_threads()
    finally:
        promises.hash_here.cache_clear()
    assert not holds
    assert "with 2: other, not same" in seen
