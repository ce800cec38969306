"""Which terms sum to dL/dq of one attention head?

Two tokens, one head, two channels (T = 2, D = 2). Every number is printed as a sum, so a pencil is enough to follow. At
the end the result is compared with npgpt's layers, which are not used before.
"""

import math

import numpy as np

from npgpt.core import Cache
from npgpt.layers import Mixing, Scores, Softmax

# %% The numbers
q = [[1.0, 2.0], [0.5, -1.0]]
k = [[1.0, 0.0], [2.0, 1.0]]
v = [[3.0, 1.0], [-1.0, 2.0]]
dm = [[1.0, 0.0], [2.0, -1.0]]  # the upstream gradient: dL/dm for each mixed number
root = math.sqrt(2)


def show(name: str, sum_of: str, value: float) -> None:
    print(f"  {name:<8} = {sum_of:<42} = {value:8.4f}")


# %% Forward
print("Forward, token 0: it attends to itself only, so its weight is 1 and its result is v[0].")
print("Forward, token 1: it attends to both tokens.")
s = [sum(a * b for a, b in zip(q[1], k[j], strict=True)) / root for j in (0, 1)]
for j in (0, 1):
    show(f"s[1,{j}]", f"({q[1][0]}·{k[j][0]} + {q[1][1]}·{k[j][1]})/√2", s[j])
e = [math.exp(x) for x in s]
w = [x / sum(e) for x in e]
for j in (0, 1):
    show(f"w[1,{j}]", f"e^{s[j]:.4f} / ({e[0]:.4f} + {e[1]:.4f})", w[j])
m = [w[0] * v[0][d] + w[1] * v[1][d] for d in (0, 1)]
for d in (0, 1):
    show(f"m[1,{d}]", f"{w[0]:.4f}·{v[0][d]} + {w[1]:.4f}·{v[1][d]}", m[d])

# %% Backward
print("\nBackward through mixing: w[1,j] enters m[1,d] with the factor v[j,d].")
dw = [dm[1][0] * v[j][0] + dm[1][1] * v[j][1] for j in (0, 1)]
for j in (0, 1):
    show(f"dw[1,{j}]", f"{dm[1][0]}·{v[j][0]} + {dm[1][1]}·{v[j][1]}", dw[j])

print("\nBackward through softmax: s[1,j] reaches w[1,j] directly, and both weights through the denominator.")
mean = dw[0] * w[0] + dw[1] * w[1]
show("mean", f"{dw[0]:.4f}·{w[0]:.4f} + {dw[1]:.4f}·{w[1]:.4f}", mean)
ds = [w[j] * (dw[j] - mean) for j in (0, 1)]
for j in (0, 1):
    show(f"ds[1,{j}]", f"{w[j]:.4f}·({dw[j]:.4f} − {mean:.4f})", ds[j])
print("  The two sum to zero: a constant added to all scores does not change the weights.")

print("\nBackward through the scores: q[1,d] enters s[1,j] with the factor k[j,d]/√2.")
dq = [(ds[0] * k[0][d] + ds[1] * k[1][d]) / root for d in (0, 1)]
for d in (0, 1):
    show(f"dq[1,{d}]", f"({ds[0]:.4f}·{k[0][d]} + {ds[1]:.4f}·{k[1][d]})/√2", dq[d])
print("  dq[0,0] = dq[0,1] = 0: the only weight of token 0 is 1 for every q[0].")

# %% The same from npgpt's layers
cache = Cache()
arrays = {name: np.array(x)[None, None] for name, x in (("q", q), ("k", k), ("v", v), ("dm", dm))}  # (B, H, T, D)
scores, softmax, mixing = Scores(), Softmax(), Mixing()
weights = softmax.forward(scores.forward(arrays["q"], arrays["k"], cache.scope("score")), cache.scope("softmax"))
mixing.forward(weights, arrays["v"], cache.scope("mixing"))
dweights, _ = mixing.backward(arrays["dm"], cache.scope("mixing"))
layers_dq, _ = scores.backward(softmax.backward(dweights, cache.scope("softmax")), cache.scope("score"))
print(f"\nnpgpt's layers compute dq = {layers_dq[0, 0].round(4).tolist()}")
assert np.allclose(layers_dq[0, 0], [[0, 0], dq], atol=1e-12)
print("The sums above give the same numbers, up to rounding.")
