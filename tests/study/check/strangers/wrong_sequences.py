"""Wrong embeddings and recurrent layers."""

import numpy as np
from strangers.given import given, random, wrong


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Embedding:
    """forward of an embedding; the wrong backward passes are below."""

    def __init__(self, count, size):
        self.W = random(count, size, seed=1)
        self.dW = np.zeros_like(self.W)

    def forward(self, ids):
        self.ids = ids
        return self.W[ids]


@wrong
def embedding_keeps_last_of_repeated_ids():
    """+= with an index array keeps only the last of repeated ids."""

    class Layer(Embedding):
        def backward(self, dy):
            self.dW = np.zeros_like(self.W)
            self.dW[self.ids] += dy

    return given(Layer(5, 3), np.array([1, 4, 1, 0, 1]))


@wrong
def embedding_gradient_is_all_zeros():
    """np.add.at goes into a copy, so that dW stays all zeros."""

    class Layer(Embedding):
        def backward(self, dy):
            self.dW[...] = 0
            np.add.at(self.dW.copy(), self.ids, dy)
            return None

    return given(Layer(4, 2), np.array([[0, 3], [2, 1]]))


@wrong
def embedding_scale_forgotten_in_backward():
    """forward multiplies by sqrt(d), backward does not."""

    def forward(ids, table):
        return table[ids] * np.sqrt(table.shape[1])

    def backward(dy, ids, table):
        dtable = np.zeros_like(table)
        for i, g in zip(ids.ravel(), dy.reshape(-1, table.shape[1])):
            dtable[i] += g
        return None, dtable

    return given(forward, np.array([[2, 0, 2]]), random(3, 4), backward=backward)


@wrong
def position_table_averaged_over_batch():
    """The position table's gradient is the mean over the batch, not the sum."""

    class Positions:
        def __init__(self, longest, size):
            self.table = random(longest, size, seed=2)
            self.table_grad = np.zeros_like(self.table)

        def forward(self, x):
            return x + self.table[: x.shape[1]]

        def backward(self, dy):
            self.table_grad[:] = 0
            self.table_grad[: dy.shape[1]] = dy.mean(axis=0)
            return dy

    return given(Positions(6, 2), random(3, 4, 2))


class RNN:
    """A right recurrent layer over a whole sequence (T, N, D)."""

    def __init__(self, d, h):
        self.Wx, self.Wh, self.b = 0.5 * random(d, h, seed=1), 0.5 * random(h, h, seed=2), random(h, seed=3)

    def forward(self, x, h0):
        self.x, self.h = x, [h0]
        for xt in x:
            self.h.append(np.tanh(xt @ self.Wx + self.h[-1] @ self.Wh + self.b))
        return np.stack(self.h[1:])

    def slope(self, t):
        return 1 - self.h[t + 1] ** 2

    def backward(self, dy):
        self.dWx, self.dWh, self.db = np.zeros_like(self.Wx), np.zeros_like(self.Wh), np.zeros_like(self.b)
        dx, dh = np.zeros_like(self.x), np.zeros_like(self.h[0])
        for t in reversed(range(len(dy))):
            da = (dy[t] + dh) * self.slope(t)
            self.dWx += self.x[t].T @ da
            self.dWh += self.h[t].T @ da
            self.db += da.sum(0)
            dx[t] = da @ self.Wx.T
            dh = self.carry(da)
        return dx, dh

    def carry(self, da):
        return da @ self.Wh.T


@wrong
def rnn_without_gradient_through_time():
    """The gradient does not flow from one time step to the one before."""

    class Layer(RNN):
        def carry(self, da):
            return np.zeros_like(da)

    return given(Layer(2, 3), random(4, 2, 2), random(2, 3, seed=5))


@wrong
def rnn_with_slope_of_step_before():
    """The derivative of tanh uses the hidden state one step too early."""

    class Layer(RNN):
        def slope(self, t):
            return 1 - self.h[t] ** 2

    return given(Layer(3, 2), random(3, 2, 3), 0.5 * random(2, 2, seed=5))


@wrong
def rnn_weight_gradient_without_sum_over_time():
    """dWx is that of the first time step; it lacks the sum over time."""

    class Layer(RNN):
        def backward(self, dy):
            result = super().backward(dy)
            dh = np.zeros_like(self.h[0])
            for t in reversed(range(len(dy))):
                da = (dy[t] + dh) * self.slope(t)
                self.dWx = self.x[t].T @ da
                dh = self.carry(da)
            return result

    return given(Layer(2, 2), random(3, 2, 2), random(2, 2, seed=5))


@wrong
def rnn_without_gradient_of_last_step():
    """The loop over time starts one step too late and ignores the last output."""

    def forward(x, u, w):
        hs = [np.zeros(len(w))]
        for xt in x:
            hs.append(np.tanh(u @ xt + w @ hs[-1]))
        return np.array(hs[1:]), (x, u, w, hs)

    def backward(dout, cache):
        x, u, w, hs = cache
        dx, du, dw, dh = np.zeros_like(x), np.zeros_like(u), np.zeros_like(w), 0
        for t in range(len(x) - 2, -1, -1):
            da = (dout[t] + dh) * (1 - hs[t + 1] ** 2)
            du += np.outer(da, x[t])
            dw += np.outer(da, hs[t])
            dx[t] = u.T @ da
            dh = w.T @ da
        return dx, du, dw

    return given(forward, random(4, 2), random(3, 2, seed=1), 0.5 * random(3, 3, seed=2), backward=backward)


