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

EXTRAS = {"peers": "torch", "viz": "matplotlib"}  # extra -> the module that shows whether it is installed


def pytest_configure(config: pytest.Config) -> None:
    for extra in EXTRAS:
        config.addinivalue_line("markers", f"{extra}: needs the extra of this name")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for extra, module in EXTRAS.items():
        if item.get_closest_marker(extra) and importlib.util.find_spec(module) is None:
            message = f"needs the extra '{extra}': pip install -e '.[{extra}]'"
            if extra in os.environ.get("NPGPT_REQUIRE", "").split():
                pytest.fail(message)
            pytest.skip(message)
