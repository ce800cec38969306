"""AdamW on the flat parameter vector, gradient clipping, and the learning-rate schedule.

Rates and powers of β are computed with + − × ÷ and square roots only. These give the same bits on every machine;
powers, logarithms and cosines of the C library do not. (NumPy's sums, here and in all textbook layers, do not either.)
"""

import functools
import math
import operator
from typing import Any

import numpy as np

from npgpt.core import Array, FlatParams
from npgpt.core.param import CHUNK, writeable
from npgpt.core.values import real, whole
from npgpt.exact import cos_pi


class AdamW:
    """Adam with decoupled weight decay, which applies to matrices only.

    With g the gradient of step t = 1, 2, ..., in this order, element by element:
      1. m ← β₁m + (1 − β₁)g         running mean of the gradient
      2. v ← β₂v + (1 − β₂)g²        running mean of its square
      3. m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ)    bias correction: m starts at 0, so the weights (1 − β₁)β₁ᵏ of the
                                     t gradients in it sum to 1 − β₁ᵗ, not to 1; the same for v
      4. θ ← θ − ηλθ                 weight decay, applied to θ directly, not through g; not to gains and biases
      5. θ ← θ − η·m̂/(√v̂ + ε)

    Args
        flat: parameters and gradients; the gradients are not changed.
    Source
        Kingma and Ba 2014, arXiv:1412.6980; Loshchilov and Hutter 2017, arXiv:1711.05101

    >>> from npgpt.core import Param
    >>> flat = FlatParams([Param(np.array([[1.]])), Param(np.array([1.]))], np.float64)
    >>> flat.grads[:] = 0.5
    >>> AdamW(flat, weight_decay=0.1).step(0.01)
    >>> flat.values.round(6)               # the first step is −η·sign(g) for both; the matrix also decays by ηλ
    array([0.989, 0.99 ])
    """

    def __init__(
        self, flat: FlatParams, beta1: float = 0.9, beta2: float = 0.95, eps: float = 1e-8, weight_decay: float = 0.1
    ) -> None:
        self.flat = flat
        self.beta1, self.beta2 = (real("AdamW", *b, least=0, below=1) for b in (("beta1", beta1), ("beta2", beta2)))
        self.eps = real("AdamW", "eps", eps, above=0)
        self.weight_decay = real("AdamW", "weight_decay", weight_decay, least=0)
        self.mean, self.square = (np.zeros(flat.values.shape, flat.values.dtype) for _ in range(2))
        self.power1 = self.power2 = 1.0  # β₁ᵗ and β₂ᵗ, by repeated multiplication

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.mean, self.square = writeable(self.mean), writeable(self.square)

    def grad_norm(self) -> float:
        """Return the Euclidean norm of all gradients together."""
        return norm(self.squares())

    def squares(self) -> Array:
        """Return the sum of the squares of each ``CHUNK`` gradients, in float64: in float32, 1e20² is infinite."""
        grads = self.flat.grads
        chunks = (grads[start : start + CHUNK] for start in range(0, len(grads), CHUNK))
        return np.array([np.square(chunk, dtype=np.float64).sum() for chunk in chunks])

    def checked(self, learning_rate: float, grad_scale: float) -> tuple[float, float]:
        """Return the arguments of ``step``; ConfigError unless they are numbers from 0 on."""
        rate = real("AdamW", "learning_rate", learning_rate, least=0)
        return rate, real("AdamW", "grad_scale", grad_scale, least=0)

    def step(self, learning_rate: float, grad_scale: float = 1.0) -> None:
        """Update the parameters with the current gradients times ``grad_scale`` (see ``clip_scale``).

        Raises
            ConfigError if a parameter is no longer in the vector, so that its layer would not be trained.
        """
        self.flat.check()
        learning_rate, grad_scale = self.checked(learning_rate, grad_scale)
        values, g = self.flat.values, self.flat.grads * grad_scale
        self.power1 *= self.beta1
        self.power2 *= self.beta2
        self.mean *= self.beta1  # 1.
        self.mean += (1 - self.beta1) * g
        self.square *= self.beta2  # 2.
        self.square += (1 - self.beta2) * (g * g)
        mean = self.mean / (1 - self.power1)  # 3.
        square = self.square / (1 - self.power2)
        values[: self.flat.n_matrix] *= 1 - learning_rate * self.weight_decay  # 4.
        values -= learning_rate * mean / (np.sqrt(square) + self.eps)  # 5.


def norm(squares: Array) -> float:
    """Return the square root of the sum of the sums, which are added in their order."""
    return math.sqrt(functools.reduce(operator.add, squares.tolist(), 0.0))


def clip_scale(norm: float, max_norm: float) -> float:
    """Return the factor that scales a gradient of this norm down to max_norm, or 1 if the norm is not larger.

    >>> clip_scale(5.0, 1.0), clip_scale(0.5, 1.0)
    (0.2, 1.0)
    """
    norm = real("clip_scale", "norm", norm, least=0)
    max_norm = largest_norm("clip_scale", "max_norm", max_norm)
    return max_norm / norm if norm > max_norm else 1.0


def largest_norm(who: str, name: str, value: float) -> float:
    """Check a limit of gradients: a number above 0; infinity is no limit."""
    return math.inf if type(value) is float and value == math.inf else real(who, name, value, above=0)


class WarmupCosine:
    """The learning rate of each step: linear warm-up, then cosine decay.

    After the warm-up, lowest + (highest − lowest)·(1 + cos πs)/2, where s increases from 0 to 1.

    Args
        highest: the rate of the last warm-up step and of the step after it.
        lowest: the rate of the last step, number steps − 1 (unless the warm-up takes all steps).

    >>> schedule = WarmupCosine(highest=1.0, lowest=0.2, warmup=2, steps=7)
    >>> [round(schedule(step), 6) for step in range(7)]
    [0.5, 1.0, 1.0, 0.882843, 0.6, 0.317157, 0.2]
    """

    def __init__(self, highest: float, lowest: float, warmup: int, steps: int) -> None:
        rates = (("highest", highest), ("lowest", lowest))
        self.highest, self.lowest = (real("WarmupCosine", *rate, least=0) for rate in rates)
        self.warmup = whole("WarmupCosine", "warmup", warmup, 0)
        self.steps = whole("WarmupCosine", "steps", steps, 1)

    def __call__(self, step: int) -> float:
        step = whole("WarmupCosine", "step", step, 0)
        if step < self.warmup:
            return self.highest * (step + 1) / self.warmup
        way = (step - self.warmup) / max(1, self.steps - 1 - self.warmup)
        return self.lowest + (self.highest - self.lowest) * (1 + cos_pi(min(way, 1.0))) / 2
