"""The import order of the packages. Imports in functions and for type checkers count too."""

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import npgpt

ROOT = Path(npgpt.__file__).parent
PATHS = {".".join(["npgpt", *path.relative_to(ROOT).with_suffix("").parts]): path for path in ROOT.rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): path for name, path in PATHS.items()}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

# From bottom to top; each package imports only from lower ones and, without cycles, from itself.
FLOORS = """version errors exact rng core support layers config sampling presets memory model machine kernels optim
            compiled build tokenizer data train baselines evaluation runs embeddings study testing cli
            __main__""".split()  # noqa: SIM905
FRONT_DOOR = "npgpt"
FINDS_BY_NAME = (
    FRONT_DOOR,
    "npgpt.study.mutants.plant",
    "npgpt.support.forks",
)  # lazy imports; planted mistakes; a fork
KNOW_ALL_MODULES = (
    "npgpt.study.check.files",
    "npgpt.study.mutants.plant",
    "npgpt.support.forks",
)  # a person's file; planted mistakes


def imports(name: str) -> Iterator[str]:
    """Yield the names of all modules that a module imports, at any place; npgpt modules with full path."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute here"
            for alias in node.names:
                part = f"{node.module}.{alias.name}"
                yield part if part in MODULES else str(node.module)


GRAPH = {name: {ours for ours in imports(name) if ours in MODULES} for name in MODULES}


def room(name: str) -> str:
    return name.split(".")[1]


def test_there_is_no_import_cycle() -> None:
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way, name])
        if name not in done:
            for other in GRAPH[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in GRAPH:
        visit(name, ())


def test_imports_point_to_lower_packages() -> None:
    for name, others in GRAPH.items():
        for other in others if name != FRONT_DOOR else ():
            assert other != FRONT_DOOR, f"{name} imports from the front door"
            below = FLOORS.index(room(other)) < FLOORS.index(room(name))
            assert below or room(other) == room(name), f"{name} imports {other}, which is above it"


def test_no_module_is_looked_up_by_name() -> None:
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            named = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            of_sys = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys"
            assert not (named == "modules" and of_sys) or name in KNOW_ALL_MODULES, f"{name} asks sys.modules"
            assert named not in ("__import__", "import_module") or name in FINDS_BY_NAME, f"{name}: {named}"


def test_layers_and_model_need_only_numpy() -> None:
    for name in MODULES:
        if name != FRONT_DOOR and room(name) in ("exact", "rng", "core", "layers", "config", "model"):
            foreign = {module.split(".")[0] for module in imports(name)} - {"npgpt", "numpy"}
            assert foreign <= set(sys.stdlib_module_names), f"{name} imports {foreign}"


def test_only_machine_and_kernels_import_numba() -> None:
    using = {name for name in MODULES for module in imports(name) if module.split(".")[0] in ("numba", "llvmlite")}
    assert not [name for name in using if room(name) != "machine" and "kernels" not in name.split(".")]


def test_only_the_testing_module_imports_hypothesis() -> None:
    assert [name for name in MODULES if "hypothesis" in set(imports(name))] == ["npgpt.testing"]


@pytest.mark.parametrize("package", sorted(name for name in PATHS if name.endswith(".__init__")))
def test_no_exported_name_equals_a_submodule(package: str) -> None:
    """Otherwise importing the submodule would change the meaning of ``package.name``."""
    tree = TREES[package.removesuffix(".__init__")]
    exported: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            exported |= {a.asname or a.name for a in node.names if f"{node.module}.{a.name}" not in MODULES}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            exported.add(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            exported.add(node.targets[0].id)
            if node.targets[0].id == "__all__":
                exported |= set(ast.literal_eval(node.value)) - {"layers", "compiled"}  # these are modules
    inside = {module.name for module in pkgutil.iter_modules([str(PATHS[package].parent)])}
    assert not exported & inside


@pytest.mark.parametrize("folder", ["npgpt", "tests", "benchmarks", "examples"])
def test_no_file_has_more_than_400_lines(folder: str) -> None:
    paths = [*(Path(__file__).parents[1] / folder).rglob("*.py")]
    assert paths and not [path for path in paths if len(path.read_text(encoding="utf-8").splitlines()) > 400]


def test_importing_needs_no_optional_package() -> None:
    code = (
        "import sys, importlib, pkgutil, npgpt;"
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(npgpt.__path__, 'npgpt.')"
        " if m.name not in ('npgpt.testing', 'npgpt.__main__')];"
        "extras = {'torch', 'matplotlib', 'hypothesis', 'pytest', 'tiktoken', 'tokenizers', 'gensim', 'pyarrow'};"
        "sys.exit(str(extras & set(sys.modules)) if extras & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
