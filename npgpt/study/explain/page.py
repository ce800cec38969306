"""The page of a trace: one HTML file that needs no network, no server and no build step."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path

from npgpt.study.explain.carried import LARGEST_PAGE, Carried
from npgpt.study.trace.passes import TracedPass
from npgpt.support.terminal import escape_controls
from npgpt.tokenizer import BPETokenizer, Tokenizer

ASSETS = Path(__file__).with_name("assets")
# In this order: a module uses what those before it define, and functions of all others when it runs.
MODULES = """elements tensors operations passes ledger names proof heatmap road cell source lens nudge overview main
             start""".split()  # noqa: SIM905
TITLE = "<title>npgpt explain</title>"


def page(trace: TracedPass, note: str = "", largest: int = LARGEST_PAGE) -> str:
    """Return the HTML of a trace: every value and gradient, and the terms that each is the sum of.

    Args
        note: a sentence on the model or on what was left out.
        largest: bytes; what does not fit is left out, and the page says so.
    """
    style, code = asset("style.css"), script()
    allowed = f"style-src '{digest(style)}'; script-src '{digest(code)}'"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    carried = Carried(trace, token_labels(trace.tokenizer), largest).data()
    # "</script>" and "<!--" in a text would end or change the script; in JSON, \u003c means the same as <
    data = json.dumps(carried, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    shown = html.escape(escape_controls(text_of(trace)))
    about = f'<p class="about"><code>{shown}</code> <span class="small">{html.escape(escape_controls(note))}</span></p>'
    fields = {"CSP": policy, "STYLE": style, "SCRIPT": code, "DATA": data, "ABOUT": about}
    return re.sub("@([A-Z]+)@", lambda found: fields[found[1]], asset("page.html"))  # at once: a text may hold @DATA@


def script(modules: Sequence[str] = MODULES) -> str:
    """Return the modules as one script."""
    return "\n".join(['"use strict";', *(asset(f"{name}.js") for name in modules)])


def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """Return the source expression of an inline script or style for a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def text_of(trace: TracedPass) -> str:
    """Return the text that a pass reads, with the last target, or the name of the layer."""
    ids, targets = (trace.case.inputs.get(name) for name in ("ids", "targets"))
    if trace.tokenizer is None or ids is None or targets is None or ids.ndim != 2:
        return trace.case.name
    rows = [[*row, last] for row, last in zip(ids.tolist(), targets[:, -1].tolist(), strict=True)]
    return "\n".join(trace.tokenizer.decode([token for token in row if token >= 0]) for row in rows)


def token_labels(tokenizer: Tokenizer | None) -> list[str]:
    """Return id -> the token with its white space shown; bytes that are no text are shown as ``\\xe2``."""
    if tokenizer is None:
        return []
    if isinstance(tokenizer, BPETokenizer):
        return [visible(token.decode("utf-8", "backslashreplace")) for token in tokenizer.token_bytes]
    return [visible(tokenizer.decode([token])) for token in range(tokenizer.vocab_size)]


def visible(token: str) -> str:
    """Return a token with its white space shown.

    >>> visible(" cat\\n")
    '␣cat⏎'
    """
    shown = token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
    return escape_controls(shown, keep="")
