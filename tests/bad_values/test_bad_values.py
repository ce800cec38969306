"""Every public function refuses every bad value with an error of npgpt, or answers as it does for the good value.

``python tests/bad_values/table.py`` prints the table. Arguments that are objects of npgpt (a model, a cache, a
configuration, a tokenizer) and the arguments of gradcheck, which may be anybody's layer, are no values.
"""

import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import calls
from tries import tries

import npgpt
from npgpt import GPTConfig, TrainConfig
from npgpt.core import Layer
from npgpt.embeddings import PVConfig, Word2VecConfig
from npgpt.errors import ShapeError

MODULES = """layers embeddings tokenizer core config build runs data train optim sampling baselines evaluation
             compiled.optim embeddings.documents embeddings.evaluate embeddings.lookup embeddings.vectors memory presets
             npgpt"""
METHODS = ("__init__", "__call__", "__getitem__", "__contains__")

# Public names without values of their own, and why.
EXEMPT = {
    "npgpt.GPT.forward": "is tried as layers.GPT.forward",
    "npgpt.GPT.backward": "is tried as layers.GPT.backward",
    "npgpt.gradcheck": "takes anybody's layer, and judges what it cannot run; tests/study/check",
    "core.FlatParams.__init__": "is made by Layer.pack",
    "core.Layer.slots": "is a step of parameters",
    "core.Layer.recast": "takes a function",
    "core.Layer.zero_grad": "takes a cache",
    "core.Cache": "passes arrays from a layer's forward to its backward, unseen",
    "core.KeyValues.memory": "takes the keys of a pass from attention, unseen",
    "core.Param.move": "is the memory of FlatParams",
    "core.aligned_empty": "is the memory of caches",
    "layers.HeadLoss.__init__": "takes two layers",
    "layers.merge_lora": "takes a layer",
    "layers.remove_lora": "takes a layer",
    "sampling.Drawn": "is a result",
    "sampling.draw": "is what generate does; tried as sampling.generate",
    "sampling.next_logits": "is a step of generate",
    "sampling.softmax": "is a step of generate: tests/test_sampling.py",
    "sampling.keep_top_k": "is a step of generate: tests/test_sampling.py",
    "sampling.keep_top_p": "is a step of generate: tests/test_sampling.py",
    "sampling.until": "takes pieces of a text: tests/test_sampling.py",
    "embeddings.vectors.similar_spellings": "is a step of an error",
    "embeddings.Encoder": "is a protocol",
    "tokenizer.BPETokenizer.encode_bytes": "takes bytes alone: tests/tokenizer",
    "tokenizer.BPETokenizer.from_huggingface_json": "reads what a file holds: tests/tokenizer",
    "embeddings.documents.words_of_state": "reads what a file holds: tests/embeddings",
    "embeddings.documents.array_of_state": "reads what a file holds: tests/embeddings",
    "embeddings.BagOfWords.from_state": "reads what a file holds: tests/embeddings",
    "embeddings.PVModel.from_state": "reads what a file holds: tests/embeddings",
    "embeddings.PVModel.loss": "is a step of encode",
    "embeddings.PVModel.gradient": "is a step of encode",
    "embeddings.Hit.__init__": "is a result",
    "embeddings.evaluate.Score.__init__": "is a result",
    "embeddings.evaluate.Agreement.__init__": "is a result",
    "tokenizer.Tokenizer": "is the base of three tokenizers, which are all tried",
    "config.RunConfig.__init__": "takes three tables",
    "config.RunConfig.from_tables": "reads what a file holds: tests/test_config.py",
    "config.option": "declares a field",
    "config.read_toml": "is a step of RunConfig.load",
    "config.renamed": "is a step of RunConfig.from_tables",
    "config.check_value": "is a step of each configuration",
    "config.kind_of": "is a step of each configuration",
    "build.can_compile": "takes the level of a warning",
    "build.check_layers": "is a step of make_gpt and twin",
    "runs.Run.__init__": "is a result",
    "train.Step.__init__": "is a result",
    "evaluation.Evaluation.__init__": "is a result",
    "evaluation.HasModel": "is a protocol",
    "optim.AdamW.checked": "is a step of AdamW.step",
    "optim.largest_norm": "is a check",
    "optim.norm": "is a step of AdamW.grad_norm",
    "train.add_in_order": "is a step of accumulate",
    "memory.Memory.__init__": "is a result",
    "memory.n_parameters": "takes a configuration",
    "memory.memory_needed": "takes two configurations",
    "memory.check_memory": "takes two configurations",
    "memory.gibibytes": "is a step of an error",
    "presets.Preset.__init__": "is a row of a table: tests/test_presets.py",
}


