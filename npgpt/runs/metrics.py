"""The rows of ``metrics.jsonl``: one for each evaluation."""

import os
from pathlib import Path
from typing import Any

from npgpt.errors import DataError, RunError
from npgpt.runs.layout import damage
from npgpt.support.compressed import read_bytes
from npgpt.support.files import failures_named, write_atomically
from npgpt.support.json_files import MAX_JSON, field, numbers_line, parse_json

BASELINES = ("unigram_loss", "bigram_loss")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics file. A last row that a crash cut off is left out.

    Raises
        RunError that names the file and the line, if a row is no object of numbers; or if the path is no file.
    """
    rows: list[dict[str, Any]] = []
    if not os.path.lexists(path):
        return rows
    if not path.is_file():
        raise RunError(f"{path} is not a file; remove it, or restore a copy")
    with damage(path):
        data = read_bytes(path, MAX_JSON).removeprefix(b"\xef\xbb\xbf").rstrip(b"\0")  # a power cut may leave NULs
    lines = data.splitlines()
    cut_off = len(lines) if not data.endswith((b"\n", b"\r")) and lines[-1:] and lines[-1].startswith(b"{") else 0
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        where = f"{path}, line {number}"
        try:
            row = parse_json(line, where)
            for name in row if isinstance(row, dict) else ("step",):
                field(row, name, float, where)
        except DataError as error:
            if number == cut_off and not line.rstrip().endswith(b"}"):
                break
            raise RunError(f"{error}; correct the line, or delete the file") from None
        rows.append(row)
    return rows


def up_to(rows: list[dict[str, Any]], step: int, row: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the rows before a step, and the row of this step, which its checkpoint holds."""
    return [each for each in rows if each.get("step", 0) < step] + ([row] if row else [])


def write_metrics(path: Path, rows: list[dict[str, Any]]) -> None:
    write_atomically(path, "".join(numbers_line(row, RunError) for row in rows).encode())


def add_metrics(path: Path, row: dict[str, Any]) -> None:
    """Append a row, and flush it to the disk."""
    line = numbers_line(row, RunError).encode()
    with failures_named(path), open(path, "ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def cut_record(path: Path, step: int) -> None:
    """Keep the lines of a record of ``--record-every`` up to a step. A line that a crash cut off goes, too."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if field(parse_json(line, str(path)), "step", int, str(path)) > step:
                break
        except DataError:
            break
        kept.append(line)
    write_atomically(path, b"".join(kept))
