"""Dense layers: the same simple mathematics, with parameters and gradients in many kinds of places."""

import numpy as np
from strangers.given import given, random, right


class Dense:
    def __init__(self, n_in, n_out, seed=1):
        rng = np.random.default_rng(seed)
        self.W = rng.normal(0, 1 / np.sqrt(n_in), (n_in, n_out))
        self.b = np.zeros(n_out)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW = self.x.T @ dy
        self.db = dy.sum(axis=0)
        return dy @ self.W.T


@right
def dense_made_by_a_factory():
    return given(lambda: Dense(4, 3), random(5, 4))


class UnseededDense:
    def __init__(self, n_in, n_out):
        self.W = np.random.randn(n_in, n_out) * np.sqrt(2.0 / n_in)
        self.b = np.random.uniform(-0.1, 0.1, n_out)

    def __call__(self, x):
        self.last_input = x
        return np.dot(x, self.W) + self.b

    def backward(self, grad):
        self.W_grad = np.dot(self.last_input.T, grad)
        self.b_grad = np.sum(grad, axis=0)
        return np.dot(grad, self.W.T)


@right
def dense_with_unseeded_weights_from_a_factory():
    return given(lambda: UnseededDense(3, 4), random(2, 3))


class Linear:
    """weight has shape (out, in); any number of leading axes."""

    def __init__(self, in_features, out_features, bias=True):
        bound = 1.0 / np.sqrt(in_features)
        rng = np.random.RandomState(3)
        self.weight = rng.uniform(-bound, bound, size=(out_features, in_features))
        self.bias = rng.uniform(-bound, bound, size=out_features) if bias else None
        self.grad_weight = np.zeros_like(self.weight)
        self.grad_bias = np.zeros_like(self.bias) if bias else None

    def forward(self, input):
        self.input = input
        output = input @ self.weight.T
        if self.bias is not None:
            output += self.bias
        return output

    def backward(self, grad_output):
        flat_in = self.input.reshape(-1, self.input.shape[-1])
        flat_grad = grad_output.reshape(-1, grad_output.shape[-1])
        self.grad_weight = flat_grad.T @ flat_in
        if self.bias is not None:
            self.grad_bias = flat_grad.sum(0)
        return grad_output @ self.weight


@right
def linear_on_three_axes():
    return given(Linear(6, 4), random(2, 3, 6))


@right
def linear_without_bias():
    return given(Linear(5, 2, bias=False), random(4, 5))


@right
def linear_on_a_single_vector():
    return given(Linear(5, 3), random(5))


class Parameter:
    def __init__(self, data):
        self.data = np.asarray(data, dtype=float)
        self.grad = np.zeros_like(self.data)


class DenseOfParameters:
    def __init__(self, fan_in, fan_out):
        rng = np.random.default_rng(5)
        self.kernel = Parameter(rng.standard_normal((fan_in, fan_out)) * 0.5)
        self.offset = Parameter(np.full(fan_out, 0.1))

    def parameters(self):
        return [self.kernel, self.offset]

    def forward(self, x):
        self._x = x
        return x.dot(self.kernel.data) + self.offset.data

    def backward(self, d_out):
        self.kernel.grad = self._x.T.dot(d_out)
        self.offset.grad = d_out.sum(axis=0)
        return d_out.dot(self.kernel.data.T)


@right
def dense_with_data_and_grad_pairs():
    return given(DenseOfParameters(3, 5), random(4, 3))


class Variable:
    __slots__ = ("value", "grad")

    def __init__(self, value):
        self.value, self.grad = value, None


class DenseOfVariables:
    def __init__(self, sizes):
        rng = np.random.default_rng(6)
        self.variables = {"w": Variable(rng.normal(size=sizes) * 0.3), "b": Variable(rng.normal(size=sizes[1]))}

    def forward(self, inputs):
        self.inputs = inputs
        return np.matmul(inputs, self.variables["w"].value) + self.variables["b"].value

    def backward(self, upstream):
        self.variables["w"].grad = np.matmul(np.transpose(self.inputs), upstream)
        self.variables["b"].grad = np.sum(upstream, axis=0)
        return np.matmul(upstream, np.transpose(self.variables["w"].value))


@right
def dense_with_value_and_grad_pairs_in_slots():
    return given(DenseOfVariables((4, 2)), random(3, 4))


class Affine:
    def __init__(self, W, b):
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]
        self.x = None

    def forward(self, x):
        W, b = self.params
        self.x = x
        return np.dot(x, W) + b

    def backward(self, dout):
        W, b = self.params
        self.grads[0][...] = np.dot(self.x.T, dout)
        self.grads[1][...] = np.sum(dout, axis=0)
        return np.dot(dout, W.T)


@right
def affine_with_lists_of_params_and_grads():
    return given(Affine(random(4, 3, seed=1), random(3, seed=2)), random(2, 4))


class FullyConnected:
    def __init__(self, d_in, d_out):
        rng = np.random.default_rng(9)
        self.params = dict(W=rng.normal(scale=0.2, size=(d_in, d_out)), b=np.zeros((1, d_out)))
        self.grads = {}

    def forward(self, X):
        self.cache = X
        return X @ self.params["W"] + self.params["b"]

    def backward(self, dZ):
        X = self.cache
        self.grads["W"] = X.T @ dZ
        self.grads["b"] = np.sum(dZ, axis=0, keepdims=True)
        return dZ @ self.params["W"].T


