"""npgpt: a GPT in NumPy with every gradient derived and coded by hand.

One import gives all names that a notebook needs. Each name is looked up at its first use, so ``import npgpt`` is quick
and imports neither NumPy nor Numba.
"""

import importlib
from typing import TYPE_CHECKING, Any

import npgpt.support.forks as _forks  # noqa: F401  # before another module of npgpt can be imported by a thread
from npgpt.version import __version__

if TYPE_CHECKING:  # for editors and type checkers; Python uses HOMES
    import npgpt.compiled as compiled
    import npgpt.layers as layers
    from npgpt.build import make_gpt, twin
    from npgpt.config import DataConfig, GPTConfig, RunConfig, TrainConfig
    from npgpt.core import Cache, Layer, Param
    from npgpt.embeddings.vectors import WordVectors
    from npgpt.evaluation import evaluate
    from npgpt.machine.pool import set_num_threads
    from npgpt.model import GPT
    from npgpt.runs import Run, load_huggingface, load_run, save_huggingface, train_run
    from npgpt.sampling import generate
    from npgpt.study.check.checker import gradcheck
    from npgpt.study.trace.tracing import trace
    from npgpt.tokenizer import BPETokenizer, CharTokenizer, WordTokenizer

# Module -> its names that npgpt exports; MODULES are exported as modules.
HOMES = {
    "npgpt.build": "make_gpt twin",
    "npgpt.config": "DataConfig GPTConfig RunConfig TrainConfig",
    "npgpt.core": "Cache Layer Param",
    "npgpt.embeddings.vectors": "WordVectors",
    "npgpt.evaluation": "evaluate",
    "npgpt.machine.pool": "set_num_threads",
    "npgpt.model": "GPT",
    "npgpt.runs": "Run load_huggingface load_run save_huggingface train_run",
    "npgpt.sampling": "generate",
    "npgpt.study.check.checker": "gradcheck",
    "npgpt.study.trace.tracing": "trace",
    "npgpt.tokenizer": "BPETokenizer CharTokenizer WordTokenizer",
}
MODULES = ("compiled", "layers")

__all__ = [
    "GPT", "BPETokenizer", "Cache", "CharTokenizer", "DataConfig", "GPTConfig", "Layer", "Param", "Run", "RunConfig",
    "TrainConfig", "WordTokenizer", "WordVectors", "__version__", "compiled", "evaluate", "generate", "gradcheck",
    "layers", "load_huggingface", "load_run", "make_gpt", "save_huggingface", "set_num_threads", "trace", "train_run",
    "twin"
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return importlib.import_module(f"npgpt.{name}")
    home = next((module for module, names in HOMES.items() if name in names.split()), None)
    if home is None:
        raise AttributeError(
            f"npgpt has no {name!r}; it has {', '.join(__all__)}; import other modules by their full name"
        )
    found = globals()[name] = getattr(importlib.import_module(home), name)  # the next look-up finds it at once
    return found


def __dir__() -> list[str]:
    return __all__
