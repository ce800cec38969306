"""The screen of ``npgpt explain``: a heat map of one tensor, a cursor, and the terms of the gradient at the cursor."""

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError
from npgpt.study.trace.tracing import Trace
from npgpt.support.terminal import escape_controls

KEYS = "arrows move · n/p next/previous tensor · [ ] slice · g gradient/value · t table · q quit"
BLUES_TO_REDS = (21, 33, 39, 75, 111, 153, 255, 224, 217, 210, 203, 196, 160)  # of the 256 colours
NUMBER = 8  # columns of a number


@dataclass
class View:
    """The state of the screen.

    Attributes
        tensor: index of the tensor in the trace; −1 is the table.
        row: selected row of the table.
        cursor: tensor -> selected cell.
        gradient: whether gradients are shown instead of values.
    """

    tensor: int = -1
    row: int = 0
    cursor: dict[int, list[int]] = field(default_factory=dict)
    gradient: bool = False


def walk(trace: Trace, tokens: list[str]) -> None:
    """Show the trace until q is pressed."""
    view, colour = View(), "NO_COLOR" not in os.environ
    with _raw_terminal():
        while True:
            width, height = shutil.get_terminal_size()
            lines = screen(trace, view, tokens, width, height, colour)
            sys.stdout.write("\x1b[H" + "\n".join(line + "\x1b[K" for line in lines) + "\x1b[J")
            sys.stdout.flush()
            for key in _keys():
                if not press(trace, view, key, height):
                    return


def press(trace: Trace, view: View, key: str, height: int) -> bool:
    """Change the view according to a key. Return False if the key quits."""
    if key in ("q", "\x03", "\x04", ""):
        return False
    if view.tensor < 0:
        step = {"down": 1, "up": -1, "right": height - 4, "left": 4 - height, " ": height - 4}.get(key, 0)
        view.row = min(max(0, view.row + step), len(trace) - 1)
        if key in ("\r", "\n", "n"):
            view.tensor = view.row
        return True
    shape = list(trace)[view.tensor].value.shape
    cursor = view.cursor.setdefault(view.tensor, [0] * len(shape))
    if key == "t":
        view.tensor, view.row = -1, view.tensor
    elif key == "g":
        view.gradient = not view.gradient
    elif key in ("n", "p"):
        view.tensor = (view.tensor + (1 if key == "n" else -1)) % len(trace)
    elif key in ("[", "]"):
        _next_slice(cursor, shape, 1 if key == "]" else -1)
    else:
        axis = {"left": -1, "right": -1, "up": -2, "down": -2}.get(key)
        if axis is not None and len(shape) >= -axis:
            step = 1 if key in ("right", "down") else -1
            cursor[axis] = min(max(0, cursor[axis] + step), shape[axis] - 1)
    return True


def _next_slice(cursor: list[int], shape: tuple[int, ...], step: int) -> None:
    outer = shape[:-2]
    if outer:
        flat = int(np.ravel_multi_index(cursor[:-2], outer))
        cursor[:-2] = [int(i) for i in np.unravel_index((flat + step) % int(np.prod(outer)), outer)]


def screen(trace: Trace, view: View, tokens: list[str], width: int, height: int, colour: bool) -> list[str]:
    """Return the lines of the screen, each at most ``width`` long."""
    if view.tensor < 0:
        return _table(trace, view, width, height)
    tensor = list(trace)[view.tensor]
    shape = tensor.value.shape
    cursor = view.cursor.setdefault(view.tensor, [0] * len(shape))
    gradient = view.gradient and tensor.grad is not None
    numbers = tensor.grad if gradient and tensor.grad is not None else tensor.value
    what = "gradient of " if gradient else ""
    lines = [
        f"{view.tensor + 1}/{len(trace)}  {what}{tensor.name}  {'×'.join(map(str, shape)) or 'scalar'}  "
        f"{tensor.layer.__name__}",
        f"slice [{', '.join(map(str, cursor[:-2]))}, :, :]" if len(shape) > 2 else "",
    ]
    lines += _heat_map(numbers, cursor, width, max(1, height - 12), colour)
    room = max(2, height - len(lines) - 3)
    lines += ["", *_about_cell(trace, tensor.name, tensor.grad, tensor.value, cursor, width, room)]
    shown_tokens = " ".join(f"{i}:{escape_controls(token, keep='')!r}" for i, token in enumerate(tokens))
    lines = [line if "\x1b" in line else line[:width] for line in lines]
    return [*lines[: height - 2], f"tokens {shown_tokens}"[:width], KEYS[:width]]


