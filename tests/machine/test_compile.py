"""Where the machine code is kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from npgpt.machine.compile import PACKAGE

CODE = """
import sys
from pathlib import Path
import npgpt.machine.compile as cache
package = cache.PACKAGE
mkdir = Path.mkdir
def refuse(path, *args, **kwargs):
    if any(path.is_relative_to(folder) for folder in {refused!r}):
        raise PermissionError(path)
    mkdir(path, *args, **kwargs)
Path.mkdir = refuse
import npgpt.tokenizer.kernels.decode as decode
import numpy as np
print(cache.cache_folder(), decode.decoded_size(np.array([1, 2], np.uint32), np.array([0, 3, 4])))
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


def test_unwritable_package_folder_leads_to_the_users_own_and_neither_to_none(tmp_path: Path) -> None:
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
def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    package = str(PACKAGE)
    folder, _ = run([package], tmp_path)
    Path(folder).chmod(0o777)
    assert run([package], tmp_path)[0] == "None"
