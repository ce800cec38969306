"""Layers that move, choose, repeat or add up cells."""

import numpy as np
from strangers.given import given, random, right


@right
def sorted_rows():
    def forward(x):
        order = np.argsort(x, axis=1)
        return np.sort(x, axis=1), order

    def backward(dout, order):
        dx = np.zeros_like(dout)
        np.put_along_axis(dx, order, dout, axis=1)
        return dx

    return given(forward, random(3, 5), backward=backward)


@right
def running_sums():
    def forward(x):
        return np.cumsum(x, axis=1)

    def backward(dy, x):
        return np.flip(np.cumsum(np.flip(dy, axis=1), axis=1), axis=1)

    return given(forward, random(2, 6), backward=backward)


@right
def running_products():
    def forward(x):
        return np.cumprod(x, axis=0)

    def backward(dy, x):
        y = np.cumprod(x, axis=0)
        return np.cumsum((dy * y)[::-1], axis=0)[::-1] / x

    return given(forward, random(5, 2), backward=backward)


@right
def running_products_through_a_zero():
    def forward(x):
        return np.cumprod(x), x

    def backward(dout, x):
        dx = np.zeros(len(x))
        for i in range(len(x)):
            before = np.prod(x[:i])
            for j in range(i, len(x)):
                dx[i] += dout[j] * before * np.prod(x[i + 1 : j + 1])
        return dx

    return given(forward, np.array([1.5, -0.7, 0.0, 2.0, 0.4]), backward=backward)


@right
def largest_of_every_row_with_kept_axes():
    def forward(x):
        return x - np.max(x, axis=1, keepdims=True)

    def backward(dy, x):
        dx = dy.copy()
        dx[np.arange(len(x)), np.argmax(x, axis=1)] -= dy.sum(axis=1)
        return dx

    return given(forward, random(4, 3), backward=backward)


@right
def chosen_column_of_every_row():
    """A small step does not move the choice, so the gradient of the scores is zero."""

    def forward(scores, values):
        best = scores.argmax(axis=1)
        return np.take_along_axis(values, best[:, None], axis=1)

    def backward(dy, scores, values):
        dvalues = np.zeros_like(values)
        np.put_along_axis(dvalues, scores.argmax(axis=1)[:, None], dy, axis=1)
        return np.zeros_like(scores), dvalues

    return given(forward, random(4, 3), random(4, 3, seed=1), backward=backward)


@right
def rolled_and_flipped():
    def forward(x, shift):
        return np.roll(x, shift, axis=0) + np.flip(x, axis=-1) + x[:, ::-1] * 2

    def backward(dy, x, shift):
        return np.roll(dy, -shift, axis=0) + 3 * dy[:, ::-1]

    return given(forward, random(4, 3), 1, backward=backward)


@right
def tiled_and_repeated():
    def forward(x):
        return np.tile(x, (2, 3)) * np.repeat(x, 3, axis=0).repeat(2, axis=1).reshape(4, -1)

    def backward(dy, x):
        tiled = np.tile(x, (2, 3))
        repeated = np.repeat(x, 3, axis=0).repeat(2, axis=1).reshape(4, -1)
        n, d = x.shape
        dx = (dy * repeated).reshape(2, n, 3, d).sum(axis=(0, 2))
        dx += (dy * tiled).reshape(n, 3, d, 2).sum(axis=(1, 3))
        return dx

    return given(forward, random(2, 4), backward=backward)


@right
def joined_arrays_of_a_list():
    def forward(parts):
        return np.concatenate(parts, axis=1)

    def backward(dy, parts):
        ends = np.cumsum([p.shape[1] for p in parts])[:-1]
        return np.split(dy, ends, axis=1)

    return given(forward, [random(2, 1), random(2, 3, seed=1), random(2, 2, seed=2)], backward=backward)


@right
def stacked_inputs_of_any_number():
    def forward(*arrays):
        return np.stack(arrays, axis=-1)

    def backward(dy, *arrays):
        return tuple(dy[..., k] for k in range(len(arrays)))

    return given(forward, random(2, 3), random(2, 3, seed=1), random(2, 3, seed=2), backward=backward)


@right
def split_into_uneven_parts():
    def forward(x):
        return np.split(x, [1, 4], axis=1)

    def backward(da, db, dc):
        return np.hstack([da, db, dc])

    return given(forward, random(3, 6), backward=backward)


