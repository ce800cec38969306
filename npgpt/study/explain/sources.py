"""The derivation of a layer as numbered lines, its code, and the line that computes a number."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from npgpt.core import Layer

SECTIONS = ("Forward", "Backward", "Shapes", "Keeps", "Raises", "Source", "Args", "Attributes")
# NumPy's functions that write into their first argument
FILLING = ("put_along_axis", "at", "copyto", "putmask", "place", "put")
# Steps whose result has no name in the code that follows: class -> a part of the line in forward and in backward
UNNAMED = {"Attention": ("_put_together(mixed)", "dmixed = ")}


def about(layer: type[Layer]) -> dict[str, Any]:
    """Return the name of a class, where its code is, what its docstring derives, and the code of both passes."""
    found: dict[str, Any] = {"name": layer.__name__} | derivation(inspect.getdoc(layer) or "")
    for way in ("forward", "backward"):
        file, first, lines = source(getattr(layer, way))
        found[way] = {"file": file, "first": first, "lines": lines}
    return found


def derivation(docstring: str) -> dict[str, Any]:
    """Return the summary, the forward formula, the numbered steps of the backward pass, shapes and source."""
    summary, *_ = docstring.splitlines() or [""]
    parts: dict[str, list[str]] = {}
    inside = ""
    for line in docstring.splitlines()[1:]:
        word, _, rest = line.partition(" ")
        if word in SECTIONS:
            inside = word
            parts[inside] = [rest.strip()]
        elif not line.startswith(" "):
            inside = ""
        elif inside:
            parts[inside].append(line.strip())
    given: list[str] = []
    steps: list[tuple[int, str]] = []
    for line in parts.get("Backward", []):
        if number := re.match(r"(\d+)\.\s+", line):
            steps.append((int(number[1]), line[number.end() :]))
        elif steps:
            steps[-1] = (steps[-1][0], f"{steps[-1][1]}\n{line}")
        else:
            given.append(line)
    texts = {name.lower(): "\n".join(parts.get(name, [])) for name in ("Forward", "Shapes", "Source")}
    texts["formula"] = texts.pop("forward")
    return {"summary": summary, **texts, "given": "\n".join(given), "steps": steps}


def source(function: Callable[..., Any]) -> tuple[str, int, list[str]]:
    """Return the file, the number of the first line, and the lines; nothing for code without a file."""
    try:
        lines, first = inspect.getsourcelines(function)
        path = Path(inspect.getsourcefile(function) or "")
    except (OSError, TypeError):
        return "", 0, []
    home = Path(__file__).parents[3]
    file = path.relative_to(home) if path.is_relative_to(home) else Path(path.name)
    return file.as_posix(), first, [line.rstrip("\n") for line in lines]


def line_of_value(layer: type[Layer], kept: str) -> int:
    """Return the index, among the lines of forward, of the one that computes a kept array, or "": the result."""
    return _line(layer.forward, "keep", kept, UNNAMED.get(layer.__name__, ("", ""))[0])


def line_of_gradient(layer: type[Layer], operand: str) -> int:
    """Return the index, among the lines of backward, of the one that computes the gradient of an operand.

    Args
        operand: a kept array or a parameter of the layer; "" for an input that the layer does not keep.
    """
    return _line(layer.backward, "note", operand, UNNAMED.get(layer.__name__, ("", ""))[1])


def _line(function: Callable[..., Any], verb: str, name: str, unnamed: str) -> int:
    """Return the index of the line where ``cache.keep`` or ``cache.note`` of a name, or the result, is computed."""
    _, _, lines = source(function)
    part = f"self.{name}.grad" if name else unnamed
    for i, line in enumerate(lines):
        if part and part in line:
            return i
    try:
        (tree,) = ast.parse(textwrap.dedent("\n".join(lines))).body
    except (SyntaxError, ValueError):
        return -1
    made: dict[str, int] = {}
    found: ast.expr | None = None
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            made |= {target.id: node.lineno for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.args:
            filled, called = node.value.args[0], getattr(node.value.func, "attr", "")
            if called in FILLING and isinstance(filled, ast.Name):
                made[filled.id] = node.lineno
        elif isinstance(node, ast.Return) and node.value is not None and found is None:
            found = node.value
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == verb and len(node.args) == 2:
            said = node.args[0]
            if name and isinstance(said, ast.Constant) and said.value == name:
                found = node.args[1]
    return -1 if found is None else _where_made(found, made) - 1


def _where_made(expression: ast.expr, made: dict[str, int]) -> int:
    """Return the number of the line that computes a value: through ``y.reshape(...)`` and ``where(mask, y, ...)``."""
    if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Attribute):
        owner = expression.func.value
        if expression.func.attr in ("where", "note", "keep"):
            return _where_made(expression.args[1], made)
        if isinstance(owner, ast.Name) and owner.id in made:
            return made[owner.id]
    return made.get(expression.id, expression.lineno) if isinstance(expression, ast.Name) else expression.lineno
