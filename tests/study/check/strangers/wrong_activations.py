"""Wrong activations and dropout."""

import math

import numpy as np
from strangers.given import given, random, wrong


@wrong
def sigmoid_without_second_factor():
    """The derivative is s, where s (1 - s) belongs."""

    class Sigmoid:
        def forward(self, x):
            self.s = 1.0 / (1.0 + np.exp(-x))
            return self.s

        def backward(self, dy):
            return dy * self.s

    return given(Sigmoid(), random(2, 3))


@wrong
def tanh_without_square():
    """1 - y where 1 - y^2 belongs."""

    def forward(x):
        y = np.tanh(x)
        return y, y

    def backward(dy, y):
        return dy * (1 - y)

    return given(forward, random(4), backward=backward)


@wrong
def leaky_relu_with_dead_negative_side():
    """The slope of the negative side is forgotten."""

    class LeakyReLU:
        def __init__(self, slope=0.2):
            self.slope = slope

        def forward(self, x):
            y = x.copy()
            y[x < 0] *= self.slope
            return y

        def backward(self, x, dy):
            return dy * (x > 0)

    return given(LeakyReLU(), random(4, 3))


@wrong
def elu_without_alpha():
    """alpha is forgotten for negative x."""

    def elu(x, alpha=0.5):
        return np.where(x > 0, x, alpha * np.expm1(x))

    def elu_backward(dy, x, alpha=0.5):
        return dy * np.where(x > 0, 1, np.exp(x))

    return given(elu, random(6), backward=elu_backward)


@wrong
def selu_with_few_digits():
    """The constants of backward have two digits after the point."""

    class SELU:
        scale, alpha = 1.0507009873554805, 1.6732632423543772

        def forward(self, x):
            self.x = x
            return self.scale * np.where(x > 0, x, self.alpha * (np.exp(x) - 1))

        def backward(self, dy):
            return dy * np.where(self.x > 0, 1.05, 1.05 * 1.67 * np.exp(self.x))

    return given(SELU(), random(3, 4) - 1)


@wrong
def gelu_by_error_function_with_few_digits():
    """1 / sqrt(2 pi) is cut to 0.39 in backward."""
    erf = np.vectorize(math.erf)
    return given(
        lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
        random(7),
        backward=lambda dy, x: dy * (0.5 * (1 + erf(x / np.sqrt(2))) + 0.39 * x * np.exp(-x * x / 2)),
    )


@wrong
def gelu_by_tanh_without_cubic_slope():
    """The derivative of the inner polynomial lacks its factor 3."""

    class GELU:
        def __call__(self, x):
            self.x = x
            self.t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
            return 0.5 * x * (1 + self.t)

        def backward(self, dy):
            inner = np.sqrt(2 / np.pi) * (1 + 0.044715 * self.x**2)
            return dy * (0.5 * (1 + self.t) + 0.5 * self.x * (1 - self.t**2) * inner)

    return given(GELU(), random(3, 3))


@wrong
def prelu_slope_gradient_over_all_cells():
    """The slope's gradient adds up all cells, and not only those below zero."""

    class PReLU:
        def __init__(self, n):
            self.a = 0.1 + 0.05 * random(n, seed=1)

        def forward(self, x):
            self.x = x
            return np.maximum(x, 0) + self.a * np.minimum(x, 0)

        def backward(self, dy):
            self.da = np.sum(dy * self.x, axis=0)
            return np.where(self.x > 0, dy, self.a * dy)

    return given(PReLU(3), random(4, 3))


@wrong
def softplus_straight_beyond_two():
    """backward takes the slope to be 1 beyond x = 2, where forward is not yet straight."""

    class Softplus:
        def forward(self, x):
            self.x = x
            return np.log1p(np.exp(x))

        def backward(self, dy):
            slope = 1 / (1 + np.exp(-self.x))
            slope[self.x > 2] = 1
            return dy * slope

    return given(Softplus(), 2 * random(4, 4))


@wrong
def arctan_wrong_beyond_two():
    """For |x| > 2 the slope is set to zero."""

    def backward(dy, x):
        return np.where(np.abs(x) > 2, 0.0, dy / (1 + x**2))

    return given(np.arctan, np.array([-3.0, -1.0, 0.3, 1.5, 2.5]), backward=backward)


