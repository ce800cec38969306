"""Shared by the commands: a flag for each field of a configuration, checks of --out."""

import argparse
import os
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from npgpt.config import LAYERS, TABLES, Options, RunConfig, read_toml
from npgpt.errors import ConfigError, RunError

LONGEST_CHOICES = 30  # characters; longer lists of choices go into the help text


class Renamed(argparse.Action):
    """A flag under its name of npgpt 0.1. It works until 0.2, with a note; the help does not show it."""

    def __init__(self, now: str, **settings: Any) -> None:
        super().__init__(**settings | {"help": argparse.SUPPRESS, "default": argparse.SUPPRESS})
        self.now = now

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        warnings.warn(f"{option_string} is called {self.now} now; the old name works until npgpt 0.2", stacklevel=2)
        setattr(namespace, self.dest, values)


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE.toml", help="TOML file with the fields below; a flag takes precedence"
    )
    for name, table in TABLES.items():
        add_flags(parser.add_argument_group(name, (table.__doc__ or "").splitlines()[0]), table)
    parser.add_argument("--kernels", dest="layers", choices=LAYERS, action=Renamed, now="--layers")


def add_flags(group: Any, table: type[Options]) -> None:
    """A flag for each field of a table."""
    for item in fields(table):  # type: ignore[arg-type]
        flag = f"--{item.name.replace('_', '-')}"
        default = getattr(table(), item.name)
        shown = {"True": "on", "False": "off", "[]": "none"}.get(str(default), default)
        choices = item.metadata["limits"].get("one_of")
        named = choices and len("".join(choices)) > LONGEST_CHOICES
        says = f"{item.metadata['help']}{': ' + ', '.join(choices) if named else ''} (default: {shown})"
        settings: dict[str, Any] = {"help": says, "default": None, "dest": item.name}
        if item.type is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **settings)
        elif item.type == list[str]:
            group.add_argument(flag, nargs="+", action="extend", metavar="FILE", **settings)
        else:
            metavar = "NAME" if named else None if choices else "N"
            group.add_argument(flag, type=item.type, choices=choices, metavar=metavar, **settings)


def given_flags(options: argparse.Namespace, table: type[Options]) -> dict[str, Any]:
    return {flag: getattr(options, flag) for flag in table.names() if getattr(options, flag) is not None}


def config_from(options: argparse.Namespace) -> RunConfig:
    """The configuration of the flags, the file and the defaults, in this order of precedence.

    Raises
        ConfigError if the file or the configuration is not valid.
    """
    tables = read_toml(options.config) if options.config else {}
    try:
        for name, table in TABLES.items():
            given = given_flags(options, table)
            if given and isinstance(tables.get(name, {}), dict):
                tables[name] = tables.get(name, {}) | given
        return RunConfig.from_tables(tables)
    except ConfigError as error:
        raise ConfigError(f"{options.config}, with the flags: {error}" if options.config else str(error)) from None


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
