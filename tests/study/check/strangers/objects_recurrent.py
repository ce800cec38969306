"""Recurrent layers: loops over time, forwards and backwards."""

import numpy as np
from strangers.given import given, random, right


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class RNN:
    def __init__(self, n, hidden):
        rng = np.random.default_rng(1)
        self.Wx, self.Wh = rng.normal(size=(n, hidden)) * 0.5, rng.normal(size=(hidden, hidden)) * 0.5
        self.b = np.zeros(hidden)

    def forward(self, x):
        self.x = x
        self.hs = [np.zeros((x.shape[0], len(self.b)))]
        for t in range(x.shape[1]):
            self.hs.append(np.tanh(x[:, t] @ self.Wx + self.hs[-1] @ self.Wh + self.b))
        return np.stack(self.hs[1:], axis=1)

    def backward(self, dhs):
        self.dWx, self.dWh, self.db = np.zeros_like(self.Wx), np.zeros_like(self.Wh), np.zeros_like(self.b)
        dx, dh = np.zeros_like(self.x), 0
        for t in reversed(range(self.x.shape[1])):
            dz = (dhs[:, t] + dh) * (1 - self.hs[t + 1] ** 2)
            self.dWx += self.x[:, t].T @ dz
            self.dWh += self.hs[t].T @ dz
            self.db += dz.sum(axis=0)
            dx[:, t] = dz @ self.Wx.T
            dh = dz @ self.Wh.T
        return dx


@right
def rnn_over_a_sequence():
    return given(RNN(3, 4), random(2, 5, 3))


class CharacterRNN:
    """Column vectors, a starting state as second input, the last state as second output."""

    def __init__(self, vocabulary, hidden):
        rng = np.random.RandomState(2)
        self.Wxh = rng.randn(hidden, vocabulary) * 0.4
        self.Whh = rng.randn(hidden, hidden) * 0.4
        self.Why = rng.randn(vocabulary, hidden) * 0.4
        self.bh, self.by = np.zeros((hidden, 1)), np.zeros((vocabulary, 1))

    def forward(self, inputs, h0):
        self.xs, self.hs = {}, {-1: h0.copy()}
        ys = []
        for t, ix in enumerate(inputs):
            self.xs[t] = np.zeros((self.Wxh.shape[1], 1))
            self.xs[t][ix] = 1
            self.hs[t] = np.tanh(self.Wxh @ self.xs[t] + self.Whh @ self.hs[t - 1] + self.bh)
            ys.append(self.Why @ self.hs[t] + self.by)
        return np.array(ys), self.hs[len(inputs) - 1]

    def backward(self, dys, dh_last):
        self.dWxh, self.dWhh, self.dWhy = map(np.zeros_like, (self.Wxh, self.Whh, self.Why))
        self.dbh, self.dby = np.zeros_like(self.bh), np.zeros_like(self.by)
        dhnext = dh_last
        for t in range(len(self.xs) - 1, -1, -1):
            self.dWhy += dys[t] @ self.hs[t].T
            self.dby += dys[t]
            dh = self.Why.T @ dys[t] + dhnext
            draw = (1 - self.hs[t] * self.hs[t]) * dh
            self.dbh += draw
            self.dWxh += draw @ self.xs[t].T
            self.dWhh += draw @ self.hs[t - 1].T
            dhnext = self.Whh.T @ draw
        return dhnext


@right
def character_rnn_with_a_starting_state():
    return given(CharacterRNN(4, 3), [0, 2, 2, 1], random(3, 1))


class LSTMCell:
    def __init__(self, n, hidden):
        rng = np.random.default_rng(3)
        self.weights = {gate: rng.normal(size=(n + hidden, hidden)) * 0.5 for gate in "ifog"}
        self.biases = {gate: np.full(hidden, float(gate == "f")) for gate in "ifog"}
        self.grads = {}

    def forward(self, x, h, c):
        z = np.concatenate([x, h], axis=1)
        a = {gate: z @ w + self.biases[gate] for gate, w in self.weights.items()}
        i, f, o, g = sigmoid(a["i"]), sigmoid(a["f"]), sigmoid(a["o"]), np.tanh(a["g"])
        new_c = f * c + i * g
        self.saved = z, i, f, o, g, c, np.tanh(new_c), x.shape[1]
        return o * self.saved[6], new_c

    def backward(self, dh, dc):
        z, i, f, o, g, c, tanh_c, n = self.saved
        dc = dc + dh * o * (1 - tanh_c**2)
        d = {
            "i": dc * g * i * (1 - i),
            "f": dc * c * f * (1 - f),
            "o": dh * tanh_c * o * (1 - o),
            "g": dc * i * (1 - g**2),
        }
        self.grads = {"weights": {k: z.T @ v for k, v in d.items()}, "biases": {k: v.sum(0) for k, v in d.items()}}
        dz = sum(v @ self.weights[k].T for k, v in d.items())
        return dz[:, :n], dz[:, n:], dc * f


