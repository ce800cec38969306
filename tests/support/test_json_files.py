"""One reader of JSON: what programs read differently, or Python not at all, is refused by name and place."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from npgpt.errors import DataError, quote
from npgpt.support.json_files import MAX_VALUES, field, parse_json, read_json


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON: Expecting value: line 1 column 1"),
        (b"{}\n{}", "Extra data: line 2 column 1"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice in one object"),
        (b'[{"' + b"k" * 999_999 + b'":1,"' + b"k" * 999_999 + b'":1}]', "the key 'kkk.* stands twice"),
        (b"1" * 5000, r"the integer 11111111111111111111\.\.\. has 5000 digits, more than 40"),
        (b"[-" + b"9" * 41 + b"]", "has 41 digits"),
        (b"[NaN]", "NaN is not a number of JSON"),
        (b"-Infinity", "-Infinity is not"),
        (b"1e400", "'1e400' is too large"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": "\xe9"}', "not UTF-8 text: byte 0xe9 at offset 7"),
        (b'\xef\xbb\xbf{"a": "\xe9"}', "byte 0xe9 at offset 10"),
        (b'"a\0b"', "NUL at character 2"),
        ("{}".encode("utf-16"), "is UTF-16"),
        ("{}".encode("utf-16-le"), "NUL at character 1"),
        (b'"' + b"x" * 2000 + b'"', "more than 0 MiB"),
        (gzip.compress(b'"' + b"x" * 2000 + b'"', mtime=0), "more than 0 MiB"),
        (gzip.compress(b"{}", mtime=0)[:-1], "cut off"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_not_json_is_refused_in_a_short_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_json(path, 1000 if "MiB" in message else 1 << 22)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize("value", ["[]", "{}", "1", '{"a":[]}', '"\\\\"', '",\\","'])
def test_a_file_of_too_many_values_is_refused(value: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(f"[{f'{value},' * (MAX_VALUES + 2)}1]".encode(), 1))
    with pytest.raises(DataError, match=r"x\.json\.gz has more than 4,000,000 values"):
        read_json(path)


def test_a_string_may_have_any_number_of_commas() -> None:
    text = ",[{" * (MAX_VALUES // 2)
    assert parse_json(f'{{"a": "\\"{text}\\\\", "b": ["{text}"]}}', "x") == {"a": f'"{text}\\', "b": [text]}
    for unfinished in ('"', '"\\', '"\\"'):
        with pytest.raises(DataError, match="Unterminated string|escape"):
            parse_json(f'["{text}", "{text}' + '\\"' * 100_000 + unfinished[1:], "x")


def test_files_as_windows_writes_them(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{\r\n  "a": [1, 2.5, null, true, "\\u0000"]\r\n}\r\n'
    for data in (content, gzip.compress(content)):
        (tmp_path / "x").write_bytes(data)
        assert read_json(tmp_path / "x") == {"a": [1, 2.5, None, True, "\0"]}
    assert parse_json(str(-(10**19)), "x") == -(10**19)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("b", int, "x: the field 'b' is missing"),
        ("i", str, "x: i must be a string, not 1"),
        ("yes", int, "x: yes must be an integer of 64 bits, not True"),
        ("yes", float, "x: yes must be a number, not True"),
        ("f", int, "x: f must be an integer of 64 bits, not 1.0"),
        ("big", int, "x: big must be an integer of 64 bits, not 9223372036854775808"),
        ("s", list, "x: s must be a list, not 'sss"),
        ("i", dict, "x: i must be an object, not 1"),
        ("i", bool, "x: i must be true or false, not 1"),
        ("a\x1b[2J", int, r"x: 'a\\x1b\[2J' must be an integer of 64 bits, not 'a'"),
        ("n" * 10**6, int, "x: 'nnn.* must be"),
    ],
)
def test_a_field_has_its_kind(name: str, kind: type, message: str) -> None:
    record = {"i": 1, "f": 1.0, "yes": True, "s": "s" * 10**6, "big": 1 << 63, "a\x1b[2J": "a", "n" * 10**6: ""}
    with pytest.raises(DataError, match=message) as caught:
        field(record, name, kind, "x")
    assert len(str(caught.value)) < 110
    assert field(record, "i", float, "x") == 1.0
    assert field(record, "i", int, "x") == 1
    with pytest.raises(DataError, match=r"x must be an object, not \[1\]"):
        field([1], "i", int, "x")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\x1b\u202e", r"'a\x1b\u202e'"),
        ("a" * 58, repr("a" * 58)),
        ("a" * 59, "'" + "a" * 56 + "..."),
        (b"\0" * 10**7, repr(b"\0" * 15)[:57] + "..."),
        (10**30, str(10**30)),
        ([10**5000, {"a": (1.5, None)}], "[an integer of 16610 bits, {'a': (1.5, None)}]"),
        (nested(100_000), "[" * 57 + "..."),
        ({str(k): k for k in range(10**6)}, str({str(k): k for k in range(20)})[:57] + "..."),
    ],
    ids=lambda value: quote(value),
)
def test_a_quoted_value_is_short(value: Any, shown: str) -> None:
    assert quote(value) == shown
    assert len(shown) <= 60
