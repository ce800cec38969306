"""The model's loops, compiled by Numba. A kernel reads arrays and writes arrays; it does not depend on the layers.

Every kernel is declared with ``@kernel`` (``machine/compile.py``), which caches the machine code on disk. An import
compiles only the few lines that choose the register tile for the CPU (``machine/tile.py``).
"""
