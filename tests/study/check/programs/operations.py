"""A table of NumPy operations with derivatives written by hand.

Each row holds a forward (written the way people write it with NumPy) and a backward that takes the gradient of
the output `dy`, the output `y` and the operands.  For each operand the backward gives an array, or a list of arrays
(terms) whose sum is the gradient.  A gradient may have the broadcast shape: the caller sums it to the operand's.
"""
import numpy as np

TABLE = {}


class Operation:
    """One row of the table.

    operands  how the second operand is found: "one" (there is none), "broadcast", "same" (shape), "matmul",
              "outer", "concatenate" or "free" (any shape)
    draw      (rng, *arrays) -> parameters, or None where the operation does not fit these arrays
    domain    for each operand "any", "not large" or "moderate": outside it the operand is divided by its size first
    alike     the operands should be of about the same size
    mask      (*arrays, **parameters) -> boolean array, handed to the backward in front of the operands
    kink      (*arrays, **parameters) -> signed distances to the nearest kink or jump
    plant     where an exact kink lies: parameters -> value, or "greatest", "least" (ties along axis) or "equal"
    healthy   (y, *arrays, **parameters) -> smallest allowed denominator, to be compared with the operand's size
    shifted   (x, parameters) -> parameters that are off by one but still fit, or None
    """

    def __init__(self, name, forward, backward, operands="one", draw=None, domain="any", alike=False, mask=None,
                 kink=None, plant=None, healthy=None, shifted=None):
        self.name, self.forward, self.backward, self.operands, self.draw = name, forward, backward, operands, draw
        self.domain = (domain, domain) if isinstance(domain, str) else domain
        self.alike, self.mask, self.kink, self.plant = alike, mask, kink, plant
        self.healthy, self.shifted = healthy, shifted

    def terms(self, dy, y, arrays, parameters, inverted=False):
        """For each operand the list of terms of its gradient."""
        if self.mask is None:
            result = self.backward(dy, y, *arrays, **parameters)
        else:
            mask = self.mask(*arrays, **parameters)
            result = self.backward(dy, y, ~mask if inverted else mask, *arrays, **parameters)
        result = result if isinstance(result, tuple) else (result,)
        return [terms if isinstance(terms, list) else [terms] for terms in result]


def add(name, forward, backward, **settings):
    """Write one operation into the table."""
    TABLE[name] = Operation(name, forward, backward, **settings)


