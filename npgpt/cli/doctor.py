"""``npgpt doctor``: what this machine is, what npgpt makes of it, and which promises hold here."""

import argparse
import ctypes
import functools
import json
import multiprocessing
import os
import platform
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.build import can_compile
from npgpt.core import Cache
from npgpt.study.check.cases import make_case
from npgpt.study.check.checker import check_case
from npgpt.study.check.report import METHODS
from npgpt.study.reproducible import MODELS, PLAIN_LIBRARIES, STEPS, hash_elsewhere, text, train, weights_hash
from npgpt.support.terminal import escape_controls
from npgpt.version import __version__

WIDTH, INDENT = 80, 16  # columns of a page, and before a fact
SHOWN = ("x86_64", "AMD64")  # where the tests have been run
THREADS = (1, 2, 3)
LAYERS = ("Block", "CrossEntropy", "Embedding", "VocabularyHead")  # a block has the other layers in it
ALLOWED = 1e-5  # relative difference between compiled layers, in float32, and the textbook's in float64
PATIENCE = 120  # seconds for a child to compute a hash


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
    for name, check in CHECKS.items():
        promises.append(Promise.check(name, check))
        if not options.json:
            print(promises[-1].row(), flush=True)
    holds, bits = all(promise.holds for promise in promises), _hash_or_none()
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


def about_machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_name(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(filter(None, platform.libc_ver())) or "not known",
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else platform.processor()) or "not known"


