"""The command line: ``npgpt`` and ``python -m npgpt``. One file a subcommand, each with ``add_parser`` and ``run``.

``run`` returns an ``ExitCode``; None means ``ExitCode.FINE``.
"""

import _thread
import argparse
import contextlib
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType, ModuleType
from typing import Any

from npgpt.cli.exit_codes import ExitCode, Terminated, exit_code_table
from npgpt.cli.parser import Parser
from npgpt.errors import ConfigError, NpgptError, TrainingError, did_you_mean, quote
from npgpt.support.terminal import escape_controls
from npgpt.support.variables import size_of_mpiexec
from npgpt.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, one of ``ExitCode``. An unexpected exception keeps its traceback."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a character shows its code
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # A second BLAS thread makes a textbook step a fifth faster on two idle cores, but two to ten times slower if other
    # programs run: the threads wait for each other. NumPy reads the variable at its first import, which is below.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = ExitCode.WRONG
    if _is_a_rank(arguments):  # before Python handles signals: MPI waits for all processes, and no signal would end it
        with contextlib.suppress(ImportError, RuntimeError):
            from mpi4py import MPI  # noqa: F401
    try:
        code = _flushed(_guarded(arguments))
    finally:
        if _is_a_rank(arguments):
            from npgpt.cli.ranks import end_ranks

            end_ranks(code)
    return int(code)


def _is_a_rank(arguments: Sequence[str] | None) -> bool:
    """Whether this is one of several processes that train together."""
    given = sys.argv[1:] if arguments is None else arguments
    return list(given[:1]) == ["train"] and size_of_mpiexec()[1] != "1"


@contextlib.contextmanager
def _as_a_rank(arguments: Sequence[str] | None) -> Iterator[None]:
    """Let an error end all processes that train together, with one message."""
    if _is_a_rank(arguments):
        from npgpt.cli.ranks import ending_together

        with ending_together():
            yield
    else:
        yield


def _guarded(arguments: Sequence[str] | None) -> ExitCode:
    """Run a command; turn each expected exception into a message and an exit code."""
    try:
        with _interrupts(), warnings.catch_warnings(), _as_a_rank(arguments):
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            code = _run(arguments)
            sys.stdout.flush()
            return code
    except TrainingError as error:
        return _fail(str(error), ExitCode.DIVERGED)
    except NpgptError as error:
        return _fail(str(error))
    except BrokenPipeError:
        return ExitCode.CLOSED_PIPE
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror or error}" if error.filename else error.strerror or str(error))
    except MemoryError as error:
        return _fail(f"not enough memory; use a smaller model or batch. {error}")
    except KeyboardInterrupt as stopped:
        terminated = isinstance(stopped, Terminated)
        _say(f"\nstopped by {'SIGTERM' if terminated else 'Ctrl-C'}")
        return ExitCode.SIGTERM if terminated else ExitCode.CTRL_C


def make_parser() -> Parser:
    """Return the parser of all commands. Their modules, and with them NumPy, are imported here."""
    from npgpt.cli import check, convert, doctor, evaluate, exercise, explain, sample, tokenize, train, vectors

    commands = (train, sample, evaluate, convert, tokenize, explain, check, exercise, vectors, doctor)
    parser = Parser(
        prog="npgpt",
        usage="npgpt COMMAND ...",
        description=_map(commands),
        epilog=exit_code_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"npgpt {__version__}", help="show the version")
    subparsers = parser.add_subparsers(prog="npgpt", metavar="COMMAND", parser_class=Parser, help=argparse.SUPPRESS)
    for command in commands:
        command.add_parser(subparsers)
    return parser


def _run(arguments: Sequence[str] | None) -> ExitCode:
    parser = make_parser()
    import numpy as np

    options, unknown = parser.parse_known_args(_renamed(sys.argv[1:] if arguments is None else arguments))
    if unknown:
        rows = re.findall(r"^ +(-.*?)(?:  |$)", getattr(options, "parser", parser).format_help(), re.MULTILINE)
        flags = {flag for row in rows for flag in re.findall(r"--[\w-]+", row)}
        raise ConfigError(f"unknown argument {quote(unknown[0])}; {did_you_mean(unknown[0].split('=')[0], flags)}")
    if not hasattr(options, "run"):
        print(parser.description)
        return ExitCode.FINE
    with np.errstate(all="ignore"):  # non-finite values are detected and reported later
        return options.run(options) or ExitCode.FINE


RENAMED = {"gradcheck": "check", "trace": "explain"}  # names of npgpt 0.1


