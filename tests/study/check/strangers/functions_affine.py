"""Matrix products as pairs of functions, with every kind of cache and of returned gradients."""

from collections import namedtuple

import numpy as np
from strangers.given import given, random, right


@right
def affine_with_a_tuple_as_cache():
    def affine_forward(x, w, b):
        flat = x.reshape(x.shape[0], -1)
        return flat @ w + b, (x, w, b)

    def affine_backward(dout, cache):
        x, w, _ = cache
        dx = (dout @ w.T).reshape(x.shape)
        dw = x.reshape(len(x), -1).T @ dout
        db = dout.sum(axis=0)
        return dx, dw, db

    return given(affine_forward, random(4, 2, 3), random(6, 5, seed=1), random(5, seed=2), backward=affine_backward)


@right
def affine_with_a_dict_as_cache():
    def forward(x, w, b):
        cache = {"x": x, "w": w}
        return np.dot(x, w) + b, cache

    def backward(dout, cache):
        return {"dx": np.dot(dout, cache["w"].T), "dw": np.dot(cache["x"].T, dout), "db": np.sum(dout, axis=0)}

    return given(forward, random(3, 4), random(4, 2, seed=1), random(2, seed=2), backward=backward)


@right
def linear_with_a_namedtuple_as_cache():
    Saved = namedtuple("Saved", "inputs weight")

    def forward(inputs, weight):
        return inputs @ weight.T, Saved(inputs, weight)

    def backward(grad, saved):
        return grad @ saved.weight, grad.T @ saved.inputs

    return given(forward, random(5, 3), random(2, 3, seed=4), backward=backward)


@right
def affine_relu_affine_with_nested_caches():
    def affine(x, w, b):
        return x @ w + b, (x, w)

    def affine_back(dout, cache):
        x, w = cache
        return dout @ w.T, x.T @ dout, dout.sum(0)

    def relu(x):
        return np.maximum(0, x), x

    def forward(x, w1, b1, w2, b2):
        a, first = affine(x, w1, b1)
        h, middle = relu(a)
        scores, last = affine(h, w2, b2)
        return scores, ((first, middle), last)

    def backward(dout, cache):
        (first, middle), last = cache
        dh, dw2, db2 = affine_back(dout, last)
        da = dh * (middle > 0)
        dx, dw1, db1 = affine_back(da, first)
        return dx, dw1, db1, dw2, db2

    return given(
        forward,
        random(3, 4),
        random(4, 6, seed=1),
        random(6, seed=2),
        random(6, 2, seed=3),
        random(2, seed=4),
        backward=backward,
    )


@right
def affine_gradients_from_the_inputs_as_a_list():
    def forward(x, w, b):
        return x @ w + b

    def backward(dy, x, w, b):
        return [dy @ w.T, x.T @ dy, np.ones(len(dy)) @ dy]

    return given(forward, random(6, 2), random(2, 3, seed=1), random(3, seed=2), backward=backward)


@right
def affine_gradient_with_the_upstream_gradient_last():
    def forward(x, w, b):
        return np.einsum("ni,io->no", x, w) + b[None, :]

    def backward(x, w, b, dy):
        return np.einsum("no,io->ni", dy, w), np.einsum("ni,no->io", x, dy), np.einsum("no->o", dy)

    return given(forward, random(4, 3), random(3, 5, seed=1), random(5, seed=2), backward=backward)


@right
def temporal_affine():
    def temporal_affine_forward(x, w, b):
        n, t, d = x.shape
        m = b.shape[0]
        out = x.reshape(n * t, d).dot(w).reshape(n, t, m) + b
        cache = x, w, b, out
        return out, cache

    def temporal_affine_backward(dout, cache):
        x, w, b, out = cache
        n, t, d = x.shape
        rows = dout.reshape(n * t, -1)
        dx = rows.dot(w.T).reshape(n, t, d)
        dw = rows.T.dot(x.reshape(n * t, d)).T
        db = dout.sum(axis=(0, 1))
        return dx, dw, db

    return given(
        temporal_affine_forward,
        random(2, 3, 4),
        random(4, 5, seed=1),
        random(5, seed=2),
        backward=temporal_affine_backward,
    )


@right
def affine_by_three_loops():
    def forward(x, w, b):
        n, d = x.shape
        m = w.shape[1]
        out = np.zeros((n, m))
        for i in range(n):
            for j in range(m):
                total = float(b[j])
                for k in range(d):
                    total += float(x[i, k]) * float(w[k, j])
                out[i, j] = total
        return out

    def backward(dy, x, w, b):
        dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros_like(b)
        for i in range(x.shape[0]):
            for j in range(w.shape[1]):
                db[j] += dy[i, j]
                for k in range(x.shape[1]):
                    dx[i, k] += dy[i, j] * w[k, j]
                    dw[k, j] += dy[i, j] * x[i, k]
        return dx, dw, db

    return given(forward, random(3, 4), random(4, 2, seed=1), random(2, seed=2), backward=backward)