@wrong
def lstm_step_with_new_cell_in_forget_gate():
    """The forget gate's gradient uses the new cell state, not the one before."""

    def step(x, h, c, W):
        z = np.concatenate([x, h], axis=1) @ W
        i, f, o, g = np.split(z, 4, axis=1)
        i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
        new = f * c + i * g
        return (o * np.tanh(new), new), (x, h, c, W, i, f, o, g, new)

    def step_backward(dh, dc, cache):
        x, h, c, W, i, f, o, g, new = cache
        dc = dc + dh * o * (1 - np.tanh(new) ** 2)
        dz = np.concatenate(
            [dc * g * i * (1 - i), dc * new * f * (1 - f), dh * np.tanh(new) * o * (1 - o), dc * i * (1 - g**2)], axis=1
        )
        dxh = dz @ W.T
        d = x.shape[1]
        return dxh[:, :d], dxh[:, d:], dc * f, np.concatenate([x, h], axis=1).T @ dz

    return given(
        step,
        random(2, 3),
        random(2, 2, seed=1),
        random(2, 2, seed=2),
        0.5 * random(5, 8, seed=3),
        backward=step_backward,
    )


@wrong
def lstm_cell_without_path_through_output():
    """The cell's gradient lacks the path through h = o * tanh(c)."""

    class LSTMCell:
        def __init__(self, d, h):
            self.W = {k: 0.5 * random(d + h, h, seed=s) for s, k in enumerate("ifog")}
            self.dW = {}

        def forward(self, x, h, c):
            xh = np.hstack([x, h])
            self.i, self.f, self.o = (sigmoid(xh @ self.W[k]) for k in "ifo")
            self.g = np.tanh(xh @ self.W["g"])
            self.c, self.new, self.xh = c, self.f * c + self.i * self.g, xh
            return self.o * np.tanh(self.new), self.new

        def backward(self, dh, dc):
            dz = {
                "i": dc * self.g * self.i * (1 - self.i),
                "f": dc * self.c * self.f * (1 - self.f),
                "o": dh * np.tanh(self.new) * self.o * (1 - self.o),
                "g": dc * self.i * (1 - self.g**2),
            }
            self.dW = {k: self.xh.T @ dz[k] for k in dz}
            dxh = sum(dz[k] @ self.W[k].T for k in dz)
            split = self.xh.shape[1] - dh.shape[1]
            return dxh[:, :split], dxh[:, split:], dc * self.f

    return given(LSTMCell(2, 3), random(2, 2), random(2, 3, seed=1), random(2, 3, seed=2))


@wrong
def gru_step_without_reset_gate_path():
    """The gradient that reaches h through the candidate is not multiplied by the reset gate."""

    class GRUCell:
        def __init__(self, n):
            self.Wr, self.Wz, self.Wn = (0.7 * random(2 * n, n, seed=s) for s in (1, 2, 3))

        def forward(self, x, h):
            xh = np.concatenate([x, h], axis=-1)
            r, z = sigmoid(xh @ self.Wr), sigmoid(xh @ self.Wz)
            xrh = np.concatenate([x, r * h], axis=-1)
            n = np.tanh(xrh @ self.Wn)
            self.cache = x, h, xh, xrh, r, z, n
            return (1 - z) * n + z * h

        def backward(self, dy):
            x, h, xh, xrh, r, z, n = self.cache
            k = x.shape[-1]
            da_n = dy * (1 - z) * (1 - n * n)
            dxrh = da_n @ self.Wn.T
            da_r = dxrh[:, k:] * h * r * (1 - r)
            da_z = dy * (h - n) * z * (1 - z)
            dxh = da_r @ self.Wr.T + da_z @ self.Wz.T
            self.dWn, self.dWr, self.dWz = xrh.T @ da_n, xh.T @ da_r, xh.T @ da_z
            return dxh[:, :k] + dxrh[:, :k], dxh[:, k:] + dy * z + dxrh[:, k:]

    return given(GRUCell(3), random(2, 3), random(2, 3, seed=4))


@wrong
def mean_over_padded_steps_divided_by_longest():
    """Each sequence's mean is over its own length; backward divides by the longest one."""

    class MeanOverTime:
        def forward(self, x, lengths):
            self.lengths = lengths
            self.mask = (np.arange(x.shape[1]) < lengths[:, None])[:, :, None]
            return (x * self.mask).sum(axis=1) / lengths[:, None]

        def backward(self, dy):
            return dy[:, None, :] * self.mask / self.mask.shape[1]

    return given(MeanOverTime(), random(3, 4, 2), np.array([4, 2, 1]))


@wrong
def backward_direction_not_turned_back():
    """The reversed half of a two-way running mean is not turned back in time."""

    def running(x, decay=0.6):
        out, s = [], 0
        for xt in x:
            s = decay * s + xt
            out.append(s)
        return np.array(out)

    def forward(x):
        return np.concatenate([running(x), running(x[::-1])[::-1]], axis=1)

    def backward(dy, x):
        k = x.shape[1]
        return running(dy[::-1, :k])[::-1] + running(dy[::-1, k:])

    return given(forward, random(5, 2), backward=backward)
