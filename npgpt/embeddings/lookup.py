# B batch, T time, C channels, V vocabulary, n number of ids
"""A lookup is a one-hot vector times a matrix: that product as a layer, and four ways to compute its gradient.

Each way adds the gradient of ``y = table[ids]`` with respect to the table; only rounding differs::

    by_one_hot           onehotᵀ·dy              n·V·C multiply-adds, and memory for n·V numbers and V·C
    by_add_at            np.add.at               n·C additions, one id after another
    by_sorted_segments   sort, np.add.reduceat   n·log n to sort, n·C additions; memory for 2·n·C numbers
    by_kernel            compiled                n·C additions, columns split among threads; no memory

Only the time of the first way grows with the vocabulary. benchmarks/bench_lookup.py measures all.
"""

from collections.abc import Callable

import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.shapes import check_array, check_gradient, check_ids
from npgpt.core.values import LARGEST, float_type, whole, zeros
from npgpt.errors import ShapeError
from npgpt.layers.linear import rows


def one_hot(ids: Array, vocab_size: int, dtype: type[np.floating] | np.dtype[np.floating] = np.float64) -> Array:
    """Return (*ids.shape, vocab_size): for each id a row of zeros with a one at the id.

    Raises
        ShapeError if ids are not integers in 0 to vocab_size - 1.

    >>> one_hot(np.array([2, 0]), 3)
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    vocab_size = whole("one_hot", "vocab_size", vocab_size, 1, LARGEST)
    check_ids("one_hot", "ids", ids, vocab_size, "vocabulary")
    onehot = np.zeros((*ids.shape, vocab_size), float_type("one_hot", dtype))
    np.put_along_axis(onehot, ids[..., None], 1, axis=-1)
    return onehot


class OneHotEmbedding(Layer):
    """The same as ``npgpt.layers.Embedding``, by a matrix product with one-hot vectors.

    Forward   o_bt = onehot(ids_bt),  y = o·W, in numbers y_btc = Σ_v o_btv W_vc
    Backward  given dy = ∂L/∂y:
      1. W_vc is used at every place: its factor in y_btc is o_btv     ⇒ dW = Σ_bt o_btᵀ·dy_bt = oᵀ·dy over all places
         o_btv is 1 where the id is v, else 0: so row v gets the sum of dy over the places with the id v, as in the
         lookup.
      2. o_btv is in every y_btc, with the factor W_vc                 ⇒ do = dy·Wᵀ
         The lookup does not have this gradient: how the loss would change if a little of token v were added.
      3. o is made from ids, which are integers                        ⇒ they have no gradient
    Shapes    ids any shape of integers; y, dy (*ids.shape, n_embd); onehot (*ids.shape, vocab_size);
              weight (vocab_size, n_embd)
    Keeps     onehot
    Raises    ShapeError if ids are not integers in 0 to vocab_size - 1

    An infinite or NaN weight makes its column NaN for all ids, because 0·∞ is NaN. A lookup would not use it.

    >>> embedding, cache = OneHotEmbedding(3, 2), Cache()
    >>> embedding.weight.value[:] = [[1, 2], [3, 4], [5, 6]]
    >>> embedding.forward(np.array([2, 0, 2]), cache)   # 0·1 + 0·3 + 1·5, ...
    array([[5., 6.],
           [1., 2.],
           [5., 6.]])
    >>> embedding.backward(np.array([[1., 1.], [5., 5.], [2., 2.]]), cache)
    >>> embedding.weight.grad                           # row 2: 1·1 + 0·5 + 1·2
    array([[5., 5.],
           [0., 0.],
           [3., 3.]])
    """

    def __init__(self, vocab_size: int, n_embd: int, std: float = 0.02) -> None:
        self.weight = Param(zeros("OneHotEmbedding", vocab_size=vocab_size, n_embd=n_embd), std)

    def forward(self, ids: Array, cache: Cache) -> Array:
        weight = self.weight.value
        check_ids("OneHotEmbedding", "ids", ids, len(weight), "vocabulary")
        real = np.finfo(weight.dtype).dtype if weight.dtype.kind in "fc" else np.dtype(np.float64)
        onehot = cache.keep("onehot", one_hot(ids, len(weight), real))
        y = rows(onehot) @ weight
        return y.reshape(*ids.shape, weight.shape[1])

    def backward(self, dy: Array, cache: Cache) -> None:
        onehot, weight = cache["onehot"], self.weight.value
        check_gradient("OneHotEmbedding", "dy", dy, (*onehot.shape[:-1], weight.shape[1]), like=weight)
        self.weight.grad += rows(onehot).T @ rows(dy)  # 1.
        cache.note("onehot", (rows(dy) @ weight.T).reshape(onehot.shape))  # 2.; no gradient to return: 3.


def by_one_hot(dy: Array, ids: Array, dtable: Array) -> None:
    """Add onehot(ids)ᵀ·dy to dtable. Nearly all multiplications are by 0.

    Shapes    dy (*ids.shape, C); ids any shape of integers; dtable (V, C), in the precision of dy
    Raises    ShapeError if the shapes do not match, or if an id is not in 0 to V - 1; also in the other ways
    """
    _check("by_one_hot", dy, ids, dtable)
    dtable += one_hot(ids.reshape(-1), len(dtable), dy.dtype).T @ rows(dy)


def by_add_at(dy: Array, ids: Array, dtable: Array) -> None:
    """Add dy[i] to dtable[ids[i]] for one i after another, as backward of npgpt.layers.Embedding does.

    ``dtable[ids] += dy`` reads all rows, adds, and writes all rows: only the last row of a repeated id counts.
    """
    _check("by_add_at", dy, ids, dtable)
    np.add.at(dtable, ids, dy)


def by_sorted_segments(dy: Array, ids: Array, dtable: Array) -> None:
    """Sort the rows by id, sum the rows of each id, and add each sum once.

    The sort is stable, so the rows of one id stay in order.
    """
    _check("by_sorted_segments", dy, ids, dtable)
    flat = ids.reshape(-1)
    order = np.argsort(flat, kind="stable")
    in_order = flat[order]
    starts = np.flatnonzero(np.diff(in_order, prepend=-1))  # where another id begins
    # The ids at the starts are all different, so += is right here.
    dtable[in_order[starts]] += np.add.reduceat(rows(dy)[order], starts, axis=0)


def by_kernel(dy: Array, ids: Array, dtable: Array) -> None:
    """The loop over ids of npgpt/kernels/embedding.py, split by columns; for float32 and a contiguous dtable.

    Raises    ShapeError also for another precision, or for a dtable that is not contiguous
    """
    from npgpt.compiled import base  # importing Numba takes time, so only when it is needed
    from npgpt.kernels import embedding
    from npgpt.machine.pool import pool

    _check("by_kernel", dy, ids, dtable)
    base.check_float32("by_kernel", "dtable", dtable)
    if not dtable.flags.c_contiguous:
        raise ShapeError(
            f"by_kernel: dtable {dtable.shape} is not C-contiguous; add to np.zeros(shape, np.float32) first, "
            "then add that array to dtable"
        )
    flat = np.ascontiguousarray(ids, np.int64).reshape(-1)
    embedding.scatter_add(pool(), base.rows(dy), flat, dtable, True)


WAYS: dict[str, Callable[[Array, Array, Array], None]] = {
    "one-hot": by_one_hot,
    "add.at": by_add_at,
    "sorted segments": by_sorted_segments,
    "compiled": by_kernel,
}


def _check(who: str, dy: Array, ids: Array, dtable: Array) -> None:
    check_array(who, "dtable", dtable, ("V", "C"), like=dtable)
    check_ids(who, "ids", ids, len(dtable), "vocabulary")
    check_gradient(who, "dy", dy, (*ids.shape, dtable.shape[1]), like=dtable)
