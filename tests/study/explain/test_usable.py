"""A person can use the page: with a keyboard, a screen reader, on a phone, in the dark; and it answers questions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_explain_cases import visit

from npgpt.study.trace.tracing import Trace

pytestmark = pytest.mark.browser
Open = Callable[..., Any]
ADDRESSES = [
    "", "#proof", "#block0", "#blocks.0.attention.q[0,1,3,2]", "#blocks.0.attention.scores[0,0,2,1]:value",
    "#embedding.weight[1,2]", "#blocks.0.mlp.hidden[0,2,7]",
]  # fmt: skip

# Every text whose contrast with its background is too low: WCAG's 4.5, or 3 for large text and for drawings
CONTRAST = """() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data]; };
    const linear = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => [r, g, b].map((c) => linear(c / 255))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (element) => {
        for (let e = element; e; e = e.parentElement) {
            if (e.matches('.stop')) return rgba(getComputedStyle(e.querySelector('rect')).fill);
            const colour = rgba(getComputedStyle(e).backgroundColor);
            if (colour[3] > 250) return colour;
        }
        return rgba(getComputedStyle(document.body).backgroundColor);
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
        const style = getComputedStyle(element);
        if (!text || element.closest('script, style, noscript, title, .hidden, #skip, button:disabled')) continue;
        if (!element.getClientRects().length) continue;
        const front = rgba(element.namespaceURI.includes('svg') ? style.fill : style.color);
        const [a, b] = [light(front), light(ground(element))].sort((x, y) => y - x);
        const needed = parseFloat(style.fontSize) >= 24 ? 3 : 4.5, ratio = (a + 0.05) / (b + 0.05);
        if (ratio < needed) found.push([text.slice(0, 30), element.className, ratio.toFixed(2)]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(open_page: Open, small_file: Path, scheme: str) -> None:
    shown = open_page(small_file, scheme=scheme)
    for address in ADDRESSES:
        visit(shown, address)
        shown.wait_for_timeout(300)
        assert shown.evaluate(CONTRAST) == [], address


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_page_fits_the_screen(open_page: Open, small_file: Path, trained_file: Path, width: int) -> None:
    """The page itself never scrolls sideways; the diagram stays in view."""
    for path in (small_file, trained_file):
        shown = open_page(path, width=width)
        for address in ADDRESSES:
            visit(shown, address)
            assert shown.evaluate("document.documentElement.scrollWidth") <= width, address
            shown.evaluate("window.scrollTo(0, 600)")
            top = shown.evaluate("document.getElementById('road').getBoundingClientRect().top")
            assert -1 <= top <= 20 or shown.evaluate("window.scrollY") == 0, address
            cut = """() => [...document.querySelectorAll('h1, h2, button, .badge')].filter((e) => {
                const box = e.getBoundingClientRect();
                return box.width && box.right > innerWidth + 1; }).map((e) => e.textContent)"""
            assert shown.evaluate(cut) == []
            wide = """() => [...document.querySelectorAll('.stop')].filter((e) => {
                const [box, text] = ['rect', 'text'].map((name) => e.querySelector(name).getBBox().width);
                return text > box - 4; }).map((e) => e.textContent)"""
            assert shown.evaluate(wide) == []


def test_everything_has_a_name_and_a_role(open_page: Open, small_file: Path) -> None:
    nameless = """() => {
        const all = document.querySelectorAll('a, button, input, select, [role=grid], nav, aside, svg[role]');
        const nameOf = (e) => e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label')?.textContent;
        return [...all].filter((e) => !nameOf(e)).map((e) => e.outerHTML.slice(0, 80)); }"""
    shown = open_page(small_file)
    for address in ADDRESSES:
        visit(shown, address)
        assert shown.evaluate(nameless) == [], address
        for role in ("main", "navigation", "banner"):
            assert shown.get_by_role(role).count() >= 1
        levels = shown.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((e) => Number(e.tagName[1]))")
        assert levels and max(levels) <= 2
        tables = "[...document.querySelectorAll('table')].filter((t) => !t.querySelector('th[scope]')).length"
        assert shown.evaluate(tables) == 0
        ids = shown.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids))
    grid = open_page(small_file, "#blocks.0.attention.q[0,1,3,2]").get_by_role("grid")
    assert grid.get_attribute("aria-label") == "gradient of queries"
    assert grid.locator("[aria-selected=true]").count() == 1 and grid.locator("[tabindex='0']").count() == 1


