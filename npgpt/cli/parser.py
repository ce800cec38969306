"""The parser of the command line. It imports no NumPy: ``main`` first says how many threads NumPy may start."""

import argparse
import textwrap
from collections.abc import Callable
from typing import Any, NoReturn

from npgpt.errors import ConfigError


class Formatter(argparse.HelpFormatter):
    """argparse's formatter, without line breaks in flags, names and short defaults."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        together = text.replace("(default: ", "(default:\xa0")  # textwrap breaks no line at \xa0
        return [line.replace("\xa0", " ") for line in textwrap.wrap(together, width, break_on_hyphens=False)]

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """argparse with npgpt's kind of errors, and without abbreviated flags."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": Formatter} | settings | {"allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        message = message if len(message) <= 400 else f"{message[:400]}..."  # it may quote a long argument
        raise ConfigError(f"{message}; see `{self.prog} --help`")

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file, flush=True)  # argparse hides a closed pipe; main has an exit code for it


def add_action(
    actions: Any, name: str, run: Callable[..., Any] | None, summary: str, more: str = "", example: str = ""
) -> argparse.ArgumentParser:
    """Add a command, or an action of a command.

    Args
        summary: the line in the list of commands; also the first sentence of the help, before ``more``.
        example: a command that runs, shown below the help.
    """
    made: argparse.ArgumentParser = actions.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {more}".rstrip(),
        epilog=f"example: {example}" if example else None,
    )
    if run:
        made.set_defaults(run=run, parser=made)
    return made
