"""The record of a run over time: what is written is read, and a damaged row is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npgpt.cli import main
from npgpt.errors import RunError
from npgpt.study.trace.over_time import add_record, read_record

LAYERS: dict[str, Any] = {
    "\x1b[31m" + "w" * 999: {"gradient": 1e300, "update_to_weight": None},
    "b": {"gradient": 1e300, "update_to_weight": 0},
}
BLOCK = {"attention": 0.5, "mlp": 0.25, "spread": 1.0}
ROW: dict[str, Any] = {"step": 2, "layers": LAYERS, "blocks": [BLOCK], "float32_off": None}


def test_the_record_of_a_run_that_diverged_is_shown_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_record(tmp_path, ROW | {"blocks": [BLOCK | {"mlp": float("nan")}], "float32_off": float("inf")})
    assert "NaN" not in (tmp_path / "record.jsonl").read_text()
    row = read_record(tmp_path)[0]
    assert np.isnan(row["blocks"][0]["mlp"]) and row["float32_off"] is None
    assert main(["trace", "--run", str(tmp_path), "--over-time"]) == 0
    shown = capsys.readouterr().out
    assert "1.41e+300" in shown and "\\x1b[31m" in shown and "\x1b" not in shown
    assert max(map(len, shown.splitlines())) < 200


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"step": "2"}, "step must be an integer of 64 bits, not '2'"),
        ({"step": 10**50}, "the integer 10000000000000000000... has 51 digits"),
        ({"step": True}, "step must be an integer of 64 bits, not True"),
        ({"layers": []}, "layers must be an object"),
        (
            {"layers": {"a\x1b": {"gradient": [], "update_to_weight": 1}}},
            r"'a\\x1b': gradient must be a number, not \[\]",
        ),
        ({"layers": {"a": {"gradient": 1}}}, "'a': the field 'update_to_weight' is missing"),
        ({"layers": {"a": 1}}, "'a' must be an object"),
        ({"layers": {}}, "has other layers or blocks than line 1"),
        (
            {"blocks": [{"attention": "x" * 10**6, "mlp": 1, "spread": 1}]},
            "block 0: attention must be a number, not 'xxx",
        ),
        ({"blocks": []}, "has other layers or blocks than line 1"),
        ({"float32_off": {}}, "float32_off must be a number"),
        ({"float32_off": float("nan")}, "NaN is not a number of JSON"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_damaged_row_of_a_record_is_named(changed: dict[str, Any], says: str, tmp_path: Path) -> None:
    rows = [json.dumps(ROW), json.dumps(ROW | changed)]
    (tmp_path / "record.jsonl").write_text("\n".join(rows))
    with pytest.raises(RunError, match=f"record.jsonl, line 2.*{says}") as caught:
        read_record(tmp_path)
    assert len(str(caught.value)) < 400
    (tmp_path / "record.jsonl").write_bytes(b"\xff" + rows[0].encode())
    with pytest.raises(RunError, match=r"record.jsonl, line 1 is not UTF-8"):
        read_record(tmp_path)
