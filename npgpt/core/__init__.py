"""What every layer stands on: Param, Cache, Layer. NumPy only.

A layer owns its ``Param``s and holds no state of a pass. What one forward pass leaves behind for backward lives in a
``Cache`` that the caller owns, so that one layer can serve many passes at once, and so that a pass can be looked at,
measured and disturbed from outside.
"""

from npgpt.core.cache import Cache
from npgpt.core.layer import Layer
from npgpt.core.param import Array, FlatParams, Param, aligned_empty

__all__ = ["Array", "Cache", "FlatParams", "Layer", "Param", "aligned_empty"]
