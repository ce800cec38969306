"""Train a run, save checkpoints in its folder, go on from one, and read it: ``train_run``, ``load_run``."""

from npgpt.runs.layout import newest_run
from npgpt.runs.run import Run, load_run
from npgpt.runs.training import train_run

__all__ = ["Run", "load_run", "newest_run", "train_run"]
