"""The machine room: what compiled kernels stand on. A newcomer has no need to open it.

Numba compiles a kernel; what Numba has no words for is here: a vector type, a register tile, atomic operations, a pool
of threads, and a cache of machine code on disk. ``npgpt/layers`` explains the model, and ``npgpt/kernels`` its loops.
"""
