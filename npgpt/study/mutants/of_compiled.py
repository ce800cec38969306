"""Mistakes in the compiled layers: in what they ask of their kernels."""

from npgpt.study.mutants.plant import Mutant

LINEAR = "npgpt.compiled.linear:Linear.backward"
ATTENTION = "npgpt.compiled.attention:Attention.backward"
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
              "wrote the weight's gradient where it must add", "law", "Linear"),
    _compiled("linear-bias-of-one-row", LINEAR, "add_column_sums(rows(dy),", "add_column_sums(rows(dy[:1]),",
              "summed the first example alone", "one example", "Linear"),
    _compiled("layernorm-gain-from-dy", NORM, "rows(dy), rows(x), gain", "rows(dy), rows(dy), gain",
              "handed the kernel dy for x", "wrong operand", "LayerNorm"),
    _compiled("layernorm-clears", NORM, "dgain, dbias, add)", "dgain, dbias, False)",
              "wrote gain and bias where it must add", "law", "LayerNorm"),
    _compiled("activation-hands-through", "npgpt.compiled.activations:_Activation.backward", 'flat(output(cache, x.shape, "slope"))',
              "flat(output(cache, x.shape, \"slope\") * 0 + 1)", "forgot the slope", "lost factor", "TanhGELU"),
    _compiled("dropout-does-not-drop", "npgpt.compiled.dropout:Dropout.backward", "return self._drop(", "return dy if True else self._drop(",
              "handed dy through", "mask", "Dropout"),
    _compiled("embedding-overwrites", "npgpt.compiled.embedding:Embedding.backward", "grad, add)", "grad, False)",
              "cleared the table first, which the tied head had filled", "law", "Embedding"),
    _compiled("positions-of-one-example", "npgpt.compiled.positions:LearnedPositions.backward", "flat(dy).reshape(B, T * C)", "flat(dy).reshape(B, T * C)[:1]",
              "took the first example for all", "one example", "LearnedPositions"),
    _compiled("scores-without-scale", f"{SCORES}.visible", "1 / math.sqrt(q.shape[-1]), 0.0", "1.0, 0.0",
              "the 1/√D is missing in the backward pass", "factor", "Scores"),
    _compiled("scores-dk-not-transposed", f"{SCORES}.scaled_backward", "visible.swapaxes(-1, -2)", "visible",
              "forgot to transpose the scores for dk", "transposed", "Scores"),
    _compiled("mixing-dv-not-transposed", MIXING, "w.swapaxes(-1, -2)", "w",
              "forgot to transpose the weights for dv", "transposed", "Mixing"),
    _compiled("softmax-of-dw", "npgpt.compiled.attention:Softmax.backward", "rows(dw), rows(w), rows(ds)", "rows(w), rows(w), rows(ds)",
              "handed the kernel w for dw", "upstream", "Softmax"),
    _compiled("attention-stale-sums", ATTENTION, "flat(sums)", "flat(sums * 0)",
              "lost the log-sums on the way", "lost factor", "Attention"),
    _compiled("attention-undropped", ATTENTION, "*self._dropping(B, cache)", "np.zeros(B, np.int64), 0, 1.0",
              "forgot in the backward pass what was dropped", "mask", "Attention-dropout"),
    _compiled("mlp-forgets-the-slope", MLP, "how=how, other=rows(hidden), second=active)", "how=0); matmul(upstream, self.down.weight.value.T, active, how=how, other=rows(hidden), second=active)",
              "went around the activation", "lost factor", "MLP"),
    _compiled("block-loses-the-residual", BLOCK, 'cache.note("x", add(dmiddle, dbranch,', 'cache.note("x", add(0 * dmiddle, dbranch,',
              "lost the way around attention", "lost term", "Block"),
    _compiled("block-adds-the-branch-twice", BLOCK, 'cache.note("middle", add(dy, dbranch,', 'cache.note("middle", add(dbranch, dbranch,',
              "added the branch to itself", "lost term", "Block"),
    _compiled("head-loss-ignores-upstream", HEAD_LOSS, "flat(dx), scale, flat(dx))", "flat(dx), 1.0, flat(dx))",
              "forgot to scale by dloss", "upstream", "HeadLoss"),
    _compiled("head-loss-overwrites", HEAD_LOSS, "*cache.grad_to_fill(self.lm_head.weight)", "cache.grad_to_fill(self.lm_head.weight)[0]",
              "wrote the head's gradient where it must add", "law", "HeadLoss"),
    _compiled("loss-ignores-upstream", "npgpt.compiled.loss:CrossEntropy.backward", "float(dloss)", "1.0",
              "took the loss for the end of the world", "upstream", "CrossEntropy"),
    _compiled("adamw-decays-gains", "npgpt.compiled.optim:AdamW.step", "self.flat.n_matrix,", "self.flat.values.size,",
              "decayed gains and biases as well", "reference", "AdamW"),
    _compiled("adamw-not-corrected", "npgpt.compiled.optim:AdamW.step", "1 - self.power1", "1.0",
              "no bias correction of the mean", "reference", "AdamW"),
]
# fmt: on
