"""The command line: ``npgpt`` and ``python -m npgpt``. One file a subcommand, each with ``add_parser`` and ``run``."""

import argparse
import os
import sys
from collections.abc import Sequence

from npgpt import __version__
from npgpt.cli import gradcheck, sample, tokenize, train
from npgpt.errors import NpgptError
from npgpt.terminal import escape_controls

COMMANDS = (train, sample, tokenize, gradcheck)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0, 1 if a check failed, 2 if something was wrong with what was given."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a character shows its code
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(
        prog="npgpt",
        description="A GPT in NumPy with every gradient written by hand. Start with `npgpt train`.",
    )
    parser.add_argument("--version", action="version", version=f"npgpt {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except NpgptError as error:
        return _fail(str(error))
    except BrokenPipeError:  # the reader of our pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _fail(message: str) -> int:
    print(f"npgpt: error: {escape_controls(message)}", file=sys.stderr)
    return 2
