"""Mistakes of one output or one input of several, and mistakes that an upstream gradient of ones hides."""

import numpy as np
from strangers.given import given, random, wrong


@wrong
def second_output_ignored():
    """The gradient of the second output is ignored."""

    class Cell:
        def __init__(self, n):
            self.W = random(n, n, seed=1)

        def forward(self, x, h):
            self.h, self.new = h, np.tanh(x + h @ self.W)
            return self.new, self.new.sum(axis=1)

        def backward(self, dnew, dsum):
            da = dnew * (1 - self.new**2)
            self.dW = self.h.T @ da
            return da, da @ self.W.T

    return given(Cell(3), random(2, 3), random(2, 3, seed=2))


@wrong
def features_of_output_dict_ignored():
    """Of the outputs by name, that of the features gets no gradient."""

    class Classifier:
        def __init__(self):
            self.W = random(3, 2, seed=1)

        def forward(self, x):
            self.features = np.tanh(x)
            return {"logits": self.features @ self.W, "features": self.features}

        def backward(self, dy):
            self.dW = self.features.T @ dy["logits"]
            return dy["logits"] @ self.W.T * (1 - self.features**2)

    return given(Classifier(), random(4, 3))


@wrong
def auxiliary_loss_ignored():
    """The router's balance loss, a single number, gives no gradient."""

    def forward(x, w):
        e = np.exp(x @ w)
        gates = e / e.sum(axis=1, keepdims=True)
        balance = np.sum(gates.mean(axis=0) ** 2)
        return (gates, balance), (x, w, gates)

    def backward(dgates, dbalance, cache):
        x, w, gates = cache
        dz = gates * (dgates - (dgates * gates).sum(axis=1, keepdims=True))
        return dz @ w.T, x.T @ dz

    return given(forward, random(4, 2), random(2, 3, seed=1), backward=backward)


@wrong
def split_into_list_with_last_part_zero():
    """The last of the parts gives no gradient."""

    class Split:
        def forward(self, x):
            self.shape = x.shape
            return np.split(x, [1, 3], axis=1)

        def backward(self, parts):
            dx = np.zeros(self.shape)
            dx[:, :1], dx[:, 1:3] = parts[0], parts[1]
            return dx

    return given(Split(), random(3, 5))


@wrong
def memory_gets_zeros():
    """Cross attention gives zeros to its second input, the memory."""

    class CrossAttention:
        def forward(self, x, memory):
            self.x, self.memory = x, memory
            e = np.exp(x @ memory.T)
            self.p = e / e.sum(1, keepdims=True)
            return self.p @ memory

        def backward(self, dy):
            dp = dy @ self.memory.T
            ds = self.p * (dp - (dp * self.p).sum(1, keepdims=True))
            return ds @ self.memory, np.zeros_like(self.memory)

    return given(CrossAttention(), random(2, 3), random(4, 3, seed=1))


@wrong
def second_factor_with_its_own_value():
    """d(a b)/db is taken to be b, where it is a."""
    return given(np.multiply, random(2, 3), random(2, 3, seed=1), backward=lambda dy, a, b: (dy * b, dy * b))


@wrong
def broadcast_weight_averaged():
    """The second input, one number per row, gets the mean over the row, not the sum."""

    def forward(x, gate):
        return x * gate[:, None]

    def backward(x, gate, dy):
        return dy * gate[:, None], (dy * x).mean(axis=1)

    return given(forward, random(3, 4), random(3, seed=1), backward=backward)


@wrong
def target_is_given_no_gradient():
    """The soft targets of a cross entropy are an input; their gradient is zero."""

    class SoftCrossEntropy:
        def forward(self, logits, targets):
            e = np.exp(logits - logits.max(1, keepdims=True))
            self.p, self.targets = e / e.sum(1, keepdims=True), targets
            return -np.sum(targets * np.log(self.p), axis=1)

        def backward(self, dy):
            dy = dy[:, None]
            total = self.targets.sum(1, keepdims=True)
            return dy * (total * self.p - self.targets), np.zeros_like(self.targets)

    return given(SoftCrossEntropy(), random(3, 4), random(3, 4, seed=1) ** 2)


