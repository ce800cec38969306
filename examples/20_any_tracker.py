"""How do the numbers of a run get into a tracker of experiments?

``train_run`` calls functions of yours: after each step, and after each evaluation. A tracker needs no more. This one
writes a table; for another, call its own function in ``log``. A callback may also look at the model, as here at the
size of its embedding.
"""

import csv
import tempfile
from pathlib import Path

import numpy as np

import npgpt
from npgpt.train import Step


# %% The tracker
class Tracker:
    """Writes (name, step, value) into a CSV file."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", newline="")
        self.table = csv.writer(self.file)
        self.table.writerow(["name", "step", "value"])

    def log(self, step: int, **values: float) -> None:
        for name, value in values.items():
            self.table.writerow([name, step, value])

    def on_step(self, run: npgpt.Run, step: Step) -> None:
        size = float(np.linalg.norm(run.model.embedding.weight.value))
        self.log(step.number, loss=step.loss, learning_rate=step.learning_rate, gradient=step.grad_norm, embedding=size)

    def on_evaluation(self, run: npgpt.Run, row: dict[str, float]) -> None:
        self.log(int(row["step"]), validation=row["val_loss"])
        self.file.flush()  # what was evaluated is on the disk


# %% A run with callbacks
text = "One step after the other, and the loss goes down. Sometimes it goes up a little.\n" * 60
config = npgpt.RunConfig(
    npgpt.DataConfig(tokenizer="char"),
    npgpt.GPTConfig(context_length=16, n_layer=1, n_head=2, n_embd=16),
    npgpt.TrainConfig(steps=60, eval_every=20, batch_size=8),
)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "numbers.csv")
    tracker = Tracker(path)
    run = npgpt.train_run(config, [text], on_step=tracker.on_step, on_evaluation=tracker.on_evaluation)
    tracker.file.close()
    rows = list(csv.DictReader(path.open(newline="")))

# %% What was tracked
of = {
    name: [(int(row["step"]), float(row["value"])) for row in rows if row["name"] == name]
    for name in ("loss", "validation")
}
print(f"{len(rows)} numbers were tracked, among them {len(of['loss'])} training losses and these validation losses:")
for step, loss in of["validation"]:
    print(f"  step {step:2}: {loss:.3f}")
assert len(of["loss"]) == 60
assert of["validation"] == [(row["step"], row["val_loss"]) for row in run.metrics]
assert of["validation"][-1][1] < of["validation"][0][1]
