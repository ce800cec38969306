"""How large is the page of `npgpt explain`, how fast does it open and answer a click? It also draws README's picture.

    python benchmarks/bench_explain.py [--picture FILE] [--run DIR] [--quick] [--json FILE]

Chromium, without a window, opens the page of a small model, and of a model as `npgpt train` makes it (867,072
parameters, 16 tokens), or of the run in DIR. "Open" is the time from the navigation until the first view is drawn;
"proven" until the page has recomputed every tensor; "click" the median and the largest time from a new address to the
drawn view, over cells of every tensor. Needs the extra `browser`, and chromium.
"""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from peers import JSON, Report
from playwright.sync_api import sync_playwright

from npgpt.cli import main as npgpt
from npgpt.config import GPTConfig
from npgpt.model import GPT
from npgpt.study.explain.page import page
from npgpt.study.trace.tracing import trace

TEXT = "the cat sat on the mat and the dog sat on the rug"
RUN_TEXT = "The value of an expression is an object, and a name refers to it."
SHOWN = "#blocks.0.attention.q[0,1,3,2]"
CLICKS = """async () => {
    const times = [];
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    for (const tensor of page.tensors.all) {
        if (!tensor.isCarried || tensor.kind === 'constant') continue;
        const start = performance.now();
        page.go(addressOf(tensor, tensor.size >> 1, tensor.hasGradient ? 'gradient' : 'value'), false);
        document.body.getBoundingClientRect();
        times.push(performance.now() - start);
        await frame();
    }
    return times;
}"""


def measure(browser: Any, path: Path, repeats: int) -> dict[str, float]:
    opened, proven, clicks = [], [], []
    for _ in range(repeats):
        shown = browser.new_page(viewport={"width": 1400, "height": 900})
        shown.goto(path.as_uri(), wait_until="load")
        opened.append(shown.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart"))
        while not (done := shown.evaluate("page.proof.isDone && performance.now()")):
            shown.wait_for_timeout(20)
        proven.append(done)
        clicks += shown.evaluate(CLICKS)
        shown.close()
    return {
        "megabytes": path.stat().st_size / 1e6,
        "open": statistics.median(opened),
        "proven": statistics.median(proven),
        "click": statistics.median(clicks),
        "slowest_click": max(clicks),
    }


def large_page(folder: Path, run: str | None) -> Path:
    path = folder / "large.html"
    if run:
        npgpt(["explain", RUN_TEXT, "--run", run, "-o", str(path)])
        return path
    ids, targets = np.random.default_rng(0).integers(0, 512, (2, 1, 16))
    path.write_text(page(trace(GPT(GPTConfig(512, 64, 4, 4, 128)), ids, targets)), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--picture", metavar="FILE", help="draw README's picture (a PNG)")
    parser.add_argument("--run", metavar="DIR", help="a run to explain in place of the untrained model")
    parser.add_argument("--quick", action="store_true", help="measure once")
    parser.add_argument("--json", **JSON)
    options = parser.parse_args()
    found = shutil.which("chromium") or shutil.which("google-chrome")
    report = Report()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=found, args=["--no-sandbox"])
        print(f"# chromium {browser.version}")
        small = Path(name) / "small.html"
        npgpt(["explain", TEXT, "-o", str(small)])
        if options.picture:
            shown = browser.new_page(viewport={"width": 1400, "height": 820}, device_scale_factor=1)
            shown.goto(small.as_uri() + SHOWN)
            while not shown.evaluate("page.proof.isDone"):
                shown.wait_for_timeout(20)
            shown.locator("tr.term").first.hover()
            shown.screenshot(path=options.picture)
            print(f"drew {options.picture}")
        pages = {"small model": small, "model of npgpt train's size": large_page(Path(name), options.run)}
        rows = {label: measure(browser, path, 1 if options.quick else 5) for label, path in pages.items()}
        browser.close()
    for label, row in rows.items():
        print(
            f"{label}: {row['megabytes']:.1f} MB, open {row['open']:.0f} ms, proven {row['proven']:.0f} ms, "
            f"click {row['click']:.0f} ms, slowest {row['slowest_click']:.0f} ms"
        )
    report.rows = [{"page": label} | row for label, row in rows.items()]
    report.write(options.json)


if __name__ == "__main__":
    main()
