"""The house's plan: who may import whom. No circle; layers and model stand on NumPy alone."""

import ast
import subprocess
import sys
from pathlib import Path

import npgpt

ROOT = Path(npgpt.__file__).parent
FILES = {".".join(["npgpt", *path.relative_to(ROOT).with_suffix("").parts]): path for path in ROOT.rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}


def imports(path: Path) -> set[str]:
    """What a file imports when it is imported: names of modules, ours in full."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {part if part in MODULES else str(node.module) for part in parts}
    return found


GRAPH = {name: {ours for ours in imports(path) if ours in MODULES} for name, path in MODULES.items()}


def test_there_is_no_circle() -> None:
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way, name])
        if name not in done:
            for other in GRAPH[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in GRAPH:
        visit(name, ())


def test_layers_and_model_stand_on_numpy_alone() -> None:
    for name, path in MODULES.items():
        if name.startswith(("npgpt.layers", "npgpt.core")) or name in ("npgpt.model", "npgpt.rng", "npgpt.exact"):
            foreign = {module.split(".")[0] for module in imports(path)} - {"npgpt", "numpy"}
            assert foreign <= set(sys.stdlib_module_names), f"{name} imports {foreign}"
            allowed = ("npgpt.core", "npgpt.layers", "npgpt.errors", "npgpt.rng", "npgpt.exact", "npgpt.config")
            assert all(ours.startswith(allowed) or ours == "npgpt" for ours in GRAPH[name]), (name, GRAPH[name])


def test_hypothesis_is_imported_by_the_testing_kit_alone() -> None:
    assert [name for name, path in MODULES.items() if "hypothesis" in imports(path)] == ["npgpt.testing"]


def test_no_file_is_longer_than_it_should_be() -> None:
    assert not [name for name, path in MODULES.items() if len(path.read_text().splitlines()) > 400]


def test_importing_needs_no_extra() -> None:
    code = (
        "import sys, importlib, pkgutil, npgpt;"
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(npgpt.__path__, 'npgpt.')"
        " if m.name not in ('npgpt.testing', 'npgpt.__main__')];"
        "extras = {'torch', 'matplotlib', 'hypothesis', 'pytest', 'transformers', 'tiktoken'} & set(sys.modules);"
        "sys.exit(str(extras) if extras else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
