"""Recurrent layers and scans with a mistake."""

import numpy as np
from named.given import given, mistake, random


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


class RNN:
    """tanh cell over (B, T, D); right unless a method is changed."""

    def __init__(self, d, h):
        self.Wx, self.Wh, self.b = random(d, h, seed=1), 0.6 * random(h, h, seed=2), random(h, seed=3)

    def forward(self, x):
        self.x = x
        self.h = [np.zeros((len(x), len(self.b)))]
        for t in range(x.shape[1]):
            self.h.append(np.tanh(x[:, t] @ self.Wx + self.h[-1] @ self.Wh + self.b))
        return np.stack(self.h[1:], 1)

    def carried(self, da):
        return da @ self.Wh.T

    def earlier(self, t):
        return self.h[t]

    def backward(self, dy):
        self.dWx, self.dWh, self.db = np.zeros_like(self.Wx), np.zeros_like(self.Wh), np.zeros_like(self.b)
        dx, dh = np.zeros_like(self.x), np.zeros_like(self.h[0])
        for t in reversed(range(dy.shape[1])):
            da = (dy[:, t] + dh) * (1 - self.h[t + 1] ** 2)
            self.dWx += self.x[:, t].T @ da
            self.dWh += self.earlier(t).T @ da
            self.db += da.sum(0)
            dx[:, t] = da @ self.Wx.T
            dh = self.carried(da)
        return dx


@mistake("param Wh", "wrong operand", "transposed")
def recurrent_weight_from_the_state_of_the_same_step():
    """dWh uses h_t, where h_(t-1) belongs."""

    class Layer(RNN):
        def earlier(self, t):
            return self.h[t + 1]

    return given(Layer(3, 4), random(2, 3, 3))


@mistake("input x", "lost term")
def recurrence_cut_in_backward():
    """No gradient flows from a step to the one before."""

    class Layer(RNN):
        def carried(self, da):
            return np.zeros_like(da)

    return given(Layer(2, 3), random(2, 4, 2))


@mistake("param Wf", "wrong operand")
def forget_gate_with_the_derivative_of_tanh():
    """The forget gate is a sigmoid; backward has 1 - f^2."""

    class Cell:
        def __init__(self, d, h):
            self.Wf, self.Wi, self.Wg = random(d, h, seed=1), random(d, h, seed=2), random(d, h, seed=3)

        def forward(self, x, c):
            self.x, self.c = x, c
            self.f, self.i, self.g = sigmoid(x @ self.Wf), sigmoid(x @ self.Wi), np.tanh(x @ self.Wg)
            return self.f * c + self.i * self.g

        def backward(self, dc):
            df = dc * self.c * (1 - self.f**2)
            di = dc * self.g * self.i * (1 - self.i)
            dg = dc * self.i * (1 - self.g**2)
            self.dWf, self.dWi, self.dWg = self.x.T @ df, self.x.T @ di, self.x.T @ dg
            return df @ self.Wf.T + di @ self.Wi.T + dg @ self.Wg.T, dc * self.f

    return given(Cell(3, 4), random(2, 3), random(2, 4, seed=9))


@mistake("input h", "lost term")
def gru_without_the_direct_path():
    """h' = z n + (1 - z) h; dh lacks dy (1 - z)."""

    def forward(x, h, wz, uz, wn, un):
        z = sigmoid(x @ wz + h @ uz)
        n = np.tanh(x @ wn + h @ un)
        return z * n + (1 - z) * h, (x, h, z, n, wz, uz, wn, un)

    def backward(dy, cache):
        x, h, z, n, wz, uz, wn, un = cache
        az = dy * (n - h) * z * (1 - z)
        an = dy * z * (1 - n * n)
        dh = az @ uz.T + an @ un.T
        return az @ wz.T + an @ wn.T, dh, x.T @ az, h.T @ az, x.T @ an, h.T @ an

    weights = random(3, 4, seed=2), random(4, 4, seed=3), random(3, 4, seed=4), random(4, 4, seed=5)
    return given(forward, random(2, 3), random(2, 4, seed=1), *weights, backward=backward)


@mistake("input c", "lost factor")
def lstm_output_without_the_slope_of_tanh():
    """h = o tanh(c); dc lacks 1 - tanh(c)^2."""

    class Output:
        def __init__(self):
            self.W = random(3, 4, seed=5)

        def forward(self, x, c):
            self.x, self.t, self.o = x, np.tanh(c), sigmoid(x @ self.W)
            return self.o * self.t

        def backward(self, dy):
            da = dy * self.t * self.o * (1 - self.o)
            self.dW = self.x.T @ da
            return da @ self.W.T, dy * self.o

    return given(Output(), random(2, 3), random(2, 4, seed=1))


@mistake("param a", "state", "wrong operand")
def states_of_the_first_sequence_kept():
    """forward fills the list of states only if it is empty; the recurrence's own weight reads the old ones."""

    class Leaky:
        def __init__(self):
            self.a, self.old = 0.5 + 0.2 * random(3, seed=2), []

        def forward(self, x):
            h, states = np.zeros(3), [np.zeros(3)]
            for row in x:
                h = self.a * h + row
                states.append(h)
            if not self.old:
                self.old = states
            return np.array(states[1:])

        def backward(self, dy):
            dx, dh, self.da = np.zeros_like(dy), np.zeros(3), np.zeros(3)
            for t in range(len(dy) - 1, -1, -1):
                dh = dy[t] + dh
                dx[t] = dh
                self.da += dh * self.old[t]
                dh = self.a * dh
            return dx

    layer = Leaky()
    layer.forward(random(4, 3, seed=6))
    return given(layer, random(4, 3))


@mistake("input x", "transposed")
def running_sum_summed_in_the_same_direction():
    """The gradient of a running sum runs backwards in time."""
    return given(lambda x: np.cumsum(x, axis=1), random(3, 4), backward=lambda dy, x: np.cumsum(dy, axis=1))


@mistake("param decay", "power")
def decay_gradient_keeps_its_power():
    """d(a^n)/da = n a^(n-1); backward has n a^n."""

    class Decay:
        def __init__(self):
            self.decay = np.array([0.8, 0.6])

        def forward(self, x):  # (T, 2): what is left of each step at the end
            self.x = x
            self.age = np.arange(len(x))[::-1, None]
            return (self.decay**self.age * x).sum(0)

        def backward(self, dy):
            self.ddecay = dy * (self.age * self.decay**self.age * self.x).sum(0)
            return dy * self.decay**self.age

    return given(Decay(), random(4, 2))


@mistake("input x", "end")
def difference_in_time_forgets_the_first_step():
    """y_t = x_t - x_(t-1); dx lacks the second part at the first step."""

    def forward(x):
        y = x.copy()
        y[:, 1:] -= x[:, :-1]
        return y

    def backward(dy, x):
        dx = dy.copy()
        dx[:, 1:-1] -= dy[:, 2:]
        return dx

    return given(forward, random(2, 5), backward=backward)
