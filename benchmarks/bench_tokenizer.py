"""How fast is the tokenizer, beside tiktoken, gigatoken, snaptokens, fastokens, rustbpe, gigabpe and Hugging Face's?

    python benchmarks/bench_tokenizer.py [--only encode threads start memory list decode train doubling]
                                         [--megabytes 3] [--kinds prose words ...] [--json [FILE]]

``encode`` takes texts of seven kinds, document by document, with three vocabularies. Ids are compared first. Then all
take turns, one thread each. "Fresh" is the first pass over the texts with a new encoder, "warm" the second pass. The
time is the CPU time of the process, its threads included; a ratio is that of the medians of three turns, the peer's
time over npgpt's (more than 1: npgpt is ahead). tiktoken keeps no pieces, so it is measured once.

``threads`` compares ``encode_batch`` on one thread and on two, by the clock. ``start`` launches processes and counts
their CPU seconds, imports included, until they have the ids of a text.
``memory`` encodes ever new text, up to 1 GB, and shows the memory of the process on the way.
"""

import argparse
import copy
import functools
import importlib.metadata
import importlib.util
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # the peers would use all cores otherwise
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from peers import JSON, Report
from tokenizer_peers import MAKERS, installed
from tokenizer_texts import KINDS, up_to
from vocabularies import NAMES, ours, tiktokens

from npgpt.support.files import read_parts
from npgpt.tokenizer import BPETokenizer
from npgpt.tokenizer import bpe_compiled as fast

PEERS = ("tiktoken", "gigatoken", "snaptokens", "fastokens", "rustbpe", "gigabpe", "tokenizers")
ROWS: list[dict[str, Any]] = []
TURNS = 3


def bench_encode(kinds: list[str], size: int) -> None:
    documents = {kind: up_to(size, KINDS[kind]()) for kind in kinds}
    print("encode: MB/s of npgpt fresh, warm; then each peer's time over npgpt's, fresh, warm (! other ids)")
    for name in NAMES:
        makers = {}
        for peer in installed():
            try:
                makers[peer] = MAKERS[peer](name)
                makers[peer]()
            except ValueError as error:  # a vocabulary that it cannot read
                makers.pop(peer)
                print(f"# {peer} has no {name}: {error}")
        for kind in kinds:
            show_encoding(name, kind, documents[kind], makers)


def show_encoding(name: str, kind: str, texts: list[str], makers: dict[str, Any]) -> None:
    size = sum(len(text.encode()) for text in texts)
    seconds: dict[str, list[tuple[float, float]]] = {peer: [] for peer in makers}
    ids: dict[str, Any] = {}
    for turn in range(TURNS):
        for peer, make in makers.items():
            if turn and peer == "tiktoken":
                continue
            encode = make()
            first, found = cpu_seconds(lambda encode=encode: [encode(text) for text in texts])
            ids.setdefault(peer, np.concatenate([np.asarray(getattr(a, "ids", a), np.uint32) for a in found]))
            del found
            second, _ = cpu_seconds(lambda encode=encode: [encode(text) for text in texts])
            seconds[peer].append((first, second))
    require_equal(f"{name}, {kind}", ids["npgpt"], ids.get("tiktoken", ids["npgpt"]))
    medians = {peer: np.median(times, 0) for peer, times in seconds.items()}
    fresh, warm = size / medians["npgpt"] / 1e6
    row: dict[str, Any] = {"vocabulary": name, "text": kind, "bytes": size, "MB/s": [fresh, warm], "ratio": {}}
    line = f"{name:<12}{kind:<13}{fresh:6.0f} {warm:5.0f}  "
    for peer in list(makers)[1:]:
        ratios = medians[peer] / medians["npgpt"]
        row["ratio"][peer] = ratios.tolist()
        row.setdefault("other ids", []).extend([peer] if not np.array_equal(ids[peer], ids["npgpt"]) else [])
        line += f" {peer}{'!' if peer in row['other ids'] else ''} {ratios[0]:.2f} {ratios[1]:.2f} "
    ROWS.append(row)
    print(line, flush=True)