@right
def differences_of_neighbours():
    def forward(x):
        return np.diff(x, axis=0) ** 2

    def backward(dy, x):
        d = 2 * dy * np.diff(x, axis=0)
        dx = np.zeros_like(x)
        dx[1:] += d
        dx[:-1] -= d
        return dx

    return given(forward, random(5, 2), backward=backward)


@right
def rows_added_up_by_segment():
    def forward(x, segments):
        out = np.zeros((segments.max() + 1, x.shape[1]))
        np.add.at(out, segments, x)
        return out

    def backward(dy, x, segments):
        return dy[segments], None

    return given(forward, random(5, 2), np.array([0, 2, 0, 1, 2]), backward=backward)


@right
def cells_chosen_by_a_boolean_mask():
    def forward(x, keep):
        return x[keep], (x.shape, keep)

    def backward(dout, cache):
        shape, keep = cache
        dx = np.zeros(shape)
        dx[keep] = dout
        return dx

    keep = np.array([[True, False, True], [False, False, True]])
    return given(forward, random(2, 3), keep, backward=backward)


@right
def cells_overwritten_by_a_mask():
    def forward(x, fill):
        y = np.array(x)
        y[x < 0] = fill
        return y

    def backward(dy, x, fill):
        negative = x < 0
        return np.where(negative, 0, dy), dy[negative].sum()

    return given(forward, random(3, 4), np.array(0.25), backward=backward)


@right
def rows_taken_several_times():
    def forward(x, index):
        return np.take(x, index, axis=1)

    def backward(dy, x, index):
        dx = np.zeros_like(x)
        for k, place in enumerate(index):
            dx[:, place] += dy[:, k]
        return {"x": dx}

    return given(forward, random(3, 4), [0, 2, 2, 3, 0], backward=backward)


@right
def mean_of_the_largest_three():
    def forward(x):
        top = np.argpartition(-x, 3, axis=1)[:, :3]
        return np.take_along_axis(x, top, 1).mean(1), (x.shape, top)

    def backward(dout, cache):
        shape, top = cache
        dx = np.zeros(shape)
        dx[np.arange(shape[0])[:, None], top] = dout[:, None] / 3
        return dx

    return given(forward, random(3, 7), backward=backward)


@right
def linear_interpolation_in_a_table():
    def forward(position, table):
        low = np.floor(position).astype(int)
        part = position - low
        return (1 - part) * table[low] + part * table[low + 1], (low, part, table)

    def backward(dout, cache):
        low, part, table = cache
        dtable = np.bincount(low, dout * (1 - part), len(table)) + np.bincount(low + 1, dout * part, len(table))
        return dout * (table[low + 1] - table[low]), dtable

    return given(forward, np.array([0.3, 2.6, 2.1, 0.7, 3.5]), random(5), backward=backward)


@right
def sums_that_broadcast_every_way():
    def forward(a, b, c):
        return a + b * c

    def backward(dy, a, b, c):
        return dy.sum(axis=(0, 2)).reshape(a.shape), (dy * c).sum(axis=2, keepdims=True), np.sum(dy * b, axis=(0, 1))

    return given(forward, random(3, 1), random(2, 3, 1, seed=1), random(4, seed=2), backward=backward)


@right
def median_of_an_odd_number():
    def forward(x):
        return np.median(x, axis=0)

    def backward(dy, x):
        place = np.argsort(x, axis=0)[len(x) // 2]
        dx = np.zeros_like(x)
        dx[place, np.arange(x.shape[1])] = dy
        return dx

    return given(forward, random(5, 3), backward=backward)


@right
def patches_of_an_image():
    def forward(image, weight):
        n, h, w = image.shape
        patches = image.reshape(n, h // 2, 2, w // 3, 3).transpose(0, 1, 3, 2, 4).reshape(n, -1, 6)
        return patches @ weight, (patches, weight, image.shape)

    def backward(dout, cache):
        patches, weight, (n, h, w) = cache
        dpatches = (dout @ weight.T).reshape(n, h // 2, w // 3, 2, 3)
        dweight = patches.reshape(-1, 6).T @ dout.reshape(-1, dout.shape[-1])
        return dpatches.swapaxes(2, 3).reshape(n, h, w), dweight

    return given(forward, random(2, 4, 6), random(6, 3, seed=1), backward=backward)
