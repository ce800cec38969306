"""How fast does a GPT-2 write, beside transformers with its cache?

    python benchmarks/bench_generate.py [--threads 1 2] [--rounds N] [--quick] [--json FILE]

One model with random weights is written as Hugging Face writes it, and all sides read it. They write greedily, and
their ids are compared first. Then all take turns, each in a process of its own: the time to the first token after a
prompt, and tokens per second from the second token on. transformers takes part twice: eager, with its growing cache,
and compiled by torch.compile, with its static cache. What it compiles, it compiles before the first turn. Ratios are
those of medians; more than 1: npgpt is ahead. The share of the memory's bandwidth counts the weights, which each token
reads once, and the keys and values. The bandwidth is measured in the same process, by NumPy's sum of 500 MB, a part for
each thread.
"""

import tempfile
import threading
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peers import HAS_TORCH, Contestant, Npgpt, Report, Torch, compare, parse, shown, take_turns

SHAPES = {
    "GPT-2 124M": {"vocab_size": 50257, "context_length": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768},
    "A": {"vocab_size": 65, "context_length": 64, "n_layer": 4, "n_head": 4, "n_embd": 128},
}
PROMPTS = (16, 512)
TOKENS = 32  # written after the first
SIZE = 125_000_000  # numbers whose sum measures the bandwidth


class Side:
    """What all sides share: ``texts`` yields ids, one after another."""

    def texts(self, prompt: list[int], n: int) -> Any:
        raise NotImplementedError

    def ids(self, prompt: list[int], n: int) -> list[int]:
        return [int(token) for token in self.texts(prompt, n)]

    def write(self, prompt: list[int], n: int) -> tuple[float, float]:
        """Seconds to the first token, and tokens per second from then on."""
        texts = self.texts(prompt, n + 1)
        begun = time.perf_counter()
        next(texts)
        first = time.perf_counter()
        for _ in texts:
            pass
        return first - begun, n / (time.perf_counter() - first)


class NpgptSide(Side, Npgpt):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.threads = threads

    def prepare(self, folder: str) -> int:
        """Return the size of the weights in bytes."""
        from npgpt.runs import load_huggingface_model

        self.model = load_huggingface_model(folder)
        return int(self.model.flat.values.nbytes)

    def texts(self, prompt: list[int], n: int) -> Any:
        from npgpt.sampling import generate

        return generate(self.model, prompt, n, temperature=0)

    def bandwidth(self) -> float:
        """Bytes a second that all threads together read."""
        parts = np.array_split(np.ones(SIZE, np.float32), self.threads)
        times = []
        for _ in range(5):
            workers = [threading.Thread(target=part.sum) for part in parts]
            begun = time.perf_counter()
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            times.append(time.perf_counter() - begun)
        return 4 * SIZE / min(times)


class TransformersSide(Side, Torch):
    def __init__(self, threads: int, compiled: bool) -> None:
        super().__init__(threads)
        import torch
        import transformers

        warnings.filterwarnings("ignore", category=FutureWarning)  # an argument gets another name in 5.40
        torch.set_grad_enabled(False)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.compiled = compiled

    def about(self) -> dict[str, Any]:
        import transformers

        return {"transformers": transformers.__version__} | super().about()

    def prepare(self, folder: str) -> None:
        import torch
        import transformers

        load = transformers.GPT2LMHeadModel.from_pretrained
        self.model = load(folder, dtype=torch.float32, local_files_only=True).eval()
        self.step = torch.compile(self.model.forward) if self.compiled else self.model.forward

    def texts(self, prompt: list[int], n: int) -> Any:
        import torch
        import transformers

        cache = transformers.DynamicCache(config=self.model.config)
        if self.compiled:
            cache = transformers.StaticCache(config=self.model.config, max_cache_len=len(prompt) + n)
        forward, new, done = self.model.forward, torch.tensor([prompt]), 0
        for _ in range(n):
            places = torch.arange(done, done + new.shape[1])
            logits = forward(new, past_key_values=cache, use_cache=True, cache_position=places).logits
            done += new.shape[1]
            new = logits[:, -1].argmax(-1, keepdim=True)
            forward = self.step  # a compiled form for one token
            yield new.item()


def bench(name: str, folder: str, threads: int, rounds: int, quick: bool, report: Report) -> None:
    shape = SHAPES[name]
    contestants = [Contestant("npgpt", "bench_generate:NpgptSide", threads)]
    if HAS_TORCH:
        for compiled in (False, True):
            label = "compiled" if compiled else "eager"
            contestants.append(Contestant(label, "bench_generate:TransformersSide", threads, compiled=compiled))
    report.introduce(contestants)
    ours, *peers = contestants
    size = ours.ask("prepare", folder=folder)
    for peer in peers:
        peer.ask("prepare", folder=folder)
    bandwidth = ours.ask("bandwidth")
    print(f"\n{name}, {threads} thread{'s' * (threads > 1)}; {size / 1e6:.0f} MB of weights, no second copy; ", end="")
    print(f"memory gives {bandwidth / 1e9:.1f} GB/s")
    print(f"{'prompt':<8}{'npgpt first, tokens/s, share':<32}" + "".join(f"{peer.label + ':':<36}" for peer in peers))
    n = 8 if quick else TOKENS
    for length in PROMPTS:
        if length + n >= shape["context_length"]:
            continue
        prompt = [(7919 * k) % shape["vocab_size"] for k in range(length)]
        wanted = ours.ask("ids", prompt=prompt, n=n)
        same = {peer.label: peer.ask("ids", prompt=prompt, n=n) == wanted for peer in peers}
        if not all(same.values()):
            print(f"other ids: {same}")
        for contestant in contestants:
            contestant.ask("write", prompt=prompt, n=n)  # compile
        found = take_turns(contestants, rounds, "write", prompt=prompt, n=n)
        first, rate = ({label: [pair[i] for pair in pairs] for label, pairs in found.items()} for i in (0, 1))
        read = size + 8 * shape["n_layer"] * shape["n_embd"] * (length + n / 2)
        share = median(rate["npgpt"]) * read / bandwidth
        row: dict[str, Any] = {"shape": name, "threads": threads, "prompt": length, "first": first, "tokens/s": rate}
        row |= {"share of bandwidth": share, "bandwidth": bandwidth, "same ids": same}
        line = f"{median(first['npgpt']) * 1e3:7.1f} ms {median(rate['npgpt']):7.1f} {share:5.0%}"
        line = f"{length:<8}{line:<32}"
        for peer in peers:
            to_first = compare(first["npgpt"], first[peer.label])
            a_token = compare([1 / r for r in rate["npgpt"]], [1 / r for r in rate[peer.label]])
            row[peer.label] = {"first": to_first, "tokens/s": a_token}
            line += f"{shown(to_first)} {shown(a_token)}".ljust(36)
        report.rows.append(row)
        print(line, flush=True)
    for contestant in contestants:
        contestant.close()


def main() -> None:
    options = parse("How fast does a GPT-2 write, beside transformers?", 7)
    report = Report()
    from npgpt.build import make_gpt
    from npgpt.config import GPTConfig
    from npgpt.runs import save_huggingface

    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            save_huggingface(make_gpt(GPTConfig(**shape)), path)  # type: ignore[arg-type]
            for threads in options.threads:
                bench(name, str(path), threads, options.rounds, options.quick, report)
    report.write(options.json)


if __name__ == "__main__":
    main()
