"""Wrong dense layers and simple arithmetic: signs, factors, transposes, batch sums, shapes."""

import numpy as np
from strangers.given import given, random, wrong


class Dense:
    """A right dense layer, from which some of the wrong ones below are derived."""

    def __init__(self, n_in, n_out, seed=1):
        self.W = random(n_in, n_out, seed=seed) / np.sqrt(n_in)
        self.b = random(n_out, seed=seed + 1)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW = self.x.T @ dy
        self.db = dy.sum(axis=0)
        return dy @ self.W.T


@wrong
def dense_weight_gradient_with_wrong_sign():
    """dW has the wrong sign."""

    class Layer(Dense):
        def backward(self, dy):
            self.dW = -self.x.T @ dy
            self.db = np.sum(dy, 0)
            return dy.dot(self.W.T)

    return given(Layer(4, 3), random(5, 4))


@wrong
def square_dense_without_transpose():
    """dx is dy @ W where W is square and should be transposed."""

    class Linear:
        def __init__(self, n):
            self.weights = random(n, n, seed=3)

        def __call__(self, x):
            self.inputs = x
            return np.dot(x, self.weights)

        def backward(self, dy):
            self.dweights = np.dot(self.inputs.T, dy)
            return np.dot(dy, self.weights)

    return given(Linear(4), random(3, 4))


@wrong
def square_dense_with_transposed_weight_gradient():
    """dW is transposed; W is square, so that the shape does not tell."""

    class Layer:
        def __init__(self, n):
            self.params = {"W": random(n, n, seed=5), "b": random(n, seed=6)}
            self.grads = {}

        def forward(self, x):
            self.cache = x
            return x @ self.params["W"] + self.params["b"]

        def backward(self, dy):
            self.grads["W"] = dy.T @ self.cache
            self.grads["b"] = dy.sum(0)
            return dy @ self.params["W"].T

    return given(Layer(3), random(4, 3))


@wrong
def dense_bias_gradient_of_first_row():
    """db takes the first row of dy; it lacks the sum over the batch."""

    class Layer(Dense):
        def backward(self, dy):
            dx = super().backward(dy)
            self.db = dy[0]
            return dx

    return given(Layer(3, 4), random(5, 3))


@wrong
def dense_pair_with_bias_gradient_averaged():
    """db is the mean over the batch, not the sum."""

    def forward(x, w, b):
        return x @ w + b, (x, w)

    def backward(dout, cache):
        x, w = cache
        return dout @ w.T, x.T @ dout, dout.mean(axis=0)

    return given(forward, random(6, 3), random(3, 2, seed=1), random(2, seed=2), backward=backward)


@wrong
def dense_weight_gradient_divided_by_batch():
    """dW is divided by the batch size once more."""

    class FullyConnected:
        def __init__(self):
            self.weight = random(3, 5, seed=2)
            self.bias = random(5, seed=3)
            self.weight_grad = self.bias_grad = None

        def forward(self, x):
            self._x = x
            return x @ self.weight + self.bias

        def backward(self, grad_out):
            self.weight_grad = self._x.T @ grad_out / len(self._x)
            self.bias_grad = grad_out.sum(axis=0)
            return grad_out @ self.weight.T

    return given(FullyConnected(), random(4, 3))


@wrong
def matrix_product_with_swapped_gradients():
    """The gradients of the two factors, of equal shape, come back in the wrong order."""
    return given(lambda a, b: a @ b, random(3, 3), random(3, 3, seed=1), backward=lambda dy, a, b: (a.T @ dy, dy @ b.T))


@wrong
def column_bias_gradient_without_axis():
    """db has shape (3,) where b is a column (3, 1)."""

    class ColumnDense:
        def __init__(self):
            self.W, self.b = random(3, 4, seed=1), random(3, 1, seed=2)

        def forward(self, x):
            self.x = x
            return self.W @ x + self.b

        def backward(self, dy):
            self.dW = dy @ self.x.T
            self.db = dy.sum(axis=1)
            return self.W.T @ dy

    return given(ColumnDense(), random(4, 5))


@wrong
def dense_weight_gradient_of_transposed_shape():
    """dW has the shape of W.T."""

    def forward(x, w):
        return x.dot(w)

    def backward(x, w, dy):
        return dy.dot(w.T), dy.T.dot(x)

    return given(forward, random(2, 4), random(4, 3, seed=1), backward=backward)


@wrong
def gain_gradient_summed_to_one_number():
    """The gradient of a gain vector is summed to one number."""

    class Gain:
        def __init__(self, n):
            self.gain = random(n, seed=4)

        def forward(self, x):
            self.x = x
            return x * self.gain

        def backward(self, dy):
            self.dgain = np.sum(dy * self.x)
            return dy * self.gain

    return given(Gain(4), random(3, 4))


