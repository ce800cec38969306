"""The file of a page: what it carries, its size, and what a hostile text can do to it. No browser is needed."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_explain_cases import SCHEMES, Square, rebuilt

from npgpt.cli import main
from npgpt.config import GPTConfig
from npgpt.core import Array
from npgpt.errors import ConfigError
from npgpt.layers import Linear
from npgpt.model import GPT
from npgpt.study.check.cases import of_order_one
from npgpt.study.explain.page import MODULES, asset, page, visible
from npgpt.study.explain.rules import operations_of
from npgpt.study.trace.tracing import Trace, trace
from npgpt.support.terminal import escape_controls
from npgpt.tokenizer import BPETokenizer, CharTokenizer


def data_of(made: str) -> Any:
    return json.loads(re.findall(r'type="application/json" id="data">(.*?)</script>', made, re.DOTALL)[0])


def array_of(packed: str, shape: list[int]) -> Array:
    kind, text = packed.split(":")
    return np.frombuffer(base64.b64decode(text), f"<{kind}").reshape(shape)


def test_carried_arrays_are_those_of_the_trace(small: Trace) -> None:
    data = data_of(page(small))
    names = {tensor["name"] for tensor in data["tensors"]}
    assert {t.name for t in small if t.value.dtype.kind == "f" and t.name not in small.aliases} < names
    for tensor in data["tensors"][:-1]:
        traced = small[tensor["name"]]
        assert np.array_equal(array_of(tensor["value"], tensor["shape"]), traced.value)
        assert traced.grad is not None and np.array_equal(array_of(tensor["grad"], tensor["shape"]), traced.grad)


def test_weights_of_a_run_are_carried_in_float32(trained_file: Path) -> None:
    data = data_of(trained_file.read_text(encoding="utf-8"))
    assert data["edges"] is None and data["left_out"] == []
    for tensor in data["tensors"][:-1]:
        is_weight = tensor["kind"] == "param"
        is_single = is_weight or tensor["name"] == "embedded"  # rows of a weight
        assert tensor["value"].startswith("f4:" if is_single else "f8:") and ("grad" in tensor) != is_weight
    assert len(data["text"]["tokens"][0]) == 16
    assert all(len(each["likeliest"]) == 5 for each in data["text"]["predictions"])


def test_page_allows_its_own_script_and_style_alone(small: Trace) -> None:
    made = page(small)
    policy = re.findall(r'Content-Security-Policy" content="(.*?)"', made)[0]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for what, text in (("script", r"<script>(.*?)</script>"), ("style", r"<style>(.*?)</style>")):
        (inside,) = re.findall(text, made, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{what}-src 'sha256-{digest}'" in policy
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", made) and " style=" not in made


HOSTILE = {
    "placeholders": "@DATA@ @SCRIPT@",
    "ends of scripts": "</script> <!--<script> \u2028\u2029 \\1 \\g<0> \x1b[31m\ud800",
    "an element": "<img src=x onerror=alert(1)>",
    "controls": "\u202eabc\u202c \x00 &amp; \"'",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_breaks_the_page(name: str) -> None:
    text = HOSTILE[name]
    model = of_order_one(GPT(GPTConfig(257, 32, 1, 2, 8), dtype=np.float64), np.random.default_rng(0))
    tokenizer = BPETokenizer([])
    ids = np.array([tokenizer.encode(text)[:20]])
    made = page(trace(model, ids[:, :-1], ids[:, 1:], tokenizer=tokenizer), text)
    assert made.count("<script") == 2 and "<!--" not in made and "<img" not in made and "\x1b" not in made
    shown = html.escape(escape_controls(tokenizer.decode(ids[0].tolist())))
    assert f"<code>{shown}</code>" in made
    data_of(made)
    made.encode()


def test_size_of_a_page() -> None:
    """Under 12 MB for a million parameters and 16 tokens, and for more parameters, too."""
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 512, (2, 1, 16))
    million = trace(GPT(GPTConfig(1024, 64, 4, 4, 128)), ids, targets)
    made = page(million)
    assert 900_000 < data_of(made)["model"]["parameters"] < 1_100_000
    assert data_of(made)["left_out"] == [] and len(made.encode()) < 12e6
    larger = page(million, largest=5_000_000)
    left_out = data_of(larger)["left_out"]
    assert len(larger.encode()) < 5e6 and "embedding.weight" in left_out
    assert all("value" not in t for t in data_of(larger)["tensors"] if t["name"] in left_out)


def test_page_of_another_layer_carries_the_tape() -> None:
    for made in (trace(Square(), np.array([2.0, 5.0])), trace(Linear(2, 3), np.ones((2, 2)))):
        data = data_of(page(made))
        assert data["operations"] == [] and data["edges"] and data["text"] is None
        assert made.case.name in page(made)


@pytest.mark.parametrize("name", SCHEMES)
def test_rules_compute_every_tensor(name: str) -> None:
    """The operations, read by NumPy, give the values and the gradients of the layers, whatever the model is made of."""
    config, T, training = SCHEMES[name]
    rng = np.random.default_rng(0)
    settings = {"n_layer": 2, "n_head": 2, "n_embd": 10} | config
    model = of_order_one(GPT(GPTConfig(11, 8, **settings), dtype=np.float64), rng)  # type: ignore[arg-type]
    ids, targets = rng.integers(0, 11, (2, 2, T))
    targets[0, 0] = -100
    made = trace(model, ids, targets, training=training)
    rules = operations_of(made)
    assert rules is not None
    values, grads, covered = rebuilt(made, rules)
    for tensor in made:
        if tensor.grad is None or tensor.name in made.aliases:
            continue
        if tensor.kind == "kept":
            inside = covered[tensor.name]
            assert inside.any() and np.abs(values[tensor.name] - tensor.value)[inside].max() < 1e-12, tensor.name
        assert np.abs(grads[tensor.name] - tensor.grad).max() < 1e-12, tensor.name


def test_a_users_own_part_has_no_rules() -> None:
    class Own(Linear):
        pass

    model = GPT(GPTConfig(11, 8, 1, 2, 8))
    model.blocks[0].mlp.up.__class__ = Own
    ids = np.zeros((1, 3), int)
    assert operations_of(trace(model, ids, ids)) is None


def test_modules_are_all_of_the_folder() -> None:
    from npgpt.study.explain.page import ASSETS

    assert sorted(f"{name}.js" for name in MODULES) == sorted(path.name for path in ASSETS.glob("*.js"))
    assert all(len(asset(f"{name}.js").splitlines()) < 400 for name in MODULES)


def test_tokens_are_visible() -> None:
    assert visible(" cat\n\t\x1b") == "␣cat⏎⇥\\x1b"
    tokenizer = CharTokenizer.train("ab ")
    ids = np.array([tokenizer.encode("ab ab")])
    made = page(trace(GPT(GPTConfig(3, 8, 1, 2, 8)), ids[:, :-1], ids[:, 1:], tokenizer=tokenizer))
    assert data_of(made)["text"]["tokens"] == [["a", "b", "␣", "a"]]


@pytest.mark.slow
@pytest.mark.parametrize("is_found", [True, False])
def test_open_writes_a_page_and_opens_it(
    is_found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or is_found)
    monkeypatch.chdir(tmp_path)
    for flags, name in (([], "explain.html"), (["-o", "other page.html"], "other page.html")):
        assert main(["explain", "the cat sat", "--open", *flags]) == 0
        assert opened.pop() == (tmp_path / name).as_uri() and data_of((tmp_path / name).read_text(encoding="utf-8"))
        assert ("no browser was found; open" in capsys.readouterr().err) != is_found


def test_a_tokenizer_is_checked() -> None:
    with pytest.raises(ConfigError, match="expected a tokenizer"):
        trace(Linear(2, 3), np.ones((2, 2)), tokenizer="gpt2")  # type: ignore[arg-type]


@pytest.mark.slow
def test_command_writes_a_page_and_keeps_other_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # there is no run, so the model of the package is explained
    path, other = tmp_path / "explain.html", tmp_path / "mine.html"
    for _ in range(2):  # its own page may be overwritten
        assert main(["explain", "the cat sat", "-o", str(path)]) == 0
    assert "open it in a browser" in capsys.readouterr().out
    other.write_text("<title>mine</title>", encoding="utf-8")
    assert main(["explain", "the cat sat", "-o", str(other)]) == 2
    assert "is no page of npgpt explain" in capsys.readouterr().err and other.stat().st_size == 19
    assert main(["explain", "one two three " * 20, "-o", str(path)]) == 0
    assert "a pass over the first 16 of 80 positions of the text" in capsys.readouterr().err
    made = path.read_text(encoding="utf-8")
    assert "the first 16 of 80 positions" in made and len(data_of(made)["text"]["tokens"][0]) == 16
