"""Configurations: writing and reading are inverse, and errors name the invalid field."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.config import LATER, TABLES, DataConfig, GPTConfig, RunConfig, TrainConfig
from npgpt.errors import ConfigError

ESCAPED = "\"'\\#\n\r\t\x1b\x7f\x85"  # what TOML writes in its own way, and characters() hardly ever draws
file_names = st.lists(
    st.sampled_from(ESCAPED) | st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
).map("".join)


@given(st.lists(file_names), st.floats(1e-9, 1), st.integers(0, 2**62), st.booleans())
def test_config_round_trip(texts: list[str], rate: float, seed: int, tie: bool) -> None:
    config = RunConfig(
        DataConfig(text=texts), GPTConfig(tie_weights=tie), TrainConfig(learning_rate=2.0, eps=rate, seed=seed)
    )
    import tomllib

    assert RunConfig.from_tables(tomllib.loads(config.dumps())) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\nn_heads = 2", r"unknown field 'n_heads' in \[model\]; did you mean n_head\?"),
        ("[train]\nn_head = 2", r"unknown field 'n_head' in \[train\]; it belongs in \[model\]"),
        ("[model]\nn_layer = 99999999999", "n_layer must be at most 2147483647"),
        ("[model]\nn_layer = " + "9" * 5000, "not TOML"),
        ("[model]\nn_layer = 0x" + "9" * 5000, "n_layer must be at most 2147483647, not an integer of 20000 bits"),
        ("[train]\nseed = 0x" + "9" * 5000, "seed must be at most 18446744073709551615, not an integer of"),
        ("[train]\nsteps = -0x" + "9" * 4000, "not TOML"),
        ("[train]\nlayers = '" + "x" * 50_000 + "'", "layers 'xxx"),
        ("[model]\n" + "x" * 50_000 + " = 1", "unknown field 'xxx"),
        ("[" + "x" * 50_000 + "]", r"unknown table \[xxx"),
        ("a = " + "[" * 10_000, "not TOML"),
        ("a." * 50_000 + "a = 1", "bytes are too many for a configuration"),
        ("a." * 30_000 + "a = 1", "a key has more than 50 parts"),
        ("['a'." + " 'a' . " * 9_000 + "'a']", "a key has more than 50 parts"),
        ("[data]\ntext = ['']", "'' is not a file name"),
        ("[modle]\nn_head = 2", r"unknown table \[modle\]; did you mean model\?"),
        ('["a\\u001b[2J"]\nb = 1', r"unknown table \['a\\x1b\[2J'\]; known: data"),
        ("model = 3", "model must be a table"),
        ("[model]\nn_head = '2'", "n_head must be a whole number, not '2'"),
        ("[model]\nn_head = true", "n_head must be a whole number, not True"),
        ("[model]\nn_head = 2.0", "n_head must be a whole number"),
        ("[model]\ntie_weights = 1", "tie_weights must be true or false"),
        ("[model]\nn_head = 0", "n_head must be at least 1, not 0"),
        ("[model]\nn_head = 3", "n_embd 128 cannot be divided among n_head 3 heads"),
        ("[model]\ndropout = 1", "dropout must be below 1"),
        ("[model]\ndropout = nan", "dropout must be at least 0, not nan"),
        ("[model]\nactivation = 'gelo'", "activation 'gelo' is unknown; did you mean gelu"),
        ("[data]\ntext = 'a.txt'", "text must be a list of strings"),
        ("[data]\ntext = [1]", "text must be a list of strings"),
        ("[train]\nmin_learning_rate_ratio = 1.5", "min_learning_rate_ratio must be at most 1"),
        ("[train]\nmicro_batches = 99", "micro_batches 99 are more than the batch_size"),
        ("[train]\nlearning_rate = inf", "learning_rate must be finite"),
        ("[train", "not TOML"),
        ("\xff", "not TOML"),
    ],
)
def test_errors_name_the_field_and_the_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        RunConfig.load(path)
    assert str(path) in str(caught.value)


def test_names_of_many_files_with_dots_are_read(tmp_path: Path) -> None:
    texts = [f"corpus/v1.2.{i}/part.{i}.txt" for i in range(500)]
    (tmp_path / "c.toml").write_text(RunConfig(DataConfig(text=texts)).dumps())
    assert RunConfig.load(tmp_path / "c.toml").data.text == texts


def test_binary_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\x80")
    with pytest.raises(ConfigError, match="not UTF-8 text: byte 0x80 at offset 0"):
        RunConfig.load(tmp_path / "config.toml")


def test_a_complete_config_needs_every_field(tmp_path: Path) -> None:
    lines = RunConfig().dumps().splitlines()
    of = {line.split()[0]: line for line in lines if " = " in line}
    assert of.keys() == {item.name for table in TABLES.values() for item in fields(table) if item.default is not None}
    for name in of.keys() - LATER:
        (tmp_path / "config.toml").write_text("\n".join(line for line in lines if line != of[name]))
        RunConfig.load(tmp_path / "config.toml")
        with pytest.raises(ConfigError, match=f"the field {name} is missing"):
            RunConfig.load(tmp_path / "config.toml", complete=True)


def test_unencodable_file_names_are_rejected() -> None:
    for name in ("bad\udcff.txt", "bad\0.txt"):
        with pytest.raises(ConfigError, match="rename the file"):
            DataConfig(text=[name])


def test_integers_are_accepted_for_floats() -> None:
    assert RunConfig.from_tables({"train": {"learning_rate": 1}}).train.learning_rate == 1


def test_version_0_1_name_of_the_layers_field_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[train]\nkernels = "textbook"\n')
    assert RunConfig.load(file).train.layers == "textbook"
    file.write_text('[train]\nkernels = "textbook"\nlayers = "compiled"\n')
    with pytest.raises(ConfigError, match="has both 'kernels' and its new name 'layers'"):
        RunConfig.load(file)
    file.write_text('[train]\nkernels = "quick"\n')
    with pytest.raises(ConfigError, match="layers 'quick' is unknown"):
        RunConfig.load(file)


def test_numpy_scalars_are_accepted(tmp_path: Path) -> None:
    model = GPTConfig(n_embd=np.int64(64), tie_weights=np.bool_(False))  # type: ignore[arg-type]
    config = RunConfig(model=model, train=TrainConfig(learning_rate=np.logspace(-4, -2, 3)[1]))
    file = tmp_path / "config.toml"
    file.write_text(config.dumps())
    assert RunConfig.load(file) == config
    assert type(config.model.n_embd) is int and type(config.train.learning_rate) is float
    with pytest.raises(ConfigError, match="n_embd must be a whole number, not 64.0"):
        GPTConfig(n_embd=np.float64(64))  # type: ignore[arg-type]
