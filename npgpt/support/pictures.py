"""Pictures by matplotlib, if it is installed. They go into files, never onto a screen."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from npgpt.errors import ConfigError
from npgpt.support.files import write_atomically


def pyplot() -> Any:
    """Return matplotlib.pyplot, set to draw without a screen.

    Raises
        ConfigError if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ConfigError("pictures need matplotlib: pip install 'npgpt[viz]'") from None
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    return plt


def draw_losses(path: Path, metrics: Sequence[dict[str, Any]], baselines: dict[str, float]) -> None:
    """Draw the losses of a run over its steps.

    Raises
        ConfigError if matplotlib is not installed.
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps = [row["step"] for row in metrics]
    axes.plot(steps, [row["train_loss"] for row in metrics], label="training")
    axes.plot(steps, [row["val_loss"] for row in metrics], label="validation")
    for name, style in (("unigram", ":"), ("bigram", "--")):
        axes.axhline(baselines[f"{name}_loss"], linestyle=style, color="grey", label=name)
    axes.set(xlabel="step", ylabel="cross-entropy, nats per token")
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    plt.close(figure)
    write_atomically(path, picture.getvalue())
