"""``npgpt trace``: every number of one pass, forward and backward, and what each gradient is the sum of."""

import argparse
import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.cli.trace_screen import aligned, walk
from npgpt.core import Array
from npgpt.errors import ConfigError, DataError
from npgpt.runs import load_run
from npgpt.study.trace import Trace, Traced, precision, trace
from npgpt.study.trace.ledger import parse_cell
from npgpt.study.trace.over_time import draw_record, read_record
from npgpt.study.trace.page import page
from npgpt.study.trace.tracing import small_model
from npgpt.support.files import write_atomically
from npgpt.support.terminal import escape_controls, given_text


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "trace",
        help="look at every number of one pass, and at what each gradient is the sum of",
        description=(
            "Run one forward and one backward pass over a text. On a terminal: a table, then one tensor at a time as a "
            "heat map; arrows move, and the line below says what the gradient under the cursor is the sum of."
        ),
    )
    parser.add_argument("text", nargs="?", help="the text (standard input, if not given)")
    parser.add_argument(
        "--run", metavar="DIR", dest="run_folder", help="a trained model (a small one, drawn at random)"
    )
    parser.add_argument("--tensor", metavar="NAME", help="print this tensor and its gradient")
    parser.add_argument(
        "--ledger", metavar="CELL", help="print the terms of one gradient: 'blocks.0.attention.q[0,1,3,0]'"
    )
    parser.add_argument("--page", metavar="FILE", help="write a page on which every gradient can be clicked")
    parser.add_argument("--precision", action="store_true", help="put float32 beside float64: where the digits go")
    parser.add_argument("--over-time", action="store_true", help="print what `npgpt train --record-every` recorded")
    parser.add_argument("--picture", metavar="FILE", help="with --over-time: draw it (needs the extra viz)")
    parser.add_argument("--plain", action="store_true", help="print the table, move nothing")
    parser.add_argument("--json", action="store_true", help="print all tensors as a list of objects")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.over_time:
        if not options.run_folder:
            raise ConfigError("--over-time needs --run DIR, a run of `npgpt train --record-every K`")
        _show_over_time(Path(options.run_folder), options.picture)
        return 0
    text = given_text(options.text)
    if options.run_folder:
        loaded = load_run(options.run_folder)
        model, tokenizer = loaded.model, loaded.tokenizer
    else:
        model, tokenizer = small_model(text)
    ids = tokenizer.encode(text)[: model.config.context_length + 1]
    if len(ids) < 2:
        raise DataError(f"the text has {len(ids)} tokens; a pass needs two, one to read and one to predict")
    made = trace(model, np.array([ids[:-1]]), np.array([ids[1:]]))
    if options.page:
        write_atomically(Path(options.page), page(made, text).encode())
        print(f"wrote {escape_controls(options.page, keep='')}: open it in a browser, and click on a number")
    elif options.ledger:
        print(made.ledger(*parse_cell(options.ledger, {tensor.name for tensor in made})).why())
    elif options.tensor:
        print(_tensor_text(made[options.tensor]))
    elif options.json:
        print(json.dumps([_as_object(tensor) for tensor in made]))
    elif options.precision:
        _print_table(precision.HEADER, precision.precision_rows(made))
    elif options.plain or not (sys.stdout.isatty() and sys.stdin.isatty()):
        _print_table(Trace.HEADER, made.rows())
    else:
        walk(made, [tokenizer.decode([token]) for token in ids])
    return 0


def _show_over_time(folder: Path, picture: str | None) -> None:
    """Print what a run recorded; draw it, if a file is named."""
    rows = read_record(folder)
    last = rows[-1]
    print("  step   gradient  update/weight  float32 off  branches: attention, mlp of each block")
    for row in rows:
        layers = row["layers"].values()
        gradient = sum(layer["gradient"] ** 2 for layer in layers) ** 0.5
        updates = [layer["update_to_weight"] for layer in layers if layer["update_to_weight"]]
        update = statistics.median_high(updates or [0.0])
        branches = " | ".join(f"{block['attention']:.2f} {block['mlp']:.2f}" for block in row["blocks"])
        off = "-" if row["float32_off"] is None else f"{row['float32_off']:.0e}"
        print(f"{row['step']:>6}  {gradient:>9.3g}  {update:>13.1e}  {off:>11}  {branches}")
    print(f"\nat step {last['step']}:")
    for name, layer in last["layers"].items():
        print(f"  {name:<36} gradient {layer['gradient']:>9.3g}   update/weight {layer['update_to_weight']:.1e}")
    if picture:
        draw_record(rows, Path(picture))


def _print_table(header: tuple[str, ...], rows: list[list[str]]) -> None:
    print("\n".join(aligned([list(header), *rows], "  ")))


def _tensor_text(tensor: Traced) -> str:
    with np.printoptions(precision=4, suppress=True, linewidth=100, threshold=2000):
        parts = [f"{tensor.name}, of {tensor.layer.__name__}, {tensor.value.shape}", str(tensor.value)]
        if tensor.grad is not None:
            parts += ["gradient", str(tensor.grad)]
    return "\n".join(parts)


def _as_object(tensor: Traced) -> dict[str, Any]:
    fields = {field.name: getattr(tensor, field.name) for field in dataclasses.fields(tensor)}
    numbers = {name: _numbers(fields[name]) for name in ("value", "grad")}
    return fields | numbers | {"layer": tensor.layer.__name__, "shape": tensor.value.shape, "norm": tensor.norm}


def _numbers(x: Array | None) -> Any:
    """Lists; what JSON has no number for, as −∞, becomes null."""
    if x is None:
        return None
    cells = x.astype(object)
    if x.dtype.kind == "f":
        cells[~np.isfinite(x)] = None
    return cells.tolist()
