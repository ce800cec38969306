"""The second half of the table: operations over an axis, operations that move values, and products of arrays."""
import numpy as np
from programs.operations import (
    TABLE,
    a_distance,
    a_join,
    a_new_axis,
    a_padding,
    a_roll,
    a_shape,
    a_slice,
    a_window,
    add,
    an_axis,
    an_order,
    copies,
    matrices,
    size_of_product,
    size_of_sum,
    some_indices,
    some_rows,
    two_axes,
)

__all__ = ["TABLE"]

# ---- over an axis --------------------------------------------------------------------------------------------------


def spread(dy, x):
    """Give each value along the axis the gradient of their sum."""
    return np.broadcast_to(dy, x.shape)


def first_of(indices, x, axis):
    """True at the index along the axis, elsewhere False."""
    mask = np.zeros(x.shape, dtype=bool)
    np.put_along_axis(mask, indices, True, axis)
    return mask


def gap_at_end(x, axis, end):
    """The gap between the two greatest (end -1) or least (end 1) values along the axis."""
    ordered = np.sort(x, axis)
    return np.take(ordered, 1 if end == 1 else -1, axis) - np.take(ordered, 0 if end == 1 else -2, axis)


def prod_backward(dy, y, x, axis):
    gradient = np.zeros_like(x)
    for i in range(x.shape[axis]):
        index = (slice(None),) * (axis % x.ndim) + (slice(i, i + 1),)
        gradient[index] = dy * np.prod(np.delete(x, i, axis), axis=axis, keepdims=True)
    return gradient


def logsumexp(x, axis):
    top = np.max(x, axis=axis, keepdims=True)
    return top + np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True))


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def layer_norm(x, axis):
    mean = x.mean(axis=axis, keepdims=True)
    var = ((x - mean) ** 2).mean(axis=axis, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5)


def layer_norm_backward(dy, y, x, axis):
    scaled = dy / np.sqrt(x.var(axis=axis, keepdims=True) + 1e-5)
    return [scaled, spread(-scaled.mean(axis=axis, keepdims=True), x),
            -y * (scaled * y).mean(axis=axis, keepdims=True)]


def sort_backward(dy, y, x, axis):
    gradient = np.zeros_like(x)
    np.put_along_axis(gradient, np.argsort(x, axis=axis, kind="stable"), dy, axis)
    return gradient


def deviation(y, x, axis):
    return x.std(axis=axis)


def length_of(x, axis):
    return np.sqrt((x ** 2).sum(axis=axis, keepdims=True))


along = {"draw": an_axis}
add("sum", lambda x, axis: x.sum(axis=axis, keepdims=True), lambda dy, y, x, axis: spread(dy, x),
    healthy=size_of_sum, **along)
add("mean", lambda x, axis: np.mean(x, axis=axis, keepdims=True),
    lambda dy, y, x, axis: spread(dy, x) / x.shape[axis], healthy=size_of_sum, **along)
add("var", lambda x, axis: x.var(axis=axis, keepdims=True),
    lambda dy, y, x, axis: dy * 2 * (x - x.mean(axis=axis, keepdims=True)) / x.shape[axis], healthy=deviation, **along)
add("std", lambda x, axis: np.std(x, axis=axis, keepdims=True),
    lambda dy, y, x, axis: dy * (x - x.mean(axis=axis, keepdims=True)) / (y * x.shape[axis]),
    healthy=deviation, **along)
add("norm", lambda x, axis: np.linalg.norm(x, axis=axis, keepdims=True), lambda dy, y, x, axis: dy * x / y,
    healthy=lambda y, x, axis: y, **along)
add("max", lambda x, axis: x.max(axis=axis, keepdims=True), lambda dy, y, m, x, axis: dy * m,
    mask=lambda x, axis: first_of(x.argmax(axis=axis, keepdims=True), x, axis),
    kink=lambda x, axis: gap_at_end(x, axis, -1), plant="greatest", **along)
add("min", lambda x, axis: np.min(x, axis=axis, keepdims=True), lambda dy, y, m, x, axis: dy * m,
    mask=lambda x, axis: first_of(x.argmin(axis=axis, keepdims=True), x, axis),
    kink=lambda x, axis: gap_at_end(x, axis, 1), plant="least", **along)
