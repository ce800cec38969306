"""How large is the page of `npgpt explain`, how fast does it open and answer a click? It also draws README's picture.

    python benchmarks/bench_explain.py [--picture FILE] [--run DIR] [--quick] [--json FILE]

Chromium, without a window, opens two pages of the model of the package (940,800 parameters), or of the run in DIR: of
six words, and of 16 tokens. "Open" is the time from the navigation until the first view is drawn;
"proven" until the page has recomputed every tensor; "click" the median and the largest time from a new address to the
drawn view, over cells of every tensor. Needs the extra `browser`, and chromium.
"""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from peers import JSON, Report
from playwright.sync_api import sync_playwright

from npgpt.cli import main as npgpt
from npgpt.runs.run import PRETRAINED

TEXT = "The Congress of the United States"
LONG_TEXT = "The President of the United States and the Congress have the duty to keep the peace of the Union."
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--picture", metavar="FILE", help="draw README's picture (a PNG)")
    parser.add_argument("--run", metavar="DIR", default=str(PRETRAINED), help="another run to explain")
    parser.add_argument("--quick", action="store_true", help="measure once")
    parser.add_argument("--json", **JSON)
    options = parser.parse_args()
    found = shutil.which("chromium") or shutil.which("google-chrome")
    report = Report()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=found, args=["--no-sandbox"])
        print(f"# chromium {browser.version}")
        small, large = Path(name) / "small.html", Path(name) / "large.html"
        npgpt(["explain", TEXT, "--run", options.run, "-o", str(small)])
        npgpt(["explain", LONG_TEXT, "--run", options.run, "-o", str(large)])
        if options.picture:
            shown = browser.new_page(viewport={"width": 1400, "height": 820}, device_scale_factor=1)
            shown.goto(small.as_uri() + SHOWN)
            while not shown.evaluate("page.proof.isDone"):
                shown.wait_for_timeout(20)
            shown.locator("tr.term").first.hover()
            shown.screenshot(path=options.picture)
            print(f"drew {options.picture}")
        pages = {"six words": small, "16 tokens": large}
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
