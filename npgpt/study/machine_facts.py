"""Facts about this machine that decide how npgpt computes on it, or that a bug report should include."""

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
    """Return CPU, architecture, cores, system and C library."""
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
    """Return the versions of npgpt, Python and the libraries that npgpt uses."""
    return {
        "npgpt": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "blas": f"{_blas()}; only the textbook layers use it",
        "numba": _version("numba"),
        "llvmlite": _version("llvmlite") + _llvm(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except ImportError:  # PackageNotFoundError is a subclass
        return "not installed"


def _llvm() -> str:
    try:
        from npgpt.machine.numba_internals import llvm_version
    except (ImportError, OSError):
        return ""
    return f", LLVM {llvm_version()}"


def _blas() -> str:
    """Return the name of NumPy's BLAS; for OpenBLAS, also the kind of CPU that its kernels are chosen for."""
    try:
        about = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        name = f"{about['name']} {about['version']}"
        import numpy.linalg._umath_linalg as user  # a library that is linked with BLAS

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
    """Return the settings of the compiled layers on this machine; or why they cannot be compiled."""
    with warnings.catch_warnings(record=True) as said_why:
        warnings.simplefilter("always", UserWarning)
        if not can_compile():
            return {"layers": str(said_why[-1].message)}
    from npgpt.kernels import matmul
    from npgpt.machine import tile
    from npgpt.machine.code_files import SUFFIX, cache_folder
    from npgpt.machine.numba_internals import cpu_asked_for, host_cpu
    from npgpt.machine.pool import get_num_threads

    overridden = [f"{name} is {value!r}" for name, value in cpu_asked_for().items() if value is not None]
    folder = cache_folder()
    files = list(folder.glob(f"*{SUFFIX}")) if folder else []
    return {
        "layers": "compiled",
        "cpu for LLVM": f"{host_cpu()}; {', '.join(overridden) or 'no other CPU was set'}",
        "threads": get_num_threads(),
        "pool": "npgpt's own; Numba's threading layer is not used",
        "tile": f"{tile.PRODUCT_TILE.name}, in registers of {tile.TILE_LANES} lanes; attention: {tile.TILE.name}",
        "blocks": f"depth {matmul.DEPTH}, {matmul.WIDTH} columns, {matmul.PANELS * matmul.TILE_ROWS} rows; "
        f"{matmul.PACK * 4 / 2**20:.1f} MiB for each thread",
        "cache": f"{folder}, writable by you alone" if folder else "none: there is no folder that only you can write",
        "cached": f"{len(files)} kernels, {sum(file.stat().st_size for file in files) / 2**20:.1f} MiB",
    }
