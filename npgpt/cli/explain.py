"""``npgpt explain``: every number of one forward and backward pass, and the terms of each gradient."""

import argparse
import dataclasses
import json
import math
import statistics
import sys
import webbrowser
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.cli.explain_screen import aligned, walk
from npgpt.cli.parser import add_action
from npgpt.core import Array, Cache
from npgpt.errors import ConfigError, DataError, brief
from npgpt.model import GPT
from npgpt.runs import load_run, newest_or_pretrained_run
from npgpt.runs.checkpoint import BATCH, read_batch
from npgpt.study.explain.page import TITLE, page
from npgpt.study.trace import precision
from npgpt.study.trace.ledger import parse_cell
from npgpt.study.trace.over_time import draw_record, read_record
from npgpt.study.trace.passes import Traced
from npgpt.study.trace.tracing import Trace, trace
from npgpt.support.files import write_atomically
from npgpt.support.terminal import escape_controls, given_text

VIEWS = ("over_time", "output", "open", "ledger", "tensor", "json", "precision", "plain")
SUMMARY = "explain the backward pass of a text: every gradient and its terms"
EXAMPLE = 'npgpt explain "the cat sat on the mat" -o explain.html'
LONGEST = 16  # tokens that a page reads: its rows


def add_parser(subparsers: Any) -> None:
    more = (
        "-o or --open writes a page for a browser: one file that needs no network. Without them, a table on the "
        "terminal lists the tensors; Enter opens one as a heat map. Arrows move the cursor. The lines below the map "
        "are the terms of the gradient at the cursor. Without a terminal, the table is printed."
    )
    parser = add_action(subparsers, "explain", run, SUMMARY, more, EXAMPLE)
    parser.add_argument(
        "text",
        nargs="?",
        metavar="TEXT",
        help="text of the pass (default: standard input, or the batch that training kept in the DIR of --run)",
    )
    parser.add_argument(
        "--run",
        metavar="DIR",
        dest="run_folder",
        help="run folder of a model (default: the newest run in runs, or the model of the package)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the page: an HTML file")
    parser.add_argument("--open", action="store_true", help="open the page in a browser; without -o it is explain.html")
    parser.add_argument("--tensor", metavar="NAME", help="print one tensor and its gradient: blocks.0.attention.q")
    parser.add_argument(
        "--ledger", metavar="CELL", help="print the terms of one gradient: 'blocks.0.attention.q[0,1,3,0]'"
    )
    parser.add_argument("--precision", action="store_true", help="compare float32 with float64, tensor by tensor")
    parser.add_argument(
        "--over-time", action="store_true", help="print the record of `npgpt train --record-every`; needs --run"
    )
    parser.add_argument("--picture", metavar="FILE", help="with --over-time: draw a PNG (needs the extra viz)")
    parser.add_argument("--plain", action="store_true", help="print the table, on a terminal too")
    parser.add_argument("--json", action="store_true", help="print all tensors as a JSON list of objects")


