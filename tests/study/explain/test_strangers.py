"""Pages of passes as other people run them: layers of their own, odd numbers, batches, and files that are not ours."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_explain_cases import LEDGERS, wait_for

from npgpt.cli import main
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache, Layer, Param
from npgpt.layers import Linear
from npgpt.model import GPT
from npgpt.study.check.cases import of_order_one
from npgpt.study.explain.carried import axes_of
from npgpt.study.explain.page import page
from npgpt.study.explain.sources import line_of_gradient, line_of_value, source
from npgpt.study.trace.tracing import Trace, trace

Open = Callable[..., Any]


def small_gpt(B: int = 1, T: int = 5, dy: float = 1.0, change: Any = None, **config: Any) -> Trace:
    rng = np.random.default_rng(0)
    settings = {"n_layer": 1, "n_head": 2, "n_embd": 6} | config
    gpt = of_order_one(GPT(GPTConfig(7, 8, **settings), dtype=np.float64), rng)
    if change:
        change(gpt.parameters())
    ids, targets = rng.integers(0, 7, (2, B, T))
    with np.errstate(all="ignore"):
        return trace(gpt, ids, targets, dy=np.array(dy))


def opened(open_page: Open, folder: Path, made: Trace, address: str = "", **settings: Any) -> Any:
    path = folder / "page.html"
    with np.errstate(all="ignore"):
        path.write_text(page(made, **settings), encoding="utf-8")
    return open_page(path, address)


class Kept(Layer):
    """A right layer that keeps arrays in ways of its own."""

    def __init__(self, way: str) -> None:
        self.way, self.w = way, Param(np.array([[1.0, 2.0], [3.0, 4.0]]))

    def forward(self, x: Array, cache: Cache) -> Array:
        x = cache.keep("x", x)
        if self.way == "untaped":
            return x * float(np.exp(float(x[0, 0]) * 0.0)) * self.w.value
        y = cache.keep(self.way if self.way != "copy" else "y", x.copy() if self.way == "copy" else x * self.w.value)
        check_it(y)
        return y * 2.0

    def backward(self, dy: Array, cache: Cache) -> Array:
        if self.way == "untaped":
            self.w.grad += dy * cache["x"]
            return cache.note("x", dy * self.w.value)
        dy = cache.note(self.way if self.way != "copy" else "y", 2.0 * dy)
        if self.way != "copy":
            self.w.grad += dy * cache["x"]
            dy = dy * self.w.value
        check_it(dy)
        return cache.note("x", dy)


class Checked(Layer):
    def forward(self, x: Array, cache: Cache) -> Array:
        y = x * 3.0
        check_it(y)
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        dx = dy * 3.0
        check_it(dx)
        return dx


def check_it(x: Array) -> None:
    assert x.ndim == 2


@pytest.mark.browser
@pytest.mark.parametrize("way", ["y", "copy", "loss", "σ-1", "untaped"])
def test_right_layers_are_not_called_wrong(open_page: Open, tmp_path: Path, way: str) -> None:
    made = trace(Kept(way), np.array([[1.0, -2.0], [0.5, 3.0]]))
    shown = opened(open_page, tmp_path, made)
    said = shown.locator("#proof").inner_text()
    assert said.startswith("nothing" if way in ("untaped", "loss") else "✓"), said
    assert shown.evaluate("page.proof.wrong.length") == 0
    if way == "σ-1":
        shown.get_by_role("link", name="σ-1").first.click()
        assert shown.locator("[data-ledger=agrees]").count() == 1


@pytest.mark.browser
def test_a_wrong_layer_is_called_wrong(open_page: Open, tmp_path: Path) -> None:
    class Half(Kept):
        def backward(self, dy: Array, cache: Cache) -> Array:
            return super().backward(dy / 2, cache)

    shown = opened(open_page, tmp_path, trace(Half("y"), np.array([[1.0, -2.0], [0.5, 3.0]])), "#y[0,1]")
    assert shown.locator("#proof").inner_text().startswith("✗")
    assert shown.locator("[data-ledger=differs]").count() == 1


def set_nan(params: Any) -> None:
    params["blocks.0.mlp.up.weight"].value[0, 0] = np.nan


def set_infinite(params: Any) -> None:
    params["blocks.0.mlp.up.weight"].value[0, 0] = np.inf


def move(by: float) -> Any:
    def change(params: Any) -> None:
        params["embedding.weight"].value[...] += by

    return change


def stretch(name: str, by: float) -> Any:
    def change(params: Any) -> None:
        params[name].value[...] *= by

    return change


ODD = {
    "NaN": set_nan, "infinity": set_infinite, "far from 0": move(1e4), "farther from 0": move(1e6),
    "confident": stretch("norm.gain", 3e3), "huge": stretch("embedding.weight", 1e200),
    "tiny": stretch("embedding.weight", 1e-200),
}  # fmt: skip


@pytest.mark.browser
@pytest.mark.parametrize("name", ODD)
def test_odd_numbers(open_page: Open, tmp_path: Path, name: str) -> None:
    made = small_gpt(change=ODD[name])
    for address in ("", "#block0", "#proof", "#blocks.0.mlp.up.weight[0,0]", "#logits[0,0,1]"):
        shown = opened(open_page, tmp_path, made, address)
        assert shown.locator("#view h1, #view h2").count() > 0
    if name not in ("NaN", "infinity", "huge"):  # those differ where Python and the page multiply 0 by infinity
        assert shown.locator("#proof").inner_text().startswith("✓")
        assert all(found["gradient"]["isRight"] for found in shown.evaluate(LEDGERS, ["logits", None]))


@pytest.mark.browser
def test_words_agree_with_the_stored_gradient(open_page: Open, tmp_path: Path) -> None:
    """No sentence calls a gradient negative, positive or zero that is not. Where terms sum to rounding, 0 is stored."""
    shown = opened(open_page, tmp_path, small_gpt(B=2))
    wrong = """() => page.tensors.all.filter((t) => t.hasGradient && t.users.length).flatMap((tensor) =>
        Array.from({ length: tensor.size }, (_, flat) => {
            const said = inWords(page, { tensor, flat, mode: 'gradient' }, gradientLedger(page, tensor, flat));
            const g = gradientOf(tensor)[flat];
            const isSaid = (pattern) => pattern.test(said);
            const isWrong = (isSaid(/It is negative|^Negative|product is negative/) && !(g < 0))
                || (isSaid(/It is positive|^Positive|product is positive/) && !(g > 0)) || (isSaid(/^Zero/) && g !== 0);
            return isWrong ? [label(tensor, flat), g, said] : null; }).filter(Boolean))"""
    assert shown.evaluate(wrong) == []
    said = opened(open_page, tmp_path, small_gpt(), "#blocks.0.attention.qkv.bias[7]").locator(".words").inner_text()
    assert said.startswith("Zero: the terms cancel")


@pytest.mark.browser
@pytest.mark.parametrize("positions", ["learned", "relative-bias", "relative-keys"])
def test_writers_of_a_batch(open_page: Open, tmp_path: Path, positions: str) -> None:
    """Each text's share of a gradient is what is left if the other text's targets do not count."""
    made = small_gpt(B=2, positions=positions)
    inputs, gpt = made.case.inputs, made.case.layer.gpt  # type: ignore[attr-defined]
    shown = opened(open_page, tmp_path, made)
    for name in (
        "positions.weight" if positions == "learned" else "blocks.0.attention.score.weight",
        "embedding.weight",
    ):
        parts = shown.evaluate("(name) => writers(page.tensors.get(name)).map((p) => [p.text, p.share])", name)
        for text in (0, 1):
            gpt.zero_grad()
            cache, targets = Cache(), inputs["targets"].copy()
            targets[1 - text] = -100
            gpt.loss(inputs["ids"], targets, cache, count=targets.size)
            gpt.loss_backward(1.0, cache)
            whole = made[name].grad
            assert whole is not None
            right = (gpt.parameters()[name].grad * whole).sum() / (whole**2).sum()
            assert abs(sum(share for of, share in parts if of == text) - right) < 1e-9


@pytest.mark.browser
def test_sentences_about_another_start(open_page: Open, tmp_path: Path) -> None:
    made = small_gpt(dy=2.0)
    assert "this gradient was given" in opened(open_page, tmp_path, made, "#loss").locator("#panel").inner_text()
    shown = opened(open_page, tmp_path, small_gpt(dy=1e-200), "#blocks.0.mlp.up.weight[0,0]")
    shown.get_by_text("another gradient than 1").first.wait_for()
    assert "its gradient is 0" not in shown.locator("#view").inner_text()


@pytest.mark.browser
def test_small_pages_and_large_layers(open_page: Open, tmp_path: Path) -> None:
    for largest in (300_000, 270_000):
        shown = opened(open_page, tmp_path, small_gpt(), "#positions.weight[0,0]", largest=largest)
        assert shown.evaluate("page.proof.wrong.length") == 0
    shown = opened(open_page, tmp_path, trace(Linear(600, 600), np.ones((2, 600))), "#bias[0]")
    assert shown.locator("#proof").inner_text() == "nothing could be recomputed here"
    assert "would be too large" not in shown.locator("#view").inner_text()


@pytest.mark.browser
def test_keyboard_after_a_page_of_columns(open_page: Open, trained_file: Path) -> None:
    shown = open_page(trained_file, "#blocks.0.mlp.hidden[0,0,0]")
    shown.get_by_role("button", name="next columns").click()
    assert shown.get_by_role("grid").locator("[tabindex='0']").count() == 1
    for press in ("Values", "Block 1", "Model"):
        button = shown.get_by_role("button", name=press)
        if button.count():
            button.first.press("Enter")
            assert shown.evaluate("document.activeElement.textContent") == press
    shown.locator(".terms a.why").first.press("Enter")
    wait_for(shown, "document.activeElement.id === 'view'")


@pytest.mark.browser
def test_bad_links(open_page: Open, small_file: Path) -> None:
    for address in ("#" + 300 * "x", "#block99", "#blocks.0.attention.q[0,,1,3]", "#blocks.0.attention.q[0,1]"):
        shown = open_page(small_file, address, width=400)
        assert shown.locator(".card.wrong").count() == 1, address
        assert shown.evaluate("document.documentElement.scrollWidth") <= 400


def test_axes_have_their_names() -> None:
    made = small_gpt(combine="concatenate", n_position=4)
    assert axes_of("positions.projection.weight", made["positions.projection.weight"]) == ["input", "output"]
    assert axes_of("positions.vectors.weight", made["positions.vectors.weight"]) == ["position", "channel"]
    for positions, axes in (("relative-bias", ["head", "distance"]), ("relative-keys", ["distance", "channel"])):
        name = "blocks.0.attention.score.weight"
        assert axes_of(name, small_gpt(positions=positions)[name]) == axes


def test_the_line_of_a_number_is_where_it_is_made() -> None:
    from npgpt.layers import CrossEntropy, LayerNorm, LearnedPositions, SinusoidalPositions

    def backward(layer: type[Layer], operand: str) -> str:
        return source(layer.backward)[2][line_of_gradient(layer, operand)].strip()

    assert backward(LearnedPositions, "") == backward(SinusoidalPositions, "").replace("1.", "2.") == "return dy  # 2."
    assert "put_along_axis" in backward(CrossEntropy, "log_probabilities")
    assert backward(LayerNorm, "x").startswith("dx: Array =") and "self.gain.grad" in backward(LayerNorm, "gain")
    assert backward(Checked, "") == "dx = dy * 3.0"
    assert source(Checked.forward)[2][line_of_value(Checked, "")].strip() == "y = x * 3.0"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
def test_a_pipe_stays_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main(["explain", "the cat sat", "-o", str(tmp_path / "pipe")]) == 2
    assert (tmp_path / "pipe").is_fifo() and "is a device or a pipe" in capsys.readouterr().err
    for empty in (["--run", ""], ["-o", ""], ["--ledger", ""]):
        assert main(["explain", "the cat sat", *empty]) == 2
        assert "is given without a name" in capsys.readouterr().err