add("prod", lambda x, axis: np.prod(x, axis=axis, keepdims=True), prod_backward, domain="moderate", **along)
add("logsumexp", logsumexp, lambda dy, y, x, axis: dy * np.exp(x - y), domain="moderate", **along)
add("softmax", softmax, lambda dy, y, x, axis: [dy * y, -y * (dy * y).sum(axis=axis, keepdims=True)],
    domain="moderate", **along)
add("log softmax", lambda x, axis: x - logsumexp(x, axis),
    lambda dy, y, x, axis: [dy, -np.exp(y) * dy.sum(axis=axis, keepdims=True)], domain="moderate", **along)
add("layer norm", layer_norm, layer_norm_backward, domain="moderate", healthy=deviation, **along)
add("divide by length", lambda x, axis: x / np.linalg.norm(x, axis=axis, keepdims=True),
    lambda dy, y, x, axis: [dy / length_of(x, axis), -y * (dy * y).sum(axis=axis, keepdims=True) / length_of(x, axis)],
    healthy=lambda y, x, axis: length_of(x, axis), **along)
add("cumsum", lambda x, axis: np.cumsum(x, axis=axis),
    lambda dy, y, x, axis: np.flip(np.cumsum(np.flip(dy, axis), axis=axis), axis), **along)
add("sort", lambda x, axis: np.sort(x, axis=axis), sort_backward, plant="greatest",
    kink=lambda x, axis: np.diff(np.sort(x, axis=axis), axis=axis), **along)

# ---- moving values -------------------------------------------------------------------------------------------------


def cut(axis, start, stop):
    """The index that cuts from start to stop along the axis."""
    return (slice(None),) * axis + (slice(start, stop),)


def placed(dy, x, index):
    """Zeros of the shape of x with dy at the index."""
    gradient = np.zeros_like(x)
    gradient[index] = dy
    return gradient


def take_backward(dy, y, x, indices, axis):
    gradient = np.zeros_like(x)
    index = list(np.indices(indices.shape, sparse=True))
    index[axis] = indices
    np.add.at(gradient, tuple(index), dy)
    return gradient


def take_rows_backward(dy, y, x, rows):
    gradient = np.zeros_like(x)
    np.add.at(gradient, rows, dy)
    return gradient


def shift_later(x, by):
    y = np.zeros_like(x)
    y[..., by:] = x[..., :-by]
    return y


def shift_earlier(x, by):
    y = np.zeros(x.shape)
    y[..., :-by] = x[..., by:]
    return y


def windows(x, width, start):
    """Sliding windows over the last axis, through a buffer."""
    count = x.shape[-1] - start - width + 1
    y = np.zeros(x.shape[:-1] + (width, count))
    for j in range(width):
        y[..., j, :] = x[..., start + j:start + j + count]
    return y


def windows_backward(dy, y, x, width, start):
    count = dy.shape[-1]
    return [placed(dy[..., j, :], x, (..., slice(start + j, start + j + count))) for j in range(width)]


def pad_widths(x, before, after):
    return [(0, 0)] * (x.ndim - 1) + [(before, after)]


def repeat_backward(dy, y, x, copies, axis):
    return dy.reshape(x.shape[:axis] + (x.shape[axis], copies) + x.shape[axis + 1:]).sum(axis=axis + 1)


def tile_backward(dy, y, x, copies, axis):
    length = x.shape[-1]
    return [dy[..., i * length:(i + 1) * length] for i in range(copies)]


def concatenate_backward(dy, y, a, b, axis):
    at, axis = a.shape[axis], axis % a.ndim
    return dy[cut(axis, 0, at)], dy[cut(axis, at, None)]


def one_later(name, limit):
    """A change of one parameter by one: up where it stays below the limit, otherwise down to no less than zero."""
    def shifted(x, parameters):
        value = parameters[name]
        if value + 1 <= limit(x, parameters):
            return {**parameters, name: value + 1}
        return {**parameters, name: value - 1} if value > 0 else None
    return shifted


