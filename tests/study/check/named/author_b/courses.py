"""Wrong layers in the style of course assignments and tutorials: plain networks, activations, dropout, batch norm."""

import numpy as np
from named.given import given, mistake, random


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


class TwoLayerNet:
    """Columns are examples, as in the course; the wrong backward passes are below."""

    def __init__(self, n_in, n_hidden, n_out):
        self.W1, self.b1 = random(n_hidden, n_in, seed=1), random(n_hidden, 1, seed=2)
        self.W2, self.b2 = random(n_out, n_hidden, seed=3), random(n_out, 1, seed=4)

    def forward(self, X):
        self.X = X
        self.Z1 = self.W1 @ X + self.b1
        self.A1 = np.maximum(0, self.Z1)
        self.A2 = sigmoid(self.W2 @ self.A1 + self.b2)
        return self.A2

    def all_gradients(self, dA2):
        dZ2 = dA2 * self.A2 * (1 - self.A2)
        self.dW2, self.db2 = dZ2 @ self.A1.T, dZ2.sum(axis=1, keepdims=True)
        dZ1 = (self.W2.T @ dZ2) * (self.Z1 > 0)
        self.dW1, self.db1 = dZ1 @ self.X.T, dZ1.sum(axis=1, keepdims=True)
        return self.W1.T @ dZ1


@mistake("param W2", "factor")
def gradient_checking_exercise_dw2_doubled():
    """dW2 is multiplied by 2. Public thread: the exercise on gradient checking was handed in with its planted `* 2`."""

    class Net(TwoLayerNet):
        def backward(self, dA2):
            dX = self.all_gradients(dA2)
            self.dW2 = self.dW2 * 2
            return dX

    return given(Net(3, 5, 2), random(3, 6))


@mistake("param b1", "factor")
def gradient_checking_exercise_db1_fourfold():
    """db1 has 4/m where 1/m belongs. Public thread: the second planted mistake of the same exercise."""

    class Net(TwoLayerNet):
        def forward(self, X):
            return super().forward(X) / X.shape[1]

        def backward(self, dout):
            m = self.X.shape[1]
            dX = self.all_gradients(dout / m)
            self.db1 = 4.0 * self.db1
            return dX

    return given(Net(4, 3, 2), random(4, 5, seed=7))


@mistake("input x", "wrong operand")
def sigmoid_slope_from_its_input():
    """x (1 - x) of the input. Public threads: the cached x is the input, not the output; several repositories."""

    class Sigmoid:
        def forward(self, x):
            self.x = x
            return 1 / (1 + np.exp(-x))

        def backward(self, grad):
            return self.x * (1 - self.x) * grad

    return given(Sigmoid(), random(4, 3))


@mistake("input z", "wrong operand", "upstream")
def tanh_slope_at_the_upstream_gradient():
    """1 - tanh(dz)^2: the gradient stands where z belongs, and is not multiplied. Public thread: exactly so."""

    def tanh_forward(z):
        return np.tanh(z)

    def tanh_backward(next_dz):
        return 1 - np.square(np.tanh(next_dz))

    return given(tanh_forward, random(3, 4), backward=tanh_backward)


@mistake("input X", "sign")
def tanh_slope_with_plus():
    """1 + y^2, the slope of tan. Public thread: somebody asked a repository to use it for tanh."""

    class Tanh:
        def forward(self, X):
            return np.tanh(X)

        def backward(self, X, top_diff):
            output = self.forward(X)
            return (1.0 + np.square(output)) * top_diff

    return given(Tanh(), random(3, 5))


@mistake("input z", "wrong operand")
def tanh_slope_from_pre_activation():
    """1 - z^2 with the pre-activation. Public thread: a doubt which of the two stands in 1 - Z * Z."""

    class Tanh:
        def forward(self, z):
            self.z = z
            return np.tanh(z)

        def backward(self, dout):
            return dout * (1 - self.z**2)

    return given(Tanh(), 0.8 * random(2, 6))


@mistake("input A", "mask", "wrong operand")
def relu_masked_by_the_gradient():
    """The mask is taken from the sign of dA, not of the input ("guided" backpropagation)."""

    class ReLU:
        def forward(self, A):
            self.A = A
            return np.maximum(A, 0)

        def backward(self, dA):
            return np.multiply(dA, np.int64(dA > 0))

    return given(ReLU(), random(5, 4))