def public() -> Iterator[tuple[str, Any]]:
    """Yield (name, function) of all public functions and of the methods of public classes."""
    seen: set[int] = set()
    for place in MODULES.split():
        module = npgpt if place == "npgpt" else importlib.import_module(f"npgpt.{place}")
        ours = [name for name, x in vars(module).items() if getattr(x, "__module__", "") == module.__name__]
        for name in getattr(module, "__all__", ours):
            thing = getattr(module, name)
            if id(thing) in seen or name.startswith("_") or not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            seen.add(id(thing))
            if inspect.isfunction(thing) and inspect.signature(thing).parameters:
                yield f"{place.removesuffix('.optim')}.{name}", thing
            for method, function in vars(thing).items() if inspect.isclass(thing) else ():
                takes = getattr(function, "__func__", function)
                named = not method.startswith("_") or method in METHODS
                step = (
                    issubclass(thing, Layer) and thing is not Layer and method not in (*METHODS, "forward", "backward")
                )
                if named and not step and inspect.isfunction(takes) and len(inspect.signature(takes).parameters) > 1:
                    yield f"{place.removesuffix('.optim')}.{name}.{method}", takes


def exempt(name: str) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in EXEMPT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("values")


def test_every_public_function_has_a_right_call(folder: Path) -> None:
    known = calls(folder)
    missing = [name for name, _ in public() if name not in known and not exempt(name)]
    assert not missing, f"give a right call in calls.py, or the reason why not in EXEMPT: {missing}"
    names = [name for name, _ in public()]
    assert not [name for name in EXEMPT if not any(other == name or other.startswith(f"{name}.") for other in names)]


def test_every_argument_of_a_public_function_is_tried(folder: Path) -> None:
    known = calls(folder)
    for name, function in public():
        if name in known and not exempt(name):
            names = set(known[name][1]) | ({"ds", "dw", "dm", "dloss"} if name.endswith(".backward") else set())
            wanted = {
                parameter.name
                for parameter in inspect.signature(function).parameters.values()
                if parameter.name not in ("self", "cls", "dtable", "inputs", "cache") and parameter.annotation in VALUES
            }
            assert wanted <= names, name


VALUES = (int, float, bool, str, int | None, float | None, str | None, npgpt.core.Array)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("letter", "abcdefghijklmnopqrstuvwxyz")
def test_bad_values_are_refused_or_answered_as_good_ones(letter: str, folder: Path) -> None:
    found = [each for name, call in calls(folder).items() if name[0] == letter for each in tries(name, call)]
    assert not [each for each in found if each.fault]


CONFIGS: list[Any] = [GPTConfig, TrainConfig, Word2VecConfig, PVConfig]


@pytest.mark.parametrize("config", CONFIGS)
def test_numbers_of_numpy_are_stored_as_numbers_of_python(config: Any) -> None:
    ids = np.array([3, 64])
    assert GPTConfig(vocab_size=ids.max() + 1).vocab_size == 65
    kinds = {int: np.int64, float: np.float64, bool: np.bool_, str: np.str_}
    fields = {name: item for name, item in config.__dataclass_fields__.items() if item.type in kinds}
    made = config(**{name: kinds[item.type](item.default) for name, item in fields.items()})
    assert json.loads(json.dumps(vars(made))) == vars(config())
    assert all(isinstance(value, int | float | str | list | None) for value in vars(made).values())


@pytest.mark.parametrize("layers", [npgpt.layers, npgpt.compiled])
def test_a_wrong_target_is_told_about_the_ignored_one(layers: Any) -> None:
    logits = np.zeros((2, 3), np.float32)
    with pytest.raises(ShapeError, match=r"targets\[1\] is -1, .*IGNORE_INDEX, -100"):
        layers.CrossEntropy().forward(logits, np.array([0, -1]), None, npgpt.Cache())