def test_the_keyboard_reaches_everything(open_page: Open, small_file: Path) -> None:
    for address in ADDRESSES:
        shown = open_page(small_file, address)
        wanted = shown.evaluate("""() => [...document.querySelectorAll(
            'a[href], button:not(:disabled), input, select, [tabindex="0"]')].filter((e) => e.getClientRects().length)
            .map((e, i) => { e.dataset.stop = i; return i; })""")
        seen, visible = set(), 0
        for _ in range(len(wanted) + 5):
            shown.keyboard.press("Tab")
            stop, outline = (
                shown.evaluate("""() => { const e = document.activeElement, box = e.querySelector?.('rect') ?? e;
                const [style, other] = [getComputedStyle(e), getComputedStyle(box)];
                return [e.dataset.stop ?? null, style.outlineStyle !== 'none' || other.strokeWidth === '3px']; }""")
            )
            if stop is not None and int(stop) not in seen:
                seen.add(int(stop))
                visible += bool(outline)
        assert seen == set(wanted), address
        assert visible == len(seen), address


def test_arrows_move_the_cell_and_enter_keeps_it(open_page: Open, small_file: Path) -> None:
    shown = open_page(small_file, "#blocks.0.attention.q[0,1,3,2]")
    shown.locator("[role=grid] [tabindex='0']").focus()
    length = shown.evaluate("history.length")
    moves = "ArrowDown 4,2 ArrowLeft 4,1 End 4,3 Home 4,0 PageUp 0,0 ArrowUp 0,0 PageDown 11,0".split()  # noqa: SIM905
    for key, cell in zip(moves[::2], moves[1::2], strict=True):
        shown.keyboard.press(key)
        assert shown.url.endswith(f"[0,1,{cell}]"), key
        assert shown.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    assert shown.evaluate("history.length") == length  # arrows leave no trail
    shown.keyboard.press("Enter")
    shown.reload()
    assert shown.locator("#panel code").first.inner_text() == "blocks.0.attention.q[0,1,11,0]"


def test_a_term_lights_its_cells(open_page: Open, small_file: Path) -> None:
    shown = open_page(small_file, "#blocks.0.attention.q[0,1,9,2]")
    assert shown.locator("td.lit").count() == 0
    row = shown.locator("tr.term").nth(3)
    row.hover()
    to = row.locator("a.why").get_attribute("href").removeprefix("#")
    lit = [cell.get_attribute("title") for cell in shown.locator("td.lit").all()]
    assert to in lit and any(name.startswith("blocks.0.attention.k[0,1,") for name in lit)
    shown.locator("h1").hover()
    row.locator("a.why").focus()
    assert to in [cell.get_attribute("title") for cell in shown.locator("td.lit").all()]


def test_motion_is_reduced_on_request(chromium: Any, small_file: Path) -> None:
    shown = chromium.new_page(reduced_motion="reduce")
    shown.goto(small_file.as_uri() + "#blocks.0.attention.q[0,1,3,2]")
    assert shown.evaluate("getComputedStyle(document.querySelector('td[data-flat]')).transitionDuration") == "0s"
    shown.close()