def bench_threads(kinds: list[str], size: int) -> None:
    print("encode_batch: time of one thread over that of two, fresh, warm; median of 7")
    for name in NAMES:
        for kind in kinds:
            texts, ratios = up_to(size, KINDS[kind]()), []
            for _ in range(7):
                laps = {}
                for n_threads in (1, 2):
                    tokenizer = copy.copy(ours(name))  # without the encoder's memory
                    tokenizer.encode_batch(["a " * 10_000])
                    work = functools.partial(tokenizer.encode_batch, texts, n_threads=n_threads)
                    laps[n_threads] = measured(work), measured(work)
                ratios.append(np.divide(laps[1], laps[2]))
            fresh, warm = np.median(ratios, 0)
            ROWS.append({"threads": name, "text": kind, "ratio": [fresh, warm]})
            print(f"{name:<12}{kind:<13}{fresh:6.2f} {warm:5.2f}", flush=True)


def cpu_seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


# What a process runs, by tokenizer; the folder has the vocabulary in the file that the tokenizer reads.
STARTS = {
    "import numba": "import numba",
    "npgpt": """
from npgpt.tokenizer import load_tokenizer
ids = load_tokenizer(sys.argv[1] + "/cl100k_base.tiktoken").encode(text)""",
    "gigatoken": """
import gigatoken
ids = gigatoken.Tokenizer.from_tiktoken(sys.argv[1] + "/cl100k_base.tiktoken").encode(text)""",
    "fastokens": """
import fastokens
path = sys.argv[1] + "/cl100k_base.tiktoken"
ids = fastokens.Tokenizer.from_tiktoken(path, encoding="cl100k_base").encode(text)""",
}


def bench_start() -> None:
    texts = {"20 kB": "".join(up_to(20_000, KINDS["prose"]())), "36 characters": "The quick brown fox jumps over a dog"}
    print("start: CPU seconds from launch to the ids with cl100k_base, everything on disk already; median of 5")
    with tempfile.TemporaryDirectory() as folder:
        ours("cl100k_base").to_tiktoken(Path(folder, "cl100k_base.tiktoken"))
        for kind, text in texts.items():
            for label, code in STARTS.items():
                package = label.split()[-1]
                if not importlib.util.find_spec(package):
                    continue
                program = f"import sys\ntext = sys.stdin.read()\n{code}"
                seconds = []
                for _ in range(6):
                    before = resource.getrusage(resource.RUSAGE_CHILDREN)
                    subprocess.run([sys.executable, "-c", program, folder], input=text, text=True, check=True)
                    after = resource.getrusage(resource.RUSAGE_CHILDREN)
                    seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
                ROWS.append({"start": label, "text": kind, "seconds": statistics.median(seconds[1:])})
                print(f"{kind:<15}{label:<14}{statistics.median(seconds[1:]):6.2f} s", flush=True)


# Text without an end: words of 1 to 12 letters, of which nearly none comes twice.
MEMORY = """
import os, random, sys
sys.path.insert(0, sys.argv[1])
from tokenizer_peers import MAKERS
encode = MAKERS[sys.argv[2]]("gpt2")()
rng = random.Random(0)
done, step = 0, 2_000_000
alphabet = "etaoinshrdlucmfwypvbgkqjxz" * 2 + "éüßøабвгд" + "0123456789"
for k in range(int(sys.argv[3])):
    letters = "".join(rng.choices(alphabet, k=step))
    cuts = sorted(rng.sample(range(step), step // 7))
    encode(" ".join(letters[a:b] for a, b in zip(cuts, cuts[1:])))
    done += step
    if k + 1 in (1, 5, 25, 50, 125, 250, 500):
        pages = int(open("/proc/self/statm").read().split()[1])
        print(done * 8 // 7 // 1_000_000, pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000, flush=True)
"""


