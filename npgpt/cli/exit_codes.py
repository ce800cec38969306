"""The exit codes of all commands: one table, which ``npgpt --help`` shows."""

from enum import IntEnum


class Terminated(KeyboardInterrupt):
    """SIGTERM. Code that cleans up after Ctrl-C cleans up after it, too."""


class ExitCode(IntEnum):
    FINE = 0
    WRONG = 1
    USAGE = 2
    UNDECIDED = 3
    DIVERGED = 4
    CTRL_C = 130
    CLOSED_PIPE = 141
    SIGTERM = 143


MEANINGS = {
    ExitCode.FINE: "fine",
    ExitCode.WRONG: "a gradient or a solution is wrong, or a promise is broken",
    ExitCode.USAGE: "an argument, a file or the memory does not allow the command",
    ExitCode.UNDECIDED: "undecided: a gradient could not be judged, or was not checked",
    ExitCode.DIVERGED: "training diverged: a loss is not finite, or far above the best one",
    ExitCode.CTRL_C: "stopped by Ctrl-C",
    ExitCode.CLOSED_PIPE: "the reader of the output closed the pipe",
    ExitCode.SIGTERM: "stopped by SIGTERM",
}


def exit_code_table() -> str:
    return "\n".join(["exit codes:", *(f"  {code.value:<4} {meaning}" for code, meaning in MEANINGS.items())])