def run(options: argparse.Namespace) -> None:
    views = [
        name
        for name in VIEWS
        if getattr(options, name) not in (None, False) and not (name == "open" and options.output)
    ]
    if len(views) > 1:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in views)
        raise ConfigError(f"{flags} are different views of a pass; give one of them")
    for flag in ("run_folder", "output", "ledger", "tensor", "picture"):
        if getattr(options, flag) == "":
            raise ConfigError(f"--{flag.removesuffix('_folder')} is given without a name")
    if options.picture and not options.over_time:
        raise ConfigError("--picture draws the record of a run; it needs --over-time")
    if options.over_time:
        if not options.run_folder:
            raise ConfigError("--over-time needs --run DIR, a run of `npgpt train --record-every N`")
        _show_over_time(Path(options.run_folder), options.picture)
        return
    loaded = load_run(options.run_folder) if options.run_folder else newest_or_pretrained_run()
    model, tokenizer = loaded.model, loaded.tokenizer
    if options.run_folder and options.text is None and (Path(options.run_folder) / BATCH).is_file():
        ids = _worst_example(model, Path(options.run_folder) / BATCH)
        text = tokenizer.decode(ids)
    else:
        text = given_text(options.text)
        ids = tokenizer.encode(text)
    is_page = bool(options.output or options.open)
    longest = min(model.config.context_length, LONGEST) if is_page else model.config.context_length
    cut = f"the first {longest} of {len(ids) - 1} positions" if len(ids) > longest + 1 else ""
    ids = ids[: longest + 1]
    if len(ids) < 2:
        raise DataError(
            f"the text has {len(ids)} {'token' if len(ids) == 1 else 'tokens'}; a pass needs at least 2, "
            "one to read and one to predict"
        )
    made = trace(model, np.array([ids[:-1]]), np.array([ids[1:]]), tokenizer=tokenizer)
    if cut:
        print(f"npgpt explain: a pass over {cut} of the text", file=sys.stderr)
    if is_page:
        where = f"by {loaded.which()}"
        note = f"{where}{', ' if cut else ''}{cut}"
        _write_page(Path(options.output or "explain.html"), page(made, note), options.open)
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


def _worst_example(model: GPT, path: Path) -> list[int]:
    """Return the ids of the example of a kept batch whose loss is not finite, or else the largest."""
    x, y = read_batch(path, model.config.vocab_size)
    losses = [float(model.loss(x[i : i + 1], y[i : i + 1], Cache(record=False))) for i in range(len(x))]
    worst = max(range(len(x)), key=lambda i: (not math.isfinite(losses[i]), losses[i]))
    print(
        f"example {worst} of the batch in {escape_controls(str(path), keep='')}: loss {losses[worst]:.4g}",
        file=sys.stderr,
    )
    return [*x[worst].tolist(), int(y[worst, -1])]


def _write_page(path: Path, made: str, is_opened: bool) -> None:
    """Write a page. A file that is no page of npgpt explain is not overwritten."""
    if path.is_file():
        with path.open("rb") as file:
            begins = file.read(2000)
        if TITLE.encode() not in begins:
            raise ConfigError(f"{path} exists and is no page of npgpt explain; give another name, or delete it first")
    write_atomically(path, made.encode())
    shown = escape_controls(str(path), keep="")
    print(f"wrote {shown}, {len(made.encode()) / 1e6:.1f} MB: open it in a browser and click on a number")
    if is_opened and not webbrowser.open(path.resolve().as_uri()):
        print(f"no browser was found; open {shown} yourself", file=sys.stderr)


def _show_over_time(folder: Path, picture: str | None) -> None:
    """Print the record of a run; draw it if a file is named."""
    rows = read_record(folder)
    last = rows[-1]
    print("  step   gradient  update/weight  float32 off  branches: attention, mlp of each block")
    for row in rows:
        layers = row["layers"].values()
        gradient = math.hypot(*(layer["gradient"] for layer in layers))
        updates = [layer["update_to_weight"] for layer in layers if layer["update_to_weight"]]
        update = statistics.median_high(updates or [0.0])
        branches = " | ".join(f"{block['attention']:.2f} {block['mlp']:.2f}" for block in row["blocks"])
        off = "-" if row["float32_off"] is None else f"{row['float32_off']:.0e}"
        print(f"{row['step']:>6}  {gradient:>9.3g}  {update:>13.1e}  {off:>11}  {branches}")
    print(f"\nat step {last['step']}:")
    for name, layer in last["layers"].items():
        shown = brief(escape_controls(name, keep=""), 100)
        print(f"  {shown:<36} gradient {layer['gradient']:>9.3g}   update/weight {layer['update_to_weight']:.1e}")
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
    """Return nested lists. Non-finite numbers, which JSON lacks, become null."""
    if x is None:
        return None
    cells = x.astype(object)
    if x.dtype.kind == "f":
        cells[~np.isfinite(x)] = None
    return cells.tolist()
