"""The MPI of this machine, and how fast two processes exchange numbers by it.

``mpiexec --hosts a,b -n 2 python -m npgpt.study.mpi_facts`` measures between the machines a and b.
"""

import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS, LARGE = 2000, 16 << 20  # small messages; bytes of a large one
STARTED_BY = ("PMI", "MPI", "OMPI", "HYDI", "HYDRA", "PMIX")  # variables of one mpiexec, which another must not see
SECONDS = 30


def about_mpi() -> dict[str, Any]:
    """Return the MPI, and latency and bandwidth between two processes on this machine."""
    missing = {"library": "not installed; pip install 'npgpt[mpi]' to train on several machines"}
    try:
        version = importlib.metadata.version("mpi4py")
    except importlib.metadata.PackageNotFoundError:
        return missing
    mpiexec = Path(sys.executable).with_name("mpiexec")
    command = [str(mpiexec) if mpiexec.exists() else "mpiexec", "-n", "2", sys.executable, "-m", __name__]
    variables = {name: value for name, value in os.environ.items() if name.split("_")[0] not in STARTED_BY}
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    try:
        with subprocess.Popen(command, env=variables, encoding="utf-8", start_new_session=True, **pipes) as process:
            try:
                found = json.loads(process.communicate(timeout=SECONDS)[0])
                latency, bandwidth, library = (found[name] for name in ("latency", "bandwidth", "library"))
            finally:
                process.kill()
                with contextlib.suppress(OSError, AttributeError):  # Windows has no groups
                    os.killpg(process.pid, signal.SIGKILL)  # what mpiexec has started
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError, KeyError) as error:
        return {
            "library": f"mpi4py {version}, but two processes do not meet by `{' '.join(command[:3])}` "
            f"({type(error).__name__}); is this the mpiexec of the MPI that mpi4py uses?"
        }
    return {
        "library": f"{library}, by mpi4py {version}; {command[0]}",
        "latency": f"{latency * 1e6:.1f} µs between two processes here",
        "bandwidth": f"{bandwidth / 1e9:.2f} GB/s between two processes here",
    }


def measure() -> dict[str, Any] | None:
    """Return the seconds of a small message and the bytes per second of large ones, from rank 0 to rank 1 and back."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    if comm.Get_size() != 2:
        sys.exit(f"{comm.Get_size()} processes have met, but two measure; is this the mpiexec of another MPI?")
    small, large = np.zeros(1), np.zeros(LARGE, np.uint8)
    seconds = []
    for message, rounds in ((small, ROUNDS), (large, 20)):
        for repetition in range(2):  # the first one opens the connection
            comm.Barrier()
            started = time.perf_counter()
            for _ in range(rounds if repetition else 5):
                for sender in (0, 1):
                    if comm.Get_rank() == sender:
                        comm.Send(message, 1 - sender)
                    else:
                        comm.Recv(message, sender)
        seconds.append((time.perf_counter() - started) / (2 * rounds))
    if comm.Get_rank():
        return None
    name, version = MPI.get_vendor()
    return {"library": f"{name} {'.'.join(map(str, version))}", "latency": seconds[0], "bandwidth": LARGE / seconds[1]}


if __name__ == "__main__":
    if (found := measure()) is not None:
        print(json.dumps(found))
