"""Rows of metrics are checked before anything of an old run is removed."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npgpt.config import DataConfig, GPTConfig, RunConfig, TrainConfig
from npgpt.errors import RunError
from npgpt.runs import load_run, train_run

SMALL = RunConfig(
    DataConfig(tokenizer="char"),
    GPTConfig(context_length=4, n_layer=1, n_head=1, n_embd=4),
    TrainConfig(steps=1, batch_size=2),
)


@pytest.mark.parametrize(("value", "says"), [(math.nan, "accuracy must be a finite number"), ("0.5", "not '0.5'")])
def test_a_row_that_cannot_be_written_leaves_the_old_run(value: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    made = train_run(SMALL, ["the cat sat on the mat. " * 20], out=path)
    before = (path / "checkpoints/1/model.safetensors").read_bytes()
    made.metrics[0]["accuracy"] = value
    with pytest.raises(RunError, match=says):
        made.save(path, overwrite=True)
    assert (path / "checkpoints/1/model.safetensors").read_bytes() == before
    made.metrics[0]["accuracy"] = np.float32(0.5)
    made.save(path, overwrite=True)
    assert load_run(path).metrics[0]["accuracy"] == 0.5
