"""The environment variables of npgpt, in one table."""

import os

VARIABLES = {
    "NPGPT_NUM_THREADS": "number of threads of the compiled layers (default: all cores)",
    "NPGPT_PROFILE": "for tests: quick, ci or deep decides which tests run (default: quick)",
    "NPGPT_REQUIRE": "for tests: extras whose absence is a failure, not a skipped test (default: none)",
}
# What mpiexec tells each process: the number of processes that it has started. MPICH and Intel MPI; Open MPI.
MPI_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")


def size_of_mpiexec() -> tuple[str, str]:
    """Return the variable that says how many processes mpiexec has started, and their number; ("", "1") without."""
    told = ((name, os.environ.get(name) or "1") for name in MPI_SIZES)
    return next(((name, size) for name, size in told if size != "1"), ("", "1"))


def set_variables() -> dict[str, str | None]:
    """The value of each variable, or None if it is not set."""
    return {name: os.environ.get(name) for name in VARIABLES}
