"""Damage to files, drawn from a seed: what cuts, copies, editors and hostile people do to bytes, lines, numbers, JSON,
archives and folders. A damage that knows a structure keeps the rest of it valid, so that it gets far into a reader."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import re
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[random.Random, bytes], bytes]  # raises NotSuchAFileError

PACKERS = {
    "gz": (lambda data: gzip.compress(data, mtime=0), gzip.decompress, b"\x1f\x8b\x08"),
    "bz2": (bz2.compress, bz2.decompress, b"BZh91AY&SY"),
    "xz": (lzma.compress, lambda data: lzma.decompress(data.rstrip(b"\0")), b"\xfd7zXZ\0"),  # NULs may follow
}
MOST_BYTES = 2**20  # of a damaged file
# fmt: off
NUMBERS = [
    b"-1", b"0", b"1", b"3", b"10" * 15, b"9" * 5000, b"1e38", b"3.5e38", b"1e309", b"nan", b"-inf", b"2147483648",
    b"18446744073709551616", b"1_0", b"0x10", "٣".encode(), b"", b"007", b"1.5"
]
TEXTS = ["", "\x1b[31mred\x1b[0m", "\u202eabc", "\ud800", "\0", "a" * 5000, "@DATA@", "\r\n", " ", "\ufeff", "é"]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1.5, 10**30, -(10**30), 2**31, 2**63, 1e38, float("nan"), float("inf"), [], {}, [[[]]],
    [0, "a"], {"a": None}, *TEXTS
]
SHAPES = [
    b"(10**30,)", b"(1" + b"0" * 30 + b",)", b"(-1, 2)", b"(" * 300 + b")" * 300, b"()", b"(1,) * 99", b"[2, 2]",
    b"(2L, 2L)", b"(9" + b"9" * 5000 + b",)", b"(True, 2)", b"(0, 5)", b"(4, 2)", b"(" + b"1, " * 99 + b")"
]
KINDS = [
    b"'|O'", b"'<f2'", b"'>f4'", b"'<f8'", b"'<c8'", b"'<M8[s]'", b"'<U1'", b"[('a', '<f4')]", b"('<f4',)", b"{[]: 1}",
    b"'<f4,<f4'", b"'10000000000f4'", b"1if 2else 3", b"'''", b"'<i4'", b"'|u1'"
]
# fmt: on


class NotSuchAFileError(Exception):
    """The file has no such structure."""


def span(rng: random.Random, data: bytes, longest: int = 64) -> tuple[int, int]:
    """Return the start and the end of a part that is not empty."""
    if not data:
        raise NotSuchAFileError
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.randint(1, longest))


# ---- bytes


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def cut_front(rng: random.Random, data: bytes) -> bytes:
    return data[rng.randrange(len(data) + 1) :]


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 4, 32])):
        at, _ = span(rng, data)
        changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def replace_bytes(rng: random.Random, data: bytes) -> bytes:
    start, end = span(rng, data)
    n = end - start
    new = rng.choice(
        [b"", bytes(n), b"\xff" * n, rng.randbytes(n), rng.randbytes(rng.randint(1, 9)), b"\0", b" ", b"\n"]
    )
    return data[:start] + new + data[end:]


def insert_bytes(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    new = [t.encode("utf-8", "surrogatepass") for t in TEXTS] + [b"\xff\xfe", b"\xed\xa0\x80", b" " * 9, b"\n" * 9]
    return data[:at] + rng.choice(new) + data[at:]


def double_part(rng: random.Random, data: bytes) -> bytes:
    start, end = span(rng, data, 4096)
    return data[:end] + data[start:end] * rng.choice([1, 1, 100]) + data[end:]


def swap_parts(rng: random.Random, data: bytes) -> bytes:
    (a, b), (c, d) = sorted((span(rng, data), span(rng, data)))
    if b > c:
        raise NotSuchAFileError
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def long_run(rng: random.Random, data: bytes) -> bytes:
    at = rng.choice([0, len(data), rng.randrange(len(data) + 1)])
    return data[:at] + rng.choice([b"\n", b" ", b"a", b"1", b"[", b"{", b'"', b"\0", b"a\n"]) * 300_000 + data[at:]


# ---- lines, as editors and Windows change them


def change_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    if len(lines) < 2 or b"\0" in data:
        raise NotSuchAFileError
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    way = rng.choice(["double", "remove", "swap", "join", "empty", "shuffle", "repeat"])
    if way == "double":
        lines.insert(j, lines[i])
    elif way == "remove":
        del lines[i]
    elif way == "swap":
        lines[i], lines[j] = lines[j], lines[i]
    elif way == "join":
        lines[i] = lines[i].rstrip(b"\r\n") + b" "
    elif way == "empty":
        lines.insert(i, b"\n")
    elif way == "repeat":
        lines *= MOST_BYTES // len(data)
    else:
        rng.shuffle(lines)
    return b"".join(lines)


def of_windows(rng: random.Random, data: bytes) -> bytes:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise NotSuchAFileError from None
    ends = rng.choice(["\n", "\r\n", "\r\n", "\r"])
    marked = rng.choice(["", "\ufeff", "\ufeff"]) + text.replace("\r\n", "\n").replace("\n", ends)
    return marked.encode(rng.choice(["utf-8"] * 6 + ["utf-16", "utf-16-le"]))


# ---- numbers


def change_number(rng: random.Random, data: bytes) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?(e[-+]?\d+)?", data))
    if not found:
        raise NotSuchAFileError
    one = rng.choice(found[:3] if rng.random() < 0.5 else found)  # headers are at the beginning
    new = rng.choice(NUMBERS)
    if rng.random() < 0.3:
        new = str(rng.randint(0, 10 ** len(one[0]) - 1)).zfill(len(one[0])).encode()  # of the same length
    return data[: one.start()] + new + data[one.end() :]


# ---- JSON: a whole file, a line, the header of safetensors, JSON in a string of JSON


def change_json(rng: random.Random, data: bytes) -> bytes:
    n = int.from_bytes(data[:8], "little")
    if 8 < n + 8 <= len(data) and data[8:9] == b"{":
        header = change_json(rng, data[8 : 8 + n])
        return struct.pack("<Q", len(header)) + header + data[8 + n :]
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        lines = data.splitlines(keepends=True)
        i = rng.randrange(len(lines)) if lines else 0
        if len(lines) < 2 or not lines[i].startswith(b"{"):
            raise NotSuchAFileError from None
        return b"".join([*lines[:i], change_json(rng, lines[i]) + b"\n", *lines[i + 1 :]])
    changed = change_value(rng, value)
    text = json.dumps(changed)
    way = rng.random()
    if way < 0.08 and isinstance(value, dict) and value:  # a key twice
        key, item = rng.choice(list(value.items()))
        text = f"{text[:-1]}, {json.dumps(key)}: {json.dumps(item)}}}"
    elif way < 0.12:
        text = text.replace("1" + "0" * 30, "9" * 5000)
    elif way < 0.15:
        text = text.replace("[[[]]]", "[" * 100_000)
    return text.encode()


def change_value(rng: random.Random, value: Any) -> Any:
    """Return a tree with one node changed."""
    if isinstance(value, str) and value[:1] == "{" and rng.random() < 0.9:
        try:
            return json.dumps(change_value(rng, json.loads(value)))
        except ValueError:
            pass
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return rng.choice(VALUES)
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    key, item = rng.choice(items)
    way = rng.random()
    if isinstance(value, dict):
        changed: Any = dict(value)
        if way < 0.1:
            del changed[key]
        elif way < 0.2:
            changed[rng.choice(TEXTS) or key.upper()] = changed.pop(key)
        else:
            changed[key] = change_value(rng, item)
        return changed
    changed = list(value)
    if way < 0.1:
        del changed[key]
    elif way < 0.2:
        changed.insert(key, item)
    else:
        changed[key] = change_value(rng, item)
    return changed


# ---- archives and compressed files


def change_zip(rng: random.Random, data: bytes) -> bytes:
    if data[:4] != b"PK\x03\x04":
        raise NotSuchAFileError
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    i = rng.randrange(len(members))
    name, content = members[i]
    way = rng.choice(["drop", "twice", "rename", "content", "header", "header", "bomb", "size"])
    if way == "drop":
        del members[i]
    elif way == "twice":
        members.append((name, rng.choice(members)[1]))
    elif way == "rename":
        members[i] = rng.choice(["/" + name, "../" + name, "\x1b[31m", name.upper(), "x.npy"]), content
    elif way == "content":
        members[i] = name, rng.choice(ANY)(rng, content)
    elif way == "header":
        members[i] = name, change_npy(rng, content)
    elif way == "bomb":
        members[i] = name, content + bytes(100_000_000)
    out = io.BytesIO()
    method = (
        zipfile.ZIP_DEFLATED
        if way == "bomb"
        else rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    )
    with zipfile.ZipFile(out, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    made = out.getvalue()
    return made.replace(struct.pack("<I", len(content)), struct.pack("<I", 2**31)) if way == "size" else made


def change_npy(rng: random.Random, data: bytes) -> bytes:
    """Change the header of a .npy file, and keep its length right."""
    if data[:6] != b"\x93NUMPY":
        raise NotSuchAFileError
    n = struct.unpack("<H", data[8:10])[0]
    header = data[10 : 10 + n]
    way = rng.randrange(4)
    if way == 0:
        header = re.sub(rb"\([\d, ]*\)", rng.choice(SHAPES), header)
    elif way == 1:
        header = re.sub(rb"'[<|>]\w+'", rng.choice(KINDS).replace(b"\\", b""), header)
    elif way == 2:
        header = header.replace(b"False", b"True")
    else:
        header = rng.choice([flip_bits, replace_bytes, insert_bytes, change_number])(rng, header)
    header = header.strip()[:65000] + b"\n"
    version = rng.choice([b"\x01\0"] * 8 + [b"\x03\0", b"\x09\x09"])
    return data[:6] + version + struct.pack("<H", len(header)) + header + data[10 + n :]


def change_packed(rng: random.Random, data: bytes) -> bytes:
    """Damage what a compressed file holds; or compress a file, or join two compressed ones."""
    for pack, unpack, mark in PACKERS.values():
        if data.startswith(mark):
            changed = pack(rng.choice(ANY)(rng, unpack(data)))
            return data + changed if rng.random() < 0.2 else changed
    pack = rng.choice(list(PACKERS.values()))[0]
    return pack(data if rng.random() < 0.5 else rng.choice(ANY)(rng, data))


ANY: list[Damage] = [cut, cut_front, flip_bits, replace_bytes, insert_bytes, double_part, swap_parts, change_number]
OF_CONTENT: list[Damage] = [*ANY, long_run, change_lines, of_windows, change_json, change_json, change_json, change_zip,
                            change_zip, change_npy, change_packed]  # fmt: skip


def damage_content(rng: random.Random, data: bytes, others: list[bytes]) -> tuple[str, bytes]:
    """Return the name of a damage and the damaged bytes. ``others`` are the files of other readers."""
    while True:
        if rng.random() < 0.03:
            return "another file", rng.choice(
                [b"", rng.choice(others), data + rng.choice(others), rng.choice(others) + data]
            )
        way = rng.choice(OF_CONTENT)
        try:
            changed = way(rng, data)
        except Exception:  # NotSuchAFileError, or an earlier damage broke the structure
            continue
        if len(changed) < MOST_BYTES:
            return way.__name__, changed


def damage_path(rng: random.Random, path: Path) -> str:
    """Replace a file by something that is no file of that kind; return what it is."""
    way = rng.choice(["missing", "folder", "loop", "to nowhere", "null"])
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if way == "folder":
        path.mkdir()
    elif way != "missing":
        path.symlink_to({"loop": path.name, "to nowhere": "nowhere", "null": os.devnull}[way])
    return way
