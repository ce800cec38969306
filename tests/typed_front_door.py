"""What an editor knows of the front door, and of the parts of a composite: for mypy, which CI runs on this file."""

from typing import assert_type

import npgpt


def only_read_by_mypy() -> None:
    assert_type(npgpt.layers.Attention(4, 2).qkv, npgpt.layers.Linear)
    assert_type(npgpt.twin(npgpt.make_gpt(npgpt.GPTConfig())).lm_head, npgpt.layers.VocabularyHead)
    assert_type(npgpt.load_run("runs/1"), npgpt.Run)