@mistake("input x", "mask")
def dropout_backward_only_rescales():
    """The gradient is divided by 1 - p, not masked. Public thread: a dropout wrapper does that."""

    class Dropout:
        def __init__(self, p):
            self.p = p

        def forward(self, x):
            self.mask = np.random.default_rng(3).random(x.shape) >= self.p
            return x * self.mask / (1.0 - self.p)

        def backward(self, dLdy):
            return dLdy / (1.0 - self.p)

    return given(Dropout(0.4), random(4, 5))


@mistake("param b", "factor")
def bias_averaged_where_weights_are_summed():
    """db is the mean over the batch; forward has no 1 / B."""

    class Affine:
        def __init__(self, n_in, n_out):
            self.W, self.b = random(n_in, n_out, seed=1), random(n_out, seed=2)

        def forward(self, x):
            self.x = x
            return x @ self.W + self.b

        def backward(self, dout):
            self.dW = self.x.T @ dout
            self.db = np.mean(dout, axis=0)
            return dout @ self.W.T

    return given(Affine(3, 2), random(5, 3))


@mistake("input x", "transposed")
def square_weight_not_transposed():
    """dx = dy W, without the transpose, which a square weight hides."""

    class Linear:
        def __init__(self, n):
            self.weights, self.bias = random(n, n, seed=1), random(n, seed=2)

        def forward(self, x):
            self.x = x
            return np.dot(x, self.weights) + self.bias

        def backward(self, grad):
            self.weights_grad = np.dot(self.x.T, grad)
            self.bias_grad = grad.sum(axis=0)
            return np.dot(grad, self.weights)

    return given(Linear(4), random(3, 4))


@mistake("param W", "transposed")
def weight_gradient_reshaped_to_fit():
    """dy.T x has the shape of W.T, and is reshaped instead of transposed: the shapes were made to fit."""

    def forward(x, W):
        return x @ W, (x, W)

    def backward(dout, cache):
        x, W = cache
        dx = dout @ W.T
        dW = (dout.T @ x).reshape(W.shape)
        return dx, dW

    class Layer:
        def __init__(self):
            self.W = random(4, 3, seed=1)

        def forward(self, x):
            y, self.cache = forward(x, self.W)
            return y

        def backward(self, dout):
            dx, self.dW = backward(dout, self.cache)
            return dx

    return given(Layer(), random(5, 4))


@mistake("input x", "lost factor")
def batch_norm_scales_the_copy_that_is_not_used():
    """dy * gamma is formed after dy * ivar was taken: dx lacks gamma. Public thread: batch norm on a CPU."""

    class BatchNorm:
        def __init__(self, n):
            self.gamma, self.beta = random(n, seed=1), random(n, seed=2)

        def forward(self, x):
            self.x_mu = x - x.mean(axis=0)
            self.ivar = 1 / np.sqrt(x.var(axis=0) + 1e-5)
            return self.gamma * self.x_mu * self.ivar + self.beta

        def backward(self, dy):
            m = len(dy)
            dyivar = dy * self.ivar
            self.dgamma = np.sum(self.x_mu * dyivar, axis=0)
            self.dbeta = np.sum(dy, axis=0)
            dy = self.gamma * dy
            dsigma2 = -0.5 * np.sum(dyivar * self.x_mu * self.ivar**2, axis=0)
            dmu = -np.sum(dyivar, axis=0)
            return dyivar + dsigma2 * 2 * self.x_mu / m + dmu / m

    return given(BatchNorm(3), random(6, 3))


@mistake("param W", "one example")
def stochastic_gradient_of_the_last_example():
    """The loop over the examples assigns dW and does not add to it: the last example is left."""

    class Perceptron:
        def __init__(self):
            self.W = random(2, 4, seed=1)

        def forward(self, X):
            self.X = X
            return np.array([self.W @ x for x in X])

        def backward(self, delta):
            for x, d in zip(self.X, delta, strict=True):
                self.dW = np.outer(d, x)
            return delta @ self.W

    return given(Perceptron(), random(5, 4))


@mistake("param W", "upstream")
def weight_decay_added_in_backward():
    """dW contains reg * W, which forward does not: a common way to write weight decay."""

    class Affine:
        def __init__(self, reg=0.1):
            self.W, self.b, self.reg = random(3, 4, seed=1), random(4, seed=2), reg

        def forward(self, X):
            self.X = X
            return X.dot(self.W) + self.b

        def backward(self, dscores):
            self.dW = self.X.T.dot(dscores) + self.reg * self.W
            self.db = dscores.sum(axis=0)
            return dscores.dot(self.W.T)

    return given(Affine(), random(2, 3))
