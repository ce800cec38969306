"""Wrong operations in the style of toy frameworks: functions and modules with forward and backward."""

import numpy as np
from named.given import given, mistake, random


@mistake("input a", "swapped", "wrong operand")
def multiply_with_its_own_factor():
    """d(a b): each factor is given itself, dy * a for a and dy * b for b."""

    class Mul:
        def forward(self, a, b):
            self.a, self.b = a, b
            return a * b

        def backward(self, dout):
            return dout * self.a, dout * self.b

    return given(Mul(), random(3, 4), random(3, 4, seed=1))


@mistake("input b", "wrong operand")
def exponent_gradient_with_log_of_the_exponent():
    """d(a^b)/db = a^b log b, where log a belongs."""

    class Pow:
        def forward(self, a, b):
            self.saved = a, b, a**b
            return self.saved[2]

        def backward(self, grad_output):
            a, b, y = self.saved
            return grad_output * b * a ** (b - 1), grad_output * y * np.log(b)

    return given(Pow(), 0.5 + random(2, 5) ** 2, 0.7 + random(2, 5, seed=1) ** 2)


@mistake("input a", "power")
def power_not_lowered():
    """n x^n, where n x^(n - 1) belongs."""

    class Power:
        def __init__(self, n):
            self.n = n

        def forward(self, a):
            self.a = a
            return a**self.n

        def backward(self, grad):
            return grad * self.n * self.a**self.n

    return given(Power(3), random(4, 3))


@mistake("input b", "power", "lost factor")
def quotient_without_square():
    """d(a / b)/db = -a / b: the square is missing."""

    def div(a, b):
        return a / b

    def div_backward(dout, a, b):
        return dout / b, -dout * a / b

    return given(div, random(3, 5), 1.5 + random(3, 5, seed=1) ** 2, backward=div_backward)


@mistake("input x", "mask")
def maximum_with_a_loose_equality():
    """All entries within 0.01 of the maximum get its gradient. Public thread: the mask came from `is_close`."""

    class Max:
        def forward(self, x):
            self.x, self.out = x, x.max(axis=1)
            return self.out

        def backward(self, grad_output):
            mask = np.abs(self.x - self.out[:, None]) < 1e-2
            return grad_output[:, None] * mask

    x = random(3, 5)
    x[0, 1], x[0, 4] = x[0].max() + 0.5, x[0].max() + 0.505
    x[2, 0], x[2, 3] = 2.996, 2.99
    return given(Max(), x)


@mistake("input x", "state")
def intermediate_gradient_never_zeroed():
    """The node adds to its gradient at each call. Public thread: only the leaves were set to zero."""

    class Square:
        def __init__(self):
            self.grad = None

        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, dy):
            if self.grad is None:
                self.grad = np.zeros_like(self.x)
            self.grad += 2 * self.x * dy
            return self.grad

    return given(Square(), random(3, 4))


@mistake("input x", "sign of x", "factor")
def leaky_relu_with_another_slope():
    """forward's slope is 0.2, backward's the default 0.01."""

    class LeakyReLU:
        def __init__(self, alpha):
            self.alpha = alpha

        def forward(self, x):
            self.x = x
            return np.where(x > 0, x, self.alpha * x)

        def backward(self, grad, slope=0.01):
            return grad * np.where(self.x > 0, 1.0, slope)

    return given(LeakyReLU(0.2), random(4, 5))


@mistake("input x", "sign of x", "wrong operand", "mask")
def elu_branch_chosen_by_the_output():
    """With alpha < 0 the output is positive for negative x, and backward asks the output. Public thread: so it was."""

    class ELU:
        def __init__(self, alpha):
            self.alpha = alpha

        def forward(self, x):
            self.y = np.where(x > 0, x, self.alpha * (np.exp(x) - 1))
            return self.y

        def backward(self, dy):
            return dy * np.where(self.y > 0, 1.0, self.y + self.alpha)

    return given(ELU(-2.0), random(3, 4))


@mistake("input a", "swapped")
def concatenation_split_in_the_wrong_order():
    """The halves of the gradient are returned in exchange."""

    class Concat:
        def forward(self, a, b):
            self.n = a.shape[1]
            return np.concatenate([a, b], axis=1)

        def backward(self, g):
            return g[:, self.n :], g[:, : self.n]

    return given(Concat(), random(4, 3), random(4, 3, seed=1))


@mistake("input x", "transposed")
def transpose_with_the_same_axes_in_backward():
    """backward transposes with axes (1, 2, 0) again, not with their inverse."""

    class Transpose:
        axes = (1, 2, 0)

        def forward(self, x):
            return x.transpose(self.axes)

        def backward(self, dy):
            return dy.transpose(self.axes)

    return given(Transpose(), random(3, 3, 3))


@mistake("input x", "epsilon")
def logarithm_without_its_epsilon():
    """forward is log(x + 0.01), backward 1 / x."""

    class Log:
        def forward(self, x):
            self.x = x
            return np.log(x + 0.01)

        def backward(self, grad):
            return grad / self.x

    return given(Log(), 0.3 + np.abs(random(3, 4)))


@mistake("param table", "repeated ids")
def rows_added_with_a_fancy_index():
    """grad[ids] += dy keeps the last of equal ids. Public threads: `np.take` and gather in several frameworks."""

    class Gather:
        def __init__(self):
            self.table = random(6, 3, seed=1)

        def forward(self, ids):
            self.ids = ids
            return self.table[ids]

        def backward(self, dy):
            self.table_grad = np.zeros_like(self.table)
            self.table_grad[self.ids] += dy

    return given(Gather(), np.array([[1, 4, 1, 0], [5, 1, 4, 2]]))


@mistake("input x", "float32")
def input_kept_in_single_precision():
    """Layer norm keeps x in a float32 buffer for backward; x is far from zero, so that its deviations lose digits."""

    class Norm:
        def forward(self, x):
            self.kept = x.astype(np.float32)
            return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)

        def backward(self, dy):
            x = self.kept.astype(np.float64)
            std = np.sqrt(x.var(1, keepdims=True) + 1e-5)
            xhat = (x - x.mean(1, keepdims=True)) / std
            return (dy - dy.mean(1, keepdims=True) - xhat * (dy * xhat).mean(1, keepdims=True)) / std

    return given(Norm(), 30 + random(3, 5))


@mistake("input x")
def gradient_rounded_for_display():
    """backward returns what it would print: two decimals."""

    class Exp:
        def forward(self, x):
            self.y = np.exp(x)
            return self.y

        def backward(self, dy):
            return np.round(dy * self.y, 2)

    return given(Exp(), random(4, 3))


@mistake("input x")
def sine_differentiated_as_itself():
    """d sin = sin, copied from the exponential."""

    class Sin:
        def forward(self, x):
            self.out = np.sin(x)
            return self.out

        def backward(self, dy):
            return dy * self.out

    return given(Sin(), random(3, 4))


@mistake("input x", "transposed")
def running_sum_differentiated_as_running_sum():
    """cumsum of dy, where the sum from the other end belongs (the Jacobian is not transposed)."""

    return given(lambda x: np.cumsum(x, axis=1), random(2, 5), backward=lambda dy: np.cumsum(dy, axis=1))


@mistake("input b", "sign")
def subtraction_with_addition_gradients():
    """d(a - b)/db = dy."""

    class Sub:
        def forward(self, a, b):
            return a - b

        def backward(self, dy):
            return dy, dy.sum(axis=0)

    return given(Sub(), random(4, 3), random(3, seed=1))
