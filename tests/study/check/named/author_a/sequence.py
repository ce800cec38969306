"""Recurrent layers, convolutions, pooling and embeddings with a named mistake."""

import numpy as np
from named.given import given, mistake, random


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@mistake("param U", "lost term")
def recurrence_cut_at_every_step():
    """The gradient of the state is not handed to the step before."""

    class RNN:
        def __init__(self, n, hidden):
            self.W, self.U = random(n, hidden, seed=1), 0.7 * random(hidden, hidden, seed=2)

        def forward(self, x):
            self.x, self.h = x, [np.zeros(self.U.shape[0])]
            for row in x:
                self.h.append(np.tanh(row @ self.W + self.h[-1] @ self.U))
            return np.array(self.h[1:])

        def backward(self, dy):
            self.dW, self.dU, dx = np.zeros_like(self.W), np.zeros_like(self.U), np.zeros_like(self.x)
            for t in range(len(dy))[::-1]:
                dz = dy[t] * (1 - self.h[t + 1] ** 2)
                self.dW += np.outer(self.x[t], dz)
                self.dU += np.outer(self.h[t], dz)
                dx[t] = self.W @ dz
            return dx

    return given(RNN(3, 4), random(5, 3, seed=3))


@mistake("param b", "one example")
def recurrent_bias_of_last_step_only():
    """db is overwritten at each step of the loop; that of the first step of time stays."""

    class RNN:
        def __init__(self, n, hidden):
            self.W, self.U = random(n, hidden, seed=4), 0.5 * random(hidden, hidden, seed=5)
            self.b = random(hidden, seed=6)

        def forward(self, x):
            self.x, h, self.h = x, np.zeros((len(x), len(self.b))), []
            for t in range(x.shape[1]):
                h = np.tanh(x[:, t] @ self.W + h @ self.U + self.b)
                self.h.append(h)
            return np.stack(self.h, axis=1)

        def backward(self, dy):
            self.dW, self.dU = 0, 0
            dx, carried = np.empty_like(self.x), 0
            for t in reversed(range(dy.shape[1])):
                dz = (dy[:, t] + carried) * (1 - self.h[t] ** 2)
                before = self.h[t - 1] if t else np.zeros_like(dz)
                self.dW, self.dU = self.dW + self.x[:, t].T @ dz, self.dU + before.T @ dz
                self.db = dz.sum(0)
                dx[:, t], carried = dz @ self.W.T, dz @ self.U.T
            return dx

    return given(RNN(2, 3), random(2, 4, 2, seed=7))


class Cell:
    """One step of an LSTM, (x, h, c) -> c'; right unless a subclass changes a step."""

    def __init__(self, n, hidden):
        self.params = {g: 0.6 * random(n + hidden, hidden, seed=s) for s, g in enumerate("ifg", 8)}
        self.grads = {}

    def forward(self, x, h, c):
        self.xh, self.c, self.n = np.hstack([x, h]), c, x.shape[1]
        self.i, self.f = sigmoid(self.xh @ self.params["i"]), sigmoid(self.xh @ self.params["f"])
        self.g = np.tanh(self.xh @ self.params["g"])
        return self.f * c + self.i * self.g

    def backward(self, dc):
        dz = {"i": dc * self.g * self.i * (1 - self.i), "f": self.forget(dc), "g": dc * self.i * (1 - self.g**2)}
        dxh = 0
        for gate, d in dz.items():
            self.grads[gate] = self.xh.T @ d
            dxh = dxh + d @ self.params[gate].T
        return dxh[:, : self.n], dxh[:, self.n :], self.previous(dc)

    def forget(self, dc):
        return dc * self.c * self.f * (1 - self.f)

    def previous(self, dc):
        return dc * self.f


@mistake("param params.f", "lost factor")
def forget_gate_without_derivative():
    """f (1 - f) is missing in the forget gate."""

    class Layer(Cell):
        def forget(self, dc):
            return dc * self.c

    return given(Layer(2, 3), random(4, 2, seed=12), random(4, 3, seed=13), random(4, 3, seed=14))


