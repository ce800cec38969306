"""The command line: ``npgpt`` and ``python -m npgpt``. One file a subcommand, each with ``add_parser`` and ``run``."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from npgpt.errors import ConfigError, NpgptError, did_you_mean
from npgpt.support.terminal import escape_controls
from npgpt.version import __version__


class Parser(argparse.ArgumentParser):
    """argparse with our kind of errors, and without guessing at shortened flags."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0, 1 if a check failed, 2 if something was wrong with what was given."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a character shows its code
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # A second BLAS thread makes a textbook step a fifth faster on two idle cores, and two to ten times slower when
    # anything else runs: the threads wait for each other. Read when NumPy is first imported, which is below.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            return _run(arguments)
    except NpgptError as error:
        return _fail(str(error))
    except BrokenPipeError:  # the reader of our pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a program that the signal ended
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError as error:
        return _fail(f"not enough memory; take a smaller model or batch. {error}")
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _run(arguments: Sequence[str] | None) -> int:
    import numpy as np

    from npgpt.cli import doctor, exercise, gradcheck, sample, tokenize, trace, train, vectors

    parser = Parser(
        prog="npgpt", description="A GPT in NumPy with every gradient written by hand. Start with `npgpt train`."
    )
    parser.add_argument("--version", action="version", version=f"npgpt {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for command in (train, sample, tokenize, trace, gradcheck, exercise, vectors, doctor):
        command.add_parser(subparsers)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        flags = {f"--{name.replace('_', '-')}" for name in vars(options)} - {"--run-folder"}
        raise ConfigError(f"unknown argument {unknown[0]!r}; {did_you_mean(unknown[0].split('=')[0], flags)}")
    with np.errstate(all="ignore"):  # what is not finite is looked for where it matters, and reported
        return int(options.run(options))


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"note: {escape_controls(str(message))}", file=sys.stderr)


def _fail(message: str) -> int:
    print(f"npgpt: error: {escape_controls(message, keep='')}", file=sys.stderr)
    return 2
