"""The machine room: the base of all compiled kernels. Newcomers do not need to open this folder.

``npgpt/layers`` explains the model, and ``npgpt/kernels`` its loops, which Numba compiles. This folder adds features
that Numba lacks: vectors of sixteen numbers (``vector``, ``functions``), the tile of a matrix product (``tile``), raw
bytes (``bits``), a thread pool (``atomics``, ``pool``), and machine code cached on disk (``compile``, ``kinds``). Only
``numba_internals`` uses private names of Numba.
"""
