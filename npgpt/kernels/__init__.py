"""The model's loops, compiled by Numba: they take arrays, write into arrays and know nothing of the rest.

Every kernel is declared with ``@kernel`` (``machine/compile.py``), which keeps the machine code on disk. An import
compiles nothing but the few lines that find out which register tile suits the CPU (``machine/tile.py``).
"""