@right
def lstm_cell_with_two_outputs():
    names = [(kind, gate) for kind in ("weights", "biases") for gate in "ifog"]
    layer = LSTMCell(3, 4)
    return given(
        layer,
        random(2, 3),
        random(2, 4, seed=1),
        random(2, 4, seed=2),
        params={kind + gate: getattr(layer, kind)[gate] for kind, gate in names},
        grads={kind + gate: f"grads.{kind}.{gate}" for kind, gate in names},
    )


class LSTM:
    """One matrix for the four gates; returns the sequence and both last states."""

    def __init__(self, n, m):
        rng = np.random.default_rng(4)
        self.W, self.U = rng.normal(size=(n, 4 * m)) * 0.4, rng.normal(size=(m, 4 * m)) * 0.4
        self.b = np.zeros(4 * m)
        self.b[m : 2 * m] = 1
        self.m = m

    def forward(self, x):
        n, length, _ = x.shape
        h, c = np.zeros((n, self.m)), np.zeros((n, self.m))
        self.x, self.steps, outputs = x, [], []
        for t in range(length):
            gates = x[:, t] @ self.W + h @ self.U + self.b
            i, f, o = [sigmoid(part) for part in np.split(gates[:, : 3 * self.m], 3, axis=1)]
            g = np.tanh(gates[:, 3 * self.m :])
            previous_h, previous_c = h, c
            c = f * c + i * g
            h = o * np.tanh(c)
            self.steps.append((previous_h, previous_c, i, f, o, g, np.tanh(c)))
            outputs.append(h)
        return np.stack(outputs, axis=1), h, c

    def backward(self, d_outputs, dh, dc):
        self.dW, self.dU, self.db = np.zeros_like(self.W), np.zeros_like(self.U), np.zeros_like(self.b)
        dx = np.zeros_like(self.x)
        for t in range(len(self.steps) - 1, -1, -1):
            ph, pc, i, f, o, g, tc = self.steps[t]
            dh = dh + d_outputs[:, t]
            dc = dc + dh * o * (1 - tc * tc)
            dg = np.hstack([dc * g * i * (1 - i), dc * pc * f * (1 - f), dh * tc * o * (1 - o), dc * i * (1 - g * g)])
            self.dW += self.x[:, t].T @ dg
            self.dU += ph.T @ dg
            self.db += dg.sum(0)
            dx[:, t] = dg @ self.W.T
            dh, dc = dg @ self.U.T, dc * f
        return dx


class LSTMSequence(LSTM):
    def forward(self, x):
        return super().forward(x)[0]

    def backward(self, dh):
        zero = np.zeros((len(dh), self.m))
        return super().backward(dh, zero, zero)


@right
def lstm_over_a_sequence():
    return given(LSTMSequence(3, 2), random(2, 4, 3))


@right
def lstm_that_also_returns_its_last_states():
    return given(LSTM(2, 3), random(2, 3, 2))


