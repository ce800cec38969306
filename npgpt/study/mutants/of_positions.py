"""Mistakes in the position schemes: vectors added to the tokens, and scores that depend on distances."""

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
           "multiplied dx by the scale of the sinusoids", "factor", "SinusoidalPositions"),
    Mutant("sinusoidal-adds-itself", SINUSOIDAL, "return dy", "return dy + self.table(dy)",
           "added the sinusoids in the backward pass too", "upstream", "SinusoidalPositions"),
    Mutant("sinusoidal-blocks-the-way", SINUSOIDAL, "return dy", "return 0 * dy",
           "returned a zero gradient to the embedding", "zero", "GPT-sinusoidal"),
    Mutant("no-positions-block-the-way", NONE, "return dy", "return 0 * dy",
           "returned a zero gradient", "zero", "NoPositions"),
    Mutant("concatenated-forgets-the-vectors", CONCATENATED, 'self.vectors.backward(cache.note("beside", dbeside), cache.scope("vectors"))', 'cache.note("beside", dbeside)',
           "omitted the gradient of the position vectors", "zero", "ConcatenatedPositions"),
    Mutant("concatenated-averages-the-vectors", CONCATENATED, 'cache.note("beside", dbeside), cache', 'cache.note("beside", dbeside) / len(dy), cache',
           "averaged the position vectors' gradient over the batch instead of summing", "factor", "ConcatenatedPositions"),
    Mutant("concatenated-skips-the-projection", CONCATENATED, 'if self.projection else dy', 'if self.projection is None else np.tile(dy, 2)[..., : self.n_embd + self.n_position]',
           "skipped the projection", "lost factor", "ConcatenatedPositions"),
    Mutant("relative-bias-of-one-example", BIAS, "(ds * visible(T)).sum(0)", "(ds * visible(T))[0]",
           "used only the first example", "one example", "RelativeBiasScores"),
    Mutant("relative-bias-loses-repeated-distances", BIAS, "np.add.at(self.weight.grad.T, distances(T, N), db.transpose(1, 2, 0))", "self.weight.grad.T[distances(T, N)] += db.transpose(1, 2, 0)",
           "added with +=, which keeps only the last of equal distances", "repeated ids", "RelativeBiasScores"),
    Mutant("relative-bias-leaks-through-the-mask", BIAS, "(ds * visible(T)).sum(0)", "ds.sum(0)",
           "added gradients of masked future keys to the bias of distance 0", "mask", "RelativeBiasScores"),
    Mutant("relative-bias-scaled-as-the-products-are", BIAS, "(ds * visible(T)).sum(0)", "(ds * visible(T)).sum(0) / math.sqrt(cache['q'].shape[-1])",
           "divided the bias's gradient by √D", "factor", "RelativeBiasScores"),
    Mutant("relative-keys-forget-the-queries", KEYS, "ds @ k + dp @ weight", "ds @ k",
           "omitted the queries' gradient through the distance keys", "lost term", "RelativeKeyScores"),
    Mutant("relative-keys-without-scale", KEYS, "np.add.at(dp, own_product(T, N), ds)", "np.add.at(dp, own_product(T, N), ds * math.sqrt(q.shape[-1]))",
           "omitted 1/√D in the gradient of the products with distance keys", "factor", "RelativeKeyScores"),
    Mutant("relative-keys-of-dk", KEYS, "dp.reshape(-1, N).T @ q.reshape", "dp.reshape(-1, N).T @ k.reshape",
           "multiplied by the keys instead of the queries", "wrong operand", "RelativeKeyScores"),
    Mutant("rotary-turns-further", ROTARY, "turn(dturned_q, back=True)", "turn(dturned_q)",
           "rotated the queries' gradient forwards instead of back", "sign", "RotaryScores"),
    Mutant("rotary-does-not-turn-back", ROTARY, "turn(dturned_k, back=True)", "dturned_k",
           "returned the gradient of the rotated keys", "lost factor", "RotaryScores"),
    Mutant("rotary-multiplies-by-what-was-not-turned", ROTARY, 'q, k = cache["turned_q"], cache["turned_k"]', 'q, k = cache["q"], cache["k"]',
           "used the queries and keys from before the rotation", "wrong operand", "RotaryScores"),
    Mutant("rotary-notes-nothing-of-the-turned", ROTARY, 'cache.note("turned_q", ds @ k)', "ds @ k",
           "did not note the gradient of the rotated queries", "not noted", "RotaryScores"),
    Mutant("alibi-lowers-the-gradient-too", ALIBI, "Scores.backward(self, ds, cache)", "Scores.backward(self, ds - slopes(ds.shape[1])[:, None, None], cache)",
           "subtracted the slopes in the backward pass too", "upstream", "AlibiScores"),
    Mutant("alibi-scales-by-its-slopes", ALIBI, "Scores.backward(self, ds, cache)", "Scores.backward(self, ds * slopes(ds.shape[1])[:, None, None], cache)",
           "multiplied the gradient by the slopes", "lost factor", "AlibiScores"),
    Mutant("alibi-masks-the-nearest", ALIBI, "Scores.backward(self, ds, cache)", "Scores.backward(self, ds * (distances(*ds.shape[-2:]) > 0), cache)",
           "masked the gradient at distance 0", "mask", "AlibiScores"),
    _compiled("relative-bias-overwrites", f"{COMPILED}RelativeBiasScores.backward", "grad[h] += np.bincount", "grad[h] = np.bincount",
              "overwrote the bias's gradient instead of adding to it", "law", "RelativeBiasScores"),
    _compiled("relative-bias-counts-the-future", f"{COMPILED}RelativeBiasScores.backward", "np.tril_indices(T)", "np.indices((T, T)).reshape(2, -1)[0], np.indices((T, T)).reshape(2, -1)[1]",
              "summed the gradients of masked scores too", "mask", "RelativeBiasScores"),
    _compiled("relative-bias-in-tiles-overwrites", f"{COMPILED}RelativeBiasScores.collect_bias_gradient", "grad[h] += (math", "grad[h] = (math",
              "overwrote the bias's gradient instead of adding to it", "law", "Attention-relative-bias"),
    _compiled("relative-bias-in-tiles-scaled-as-the-products-are", f"{COMPILED}RelativeBiasScores.collect_bias_gradient", "math.sqrt(q.shape[3]) * np", "1.0 * np",
              "divided the bias's gradient by √D", "factor", "Attention-relative-bias"),
    _compiled("relative-bias-in-tiles-of-the-future", f"{COMPILED}RelativeBiasScores.collect_bias_gradient", "sums[h, T:0:-1]", "sums[h, T : 2 * T]",
              "took the gradients of masked scores", "mask", "Attention-relative-bias"),
    _compiled("relative-keys-overwrite", f"{COMPILED}RelativeKeyScores.backward", "*cache.grad_to_fill(self.weight)", "cache.grad_to_fill(self.weight)[0]",
              "overwrote the distance keys' gradient instead of adding to it", "law", "RelativeKeyScores"),
    _compiled("rotary-turns-keys-further", f"{COMPILED}RotaryScores.turn_back", '_turn(cache.note("turned_k", dk), cache, back=True)', '_turn(cache.note("turned_k", dk), cache, back=False)',
              "rotated the keys' gradient forwards instead of back", "sign", "RotaryScores"),
    _compiled("rotary-forgets-to-turn-back", f"{COMPILED}RotaryScores.turn_back", '_turn(cache.note("turned_q", dq), cache, back=True)', 'cache.note("turned_q", dq)',
              "returned the gradient of the rotated queries", "lost factor", "Attention-rotary"),
    _compiled("attention-swaps-q-and-k", "npgpt.compiled.attention:Attention._mix_back", "(dq, dk, dv)", "(dk, dq, dv)",
              "swapped dq and dk on the path without a tiled kernel", "swapped", "Attention-relative-keys"),
    _compiled("attention-forgets-what-was-dropped", "npgpt.compiled.attention:Attention._mix_back", 'self.dropout.backward(ddropped, cache.scope("dropout"))', "ddropped",
              "skipped dropout on the path without a tiled kernel", "mask", "Attention-relative-keys"),
    _compiled("concatenated-forgets-the-vectors", "npgpt.compiled.positions:ConcatenatedPositions.backward", 'self.vectors.backward(cache.note("beside", dbeside), cache.scope("vectors"))', 'cache.note("beside", dbeside)',
              "omitted the gradient of the position vectors", "zero", "ConcatenatedPositions"),
]
# fmt: on
