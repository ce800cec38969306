"""npgpt: a GPT in NumPy with every gradient derived and coded by hand.

What a notebook needs is here, by one import. Each name is looked up when it is first used, so that ``import npgpt``
itself takes no time, and starts neither NumPy nor Numba.
"""

import importlib
from typing import TYPE_CHECKING, Any

from npgpt.version import __version__

if TYPE_CHECKING:  # for editors and type checkers; HOMES says the same to Python
    import npgpt.compiled as compiled
    import npgpt.layers as layers
    from npgpt.build import make_gpt, twin
    from npgpt.config import DataConfig, GPTConfig, RunConfig, TrainConfig
    from npgpt.core import Cache, Layer, Param
    from npgpt.embeddings.vectors import WordVectors
    from npgpt.machine.pool import set_num_threads
    from npgpt.model import GPT
    from npgpt.runs import Run, load_run, train_run
    from npgpt.sampling import generate
    from npgpt.study.check.checker import gradcheck
    from npgpt.study.trace.tracing import trace
    from npgpt.tokenizer import BPETokenizer, CharTokenizer, WordTokenizer

# Name -> the module that it is from; a module itself has none.
HOMES = {
    "BPETokenizer": "npgpt.tokenizer",
    "Cache": "npgpt.core",
    "CharTokenizer": "npgpt.tokenizer",
    "DataConfig": "npgpt.config",
    "GPT": "npgpt.model",
    "GPTConfig": "npgpt.config",
    "Layer": "npgpt.core",
    "Param": "npgpt.core",
    "Run": "npgpt.runs",
    "RunConfig": "npgpt.config",
    "TrainConfig": "npgpt.config",
    "WordTokenizer": "npgpt.tokenizer",
    "WordVectors": "npgpt.embeddings.vectors",
    "compiled": "",
    "generate": "npgpt.sampling",
    "gradcheck": "npgpt.study.check.checker",
    "layers": "",
    "load_run": "npgpt.runs",
    "make_gpt": "npgpt.build",
    "set_num_threads": "npgpt.machine.pool",
    "trace": "npgpt.study.trace.tracing",
    "train_run": "npgpt.runs",
    "twin": "npgpt.build",
}

__all__ = [
    "GPT",
    "BPETokenizer",
    "Cache",
    "CharTokenizer",
    "DataConfig",
    "GPTConfig",
    "Layer",
    "Param",
    "Run",
    "RunConfig",
    "TrainConfig",
    "WordTokenizer",
    "WordVectors",
    "__version__",
    "compiled",
    "generate",
    "gradcheck",
    "layers",
    "load_run",
    "make_gpt",
    "set_num_threads",
    "trace",
    "train_run",
    "twin",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"npgpt has no {name!r}; it has {', '.join(__all__)}; a module is imported by its name")
    home = HOMES[name]
    found = getattr(importlib.import_module(home), name) if home else importlib.import_module(f"npgpt.{name}")
    globals()[name] = found  # the next look finds it at once
    return found


def __dir__() -> list[str]:
    return __all__
