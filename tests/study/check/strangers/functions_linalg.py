"""Linear algebra on small matrices."""

import numpy as np
from strangers.given import given, random, right


@right
def inverse_of_a_matrix():
    def forward(a):
        inverse = np.linalg.inv(a)
        return inverse, inverse

    def backward(dout, inverse):
        return -inverse.T @ dout @ inverse.T

    return given(forward, random(4, 4) + 3 * np.eye(4), backward=backward)


@right
def solution_of_linear_equations():
    def forward(a, b):
        return np.linalg.solve(a, b)

    def backward(dy, a, b):
        db = np.linalg.solve(a.T, dy)
        return -np.outer(db, np.linalg.solve(a, b)), db

    return given(forward, random(3, 3) + 2 * np.eye(3), random(3, seed=1), backward=backward)


@right
def solutions_for_a_batch_of_matrices():
    def forward(a, b):
        x = np.linalg.solve(a, b)
        return x, (a, x)

    def backward(dout, cache):
        a, x = cache
        db = np.linalg.solve(np.swapaxes(a, -1, -2), dout)
        return -db @ np.swapaxes(x, -1, -2), db

    return given(forward, random(3, 2, 2) + 2 * np.eye(2), random(3, 2, 4, seed=1), backward=backward)


@right
def determinant_of_a_matrix():
    def forward(a):
        return np.linalg.det(a)

    def backward(dy, a):
        return dy * np.linalg.det(a) * np.linalg.inv(a).T

    return given(forward, random(3, 3), backward=backward)


@right
def logarithm_of_the_determinants():
    def forward(a):
        sign, logarithm = np.linalg.slogdet(a)
        return logarithm

    def backward(dy, a):
        return dy[:, None, None] * np.linalg.inv(a).transpose(0, 2, 1)

    return given(forward, random(2, 3, 3), backward=backward)


@right
def trace_of_a_product():
    def forward(a, b):
        return np.trace(a @ b)

    def backward(dy, a, b):
        return dy * b.T, dy * a.T

    return given(forward, random(3, 4), random(4, 3, seed=1), backward=backward)


@right
def kronecker_product():
    def forward(a, b):
        return np.kron(a, b)

    def backward(dy, a, b):
        blocks = dy.reshape(a.shape[0], b.shape[0], a.shape[1], b.shape[1])
        return np.einsum("ikjl,kl->ij", blocks, b), np.einsum("ikjl,ij->kl", blocks, a)

    return given(forward, random(2, 3), random(3, 2, seed=1), backward=backward)


@right
def outer_product_of_two_vectors():
    def forward(u, v):
        return np.outer(u, v)

    def backward(dy, u, v):
        return dy @ v, u @ dy

    return given(forward, random(3), random(5, seed=1), backward=backward)


@right
def frobenius_norm_of_a_matrix():
    def forward(a):
        size = np.linalg.norm(a)
        return size, (a, size)

    def backward(dout, cache):
        a, size = cache
        return dout * a / size

    return given(forward, random(3, 4), backward=backward)


@right
def quadratic_form_and_its_square_root():
    def forward(x, mean, precision):
        d = x - mean
        return np.sqrt(np.einsum("ni,ij,nj->n", d, precision, d)), (d, precision)

    def backward(dout, cache):
        d, precision = cache
        length = np.sqrt(((d @ precision) * d).sum(1))
        g = (0.5 * dout / length)[:, None]
        dx = g * (d @ (precision + precision.T))
        return dx, -dx.sum(axis=0), (g * d).T @ d

    half = random(3, 3, seed=2)
    return given(forward, random(4, 3), random(3, seed=1), half @ half.T + np.eye(3), backward=backward)


@right
def distances_between_all_rows():
    def forward(a, b):
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
        return np.sqrt(squares)

    def backward(dy, a, b):
        weight = dy / forward(a, b)
        return weight.sum(1)[:, None] * a - weight @ b, weight.sum(0)[:, None] * b - weight.T @ a

    return given(forward, random(3, 2), random(4, 2, seed=1), backward=backward)


@right
def third_power_of_a_matrix():
    def forward(a):
        return np.linalg.matrix_power(a, 3)

    def backward(dy, a):
        t = a.T
        return dy @ t @ t + t @ dy @ t + t @ t @ dy

    return given(forward, random(3, 3), backward=backward)


@right
def cross_product_of_vectors():
    def forward(a, b):
        return np.cross(a, b)

    def backward(dy, a, b):
        return np.cross(b, dy), np.cross(dy, a)

    return given(forward, random(4, 3), random(4, 3, seed=1), backward=backward)


@right
def product_of_a_chain_of_matrices():
    def forward(matrices):
        out = np.eye(matrices[0].shape[0])
        before = []
        for m in matrices:
            before.append(out)
            out = out @ m
        return out, (matrices, before)

    def backward(dout, cache):
        matrices, before = cache
        grads = [None] * len(matrices)
        for k in reversed(range(len(matrices))):
            grads[k] = before[k].T @ dout
            dout = dout @ matrices[k].T
        return grads

    return given(forward, [random(2, 3), random(3, 4, seed=1), random(4, 2, seed=2)], backward=backward)


@right
def gram_matrix_with_its_diagonal():
    def forward(x):
        gram = x @ x.T
        return [gram, np.diag(gram)]

    def backward(upstream, x):
        dgram, ddiagonal = upstream
        total = dgram + np.diag(ddiagonal)
        return (total + total.T) @ x

    return given(forward, random(3, 4), backward=backward)


@right
def symmetric_part_and_lower_triangle():
    def forward(a):
        return 0.5 * (a + a.T) + np.tril(a, -1)

    def backward(dy, a):
        return 0.5 * (dy + dy.T) + np.tril(dy, -1)

    return given(forward, random(4, 4), backward=backward)


@right
def ridge_regression():
    def forward(x, y, strength):
        a = x.T @ x + strength * np.eye(x.shape[1])
        w = np.linalg.inv(a) @ (x.T @ y)
        return w, (x, y, a, w)

    def backward(dw, cache):
        x, y, a, w = cache
        z = np.linalg.solve(a, dw)
        da = -np.outer(z, w)
        dx = np.outer(y, z) + x @ (da + da.T)
        return dx, x @ z, np.trace(da)

    return given(forward, random(5, 3), random(5, seed=1), np.array(0.5), backward=backward)
