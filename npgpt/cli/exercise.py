"""``npgpt exercise``: write a backward pass yourself, and have it judged."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from npgpt.errors import ConfigError, DataError
from npgpt.study.exercises import EXERCISES, check_file, draw_broken, find
from npgpt.support.files import write_atomically
from npgpt.support.terminal import escape_controls


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "exercise",
        help="write a backward pass yourself, or find the mistake in one",
        description="Exercises along the road, from sliding windows to a block, judged by the checker.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def add(action: str, run: Callable[[argparse.Namespace], int], says: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(action, help=says)
        made.set_defaults(run=run)
        return made

    add("list", run_list, "all of them, in the order of the road")
    start = add("start", run_start, "write NAME.py: the forward pass, and an empty backward")
    start.add_argument("--out", metavar="FILE", help="where to (NAME.py)")
    check = add("check", run_check, "judge a file; it is your code, and is run as such")
    check.add_argument("file", metavar="FILE")
    hint = add("hint", run_hint, "one more step of the derivation")
    solution = add("solution", run_solution, "print what stands in npgpt")
    for action in (start, hint, solution):
        action.add_argument("name", metavar="NAME")
    hint.add_argument("number", nargs="?", type=int, default=1, metavar="N", help="the first N steps (1)")
    broken = add("broken", run_broken, "write a layer with one mistake in its backward: find it")
    broken.add_argument("name", nargs="?", metavar="NAME", help="of which exercise (any)")
    broken.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, another mistake (0)")
    broken.add_argument("--out", metavar="FILE", help="where to (NAME_broken.py)")


def run_list(options: argparse.Namespace) -> int:
    width = max(map(len, EXERCISES))
    for number, (name, exercise) in enumerate(EXERCISES.items(), start=1):
        print(f"{number:>2}  {name:<{width}}  {exercise.asks}")
    print("\nbegin with: npgpt exercise start windows")
    return 0


def run_start(options: argparse.Namespace) -> int:
    exercise = find(options.name)
    path = _write(options.out or f"{options.name}.py", exercise.template())
    print(f"wrote {path}: {exercise.asks}\nstuck? npgpt exercise hint {options.name}")
    return 0


def run_check(options: argparse.Namespace) -> int:
    path = Path(options.file)
    if not path.is_file():
        raise DataError(f"{path} is not a file; write one with `npgpt exercise start NAME`")
    print(f"running {escape_controls(str(path), keep='')}, which is your code")
    exercise, wrong = check_file(path)
    if wrong:
        print(f"{escape_controls(wrong)}\nnot yet. A step of the derivation: npgpt exercise hint {exercise.name}")
        return 1
    names = list(EXERCISES)
    after = names[names.index(exercise.name) + 1 :]
    print(f"{exercise.name}: right." + (f" Next: npgpt exercise start {after[0]}" if after else " That was the last."))
    return 0


def run_hint(options: argparse.Namespace) -> int:
    hints = find(options.name).hints
    n = options.number
    if not 1 <= n <= len(hints):
        raise ConfigError(f"{options.name} has {len(hints)} hints, 1 to {len(hints)}; {n} was asked for")
    print("\n".join(hints[:n]))
    more = f"hint {options.name} {n + 1}" if n < len(hints) else f"solution {options.name}"
    print(f"\nmore: npgpt exercise {more}")
    return 0


def run_solution(options: argparse.Namespace) -> int:
    print(find(options.name).solution(), end="")
    return 0


def run_broken(options: argparse.Namespace) -> int:
    exercise, mutant = draw_broken(options.name, options.seed)
    path = _write(options.out or f"{exercise.name}_broken.py", exercise.broken(mutant))
    print(f"wrote {path}: there is one mistake in its backward pass. Mend it, then:\nnpgpt exercise check {path}")
    return 0


def _write(file: str, text: str) -> str:
    """Write a new file. Returns its path, safe to show."""
    path = Path(file)
    if path.exists():
        raise ConfigError(f"{path} is there already; name another file with --out")
    write_atomically(path, text.encode())
    return escape_controls(str(path), keep="")