@wrong
def one_entry_of_input_dict_wrong():
    """Of the inputs by name, the gradient of "speed" lacks the square root's factor 1/2."""

    class Mixer:
        def forward(self, inputs):
            self.inputs = inputs
            return inputs["place"] * inputs["time"] + np.sqrt(1 + inputs["speed"])

        def backward(self, dy):
            i = self.inputs
            return {"place": dy * i["time"], "time": dy * i["place"], "speed": dy / np.sqrt(1 + i["speed"])}

    return given(Mixer(), {"place": random(3), "speed": random(3, seed=1) ** 2, "time": random(3, seed=2)})


@wrong
def last_of_input_list_wrong():
    """The last of a list of inputs is weighted with the weight of the first one."""

    class WeightedSum:
        weights = (0.2, 0.3, 0.5)

        def forward(self, xs):
            return sum(w * x for w, x in zip(self.weights, xs))

        def backward(self, dy):
            grads = [w * dy for w in self.weights]
            grads[-1] = grads[0].copy()
            return grads

    return given(WeightedSum(), [random(2, 2, seed=s) for s in range(3)])


@wrong
def start_state_of_running_mean_gets_zeros():
    """The start state of an exponential mean gets zeros."""

    def forward(x, start):
        y, s = np.zeros_like(x), start
        for t in range(len(x)):
            s = 0.7 * s + 0.3 * x[t]
            y[t] = s
        return y

    def backward(dy, x, start):
        dx, ds = np.zeros_like(x), np.zeros_like(start)
        for t in range(len(x) - 1, -1, -1):
            ds = ds * 0.7 + dy[t]
            dx[t] = 0.3 * ds
        return dx, np.zeros_like(start)

    return given(forward, random(4, 2), random(2, seed=1), backward=backward)


@wrong
def mirrored_rows_not_mirrored_back():
    """backward passes dy on without turning it round; unseen where dy is all ones."""

    class Mirror:
        def forward(self, x):
            return x[..., ::-1]

        def backward(self, dy):
            return dy

    return given(Mirror(), random(2, 4))


@wrong
def shuffled_channels_not_shuffled_back():
    """backward shuffles the channels the same way again, not back."""

    class Shuffle:
        def __init__(self, groups):
            self.groups = groups

        def forward(self, x):
            n, c, length = x.shape
            return x.reshape(n, self.groups, c // self.groups, length).swapaxes(1, 2).reshape(x.shape)

        def backward(self, dy):
            return self.forward(dy)

    return given(Shuffle(2), random(1, 6, 2))


@wrong
def parabola_with_mean_of_dy():
    """The mean of dy is used for all cells."""
    return given(lambda x: x * x, random(3, 3), backward=lambda dy, x: 2 * x * dy.mean())


@wrong
def centring_gives_zeros():
    """x - mean(x) is taken to have no gradient, which is so where dy is constant."""

    class Centre:
        def forward(self, x):
            return x - x.mean(axis=1, keepdims=True)

        def backward(self, dy):
            return np.zeros_like(dy)

    return given(Centre(), random(3, 4))


@wrong
def softmax_with_ones_for_dy():
    """The product with dy is taken without dy: s * dy - s."""

    def forward(x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        s = e / e.sum(axis=1, keepdims=True)
        return s, s

    return given(forward, random(3, 4), backward=lambda dout, s: s * dout - s)


@wrong
def transposition_not_undone():
    """backward of a transposition of square images does not transpose."""

    class Transpose:
        def forward(self, x):
            return x.transpose(0, 2, 1)

        def backward(self, dy):
            return 1.0 * dy

    return given(Transpose(), random(2, 3, 3))


@wrong
def rolled_the_same_way():
    """backward rolls dy the same way as forward."""
    return given(lambda x: np.roll(x, 1, axis=0), random(5, 2), backward=lambda dy, x: np.roll(dy, 1, axis=0))