@right
def dot_products_of_plain_python_lists():
    def forward(x, w):
        columns = list(zip(*w.tolist()))
        return np.array([[sum(a * b for a, b in zip(row, column)) for column in columns] for row in x.tolist()])

    def backward(dy, x, w):
        return dy @ w.T, x.T @ dy

    return given(forward, random(2, 5), random(5, 3, seed=3), backward=backward)


@right
def affine_that_adds_and_scales_in_place():
    def forward(x, w, b):
        y = np.empty((x.shape[0], w.shape[1]))
        np.matmul(x, w, out=y)
        y += b
        y *= 2
        y -= 1
        y /= 3
        return y, (x, w)

    def backward(dout, cache):
        x, w = cache
        dout = dout * (2 / 3)
        return dout @ w.T, x.T @ dout, dout.sum(axis=0)

    return given(forward, random(4, 3), random(3, 2, seed=1), random(2, seed=2), backward=backward)


@right
def affine_of_one_vector_by_tensordot():
    def forward(x, w):
        return np.tensordot(w, x, axes=1), (x, w)

    def backward(dout, cache):
        x, w = cache
        return np.tensordot(dout, w, axes=([0], [0])), np.outer(dout, x)

    return given(forward, random(5), random(3, 5, seed=1), backward=backward)


@right
def tensordot_over_two_axes():
    def forward(x, w):
        return np.tensordot(x, w, axes=([1, 2], [0, 1]))

    def backward(dy, x, w):
        dx = np.tensordot(dy, w, axes=([1], [2]))
        dw = np.tensordot(x, dy, axes=([0], [0]))
        return dx, dw

    return given(forward, random(2, 3, 4), random(3, 4, 5, seed=1), backward=backward)


@right
def bilinear_form_with_two_inputs():
    def forward(left, right_side, weight):
        return np.einsum("ni,kij,nj->nk", left, weight, right_side)

    def backward(left, right_side, weight, dy):
        dleft = np.einsum("nk,kij,nj->ni", dy, weight, right_side)
        dright = np.einsum("nk,kij,ni->nj", dy, weight, left)
        dweight = np.einsum("nk,ni,nj->kij", dy, left, right_side)
        return dleft, dright, dweight

    return given(forward, random(3, 2), random(3, 4, seed=1), random(2, 2, 4, seed=2), backward=backward)


@right
def two_layer_net_with_a_dict_of_weights():
    def forward(x, weights):
        hidden = np.tanh(x @ weights["W1"] + weights["b1"])
        return hidden @ weights["W2"] + weights["b2"], (x, hidden, weights)

    def backward(dscores, cache):
        x, hidden, weights = cache
        dhidden = (dscores @ weights["W2"].T) * (1 - hidden * hidden)
        grads = {"W2": hidden.T @ dscores, "b2": dscores.sum(0), "W1": x.T @ dhidden, "b1": dhidden.sum(0)}
        return dhidden @ weights["W1"].T, grads

    weights = {"W1": random(3, 5, seed=1), "b1": random(5, seed=2), "W2": random(5, 2, seed=3), "b2": random(2, seed=4)}
    return given(forward, random(4, 3), weights, backward=backward)


@right
def affine_whose_gradient_fills_buffers_of_the_right_shape():
    def forward(x, w, b):
        out = np.full((len(x), len(b)), b, dtype=float)
        for k in range(x.shape[1]):
            out += x[:, k, None] * w[None, k, :]
        return out, (x, w, b)

    def backward(dout, cache):
        grads = [np.empty_like(a) for a in cache]
        x, w, b = cache
        grads[0][...] = dout @ w.T
        grads[1][...] = x.T @ dout
        grads[2][...] = dout.sum(axis=0)
        return grads

    return given(forward, random(3, 2), random(2, 4, seed=1), random(4, seed=2), backward=backward)


@right
def low_rank_affine():
    def forward(x, u, v):
        return (x @ u) @ v, dict(x=x, u=u, v=v, xu=x @ u)

    def backward(dy, saved):
        dxu = dy @ saved["v"].T
        return dict(x=dxu @ saved["u"].T, u=saved["x"].T @ dxu, v=saved["xu"].T @ dy)

    return given(forward, random(4, 5), random(5, 2, seed=1), random(2, 3, seed=2), backward=backward)
