"""Mistakes in the optimizer, in clipping and in accumulation. A reference in plain numbers finds them."""

from npgpt.study.mutants.plant import Mutant

ADAMW = "npgpt.optim:AdamW.step"
ACCUMULATE = "npgpt.train:accumulate"
CACHE = "npgpt.core.cache:Cache"

# fmt: off
MUTANTS = [
    Mutant("adamw-mean-not-corrected", ADAMW, "self.mean / (1 - self.power1)", "self.mean",
           "omitted the bias correction of the mean", "reference", "AdamW"),
    Mutant("adamw-square-not-corrected", ADAMW, "self.square / (1 - self.power2)", "self.square",
           "omitted the bias correction of the mean square", "reference", "AdamW"),
    Mutant("adamw-decay-through-the-gradient", ADAMW, "self.flat.grads * grad_scale", "self.flat.grads * grad_scale + self.weight_decay * self.flat.values",
           "added the decay to the gradient, as Adam with L2 does", "reference", "AdamW"),
    Mutant("adamw-decays-gains", ADAMW, "values[: self.flat.n_matrix] *=", "values[:] *=",
           "applied weight decay to gains and biases too", "reference", "AdamW"),
    Mutant("adamw-decay-without-rate", ADAMW, "1 - learning_rate * self.weight_decay", "1 - self.weight_decay",
           "omitted the learning rate in the decay", "reference", "AdamW"),
    Mutant("adamw-betas-swapped", ADAMW, "self.mean *= self.beta1", "self.mean *= self.beta2",
           "used β₂ instead of β₁ to decay the mean", "reference", "AdamW"),
    Mutant("adamw-powers-swapped", ADAMW, "(1 - self.power1)", "(1 - self.power2)",
           "used β₂ instead of β₁ to correct the mean", "reference", "AdamW"),
    Mutant("adamw-moments-swapped", ADAMW, "np.sqrt(square) + self.eps", "np.sqrt(np.abs(mean)) + self.eps",
           "divided by the root of the first moment", "reference", "AdamW"),
    Mutant("adamw-eps-inside-the-root", ADAMW, "(np.sqrt(square) + self.eps)", "np.sqrt(square + self.eps)",
           "added ε inside the root", "reference", "AdamW"),
    Mutant("adamw-square-not-averaged", ADAMW, "(1 - self.beta2) * (g * g)", "g * g",
           "omitted the factor 1 − β₂", "reference", "AdamW"),
    Mutant("adamw-clips-after-the-step", ADAMW, "self.flat.grads * grad_scale", "self.flat.grads * 1.0",
           "took the step with the unclipped gradient", "reference", "AdamW"),
    Mutant("adamw-goes-uphill", ADAMW, "values -= learning_rate * mean", "values += learning_rate * mean",
           "added the update instead of subtracting it", "reference", "AdamW"),
    Mutant("adamw-forgets-time", ADAMW, "self.power1 *= self.beta1", "self.power1 = self.beta1",
           "used the first step's bias correction at every step", "reference", "AdamW"),
    Mutant("clip-to-one-over", "npgpt.optim:clip_scale", "max_norm / norm", "norm / max_norm",
           "inverted the clipping factor", "reference", "clip_scale"),
    Mutant("clip-always", "npgpt.optim:clip_scale", "max_norm / norm if norm > max_norm else 1.0", "max_norm / norm",
           "scaled short gradients up to the maximum norm", "reference", "clip_scale"),
    Mutant("accumulate-own-count", ACCUMULATE, "part_y, cache, count)", "part_y, cache)",
           "divided each part by its own count", "reference", "accumulate"),
    Mutant("accumulate-forgets-to-clear", ACCUMULATE, "model.zero_grad(cache)", "pass",
           "did not clear the gradients of the last step", "reference", "accumulate"),
    Mutant("accumulate-clears-between", ACCUMULATE, "cache.reset(step=step, first_example=first)", "cache.reset(step=step, first_example=first); model.zero_grad()",
           "cleared the gradients between the parts", "reference", "accumulate"),
    Mutant("accumulate-numbers-examples-anew", ACCUMULATE, "first += len(part_x)", "first += 0",
           "used the same dropout masks in each part", "reference", "accumulate"),
    Mutant("accumulate-averages", ACCUMULATE, "model.loss_backward(1.0, cache)", "model.loss_backward(1.0 / micro_batches, cache)",
           "divided by the number of parts as well as by the count", "reference", "accumulate"),
    Mutant("accumulate-leaves-what-no-kernel-reached", ACCUMULATE, "cache.clear_unwritten()", "pass",
           "kept the last step's gradient of a parameter that no kernel reached", "reference", "accumulate by kernels"),
    Mutant("zero-grad-leaves-all-to-kernels", "npgpt.core.layer:Layer.zero_grad", "if cache is None or not layer.COMPILED", "if cache is None",
           "did not clear the gradients of layers without kernels", "reference", "accumulate by kernels"),
    Mutant("grad-to-fill-is-always-the-first", f"{CACHE}.grad_to_fill", "unwritten.pop(id(param), None)", "unwritten.get(id(param))",
           "overwrote the first part's gradient with the second's", "reference", "accumulate by kernels"),
    Mutant("grad-to-add-to-is-not-cleared", f"{CACHE}.grad_to_add_to", "grad[...] = 0", "pass",
           "added to the gradient of the last step", "reference", "accumulate by kernels"),
]
# fmt: on
