"""The machine room: what compiled kernels stand on. A newcomer has no need to open this folder.

``npgpt/layers`` explains the model, and ``npgpt/kernels`` its loops, which Numba compiles. This folder adds what Numba
lacks: numbers sixteen at a time (``vector``, ``functions``), the tile of a matrix product (``tile``), raw bytes
(``bits``), a pool of threads (``atomics``, ``pool``), and machine code kept on disk (``compile``, ``kinds``). Private
names of Numba stand in ``numba_internals`` alone.
"""
