"""Train a run (``train_run``), save checkpoints, go on from one, read it (``load_run``); GPT-2 in and out."""

from npgpt.runs.huggingface import load_huggingface, load_huggingface_model, save_huggingface
from npgpt.runs.layout import newest_run
from npgpt.runs.run import Run, load_run, newest_or_pretrained_run
from npgpt.runs.training import train_run

__all__ = [
    "Run", "load_huggingface", "load_huggingface_model", "load_run", "newest_or_pretrained_run", "newest_run",
    "save_huggingface", "train_run",
]  # fmt: skip
