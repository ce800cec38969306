"""A page that shows any clicked gradient as a sum of terms. It is one file and needs no network."""

import html
import json
import re
from pathlib import Path

import numpy as np

from npgpt.study.trace.ledger import LOSS, Ledger
from npgpt.study.trace.tracing import Trace
from npgpt.support.terminal import escape_controls


def page(trace: Trace, text: str) -> str:
    """Return the HTML of a trace, with the terms of every gradient.

    Args
        text: the text of the pass; shown escaped.
    """
    books = Ledger(trace.case, trace.dy)  # raises ConfigError for a pass that is too large for a page
    names = [*books.values, LOSS]
    number = {name: i for i, name in enumerate(names)}
    tensors = []
    for name in books.values:
        traced = trace[name]
        entries = [books.entry(name, cell) for cell in np.ndindex(traced.value.shape)]
        terms = [
            [[_round(t.slope), number[t.tensor], _flat(books.grads[t.tensor].shape, t.cell)] for t in entry.terms]
            for entry in entries
        ]
        tensors.append(
            {
                "name": name,
                "kind": traced.kind,
                "layer": traced.layer.__name__,
                "derivation": traced.derivation,
                "shape": traced.value.shape,
                "value": [_round(x) for x in traced.value.ravel()],
                "grad": [_round(x) for x in books.grads[name].ravel()],
                "terms": terms,
            }
        )
    loss = {"name": LOSS, "shape": trace.dy.shape, "grad": [_round(x) for x in trace.dy.ravel()]}
    # "</script>" and "<!--" in a text would end or change the script; in JSON, \u003c means the same as <
    data = json.dumps({"tensors": tensors, "loss": loss, "text": escape_controls(text)}).replace("<", "\\u003c")
    fields = {"TEXT": html.escape(escape_controls(text)), "DATA": data}
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return re.sub("@(TEXT|DATA)@", lambda found: fields[found[1]], template)  # at once: a text may hold @DATA@


def _flat(shape: tuple[int, ...], cell: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(cell, shape)) if shape else 0


def _round(x: float) -> float | None:
    return float(f"{x:.7g}") if np.isfinite(x) else None
