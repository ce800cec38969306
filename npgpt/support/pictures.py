"""Pictures, if matplotlib is installed: drawn into files, never onto a screen."""

from typing import Any

from npgpt.errors import ConfigError


def pyplot() -> Any:
    """matplotlib.pyplot, without a screen.

    Raises
        ConfigError if it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ConfigError("pictures need matplotlib: pip install 'npgpt[viz]'") from None
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    return plt
