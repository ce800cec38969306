"""Activations and other maths cell by cell, also exactly at their kinks."""

import numpy as np
from strangers.given import given, random, right


@right
def relu_at_exact_zeros():
    def forward(x):
        return np.maximum(0, x), x

    def backward(dout, x):
        return np.where(x > 0, dout, 0)

    return given(forward, np.array([[0.0, 1.5, -2.0], [0.0, 0.0, 3.0]]), backward=backward)


@right
def leaky_relu_that_scales_its_own_copy():
    def forward(x):
        y = x.copy()
        y[x < 0] *= 0.1
        return y

    def backward(dy, x):
        dx = dy.copy()
        dx[x < 0] *= 0.1
        return dx

    return given(forward, random(4, 5), backward=backward)


@right
def sigmoid_written_stably_with_masks():
    def forward(x):
        positive = x >= 0
        z = np.empty_like(x)
        z[positive] = np.exp(-x[positive])
        z[~positive] = np.exp(x[~positive])
        top = np.ones_like(x)
        top[~positive] = z[~positive]
        out = top / (1 + z)
        return out, out

    def backward(dout, out):
        return dout * out * (1 - out)

    return given(forward, 4 * random(3, 4), backward=backward)


@right
def softplus_by_log1p():
    def forward(x):
        return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)

    def backward(dy, x):
        return dy / (1 + np.exp(-x))

    return given(forward, 3 * random(2, 6), backward=backward)


@right
def exponential_linear_unit_by_expm1():
    def forward(x, alpha=1.5):
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))

    def backward(dy, x, alpha=1.5):
        return dy * np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0)))

    return given(forward, random(3, 4), backward=backward)


@right
def leaky_relu_with_a_number_that_gets_no_gradient():
    def forward(x, slope):
        return np.where(x > 0, x, slope * x)

    def backward(dy, x, slope):
        return np.where(x > 0, dy, slope * dy)

    return given(forward, random(3, 4), 0.2, backward=backward)


@right
def scaled_tanh_with_numbers_in_a_dict_of_settings():
    def forward(x, settings):
        return settings["height"] * np.tanh(settings["steepness"] * x), (x, settings)

    def backward(dout, cache):
        x, settings = cache
        return dout * settings["height"] * settings["steepness"] / np.cosh(settings["steepness"] * x) ** 2

    return given(forward, random(2, 4), {"height": 1.7159, "steepness": 2 / 3, "name": "tanh"}, backward=backward)


@right
def gelu_by_tanh():
    def forward(x):
        t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
        return 0.5 * x * (1 + t), (x, t)

    def backward(dout, cache):
        x, t = cache
        inner = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
        return dout * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * inner)

    return given(forward, 2 * random(3, 5), backward=backward)


@right
def parametric_relu_with_one_slope_a_channel():
    def forward(x, slope):
        return np.maximum(x, 0) + slope * np.minimum(x, 0), (x, slope)

    def backward(dout, cache):
        x, slope = cache
        return dout * np.where(x > 0, 1, slope), (dout * np.minimum(x, 0)).sum(axis=0)

    return given(forward, random(5, 3), np.array([0.25, 0.1, -0.3]), backward=backward)


@right
def clip_exactly_at_its_bounds():
    def forward(x):
        return np.clip(x, -1, 1)

    def backward(dy, x):
        return dy * ((x >= -1) & (x <= 1))

    return given(forward, np.array([-1.0, -2.0, 0.3, 1.0, 1.7, -0.9]), backward=backward)


@right
def absolute_value_with_a_zero():
    def forward(x):
        return np.abs(x)

    def backward(dy, x):
        return dy * np.sign(x)

    return given(forward, np.array([[0.0, -1.0], [2.0, 0.0]]), backward=backward)


@right
def maximum_and_minimum_with_ties():
    """Where both are equal each input takes one half."""

    def forward(a, b):
        return np.maximum(a, b), np.minimum(a, b)

    def backward(upstream, a, b):
        dhigh, dlow = upstream
        share = (a > b) + 0.5 * (a == b)
        return dhigh * share + dlow * (1 - share), dhigh * (1 - share) + dlow * share

    return given(forward, np.array([1.0, 2.0, 3.0, -1.0]), np.array([1.0, 3.0, 2.0, -1.0]), backward=backward)


@right
def lengths_and_angles_of_points():
    def forward(x, y):
        return {"r": np.hypot(x, y), "phi": np.arctan2(y, x)}

    def backward(d, x, y):
        square = x**2 + y**2
        r = np.sqrt(square)
        return d["r"] * x / r - d["phi"] * y / square, d["r"] * y / r + d["phi"] * x / square

    return given(forward, random(4), random(4, seed=1), backward=backward)


@right
def sine_and_cosine_features():
    def forward(x, frequencies):
        a = x[..., None] * frequencies
        return np.concatenate([np.sin(a), np.cos(a)], axis=-1), (x, frequencies, a)

    def backward(dout, cache):
        x, frequencies, a = cache
        dsin, dcos = np.split(dout, 2, axis=-1)
        da = dsin * np.cos(a) - dcos * np.sin(a)
        return (da * frequencies).sum(-1), np.einsum("ntf,nt->f", da, x)

    return given(forward, random(2, 3), np.array([1.0, 2.0, 4.0, 8.0]), backward=backward)