@right
def fully_connected_with_dicts_of_params_and_grads():
    return given(FullyConnected(3, 4), random(5, 3))


class SelfUpdatingDense:
    """Works on column vectors, as in many short tutorials."""

    def __init__(self, input_size, output_size):
        rng = np.random.RandomState(0)
        self.weights = rng.randn(output_size, input_size)
        self.bias = rng.randn(output_size, 1)

    def forward(self, input):
        self.input = input
        return np.dot(self.weights, self.input) + self.bias

    def backward(self, output_gradient, learning_rate):
        weights_gradient = np.dot(output_gradient, self.input.T)
        input_gradient = np.dot(self.weights.T, output_gradient)
        self.weights -= learning_rate * weights_gradient
        self.bias -= learning_rate * output_gradient
        return input_gradient


@right
def dense_that_updates_itself_by_the_learning_rate():
    return given(SelfUpdatingDense(4, 3), random(4, 1))


class RebindingDense:
    def __init__(self, n, m):
        rng = np.random.default_rng(12)
        self.w = rng.random((n, m)) - 0.5
        self.b = rng.random(m) - 0.5

    def forward(self, x):
        self.x = x
        return x @ self.w + self.b

    def backward(self, delta, lr):
        dx = delta @ self.w.T
        self.w = self.w - lr * (self.x.T @ delta)
        self.b = self.b - lr * delta.sum(axis=0)
        return dx


@right
def dense_that_rebinds_its_updated_weights():
    return given(RebindingDense(3, 3), random(6, 3))


class LayerWithGradientStore:
    def __init__(self, n_in, n_out):
        rng = np.random.default_rng(2)
        self.parameters = {"W": rng.standard_normal((n_in, n_out)) / n_in, "b": rng.standard_normal((1, n_out))}
        self.gradients = {"dLdW": np.zeros((n_in, n_out)), "dLdb": np.zeros((1, n_out))}
        self.X = []

    def forward(self, X):
        self.X.append(X)
        return X @ self.parameters["W"] + self.parameters["b"]

    def backward(self, dLdY):
        X = self.X.pop()
        self.gradients["dLdW"] = X.T @ dLdY
        self.gradients["dLdb"] = dLdY.sum(axis=0, keepdims=True)
        return dLdY @ self.parameters["W"].T


@right
def dense_with_gradients_named_dldw_and_a_stack_of_inputs():
    return given(LayerWithGradientStore(3, 2), random(4, 3))


class CamelCaseLinear:
    def __init__(self, nInput, nOutput):
        rng = np.random.default_rng(21)
        self.weight = rng.normal(size=(nOutput, nInput)) * 0.1
        self.bias = np.ones(nOutput)
        self.gradWeight = np.empty_like(self.weight)
        self.gradBias = np.empty_like(self.bias)

    def forward(self, input):
        return np.einsum("bi,oi->bo", input, self.weight) + self.bias

    def backward(self, input, gradOutput):
        self.gradWeight = np.einsum("bo,bi->oi", gradOutput, input)
        self.gradBias = np.einsum("bo->o", gradOutput)
        return np.einsum("bo,oi->bi", gradOutput, self.weight)


@right
def linear_in_camel_case_whose_backward_takes_input_and_gradient():
    return given(CamelCaseLinear(4, 3), random(2, 4))


class StatelessDense(Dense):
    def forward(self, x):
        return x @ self.W + self.b

    def backward(self, dy, x):
        return {"dx": dy @ self.W.T, "dW": x.T @ dy, "db": dy.sum(0)}


@right
def dense_that_returns_a_dict_of_all_gradients():
    return given(StatelessDense(3, 4, seed=4), random(3, 3))


class DenseReturningThree(Dense):
    def backward(self, dy):
        return dy @ self.W.T, self.x.T @ dy, np.add.reduce(dy, axis=0)


@right
def dense_that_returns_the_gradients_of_input_weight_and_bias():
    return given(DenseReturningThree(5, 2), random(3, 5))


class CachingDense:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        out = x @ self.W + self.b
        return out, (x, self.W)

    def backward(self, dy, cache):
        x, W = cache
        self.d_W = x.T @ dy
        self.d_b = dy.sum(0)
        return dy @ W.T


@right
def dense_with_a_cache():
    return given(CachingDense(random(3, 2, seed=7), np.zeros(2)), random(4, 3))


@right
def dense_with_identity_weights():
    layer = Dense(4, 4)
    layer.W = np.eye(4)
    return given(layer, random(3, 4))


@right
def dense_with_weights_of_zero():
    layer = Linear(4, 3)
    layer.weight[...] = 0
    layer.bias[...] = 0
    return given(layer, random(3, 4))


@right
def dense_with_weights_of_one():
    return given(Affine(np.ones((3, 3)), np.ones(3)), random(2, 3))


class LayerDense:
    def __init__(self, n_inputs, n_neurons):
        np.random.seed(0)
        self.weights = 0.01 * np.random.randn(n_inputs, n_neurons)
        self.biases = np.zeros((1, n_neurons))

    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.dot(inputs, self.weights) + self.biases
        return self.output

    def backward(self, dvalues):
        self.dweights = np.dot(self.inputs.T, dvalues)
        self.dbiases = np.sum(dvalues, axis=0, keepdims=True)
        self.dinputs = np.dot(dvalues, self.weights.T)
        return self.dinputs


@right
def dense_with_very_small_weights():
    return given(LayerDense(2, 5), random(3, 2))
