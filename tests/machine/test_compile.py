"""The folder of the machine code, and the edits that invalidate it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from npgpt.machine.code_files import PACKAGE

CODE = """
import sys
from pathlib import Path
import npgpt.machine.code_files as cache
package = cache.PACKAGE
mkdir = Path.mkdir
def refuse(path, *args, **kwargs):
    if any(path.is_relative_to(folder) for folder in {refused!r}):
        raise PermissionError(path)
    mkdir(path, *args, **kwargs)
Path.mkdir = refuse
import npgpt.tokenizer.kernels.decode as decode
import numpy as np
print(cache.cache_folder(), decode.decoded_size(np.array([1, 2], np.uint32), np.array([0, 0, 3, 7])))
"""


def run(refused: list[str], cache_home: Path) -> tuple[str, str]:
    environment = os.environ | {"XDG_CACHE_HOME": str(cache_home)}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(refused=refused)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith(" 7\n")
    return done.stdout.split()[0], done.stderr


def test_the_cache_folder_falls_back_to_the_users_and_then_to_none(tmp_path: Path) -> None:
    package = str(PACKAGE)
    folder, said = run([package], tmp_path / "cache")
    assert Path(folder).parent == tmp_path / "cache"
    assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert "compiling" in said
    assert "compiling" not in run([package], tmp_path / "cache")[1]  # found on disk
    folder, said = run([package, str(tmp_path)], tmp_path / "other")
    assert folder == "None"
    assert "compiling" in said


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="file modes are POSIX")
def test_a_folder_writable_by_others_is_not_used(tmp_path: Path) -> None:
    package = str(PACKAGE)
    folder, _ = run([package], tmp_path)
    Path(folder).chmod(0o777)
    assert run([package], tmp_path)[0] == "None"


EDITS = """
import sys
import npgpt.machine.code_files as cache
def name():
    cache._hashed.cache_clear()
    cache.cache_folder.cache_clear()
    return cache.cache_folder().name
before = name()
for path in sys.argv[1:]:
    file = cache.PACKAGE / path
    text = file.read_text()
    file.write_text(text + "# an edit")
    print(path, name() != before)
    file.write_text(text)
    assert name() == before
print(cache.PACKAGE)
"""


def test_only_edits_of_kernel_sources_invalidate_the_cache(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "npgpt", ignore=shutil.ignore_patterns("__pycache__"))
    rooms = ["machine", "kernels", "tokenizer/kernels", "embeddings/kernels"]
    made_of = ["exact.py", "machine/pool.py", "kernels/matmul.py", *(f"{room}/__init__.py" for room in rooms)]
    others = ["__init__.py", "rng.py", "cli/train.py", "layers/linear.py", "compiled/linear.py", "tokenizer/base.py"]
    done = subprocess.run(
        [sys.executable, "-c", EDITS, *made_of, *others],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [*(f"{path} True" for path in made_of), *(f"{path} False" for path in others), str(tmp_path / "npgpt")]
    assert done.stdout.splitlines() == expected


# This runs without a cache folder: cached machine code would hide that an import compiled it. At the end one kernel is
# compiled, to show that the test would report it.
IMPORT = """
import importlib, pkgutil
import npgpt.machine.compile as compile
from npgpt.machine import code_files
from npgpt.machine.numba_internals import watch_compilation
code_files.cache_folder = lambda: None
watch_compilation(lambda module: print("compiling", module), lambda: None)
for room in ("npgpt.compiled", "npgpt.kernels", "npgpt.tokenizer.kernels", "npgpt.embeddings.kernels"):
    for module in pkgutil.iter_modules(importlib.import_module(room).__path__):
        importlib.import_module(f"{room}.{module.name}")
print("done")
compile.kernel(lambda n: n + 1)(1)
"""


def test_an_import_compiles_no_kernel() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert done.stdout == "done\ncompiling __main__\n"
