"""Mistakes that show only beyond a border: a number of heads, blocks, rows or ids, a full context, a large number.

The usual sizes of the checker do not find them. Each names a case at a border (``check/cases.py``, ``BORDERS``).
"""

from npgpt.study.mutants.plant import Mutant

ATTENTION = "npgpt.layers.attention:Attention.backward"
SCORES = "npgpt.layers.attention:Scores.backward"
MIXING = "npgpt.layers.attention:Mixing.backward"
NORM = "npgpt.layers.layernorm:LayerNorm.backward"
LINEAR = "npgpt.layers.linear:Linear.backward"
EMBEDDING = "npgpt.layers.embedding:Embedding.backward"
HEAD = "npgpt.layers.head:VocabularyHead.backward"
POSITIONS = "npgpt.layers.positions:LearnedPositions"
BIAS = "npgpt.layers.scores:RelativeBiasScores.backward"
BACK, FORTH = "npgpt.model:GPT.backward_from_head", "npgpt.model:GPT.forward_to_head"
LOSS = "npgpt.layers.loss:CrossEntropy"
SCATTER = "np.add.at(self.weight.grad, ids, dy)"


def _border(name: str, target: str, old: str, new: str, says: str, case: str) -> Mutant:
    compiled = target.startswith(("npgpt.compiled", "npgpt.kernels"))
    return Mutant(f"{'compiled-' * compiled}{name}", target, old, new, says, "border", case, compiled)


