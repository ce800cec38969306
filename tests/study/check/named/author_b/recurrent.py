"""Wrong layers in the style of "RNN in 100 lines": recurrent nets, LSTM and GRU in NumPy."""

import numpy as np
from named.given import given, mistake, random


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class RNN:
    """A plain recurrent net over x of shape (T, n); the wrong backward passes are below."""

    def __init__(self, n, hidden):
        self.Wxh, self.Whh = random(n, hidden, seed=1), 0.6 * random(hidden, hidden, seed=2)
        self.bh = random(hidden, seed=3)

    def forward(self, x):
        self.x, self.hs = x, [np.zeros(len(self.bh))]
        for xt in x:
            self.hs.append(np.tanh(xt @ self.Wxh + self.hs[-1] @ self.Whh + self.bh))
        return np.array(self.hs[1:])

    def clear(self):
        self.dWxh, self.dWhh, self.dbh = np.zeros_like(self.Wxh), np.zeros_like(self.Whh), np.zeros_like(self.bh)
        return np.zeros_like(self.x), np.zeros_like(self.bh)

    def step(self, t, dh):
        """Go back through step t, and return the gradients of its input and of the state before it."""
        dz = dh * (1 - self.hs[t + 1] ** 2)
        self.dWxh += np.outer(self.x[t], dz)
        self.dWhh += np.outer(self.hs[t], dz)
        self.dbh += dz
        return dz @ self.Wxh.T, dz @ self.Whh.T


@mistake("input x", "lost term", "own position")
def state_gradient_not_carried_back():
    """dh_next is computed and never taken over. Public thread: the two lines were missing in an LSTM's loop."""

    class Forgetful(RNN):
        def backward(self, dy):
            dx, dh_next = self.clear()
            for t in reversed(range(len(dy))):
                dx[t], _dh_prev = self.step(t, dy[t] + dh_next)
            return dx

    return given(Forgetful(3, 4), random(5, 3))


@mistake("input x", "lost term", "size")
def back_through_three_steps_only():
    """Truncated backpropagation: a step gets the gradient of the three outputs from its own on."""

    class Truncated(RNN):
        def backward(self, dy, bptt_truncate=3):
            dx, _ = self.clear()
            for t in range(len(dy)):
                dh = dy[t]
                for s in reversed(range(max(0, t - bptt_truncate + 1), t + 1)):
                    d, dh = self.step(s, dh)
                    dx[s] += d
            return dx

    return given(Truncated(2, 3), random(6, 2))


@mistake("param Whh", "wrong operand", "transposed")
def recurrent_weight_with_the_next_state():
    """dWhh uses h_t, where h_(t-1) belongs: the list of states is off by one."""

    class OffByOne(RNN):
        def backward(self, dy):
            dx, dh = self.clear()
            dWhh = np.zeros_like(self.Whh)
            for t in reversed(range(len(dy))):
                dh = dy[t] + dh
                dWhh += np.outer(self.hs[t + 1], dh * (1 - self.hs[t + 1] ** 2))
                dx[t], dh = self.step(t, dh)
            self.dWhh = dWhh
            return dx

    return given(OffByOne(2, 4), random(3, 2))


@mistake("param Whh", "size", "other")
def gradients_clipped_in_backward():
    """The loop ends with clip(-1, 1), as the well-known short program does; large entries are cut."""

    class Clipping(RNN):
        def backward(self, dy):
            dx, dh = self.clear()
            for t in reversed(range(len(dy))):
                dx[t], dh = self.step(t, dy[t] + dh)
            np.clip(self.dWhh, -0.7, 0.7, out=self.dWhh)
            return dx

    return given(Clipping(3, 4), random(6, 3))


@mistake("input h", "power", "lost factor")
def tanh_of_the_cell_divided_out():
    """dt = dh / (1 - h^2). Public thread: a reader proposed this as the correction of a book's right code."""

    class Cell:
        def __init__(self):
            self.Wx, self.Wh = random(3, 4, seed=1), random(4, 4, seed=2)

        def forward(self, x, h):
            self.cache = x, h, np.tanh(0.5 * (x @ self.Wx + h @ self.Wh))
            return self.cache[2]

        def backward(self, dh_next):
            x, h, h_next = self.cache
            dt = 0.5 * dh_next / (1 - h_next**2)
            self.dWx, self.dWh = x.T @ dt, h.T @ dt
            return dt @ self.Wx.T, dt @ self.Wh.T

    return given(Cell(), random(2, 3), random(2, 4, seed=5))


