"""Only one file uses private names of Numba and llvmlite. If one is missing, the textbook layers are used."""

import ast
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import npgpt
from npgpt.machine import numba_internals
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import INT

ROOT = Path(npgpt.__file__).parent
ALLOWED = ("numba", "numba.extending", "numba.types", "numba.njit")  # documented for extensions of Numba
OTHERS = ("re", "regex")  # their compile() has nothing to do with Numba
ATTRIBUTES = {
    *("_compile_for_args", "_insert", "add_overload", "compile", "get_call_type", "get_compile_result", "overloads"),
    *("active_code_library", "add_linking_library", "call_internal_no_propagate", "dispatcher", "fndesc"),
    *("get_call_template", "get_overload", "insert_user_function"),
}


def is_private(module: str) -> bool:
    return module.split(".")[0] in ("numba", "llvmlite") and module not in ALLOWED


def private_names(tree: ast.AST) -> Iterator[str]:
    """Yield the undocumented names of Numba and llvmlite in a syntax tree."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if is_private(alias.name)]
        elif isinstance(node, ast.ImportFrom):
            inside = node.module in ("numba.extending", "numba.types")
            parts = [str(node.module) if inside else f"{node.module}.{alias.name}" for alias in node.names]
            names = [part for part in parts if is_private(part)]
        elif isinstance(node, ast.Call):  # importlib, getattr, setattr
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            function = ast.unparse(node.func)
            if function.endswith("import_module") or function == "__import__":
                names = [text for text in texts if is_private(text)]
            elif function in ("getattr", "setattr", "hasattr"):
                names = [text for text in texts if text in ATTRIBUTES]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "sys.modules":
            names = [text for text in [ast.unparse(node.slice).strip("'")] if is_private(text)]
        elif isinstance(node, ast.Attribute):
            of = ast.unparse(node.value)
            if (node.attr in ATTRIBUTES and of not in OTHERS) or (of == "numba" and is_private(f"numba.{node.attr}")):
                names = [f"{of}.{node.attr}"]
        yield from names


def test_one_file_alone_uses_private_names() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): [*private_names(ast.parse(path.read_text()))] for path in ROOT.rglob("*.py")
    }
    assert [*filter(found.get, found)] == ["machine/numba_internals.py"], found
    assert {name.rpartition(".")[2] for name in found["machine/numba_internals.py"]} >= ATTRIBUTES


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n    from numba.core import cgutils",
        "from numba import core",
        "import llvmlite.ir as ir",
        "import numba.core.config",
        "importlib.import_module('numba.core.event')",
        "sys.modules['llvmlite']",
        "numba.core.config.CPU_NAME",
        "kernel.compile(())",
        "setattr(kernel, '_compile_for_args', f)",
    ],
)
def test_the_search_finds_private_names(code: str) -> None:
    assert len([*private_names(ast.parse(code))]) >= 1


FALLBACK = """
import sys, warnings
{change}
from npgpt.build import can_compile
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    print(can_compile())
print(said[0].message)
"""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("sys.modules['numba'] = None", "import of numba halted"),
        ("import numba.core.event as event; del event.Listener", "cannot import name 'Listener'"),
        (
            "from numba.core.dispatcher import Dispatcher as base; del base.get_compile_result",
            "this version of Numba has no Dispatcher.get_compile_result",
        ),
    ],
)
def test_the_textbook_replaces_kernels_if_a_name_is_missing(change: str, reason: str) -> None:
    code = FALLBACK.format(change=change)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    compiled, message = done.stdout.splitlines()
    assert compiled == "False"
    assert message.startswith("compiled layers are not available here (")
    assert reason in message


def test_two_threads_may_make_the_first_call_at_once() -> None:
    @entry(INT)
    def double(n: int) -> int:
        return 2 * n

    together, results = threading.Barrier(4), []

    def call(n: int) -> None:
        together.wait()
        results.append(double(n))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 2, 4, 6]
    kernel: Any = double
    assert len(kernel.overloads) == 1


def test_a_kernel_has_one_form_for_its_callers_and_others_for_python() -> None:
    compiled: list[str] = []
    numba_internals.watch_compilation(compiled.append, lambda: None)

    @kernel
    def twice(x: Any, times: int = 2) -> Any:
        return x * times

    @entry(INT)
    def sum_of_three(n: int) -> int:
        return twice(n, 2) + twice(n, 3) + twice(times=n, x=4)  # type: ignore[no-any-return]

    assert sum_of_three(10) == 90
    assert compiled == [__name__, __name__]
    kernels: Any = twice
    assert not kernels.overloads
    assert (twice(1.5), twice(7, 3)) == (3.0, 21)
    assert len(kernels.overloads) == 2


def test_the_settings_follow_the_environment() -> None:
    code = (
        "from npgpt.machine.numba_internals import bounds_checked, cpu_asked_for, jit_disabled;"
        "print(jit_disabled(), bounds_checked(), *cpu_asked_for().values())"
    )
    variables = {
        "NUMBA_DISABLE_JIT": "1",
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
    }
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip("\n") == "True True haswell "
    assert numba_internals.llvm_version().split(".")[0].isdecimal()
