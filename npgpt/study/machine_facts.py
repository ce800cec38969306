"""Facts about this machine that decide how npgpt computes on it, or that a report of a fault should name."""

import ctypes
import os
import platform
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.build import can_compile
from npgpt.version import __version__


def about_machine() -> dict[str, Any]:
    """CPU, architecture, cores, system and C library."""
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
    """Versions of what npgpt stands on."""
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
    """What the compiled layers are made for here; where they cannot be compiled, why."""
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
    folder = cache_folder()
    files = list(folder.rglob("*.nbc")) if folder else []
    return {
        "layers": "compiled",
        "cpu for LLVM": f"{host_cpu()}; {', '.join(overridden) or 'no other was asked for'}",
        "threads": get_num_threads(),
        "pool": "npgpt's own; Numba's threading layer is not used",
        "tile": f"{tile.chosen_tile().name}, in registers of {tile.TILE_LANES} numbers",
        "blocks": f"{matmul.DEPTH} deep, {matmul.WIDTH} columns, {matmul.PANELS} rows; "
        f"{matmul.PACK * 4 / 2**20:.1f} MiB for each thread",
        "cache": f"{folder}, which only you can write" if folder else "none: no folder can be written by you alone",
        "in it": f"{len(files)} kernels, {sum(file.stat().st_size for file in files) / 2**20:.1f} MiB",
    }
