"""``npgpt exercise``: write a backward pass yourself; the checker judges it."""

import argparse
from pathlib import Path
from typing import Any

from npgpt.cli.exit_codes import ExitCode
from npgpt.cli.parser import add_action
from npgpt.errors import ConfigError, DataError
from npgpt.study.exercises import EXERCISES, check_file, draw_broken, find
from npgpt.support.files import write_atomically
from npgpt.support.terminal import escape_controls

SUMMARY, EXAMPLE = "write a backward pass yourself, or find the mistake in one", "npgpt exercise list"


def add_parser(subparsers: Any) -> None:
    more = "The exercises go from sliding windows to a whole block. The checker judges each solution."
    parser = add_action(subparsers, "exercise", None, SUMMARY, more, EXAMPLE)
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add_action(actions, "list", run_list, "list all exercises in their order", example=EXAMPLE)
    more = "The file holds the forward pass and an empty backward pass."
    start = add_action(
        actions, "start", run_start, "write the file of an exercise", more, "npgpt exercise start linear"
    )
    start.add_argument("--out", metavar="FILE", help="file to write (default: NAME.py)")
    more = "The file is run as Python code. Exit code 1: the solution is wrong."
    check = add_action(actions, "check", run_check, "judge a solution", more, "npgpt exercise check linear.py")
    check.add_argument("file", metavar="FILE", help="file that `npgpt exercise start` or `broken` wrote")
    more, example = "The first is a thought to begin with.", "npgpt exercise hint linear 2"
    hint = add_action(actions, "hint", run_hint, "print the first steps towards a solution", more, example)
    example = "npgpt exercise solution linear"
    solution = add_action(actions, "solution", run_solution, "print the code of npgpt", example=example)
    for action in (start, hint, solution):
        action.add_argument("name", metavar="NAME", help="name of an exercise; `npgpt exercise list` lists them")
    hint.add_argument("number", nargs="?", type=int, default=1, metavar="N", help="number of steps (default: 1)")
    more, example = "Find it, correct it, and check the file.", "npgpt exercise broken linear --seed 1"
    broken = add_action(actions, "broken", run_broken, "write a layer with one mistake in its backward", more, example)
    broken.add_argument("name", nargs="?", metavar="NAME", help="name of an exercise (default: any)")
    broken.add_argument("--seed", type=int, default=0, metavar="N", help="seed that draws the mistake (default: 0)")
    broken.add_argument("--out", metavar="FILE", help="file to write (default: NAME_broken.py)")


def run_list(options: argparse.Namespace) -> None:
    width = max(map(len, EXERCISES))
    for number, (name, exercise) in enumerate(EXERCISES.items(), start=1):
        print(f"{number:>2}  {name:<{width}}  {exercise.asks}")
    print("\nstart with: npgpt exercise start windows")


def run_start(options: argparse.Namespace) -> None:
    exercise = find(options.name)
    path = _write(options.out or f"{options.name}.py", exercise.template())
    print(f"wrote {path}: {exercise.asks}\nhints: npgpt exercise hint {options.name}")


def run_check(options: argparse.Namespace) -> ExitCode:
    path = Path(options.file)
    if not path.is_file():
        raise DataError(f"{path} is not a file; `npgpt exercise start NAME` writes one")
    print(f"running your code in {escape_controls(str(path), keep='')}")
    try:
        exercise, wrong = check_file(path)
    except SystemExit:
        raise DataError(f"{path} ends Python with sys.exit or exit; remove this call") from None
    if wrong:
        print(f"{escape_controls(wrong)}\nnot right yet. Hints: npgpt exercise hint {exercise.name}")
        return ExitCode.WRONG
    names = list(EXERCISES)
    after = names[names.index(exercise.name) + 1 :]
    print(
        f"{exercise.name}: right." + (f" Next: npgpt exercise start {after[0]}" if after else " This was the last one.")
    )
    return ExitCode.FINE


def run_hint(options: argparse.Namespace) -> None:
    hints = find(options.name).hints
    n = options.number
    if not 1 <= n <= len(hints):
        raise ConfigError(f"{options.name} has {len(hints)} hints; N must be 1 to {len(hints)}, not {n}")
    print("\n".join(hints[:n]))
    more = f"hint {options.name} {n + 1}" if n < len(hints) else f"solution {options.name}"
    print(f"\nmore: npgpt exercise {more}")


def run_solution(options: argparse.Namespace) -> None:
    print(find(options.name).solution(), end="")


def run_broken(options: argparse.Namespace) -> None:
    exercise, mutant = draw_broken(options.name, options.seed)
    path = _write(options.out or f"{exercise.name}_broken.py", exercise.broken(mutant))
    print(f"wrote {path}: its backward pass has one mistake. Correct it, then:\nnpgpt exercise check {path}")


def _write(file: str, text: str) -> str:
    """Write a new file. Returns its path, safe to show."""
    path = Path(file)
    if path.exists():
        raise ConfigError(f"{path} exists already; name another file with --out")
    write_atomically(path, text.encode())
    return escape_controls(str(path), keep="")
