"""Does a GPT-2 give the same numbers here as in transformers, and how long does it take to load?

    python benchmarks/gpt2_parity.py FOLDER TEXT.txt [--tokens N]     # real weights, a text of yours
    python benchmarks/gpt2_parity.py                                  # random weights of GPT-2's shape, 124 M

FOLDER is a GPT-2 as Hugging Face writes it (config.json, model.safetensors, and tokenizer.json, or vocab.json and
merges.txt). The perplexity of the text's first N tokens (by default 8,192), in windows of the model's context length,
is printed beside that of transformers; so is the largest difference of the logits of the first window. Without
arguments, a model with random weights is written, and loaded in turns, five times each, after one that is not counted:
medians, with the lowest and the highest. transformers maps the file into memory and reads a weight at its first use;
npgpt reads and checks all. The program needs the extra 'peers'. Nothing is downloaded.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers

from npgpt.build import make_gpt
from npgpt.config import GPTConfig
from npgpt.core import Cache
from npgpt.runs import load_huggingface, load_huggingface_model, save_huggingface
from npgpt.support.files import read_text
from npgpt.tokenizer import END_OF_TEXT

GPT2 = GPTConfig(vocab_size=50257, context_length=1024, n_layer=12, n_head=12, n_embd=768)
ROUNDS = 5


def load_theirs(folder: str | Path) -> Any:
    return transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(folder: str, text: str, n_tokens: int) -> None:
    """Print the perplexity of both on the same windows of a text."""
    run, model = load_huggingface(folder), load_theirs(folder)
    N = run.config.model.context_length
    ids = np.array(run.tokenizer.encode(read_text(text), allowed_special={END_OF_TEXT})[: n_tokens + 1])
    theirs = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)(read_text(text))["input_ids"]
    print(f"tokens: {len(ids)}; the same ids as transformers: {theirs[: len(ids)] == ids.tolist()}")
    sums, count, difference = [0.0, 0.0], 0, 0.0
    for start in range(0, len(ids) - 1, N):
        x, y = ids[None, start : start + N][:, : len(ids) - 1 - start], ids[None, start + 1 : start + 1 + N]
        logits = run.model.forward(x, Cache(record=False))
        with torch.no_grad():
            their_logits = model(torch.tensor(x)).logits.numpy()
        difference = difference or float(np.abs(logits - their_logits).max())
        for i, each in enumerate((logits, their_logits)):
            rows = each[0].astype(np.float64)
            highest = rows.max(-1)
            log_sums = highest + np.log(np.exp(rows - highest[:, None]).sum(-1))
            sums[i] += float((log_sums - rows[np.arange(len(rows)), y[0]]).sum())
        count += y.size
    for name, total in zip(("npgpt", "transformers"), sums, strict=True):
        print(f"{name:<13} perplexity {math.exp(total / count):.4f} ({total / count:.6f} nats a token)")
    print(f"largest difference of the logits of the first window: {difference:.1e}")


def time_loading() -> None:
    """Print how long both need to load a random model of GPT-2's shape."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_gpt(GPT2)
        save_huggingface(made, Path(folder, "gpt2"))
        path = Path(folder, "gpt2")
        again = load_huggingface_model(path)
        assert again.flat.values.tobytes() == made.flat.values.tobytes()
        ids = np.arange(64)[None] * 700
        with torch.no_grad():
            theirs = load_theirs(path)(torch.tensor(ids)).logits.numpy()
        difference = np.abs(again.forward(ids, Cache(record=False)) - theirs).max()
        del made, again
        size = (path / "model.safetensors").stat().st_size
        print(f"{size:,} bytes; logits of 64 tokens differ by {difference:.1e}, of {np.abs(theirs).max():.1f}")
        found: dict[str, list[float]] = {"npgpt": [], "transformers": []}
        for _ in range(ROUNDS):
            found["npgpt"].append(seconds(lambda: load_huggingface_model(path)))
            found["transformers"].append(seconds(lambda: load_theirs(path)))
        for name, times in found.items():
            print(f"{name:<13} loads in {median(times):.2f} s ({min(times):.2f}-{max(times):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", help="a GPT-2 of Hugging Face")
    parser.add_argument("text", nargs="?", help="a UTF-8 text")
    parser.add_argument("--tokens", type=int, default=8192, help="number of tokens (default: 8192)")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"transformers {transformers.__version__}, PyTorch {torch.__version__}, Python {sys.version.split()[0]}")
    if options.folder and options.text:
        compare(options.folder, options.text, options.tokens)
    elif options.folder:
        parser.error("give a text, too")
    else:
        time_loading()


if __name__ == "__main__":
    main()
