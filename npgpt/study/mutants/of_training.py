"""Mistakes in the optimizer, in clipping and in accumulation. A reference in plain numbers sees them."""

from npgpt.study.mutants.plant import Mutant

ADAMW = "npgpt.optim:AdamW.step"
ACCUMULATE = "npgpt.train:accumulate"
CACHE = "npgpt.core.cache:Cache"

# fmt: off
MUTANTS = [
    Mutant("adamw-mean-not-corrected", ADAMW, "self.mean / (1 - self.power1)", "self.mean",
           "no bias correction of the mean", "reference", "AdamW"),
    Mutant("adamw-square-not-corrected", ADAMW, "self.square / (1 - self.power2)", "self.square",
           "no bias correction of the square", "reference", "AdamW"),
    Mutant("adamw-decay-through-the-gradient", ADAMW, "self.flat.grads * grad_scale", "self.flat.grads * grad_scale + self.weight_decay * self.flat.values",
           "put the decay into the gradient, as Adam with L2 does", "reference", "AdamW"),
    Mutant("adamw-decays-gains", ADAMW, "values[: self.flat.n_matrix] *=", "values[:] *=",
           "decayed gains and biases as well", "reference", "AdamW"),
    Mutant("adamw-decay-without-rate", ADAMW, "1 - learning_rate * self.weight_decay", "1 - self.weight_decay",
           "forgot the learning rate in the decay", "reference", "AdamW"),
    Mutant("adamw-betas-swapped", ADAMW, "self.mean *= self.beta1", "self.mean *= self.beta2",
           "swapped β₁ and β₂", "reference", "AdamW"),
    Mutant("adamw-powers-swapped", ADAMW, "(1 - self.power1)", "(1 - self.power2)",
           "corrected the mean with the square's β", "reference", "AdamW"),
    Mutant("adamw-moments-swapped", ADAMW, "np.sqrt(square) + self.eps", "np.sqrt(np.abs(mean)) + self.eps",
           "divided by the root of the wrong moment", "reference", "AdamW"),
    Mutant("adamw-eps-inside-the-root", ADAMW, "(np.sqrt(square) + self.eps)", "np.sqrt(square + self.eps)",
           "ε inside the root", "reference", "AdamW"),
    Mutant("adamw-square-not-averaged", ADAMW, "(1 - self.beta2) * (g * g)", "g * g",
           "forgot 1 − β₂", "reference", "AdamW"),
    Mutant("adamw-clips-after-the-step", ADAMW, "self.flat.grads * grad_scale", "self.flat.grads * 1.0",
           "clipped when the step was done", "reference", "AdamW"),
    Mutant("adamw-goes-uphill", ADAMW, "values -= learning_rate * mean", "values += learning_rate * mean",
           "went up the slope", "reference", "AdamW"),
    Mutant("adamw-forgets-time", ADAMW, "self.power1 *= self.beta1", "self.power1 = self.beta1",
           "corrected every step as if it were the first", "reference", "AdamW"),
    Mutant("clip-to-one-over", "npgpt.optim:clip_scale", "max_norm / norm", "norm / max_norm",
           "made long gradients longer", "reference", "clip_scale"),
    Mutant("clip-always", "npgpt.optim:clip_scale", "max_norm / norm if norm > max_norm else 1.0", "max_norm / norm",
           "made short gradients longer", "reference", "clip_scale"),
    Mutant("accumulate-own-count", ACCUMULATE, "part_y, cache, count)", "part_y, cache)",
           "took the mean of each part, and added the means", "reference", "accumulate"),
    Mutant("accumulate-forgets-to-clear", ACCUMULATE, "model.zero_grad(cache)", "pass",
           "went on from the gradients of the last step", "reference", "accumulate"),
    Mutant("accumulate-clears-between", ACCUMULATE, "cache.reset(step=step, first_example=first)", "cache.reset(step=step, first_example=first); model.zero_grad()",
           "cleared the gradients between the parts", "reference", "accumulate"),
    Mutant("accumulate-numbers-examples-anew", ACCUMULATE, "first += len(part_x)", "first += 0",
           "dropped the same numbers in each part", "reference", "accumulate"),
    Mutant("accumulate-averages", ACCUMULATE, "model.loss_backward(1.0, cache)", "model.loss_backward(1.0 / micro_batches, cache)",
           "divided by the number of parts, though the count has done that", "reference", "accumulate"),
    Mutant("accumulate-leaves-what-no-kernel-reached", ACCUMULATE, "cache.clear_unwritten()", "pass",
           "left an old gradient where this step had none", "reference", "accumulate by kernels"),
    Mutant("zero-grad-leaves-all-to-kernels", "npgpt.core.layer:Layer.zero_grad", "if cache is None or not layer.COMPILED", "if cache is None",
           "took it for granted that a kernel writes every gradient", "reference", "accumulate by kernels"),
    Mutant("grad-to-fill-is-always-the-first", f"{CACHE}.grad_to_fill", "unwritten.pop(id(param), None)", "unwritten.get(id(param))",
           "let the second part write over the first", "reference", "accumulate by kernels"),
    Mutant("grad-to-add-to-is-not-cleared", f"{CACHE}.grad_to_add_to", "grad[...] = 0", "pass",
           "added to the gradient of the last step", "reference", "accumulate by kernels"),
]
# fmt: on
