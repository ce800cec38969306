"""Loops compiled by Numba: what makes npgpt fast. They take arrays, write into arrays and know nothing of the rest.

Every kernel is declared with ``@kernel`` (``cache.py``), which keeps the machine code on disk. Nothing is compiled by
an import, only by a first call.
"""

from npgpt.kernels.cache import kernel

__all__ = ["kernel"]
