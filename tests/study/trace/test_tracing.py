"""A gradient is taken apart: the terms add up to what backward said, in every cell, with nothing left over."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_explain_cases import Square

from npgpt.build import make_gpt
from npgpt.cli import main
from npgpt.cli.explain_screen import NUMBER, View, _short, press, screen
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.errors import ConfigError
from npgpt.model import GPT
from npgpt.study.check.cases import CASES, Case, TrainingLoss, make_case, of_order_one
from npgpt.study.check.checker import upstream
from npgpt.study.check.tape import TapeError
from npgpt.study.trace.ledger import Ledger
from npgpt.study.trace.local_ledger import FEW, LocalLedger
from npgpt.study.trace.tracing import Trace, trace


def small_gpt(seed: int = 0) -> tuple[GPT, Array, Array]:
    rng = np.random.default_rng(seed)
    gpt = of_order_one(GPT(GPTConfig(11, 8, n_layer=2, n_head=2, n_embd=16), dtype=np.float64), rng)
    ids, targets = rng.integers(0, 11, (2, 1, 8))
    return gpt, ids, targets


@pytest.fixture(scope="module")
def traced() -> Trace:
    return trace(*small_gpt())


def test_every_cell_of_a_small_gpt_is_the_sum_of_its_terms(traced: Trace) -> None:
    cells = products = 0
    for tensor in traced:
        if tensor.grad is None or tensor.name in traced.books.aliases:
            continue
        for cell in np.ndindex(tensor.grad.shape):
            entry = traced.ledger(tensor.name, cell)
            assert abs(sum(term.share for term in entry.terms) - tensor.grad[cell]) < 1e-12, (tensor.name, cell)
            cells, products = cells + 1, products + len(entry.terms)
    assert cells > 10_000 and products > 50_000


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("GPT")])
def test_ledger_equals_backward_for_every_layer(name: str) -> None:
    case = make_case(name)
    dy = upstream(case.forward(case.cache()))
    books = Ledger(case, dy)
    case.layer.zero_grad()
    cache = case.cache(trace=True)
    case.forward(cache)
    right = {name: grad for name, grad in case.backward(dy, cache).items() if grad is not None}
    right |= {path: param.grad for path, param in case.layer.parameters().items()}
    right |= {path: grad for path, _, grad in cache.walk() if grad is not None and path not in books.aliases}
    assert right
    for tensor, grad in right.items():
        assert np.abs(books.grads[tensor] - grad).max(initial=0) < 1e-12, tensor


def test_wrong_backward_differs_from_the_sum_of_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    from npgpt import layers

    def diagonal(self: layers.Softmax, dw: Array, cache: Cache) -> Array:
        return cache["weights"] * cache.note("weights", dw)

    monkeypatch.setattr(layers.Softmax, "backward", diagonal)
    wrong = trace(*small_gpt())
    q = wrong["blocks.0.attention.q"].grad
    assert q is not None
    cell = (0, 1, 3, 0)
    assert abs(sum(term.share for term in wrong.ledger("blocks.0.attention.q", cell).terms) - q[cell]) > 1e-6


def test_shares_of_paths_sum_to_the_gradient(traced: Trace) -> None:
    parts = {
        "blocks.1.x": {"blocks.1.attention_norm", "blocks.1.middle"},
        "embedding.weight": {"embedded", "logits"},
        "blocks.0.attention_input": {f"blocks.0.attention.{name}" for name in "qkv"},
    }
    for name, expected in parts.items():
        shares, grad = traced.paths(name), traced[name].grad
        assert set(shares) == expected and grad is not None
        assert np.allclose(sum(shares.values()), grad, rtol=0, atol=1e-12)


def test_text_of_a_ledger(traced: Trace) -> None:
    entry = traced.ledger("blocks.0.attention.q", (0, 1, 3, 0))
    assert str(entry).startswith("∂L/∂ blocks.0.attention.q[0,1,3,0] = ")
    assert len(entry.terms) == 4 and all(term.tensor == "blocks.0.attention.scores" for term in entry.terms)
    assert "∂L/∂ blocks.0.attention.softmax.weights" in entry.why()
    assert "computed from" in entry.where() and "attention.qkv.weight" in entry.where()
    assert "is an input" in traced.ledger("embedding.weight", (0, 0)).where()
    with pytest.raises(ConfigError, match="no cell"):
        traced.ledger("blocks.0.attention.q", (0, 9, 0, 0))
    with pytest.raises(ConfigError, match="did you mean"):
        traced.ledger("blocks.0.attention.Q", (0, 0, 0, 0))


def test_traced_tensor_has_layer_source_and_float32_error(traced: Trace) -> None:
    scores = traced["blocks.0.attention.scores"]
    assert scores.layer.__name__ == "Attention" and "Backward" in scores.derivation
    assert "attention.py" in scores.source["backward"] and scores.grad is not None
    off = traced["blocks.0.attention.q"].off
    assert off is not None and 0 < off < 1e-5
    assert traced["blocks.0.attention.scores"].off is None  # tiled attention never has them
    names = [tensor.name for tensor in traced]
    assert names.index("embedded") < names.index("blocks.0.x") < names.index("logits") < names.index("norm.gain")
    assert traced._repr_html_().startswith('<iframe sandbox="allow-scripts"')


def test_diff_of_two_traces() -> None:
    gpt, ids, targets = small_gpt()
    first = trace(gpt, ids, targets)
    assert all(pair == (0.0, 0.0) for pair in first.diff(trace(gpt, ids, targets)).values())
    gpt.norm.gain.value[0] += 1
    changed = first.diff(trace(gpt, ids, targets))
    assert changed["embedded"][0] == 0.0 < changed["embedded"][1] and changed["logits"][0] > 0


def test_trace_does_not_change_the_model() -> None:
    gpt = make_gpt(GPTConfig(11, 8, 1, 2, 16))
    before = gpt.flat.values.copy()
    trace(gpt, *np.random.default_rng(0).integers(0, 11, (2, 1, 8)))
    assert np.array_equal(before, gpt.flat.values) and not gpt.flat.grads.any()


def test_ledger_of_a_users_layer() -> None:
    made = trace(Square(), np.array([2.0, 5.0]), dy=np.array([1.0, 10.0]))
    entry = made.ledger("a", (0,))
    assert [(term.tensor, term.cell, term.slope, term.grad) for term in entry.terms] == [
        ("z", (1,), 5.0, 300.0),
        ("z", (0,), 2.0, 12.0),
    ]
    assert entry.grad == 1524.0 == made["a"].grad
    with pytest.raises(ConfigError, match="needs x"):
        trace(Square())


@pytest.mark.slow
def test_large_pass_uses_a_local_ledger() -> None:
    gpt = make_gpt(GPTConfig(50, 64, 2, 4, 128), layers="textbook")
    made = trace(gpt, *np.random.default_rng(0).integers(0, 50, (2, 1, 20)))
    for name in ("positioned", "blocks.0.attention.q", "blocks.1.attention.scores", "blocks.1.mlp.hidden", "norm.xhat"):
        grad = made[name].grad
        assert grad is not None
        cell = tuple(n // 2 for n in grad.shape)
        entry = made.ledger(name, cell)
        assert abs(sum(term.share for term in entry.terms) - grad[cell]) < 1e-12, name
    assert set(made.paths("blocks.1.x")) == {"blocks.1.attention_norm", "blocks.1.middle"}
    with pytest.raises(ConfigError, match="small passes"):
        made.ledger("positioned", (0, 0, 0)).where()


def test_one_cell_of_a_large_weight() -> None:
    """The whole weight would be too large for the tape."""
    gpt = make_gpt(GPTConfig(400, 64, 1, 4, 128), layers="textbook")
    made = trace(gpt, *np.random.default_rng(0).integers(0, 400, (2, 1, 64)))
    for name in ("blocks.0.attention.qkv.weight", "blocks.0.mlp.down.weight", "embedding.weight"):
        grad = made[name].grad
        assert grad is not None and grad.size > FEW
        cell = tuple(int(i) for i in np.argwhere(grad)[-1])
        entry = made.ledger(name, cell)
        assert len(entry.terms) >= 64 and abs(sum(term.share for term in entry.terms) - grad[cell]) < 1e-12, name
        with pytest.raises(TapeError, match="too large for the tape"):
            LocalLedger(made.case, made.dy, {name: grad}).subject.taped([f"param gpt.{name}"])


@pytest.mark.parametrize("tensor", ["positioned", "blocks.0.attention.k", "logits", "embedding.weight", "norm.gain"])
def test_both_ledgers_agree(traced: Trace, tensor: str) -> None:
    local = LocalLedger(traced.case, traced.dy, {t.name: t.grad for t in traced if t.grad is not None})
    for cell in list(np.ndindex(traced[tensor].value.shape))[:20]:
        one, other = traced.ledger(tensor, cell), local.entry(tensor, cell)
        slopes, others = ({(t.tensor, t.cell): t.slope for t in entry.terms} for entry in (one, other))
        assert slopes.keys() == others.keys() and len(one.terms) == len(other.terms)
        assert others == pytest.approx(slopes, rel=1e-12, abs=1e-12)
        assert abs(one.grad - other.grad) < 1e-12


def test_screen_fits_the_terminal_and_responds_to_keys(traced: Trace) -> None:
    view, coloured = View(), 0
    for colour in (True, False):
        for key in ["down"] * 12 + ["\r", "g", "down", "right", "]", "n", "p", "[", "other", "t", "up", " ", "n", "g"]:
            assert press(traced, view, key, 24)
            lines = screen(traced, view, list("to be or "), 80, 24, colour)
            plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines]
            assert len(lines) <= 24 and all(len(line) <= 80 for line in plain)
            assert colour or "\x1b" not in "".join(lines)
            coloured += "\x1b" in "".join(lines)
        view = View()
    assert coloured > 0
    assert not press(traced, view, "q", 24)
    q = [tensor.name for tensor in traced].index("blocks.0.attention.scores")
    lines = screen(traced, View(q, cursor={q: [0, 1, 3, 2]}), [], 80, 24, colour=False)
    assert "softmax.weights[0,1,3," in lines[-4] and len(lines[-4]) <= 80
    lines = screen(traced, View(q, cursor={q: [0, 1, 3, 2]}), [], 64, 24, colour=False)
    assert "   ∂L/∂ …" in lines[-4] and "weights[0,1,3," in lines[-4] and len(lines[-4]) == 64


@pytest.mark.slow
def test_explain_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # there is no run, so the model of the package is explained
    assert main(["explain", "to be or not to be that"]) == 0  # no terminal: the table
    assert "blocks.0.attention.scores" in capsys.readouterr().out
    assert main(["explain", "to be or not to be that", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    scores = next(row for row in rows if row["name"] == "blocks.0.attention.scores")
    assert scores["value"][0][0][0][1] is None and scores["shape"] == [1, 4, 7, 7]
    for start in ("", "d", "∂L/∂ "):
        assert main(["explain", "to be or not to be that", "--ledger", f"{start}blocks.0.attention.q[0, 1, 3, 0]"]) == 0
        assert capsys.readouterr().out.startswith("∂L/∂ blocks.0.attention.q[0,1,3,0] = ")
    assert main(["explain", "to be or not to be that", "--precision"]) == 0
    assert "blocks.0.attention.scores" in capsys.readouterr().out
    assert main(["explain", "to be or not to be that", "--tensor", "norm.gain"]) == 0
    assert capsys.readouterr().out.startswith("norm.gain, of LayerNorm, (")
    assert main(["trace", "to be or not to be that", "--page", str(tmp_path / "page.html")]) == 0  # its name in 0.1
    shown = capsys.readouterr()
    assert "wrote " in shown.out and "npgpt trace is called npgpt explain" in shown.err
    assert "to be or not to be that" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert main(["explain", "a"]) == 2
    assert "a pass needs at least 2" in capsys.readouterr().err
    for wrong, said in ((["--ledger", "?"], "'?'"), (["--over-time"], "--over-time needs --run DIR")):
        assert main(["explain", "to be", *wrong]) == 2
        assert said in capsys.readouterr().err


def test_trace_over_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    arguments = ["--steps", "4", "--eval-every", "4", "--n-layer", "1", "--n-embd", "16", "--n-head", "2"]
    assert main(["train", "--out", run, "--record-every", "2", *arguments]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert 0 < rows[0]["layers"]["embedding.weight"]["update_to_weight"] < 0.1
    assert set(rows[0]["blocks"][0]) == {"attention", "mlp", "spread"} and rows[0]["float32_off"] < 1e-4
    capsys.readouterr()
    assert main(["explain", "--run", run, "--over-time"]) == 0
    shown = capsys.readouterr().out
    assert "update/weight" in shown
    record = (tmp_path / "run" / "record.jsonl").rename(tmp_path / "run" / "ledger.jsonl")  # its name in 0.1
    assert main(["explain", "--run", run, "--over-time"]) == 0
    assert capsys.readouterr().out == shown
    shown_again = record.read_bytes()
    for content in (shown_again, b"\xef\xbb\xbf" + shown_again.replace(b"\n", b"\r\n"), gzip.compress(shown_again)):
        record.write_bytes(content)
        assert main(["explain", "--run", run, "--over-time"]) == 0
        assert capsys.readouterr().out == shown


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a Unix terminal")
def test_keys_on_a_real_terminal(tmp_path: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "npgpt", "explain", "to be or not to be that"],
        stdin=follower,
        stdout=follower,
        stderr=subprocess.PIPE,
        env=os.environ | {"COLUMNS": "80", "LINES": "24", "NO_COLOR": "1", "TERM": "xterm"},
        cwd=tmp_path,
    )
    os.close(follower)
    shown = b""
    for keys, seen in ((b"", b"1 of "), (b"\x1b[B\x1b[B\x1b[B\ng", b"gradient of embedded"), (b"q", b"\x1b[?1049l")):
        os.write(leader, keys)
        while seen not in shown:
            shown += os.read(leader, 65536)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    text = shown.decode("utf-8", "replace")
    assert "48;5" not in text  # NO_COLOR


def test_training_loss_paths_have_no_wrapper() -> None:
    gpt, ids, targets = small_gpt()
    books = Ledger(Case("loss", TrainingLoss(gpt), {"ids": ids, "targets": targets}), np.array(1.0))
    assert "embedding.weight" in books.values


@pytest.mark.parametrize(
    ("x", "says"),
    [(3.71e-07, "3.71e-7"), (-3.71e-07, "-3.7e-7"), (-1.5e-120, "-2e-120"), (0.25, "0.25"), (0.0, "0"), (-np.inf, "−∞"),
     (12345678.0, "1.23e7"), (-1234567.0, "-1.23e6"), (0.012, "0.012"), (-4.2e-3, "-0.0042")],
)  # fmt: skip
def test_a_number_on_the_screen_keeps_its_exponent(x: float, says: str) -> None:
    assert _short(x) == says and len(says) < NUMBER


def test_the_line_of_a_cell_shows_its_value_in_the_view_of_gradients_too(traced: Trace) -> None:
    q = [tensor.name for tensor in traced].index("blocks.0.attention.q")
    for gradient in (False, True):
        lines = screen(traced, View(q, gradient=gradient, cursor={q: [0, 1, 2, 1]}), [], 80, 24, colour=False)
        value = traced["blocks.0.attention.q"].value[0, 1, 2, 1]
        assert any(line.startswith(f"blocks.0.attention.q[0,1,2,1] = {value:.6g}") for line in lines)
