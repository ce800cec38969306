"""The place in a forward pass that called an operation, and the text of its expression: what a diagnosis quotes."""

import ast
import functools
import itertools
import linecache
import opcode
import sys
import textwrap
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np

OURS, NUMPY = str(Path(__file__).parent), str(Path(np.__file__).parent)
CACHE = opcode.opmap.get("CACHE", 0)
LONGEST = 46  # of a quoted expression


class Site(NamedTuple):
    """A place in the code.

    Attributes
        code, at: the code of the function, and the offset of the instruction that called the operation.
        name: NumPy's name of the operation.
        order: the number of the operation among those that one call consists of.
        operand: the position of an operand.
    """

    code: types.CodeType
    at: int
    name: str
    order: int = 0
    operand: int = 0


def caller() -> tuple[types.CodeType, int]:
    """Return the code and the instruction from which the present operation was called: outside the tape and NumPy."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((OURS, NUMPY)):
        if frame.f_code.co_name in ("run", "_run"):  # the checker called a function of NumPy's itself
            break
        frame = frame.f_back
    return frame.f_code, _start(frame.f_code, frame.f_lasti)


@functools.cache
def _start(code: types.CodeType, at: int) -> int:
    """Return the offset of an instruction: once Python has specialised it, a frame may stand at its inline cache."""
    while at > 0 and code.co_code[at] == CACHE:
        at -= 2
    return at


def expression(code: types.CodeType, at: int) -> tuple[int, str, str]:
    """Return the line of an instruction, the text of its expression, and the variable that holds its value, if any."""
    return _expression(code.co_filename, code, at)


@functools.cache
def _expression(file: str, code: types.CodeType, at: int) -> tuple[int, str, str]:  # equal code may be in two files
    if code.co_filename.startswith(OURS):  # a function of NumPy's was called by the checker itself
        return 0, "", ""
    first, last, left, right = next(itertools.islice(code.co_positions(), at // 2, None), (None,) * 4)
    if first is None or last is None or left is None or right is None:
        return code.co_firstlineno, "", ""
    lines = [linecache.getline(code.co_filename, n).encode() for n in range(first, last + 1)]
    if not lines[0]:
        return first, "", ""
    whole = b"".join(lines).decode()
    lines[-1] = lines[-1][:right]
    text = " ".join(b"".join(lines)[left:].decode().split())
    variable = ""
    try:
        ast.parse(text, mode="eval")  # the file may have changed since it was imported
    except SyntaxError:
        return first, "", ""
    try:
        statement = ast.parse(textwrap.dedent(whole)).body[0]
    except (SyntaxError, IndexError):
        return first, text, ""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = ast.unparse(statement.targets[0])
        if " ".join(whole.split()).partition("=")[2].strip().startswith(text) and len(target) < 20:
            variable = target if " ".join(whole.split()).endswith(text) else ""
    return first, text, variable


def shown(site: Site, operand: bool = False) -> str:
    """Return a quotation of the expression, or of one operand in it, with its line."""
    line, text, _ = expression(site.code, site.at)
    part = operand_text(site, site.operand) if operand else ""
    if not text:
        return f"np.{site.name}" + (f" in line {line}" if line else "")
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    return f"{part} in {text} (line {line})" if part and part != text else f"{text} (line {line})"


def variable(site: Site) -> str:
    """Return the name of the variable that holds the result of an operation, else the text of its expression."""
    _, text, name = expression(site.code, site.at)
    return name or (text if len(text) <= 24 else "")


def operand_text(site: Site, position: int) -> str:
    """Return the text of an operand: one side of an operator, or an argument of a call."""
    try:
        node = ast.parse(expression(site.code, site.at)[1], mode="eval").body
    except SyntaxError:
        return ""
    parts: list[ast.expr] = []
    if isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Call):
        called = node.func
        is_method = isinstance(called, ast.Attribute) and ast.unparse(called.value) not in ("np", "numpy")
        arguments = [x for x in node.args if not (isinstance(x, ast.Constant) and isinstance(x.value, str))]
        parts = [called.value, *arguments] if is_method and isinstance(called, ast.Attribute) else arguments
    text = ast.unparse(parts[position]) if position < len(parts) else ""
    return text if len(text) <= LONGEST else ""