def bench_memory(megabytes: int) -> None:
    print("memory of the process, in MB, while it encodes ever new text with GPT-2's vocabulary")
    for peer in ("npgpt", "gigatoken"):
        if importlib.util.find_spec(peer):
            command = [sys.executable, "-c", MEMORY, str(Path(__file__).parent), peer, str(megabytes // 2)]
            ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            curve = [tuple(map(int, line.split())) for line in ran.stdout.splitlines()]
            ROWS.append({"memory": peer, "MB of text, MB": curve})
            print(f"{peer:<12}" + ", ".join(f"after {text}: {used}" for text, used in curve), flush=True)


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


def require_equal(what: str, a: Any, b: Any) -> None:
    if not np.array_equal(a, b):
        raise SystemExit(f"{what}: results differ; a benchmark of different things says nothing")


def bench_list(size: int) -> None:
    """To a list of Python's integers: a text, and a short string again and again."""
    texts = {"prose": "".join(up_to(size, KINDS["prose"]())), "36 characters": "The quick brown fox jumps over a dog"}
    for name in NAMES:
        tokenizer, tiktoken = ours(name), tiktokens(name)
        for kind, text in texts.items():
            repeats = 2000 if len(text) == 36 else 1
            for how in ("encode", "encode_ordinary"):
                mine, theirs = getattr(tokenizer, how), getattr(tiktoken, how)
                require_equal(name, mine(text), theirs(text))

                def repeat(function: Any, text: str = text, repeats: int = repeats) -> None:
                    for _ in range(repeats):
                        function(text)

                label = f"{name}: {how}, {kind} x {repeats}"
                bench(label, "tiktoken", lambda f=mine: repeat(f), lambda f=theirs: repeat(f), 9)


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


def bench_train(texts: dict[str, str], there: set[str]) -> None:
    from npgpt.tokenizer.bpe_formats import HUGGING_FACE_PATTERNS

    whole = "".join(texts.values())
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

            if "rustbpe" in there:
                import rustbpe

                def by_rustbpe(text: str = text, vocab_size: int = vocab_size) -> Any:
                    peer = rustbpe.Tokenizer()
                    peer.train_from_iterator([text], vocab_size, pattern=HUGGING_FACE_PATTERNS["gpt2"][0])
                    return peer

                learned = [bytes(token) for token, _ in by_rustbpe().get_mergeable_ranks()]
                same = learned == tokenizer.token_bytes
                bench(label + ("" if same else " (merges differ)"), "rustbpe", mine, by_rustbpe, 3, data_size)
            if "gigabpe" in there:
                import gigabpe

                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder, "text.txt")
                    path.write_text(text, "utf-8")

                    def by_gigabpe(path: Path = path, vocab_size: int = vocab_size) -> Any:
                        return gigabpe.train_bpe([str(path)], vocab_size, special_tokens=[], threads=1)

                    def from_file(path: Path = path, vocab_size: int = vocab_size) -> Any:
                        return BPETokenizer.train(read_parts(path), vocab_size, ())

                    bench(label + ", from a file", "gigabpe", from_file, by_gigabpe, 3, data_size)
            if "tokenizers" in there and size == 10_000_000:
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


def measured(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


PARTS = ("encode", "threads", "start", "memory", "list", "decode", "train", "doubling")


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast is the tokenizer, beside others?")
    parser.add_argument("--json", **JSON)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="texts for encode")
    parser.add_argument("--megabytes", type=float, default=3, help="size of each text (3)")
    parser.add_argument("--memory", type=int, default=1000, help="megabytes of text for memory (1000)")
    options = parser.parse_args()
    report = Report()
    there = {peer for peer in PEERS if importlib.util.find_spec(peer)}
    versions = {peer: importlib.metadata.version(peer) if peer in there else "not installed" for peer in PEERS}
    print("#", ", ".join(f"{peer} {version}" for peer, version in versions.items()), flush=True)
    report.environment["peers"] = versions
    size = int(options.megabytes * 1e6)
    if "encode" in options.only:
        bench_encode(options.kinds, size)
    if "threads" in options.only:
        bench_threads(options.kinds, size)
    if "start" in options.only:
        bench_start()
    if "memory" in options.only:
        bench_memory(options.memory)
    if "list" in options.only:
        bench_list(size)
    if set(options.only) & {"decode", "train"}:
        texts = {kind: "\n".join(up_to(10_000_000, KINDS[kind]())) for kind in ("prose", "code", "scripts")}
    if "decode" in options.only:
        bench_decode(texts)
    if "train" in options.only:
        bench_train(texts, there)
    if "doubling" in options.only:
        bench_doubling()
    report.rows += ROWS
    report.write(options.json)


if __name__ == "__main__":
    main()
