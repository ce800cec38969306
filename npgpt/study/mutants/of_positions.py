"""Mistakes in what tells a model the order of its tokens: vectors in the stream, and the scores that know distances."""

from npgpt.study.mutants.plant import Mutant

SINUSOIDAL = "npgpt.layers.positions:SinusoidalPositions.backward"
CONCATENATED = "npgpt.layers.positions:ConcatenatedPositions.backward"
NONE = "npgpt.layers.positions:NoPositions.backward"
BIAS = "npgpt.layers.scores:RelativeBiasScores.backward"
KEYS = "npgpt.layers.scores:RelativeKeyScores.backward"
ROTARY = "npgpt.layers.scores:RotaryScores.backward"
ALIBI = "npgpt.layers.scores:AlibiScores.backward"
COMPILED = "npgpt.compiled.scores:"


def _compiled(name: str, target: str, old: str, new: str, says: str, kind: str, case: str) -> Mutant:
    return Mutant(f"compiled-{name}", target, old, new, says, kind, case, compiled=True)


# fmt: off
MUTANTS = [
    Mutant("sinusoidal-scales-dx", SINUSOIDAL, "return dy", "return dy * self.scale",
           "multiplied x's gradient by what the sinusoids are multiplied by", "factor", "SinusoidalPositions"),
    Mutant("sinusoidal-adds-itself", SINUSOIDAL, "return dy", "return dy + self.table(dy)",
           "added the sinusoids in the backward pass too", "upstream", "SinusoidalPositions"),
    Mutant("sinusoidal-blocks-the-way", SINUSOIDAL, "return dy", "return 0 * dy",
           "handed nothing back to the embedding", "zero", "GPT-sinusoidal"),
    Mutant("no-positions-block-the-way", NONE, "return dy", "return 0 * dy",
           "took no positions for no gradient", "zero", "NoPositions"),
    Mutant("concatenated-forgets-the-vectors", CONCATENATED, 'self.vectors.backward(cache.note("beside", dbeside), cache.scope("vectors"))', 'cache.note("beside", dbeside)',
           "forgot that the vectors are trained", "zero", "ConcatenatedPositions"),
    Mutant("concatenated-averages-the-vectors", CONCATENATED, 'cache.note("beside", dbeside), cache', 'cache.note("beside", dbeside) / len(dy), cache',
           "took the mean over the batch for the vectors", "factor", "ConcatenatedPositions"),
    Mutant("concatenated-skips-the-projection", CONCATENATED, 'if self.projection else dy', 'if self.projection is None else np.tile(dy, 2)[..., : self.n_embd + self.n_position]',
           "went around the projection", "lost factor", "ConcatenatedPositions"),
    Mutant("relative-bias-of-one-example", BIAS, "(ds * visible(T)).sum(0)", "(ds * visible(T))[0]",
           "took the first example for all", "one example", "RelativeBiasScores"),
    Mutant("relative-bias-loses-repeated-distances", BIAS, "np.add.at(self.weight.grad.T, distances(T, N), db.transpose(1, 2, 0))", "self.weight.grad.T[distances(T, N)] += db.transpose(1, 2, 0)",
           "added with +=, which keeps the last of several equal distances", "repeated ids", "RelativeBiasScores"),
    Mutant("relative-bias-leaks-through-the-mask", BIAS, "(ds * visible(T)).sum(0)", "ds.sum(0)",
           "gave the bias of distance 0 what belongs to keys that are still to come", "mask", "RelativeBiasScores"),
    Mutant("relative-bias-scaled-as-the-products-are", BIAS, "(ds * visible(T)).sum(0)", "(ds * visible(T)).sum(0) / math.sqrt(cache['q'].shape[-1])",
           "divided by √D what is added after the division", "factor", "RelativeBiasScores"),
    Mutant("relative-keys-forget-the-queries", KEYS, "ds @ k + dp @ weight", "ds @ k",
           "forgot that a query also meets the keys of the distances", "lost term", "RelativeKeyScores"),
    Mutant("relative-keys-without-scale", KEYS, "np.add.at(dp, own_product(T, N), ds)", "np.add.at(dp, own_product(T, N), ds * math.sqrt(q.shape[-1]))",
           "the 1/√D is missing on the way to the distances", "factor", "RelativeKeyScores"),
    Mutant("relative-keys-of-dk", KEYS, "dp.reshape(-1, N).T @ q.reshape", "dp.reshape(-1, N).T @ k.reshape",
           "multiplied by the keys where the queries belong", "wrong operand", "RelativeKeyScores"),
    Mutant("rotary-turns-further", ROTARY, "turn(dturned_q, back=True)", "turn(dturned_q)",
           "turned the queries' gradient on, not back", "transposed", "RotaryScores"),
    Mutant("rotary-does-not-turn-back", ROTARY, "turn(dturned_k, back=True)", "dturned_k",
           "handed on the gradient of the turned keys", "lost factor", "RotaryScores"),
    Mutant("rotary-multiplies-by-what-was-not-turned", ROTARY, 'q, k = cache["turned_q"], cache["turned_k"]', 'q, k = cache["q"], cache["k"]',
           "multiplied by queries and keys as they were before they were turned", "wrong operand", "RotaryScores"),
    Mutant("rotary-notes-nothing-of-the-turned", ROTARY, 'cache.note("turned_q", ds @ k)', "ds @ k",
           "did not note the gradient of what was turned", "not noted", "RotaryScores"),
    Mutant("alibi-lowers-the-gradient-too", ALIBI, "Scores.backward(self, ds, cache)", "Scores.backward(self, ds - slopes(ds.shape[1])[:, None, None], cache)",
           "took something away in the backward pass as well", "upstream", "AlibiScores"),
    Mutant("alibi-scales-by-its-slopes", ALIBI, "Scores.backward(self, ds, cache)", "Scores.backward(self, ds * slopes(ds.shape[1])[:, None, None], cache)",
           "multiplied by the slopes, which are added", "lost factor", "AlibiScores"),
    Mutant("alibi-masks-the-nearest", ALIBI, "Scores.backward(self, ds, cache)", "Scores.backward(self, ds * (distances(*ds.shape[-2:]) > 0), cache)",
           "took a distance of 0 for a gradient of 0", "mask", "AlibiScores"),
    _compiled("relative-bias-overwrites", f"{COMPILED}RelativeBiasScores.backward", "grad[h] += np.bincount", "grad[h] = np.bincount",
              "wrote the bias's gradient where it must add", "law", "RelativeBiasScores"),
    _compiled("relative-bias-counts-the-future", f"{COMPILED}RelativeBiasScores.backward", "np.tril_indices(T)", "np.indices((T, T)).reshape(2, -1)[0], np.indices((T, T)).reshape(2, -1)[1]",
              "summed what is masked, too", "mask", "RelativeBiasScores"),
    _compiled("relative-keys-overwrite", f"{COMPILED}RelativeKeyScores.backward", "*cache.grad_to_fill(self.weight)", "cache.grad_to_fill(self.weight)[0]",
              "wrote the gradient of the distances where it must add", "law", "RelativeKeyScores"),
    _compiled("rotary-turns-keys-further", f"{COMPILED}RotaryScores.turn_back", '_turn(cache.note("turned_k", dk), cache, back=True)', '_turn(cache.note("turned_k", dk), cache, back=False)',
              "turned the keys' gradient on, not back", "transposed", "RotaryScores"),
    _compiled("rotary-forgets-to-turn-back", f"{COMPILED}RotaryScores.turn_back", '_turn(cache.note("turned_q", dq), cache, back=True)', 'cache.note("turned_q", dq)',
              "handed on the gradient of the turned queries", "lost factor", "Attention-rotary"),
    _compiled("attention-swaps-q-and-k", "npgpt.compiled.attention:Attention._mix_back", "(dq, dk, dv)", "(dk, dq, dv)",
              "put dk where dq belongs where the parts compute", "swapped", "Attention-relative-bias"),
    _compiled("attention-forgets-what-was-dropped", "npgpt.compiled.attention:Attention._mix_back", 'self.dropout.backward(ddropped, cache.scope("dropout"))', "ddropped",
              "went around the dropout where the parts compute", "mask", "Attention-relative-bias"),
    _compiled("concatenated-forgets-the-vectors", "npgpt.compiled.positions:ConcatenatedPositions.backward", 'self.vectors.backward(cache.note("beside", dbeside), cache.scope("vectors"))', 'cache.note("beside", dbeside)',
              "forgot that the vectors are trained", "zero", "ConcatenatedPositions"),
]
# fmt: on