@wrong
def swish_without_own_value():
    """The derivative of x sigmoid(x) lacks the term of the sigmoid's slope."""
    return given(lambda x: x / (1 + np.exp(-x)), random(2, 4), backward=lambda dy, x: dy / (1 + np.exp(-x)))


@wrong
def swish_divides_by_zero_input():
    """backward takes the sigmoid from y / x, which is NaN at x = 0."""

    class Swish:
        def forward(self, x):
            self.x, self.y = x, x / (1 + np.exp(-x))
            return self.y

        def backward(self, dy):
            with np.errstate(invalid="ignore"):
                s = self.y / self.x
            return dy * (self.y + s * (1 - self.y))

    x = random(3, 3)
    x[1, 1] = 0
    return given(Swish(), x)


@wrong
def hard_sigmoid_with_slope_outside():
    """The slope is not zero outside the clip."""

    class HardSigmoid:
        def forward(self, x):
            return np.clip(0.2 * x + 0.5, 0, 1)

        def backward(self, dy):
            return 0.2 * dy

    return given(HardSigmoid(), 4 * random(3, 4))


@wrong
def gated_unit_with_swapped_halves():
    """The halves of the gated linear unit are put together in the wrong order."""

    def forward(x):
        a, b = np.split(x, 2, axis=-1)
        gate = 1 / (1 + np.exp(-b))
        return a * gate, (a, gate)

    def backward(dout, cache):
        a, gate = cache
        return np.concatenate([dout * a * gate * (1 - gate), dout * gate], axis=-1)

    return given(forward, random(3, 4), backward=backward)


@wrong
def maxout_feeds_all_pieces():
    """dy goes to all pieces, not only to the largest."""

    class Maxout:
        def forward(self, x):
            self.x = x
            return x.max(axis=2)

        def backward(self, dy):
            return np.repeat(dy[:, :, None], self.x.shape[2], axis=2)

    return given(Maxout(), random(2, 3, 2))


@wrong
def softsign_with_wrong_power():
    """1 / (1 + |x|) where its square belongs."""

    class Softsign:
        def forward(self, x):
            self.d = 1 + np.abs(x)
            return x / self.d

        def backward(self, dy):
            return {"dx": dy / self.d}

    return given(Softsign(), random(5))


@wrong
def exponential_wrong_in_one_cell():
    """An index is off by one: the last cell of the last row gets no gradient."""

    def backward(dy, x):
        dx = np.zeros_like(x)
        for k in range(x.size - 1):
            i, j = divmod(k, x.shape[1])
            dx[i, j] = dy[i, j] * np.exp(x[i, j])
        return dx

    return given(np.exp, random(3, 5), backward=backward)


@wrong
def mask_left_from_first_pass():
    """The ReLU mask is made only once; an earlier pass has left another one."""

    class ReLU:
        mask = None

        def forward(self, x):
            if self.mask is None:
                self.mask = x > 0
            return np.maximum(x, 0)

        def backward(self, dy):
            return dy * self.mask

    relu = ReLU()
    relu.forward(random(3, 4, seed=7))
    return given(relu, random(3, 4))


@wrong
def dropout_without_mask_in_backward():
    """backward rescales and forgets the mask."""

    class Dropout:
        def __init__(self, rate):
            self.rate = rate
            self.training = True

        def forward(self, x):
            if not self.training:
                return x
            mask = np.random.default_rng(0).random(x.shape) >= self.rate
            return x * mask / (1 - self.rate)

        def backward(self, dy):
            return dy / (1 - self.rate) if self.training else dy

    return given(Dropout(0.4), random(4, 5))


@wrong
def dropout_with_new_mask_in_backward():
    """backward draws a mask of its own."""

    class Dropout:
        def __init__(self, p=0.5):
            self.p = p

        def draw(self, shape):
            return (np.random.rand(*shape) > self.p) / (1 - self.p)

        def forward(self, x):
            return x * self.draw(x.shape)

        def backward(self, dy):
            return dy * self.draw(dy.shape)

    return given(Dropout(), random(5, 6))


@wrong
def zero_gradient_of_square_root():
    """backward returns zeros."""

    class SafeSqrt:
        def forward(self, x):
            self.x = x
            return np.sqrt(1 + x * x)

        def backward(self, dy):
            return np.zeros_like(self.x)

    return given(SafeSqrt(), random(3, 2))