class GRU:
    def __init__(self, n, m):
        rng = np.random.default_rng(5)
        self.params = {name + g: rng.normal(size=(n if name == "W" else m, m)) * 0.5 for name in "WU" for g in "zrh"}
        self.params.update({"b" + g: np.zeros(m) for g in "zrh"})
        self.grads = {name: np.zeros_like(p) for name, p in self.params.items()}

    def forward(self, x, h0):
        p = self.params
        self.x, self.trace = x, []
        h, out = h0, []
        for x_t in x.swapaxes(0, 1):
            z = sigmoid(x_t @ p["Wz"] + h @ p["Uz"] + p["bz"])
            r = sigmoid(x_t @ p["Wr"] + h @ p["Ur"] + p["br"])
            candidate = np.tanh(x_t @ p["Wh"] + (r * h) @ p["Uh"] + p["bh"])
            self.trace.append((x_t, h, z, r, candidate))
            h = (1 - z) * h + z * candidate
            out.append(h)
        return np.stack(out, axis=1)

    def backward(self, dy):
        p, g = self.params, {name: np.zeros_like(v) for name, v in self.params.items()}
        dx, dh = np.zeros(self.x.shape), np.zeros(dy[:, 0].shape)
        for t, (x_t, h, z, r, candidate) in reversed(list(enumerate(self.trace))):
            dh = dh + dy[:, t]
            a_h = dh * z * (1 - candidate**2)
            d_rh = a_h @ p["Uh"].T
            a_z = dh * (candidate - h) * z * (1 - z)
            a_r = d_rh * h * r * (1 - r)
            for gate, a, state in (("z", a_z, h), ("r", a_r, h), ("h", a_h, r * h)):
                g["W" + gate] += x_t.T @ a
                g["U" + gate] += state.T @ a
                g["b" + gate] += a.sum(axis=0)
                dx[:, t] += a @ p["W" + gate].T
            dh = dh * (1 - z) + d_rh * r + a_z @ p["Uz"].T + a_r @ p["Ur"].T
        self.grads.update(g)
        return {"x": dx, "h0": dh}


@right
def gru_with_a_starting_state():
    return given(GRU(3, 2), random(2, 4, 3), random(2, 2, seed=1))


class Bidirectional:
    def __init__(self, n, m):
        self.there, self.back = RNN(n, m), RNN(n, m)
        self.back.Wx = -0.5 * self.back.Wx
        self.back.b = np.ones(m)

    def forward(self, x):
        return np.concatenate([self.there.forward(x), self.back.forward(x[:, ::-1])[:, ::-1]], axis=2)

    def backward(self, dy):
        d_there, d_back = np.split(dy, 2, axis=2)
        return self.there.backward(d_there) + self.back.backward(d_back[:, ::-1])[:, ::-1]


@right
def bidirectional_rnn():
    return given(Bidirectional(2, 3), random(2, 4, 2))


class LastStateRNN:
    """Recurrent matrix starts as the identity, relu units, only the last state is returned; learning-rate style."""

    def __init__(self, n, m):
        self.w_in = np.random.default_rng(6).normal(size=(n, m))
        self.w_rec = np.eye(m)

    def forward(self, x):
        self.x, self.states = x, [np.zeros((x.shape[0], self.w_rec.shape[0]))]
        for t in range(x.shape[1]):
            a = np.dot(x[:, t], self.w_in) + np.dot(self.states[-1], self.w_rec)
            self.states.append(np.maximum(a, 0))
        return self.states[-1]

    def backward(self, grad, learning_rate):
        g_in, g_rec = np.zeros_like(self.w_in), np.zeros_like(self.w_rec)
        dx = np.zeros(self.x.shape)
        for t in range(self.x.shape[1] - 1, -1, -1):
            grad = grad * (self.states[t + 1] > 0)
            g_in += np.dot(self.x[:, t].T, grad)
            g_rec += np.dot(self.states[t].T, grad)
            dx[:, t] = np.dot(grad, self.w_in.T)
            grad = np.dot(grad, self.w_rec.T)
        self.w_in -= learning_rate * g_in
        self.w_rec -= learning_rate * g_rec
        return dx


@right
def relu_rnn_that_starts_at_the_identity_and_updates_itself():
    return given(LastStateRNN(2, 3), 1 + random(2, 4, 2))


class LeakyIntegrator:
    """One decay rate per unit, kept between 0 and 1 by a sigmoid; padded steps keep the state."""

    def __init__(self, n):
        self.decay = np.zeros(n)

    def forward(self, x, lengths):
        self.k = sigmoid(self.decay)
        self.history, h = [], np.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            live = (t < lengths)[:, None]
            new = np.where(live, self.k * h + (1 - self.k) * x[:, t], h)
            self.history.append((live, h, x[:, t]))
            h = new
        return h

    def backward(self, dh):
        dk, d_steps = np.zeros_like(self.k), []
        for live, h, x_t in self.history[::-1]:
            active = np.where(live, dh, 0)
            dk += (active * (h - x_t)).sum(axis=0)
            d_steps.insert(0, active * (1 - self.k))
            dh = np.where(live, dh * self.k, dh)
        self.d_decay = dk * self.k * (1 - self.k)
        return np.stack(d_steps, axis=1)


@right
def leaky_integrator_over_padded_sequences():
    return given(LeakyIntegrator(3), random(3, 4, 3), np.array([4, 2, 3]))