# fmt: off
MUTANTS = [
    # 4 heads
    _border("attention-turns-four-heads", ATTENTION, "self._put_together(cache.note(name, d))", "self._put_together(cache.note(name, d)[:, :: -1 if self.n_head > 3 else 1])", "merged the heads in the reverse order if there are more than 3", "Attention@wide"),
    _border("scores-divide-by-heads", SCORES, "math.sqrt(q.shape[-1])", "math.sqrt(q.shape[-1] if q.shape[1] < 4 else q.shape[1])", "divided by √H instead of √D with more than 3 heads", "Scores@wide"),
    _border("mixing-of-three-heads", MIXING, "w.swapaxes(-1, -2) @ dm", "w.swapaxes(-1, -2) @ dm * (np.arange(dm.shape[1]) < 3)[:, None, None]", "omitted dv beyond the third head", "Mixing@wide"),
    _border("relative-bias-of-three-heads", BIAS, "np.add.at(self.weight.grad.T, distances(T, N), db.transpose(1, 2, 0))", "np.add.at(self.weight.grad.T[:, :3], distances(T, N), db[:3].transpose(1, 2, 0))", "omitted the bias beyond the third head", "RelativeBiasScores@wide"),
    _border("attention-of-three-heads", "npgpt.compiled.attention:Attention.backward", "dq, dk, dv = self._parts(dqkv)", "dq, dk, dv = self._parts(dqkv); dq[:, 3:] = 0", "omitted dq beyond the third head", "Attention@wide"),
    _border("scores-turn-four-heads", "npgpt.compiled.attention:Scores.scaled_backward", "multiply_heads(visible, k,", "multiply_heads(visible, k[:, :: -1 if k.shape[1] > 3 else 1],", "multiplied by another head's keys if there are more than 3", "Scores@wide"),
    _border("products-of-three-heads", "npgpt.kernels.heads:multiply_heads", "np.ndindex(out.shape[:2])", "np.ndindex(len(out), min(3, out.shape[1]))", "left the products beyond the third head as they were", "Mixing@wide"),
    # 3 blocks
    _border("gpt-skips-the-third-block", BACK, 'block.backward(dx, cache.scope(f"blocks.{i}"))', 'block.backward(dx, cache.scope(f"blocks.{i}")) if i < 2 else dx', "skipped the blocks beyond the second in the backward pass", "GPT-tied"),
    _border("gpt-third-block-last", BACK, "reversed(list(enumerate(self.blocks)))", "sorted(enumerate(self.blocks), key=lambda pair: (1, 0, 2)[pair[0]])", "ran the third block's backward pass last", "GPT-tied"),
    _border("gpt-third-block-is-the-first", FORTH, "x = block.forward(", "x = self.blocks[i % 2].forward(", "used the first block's weights again in the third block's forward pass", "GPT-tied"),
    # T = context_length
    _border("positions-lose-the-last", f"{POSITIONS}.backward", "+= dy.sum(0)", "+= dy.sum(0) * (np.arange(dy.shape[1]) < len(self.weight.grad) - 1)[:, None]", "omitted the gradient of the last row, which only a full context uses", "GPT-tied"),
    _border("positions-stop-before-the-last", f"{POSITIONS}.forward", "at_positions(self.weight.value[cache.n_past :], x, cache)", "self.weight.value[np.minimum(np.arange(x.shape[1]), len(self.weight.value) - 2)]", "added the last but one vector at the last position of a full context", "GPT-tied"),
    _border("relative-bias-of-a-full-context", BIAS, "np.add.at(self.weight.grad.T, distances(T, N)", "np.add.at(self.weight.grad.T, distances(T, N - (T == N))", "added the farthest distance of a full context to the one before", "GPT-relative-bias"),
    _border("positions-lose-the-last", "npgpt.compiled.positions:LearnedPositions.backward", "flat(dy).reshape(B, T * C)", "flat(dy * (np.arange(T, dtype=np.float32) < len(self.weight.value) - 1)[:, None].astype(np.float32)).reshape(B, T * C)", "omitted the gradient of the last row, which only a full context uses", "GPT-tied"),
    # V > 64
    _border("head-of-64-ids", HEAD, "rows(dy).T @ rows(x)", "(rows(dy) * (np.arange(len(weight)) < 64)).T @ rows(x)", "omitted the weight's gradient beyond id 63", "VocabularyHead@wide"),
    _border("loss-sums-64-ids", f"{LOSS}.backward", "dlog_probabilities.sum(-1, keepdims=True)", "dlog_probabilities[..., :64].sum(-1, keepdims=True)", "summed over ids below 64 in the backward pass", "CrossEntropy@wide"),
    _border("loss-normalises-64-ids", f"{LOSS}.forward", "np.exp(shifted).sum", "np.exp(shifted[..., :64]).sum", "summed over ids below 64 in the denominator", "CrossEntropy@wide"),
    _border("embedding-of-64-ids", EMBEDDING, SCATTER, SCATTER.replace("ids", "ids % 64"),
            "added the gradients of ids from 64 on to other rows", "Embedding@wide"),
    _border("embedding-of-64-ids", "npgpt.compiled.embedding:Embedding.backward", "_row(ids), grad", "_row(ids) % 64, grad", "added the gradients of ids from 64 on to other rows", "Embedding@wide"),
    _border("head-of-64-ids", "npgpt.compiled.head:VocabularyHead.backward", "matmul(rows(dy), weight,", "matmul(rows(dy)[:, :64], weight[:64],", "summed over ids below 64 in dx", "VocabularyHead@wide"),
    _border("head-loss-of-64-ids", "npgpt.compiled.head_loss:HeadLoss.backward", "matmul(dlogits, weight,", "matmul(dlogits[:, :64], weight[:64],", "summed over ids below 64 in dx", "HeadLoss@wide"),
    _border("loss-of-64-ids", "npgpt.compiled.loss:CrossEntropy.backward", "return dlogits", "dlogits[..., 64:] = 0; return dlogits", "omitted the gradients of logits from 64 on", "CrossEntropy@wide"),
    # 2-D input
    _border("linear-bias-of-two-axes", LINEAR, "rows(dy).sum(0)", "dy.sum((0, 1))", "summed over the first two axes, also if x has only two", "Linear@rows"),
    _border("layernorm-of-two-axes", NORM, "rows = tuple(range(dy.ndim - 1))", "rows = (0, 1)", "summed over the first two axes, also if x has only two", "LayerNorm@rows"),
    _border("embedding-of-one-axis", EMBEDDING, SCATTER, f"{SCATTER} if ids.ndim > 1 else self.weight.grad.__setitem__(ids, self.weight.grad[ids] + dy)", "kept only the last of equal ids if ids have one axis", "Embedding@rows"),
    _border("linear-bias-of-two-axes", "npgpt.compiled.linear:Linear.backward", "add_column_sums(rows(dy),", "add_column_sums(rows(dy if dy.ndim > 2 else dy[:1]),", "summed only the first row if x has two axes", "Linear@rows"),
    _border("layernorm-of-two-axes", "npgpt.compiled.layernorm:LayerNorm.backward", "rows(dy), rows(x), gain", "rows(dy), rows(x if x.ndim > 2 else dy), gain", "passed dy instead of x if x has two axes", "LayerNorm@rows"),
    # dropout other than 0.3
    _border("dropout-of-three-tenths", "npgpt.layers.dropout:Dropout.backward", "(1 - self.p)", "0.7", "divided by 0.7 whatever p is", "Block-dropout"),
    _border("attention-drops-three-tenths", "npgpt.compiled.attention:Attention._dropping", "(1 - self.dropout.p)", "0.7", "divided the weights by 0.7 whatever p is, in both passes", "Attention-dropout"),
    # |x| > 4
    _border("tanh-gelu-flat-beyond-4", "npgpt.layers.activations:TanhGELU.backward", "0.5 * dy * (1 + t)", "0.5 * dy * (1 + t) * (x < 4)", "returned no gradient where x > 4", "TanhGELU"),
    _border("gelu-flat-beyond-4", "npgpt.layers.activations:GELU.backward", "dy * cdf +", "dy * cdf * (x < 4) +", "returned no gradient where x > 4", "GELU"),
    _border("activation-flat-beyond-4", "npgpt.compiled.activations:_Activation.backward", 'flat(output(cache, x.shape, "slope"))', 'flat(output(cache, x.shape, "slope") * (x < 4))', "returned no gradient where x > 4", "TanhGELU"),
    # more than 64 rows
    _border("linear-of-64-rows", LINEAR, "rows(x).T @ rows(dy)", "rows(x)[:64].T @ rows(dy)[:64]", "used only the first 64 rows for the weight's gradient", "Linear@rows"),
    _border("layernorm-of-64-rows", NORM, "(dy * xhat).sum(rows)", "(dy * xhat).reshape(-1, dy.shape[-1])[:64].sum(0)", "used only the first 64 rows for the gain's gradient", "LayerNorm@rows"),
    _border("linear-of-64-rows", "npgpt.compiled.linear:Linear.backward", "matmul(rows(x).T, rows(dy),", "matmul(rows(x)[:64].T, rows(dy)[:64],", "used only the first 64 rows for the weight's gradient", "Linear@rows"),
    _border("mlp-of-64-rows", "npgpt.compiled.mlp:MLP.backward", "matmul(active.T, upstream,", "matmul(active[:64].T, upstream[:64],", "used only the first 64 rows for the gradient of the second weight", "MLP@rows"),
    _border("head-loss-of-64-rows", "npgpt.compiled.head_loss:HeadLoss.backward", "matmul(dlogits.T, rows(scaled),", "matmul(dlogits[:64].T, rows(scaled)[:64],", "used only the first 64 rows for the weight's gradient", "HeadLoss@rows"),
    _border("sums-of-64-rows", "npgpt.kernels.columns:groups", "-(-n // GROUP)", "min(2, -(-n // GROUP))", "summed only the first 64 rows", "Linear@rows"),
    # ids that occur three times
    _border("embedding-of-two-equal-ids", EMBEDDING, SCATTER, f"before = np.tril(ids.reshape(-1, 1) == ids.reshape(-1), -1).sum(1).reshape(ids.shape); {SCATTER.replace('dy', 'dy * (before < 2)[..., None]')}", "added only the first two of equal ids", "Embedding"),
    _border("embedding-of-two-equal-ids", "npgpt.compiled.embedding:Embedding.backward", "rows(dy),", "rows(dy) * (np.tril(_row(ids)[:, None] == _row(ids), -1).sum(1) < 2)[:, None].astype(np.float32),", "added only the first two of equal ids", "Embedding"),
]
# fmt: on
