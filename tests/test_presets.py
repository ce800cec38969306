"""The presets, and the order of precedence of a flag, the configuration file, a preset and the defaults."""

from pathlib import Path

import pytest

from npgpt.cli import make_parser
from npgpt.cli.options import config_from, given_tables
from npgpt.config import RunConfig
from npgpt.errors import ConfigError
from npgpt.memory import n_parameters
from npgpt.presets import PRESETS


def parsed(*arguments: str) -> RunConfig:
    return config_from(make_parser().parse_args(["train", *arguments]))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_valid_configuration(name: str) -> None:
    assert parsed("--preset", name) == RunConfig.from_tables(PRESETS[name].tables)
    assert len(PRESETS[name].help) < 80


def test_presets_have_the_sizes_that_they_state() -> None:
    assert n_parameters(parsed("--preset=gpt2").model) == 124_439_808  # as OpenAI's weights
    assert round(n_parameters(parsed("--preset=small").model) / 1e6) == 5


def test_a_flag_wins_over_the_file_over_the_preset_over_the_default(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[model]\nn_layer = 3\nn_head = 2\n[train]\nsteps = 7\n")
    file = f"--config={path}"
    config = parsed("--preset=small", file, "--n-layer=5")
    assert (config.model.n_layer, config.model.n_head, config.model.n_embd) == (5, 2, 256)
    assert (config.train.steps, config.train.batch_size, config.train.eps) == (7, 16, 1e-8)
    options = make_parser().parse_args(["train", "--preset=small", file, "--n-layer=5", "--no-tie-weights"])
    given = given_tables(options)
    assert given["model"] == PRESETS["small"].tables["model"] | {"n_layer": 5, "n_head": 2, "tie_weights": False}
    assert given["train"] == PRESETS["small"].tables["train"] | {"steps": 7}
    assert given_tables(make_parser().parse_args(["train"])) == {"data": {}, "model": {}, "train": {}}
    assert PRESETS["small"].tables["model"]["n_layer"] == 6  # unchanged


def test_errors_name_the_preset_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    for arguments, message in (
        (["--preset=smal"], "preset 'smal' is unknown; did you mean small"),
        (["--preset="], "preset '' is unknown; known: gpt2, shakespeare-char, small, two-minutes"),
        (["--preset=small", "--n-head=3"], "preset small, with the flags: n_embd 256 cannot be divided"),
        (["--preset=small", f"--config={path}"], rf"preset small and {path}, with the flags: unknown field 'n_heads'"),
    ):
        path.write_text("[model]\nn_heads = 3")
        with pytest.raises(ConfigError, match=message):
            parsed(*arguments)
    path.write_text("model = 3")
    with pytest.raises(ConfigError, match="model must be a table"):
        parsed("--preset=small", f"--config={path}", "--n-layer=3")
