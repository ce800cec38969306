"""``npgpt doctor``: what this machine is, what npgpt makes of it, and which promises hold here."""

import argparse
import json
import platform
import textwrap
import warnings
from dataclasses import asdict
from typing import Any

from npgpt.study.machine_facts import about_kernels, about_machine, about_versions
from npgpt.study.promises import check_promises, hash_or_none
from npgpt.support.terminal import escape_controls

WIDTH, INDENT = 80, 16  # columns of a page, and before a fact
SHOWN = ("x86_64", "AMD64")  # where the tests have been run


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="show what npgpt runs on, and check that its promises hold there",
        description=(
            "Show CPU, versions, threads and kernels; then check in a few seconds that on this machine gradients are "
            "right, compiled layers compute what the textbook's do, and a seed gives the same weights to the last bit: "
            "for any number of threads, in a forked child, whatever other libraries do. It ends with a hash to compare "
            "with another machine's. Exit code 1 if a promise does not hold."
        ),
    )
    parser.add_argument("--json", action="store_true", help="print one object instead of a page")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    facts = {"machine": about_machine(), "versions": about_versions(), "kernels": about_kernels()}
    if not options.json:
        for title, of_title in facts.items():
            print(title)
            for name, fact in of_title.items():
                print(_row(f"  {name}", str(fact)))
        print("promises", flush=True)
    promises = []
    warnings.simplefilter("ignore", UserWarning)  # that kernels cannot be compiled, if so, has been said
    for promise in check_promises():
        promises.append(promise)
        if not options.json:
            row = _row("  holds" if promise.holds else "  FAILS", f"{promise.name}: {promise.seen}")
            print(row, flush=True)
    holds, bits = all(promise.holds for promise in promises), hash_or_none()
    if options.json:
        print(json.dumps({**facts, "promises": list(map(asdict, promises)), "hash": bits, "holds": holds}))
        return 0 if holds else 1
    architecture = platform.machine()
    tested = "shown on x86-64" if architecture in SHOWN else f"compiled for {architecture}, not run there by us"
    print(_row("  elsewhere", f"same bits on any CPU: {tested} (tests/study/test_reproducible.py)"))
    if bits:
        print(_row("hash", f"{bits[:16]}, to be compared with another machine's"))
    print(_row("verdict", "all promises hold here" if holds else "NOT ALL PROMISES HOLD HERE"))
    return 0 if holds else 1


def _row(name: str, fact: str) -> str:
    return textwrap.fill(
        escape_controls(fact, keep=""),
        WIDTH,
        initial_indent=f"{name:<{INDENT}}",
        subsequent_indent=" " * INDENT,
        break_on_hyphens=False,
    )