@right
def arctangent_and_softsign():
    def forward(x):
        return np.arctan(x) + x / (1 + np.abs(x))

    def backward(x, dy):
        return dy * (1 / (1 + x * x) + (1 + np.abs(x)) ** -2)

    return given(forward, random(3, 3), backward=backward)


@right
def whole_and_broken_powers():
    def forward(x):
        return x**3 - 2 * x**0.5 + x**1.5 + x**-1

    def backward(dy, x):
        return dy * (3 * x**2 - x**-0.5 + 1.5 * x**0.5 - x**-2)

    return given(forward, 0.2 + np.abs(random(2, 4)), backward=backward)


@right
def powers_of_two():
    def forward(x):
        return 2**x + np.exp2(-x)

    def backward(dy, x):
        return dy * np.log(2) * (2**x - 2.0**-x)

    return given(forward, random(7), backward=backward)


@right
def power_with_a_variable_exponent():
    def forward(base, exponent):
        out = np.power(base, exponent)
        return out, (base, exponent, out)

    def backward(dout, cache):
        base, exponent, out = cache
        return dout * exponent * np.power(base, exponent - 1), np.sum(dout * out * np.log(base), axis=0)

    return given(forward, 0.5 + np.abs(random(3, 4)), random(4, seed=1), backward=backward)


@right
def division_and_reciprocal():
    def forward(a, b):
        return a / b + np.reciprocal(b)

    def backward(dy, a, b):
        db = -dy * (a + 1) * np.reciprocal(np.square(b))
        return dy / b, db.sum(axis=0, keepdims=True)

    return given(forward, random(3, 4), 1 + np.abs(random(1, 4, seed=1)), backward=backward)


@right
def cube_roots_of_both_signs():
    def forward(x):
        return np.cbrt(x)

    def backward(dy, x):
        return dy / (3 * np.cbrt(x) ** 2)

    return given(forward, np.array([-8.0, -1.0, 0.5, 1.0, 27.0]), backward=backward)


@right
def three_pieces_by_select():
    def forward(x):
        return np.select([x < -1, x < 1], [-2 * x - 1, x**2], default=2 * x - 1)

    def backward(dy, x):
        return dy * np.select([x < -1, x < 1], [-2 * np.ones_like(x), 2 * x], default=2)

    return given(forward, 2 * random(3, 4), backward=backward)


@right
def hat_functions_around_knots():
    """A weighted sum of triangles, as np.interp would do; on a knot the slope is that of its right side."""
    knots = np.linspace(-2, 2, 5)

    def forward(x, heights):
        hats = np.maximum(0, 1 - np.abs(x[:, None] - knots))
        return hats @ heights, (x, heights, hats)

    def backward(dout, cache):
        x, heights, hats = cache
        offset = x[:, None] - knots
        slope = ((offset >= -1) & (offset < 0)) * 1.0 - ((offset >= 0) & (offset < 1))
        return dout * (slope @ heights), hats.T @ dout

    return given(forward, np.array([0.3, -1.2, 1.0, 1.9, -2.0, 0.5]), random(5), backward=backward, constants=["knots"])


@right
def polynomial_by_horner():
    def forward(x, coefficients):
        y = np.zeros_like(x)
        for c in coefficients[::-1]:
            y = y * x + c
        return y

    def backward(dy, x, coefficients):
        slope = sum(k * coefficients[k] * x ** (k - 1) for k in range(1, len(coefficients)))
        return dy * slope, np.array([np.sum(dy * x**k) for k in range(len(coefficients))])

    return given(forward, random(2, 3), random(5, seed=1), backward=backward)


@right
def square_root_with_a_safe_branch():
    def forward(x):
        inside = x > 0
        y = np.where(inside, np.sqrt(np.where(inside, x, 1.0)), 0.0)
        return y, (inside, y)

    def backward(dout, cache):
        inside, y = cache
        dx = np.zeros(y.shape)
        dx[inside] = 0.5 * dout[inside] / y[inside]
        return dx

    return given(forward, random(3, 4), backward=backward)


@right
def hard_sigmoid_cell_by_cell():
    def forward(x):
        out = np.zeros(x.shape)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                v = 0.2 * x[i, j] + 0.5
                if v < 0:
                    out[i, j] = 0
                elif v > 1:
                    out[i, j] = 1
                else:
                    out[i, j] = v
        return out

    def backward(dy, x):
        dx = np.zeros(x.shape)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                if 0 < 0.2 * x[i, j] + 0.5 < 1:
                    dx[i, j] = 0.2 * dy[i, j]
        return dx

    return given(forward, 3 * random(3, 4), backward=backward)


@right
def swish_with_a_learned_steepness():
    def forward(x, beta):
        s = 1 / (1 + np.exp(-beta * x))
        return x * s, (x, beta, s)

    def backward(dout, cache):
        x, beta, s = cache
        slope = s * (1 - s)
        return dout * (s + beta * x * slope), np.array([np.sum(dout * x * x * slope)])

    return given(forward, random(3, 4), np.array([1.3]), backward=backward)


@right
def inverse_functions_on_a_small_range():
    def forward(x):
        return np.arcsin(x) + np.arctanh(x) - np.arccosh(2 + x) + np.arcsinh(x)

    def backward(dy, x):
        return dy * (1 / np.sqrt(1 - x * x) + 1 / (1 - x * x) - 1 / np.sqrt((2 + x) ** 2 - 1) + 1 / np.sqrt(1 + x * x))

    return given(forward, np.linspace(-0.8, 0.8, 6), backward=backward)