def _renamed(arguments: Sequence[str]) -> Sequence[str]:
    """Return the arguments with a name of npgpt 0.1 replaced; it works until 0.2, with a note."""
    old, *flags = arguments or [""]
    if old not in RENAMED:
        return arguments
    new = RENAMED[old]
    warnings.warn(f"npgpt {old} is called npgpt {new} now; the old name works until npgpt 0.2", stacklevel=2)
    if old == "gradcheck":
        return [new, *(flag for flag in flags if flag != "--all")]
    return [new, *(flag.replace("--page", "--output", 1) if flag.split("=")[0] == "--page" else flag for flag in flags)]


# The road from a text to a text: a stop, and the command that goes there, or a line. They run in this order.
ROAD = (
    ("a model", "train"),
    ("tokens", "tokenize"),
    ("word vectors", "vectors"),
    ("backward pass", "explain"),
    ("  its proof", "check"),
    ("  by yourself", "exercise"),
    ("sampling", "sample"),
    ("measuring", "evaluate"),
    ("a GPT-2", "npgpt train --positions learned --out runs/gpt2"),
    ("  exported", "convert"),
)


def _map(commands: Sequence[ModuleType]) -> str:
    """The road with a command for each stop; at most 24 lines of 80 columns."""
    examples = {command.__name__.rpartition(".")[2]: command.EXAMPLE for command in commands}
    stops = [f"   │ {stop:<16} {examples.pop(name, name)}" for stop, name in ROAD]
    others = [f"  {'this machine':<18} {example}" for example in examples.values()]
    head = ["npgpt: a GPT in NumPy with every gradient written by hand", "", "  a text"]
    foot = ["examples/README.md has a program for each stop of this road."]
    foot += ["npgpt COMMAND --help lists the options; npgpt --help also lists the exit codes."]
    return "\n".join([*head, *stops, "   ↓", "  a text by the model", "", *others, "", *foot])


def _open_closed_streams() -> None:
    """Open the null device in place of each standard stream that was closed when the process started."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


COMPILER = ("numba", "llvmlite")  # an exception at any place of theirs leaves half an object, or is lost in a callback


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` at Ctrl-C and ``Terminated`` at SIGTERM.

    A signal during the compilation of a kernel waits for its end; a second signal does not wait. If a callback or a
    destructor drops the exception, it is raised again, and every later failure counts as its consequence.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()  # others may not set a handler
    # Any other handler is the host's.
    defaults: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ours = [number for number, default in defaults.items() if in_main_thread and signal.getsignal(number) is default]
    process, show = os.getpid(), sys.unraisablehook
    came: list[type[KeyboardInterrupt]] = []
    waits: list[int] = []
    sent_again, over = threading.Event(), threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process and number == signal.SIGTERM:  # a forked child: it has nothing to clean up
            os._exit(ExitCode.SIGTERM)
        if _compiles(frame) and (sent_again.is_set() or not waits):
            waits.append(number)
            send_again_soon(number)
            return
        came.append(Terminated if number == signal.SIGTERM else KeyboardInterrupt)
        raise came[-1]

    def send_again_soon(number: int) -> None:
        def send_again() -> None:
            if not over.wait(0.05):  # a callback has returned by then
                sent_again.set()
                if hasattr(signal, "pthread_kill"):  # unlike interrupt_main, it wakes a main thread that sleeps
                    signal.pthread_kill(threading.main_thread().ident, number)  # type: ignore[arg-type]
                else:
                    _thread.interrupt_main(signal.Signals(number))

        sent_again.clear()
        _thread.start_new_thread(send_again, ())

    def hook(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            came.append(unraisable.exc_type)
            send_again_soon(signal.SIGTERM if unraisable.exc_type is Terminated else signal.SIGINT)
        elif not came:
            show(unraisable)

    for number in ours:
        signal.signal(number, interrupt)
    sys.unraisablehook = hook
    try:
        yield
    except Exception:
        if came:
            raise came[-1] from None
        raise
    finally:
        over.set()
        sys.unraisablehook = show
        for number in ours:
            signal.signal(number, defaults[number])


def _compiles(frame: FrameType | None) -> bool:
    """Return whether a frame, or a caller of it, is code of the compiler."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in COMPILER:
            return True
        frame = frame.f_back
    return False


def _show_warning(message: Warning | str, *_: object) -> None:
    _say(f"note: {escape_controls(str(message), keep='')}")


def _fail(message: str, code: ExitCode = ExitCode.USAGE) -> ExitCode:
    _say(f"npgpt: error: {escape_controls(message, keep='')}")
    return code


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # a closed or full stream has no reader
        print(message, file=sys.stderr)


def _flushed(code: ExitCode) -> ExitCode:
    """Flush the output. A stream that fails is replaced by the null device: the flush at exit would fail again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code