def collect(terms, shape, over=np.sum):
    """The sum of the terms, summed over the axes along which the operand was broadcast."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    if total.shape != shape:
        extra = total.ndim - len(shape)
        axes = [i + extra for i, length in enumerate(shape) if length == 1 and total.shape[i + extra] > 1]
        total = over(total, axis=(*range(extra), *axes), keepdims=True).reshape(shape)
    return total


# ---- drawing parameters ------------------------------------------------------------------------------------------

def pick(rng, choices):
    """One of the choices, each as likely."""
    return choices[int(rng.random() * len(choices))]


def rounded(number):
    """A number with three digits, as one writes a constant."""
    return float(f"{number:.3g}")


def an_axis(rng, x, *others):
    """An axis that is longer than one, counted from either end."""
    axes = [axis for axis in range(x.ndim) if x.shape[axis] > 1]
    if not axes:
        return None
    return {"axis": pick(rng, axes) - (x.ndim if rng.random() < 0.5 else 0)}


def a_level(rng, x, *others):
    """A constant in the midst of the values."""
    return {"level": rounded((rng.random() - 0.5) * np.abs(x).max())}


def two_bounds(rng, x):
    size = np.abs(x).max()
    return {"low": rounded(-(0.2 + 0.5 * rng.random()) * size), "high": rounded((0.2 + 0.5 * rng.random()) * size)}


def a_factor(rng, x):
    return {"factor": rounded((0.3 + 2 * rng.random()) * (1 if rng.random() < 0.5 else -1))}


def a_mask(rng, x, *others):
    """A fixed mask of the broadcast shape, with both values where there is room."""
    shape = np.broadcast_shapes(x.shape, *(other.shape for other in others))
    keep = rng.random(shape) < 0.6
    keep.flat[0], keep.flat[-1] = False, True
    return {"keep": keep}


def two_axes(rng, x):
    return {"first": int(rng.random() * x.ndim), "second": -1 if rng.random() < 0.7 else -2} if x.ndim > 1 else None


def an_order(rng, x):
    return {"order": tuple(rng.permutation(x.ndim).tolist())} if x.ndim > 1 else None


def a_shape(rng, x):
    """Another shape of two axes or three for the same number of values."""
    last = x.shape[-1]
    shapes = [(-1, last), (last, -1), (1, -1), (last, 1, -1)] + ([(x.shape[1], -1)] if x.ndim > 1 else [])
    shapes += [(2, -1), (-1, 2, last // 2)] if last % 2 == 0 else []
    return {"shape": pick(rng, shapes)}


def a_distance(rng, x):
    """How far to move along the last axis."""
    return {"by": 1 + int(rng.random() * min(2, x.shape[-1] - 1))} if x.shape[-1] > 1 else None


def a_roll(rng, x):
    axis = an_axis(rng, x)
    return axis and {"by": 1 + int(rng.random() * (x.shape[axis["axis"]] - 1)), **axis}


def a_slice(rng, x):
    axis = int(rng.random() * x.ndim)
    length = x.shape[axis]
    start = int(rng.random() * min(3, length))
    stop = start + 1 + int(rng.random() * (length - start))
    return {"axis": axis, "start": start, "stop": stop} if length > 1 else None


def a_padding(rng, x):
    return {"before": int(rng.random() * 3), "after": 1 + int(rng.random() * 2)}


def some_indices(rng, x):
    axis = an_axis(rng, x)
    if axis is None:
        return None
    shape, length = list(x.shape), x.shape[axis["axis"]]
    shape[axis["axis"]] = 1 + int(rng.random() * length)
    return {"indices": rng.integers(length, size=shape), **axis}


def some_rows(rng, x):
    return {"rows": rng.integers(len(x), size=1 + int(rng.random() * 6))} if x.ndim > 1 and len(x) > 1 else None


def a_window(rng, x):
    """Width and start of sliding windows over the last axis."""
    length = x.shape[-1]
    if length < 3 or x.ndim > 3:
        return None
    start = int(rng.random() * 2)
    return {"width": 2 + int(rng.random() * (length - start - 1)), "start": start}


def copies(rng, x):
    return {"copies": 2 + int(rng.random() * 2), "axis": int(rng.random() * x.ndim)}


def a_join(rng, a, b):
    """An axis along which the two arrays can be laid end to end."""
    axes = [axis for axis in range(a.ndim)
            if a.shape[:axis] + a.shape[axis + 1:] == b.shape[:axis] + b.shape[axis + 1:]]
    return {"axis": pick(rng, axes)} if axes else None


def a_new_axis(rng, a, b):
    axis = int(rng.random() * (a.ndim + 1)) - (a.ndim + 1 if rng.random() < 0.5 else 0)
    return {"axis": axis} if a.ndim < 4 else None


def matrices(rng, x, *others):
    return {} if x.ndim > 1 else None


# ---- single values: arithmetic and smooth functions ----------------------------------------------------------------

add("negative", lambda x: -x, lambda dy, y, x: -dy)
add("times constant", lambda x, factor: factor * x, lambda dy, y, x, factor: factor * dy, draw=a_factor)
add("plus constant", lambda x, level: x + level, lambda dy, y, x, level: dy, draw=a_level)
add("divide by constant", lambda x, size: x / size, lambda dy, y, x, size: dy / size, draw=lambda rng, x: None)
add("square", lambda x: x ** 2, lambda dy, y, x: 2 * x * dy)
add("square by np.square", lambda x: np.square(x), lambda dy, y, x: 2 * x * dy)
add("cube", lambda x: np.power(x, 3), lambda dy, y, x: 3 * np.power(x, 2) * dy, domain="moderate")
add("power of one plus square", lambda x, p: (1.0 + x * x) ** p,
    lambda dy, y, x, p: dy * p * (1.0 + x * x) ** (p - 1) * 2 * x, domain="moderate",
    draw=lambda rng, x: {"p": pick(rng, (-1.0, -0.5, 0.75, 1.5))})
add("exp", lambda x: np.exp(x), lambda dy, y, x: dy * y, domain="moderate")
add("exp of minus square", lambda x: np.exp(-0.5 * x ** 2), lambda dy, y, x: -dy * x * y, domain="moderate")
add("log1p of square", lambda x: np.log1p(x ** 2), lambda dy, y, x: dy * 2 * x / (1 + x ** 2), domain="not large")
add("sqrt of one plus square", lambda x: np.sqrt(1 + x ** 2), lambda dy, y, x: dy * x / y, domain="moderate")
add("sin", lambda x: np.sin(x), lambda dy, y, x: dy * np.cos(x), domain="not large")
add("cos", lambda x: np.cos(x), lambda dy, y, x: -dy * np.sin(x), domain="moderate")
add("arctan", lambda x: np.arctan(x), lambda dy, y, x: dy / (1 + x ** 2), domain="not large")
add("tanh", lambda x: np.tanh(x), lambda dy, y, x: [dy, -dy * y ** 2], domain="not large")
add("sigmoid", lambda x: 1 / (1 + np.exp(-x)), lambda dy, y, x: [dy * y, -dy * y ** 2], domain="moderate")
add("softplus", lambda x: np.logaddexp(0, x), lambda dy, y, x: dy / (1 + np.exp(-x)), domain="moderate")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


add("swish", lambda x: x / (1 + np.exp(-x)),
    lambda dy, y, x: [dy * sigmoid(x), dy * x * sigmoid(x) * (1 - sigmoid(x))], domain="moderate")
GELU = np.sqrt(2 / np.pi)


def gelu_backward(dy, y, x):
    t = np.tanh(GELU * (x + 0.044715 * x ** 3))
    return [dy * 0.5 * (1 + t), dy * 0.5 * x * (1 - t ** 2) * GELU * (1 + 3 * 0.044715 * x ** 2)]


add("gelu", lambda x: 0.5 * x * (1 + np.tanh(GELU * (x + 0.044715 * x ** 3))), gelu_backward, domain="moderate")

# ---- single values: functions with kinks and masks -----------------------------------------------------------------

add("abs", lambda x: np.abs(x), lambda dy, y, m, x: dy * np.where(m, 1.0, -1.0), mask=lambda x: x >= 0,
    kink=lambda x: x, plant=lambda p: 0.0)
add("sign times square", lambda x: np.sign(x) * x ** 2, lambda dy, y, x: dy * 2 * np.abs(x), kink=lambda x: x)
add("relu", lambda x: np.maximum(x, 0), lambda dy, y, m, x: dy * m, mask=lambda x: x > 0, kink=lambda x: x,
    plant=lambda p: 0.0)
add("relu by mask", lambda x: x * (x > 0), lambda dy, y, m, x: dy * m, mask=lambda x: x > 0, kink=lambda x: x,
    plant=lambda p: 0.0)
add("leaky relu", lambda x: np.where(x > 0, x, 0.1 * x), lambda dy, y, m, x: np.where(m, dy, 0.1 * dy),
    mask=lambda x: x > 0, kink=lambda x: x, plant=lambda p: 0.0)
add("maximum with constant", lambda x, level: np.maximum(x, level), lambda dy, y, m, x, level: dy * m, draw=a_level,
    mask=lambda x, level: x > level, kink=lambda x, level: x - level, plant=lambda p: p["level"])
add("minimum with constant", lambda x, level: np.minimum(level, x), lambda dy, y, m, x, level: dy * m, draw=a_level,
    mask=lambda x, level: x < level, kink=lambda x, level: x - level, plant=lambda p: p["level"])
add("clip", lambda x, low, high: np.clip(x, low, high), lambda dy, y, m, x, low, high: dy * m, draw=two_bounds,
    mask=lambda x, low, high: (x >= low) & (x <= high),
    plant=lambda p: p["low"] if p["low"] + p["high"] < 0 else p["high"],
    kink=lambda x, low, high: np.minimum(np.abs(x - low), np.abs(x - high)))
add("where square above level", lambda x, level: np.where(x > level, x ** 2, level * x),
    lambda dy, y, m, x, level: np.where(m, 2 * x * dy, level * dy), draw=a_level, domain="moderate",
    mask=lambda x, level: x > level, kink=lambda x, level: x - level, plant=lambda p: p["level"])
add("where fixed mask", lambda x, keep: np.where(keep, x, 0.0), lambda dy, y, m, x, keep: dy * m, draw=a_mask,
    mask=lambda x, keep: keep)


def assign_below(x, level):
    y = x.copy()
    y[x < level] = level
    return y


def assign_zero_above(x, level):
    y = np.array(x)
    y[y > level] = 0.0
    return y


def halve_where(x, keep):
    y = np.copy(x)
    y[keep] *= 0.5
    return y


def add_row_above(x):
    y = x.copy()
    y[1:] += 0.5 * x[:-1]
    return y


def add_row_above_backward(dy, y, x):
    moved = np.zeros_like(dy)
    moved[:-1] = 0.5 * dy[1:]
    return [dy, moved]


def add_in_place(a, b):
    y = np.zeros(np.broadcast_shapes(a.shape, b.shape))
    y += a
    y += 2 * b
    return y


add("assign level below level", assign_below, lambda dy, y, m, x, level: dy * m, draw=a_level,
    mask=lambda x, level: x >= level, kink=lambda x, level: x - level, plant=lambda p: p["level"])
add("assign zero above level", assign_zero_above, lambda dy, y, m, x, level: dy * m, draw=a_level,
    mask=lambda x, level: ~(x > level), kink=lambda x, level: x - level)
add("halve where mask", halve_where, lambda dy, y, m, x, keep: dy * np.where(m, 0.5, 1.0), draw=a_mask,
    mask=lambda x, keep: keep)
add("add row above in place", add_row_above, add_row_above_backward,
    draw=lambda rng, x: {} if x.ndim > 1 and len(x) > 1 else None)

# ---- two arrays ----------------------------------------------------------------------------------------------------


def size_of_sum(y, *arrays, **parameters):
    """The size of a sum, which is unhealthy where the terms cancel."""
    return np.abs(y).max(keepdims=True)


def size_of_product(y, a, b):
    """The size of a sum of products, in units of the first operand."""
    return np.abs(y).max(keepdims=True) / np.abs(b).max()


two = {"operands": "broadcast", "alike": True}
add("add", lambda a, b: a + b, lambda dy, y, a, b: (dy, dy), healthy=size_of_sum, **two)
add("subtract", lambda a, b: a - b, lambda dy, y, a, b: (dy, -dy), healthy=size_of_sum, **two)
add("add in place", add_in_place, lambda dy, y, a, b: (dy, 2 * dy), healthy=size_of_sum, **two)
add("multiply", lambda a, b: a * b, lambda dy, y, a, b: (dy * b, dy * a), operands="broadcast")
add("divide by one plus square", lambda a, b: a / (1 + b ** 2),
    lambda dy, y, a, b: (dy / (1 + b ** 2), -dy * 2 * a * b / (1 + b ** 2) ** 2), operands="broadcast",
    domain=("any", "moderate"))
add("sign times", lambda a, b: np.sign(a) * b, lambda dy, y, a, b: (np.zeros_like(dy), dy * np.sign(a)),
    operands="broadcast", kink=lambda a, b: a)
add("maximum", lambda a, b: np.maximum(a, b), lambda dy, y, m, a, b: (dy * m, dy * ~m), mask=lambda a, b: a >= b,
    kink=lambda a, b: a - b, plant="equal", **two)
add("minimum", lambda a, b: np.minimum(a, b), lambda dy, y, m, a, b: (dy * m, dy * ~m), mask=lambda a, b: a <= b,
    kink=lambda a, b: a - b, plant="equal", **two)
add("where two", lambda a, b, keep: np.where(keep, a, b), lambda dy, y, m, a, b, keep: (dy * m, dy * ~m), draw=a_mask,
    mask=lambda a, b, keep: keep, **two)
add("hypot", lambda a, b: np.hypot(a, b), lambda dy, y, a, b: (dy * a / y, dy * b / y),
    healthy=lambda y, a, b: y, **two)
add("logaddexp", lambda a, b: np.logaddexp(a, b), lambda dy, y, a, b: (dy * np.exp(a - y), dy * np.exp(b - y)),
    operands="broadcast", domain="moderate")
add("times mean of other", lambda a, b: a * b.mean(),
    lambda dy, y, a, b: (dy * b.mean(), np.full(b.shape, (dy * a).sum() / b.size)), operands="free",
    healthy=lambda y, a, b: np.abs(b.mean(keepdims=True)) / np.abs(b).max() * np.abs(a).max())