def slice_one_later(x, parameters):
    step = 1 if parameters["stop"] < x.shape[parameters["axis"]] else -1
    moved = {**parameters, "start": parameters["start"] + step, "stop": parameters["stop"] + step}
    return moved if moved["start"] >= 0 else None


def window_one_earlier(x, parameters):
    return {**parameters, "start": parameters["start"] - 1} if parameters["start"] else None


def pad_one_off(x, parameters):
    return {"before": parameters["before"] + 1, "after": parameters["after"] - 1}


def next_indices(x, parameters):
    return {**parameters, "indices": (parameters["indices"] + 1) % x.shape[parameters["axis"]]}


def shift_one_off(x, parameters):
    by = parameters["by"]
    return {"by": by + 1 if by + 1 < x.shape[-1] else by - 1} if by > 1 or by + 1 < x.shape[-1] else None


def shift_later_backward(dy, y, x, by):
    gradient = np.zeros_like(x)
    gradient[..., :-by] = dy[..., by:]
    return gradient


def shift_earlier_backward(dy, y, x, by):
    gradient = np.zeros_like(x)
    gradient[..., by:] = dy[..., :-by]
    return gradient


add("roll", lambda x, by, axis: np.roll(x, by, axis=axis), lambda dy, y, x, by, axis: np.roll(dy, -by, axis=axis),
    draw=a_roll, shifted=one_later("by", lambda x, p: x.shape[p["axis"]]))
add("flip", lambda x, axis: np.flip(x, axis=axis), lambda dy, y, x, axis: np.flip(dy, axis=axis), **along)
add("flip by slice", lambda x: x[..., ::-1], lambda dy, y, x: dy[..., ::-1])
add("swapaxes", lambda x, first, second: np.swapaxes(x, first, second),
    lambda dy, y, x, first, second: np.swapaxes(dy, first, second), draw=two_axes)
add("transpose", lambda x, order: x.transpose(order), lambda dy, y, x, order: dy.transpose(np.argsort(order)),
    draw=an_order)
add("transpose by T", lambda x: x.T, lambda dy, y, x: dy.T, draw=matrices)
add("reshape", lambda x, shape: x.reshape(shape), lambda dy, y, x, shape: dy.reshape(x.shape), draw=a_shape)
add("slice", lambda x, axis, start, stop: x[cut(axis, start, stop)],
    lambda dy, y, x, axis, start, stop: placed(dy, x, cut(axis, start, stop)), draw=a_slice, shifted=slice_one_later)
add("every second", lambda x: x[..., ::2], lambda dy, y, x: placed(dy, x, (..., slice(None, None, 2))),
    draw=lambda rng, x: {} if x.shape[-1] > 1 else None)
add("differences", lambda x: x[..., 1:] - x[..., :-1],
    lambda dy, y, x: [placed(dy, x, (..., slice(1, None))), placed(-dy, x, (..., slice(None, -1)))],
    healthy=size_of_sum, draw=lambda rng, x: {} if x.shape[-1] > 1 else None)
add("take along axis", lambda x, indices, axis: np.take_along_axis(x, indices, axis=axis), take_backward,
    draw=some_indices, shifted=next_indices)
add("take rows", lambda x, rows: x[rows], take_rows_backward, draw=some_rows,
    shifted=lambda x, p: {"rows": (p["rows"] + 1) % len(x)})
add("shift later through buffer", shift_later, shift_later_backward, draw=a_distance, shifted=shift_one_off)
add("shift earlier through buffer", shift_earlier, shift_earlier_backward, draw=a_distance, shifted=shift_one_off)
add("windows through buffer", windows, windows_backward, draw=a_window, shifted=window_one_earlier)
add("pad", lambda x, before, after: np.pad(x, pad_widths(x, before, after)),
    lambda dy, y, x, before, after: dy[..., before:before + x.shape[-1]], draw=a_padding, shifted=pad_one_off)
add("repeat", lambda x, copies, axis: np.repeat(x, copies, axis=axis), repeat_backward, draw=copies)
add("tile", lambda x, copies, axis: np.tile(x, copies), tile_backward, draw=copies)
add("concatenate", lambda a, b, axis: np.concatenate((a, b), axis=axis), concatenate_backward, draw=a_join,
    operands="concatenate", alike=True)
