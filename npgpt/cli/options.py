"""Configuration from the command line: a flag for each field, over a file, over the defaults."""

import argparse
import dataclasses
from dataclasses import fields
from typing import Any

from npgpt.config import DataConfig, GPTConfig, Options, RunConfig, TrainConfig

TABLES: dict[str, type[Options]] = {"data": DataConfig, "model": GPTConfig, "train": TrainConfig}


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE.toml", help="read the fields below from a file; flags go before it")
    for name, table in TABLES.items():
        group = parser.add_argument_group(name, (table.__doc__ or "").splitlines()[0])
        for item in fields(table):  # type: ignore[arg-type]
            flag = f"--{item.name.replace('_', '-')}"
            default = getattr(table(), item.name)
            shown = f" ({' '.join(map(str, default)) or 'none'})" if isinstance(default, list) else f" ({default})"
            settings: dict[str, Any] = {"help": item.metadata["help"] + shown, "default": None, "dest": item.name}
            if item.type is bool:
                group.add_argument(flag, action=argparse.BooleanOptionalAction, **settings)
            elif item.type == list[str]:
                group.add_argument(flag, nargs="+", metavar="FILE", **settings)
            else:
                choices = item.metadata["limits"].get("one_of")
                kind: Any = item.type
                group.add_argument(flag, type=kind, choices=choices, metavar=None if choices else "N", **settings)


def config_from(options: argparse.Namespace) -> RunConfig:
    """What the flags, the file and the defaults say together.

    Raises
        ConfigError if the file or the whole makes no sense.
    """
    config = RunConfig.load(options.config) if options.config else RunConfig()
    changed = {}
    for name, table in TABLES.items():
        flags = {item.name: getattr(options, item.name) for item in fields(table)}  # type: ignore[arg-type]
        given = {flag: value for flag, value in flags.items() if value is not None}
        changed[name] = dataclasses.replace(getattr(config, name), **given)
    return dataclasses.replace(config, **changed)