@mistake("input c", "wrong operand")
def previous_cell_gets_input_gate():
    """dc is multiplied by the input gate, where the forget gate belongs."""

    class Layer(Cell):
        def previous(self, dc):
            return dc * self.i

    return given(Layer(3, 2), random(5, 3, seed=15), random(5, 2, seed=16), random(5, 2, seed=17))


@mistake("input h", "lost term")
def gru_without_carried_state():
    """h' = (1 - z) n + z h; dh lacks the summand dy * z."""

    class GRUStep:
        def __init__(self, n, hidden):
            self.Wz, self.Uz = random(n, hidden, seed=18), random(hidden, hidden, seed=19)
            self.Wn, self.Un = random(n, hidden, seed=20), random(hidden, hidden, seed=21)

        def __call__(self, x, h):
            self.x, self.h = x, h
            self.z = sigmoid(x @ self.Wz + h @ self.Uz)
            self.n = np.tanh(x @ self.Wn + h @ self.Un)
            return (1 - self.z) * self.n + self.z * h

        def backward(self, dy):
            dn = dy * (1 - self.z) * (1 - self.n**2)
            dz = dy * (self.h - self.n) * self.z * (1 - self.z)
            self.dWn, self.dUn = self.x.T @ dn, self.h.T @ dn
            self.dWz, self.dUz = self.x.T @ dz, self.h.T @ dz
            return dn @ self.Wn.T + dz @ self.Wz.T, dn @ self.Un.T + dz @ self.Uz.T

    return given(GRUStep(2, 4), random(3, 2, seed=22), random(3, 4, seed=23))


@mistake("param Ur", "wrong operand", "lost factor")
def reset_gate_weight_from_input_of_candidate():
    """dUr uses r * h, what the candidate sees, where the gate sees h."""

    class ResetGate:
        def __init__(self, hidden):
            self.Ur, self.U = random(hidden, hidden, seed=24), random(hidden, hidden, seed=25)

        def forward(self, h):
            self.h, self.r = h, sigmoid(h @ self.Ur)
            self.n = np.tanh((self.r * h) @ self.U)
            return self.n

        def backward(self, dn):
            dz = dn * (1 - self.n**2)
            self.dU = (self.r * self.h).T @ dz
            drh = dz @ self.U.T
            dr = drh * self.h * self.r * (1 - self.r)
            self.dUr = (self.r * self.h).T @ dr
            return drh * self.r + dr @ self.Ur.T

    return given(ResetGate(3), random(4, 3, seed=26))


@mistake("param E", "repeated ids")
def embedding_keeps_last_of_equal_words():
    """dE[ids] = dy, where the rows of equal words must be added."""

    class Embedding:
        def __init__(self, words, size):
            self.E = random(words, size, seed=27)

        def forward(self, ids):
            self.ids = ids
            return self.E[ids]

        def backward(self, dy):
            self.dE = np.zeros_like(self.E)
            self.dE[self.ids] = dy

    return given(Embedding(6, 3), np.array([[1, 4, 1, 0], [4, 2, 2, 1]]))


@mistake("param P", "one example")
def position_table_from_first_sequence():
    """The positions' gradient is that of the first sequence of the batch."""

    class Positions:
        def __init__(self, length, size):
            self.P = random(length, size, seed=28)

        def forward(self, x):
            self.t = x.shape[1]
            return x + self.P[: self.t]

        def backward(self, dy):
            self.dP = np.zeros_like(self.P)
            self.dP[: self.t] = dy[0]
            return dy

    return given(Positions(6, 2), random(3, 4, 2, seed=29))


