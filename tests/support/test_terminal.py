"""Nothing from a text, a model or a file moves the cursor, changes colours or reorders what is shown."""

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.support.terminal import escape_controls, write_text

HIDDEN = "\u2028\u2029\u202e\u2066\x1b\x7f\x9b\ud800\n"  # what characters() hardly ever draws


@given(st.lists(st.sampled_from(HIDDEN) | st.characters()).map("".join))
def test_nothing_is_left_that_a_terminal_would_obey(text: str) -> None:
    shown = escape_controls(text)
    assert not any(ord(c) < 32 and c not in "\n\t" for c in shown)
    assert not any(0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in shown)
    assert not set(shown) & set("\u2028\u2029\u202e\u2066")
    shown.encode()


def test_what_is_harmless_stays() -> None:
    text = "é 東京 👩‍👩‍👧 می‌خواهم\n\t"
    assert escape_controls(text) == text
    assert escape_controls("a\nb", keep="") == "a\\nb"


def test_escaped_on_a_terminal_and_as_it_is_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text("\x1b[31m")
    assert capsys.readouterr().out == "\x1b[31m"
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        write_text("\x1b[31m")
        monkeypatch.undo()
        assert os.read(ours, 100) == b"\\x1b[31m"
    os.close(ours)
