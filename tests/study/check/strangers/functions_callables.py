"""Callables of every kind: lambdas, partial functions, methods, closures, ufuncs, generators, objects with __call__."""

import functools
import math
import operator

import numpy as np
from strangers.given import given, random, right


@right
def two_lambdas():
    return given(
        lambda x, w: np.tanh(x) @ w,
        random(2, 3),
        random(3, 2, seed=1),
        backward=lambda dy, x, w: ((dy @ w.T) / np.cosh(x) ** 2, np.tanh(x).T @ dy),
    )


@right
def ufunc_as_the_layer():
    return given(np.multiply, random(2, 3), random(2, 3, seed=1), backward=lambda dy, a, b: (dy * b, dy * a))


@right
def built_in_matrix_product_as_the_layer():
    return given(operator.matmul, random(2, 3), random(3, 4, seed=1), backward=lambda dy, a, b: (dy @ b.T, a.T @ dy))


@right
def partial_functions_with_keywords():
    def leaky(x, slope):
        return np.where(x > 0, x, slope * x)

    def leaky_gradient(dy, x, slope):
        return dy * np.where(x > 0, 1, slope)

    backward = functools.partial(leaky_gradient, slope=0.2)
    return given(functools.partial(leaky, slope=0.2), random(3, 4), backward=backward)


@right
def partial_functions_with_a_context():
    """The first argument, already bound, keeps what forward saves for backward."""

    class Context:
        def save(self, *arrays):
            self.saved = arrays

    class Exponential:
        @staticmethod
        def forward(ctx, x):
            y = np.exp(x)
            ctx.save(y)
            return y

        @staticmethod
        def backward(ctx, dy):
            (y,) = ctx.saved
            return dy * y

    ctx = Context()
    return given(
        functools.partial(Exponential.forward, ctx), random(2, 3), backward=functools.partial(Exponential.backward, ctx)
    )


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def apply(self, x):
        self.x = x
        return self.factor * x**2

    def pull_back(self, dy):
        return 2 * self.factor * self.x * dy


@right
def bound_methods_of_one_object():
    scale = Scale(3)
    return given(scale.apply, random(2, 4), backward=scale.pull_back)


@right
def static_methods_of_a_class():
    class Hinge:
        @staticmethod
        def forward(x, sign):
            return np.maximum(0, 1 - sign * x)

        @staticmethod
        def backward(dy, x, sign):
            return -dy * sign * (sign * x < 1)

    return given(Hinge.forward, 2 * random(3, 3), np.array([1, -1, 1]), backward=Hinge.backward)


@right
def class_methods_with_a_cache():
    class Softsign:
        power = 2

        @classmethod
        def forward(cls, x):
            bottom = 1 + np.abs(x)
            return x / bottom, bottom

        @classmethod
        def backward(cls, dout, bottom):
            return dout / bottom**cls.power

    return given(Softsign.forward, random(5), backward=Softsign.backward)


@right
def closures_that_share_a_variable():
    def make():
        saved = None

        def forward(x):
            nonlocal saved
            saved = np.tanh(x)
            return saved

        def backward(dy):
            return dy * (1 - saved**2)

        return forward, backward

    forward, backward = make()
    return given(forward, random(3, 3), backward=backward)


@right
def pull_back_function_as_the_cache():
    def forward(x, w):
        y = np.sin(x @ w)

        def back(dy):
            da = dy * np.cos(x @ w)
            return da @ w.T, x.T @ da

        return y, back

    return given(forward, random(3, 2), random(2, 4, seed=1), backward=lambda dy, cache: cache(dy))


@right
def error_function_by_vectorize():
    def gelu(x):
        return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))

    def slope(x):
        return 0.5 * (1 + math.erf(x / math.sqrt(2))) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    return given(np.vectorize(gelu), random(3, 4), backward=lambda dy, x: dy * np.vectorize(slope)(x))


@right
def callable_object_that_remembers():
    class Square:
        def __call__(self, x):
            self.x = x
            return x * x

        def backward(self, dy):
            return 2 * self.x * dy

    return given(Square(), random(4))


@right
def callable_object_beside_a_function():
    class Shift:
        def __init__(self, by):
            self.by = by

        def __call__(self, x):
            return np.logaddexp(x, self.by)

    return given(Shift(2), random(3, 2), backward=lambda dy, x: dy / (1 + np.exp(2 - x)))


@right
def generator_of_hidden_states():
    def states(x, w):
        h = np.zeros(w.shape[0])
        for row in x:
            h = np.tanh(row + h @ w)
            yield h

    def forward(x, w):
        return np.stack(list(states(x, w)))

    def backward(dy, x, w):
        hs = [np.zeros(len(w)), *states(x, w)]
        dx, dw, carry = np.zeros_like(x), np.zeros_like(w), 0
        for t in reversed(range(len(x))):
            da = (dy[t] + carry) * (1 - hs[t + 1] ** 2)
            dx[t] = da
            dw += np.outer(hs[t], da)
            carry = w @ da
        return dx, dw

    return given(forward, random(4, 3), random(3, 3, seed=1), backward=backward)


@right
def decorated_functions():
    def counted(function):
        @functools.wraps(function)
        def wrapper(*args, **keywords):
            wrapper.calls += 1
            return function(*args, **keywords)

        wrapper.calls = 0
        return wrapper

    @counted
    def forward(x, bias):
        return np.sqrt(1 + x * x) + bias

    @counted
    def backward(dy, x, bias):
        return dy * x / np.sqrt(1 + x * x), dy.sum(axis=0)

    return given(forward, random(3, 4), random(4, seed=1), backward=backward)


@right
def composition_by_reduce():
    steps = [(np.sin, np.cos), (np.exp, np.exp), (lambda v: v**2, lambda v: 2 * v)]

    def forward(x):
        return functools.reduce(lambda v, step: step[0](v), steps, x)

    def backward(dy, x):
        values = [x]
        for function, _ in steps:
            values.append(function(values[-1]))
        for (_, slope), v in zip(steps[::-1], values[-2::-1]):
            dy = dy * slope(v)
        return dy

    return given(forward, random(2, 3), backward=backward)


@right
def positional_only_arguments():
    def forward(x, w, /):
        return (x * w).sum(axis=-1)

    def backward(dy, x, w, /):
        return [dy[:, None] * w, dy @ x]

    return given(forward, random(3, 4), random(4, seed=1), backward=backward)


@right
def function_with_an_attribute_for_its_state():
    def forward(x):
        forward.positive = x > 0
        return x * forward.positive

    def backward(dy):
        return dy * forward.positive

    return given(forward, random(3, 3), backward=backward)