@mistake("input x", "transposed")
def convolution_without_flipped_kernel():
    """dx correlates dy with the kernel as forward does; the kernel must be flipped."""

    def conv(x, k):
        return np.correlate(x, k, mode="same")

    def conv_backward(dy, x, k):
        padded = np.pad(x, len(k) // 2)
        return conv(dy, k), np.correlate(padded, dy, mode="valid")

    return given(conv, random(7, seed=30), random(3, seed=31), backward=conv_backward)


@mistake("input x", "end", "one example")
def convolution_loses_the_last_column():
    """The loop over windows in backward ends one window early."""

    class Conv1d:
        def __init__(self, n_out, n_in, size):
            self.K = random(n_out, n_in, size, seed=32)

        def forward(self, x):
            self.x, size = x, self.K.shape[2]
            windows = [x[:, :, t : t + size] for t in range(x.shape[2] - size + 1)]
            return np.stack([np.einsum("bis,ois->bo", w, self.K) for w in windows], axis=2)

        def backward(self, dy):
            dx, self.dK, size = np.zeros_like(self.x), np.zeros_like(self.K), self.K.shape[2]
            for t in range(dy.shape[2]):
                self.dK += np.einsum("bo,bis->ois", dy[:, :, t], self.x[:, :, t : t + size])
            for t in range(dy.shape[2] - 1):
                dx[:, :, t : t + size] += np.einsum("bo,ois->bis", dy[:, :, t], self.K)
            return dx

    return given(Conv1d(2, 3, 2), random(2, 3, 6, seed=33))


@mistake("input x", "mask")
def max_pool_sends_to_all_of_a_window():
    """Every cell of a window gets the gradient, not the largest only."""

    class MaxPool:
        def forward(self, x):
            b, h, w = x.shape
            return x.reshape(b, h // 2, 2, w // 2, 2).max(axis=(2, 4))

        def backward(self, dy):
            return dy.repeat(2, axis=1).repeat(2, axis=2)

    return given(MaxPool(), random(2, 4, 6, seed=34))


@mistake("input x", "factor")
def average_pool_without_division():
    """Each cell gets dy, where dy / 3 belongs."""

    def pool(x):
        return x.reshape(*x.shape[:-1], -1, 3).mean(-1)

    return given(pool, random(2, 6, seed=35), backward=lambda dy: np.repeat(dy, 3, axis=-1))


@mistake("input x", "transposed")
def running_sum_backward_in_wrong_direction():
    """The transpose of a running sum runs from the end; backward runs from the start."""

    class RunningSum:
        def forward(self, x):
            return np.cumsum(x, axis=1)

        def backward(self, dy):
            return np.cumsum(dy, axis=1)

    return given(RunningSum(), random(3, 5, seed=36))


@mistake("input x", "end", "one example")
def token_shift_forgets_first_step():
    """y[t] = a x[t] + (1 - a) x[t - 1]; the first step gets no gradient from y[0]."""

    class TokenShift:
        def __init__(self, n):
            self.a = sigmoid(random(n, seed=37))

        def forward(self, x):
            self.x, self.before = x, np.vstack([np.zeros((1, x.shape[1])), x[:-1]])
            return self.a * x + (1 - self.a) * self.before

        def backward(self, dy):
            self.da = ((self.x - self.before) * dy).sum(0)
            dx = np.zeros_like(dy)
            dx[1:] = self.a * dy[1:]
            dx[:-1] += (1 - self.a) * dy[1:]
            return dx

    return given(TokenShift(3), random(5, 3, seed=38))


@mistake("param decay", "power", "lost factor")
def decay_kernel_without_exponent():
    """The kernel is decay^t; its derivative lacks the factor t."""

    class Decay:
        def __init__(self, n):
            self.decay = 0.4 + 0.5 * sigmoid(random(n, seed=39))

        def forward(self, x):
            self.x, self.t = x, np.arange(len(x))[::-1, None]
            return (x * self.decay**self.t).sum(0)

        def backward(self, dy):
            self.ddecay = dy * (self.x * self.decay ** np.maximum(self.t - 1, 0) * (self.t > 0)).sum(0)
            return dy * self.decay**self.t

    return given(Decay(3), random(5, 3, seed=40))
