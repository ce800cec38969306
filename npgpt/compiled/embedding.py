# B batch, T time, C channels
import numpy as np

import npgpt.layers as textbook
from npgpt.compiled.base import CompiledLayer, check_float32, output, rows
from npgpt.core import Array, Cache
from npgpt.core.shapes import check_ids
from npgpt.kernels import embedding
from npgpt.machine.pool import pool


class Embedding(CompiledLayer, textbook.Embedding):
    """The compiled twin of ``npgpt.layers.Embedding``: threads add to different columns, in the order of ids."""

    KEEPS = ("ids",)

    def forward(self, ids: Array, cache: Cache) -> Array:
        table = self.weight.value
        check_ids("Embedding", "ids", ids, len(table), "vocabulary")
        ids = cache.keep("ids", ids)
        y = output(cache, (*ids.shape, table.shape[1]))
        embedding.gather(pool(), table, _row(ids), rows(y))
        return y

    def backward(self, dy: Array, cache: Cache) -> None:
        ids, table = cache["ids"], self.weight.value
        check_float32("Embedding", "dy", dy, (*ids.shape, table.shape[1]))
        grad, add = cache.grad_to_fill(self.weight)
        embedding.scatter_add(pool(), rows(dy), _row(ids), grad, add)  # 1. and nothing to return: 2.


def _row(ids: Array) -> Array:
    return np.ascontiguousarray(ids, np.int64).reshape(-1)
