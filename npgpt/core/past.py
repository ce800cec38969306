# B batch, T time, H heads, D head size
"""The keys and values of earlier tokens, so that a text is continued without running it again."""

from npgpt.core.param import Array, aligned_empty
from npgpt.core.values import whole
from npgpt.errors import ShapeError


class KeyValues:
    """The keys and values of the tokens before this pass, for every attention layer (a key-value cache).

    Token i's key and value depend on the tokens 0 to i only, so they stay what they are when tokens follow. A pass over
    T new tokens computes T queries, keys and values. The queries see these keys and the earlier ones.

    Attributes
        length: the number of earlier tokens, which is the position of the first new one.

    >>> import numpy as np
    >>> from npgpt import GPT, Cache, GPTConfig
    >>> past = KeyValues()
    >>> cache = Cache(record=False, past=past)
    >>> model = GPT(GPTConfig(vocab_size=5, n_layer=1))
    >>> first = model.forward(np.array([[1, 2, 3]]), cache)
    >>> past.advance(3)
    >>> model.forward(np.array([[4]]), cache.reset()).shape        # as the last row of [[1, 2, 3, 4]]
    (1, 1, 5)
    """

    def __init__(self) -> None:
        self.length = 0
        self._arrays: dict[str, Array] = {}  # path -> (B, H, room, D)

    @property
    def nbytes(self) -> int:
        """The size of the memory in bytes; it grows by doubling."""
        return sum(array.nbytes for array in self._arrays.values())

    def memory(self, path: str, x: Array) -> Array:
        """Put x (B, H, T, D) behind the earlier tokens of a layer; return the memory (B, H, room, D) of all of them.

        Raises
            ShapeError if the earlier tokens are of another batch, model or precision.
        """
        B, H, T, D = x.shape
        end = self.length + T
        memory = self._arrays.get(path)
        fits = memory is not None and (*memory.shape[:2], memory.shape[3], memory.dtype) == (B, H, D, x.dtype)
        if self.length and not fits:
            was = f"{memory.dtype} {memory.shape}" if memory is not None else "no keys"
            raise ShapeError(
                f"KeyValues: {path} has {was} (B, H, room, D) of earlier tokens, but this pass gives {x.dtype} "
                f"{(B, T, H, D)}; continue with the same model and batch, or call clear()"
            )
        if memory is None or not fits or memory.shape[2] < end:
            larger = aligned_empty(B * H * room_for(end) * D, x.dtype).reshape(B, H, room_for(end), D)
            if memory is not None and self.length:
                larger[:, :, : self.length] = memory[:, :, : self.length]
            memory = self._arrays[path] = larger
        memory[:, :, self.length : end] = x
        return memory

    def advance(self, n_tokens: int) -> None:
        """Count the tokens of a finished pass as earlier ones."""
        self.length += whole("KeyValues.advance", "n_tokens", n_tokens, 0)

    def clear(self) -> None:
        """Forget all tokens. The memory stays, for the next ones."""
        self.length = 0


def room_for(n: int) -> int:
    """Return the next power of two, at least 64: memory and tables of this size are made anew rarely."""
    return max(64, 1 << (n - 1).bit_length())
