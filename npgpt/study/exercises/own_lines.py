"""An exception in a user's file, told by the user's own lines: npgpt's lines say nothing to someone who learns."""

import ast
import textwrap
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

import numpy as np

WIDTH = 79  # of a line of a message
LONGEST = 40  # characters of a value that is shown in full


def filled(text: str, indent: str = "") -> str:
    """Return text in lines that fit a narrow terminal; ``indent`` begins all but the first."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def own_frames(error: BaseException, file: str) -> list[tuple[FrameType, int]]:
    """Return (frame, line number) of each call in the user's file that an exception went through."""
    found = traceback.walk_tb(error.__traceback__)
    return [(frame, number) for frame, number in found if frame.f_code.co_filename == file]


def line_of(error: BaseException, file: str) -> int:
    """Return the number of the last line of the user's file that an exception went through; 0 if there is none."""
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    frames = own_frames(error, file)
    return frames[-1][1] if frames else 0


def told(error: BaseException, file: str, source: str) -> str:
    """Return the user's lines that an exception went through, the exception, and what the last line worked on."""
    lines = [line for line in traceback.extract_tb(error.__traceback__) if line.filename == file]
    text = "".join(traceback.format_list(lines)) + f"{type(error).__name__}: {error}"
    frames = own_frames(error, file)
    values = dict(values_in_line(*frames[-1], source)) if frames else {}
    here = ", ".join(filter(None, map(_shown, values, values.values())))
    return f"{text}\n{filled(f'In this line {here}.')}" if here else text


def told_in_one_line(error: BaseException, file: str, source: str) -> str:
    """Return the number and the text of the user's line that raised an exception, and the exception."""
    number, says = line_of(error, file), error.msg if isinstance(error, SyntaxError) else error
    lines = source.splitlines()
    where = f" line {number}, `{lines[number - 1].strip()}`:" if 0 < number <= len(lines) else ""
    return f"{where} {type(error).__name__}: {says}".lstrip()


def values_in_line(frame: FrameType, number: int, source: str) -> Iterator[tuple[str, Any]]:
    """Yield (text, value) of the names, attributes and kept arrays in a line of the user's file."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.expr) and node.lineno == number]
    for node in sorted(nodes, key=lambda node: (node.col_offset, node.end_col_offset or 0)):
        constant = isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
        calls = any(isinstance(part, ast.Call) for part in ast.walk(node))  # nothing is called a second time
        text = ast.unparse(node)
        if calls or ".shape" in text or not (constant or isinstance(node, ast.Name | ast.Attribute)):
            continue
        try:
            yield text, eval(text, frame.f_globals, frame.f_locals)
        except Exception:  # perhaps the very error that is told
            continue


def _shown(name: str, value: Any) -> str:
    """Return the shape of an array, or the value of something short; nothing for anything else."""
    if isinstance(value, np.ndarray):
        return f"{name}.shape = {value.shape}"
    plain = isinstance(value, bool | int | float | complex | str | tuple | list | range)
    return f"{name} = {value!r}" if plain and len(repr(value)) <= LONGEST else ""
