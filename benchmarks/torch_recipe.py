"""The peer of ``npgpt train`` in ``nanogpt_recipe.py``: a short program that trains a GPT in PyTorch.

It imports nothing of npgpt, whose imports a user of PyTorch does not wait for.
"""

import json
import os
import sys

import numpy as np
import torch
from torch_gpt import GPT, make_optimizer


def train(prepared: str, mode: str, eval_every: str, out: str) -> None:
    """Write the validation losses as ``npgpt train`` does."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with np.load(prepared) as file:
        given = dict(file)
    model = GPT(*given["shape"].tolist())
    model.load({name.removeprefix("weights."): value for name, value in given.items()})
    beta2, clip = given["settings"].tolist()
    optimizer = make_optimizer(list(model.parameters()), 1.0, beta2)
    loss_of = torch.compile(model) if mode == "compiled" else model
    batches, validation = torch.from_numpy(given["batches"]), torch.from_numpy(given["validation"])

    def evaluate(step: int) -> None:
        with torch.no_grad():  # by the model that is not compiled: compiling its second form would take longer
            losses = [model(part[:, :-1], part[:, 1:]).item() * len(part) for part in validation.split(16)]
        with open(out, "a", encoding="utf-8") as file:
            print(json.dumps({"step": step, "val_loss": sum(losses) / len(validation)}), file=file)

    evaluate(0)
    for step, (batch, rate) in enumerate(zip(batches, given["rates"].tolist(), strict=True), start=1):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss_of(batch[:, :-1], batch[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if step % int(eval_every) == 0:
            evaluate(step)


if __name__ == "__main__":
    train(*sys.argv[1:])
