"""``npgpt doctor``: what this machine is, what npgpt makes of it, and which promises hold here."""

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from npgpt import __version__
from npgpt.core import Array, Cache
from npgpt.study.bits import MODELS, PLAIN_LIBRARIES, STEPS, hash_elsewhere, text, train, weights_hash
from npgpt.study.cases import make_case
from npgpt.study.gradcheck import METHODS, check_case
from npgpt.terminal import escape_controls

SHOWN = ("x86_64", "AMD64")  # where the tests have been run
THREADS = (1, 2, 3)
ALLOWED = 1e-5  # relative difference between float32 and float64
PATIENCE = 120  # seconds for a child that computes a hash
CHECKED = ("Block", "CrossEntropy", "Embedding", "VocabularyHead")  # a block has the other layers in it


@dataclass(frozen=True)
class Promise:
    """One promise, and what came out when it was checked."""

    name: str
    holds: bool
    seen: str


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="show what npgpt runs on, and check that its promises hold there",
        description=(
            "Show the CPU, the versions, the threads and the kernels, then check on this machine, in a few seconds, that "
            "gradients are right, that compiled layers compute what the textbook does, and that a seed gives the same "
            "bits for any number of threads, in a forked child, and whatever other libraries do. The hash that it ends "
            "with can be compared with another machine's. Exit code 1 if a promise does not hold."
        ),
    )
    parser.add_argument("--json", action="store_true", help="print one object instead of a page")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    machine = {"machine": about_machine(), "versions": about_versions(), "kernels": about_kernels()}
    if not options.json:
        for title, facts in machine.items():
            print(title)
            for name, fact in facts.items():
                print(_row(f"  {name}", _shown(fact)))
        print("promises", flush=True)
    promises = []
    for promise in check_promises():
        promises.append(promise)
        if not options.json:
            print(_row("  holds" if promise.holds else "  FAILS", f"{promise.name}: {promise.seen}"), flush=True)
    holds = all(promise.holds for promise in promises)
    code = _attempt(weights_hash)
    if options.json:
        print(json.dumps(machine | {"promises": list(map(asdict, promises)), "hash": code, "holds": holds}))
        return 0 if holds else 1
    where = (
        "its tests are run on such CPUs, for three kinds of them"
        if platform.machine() in SHOWN
        else "npgpt is compiled for it, but has not been run on it by those who wrote it"
    )
    print(_row("  note", f"the same bits on every CPU: this one is {platform.machine()}; {where}"))
    print(_row("hash", f"{code[:16]}, to compare with another machine's"))
    print(_row("", "all promises hold here" if holds else "NOT ALL PROMISES HOLD HERE"))
    return 0 if holds else 1


def _row(name: str, fact: str) -> str:
    """A name and a fact, in 80 columns."""
    return textwrap.fill(
        escape_controls(fact, keep=""), 80, initial_indent=f"{name:<12}", subsequent_indent=12 * " ", break_on_hyphens=False
    )


def _shown(fact: Any) -> str:
    return ", ".join(map(str, fact)) if isinstance(fact, list) else str(fact)


def about_machine() -> dict[str, Any]:
    return {
        "CPU": cpu_name(),
        "kind": platform.machine(),
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} "
        f"that npgpt may use, of {os.cpu_count()}",
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver()).strip() or 'no glibc'}",
    }


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def about_versions() -> dict[str, Any]:
    return {
        "npgpt": __version__,
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "NumPy": f"{np.__version__}; BLAS: {blas_name()} (only textbook layers call it)",
        "Numba": f"{version('numba')}, llvmlite {version('llvmlite')}{llvm_version()}",
    }