class LSTMCell:
    """One step of an LSTM from (x, h, c) to h; the wrong backward passes are below."""

    def __init__(self, n, hidden):
        for i, gate in enumerate("figo"):
            setattr(self, f"W{gate}", random(n + hidden, hidden, seed=i))
            setattr(self, f"b{gate}", random(hidden, seed=10 + i))

    def forward(self, x, h, c):
        z = self.z = np.hstack([x, h])
        self.f, self.i = sigmoid(z @ self.Wf + self.bf), sigmoid(z @ self.Wi + self.bi)
        self.g, self.o = np.tanh(z @ self.Wg + self.bg), sigmoid(z @ self.Wo + self.bo)
        self.c_prev, self.n = c, x.shape[1]
        self.tc = np.tanh(self.f * c + self.i * self.g)
        return self.o * self.tc

    def gates_backward(self, df, di, dg, do, dc):
        """Take the gradients of the gates before their activations; return those of x, h and c."""
        dz = 0
        for gate, d in zip("figo", (df, di, dg, do), strict=True):
            setattr(self, f"dW{gate}", self.z.T @ d)
            setattr(self, f"db{gate}", d.sum(0))
            dz = dz + d @ getattr(self, f"W{gate}").T
        return dz[:, : self.n], dz[:, self.n :], dc * self.f

    def slopes(self, dh):
        dc = dh * self.o * (1 - self.tc**2)
        df = dc * self.c_prev * self.f * (1 - self.f)
        di, dg = dc * self.g * self.i * (1 - self.i), dc * self.i * (1 - self.g**2)
        return df, di, dg, dh * self.tc * self.o * (1 - self.o), dc


@mistake("param Wf", "wrong operand", "lost factor", "other")
def forget_gate_multiplied_by_its_sigmoid():
    """df = sigmoid(f) df instead of f (1 - f) df. Public thread: `derivative=True` was forgotten in the call."""

    class Cell(LSTMCell):
        def backward(self, dh):
            _, di, dg, do, dc = self.slopes(dh)
            return self.gates_backward(sigmoid(self.f) * dc * self.c_prev, di, dg, do, dc)

    return given(Cell(2, 3), random(4, 2), random(4, 3, seed=21), random(4, 3, seed=22))


@mistake("param bi", "wrong operand")
def input_gate_bias_gets_the_forget_gates_gradient():
    """db of the input gate is copied from the forget gate's line. Public thread: two such lines in an LSTM."""

    class Cell(LSTMCell):
        def backward(self, dh):
            slopes = self.slopes(dh)
            found = self.gates_backward(*slopes)
            self.dbi = slopes[0].sum(0)
            return found

    return given(Cell(3, 2), random(5, 3), random(5, 2, seed=21), random(5, 2, seed=22))


@mistake("param Wz", "sign")
def update_gate_with_old_and_new_exchanged():
    """h' = (1 - z) h + z n, but dz = dh' (h - n)."""

    class GRUCell:
        def __init__(self, n, m):
            self.Wz, self.Wn = random(n + m, m, seed=1), random(n + m, m, seed=2)

        def forward(self, x, h):
            self.xh, self.h = np.hstack([x, h]), h
            self.z, self.n = sigmoid(self.xh @ self.Wz), np.tanh(self.xh @ self.Wn)
            return (1 - self.z) * h + self.z * self.n

        def backward(self, dh):
            dz = dh * (self.h - self.n) * self.z * (1 - self.z)
            dn = dh * self.z * (1 - self.n**2)
            self.dWz, self.dWn = self.xh.T @ dz, self.xh.T @ dn
            dxh = dz @ self.Wz.T + dn @ self.Wn.T
            return dxh[:, : -dh.shape[1]], dxh[:, -dh.shape[1] :] + dh * (1 - self.z)

    return given(GRUCell(3, 2), random(4, 3), random(4, 2, seed=9))


@mistake("input x", "end")
def smoothing_filter_forgets_the_first_step():
    """The loop back over the steps ends before the first one: range(T - 1, 0, -1)."""

    class Smoothing:
        def __init__(self):
            self.decay = random(3, seed=4) ** 2 / 3

        def forward(self, x):
            s, out = np.zeros(x.shape[1]), []
            for xt in x:
                s = self.decay * s + xt
                out.append(s)
            return np.array(out)

        def backward(self, dy):
            dx, ds = np.zeros_like(dy), np.zeros(dy.shape[1])
            for t in range(len(dy) - 1, 0, -1):
                ds = dy[t] + self.decay * ds
                dx[t] = ds
            return dx

    return given(Smoothing(), random(5, 3), constants=["decay"])


@mistake("input h0", "zero")
def initial_state_without_gradient():
    """backward returns zeros for the initial state."""

    class Linear:
        def __init__(self):
            self.A = 0.5 * random(3, 3, seed=1)

        def forward(self, x, h0):
            self.hs = [h0]
            for xt in x:
                self.hs.append(self.hs[-1] @ self.A + xt)
            return np.array(self.hs[1:])

        def backward(self, dy):
            dx, dh, self.dA = np.zeros_like(dy), np.zeros(3), np.zeros_like(self.A)
            for t in reversed(range(len(dy))):
                dh = dy[t] + dh
                dx[t] = dh
                self.dA += np.outer(self.hs[t], dh)
                dh = dh @ self.A.T
            return dx, np.zeros_like(self.hs[0])

    return given(Linear(), random(4, 3), random(3, seed=6))
