"""Mistakes in layers with sub-layers, and in the whole model."""

from npgpt.study.mutants.plant import Mutant

ATTENTION = "npgpt.layers.attention:Attention.backward"
BACK_TO_X = "npgpt.layers.attention:Attention._back_to_x"
MLP = "npgpt.layers.mlp:MLP.backward"
BLOCK = "npgpt.layers.block:Block.backward"
GPT = "npgpt.model:GPT.backward_from_head"
HEAD_LOSS = "npgpt.layers.head_loss:HeadLoss.backward"

# fmt: off
MUTANTS = [
    Mutant("attention-swaps-q-and-k", ATTENTION, '("q", dq), ("k", dk)', '("q", dk), ("k", dq)',
           "swapped dq and dk", "swapped", "Attention"),
    Mutant("attention-forgets-v", ATTENTION, '("v", dv)', '("v", 0 * dv)',
           "omitted the gradient through the values", "zero", "Attention"),
    Mutant("attention-skips-the-softmax", ATTENTION, 'self.softmax.backward(dweights, cache.scope("softmax"))', "dweights",
           "skipped the softmax's derivative", "lost factor", "Attention"),
    Mutant("attention-mixes-heads", ATTENTION, "self._put_together(cache.note(name, d))", "cache.note(name, d).reshape(dy.shape)",
           "merged the heads without moving their axis back", "transposed", "Attention"),
    Mutant("attention-forgets-what-was-dropped", ATTENTION, 'self.dropout.backward(ddropped, cache.scope("dropout"))', "ddropped",
           "skipped the dropout of the weights", "mask", "Attention-dropout"),
    Mutant("attention-mixes-what-was-not-dropped", ATTENTION, 'self.mixing.backward(dmixed, cache.scope("mixing"))',
           'self.mixing.backward(dmixed, cache.scope("mixing"))[0], cache["weights"].swapaxes(-1, -2) @ dmixed',
           "used the weights from before dropout for dv", "wrong operand", "Attention-dropout"),
    Mutant("attention-forgets-the-residual-dropout", ATTENTION, 'self.residual_dropout.backward(dy, cache.scope("residual_dropout"))', "dy",
           "skipped the dropout of the output", "mask", "Attention-dropout"),
    Mutant("attention-averages-the-heads", ATTENTION, "np.concatenate(dqkv, axis=-1)", "np.concatenate(dqkv, axis=-1) / self.n_head",
           "divided by the number of heads", "factor", "Attention"),
    Mutant("attention-notes-dmixed-flat", ATTENTION, 'cache.note("mixed", dmixed)', 'cache.note("mixed", dmixed[:, ::-1])',
           "noted the heads in the wrong order", "transposed", "Attention"),
    Mutant("attention-silences-the-queries", BACK_TO_X, "[C : 2 * C]", "[:C]",
           "omitted the gradient of the queries' bias instead of the keys'", "lost term", "Attention"),
    Mutant("attention-silences-rotated-keys", BACK_TO_X, "not self.key_bias_cancels", "False",
           "omitted the gradient of the keys' bias with rotated keys too", "lost term", "Attention-rotary"),
    Mutant("attention-keeps-the-noise", BACK_TO_X, "of_keys[...] = before", "before",
           "left rounding noise in the gradient of the keys' bias", "law", "Attention"),
    Mutant("attention-clears-the-keys-bias", BACK_TO_X, "of_keys[...] = before", "of_keys[...] = 0",
           "cleared the gradient of the keys' bias instead of adding nothing", "law", "Attention"),
    Mutant("mlp-skips-the-activation", MLP, 'self.activation.backward(dactive, cache.scope("activation"))', "dactive",
           "skipped the activation function's derivative", "lost factor", "MLP"),
    Mutant("mlp-forgets-what-was-dropped", MLP, 'self.dropout.backward(dy, cache.scope("dropout"))', "dy",
           "skipped the dropout", "mask", "Block-dropout"),
    Mutant("mlp-hidden-of-active", MLP, 'cache.note("hidden", self', 'cache.note("hidden", dactive * self',
           "multiplied by the upstream gradient twice", "upstream", "MLP"),
    Mutant("block-loses-the-residual", BLOCK, 'cache.note("x", dmiddle + dbranch)', 'cache.note("x", dbranch)',
           "omitted the residual connection around attention", "lost term", "Block"),
    Mutant("block-loses-attention", BLOCK, 'cache.note("x", dmiddle + dbranch)', 'cache.note("x", dmiddle)',
           "omitted the gradient through attention", "lost term", "Block"),
    Mutant("block-loses-the-second-residual", BLOCK, "dy + self.mlp_norm.backward(", "0 + self.mlp_norm.backward(",
           "omitted the residual connection around the MLP", "lost term", "Block"),
    Mutant("block-adds-dy-twice", BLOCK, 'cache.note("x", dmiddle + dbranch)', 'cache.note("x", dmiddle + dbranch + dy)',
           "added the upstream gradient twice", "factor", "Block"),
    Mutant("block-attends-to-dy", BLOCK, 'cache.note("attended", dmiddle)', 'cache.note("attended", dy)',
           "passed dy to attention instead of the gradient of the middle", "lost term", "Block"),
    Mutant("block-skips-the-norm", BLOCK, 'self.attention_norm.backward(dattention_input, cache.scope("attention_norm"))', "dattention_input",
           "skipped the first layer norm", "lost term", "Block"),
    Mutant("gpt-skips-the-last-norm", GPT, 'self.norm.backward(dnormed, cache.scope("norm"))', "dnormed",
           "skipped the last layer norm", "lost factor", "GPT"),
    Mutant("gpt-blocks-in-forward-order", GPT, "reversed(list(enumerate(self.blocks)))", "list(enumerate(self.blocks))",
           "ran the backward pass from the first block to the last", "lost factor", "GPT-tied"),
    Mutant("gpt-forgets-what-was-dropped", GPT, 'self.dropout.backward(dx, cache.scope("dropout"))', "dx",
           "skipped the dropout of the embeddings", "mask", "GPT-dropout"),
    Mutant("gpt-forgets-the-embedding", GPT, 'self.embedding.backward(dembedded, cache.scope("embedding"))', "pass",
           "omitted the embedding's gradient", "zero", "GPT-untied"),
    Mutant("head-loss-halves", HEAD_LOSS, "self.cross_entropy.backward(dloss,", "self.cross_entropy.backward(0.5 * dloss,",
           "halved dloss", "factor", "HeadLoss"),
]
# fmt: on
