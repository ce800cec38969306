"""Mistakes in the optimizer, in clipping, accumulation and the training loop. A second computation finds them."""

from npgpt.study.mutants.plant import Mutant

ADAMW = "npgpt.optim:AdamW.step"
ACCUMULATE = "npgpt.train:accumulate"
ADD = "npgpt.train:add_in_order"
CACHE = "npgpt.core.cache:Cache"
LOOP = "npgpt.train:optimizer_steps"
STEPS = "npgpt.train:_steps"
WINDOWS = "npgpt.train:training_windows"
OPTIMIZER = "npgpt.train:optimizer_of"
WEIGHTS = "npgpt.model:GPT.__init__"


def _loop(name: str, target: str, old: str, new: str, says: str, case: str = "training") -> Mutant:
    return Mutant(name, target, old, new, says, "reference", case)


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
    Mutant("accumulate-own-count", ACCUMULATE, "y[first:end], cache, count)", "y[first:end], cache)",
           "divided each part by its own count", "reference", "accumulate"),
    Mutant("accumulate-forgets-to-clear", ACCUMULATE, "model.zero_grad(cache)", "pass",
           "did not clear the gradients of the last step", "reference", "accumulate"),
    Mutant("accumulate-keeps-the-last-part", ADD, "total += grad", "total[...] = grad",
           "took the last part's gradient for the sum", "reference", "accumulate"),
    Mutant("accumulate-numbers-examples-anew", ACCUMULATE, "first_example=first", "first_example=0",
           "used the same dropout masks in each part", "reference", "accumulate"),
    Mutant("accumulate-averages", ACCUMULATE, "model.loss_backward(1.0, cache)", "model.loss_backward(1.0 / micro_batches, cache)",
           "divided by the number of parts as well as by the count", "reference", "accumulate"),
    Mutant("accumulate-leaves-what-no-kernel-reached", ACCUMULATE, "cache.clear_unwritten()", "pass",
           "kept the last step's gradient of a parameter that no kernel reached", "reference", "accumulate by kernels"),
    Mutant("zero-grad-leaves-all-to-kernels", "npgpt.core.layer:Layer.zero_grad", "if cache is None or not layer.COMPILED", "if cache is None",
           "did not clear the gradients of layers without kernels", "reference", "accumulate by kernels"),
    Mutant("grad-to-fill-is-always-the-first", f"{CACHE}.grad_to_fill", "unwritten.pop(param, self)", "unwritten.get(param, self)",
           "overwrote the first part's gradient with the second's", "reference", "accumulate by kernels"),
    Mutant("grad-to-add-to-is-not-cleared", f"{CACHE}.grad_to_add_to", "grad[...] = 0", "pass",
           "added to the gradient of the last step", "reference", "accumulate by kernels"),
    # clipping
    _loop("loop-never-clips", LOOP, "optimizer.step(learning_rate, clip_scale(norm, grad_clip))", "optimizer.step(learning_rate)", "never clipped the gradient"),
    _loop("loop-forgets-the-largest-norm", STEPS, "passes(), config.grad_clip, after)", "passes(), after=after)", "did not pass grad_clip on"),
    _loop("loop-clips-by-the-last-norm", LOOP, "clip_scale(norm, grad_clip))", 'clip_scale(vars(optimizer).get("last", norm), grad_clip)); optimizer.last = norm', "clipped by the norm of the step before"),
    _loop("norm-of-matrices", "npgpt.optim:AdamW.squares", "self.flat.grads", "self.flat.grads[: self.flat.n_matrix]", "omitted gains and biases in the norm"),
    # the schedule
    _loop("schedule-one-step-ahead", LOOP, "schedule(number - 1)", "schedule(number)", "used the learning rate of the next step"),
    _loop("schedule-falls-to-zero", STEPS, "config.learning_rate * config.min_learning_rate_ratio", "0.0", "ignored the lowest learning rate"),
    # batches
    _loop("batch-of-the-next-step", STEPS, "windows.batch(number - 1)", "windows.batch(number)", "used the batch of the next step"),
    _loop("batch-always-the-first", STEPS, "windows.batch(number - 1)", "windows.batch(0)", "used the same batch in every step"),
    _loop("batch-twice", STEPS, "windows.batch(number - 1)", "windows.batch((number - 1) // 2)", "used each batch twice"),
    _loop("order-ignores-the-seed", WINDOWS, "shuffle=True, seed=config.seed", "shuffle=True", "used the order of seed 0 for every seed"),
    _loop("order-not-shuffled", WINDOWS, "shuffle=True, seed=config.seed", "seed=config.seed", "did not shuffle the examples"),
    _loop("stride-ignored", WINDOWS, "context_length, stride, B", "context_length, 1, B", "started an example at every token"),
    _loop("last-batch-dropped", WINDOWS, "seed=config.seed", "seed=config.seed, drop_last=True", "dropped the last batch of an epoch, which is smaller"),
    # micro-batches
    _loop("last-micro-batch-dropped", ADD, "range(1, n)", "range(1, n - 1)", "dropped the last part"),
    _loop("added-backwards", ADD, "range(1, n)", "range(n - 1, 0, -1)", "added the parts in another order"),
    _loop("first-part-twice", ADD, "range(1, n)", "range(n)", "added the first part twice"),
    _loop("mean-of-means", ACCUMULATE, "cache, count))\n            model.loss_backward(1.0, cache)", "cache)) / micro_batches\n            model.loss_backward(1 / micro_batches, cache)", "averaged the means of unequal parts"),
    _loop("micro-batches-ignored", STEPS, "config.micro_batches, number", "1, number", "computed the batch in one part"),
    # dropout
    _loop("mask-of-the-first-step", STEPS, "micro_batches, number,", "micro_batches, 0,", "used the same dropout masks in every step"),
    _loop("mask-of-the-step-before", STEPS, "micro_batches, number,", "micro_batches, number - 1,", "used the dropout masks of the step before"),
    _loop("mask-of-one-seed", STEPS, "Cache(training=True, seed=config.seed)", "Cache(training=True)", "used the dropout masks of seed 0 for every seed"),
    _loop("never-drops", STEPS, "Cache(training=True, seed=config.seed)", "Cache(seed=config.seed)", "trained without dropout"),
    _loop("mask-of-every-block", "npgpt.layers.dropout:Dropout.keys", "cache.path", 'cache.path.split(".")[-1]', "used the same dropout mask in every block"),
    # initial weights
    _loop("weights-of-one-block", "npgpt.core.layer:Layer.initialise", 'make_key("initialise", seed, path)', 'make_key("initialise", seed, path.split(".", 2)[-1])', "drew the same initial weights in every block"),
    _loop("weights-of-three-blocks", WEIGHTS, "math.sqrt(2 * config.n_layer)", "math.sqrt(2 * min(config.n_layer, 2))", "counted at most two blocks"),
    # the optimizer
    _loop("optimizer-betas-swapped", OPTIMIZER, "config.beta1, config.beta2", "config.beta2, config.beta1", "passed β₁ as β₂"),
    _loop("optimizer-without-eps", OPTIMIZER, "config.eps, config.weight_decay", "weight_decay=config.weight_decay", "ignored ε"),
    _loop("optimizer-without-decay", OPTIMIZER, "config.eps, config.weight_decay", "config.eps", "ignored the weight decay"),
    _loop("adamw-one-step-later", ADAMW, "(1 - self.power1)", "(1 - self.power1 * self.beta1)", "corrected the mean as one step later"),
    _loop("compiled-adamw-never-clips", "npgpt.compiled.optim:AdamW.step", "grad_scale,", "1.0,", "took the step with the unclipped gradient", "compiled training"),
    _loop("compiled-norm-of-8192", "npgpt.compiled.optim:AdamW.squares", "self.flat.grads, found)", "self.flat.grads, found[:1])", "computed the norm of the first 8,192 numbers", "compiled training"),
    # evaluation
    _loop("evaluates-in-training", "npgpt.train:evaluate", "Cache(record=False)", "Cache(training=True, record=False)", "evaluated with dropout", "evaluate"),
]
# fmt: on
