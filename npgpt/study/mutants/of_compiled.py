"""Mistakes in the compiled layers, in the calls of their kernels."""

from npgpt.study.mutants.plant import Mutant

LINEAR = "npgpt.compiled.linear:Linear.backward"
ATTENTION = "npgpt.compiled.attention:Attention.backward"
BACK_TO_X = "npgpt.layers.attention:Attention._back_to_x"
SCORES = "npgpt.compiled.attention:Scores"
MIXING = "npgpt.compiled.attention:Mixing.backward"
HEAD_LOSS = "npgpt.compiled.head_loss:HeadLoss.backward"
MLP = "npgpt.compiled.mlp:MLP.backward"
BLOCK = "npgpt.compiled.block:Block.backward"
NORM = "npgpt.compiled.layernorm:LayerNorm.backward"


def _compiled(name: str, target: str, old: str, new: str, says: str, kind: str, case: str) -> Mutant:
    return Mutant(f"compiled-{name}", target, old, new, says, kind, case, compiled=True)


# fmt: off
MUTANTS = [
    _compiled("linear-overwrites", LINEAR, "rows(dy), *cache.grad_to_fill(self.weight)", "rows(dy), cache.grad_to_fill(self.weight)[0]",
              "overwrote the weight's gradient instead of adding to it", "law", "Linear"),
    _compiled("linear-bias-of-one-row", LINEAR, "add_column_sums(rows(dy),", "add_column_sums(rows(dy[:1]),",
              "summed only the first example", "one example", "Linear"),
    _compiled("layernorm-gain-from-dy", NORM, "rows(dy), rows(x), gain", "rows(dy), rows(dy), gain",
              "passed dy instead of x to the kernel", "wrong operand", "LayerNorm"),
    _compiled("layernorm-clears", NORM, "dgain, dbias, add)", "dgain, dbias, False)",
              "overwrote the gradients of gain and bias instead of adding to them", "law", "LayerNorm"),
    _compiled("activation-hands-through", "npgpt.compiled.activations:_Activation.backward", 'flat(output(cache, x.shape, "slope"))',
              "flat(output(cache, x.shape, \"slope\") * 0 + 1)", "did not multiply by the activation function's derivative", "lost factor", "TanhGELU"),
    _compiled("dropout-does-not-drop", "npgpt.compiled.dropout:Dropout.backward", "return self._drop(", "return dy if True else self._drop(",
              "returned dy unchanged", "mask", "Dropout"),
    _compiled("embedding-overwrites", "npgpt.compiled.embedding:Embedding.backward", "grad, add)", "grad, False)",
              "cleared the tied head's share of the gradient", "law", "Embedding"),
    _compiled("positions-of-one-example", "npgpt.compiled.positions:LearnedPositions.backward", "flat(dy).reshape(B, T * C)", "flat(dy).reshape(B, T * C)[:1]",
              "used only the first example", "one example", "LearnedPositions"),
    _compiled("scores-without-scale", f"{SCORES}.visible", "1 / math.sqrt(q.shape[-1]), 0.0", "1.0, 0.0",
              "omitted 1/√D in the backward pass", "factor", "Scores"),
    _compiled("scores-dk-not-transposed", f"{SCORES}.scaled_backward", "visible.swapaxes(-1, -2)", "visible",
              "did not transpose the scores' gradient for dk", "transposed", "Scores"),
    _compiled("mixing-dv-not-transposed", MIXING, "w.swapaxes(-1, -2)", "w",
              "did not transpose the weights for dv", "transposed", "Mixing"),
    _compiled("softmax-of-dw", "npgpt.compiled.attention:Softmax.backward", "rows(dw), rows(w), rows(ds)", "rows(w), rows(w), rows(ds)",
              "passed w instead of dw to the kernel", "upstream", "Softmax"),
    _compiled("attention-stale-totals", ATTENTION, "largest, totals, self.n_head", "largest, totals * 0 + 1, self.n_head",
              "passed ones instead of the totals to the kernel", "wrong operand", "Attention"),
    _compiled("attention-stale-largest", ATTENTION, "largest, totals, self.n_head", "largest * 0, totals, self.n_head",
              "passed zeros instead of the largest products to the kernel", "lost factor", "Attention"),
    _compiled("attention-silences-rotated-keys", BACK_TO_X, "not self.key_bias_cancels", "False",
              "omitted the gradient of the keys' bias with rotated keys too", "lost term", "Attention-rotary"),
    _compiled("attention-keeps-the-noise", BACK_TO_X, "of_keys[...] = before", "before",
              "left rounding noise in the gradient of the keys' bias", "law", "Attention-relative-bias"),
    _compiled("attention-undropped", ATTENTION, "*self._dropping(B, cache)", "np.zeros(B, np.int64), 0, 1.0",
              "omitted dropout in the backward pass", "mask", "Attention-dropout"),
    _compiled("attention-ignores-documents", ATTENTION, "_starts(B, T, cache)", "_starts(B, T, cache)[:0]",
              "passed gradients to the keys of other documents", "mask", "Attention-packed"),
    _compiled("mlp-forgets-the-slope", MLP, "how=how, other=rows(hidden), second=active)", "how=0); matmul(upstream, self.down.weight.value.T, active, how=how, other=rows(hidden), second=active)",
              "skipped the activation function's derivative", "lost factor", "MLP"),
    _compiled("block-loses-the-residual", BLOCK, 'cache.note("x", add(dmiddle, dbranch,', 'cache.note("x", add(0 * dmiddle, dbranch,',
              "omitted the residual connection around attention", "lost term", "Block"),
    _compiled("block-adds-the-branch-twice", BLOCK, 'cache.note("middle", add(dy, dbranch,', 'cache.note("middle", add(dbranch, dbranch,',
              "added the branch's gradient to itself", "lost term", "Block"),
    _compiled("head-loss-ignores-upstream", HEAD_LOSS, "flat(dx), scale, flat(dx))", "flat(dx), 1.0, flat(dx))",
              "did not scale by dloss", "upstream", "HeadLoss"),
    _compiled("head-loss-overwrites", HEAD_LOSS, "*cache.grad_to_fill(self.lm_head.weight)", "cache.grad_to_fill(self.lm_head.weight)[0]",
              "overwrote the head's gradient instead of adding to it", "law", "HeadLoss"),
    _compiled("loss-ignores-upstream", "npgpt.compiled.loss:CrossEntropy.backward", "float(dloss)", "1.0",
              "treated dloss as 1", "upstream", "CrossEntropy"),
    _compiled("adamw-decays-gains", "npgpt.compiled.optim:AdamW.step", "self.flat.n_matrix,", "self.flat.values.size,",
              "applied weight decay to gains and biases too", "reference", "AdamW"),
    _compiled("adamw-not-corrected", "npgpt.compiled.optim:AdamW.step", "1 - self.power1", "1.0",
              "omitted the bias correction of the mean", "reference", "AdamW"),
]
# fmt: on