def about_versions() -> dict[str, Any]:
    return {
        "npgpt": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "blas": f"{_blas()}; only textbook layers use it",
        "numba": _version("numba"),
        "llvmlite": _version("llvmlite") + _llvm(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except ImportError:  # PackageNotFoundError is one
        return "not installed"


def _llvm() -> str:
    try:
        from npgpt.machine.numba_internals import llvm_version
    except (ImportError, OSError):
        return ""
    return f", LLVM {llvm_version()}"


def _blas() -> str:
    """NumPy's BLAS, and, if it is OpenBLAS, for which kind of CPU it computes."""
    try:
        about = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        name = f"{about['name']} {about['version']}"
        import numpy.linalg._umath_linalg as user  # a library that is linked with it

        library = ctypes.CDLL(user.__file__)
    except (ImportError, KeyError, TypeError, OSError):
        return "not known"
    for prefix in ("scipy_openblas", "openblas"):
        for suffix in ("64_", ""):
            kind = getattr(library, f"{prefix}_get_corename{suffix}", None)
            if kind:
                kind.restype = ctypes.c_char_p
                return f"{name} for {kind().decode()}"
    return name


def about_kernels() -> dict[str, Any]:
    with warnings.catch_warnings(record=True) as said_why:
        warnings.simplefilter("always", UserWarning)
        if not can_compile():
            return {"layers": str(said_why[-1].message)}
    from npgpt.kernels import matmul
    from npgpt.machine import tile
    from npgpt.machine.compile import cache_folder
    from npgpt.machine.numba_internals import cpu_asked_for, host_cpu
    from npgpt.machine.pool import get_num_threads

    overridden = [f"{name} is {value!r}" for name, value in cpu_asked_for().items() if value is not None]
    said = os.environ.get("NPGPT_NUM_THREADS")
    folder = cache_folder()
    files = list(folder.rglob("*.nbc")) if folder else []
    return {
        "layers": "compiled",
        "cpu for LLVM": f"{host_cpu()}; {', '.join(overridden) or 'no other was asked for'}",
        "threads": f"{get_num_threads()}; NPGPT_NUM_THREADS is {said or 'not set'}",
        "pool": "npgpt's own; Numba's threading layer is not used",
        "tile": f"{tile.chosen_tile().name}, in registers of {tile.TILE_LANES} numbers",
        "blocks": f"{matmul.DEPTH} deep, {matmul.WIDTH} columns, {matmul.PANELS} rows; "
        f"{matmul.PACK * 4 / 2**20:.1f} MiB for each thread",
        "cache": f"{folder}, which only you can write" if folder else "none: no folder can be written by you alone",
        "in it": f"{len(files)} kernels, {sum(file.stat().st_size for file in files) / 2**20:.1f} MiB",
    }


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Promise:
    """A promise, whether it holds, and what was seen when it was checked."""

    name: str
    holds: bool
    seen: str

    @staticmethod
    def check(name: str, check: Callable[[], tuple[bool, str]]) -> "Promise":
        try:
            return Promise(name, *check())
        except Exception as error:  # whatever it is, the next check is still wanted
            return Promise(name, False, f"cannot be checked: {_said(error)}")

    def row(self) -> str:
        return _row("  holds" if self.holds else "  FAILS", f"{self.name}: {self.seen}")


def gradients_are_right() -> tuple[bool, str]:
    checks = [check for name in LAYERS for check in check_case(make_case(name))]
    numbers = {method: [check.error for check in checks if check.method == method] for method in METHODS}
    errors = (f"{method} {max(of):.0e}" for method, of in numbers.items() if method != "Taylor")
    right = all(check.passed for check in checks)
    return right, f"{len(checks)} checks of {', '.join(LAYERS)}; largest error, {', '.join(errors)}"


def compiled_equals_textbook() -> tuple[bool, str]:
    """A GPT that has learned a little, and the same in float64."""
    compiled = train(MODELS[0], 3)[0]
    textbook = compiled.astype(np.float64)
    ids = text()[: 4 * 12].reshape(4, 12)
    losses = []
    for model in (compiled, textbook):
        cache = Cache(training=True, seed=1)
        model.zero_grad()
        losses.append(float(model.loss(ids[:, :-1], ids[:, 1:], cache)))
        model.loss_backward(1.0, cache)
    differences = [abs(losses[0] - losses[1]) / losses[1]]
    pairs = zip(compiled.parameters().values(), textbook.parameters().values(), strict=True)
    differences += [float(np.linalg.norm(a.grad - b.grad) / np.linalg.norm(b.grad)) for a, b in pairs]
    largest = max(differences, key=lambda difference: difference if difference == difference else np.inf)
    return (
        largest <= ALLOWED,
        f"loss and {len(differences) - 1} gradients of a small GPT, float32 against float64: {largest:.0e} at most, "
        f"relatively; {ALLOWED:.0e} is allowed",
    )


@functools.cache
def _hash() -> str:
    return weights_hash()


def _hash_or_none() -> str | None:
    try:
        return _hash()
    except Exception:  # the promises have said why
        return None


def _same(found: dict[str, str], of: str) -> tuple[bool, str]:
    wrong = [f"{name}: {code[:16]}" for name, code in found.items() if code != _hash()]
    return not wrong, f"{of}: {', '.join(wrong)}, not {_hash()[:16]}" if wrong else of


def same_for_any_threads() -> tuple[bool, str]:
    found = {f"with {n}": weights_hash(STEPS, n) for n in THREADS}
    return _same(found, f"weights and moments of {len(MODELS)} small GPTs with dropout after {STEPS} steps")


def same_in_a_fork() -> tuple[bool, str]:
    if not hasattr(os, "fork"):
        return True, "there are none on this system"
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(weights_hash(STEPS, 2)), daemon=True)
    _hash()  # so that there are threads, which the child will miss
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking while there are threads
        child.start()
    sender.close()
    try:
        found = receiver.recv() if receiver.poll(PATIENCE) else f"nothing in {PATIENCE} s"
    except EOFError:
        found = "it died"
    child.kill()
    child.join()
    return _same({"it": found}, "which has to start threads of its own")


def same_beside_other_libraries() -> tuple[bool, str]:
    found = hash_elsewhere(STEPS, 2, PLAIN_LIBRARIES)[1]
    return _same({"then": found}, "in a process where NumPy, OpenBLAS and libc use an older CPU's instructions")


CHECKS = {
    "gradients are right": gradients_are_right,
    "compiled equals textbook": compiled_equals_textbook,
    f"same bits for {', '.join(map(str, THREADS))} threads": same_for_any_threads,
    "same bits in a forked child": same_in_a_fork,
    "same bits beside other libraries": same_beside_other_libraries,
}
