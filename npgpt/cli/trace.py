"""``npgpt trace``: every number of one pass, forward and backward, and what each gradient is the sum of."""

import argparse
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.build import twin
from npgpt.cli.trace_over_time import show_over_time
from npgpt.cli.trace_screen import walk
from npgpt.config import GPTConfig
from npgpt.core import Array
from npgpt.errors import ConfigError, DataError
from npgpt.model import GPT
from npgpt.runs import load_run
from npgpt.study.check.cases import of_order_one
from npgpt.study.trace.page import page
from npgpt.study.trace.tracing import Trace, Traced, relative_error, trace
from npgpt.support.files import write_atomically
from npgpt.support.terminal import escape_controls, given_text
from npgpt.tokenizer import CharTokenizer, Tokenizer

SMALL = 9  # tokens that a model without a run sees at most


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
    parser.add_argument("--over-time", action="store_true", help="print what `npgpt train --ledger-every` recorded")
    parser.add_argument("--picture", metavar="FILE", help="with --over-time: draw it (needs the extra viz)")
    parser.add_argument("--plain", action="store_true", help="print the table, move nothing")
    parser.add_argument("--json", action="store_true", help="print all tensors as a list of objects")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.over_time:
        if not options.run_folder:
            raise ConfigError("--over-time needs --run DIR, a run of `npgpt train --ledger-every K`")
        show_over_time(Path(options.run_folder), options.picture)
        return 0
    text = given_text(options.text)
    model, tokenizer = _model(options.run_folder, text)
    ids = tokenizer.encode(text)[: model.config.context_length + 1]
    if len(ids) < 2:
        raise DataError(f"the text has {len(ids)} tokens; a pass needs two, one to read and one to foretell")
    x, y = np.array([ids[:-1]]), np.array([ids[1:]])
    made = trace(model, x, y)
    if options.page:
        write_atomically(Path(options.page), page(made, text).encode())
        print(f"wrote {escape_controls(options.page, keep='')}: open it in a browser, and click on a number")
    elif options.ledger:
        print(made.ledger(*_cell(options.ledger)).why())
    elif options.tensor:
        print(_tensor_text(made[options.tensor]))
    elif options.json:
        print(json.dumps([_as_object(tensor) for tensor in made]))
    elif options.precision:
        _print_table(("tensor", "layer", "shape", "float32 off", "its gradient"), _precision_rows(made, model, x, y))
    elif options.plain or not (sys.stdout.isatty() and sys.stdin.isatty()):
        _print_table(Trace.HEADER, made.rows())
    else:
        walk(made, [tokenizer.decode([token]) for token in ids])
    return 0


def _model(folder: str | None, text: str) -> tuple[GPT, Tokenizer]:
    if folder:
        loaded = load_run(folder)
        return loaded.model, loaded.tokenizer
    if not text:
        raise DataError('there is no text; give one, as in: npgpt trace "to be or not"')
    tokenizer = CharTokenizer.train(text)
    config = GPTConfig(tokenizer.vocab_size, SMALL - 1, n_layer=1, n_head=2, n_embd=8)
    model = of_order_one(GPT(config, dtype=np.float64), np.random.default_rng(0))
    assert isinstance(model, GPT)
    return model, tokenizer


def _cell(said: str) -> tuple[str, tuple[int, ...]]:
    """``q[0,1,3]`` as name and index."""
    found = re.fullmatch(r"\s*d?([\w.]+?)\s*(?:\[([\d,\s-]*)\])?\s*", said)
    if not found:
        raise ConfigError(f"{said!r} is no cell of a tensor; write it as blocks.0.attention.q[0,1,3,0]")
    numbers = [part for part in (found[2] or "").replace(" ", "").split(",") if part]
    return found[1], tuple(int(part) for part in numbers)


def _print_table(header: tuple[str, ...], rows: list[list[str]]) -> None:
    table = [list(header), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


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


def _precision_rows(made: Trace, model: GPT, x: Array, y: Array) -> list[list[str]]:
    """The textbook once more in float32, and how many digits each tensor has left."""
    single = trace_in_float32(model, x, y)
    rows = []
    for tensor in made:
        theirs = single.get(tensor.name)
        if theirs is not None and tensor.grad is not None:
            offs = [relative_error(theirs[0], tensor.value), relative_error(theirs[1], tensor.grad)]
            shape = "×".join(map(str, tensor.value.shape)) or "scalar"
            rows.append([tensor.name, tensor.layer.__name__, shape, *(f"{off:.0e}" for off in offs)])
    return rows


def trace_in_float32(model: GPT, x: Array, y: Array) -> dict[str, tuple[Array, Array]]:
    """Tensor -> value and gradient, of a textbook pass in float32."""
    from npgpt.core import Cache

    single = twin(model, "textbook").astype(np.float32)
    cache = Cache(trace=True)
    single.zero_grad()
    single.loss(x, y, cache)
    single.loss_backward(1.0, cache)
    found = {path: (value, grad) for path, value, grad in cache.walk() if grad is not None}
    return found | {path: (param.value, param.grad) for path, param in single.parameters().items()}
