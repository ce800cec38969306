import math

import numpy as np

import npgpt.optim as textbook
from npgpt.kernels import optimizer
from npgpt.machine.pool import pool


class AdamW(textbook.AdamW):
    """The compiled twin of ``npgpt.optim.AdamW``: clipping and update in one pass over memory."""

    def grad_norm(self) -> float:
        partial = np.empty(optimizer.chunks(self.flat.grads.size))
        return math.sqrt(optimizer.squared_norm(pool(), self.flat.grads, partial))

    def step(self, learning_rate: float, grad_scale: float = 1.0) -> None:
        self.flat.check()
        self.power1 *= self.beta1
        self.power2 *= self.beta2
        optimizer.adamw(
            pool(),
            self.flat.values,
            self.flat.grads,
            self.mean,
            self.square,
            self.flat.n_matrix,
            grad_scale,
            self.beta1,
            self.beta2,
            1 - self.power1,
            1 - self.power2,
            learning_rate,
            learning_rate * self.weight_decay,
            self.eps,
        )
