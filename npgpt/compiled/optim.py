import numpy as np

import npgpt.optim as textbook
from npgpt.core import Array
from npgpt.kernels import optimizer
from npgpt.machine.pool import pool


class AdamW(textbook.AdamW):
    """The compiled twin of ``npgpt.optim.AdamW``: clipping and update in one pass over memory."""

    def squares(self) -> Array:
        found = np.empty(optimizer.chunks(self.flat.grads.size))
        optimizer.squares(pool(), self.flat.grads, found)
        return found

    def step(self, learning_rate: float, grad_scale: float = 1.0) -> None:
        self.flat.check()
        learning_rate, grad_scale = self.checked(learning_rate, grad_scale)
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
