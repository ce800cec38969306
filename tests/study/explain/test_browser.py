"""The page in a real browser: it computes what Python computed, and a person can reach all of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_explain_cases import LEDGERS, SCHEMES, small_model, wait_for

from npgpt.config import GPTConfig
from npgpt.core import Cache
from npgpt.layers import Linear
from npgpt.model import GPT
from npgpt.runs import load_run
from npgpt.study.check.cases import of_order_one
from npgpt.study.explain.page import page
from npgpt.study.trace.ledger import LOSS
from npgpt.study.trace.tracing import Trace, trace

pytestmark = pytest.mark.browser
Open = Callable[..., Any]


def test_arrays_are_numpys_to_the_bit(open_page: Open, small_file: Path, small: Trace) -> None:
    shown = open_page(small_file)
    read = """(name) => ['value', 'grad'].map((what) => {
        const array = page.tensors.get(name)[what];
        return [...new Uint8Array(array.buffer)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    })"""
    for tensor in small:
        if tensor.grad is not None and tensor.name not in small.aliases:
            value, grad = shown.evaluate(read, tensor.name)
            kind = np.float32 if len(value) == 8 * tensor.value.size else np.float64
            assert value == np.ascontiguousarray(tensor.value, kind).tobytes().hex()
            assert grad == np.ascontiguousarray(tensor.grad).tobytes().hex()


def test_every_ledger_of_a_small_model(open_page: Open, small_file: Path, small: Trace) -> None:
    """Every cell is the sum of its terms. The rules of the page find the slopes of the tape."""
    shown, cells = open_page(small_file), 0
    for tensor in small:
        if tensor.grad is None or tensor.name in small.aliases:
            continue
        ledgers = shown.evaluate(LEDGERS, [tensor.name, None])
        for flat, found in enumerate(ledgers):
            cell = np.unravel_index(flat, tensor.value.shape)
            assert found["gradient"]["isRight"] and found["gradient"]["proof"] == "tape and rules", (tensor.name, cell)
            assert abs(found["gradient"]["sum"] - tensor.grad[cell]) < 1e-12 and found["gradient"]["apart"] < 5e-13
            if found["value"]:
                assert found["value"]["isRight"] and abs(found["value"]["result"] - tensor.value[cell]) < 1e-12
            cells += 1
    assert cells > 3_000
    assert shown.locator("#proof").inner_text().startswith("✓")


@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "dropout"])
def test_rules_equal_the_tape_for_all_kinds_of_model(
    open_page: Open, tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    config, T, _ = SCHEMES[name]
    rng = np.random.default_rng(0)
    settings = {"n_layer": 1, "n_head": 2, "n_embd": 6} | config
    model = of_order_one(GPT(GPTConfig(7, 8, **settings), dtype=np.float64), rng)  # type: ignore[arg-type]
    ids, targets = rng.integers(0, 7, (2, 1, min(T, 10)))
    made = trace(model, ids, targets)
    (tmp_path / "page.html").write_text(page(made), encoding="utf-8")
    shown = open_page(tmp_path / "page.html")
    assert shown.locator("#proof").inner_text().startswith("✓")
    for tensor in made:
        if tensor.grad is None or tensor.name in made.aliases:
            continue
        for found in shown.evaluate(LEDGERS, [tensor.name, None]):
            assert found["gradient"]["isRight"] and found["gradient"]["proof"] == "tape and rules", tensor.name
            assert found["gradient"]["apart"] < 5e-13, tensor.name  # the page itself allows for the tape's own forward
            assert not found["value"] or found["value"]["isRight"]


def traced_run(trained_file: Path, run_folder: Path) -> Trace:
    data = json.loads(trained_file.read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0])
    loaded = load_run(run_folder)
    return trace(loaded.model, np.array(data["text"]["ids"]), np.array(data["text"]["targets"]))


def test_ledgers_of_a_trained_run(open_page: Open, trained_file: Path, run_folder: Path) -> None:
    made, shown = traced_run(trained_file, run_folder), open_page(trained_file)
    assert shown.locator("#proof").inner_text().startswith("✓")
    rng = np.random.default_rng(0)
    for tensor in made:
        if tensor.grad is None or tensor.name in made.aliases:
            continue
        some = sorted({int(i) for i in rng.integers(0, tensor.value.size, 12)} | {0, tensor.value.size - 1})
        for flat, found in zip(some, shown.evaluate(LEDGERS, [tensor.name, some]), strict=True):
            cell = np.unravel_index(flat, tensor.value.shape)
            assert found["gradient"]["isRight"] and abs(found["gradient"]["sum"] - tensor.grad[cell]) < 1e-12
            assert not found["value"] or found["value"]["isRight"], (tensor.name, cell)
    for name in ("blocks.0.attention.q", "blocks.1.mlp.hidden", "norm.xhat", "blocks.1.attention.scores", "logits"):
        grad = made[name].grad
        assert grad is not None
        cell = tuple(int(i) for i in np.argwhere(grad)[-1])
        flat = int(np.ravel_multi_index(cell, grad.shape))
        (found,) = shown.evaluate(LEDGERS, [name, [flat]])
        tape = {(t.tensor, t.cell): t.slope for t in made.ledger(name, cell).terms if t.slope}
        rules = {
            (to, tuple(map(int, np.unravel_index(at, made[to].value.shape)))): slope
            for to, at, slope in found["gradient"]["terms"]
            if slope
        }
        assert rules == pytest.approx(tape, rel=1e-12, abs=1e-12), name


def test_changed_numbers_are_found(open_page: Open, small_file: Path, trained_file: Path) -> None:
    """A changed tensor turns its badge red, and a changed operand makes the ledgers disagree that use it."""
    change = """([name, what]) => { const tensor = page.tensors.get(name); tensor[what][0] += 1e-6;
        page.proof = new Proof(page, () => page.showProof());
        for (const each of page.tensors.all) page.proof.prove(each);
        page.showProof(); return page.proof.wrong.map((each) => each.name); }"""
    cases = [
        ("blocks.0.attention.q", "grad"),
        ("blocks.0.mlp.up.weight", "value"),
        ("normed", "value"),
        ("logits", "grad"),
    ]
    for path in (small_file, trained_file):
        for name, what in cases:
            shown = open_page(path, "#proof")
            wrong = shown.evaluate(change, [name, what])
            assert (name in wrong) if what == "grad" or name == "normed" else "blocks.0.mlp.hidden" in wrong
            badge = shown.locator(f"[data-badge='{wrong[0]}']").first.inner_text()
            assert badge.startswith("✗") and shown.locator("#proof").inner_text().startswith("✗")
    shown = open_page(small_file, "#blocks.0.mlp.hidden[0,0,0]:value")
    assert shown.locator("[data-ledger=agrees]").count() == 1
    shown.evaluate("() => { page.tensors.get('blocks.0.mlp.up.weight').value[0] += 0.01; page.draw(); }")
    assert shown.locator("[data-ledger=differs]").count() == 1
    assert "differs from the number that Python computed" in shown.locator("#panel").inner_text()


def test_back_forward_and_shared_links(open_page: Open, small_file: Path) -> None:
    shown = open_page(small_file, "#blocks.0.attention.q[0,1,3,2]")
    assert shown.locator("#panel code").first.inner_text() == "blocks.0.attention.q[0,1,3,2]"
    shown.locator(".terms a.why").first.click()
    assert shown.url.partition("#")[2].startswith("blocks.0.attention.scores[0,1,3,")
    assert shown.locator("h1").inner_text().startswith("scores")
    shown.go_back()
    assert shown.locator("#panel code").first.inner_text() == "blocks.0.attention.q[0,1,3,2]"
    shown.go_forward()
    assert shown.locator("h1").inner_text().startswith("scores")
    shown.get_by_role("button", name="Values").click()
    assert shown.url.endswith(":value") and shown.locator("[data-ledger=agrees]").count() == 1
    for wrong in ("#no.such[0]", "#blocks.0.attention.q[9,9,9,9]", "#%", "#<b>", "#__proto__", "#constructor[0]"):
        other = open_page(small_file, wrong)
        assert other.locator("#view h1, #view h2").count() > 0, wrong


def test_why_leads_to_the_loss_and_to_the_tokens(open_page: Open, trained_file: Path) -> None:
    shown = open_page(trained_file, "#blocks.0.attention.q[0,1,3,2]")
    for _ in range(40):
        if shown.locator("h1").inner_text().startswith("loss"):
            break
        shown.locator(".terms a.why").first.click()
    assert shown.locator("h1").inner_text().startswith("loss")
    shown = open_page(trained_file, "#loss:value")
    for _ in range(40):
        if shown.locator(".terms a.why").count() == 0:
            break
        shown.locator(".terms a.why").first.click()
    assert "A weight: nothing in this pass computes it" in shown.locator("#panel").inner_text()


def test_the_tangent_is_the_gradient(open_page: Open, trained_file: Path, run_folder: Path) -> None:
    made = traced_run(trained_file, run_folder)
    gpt, ids = made.case.layer.gpt, made.case.inputs  # type: ignore[attr-defined]
    shown = open_page(trained_file)
    for name in ("blocks.1.mlp.down.weight", "embedding.weight", "norm.gain"):
        param = gpt.parameters()[name]
        flat = int(np.abs(made[name].grad).argmax())  # type: ignore[arg-type]
        for by in (0.05, -0.2):
            before = param.value.flat[flat]
            param.value.flat[flat] += by
            right = float(gpt.loss(ids["ids"], ids["targets"], Cache(record=False)))
            param.value.flat[flat] = before
            nudge = "([name, flat, by]) => lossAt(page, page.tensors.get(name), flat, by)"
            assert abs(shown.evaluate(nudge, [name, flat, by]) - right) < 1e-12
        slopes = [shown.evaluate(nudge, [name, flat, by]) for by in (1e-5, -1e-5)]
        grad = made[name].grad
        assert grad is not None and abs((slopes[0] - slopes[1]) / 2e-5 - grad.flat[flat]) < 1e-8
    shown = open_page(trained_file, f"#norm.gain[{flat}]")
    wait_for(shown, "document.querySelector('.plot .loss').getAttribute('points').split(' ').length === 21")
    shown.locator("input[type=range]").press("ArrowRight")
    assert "tangent" in shown.locator("output").inner_text()


def test_writers_of_a_weight_sum_to_its_gradient(open_page: Open, trained_file: Path, run_folder: Path) -> None:
    made, shown = traced_run(trained_file, run_folder), open_page(trained_file)
    sums = """(name) => { const tensor = page.tensors.get(name), sum = new Float64Array(tensor.size);
        const parts = partsByPosition(tensor);
        for (const part of parts) contribution(tensor, part).forEach((x, i) => { sum[i] += x; });
        return [[...sum], writers(tensor).reduce((total, part) => total + part.share, 0), parts.length]; }"""
    for name in (
        "blocks.0.mlp.up.weight",
        "blocks.1.attention.qkv.weight",
        "embedding.weight",
        "positions.weight",
        "norm.bias",
    ):
        sum_, shares, n = shown.evaluate(sums, name)
        grad = made[name].grad
        assert grad is not None and np.abs(np.array(sum_) - grad.ravel()).max() < 1e-12
        assert abs(shares - 1) < 1e-9 and n >= 16
    step = """() => {
        const weights = page.tensors.all.filter((t) => t.kind === 'param');
        const after = afterStep(page, new Map(weights.map((t) => [t, gradientOf(t)])));
        return [after.rate, after.loss]; }"""
    rate, loss = shown.evaluate(step)
    gpt, ids = made.case.layer.gpt, made.case.inputs  # type: ignore[attr-defined]
    for name, param in gpt.parameters().items():
        param.value -= rate * made[name].grad
    assert abs(float(gpt.loss(ids["ids"], ids["targets"], Cache(record=False))) - loss) < 1e-12
    assert loss < float(made.output)


def test_hostile_text_stays_text(open_page: Open, tmp_path: Path) -> None:
    text = "<img src=x onerror=document.title='hacked'> </script> <b>bold</b> javascript:alert(1) \u202eevil"
    model, tokenizer = small_model(text)
    ids = np.array([tokenizer.encode(text)[:17]])
    made = trace(model, ids[:, :-1], ids[:, 1:], tokenizer=tokenizer)
    (tmp_path / "page.html").write_text(page(made, "<i>note</i>"), encoding="utf-8")
    for address in ("", "#logits[0,0,0]", "#embedding.weight[0,0]", "#<img src=x>"):
        shown = open_page(tmp_path / "page.html", address)
        assert shown.locator("#all img, #all b, header img, header i").count() == 0 and "hacked" not in shown.title()
        assert shown.evaluate("document.scripts.length") == 2


def test_page_of_another_layer(open_page: Open, tmp_path: Path) -> None:
    layer = Linear(2, 3)
    layer.weight.value[:] = [[1, 2, 3], [4, 5, 6]]
    made = trace(layer, np.array([[1.0, 2.0]]), dy=np.array([[1.0, 10.0, 100.0]]))
    (tmp_path / "page.html").write_text(page(made), encoding="utf-8")
    shown = open_page(tmp_path / "page.html", "#weight[1,2]")
    assert shown.locator("[data-ledger=agrees]").count() == 1
    assert made["weight"].grad is not None and made["weight"].grad[1, 2] == 200
    assert "200" in shown.locator(".numbers").inner_text() and LOSS in shown.locator("#road").inner_text()


def test_page_in_a_notebook(open_page: Open, tmp_path: Path, small: Trace) -> None:
    (tmp_path / "notebook.html").write_text(f"<!doctype html><p>cell</p>{small._repr_html_()}", encoding="utf-8")
    shown = open_page(tmp_path / "notebook.html", is_proven=False)
    frame = shown.frame_locator("iframe")
    frame.get_by_text("tensors recomputed here").wait_for()
    frame.locator("#road a", has_text="block 0").click()
    frame.locator("#view h1").wait_for()
    frame.locator(".terms a.why").first.click()
    assert frame.locator("[data-ledger=agrees]").count() == 1


def test_page_says_what_it_left_out(open_page: Open, tmp_path: Path) -> None:
    ids, targets = np.random.default_rng(0).integers(0, 300, (2, 1, 8))
    made = trace(GPT(GPTConfig(300, 32, 2, 4, 64)), ids, targets)
    (tmp_path / "page.html").write_text(page(made, largest=900_000), encoding="utf-8")
    shown = open_page(tmp_path / "page.html", "#proof")
    assert "Left out" in shown.locator("#view").inner_text() and shown.locator("#proof").inner_text().startswith("✓")
    for address in ("#blocks.0.mlp.hidden[0,0,0]", "#embedding.weight[0,0]", "#blocks.0.mlp_input[0,0,0]", ""):
        assert open_page(tmp_path / "page.html", address).locator("#view h1, #view h2").count() > 0
