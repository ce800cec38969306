"""npgpt: a GPT in NumPy with every gradient derived and coded by hand."""

__version__ = "0.1.0"


def set_num_threads(n: int) -> None:
    """Let the compiled layers use ``n`` threads; the environment variable NPGPT_NUM_THREADS says it for a process.

    Results do not depend on it, to the last bit.
    """
    from npgpt.machine.pool import set_num_threads  # Numba takes a while to import: only when it is needed

    set_num_threads(n)