add("concatenate flat", lambda a, b: np.concatenate((a.ravel(), b.ravel())),
    lambda dy, y, a, b: (dy[:a.size].reshape(a.shape), dy[a.size:].reshape(b.shape)), operands="free", alike=True)
add("stack", lambda a, b, axis: np.stack((a, b), axis=axis),
    lambda dy, y, a, b, axis: (np.take(dy, 0, axis), np.take(dy, 1, axis)), draw=a_new_axis,
    operands="same", alike=True)

# ---- loops over rows -----------------------------------------------------------------------------------------------


def centre_rows(x):
    return np.stack([row - row.mean() for row in x])


def centre_rows_backward(dy, y, x):
    return [dy, np.stack([np.full(row.shape, -row.mean()) for row in dy])]


def weigh_rows(x):
    return np.stack([row / (1.0 + i) for i, row in enumerate(x)])


def weigh_rows_backward(dy, y, x):
    return np.stack([row / (1.0 + i) for i, row in enumerate(dy)])


def recurrent_rows(x):
    """A state carried from row to row."""
    state = np.zeros_like(x[0])
    rows = []
    for row in x:
        state = np.tanh(row + 0.5 * state)
        rows.append(state)
    return np.stack(rows, axis=0)


def recurrent_rows_backward(dy, y, x):
    gradient = np.zeros_like(x)
    carried = np.zeros_like(x[0])
    for i in reversed(range(len(x))):
        gradient[i] = (dy[i] + carried) * (1 - y[i] ** 2)
        carried = 0.5 * gradient[i]
    return gradient


add("centre rows in loop", centre_rows, centre_rows_backward, healthy=size_of_sum,
    draw=lambda rng, x: {} if x.ndim > 1 and x[0].size > 1 else None)
add("weigh rows in loop", weigh_rows, weigh_rows_backward, draw=matrices)
add("recurrent rows in loop", recurrent_rows, recurrent_rows_backward, draw=matrices, domain="not large")

# ---- products of arrays --------------------------------------------------------------------------------------------


def matmul_backward(dy, y, x, w):
    return dy @ w.T, x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])


def outer_backward(dy, y, a, b):
    return (dy @ b.ravel()).reshape(a.shape), (a.ravel() @ dy).reshape(b.shape)


add("matmul", lambda x, w: x @ w, matmul_backward, operands="matmul",
    healthy=size_of_product)
add("np.matmul", lambda x, w: np.matmul(x, w), matmul_backward, operands="matmul",
    healthy=size_of_product)
add("einsum with parameter", lambda x, w: np.einsum("...i,ij->...j", x, w),
    lambda dy, y, x, w: (np.einsum("...j,ij->...i", dy, w), np.einsum("...i,...j->...ij", x, dy)), operands="matmul",
    healthy=size_of_product)
add("einsum of rows with rows", lambda a, b: np.einsum("...ik,...jk->...ij", a, b),
    lambda dy, y, a, b: (np.einsum("...ij,...jk->...ik", dy, b), np.einsum("...ij,...ik->...jk", dy, a)),
    draw=matrices, operands="same", healthy=size_of_product)
add("matmul with transposed", lambda a, b: a @ np.swapaxes(b, -1, -2),
    lambda dy, y, a, b: (dy @ b, np.swapaxes(dy, -1, -2) @ a), draw=matrices, operands="same", healthy=size_of_product)
add("product with own transposed", lambda x: x @ np.swapaxes(x, -1, -2),
    lambda dy, y, x: [dy @ x, np.swapaxes(dy, -1, -2) @ x], draw=matrices)
add("einsum of columns", lambda a, b: np.einsum("...i,...i->...", a, b)[..., None],
    lambda dy, y, a, b: (dy * b, dy * a), operands="same", draw=matrices, healthy=size_of_product)
add("outer", lambda a, b: np.outer(a, b), outer_backward, operands="outer")
add("outer by broadcasting", lambda x: x[..., :, None] * x[..., None, :],
    lambda dy, y, x: [(dy * x[..., None, :]).sum(axis=-1), (dy * x[..., :, None]).sum(axis=-2)],
    draw=lambda rng, x: {} if x.ndim < 4 else None)
