"""What happens in one training step, in numbers that a pencil can follow?

Three tokens, two channels (T = 3, C = 2), and a vocabulary of three words. The model is as small as possible: it looks
up a vector and multiplies it by the vector of each word. The loss is the mean surprise at the next word. Every number
is printed as a sum. At the end the results are compared with npgpt's layers and AdamW, which are not used before.
"""

import math

import numpy as np

from npgpt.core import Cache, FlatParams
from npgpt.layers import CrossEntropy, Embedding, VocabularyHead
from npgpt.optim import AdamW

# %% The numbers
words = ["the", "cat", "sat"]
ids, targets = [0, 1, 0], [1, 2, 2]  # the -> cat, cat -> sat, the -> sat
E = [[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]  # the embedding of each word
W = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]  # the row of the vocabulary head for each word
V, C, T = 3, 2, 3


def show(name: str, sum_of: str, value: float) -> None:
    print(f"  {name:<9} = {sum_of:<44} = {value:8.4f}")


# %% Forward
print("1. Look-up: x[t] is row ids[t] of E.")
x = [E[i] for i in ids]
for t in range(T):
    print(f"  x[{t}] = E[{ids[t]}] = {x[t]}   ({words[ids[t]]!r}, the next word is {words[targets[t]]!r})")

print("2. Logits: the product with the row of W of each word.")
z = [[sum(x[t][c] * W[v][c] for c in range(C)) for v in range(V)] for t in range(T)]
for t in range(T):
    for v in range(V):
        show(f"z[{t},{v}]", " + ".join(f"{x[t][c]:g}·{W[v][c]:g}" for c in range(C)), z[t][v])

print("3. Probabilities: e^logit over the sum of all three; the surprise is −log of the target's probability.")
p = []
for t in range(T):
    e = [math.exp(logit) for logit in z[t]]
    p.append([number / sum(e) for number in e])
    for v in range(V):
        show(f"p[{t},{v}]", f"{e[v]:.4f} / ({' + '.join(f'{number:.4f}' for number in e)})", p[t][v])
surprise = [-math.log(p[t][targets[t]]) for t in range(T)]
loss = sum(surprise) / T
show("loss", f"({' + '.join(f'{number:.4f}' for number in surprise)})/3", loss)

# %% Backward
print("4. Backward: the gradient of a logit is p, minus 1 for the target; each token is a third of the loss.")
dz = [[(p[t][v] - (v == targets[t])) / T for v in range(V)] for t in range(T)]
for t in range(T):
    for v in range(V):
        show(f"dz[{t},{v}]", f"({p[t][v]:.4f} − {int(v == targets[t])})/3", dz[t][v])
print("  Each row sums to zero, as the probabilities sum to 1.")

print("5. W[v,c] enters z[t,v] with the factor x[t,c], for every t.")
dw = [[sum(dz[t][v] * x[t][c] for t in range(T)) for c in range(C)] for v in range(V)]
for v in range(V):
    for c in range(C):
        show(f"dw[{v},{c}]", " + ".join(f"{dz[t][v]:.4f}·{x[t][c]:g}" for t in range(T)), dw[v][c])

print("6. x[t,c] enters every z[t,v] with the factor W[v,c]; E[0] was looked up twice, so de[0] sums two gradients.")
dx = [[sum(dz[t][v] * W[v][c] for v in range(V)) for c in range(C)] for t in range(T)]
for t in range(T):
    for c in range(C):
        show(f"dx[{t},{c}]", " + ".join(f"{dz[t][v]:.4f}·{W[v][c]:g}" for v in range(V)), dx[t][c])
de = [[sum(dx[t][c] for t in range(T) if ids[t] == v) for c in range(C)] for v in range(V)]
for c in range(C):
    show(f"de[0,{c}]", f"{dx[0][c]:.4f} + {dx[2][c]:.4f}", de[0][c])
print("  de[2] = 0: 'sat' was not looked up.")

# %% The step
rate = 0.1
print("7. The first step of Adam: m = 0.1·g and v = 0.05·g². After bias correction m̂ = g and v̂ = g². So each weight")
print("   moves by −0.1·g/(|g| + 1e-8): about 0.1 against the sign of its gradient, for any size of the gradient.")
for v in range(V):
    for c in range(C):
        moved = W[v][c] - rate * dw[v][c] / (abs(dw[v][c]) + 1e-8)
        show(f"W[{v},{c}]", f"{W[v][c]:g} − 0.1·{dw[v][c]:.4f}/{abs(dw[v][c]):.4f}", moved)

# %% The same from npgpt's layers
embedding, head, cross_entropy, cache = Embedding(V, C), VocabularyHead(V, C), CrossEntropy(), Cache()
embedding.weight.value, head.weight.value = np.array(E), np.array(W)
flat = FlatParams([embedding.weight, head.weight], np.float64)


def forward() -> float:
    cache.reset()
    vectors = embedding.forward(np.array([ids]), cache.scope("embedding"))
    logits = head.forward(vectors, cache.scope("head"))
    return float(cross_entropy.forward(logits, np.array([targets]), None, cache.scope("loss")))


before = forward()
dlogits = cross_entropy.backward(1.0, cache.scope("loss"))
embedding.backward(head.backward(dlogits, cache.scope("head")), cache.scope("embedding"))
print(f"\nnpgpt's layers: loss {before:.4f}, dw = {head.weight.grad.round(4).tolist()}")
assert np.allclose(head.weight.grad, dw, atol=1e-12) and np.allclose(embedding.weight.grad, de, atol=1e-12)
AdamW(flat, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0).step(rate)
print(f"After the step the loss is {forward():.4f}.")
assert abs(before - loss) < 1e-12 and forward() < before
