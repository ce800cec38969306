"""Shared by the commands: a flag for each field of a configuration, checks of --out."""

import argparse
import os
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from npgpt.config import LAYERS, TABLES, Options, RunConfig, read_toml
from npgpt.core.values import one_of
from npgpt.errors import ConfigError, RunError, quote
from npgpt.presets import DEFAULT, PRESETS

LONGEST_CHOICES = 30  # characters; longer lists of choices go into the help text


class Renamed(argparse.Action):
    """A flag under its name of npgpt 0.1. It works until 0.2, with a note; the help does not show it."""

    def __init__(self, now: str, **settings: Any) -> None:
        super().__init__(**settings | {"help": argparse.SUPPRESS, "default": argparse.SUPPRESS})
        self.now = now

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        warnings.warn(f"{option_string} is called {self.now} now; the old name works until npgpt 0.2", stacklevel=2)
        setattr(namespace, self.dest, values)


def add_run_folder(parser: argparse.ArgumentParser, instead: str = "") -> None:
    """Add the argument DIR, for ``load_run``; ``instead`` says what is taken if there is no run."""
    parser.add_argument(
        "run_folder",
        nargs="?",
        metavar="DIR",
        help=f"run folder, or one of its checkpoints (default: the newest run in runs{instead})",
    )


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"named settings: {'; '.join(f'{name} ({preset.help})' for name, preset in PRESETS.items())}; the file of "
        f"--config and flags take precedence (default: {DEFAULT}, unless --config is given)",
    )
    parser.add_argument(
        "--config", metavar="FILE.toml", help="TOML file with the fields below; a flag takes precedence"
    )
    for name, table in TABLES.items():
        defaults = table(**PRESETS[DEFAULT].tables.get(name, {}))
        add_flags(parser.add_argument_group(name, (table.__doc__ or "").splitlines()[0]), defaults)
    parser.add_argument("--kernels", dest="layers", choices=LAYERS, action=Renamed, now="--layers")


def add_flags(group: Any, defaults: Options) -> None:
    """A flag for each field of a table; its help states the default."""
    for item in fields(defaults):  # type: ignore[arg-type]
        if not item.metadata["flag"]:
            continue
        flag = f"--{item.name.replace('_', '-')}"
        default = getattr(defaults, item.name)
        shown = {"True": "on", "False": "off", "[]": "none"}.get(str(default), default)
        choices = item.metadata["limits"].get("one_of")
        named = choices and len("".join(choices)) > LONGEST_CHOICES
        says = f"{item.metadata['help']}{': ' + ', '.join(choices) if named else ''} (default: {shown})"
        settings: dict[str, Any] = {"help": says, "default": None, "dest": item.name}
        if item.type is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **settings)
        elif item.type == list[str]:
            group.add_argument(flag, nargs="+", action="extend", metavar="FILE", **settings)
        elif item.type == list[int]:
            group.add_argument(flag, type=_whole_numbers, metavar="N,N", **settings)
        else:
            metavar = "NAME" if named else None if choices else "N"
            group.add_argument(flag, type=item.type, choices=choices, metavar=metavar, **settings)


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be whole numbers with commas, as 0,1,10, not {quote(text)}") from None


def given_flags(options: argparse.Namespace, table: type[Options]) -> dict[str, Any]:
    return {flag: getattr(options, flag) for flag in table.names() if getattr(options, flag, None) is not None}


def given_tables(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The fields that are set by a flag, the file or the preset, in this order of precedence: without defaults.

    Raises
        ConfigError if the preset is unknown or the file is not TOML. The tables are not checked.
    """
    preset = PRESETS[one_of("preset", options.preset, PRESETS)].tables if options.preset is not None else {}
    file = read_toml(options.config) if options.config else {}
    flags = {name: given_flags(options, table) for name, table in TABLES.items()}
    tables: dict[str, Any] = {}
    for given in (preset, file, flags):
        for name, table in given.items():
            if isinstance(tables.setdefault(name, {}), dict):  # else it is wrong, and stays for the check
                tables[name] = tables[name] | table if isinstance(table, dict) else table
    return tables


def config_from(options: argparse.Namespace) -> RunConfig:
    """The configuration of the flags, the file, the preset and the defaults, in this order of precedence.

    Without a file and a preset, the preset is the default one.

    Raises
        ConfigError if the file or the configuration is not valid.
    """
    if options.preset is None and options.config is None:
        options.preset = DEFAULT
    tables = given_tables(options)
    try:
        return RunConfig.from_tables(tables)
    except ConfigError as error:
        named = options.preset not in (None, DEFAULT)
        sources = [f"preset {options.preset}"] * named + [options.config] * bool(options.config)
        raise ConfigError(f"{' and '.join(sources)}, with the flags: {error}" if sources else str(error)) from None


def check_at_least(least: int, **numbers: int) -> None:
    """Refuse a number that is too small. The keywords are the flags."""
    for name, value in numbers.items():
        if value < least:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")


def check_out(path: str | Path, what: str, overwrite: bool, check: Callable[[Path], object]) -> None:
    """Refuse, before any work is done, a path that must not be written.

    Args
        what: the kind of file, for the message.
        check: raises or returns False for a file of another kind; --overwrite replaces no such file.
    """
    if path == "":
        raise ConfigError("--out is empty; name a file")
    path = Path(path)
    if os.path.lexists(path):
        if not overwrite:
            raise RunError(f"{path} exists already; use another --out, or --overwrite to replace {what}")
        if not path.is_file() or check(path) is False:
            raise RunError(f"{path} does not hold {what} and is not replaced; use another --out")
    if not path.absolute().parent.is_dir():
        raise RunError(f"the folder of {path} does not exist; create it, or use another --out")
