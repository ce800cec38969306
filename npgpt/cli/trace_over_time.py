"""What `npgpt train --ledger-every` recorded, as a table and as a picture."""

import io
import json
from pathlib import Path
from typing import Any

from npgpt.errors import RunError
from npgpt.runs import RECORD
from npgpt.support.files import write_atomically
from npgpt.support.pictures import pyplot
from npgpt.support.terminal import escape_controls


def show_over_time(folder: Path, picture: str | None) -> None:
    """Print the rows of a run; draw them, if a file is named.

    Raises
        RunError if nothing was recorded, or the file is damaged.
    """
    rows = _rows(folder / RECORD)
    last = rows[-1]
    print("  step   gradient  update/weight  float32 off  branches: attention, mlp of each block")
    for row in rows:
        layers = row["layers"].values()
        gradient = sum(layer["gradient"] ** 2 for layer in layers) ** 0.5
        update = _median([layer["update_to_weight"] for layer in layers if layer["update_to_weight"]])
        branches = " | ".join(f"{block['attention']:.2f} {block['mlp']:.2f}" for block in row["blocks"])
        off = "-" if row["float32_off"] is None else f"{row['float32_off']:.0e}"
        print(f"{row['step']:>6}  {gradient:>9.3g}  {update:>13.1e}  {off:>11}  {branches}")
    print(f"\nat step {last['step']}:")
    for name, layer in last["layers"].items():
        print(f"  {name:<36} gradient {layer['gradient']:>9.3g}   update/weight {layer['update_to_weight']:.1e}")
    if picture:
        _draw(rows, Path(picture))


def _rows(path: Path) -> list[dict[str, Any]]:
    where = escape_controls(str(path), keep="")
    if not path.is_file():
        raise RunError(f"{where} is missing; train with `npgpt train --ledger-every 50` to record it")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            row["step"], row["layers"], row["blocks"], row["float32_off"]
        except (ValueError, KeyError, TypeError):
            raise RunError(f"{where}, line {number}: not a row of a ledger; delete the line, or train again") from None
        rows.append(row)
    if not rows:
        raise RunError(f"{where} is empty: the run ended before the first row")
    return rows


def _median(numbers: list[float]) -> float:
    return sorted(numbers)[len(numbers) // 2] if numbers else 0.0


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    plt = pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    steps = [row["step"] for row in rows]
    for name in rows[0]["layers"]:
        if name.endswith("weight"):
            for axis, what in ((axes[0, 0], "gradient"), (axes[0, 1], "update_to_weight")):
                axis.semilogy(steps, [row["layers"][name][what] or float("nan") for row in rows], label=name)
    for i in range(len(rows[0]["blocks"])):
        for what, style in (("attention", "-"), ("mlp", "--")):
            axes[1, 0].plot(steps, [row["blocks"][i][what] for row in rows], style, label=f"block {i}, {what}")
        axes[1, 1].plot(steps, [row["blocks"][i]["spread"] for row in rows], label=f"after block {i}")
    titles = ("norm of the gradient", "update over weight", "branch over residual stream", "spread of the stream")
    for axis, title in zip(axes.ravel(), titles, strict=True):
        axis.set(title=title, xlabel="step")
        axis.legend(fontsize=5)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=120, format="png")
    plt.close(figure)
    write_atomically(path, stream.getvalue())