def _table(trace: Trace, view: View, width: int, height: int) -> list[str]:
    rows = [[row[0], *row[2:]] for row in (list(trace.HEADER), *trace.rows())]  # the screen of a tensor shows the class
    lines = aligned(rows, " ")
    room = max(1, height - 3)
    top = min(max(0, view.row - room // 2), max(0, len(trace) - room))
    shown = [("> " if top + i == view.row else "  ") + line for i, line in enumerate(lines[1 + top : 1 + top + room])]
    foot = f"{view.row + 1} of {len(trace)} · arrows move · enter opens · q quits"
    return [line[:width] for line in ("  " + lines[0], *shown, "", foot)]


def aligned(rows: list[list[str]], between: str) -> list[str]:
    """Return the lines of a table. Each column is as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [between.join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _heat_map(numbers: Array, cursor: list[int], width: int, room: int, colour: bool) -> list[str]:
    matrix = np.atleast_2d(numbers[tuple(cursor[:-2])] if numbers.ndim > 2 else numbers)
    row, column = [0, 0, *cursor][-2:] if numbers.ndim > 1 else (0, cursor[-1] if cursor else 0)
    across = max(1, (width - 5) // NUMBER)
    left = min(max(0, column - across // 2), max(0, matrix.shape[1] - across))
    top = min(max(0, row - room // 2), max(0, matrix.shape[0] - room))
    part = matrix[top : top + room, left : left + across]
    largest = float(np.abs(matrix[np.isfinite(matrix)]).max(initial=0)) or 1.0
    lines = ["     " + "".join(f"{left + j:>{NUMBER}}" for j in range(part.shape[1]))]
    for i, line in enumerate(part):
        cells = [_cell_text(x, largest, (top + i, left + j) == (row, column), colour) for j, x in enumerate(line)]
        lines.append(f"{top + i:>4} " + "".join(cells))
    sizes = zip(matrix.shape, part.shape, ("rows", "columns"), strict=True)
    hidden = [f"{n - shown} more {what}" for n, shown, what in sizes if n > shown]
    return [*lines, "     " + ", ".join(hidden)] if hidden else lines


def _cell_text(x: float, largest: float, here: bool, colour: bool) -> str:
    text = f"{_short(x):>{NUMBER - 1}}"
    text = f"[{text.strip():>{NUMBER - 2}}]" if here else f"{text} "
    if not colour or not np.isfinite(x):
        return text
    shade = BLUES_TO_REDS[round((x / largest + 1) / 2 * (len(BLUES_TO_REDS) - 1))]
    return f"\x1b[48;5;{shade}m\x1b[38;5;16m{text}\x1b[0m"


def _short(x: float) -> str:
    """Return a number in at most ``NUMBER - 1`` characters, with as many digits as fit; an exponent is never cut."""
    if not np.isfinite(x):
        return "−∞" if x == -np.inf else str(x)
    plain = f"{x:.3f}".rstrip("0").rstrip(".")
    if (abs(x) >= 1e-2 or not x) and len(plain) < NUMBER:
        return plain
    texts = [f"{x:.{digits}g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e") for digits in (3, 2, 1)]
    return next((text for text in texts if len(text) < NUMBER), texts[-1])


def _about_cell(
    trace: Trace, name: str, grad: Array | None, value: Array, cursor: list[int], width: int, room: int
) -> list[str]:
    """Return the value at the cursor and the terms of its gradient."""
    cell = tuple(cursor)
    lines = [f"{name}[{','.join(map(str, cell))}] = {float(value[cell]):.6g}"]
    if grad is not None:
        try:
            lines += str(trace.ledger(name, cell)).splitlines()
        except ConfigError as error:  # the tensor is too large for a ledger, or holds no floats
            lines.append(f"gradient {grad[cell]:.6g}; {error}")
    return [_fitted(line, width) for line in lines[:room]]


def _fitted(line: str, width: int) -> str:
    """Shorten a line: a term loses the start of the tensor's name, so that the cell stays; a sum loses its end."""
    numbers, mark, name = line.rpartition("   ∂L/∂ ")
    room = width - len(numbers + mark) - 1
    if len(line) <= width or not mark or room < 1:
        return line if len(line) <= width else line[: width - 1] + "…"
    return f"{numbers}{mark}…{name[-room:]}"


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Read keys one by one on a second screen. The first screen comes back, after an error too."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        raise ConfigError("the screen of a trace needs a Unix terminal; use --plain, --json or -o FILE") from None
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        sys.stdout.write("\x1b[?1049h\x1b[?25l")
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


def _keys() -> list[str]:
    """Return the keys that were pressed, one or more: characters, or "up", "down", "left", "right"."""
    found = []
    arrows = {"A": "up", "B": "down", "C": "right", "D": "left"}
    pressed = os.read(sys.stdin.fileno(), 1024).decode("utf-8", "replace")
    for part in re.findall(r"\x1b[\[O][\d;]*.|.", pressed, re.DOTALL):
        found.append(arrows.get(part[-1], "other") if len(part) > 1 else part)
    return found or [""]  # the terminal was closed