class Clicks:
    """Clicks, counted. Six are allowed."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, target: Any) -> None:
        target.click()
        self.n += 1
        assert self.n <= 6


@pytest.mark.parametrize("width", [400, 1400])
class TestFiveQuestions:
    """Questions that a reader answers with the page alone, in at most six clicks from its start, without its list."""

    def test_why_is_this_gradient_negative(self, open_page: Open, small_file: Path, small: Trace, width: int) -> None:
        shown, click = open_page(small_file, width=width), Clicks()
        click(shown.locator("#road a", has_text="vocabulary head"))  # the strongest cell of the logits' gradient
        cell = shown.locator("#panel h2").first.inner_text()
        value = shown.locator(".numbers div.here dd").inner_text()
        assert value.startswith("−") and cell.startswith("∂L/∂ logits")
        words = shown.locator(".words").inner_text()
        assert "is the right next token" in words
        shares = shown.locator("tr.term td:first-child").all_inner_texts()
        assert shares[0].startswith("−")
        click(shown.locator(".terms a.why").first)
        assert "log-probabilities" in shown.locator("h1").inner_text()
        assert click.n == 2

    def test_which_token_changes_this_row_most(
        self, open_page: Open, small_file: Path, small: Trace, width: int
    ) -> None:
        shown, click = open_page(small_file, width=width), Clicks()
        click(shown.locator("table.all a", has_text="embedding.weight"))
        click(shown.get_by_role("grid").get_by_role("row").filter(has_text="sat").locator("td[data-flat]").first)
        card = shown.locator("section", has=shown.get_by_role("heading", name="Which tokens write into it"))
        assert "the row of sat" in card.inner_text().replace("\n", " ")
        first = card.locator("tbody tr").first.inner_text()
        gpt, ids, targets = small.case.layer.gpt, small.case.inputs["ids"][0], small.case.inputs["targets"][0]  # type: ignore[attr-defined]
        assert small.tokenizer is not None
        row = small.tokenizer.encode("sat")[0]
        dlogits, x = small["logits"].grad, small["normed"].value
        assert dlogits is not None
        through_head = [float(np.linalg.norm(dlogits[0, t, row] * x[0, t])) for t in range(len(ids))]
        largest = int(np.argmax(through_head))
        word = small.tokenizer.decode([int(ids[largest])])
        assert first.startswith(f"predicting after {word}") and targets[largest] == row and gpt

    def test_what_the_residual_path_carries(self, open_page: Open, small_file: Path, small: Trace, width: int) -> None:
        shown, click = open_page(small_file, width=width), Clicks()
        click(shown.get_by_role("button", name="Block 0"))
        said = shown.locator("#road .share").all_text_contents()
        x, middle = small["positioned"].grad, small["blocks.0.middle"].grad
        assert x is not None and middle is not None
        around, through = np.linalg.norm(middle), np.linalg.norm(x - middle)
        assert f"{100 * around / (around + through):.0f} %" in said
        assert f"{100 * through / (around + through):.0f} %" in said
        assert "around attention" in shown.locator("#road").inner_text()

    def test_why_the_first_row_of_the_queries_is_zero(self, open_page: Open, small_file: Path, width: int) -> None:
        shown, click = open_page(small_file, width=width), Clicks()
        click(shown.get_by_role("button", name="Head 0"))
        click(shown.locator("#road a", has_text="queries"))
        click(shown.get_by_role("grid").locator("td[data-flat]").first)
        assert shown.locator(".numbers div.here dd").inner_text() == "0"
        assert "softmax over a single score gives the weight 1" in shown.locator(".words").inner_text()

    def test_what_this_step_would_make_likelier(self, open_page: Open, small_file: Path, width: int) -> None:
        shown = open_page(small_file, width=width)
        card = shown.locator("section", has=shown.get_by_role("heading", name="What this step would make likelier"))
        card.locator("tbody tr").first.wait_for()
        assert card.locator("tbody tr").count() == 12
        chip = card.locator("td[data-label=likelier] .chip").first.inner_text()
        from_, to = (float(part) for part in chip.removesuffix(" %").split()[-3::2])
        assert to > from_