@wrong
def input_gradient_flattened():
    """dx comes back flattened, (6,) and not (2, 3)."""
    return given(lambda x: np.sin(x).ravel(), random(2, 3), backward=lambda dy, x: dy * np.cos(x).ravel())


class StepDense:
    """Column vectors; backward takes the learning rate and makes the step itself."""

    def __init__(self, n_in, n_out):
        self.weights = random(n_out, n_in, seed=1)
        self.bias = random(n_out, 1, seed=2)

    def forward(self, x):
        self.input = x
        return np.dot(self.weights, self.input) + self.bias


@wrong
def step_dense_with_updated_weights_in_input_gradient():
    """dx is computed with the weights after their step."""

    class Layer(StepDense):
        def backward(self, output_gradient, learning_rate):
            self.weights -= learning_rate * np.dot(output_gradient, self.input.T)
            self.bias -= learning_rate * output_gradient
            return np.dot(self.weights.T, output_gradient)

    return given(Layer(4, 3), 3 * random(4, 1))


@wrong
def step_dense_that_climbs():
    """The step adds learning_rate * gradient to the weights."""

    class Layer(StepDense):
        def backward(self, output_gradient, learning_rate):
            dx = np.dot(self.weights.T, output_gradient)
            self.weights += learning_rate * np.dot(output_gradient, self.input.T)
            self.bias -= learning_rate * output_gradient
            return dx

    return given(Layer(3, 2), random(3, 1))


@wrong
def step_dense_that_never_moves_its_bias():
    """The bias makes no step at all."""

    class Layer(StepDense):
        def backward(self, output_gradient, learning_rate):
            dx = self.weights.T @ output_gradient
            self.weights = self.weights - learning_rate * output_gradient @ self.input.T
            return dx

    return given(Layer(3, 3), random(3, 1))


@wrong
def dense_pair_without_weight_gradient():
    """The gradient of w is returned as None."""

    def forward(x, w, b):
        out = x @ w + b
        cache = {"x": x, "w": w}
        return out, cache

    def backward(dout, cache):
        return dout @ cache["w"].T, None, dout.sum(0)

    return given(forward, random(4, 2), random(2, 3, seed=1), random(3, seed=2), backward=backward)


@wrong
def gain_after_dy_was_changed_in_place():
    """dy *= gain comes before dgain is taken from dy."""

    class Scale:
        def __init__(self, n):
            self.gain = 1 + random(n, seed=1)
            self.shift = random(n, seed=2)

        def forward(self, x):
            self.x = x
            return x * self.gain + self.shift

        def backward(self, dy):
            self.dshift = dy.sum(0)
            dy *= self.gain
            self.dgain = (dy * self.x).sum(0)
            return dy

    return given(Scale(3), random(4, 3))


@wrong
def residual_after_dy_was_changed_in_place():
    """The ReLU mask is multiplied into dy, which is then also used for the skip path."""

    class ResidualRelu:
        def forward(self, x):
            self.x, self.mask = x, x > 0
            return x + np.maximum(x, 0) ** 2

        def backward(self, dy):
            dh = dy
            dh *= self.mask
            return dy + dh * 2 * self.x

    return given(ResidualRelu(), random(3, 4))


@wrong
def residual_without_skip():
    """dx lacks the gradient of the skip path."""

    class Residual(Dense):
        def forward(self, x):
            return x + super().forward(x)

    return given(Residual(4, 4), random(3, 4))


@wrong
def perceptron_without_relu_mask():
    """The mask of the hidden ReLU is forgotten in backward."""

    class MLP:
        def __init__(self, d, h, o):
            self.W1, self.b1 = random(d, h, seed=1), random(h, seed=2)
            self.W2, self.b2 = random(h, o, seed=3), random(o, seed=4)

        def forward(self, x):
            self.x = x
            self.h = np.maximum(0, x @ self.W1 + self.b1)
            return self.h @ self.W2 + self.b2

        def backward(self, dy):
            self.dW2, self.db2 = self.h.T @ dy, dy.sum(0)
            dh = dy @ self.W2.T
            self.dW1, self.db1 = self.x.T @ dh, dh.sum(0)
            return dh @ self.W1.T

    return given(MLP(3, 6, 2), random(4, 3))


@wrong
def cube_with_wrong_power():
    """3 x instead of 3 x^2."""
    return given(lambda x: x**3, random(3, 4), backward=lambda dy, x: 3 * x * dy)


@wrong
def quadratic_with_missing_factor():
    """The factor 2 of the square is forgotten."""

    class Square:
        def forward(self, x):
            self.x = x
            return x**2 + x

        def backward(self, dy):
            return {"x": dy * self.x + dy}

    return given(Square(), random(5))
