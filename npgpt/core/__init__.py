"""The base of every layer: Param, Cache, Layer. NumPy only.

A layer owns its ``Param``s and holds no state of a pass. The arrays that a forward pass saves for backward are in a
``Cache`` that the caller owns. So one layer can serve several passes at once, and a pass can be inspected and changed
from outside.
"""

from npgpt.core.cache import Cache
from npgpt.core.layer import Layer
from npgpt.core.param import Array, FlatParams, Param, aligned_empty
from npgpt.core.past import KeyValues

__all__ = ["Array", "Cache", "FlatParams", "KeyValues", "Layer", "Param", "aligned_empty"]
