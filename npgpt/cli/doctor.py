"""``npgpt doctor``: facts about this machine, and the promises of npgpt that hold on it."""

import argparse
import json
import platform
import textwrap
import warnings
from dataclasses import asdict
from typing import Any

from npgpt.cli.exit_codes import ExitCode
from npgpt.cli.parser import add_action
from npgpt.study.machine_facts import about_kernels, about_machine, about_versions
from npgpt.study.mpi_facts import about_mpi
from npgpt.study.promises import check_promises, hash_or_none
from npgpt.support.terminal import escape_controls
from npgpt.support.variables import VARIABLES, set_variables

SUMMARY, EXAMPLE = "show facts about this machine, and check npgpt's promises on it", "npgpt doctor"
WIDTH, INDENT = 80, 16  # columns of a page, and before a fact
SHOWN = ("x86_64", "AMD64")  # the tests have run on these


def add_parser(subparsers: Any) -> None:
    more = (
        "The facts are CPU, versions, kernels, threads, MPI and environment variables. The promises are checked in "
        "seconds: the gradients are right; compiled layers equal textbook layers; one seed gives the same weights, bit "
        "for bit, for any number of threads, in a forked child, beside other libraries, and as on the machine of the "
        "reference. The last lines give a hash to compare with other machines, and the verdict. Exit code 1: a promise "
        "does not hold."
    )
    parser = add_action(subparsers, "doctor", run, SUMMARY, more, EXAMPLE)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a page")
    parser.add_argument(
        "--clear-cache",
        action="store_true",
        help="only delete the compiled kernels; the next start compiles them again",
    )


def run(options: argparse.Namespace) -> ExitCode:
    if options.clear_cache:
        return _clear_cache()
    facts = {"machine": about_machine(), "versions": about_versions(), "kernels": about_kernels(), "mpi": about_mpi()}
    variables = set_variables()
    if not options.json:
        for title, of_title in facts.items():
            print(title)
            for name, fact in of_title.items():
                print(_row(f"  {name}", str(fact)))
        print("variables")
        for name, value in variables.items():
            shown = "not set" if value is None else repr(value)
            print(_row(f"  {name} is {shown}:", VARIABLES[name]))
        print("promises", flush=True)
    promises = []
    warnings.simplefilter("ignore", UserWarning)  # the facts say whether kernels can be compiled
    for promise in check_promises():
        promises.append(promise)
        if not options.json:
            row = _row("  holds" if promise.holds else "  FAILS", f"{promise.name}: {promise.seen}")
            print(row, flush=True)
    holds, bits = all(promise.holds for promise in promises), hash_or_none()
    code = ExitCode.FINE if holds else ExitCode.WRONG
    if options.json:
        seen = {"variables": variables, "promises": list(map(asdict, promises)), "hash": bits, "holds": holds}
        print(json.dumps(facts | seen))
        return code
    architecture = platform.machine()
    tested = "tested on x86-64" if architecture in SHOWN else f"compiled for {architecture}, not tested there"
    print(_row("  elsewhere", f"same bits on any CPU: {tested} (tests/study/test_reproducible.py)"))
    if bits:
        print(_row("hash", f"{bits[:16]}; compare it with the hash of another machine"))
    print(_row("verdict", "all promises hold here" if holds else "NOT ALL PROMISES HOLD HERE"))
    return code


def _clear_cache() -> ExitCode:
    from npgpt.machine import code_files  # imports Numba, which is slow: not before help is shown

    n, size = code_files.clear()
    megabytes = f"{size / 2**20:.1f} MiB"
    print(f"files deleted: {n}, {megabytes} of compiled kernels and vocabularies; the next start makes them again")
    return ExitCode.FINE


def _row(name: str, fact: str) -> str:
    return textwrap.fill(
        escape_controls(fact, keep=""),
        WIDTH,
        initial_indent=f"{escape_controls(name):<{INDENT - 1}} ",
        subsequent_indent=" " * INDENT,
        break_on_hyphens=False,
    )
