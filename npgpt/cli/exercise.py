"""``npgpt exercise``: write a backward pass yourself, and have it judged."""

import argparse
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
    actions.add_parser("list", help="all of them, in the order of the road").set_defaults(run=run_list)
    start = actions.add_parser("start", help="write NAME.py: the forward pass, and an empty backward")
    start.add_argument("name", metavar="NAME")
    start.add_argument("--out", metavar="FILE", help="where to (NAME.py)")
    start.set_defaults(run=run_start)
    check = actions.add_parser("check", help="judge a file; it is your code, and is run as such")
    check.add_argument("file", metavar="FILE")
    check.set_defaults(run=run_check)
    hint = actions.add_parser("hint", help="one more step of the derivation")
    hint.add_argument("name", metavar="NAME")
    hint.add_argument("number", nargs="?", type=int, default=1, metavar="N", help="the first N steps (1)")
    hint.set_defaults(run=run_hint)
    solution = actions.add_parser("solution", help="print what stands in npgpt")
    solution.add_argument("name", metavar="NAME")
    solution.set_defaults(run=run_solution)
    broken = actions.add_parser("broken", help="write a layer with one mistake in its backward: find it")
    broken.add_argument("name", nargs="?", metavar="NAME", help="of which exercise (any)")
    broken.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, another mistake (0)")
    broken.add_argument("--out", metavar="FILE", help="where to (NAME_broken.py)")
    broken.set_defaults(run=run_broken)


def run_list(options: argparse.Namespace) -> int:
    width = max(map(len, EXERCISES))
    for number, (name, exercise) in enumerate(EXERCISES.items(), start=1):
        print(f"{number:>2}  {name:<{width}}  {exercise.asks}")
    print("\nbegin with: npgpt exercise start windows")
    return 0


def run_start(options: argparse.Namespace) -> int:
    exercise = find(options.name)
    path = Path(options.out or f"{options.name}.py")
    _write(path, exercise.template())
    print(f"wrote {_shown(path)}: {exercise.asks}\nstuck? npgpt exercise hint {options.name}")
    return 0


def run_check(options: argparse.Namespace) -> int:
    path = Path(options.file)
    if not path.is_file():
        raise DataError(f"{path} is not a file; write one with `npgpt exercise start NAME`")
    print(f"running {_shown(path)}, which is your code")
    exercise, wrong = check_file(path)
    if wrong:
        print(escape_controls(wrong))
        print(f"not yet. A step of the derivation: npgpt exercise hint {exercise.name}")
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
    more = (
        f"npgpt exercise hint {options.name} {n + 1}" if n < len(hints) else f"npgpt exercise solution {options.name}"
    )
    print(f"\nmore: {more}")
    return 0


def run_solution(options: argparse.Namespace) -> int:
    print(find(options.name).solution(), end="")
    return 0


def run_broken(options: argparse.Namespace) -> int:
    exercise, mutant = draw_broken(options.name, options.seed)
    path = Path(options.out or f"{exercise.name}_broken.py")
    _write(path, exercise.broken(mutant))
    print(f"wrote {_shown(path)}: there is one mistake in its backward pass. Mend it, then:")
    print(f"npgpt exercise check {_shown(path)}")
    return 0


def _write(path: Path, text: str) -> None:
    if path.exists():
        raise ConfigError(f"{path} is there already; name another file with --out")
    write_atomically(path, text.encode())


def _shown(path: Path) -> str:
    return escape_controls(str(path), keep="")
