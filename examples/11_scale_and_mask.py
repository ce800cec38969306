"""Why are scores divided by √D, and what does the causal mask do to the gradients?

Without the division, a query with many channels attends to one token alone, and its gradient is nearly zero, or huge.
With the mask, an early value is used by all later tokens, so its gradient is larger. `--plot` draws both as
11_scale_and_mask.png.
"""

# %% One head, forward and backward (derived in 10_attention_step_by_step.py). E examples, T tokens, D channels
import math
import sys

import numpy as np

from npgpt.core import Array

E, T = 64, 64
rng = np.random.default_rng(0)


def attend(q: Array, k: Array, v: Array, scale: float, sees: Array, dy: Array) -> dict[str, Array]:
    """Return the weights w, and the gradients of scores, queries, keys and values for a gradient dy of w·v.

    Args
        sees: (T, T), the keys (columns) that each query (row) may see.
    """
    s = np.where(sees, scale * q @ k.swapaxes(-1, -2), -np.inf)
    e = np.exp(s - s.max(-1, keepdims=True))
    w = e / e.sum(-1, keepdims=True)
    dw = dy @ v.swapaxes(-1, -2)
    ds = w * (dw - (dw * w).sum(-1, keepdims=True))
    dq, dk = scale * ds @ k, scale * ds.swapaxes(-1, -2) @ q
    return {"w": w, "ds": ds, "dq": dq, "dk": dk, "dv": w.swapaxes(-1, -2) @ dy}


# %% 1. Random queries and keys of D channels: a product of D random numbers has the size √D
everything, causal = np.ones((T, T), bool), np.tri(T, dtype=bool)
v, dy = rng.normal(size=(2, E, T, 16))
print(f"The entropy of the weights of a query (equal weights: {math.log(T):.2f} nats), the mean norm of its gradient,")
print("and the share of queries whose gradient has a norm below a twentieth of the mean:\n")
print("           with 1/√D                  without\n    D   entropy    mean  < 1/20    entropy    mean  < 1/20")
SIZES = (4, 16, 64, 256)
found = np.zeros((len(SIZES), 2, 3))
for row, D in enumerate(SIZES):
    q, k = rng.normal(size=(2, E, T, D))
    for column, scale in enumerate((1 / math.sqrt(D), 1.0)):
        pass_ = attend(q, k, v, scale, everything, dy)
        w, norms = pass_["w"], np.linalg.norm(pass_["dq"], axis=-1)
        entropy = -(w * np.log(np.maximum(w, 1e-300))).sum(-1).mean()
        found[row, column] = entropy, norms.mean(), (norms < norms.mean() / 20).mean()
    print(f"{D:5}" + "  ".join("{:10.2f}{:8.3f}{:8.0%}".format(*numbers) for numbers in found[row]))
print(
    f"Without 1/√D, queries of {SIZES[-1]} channels attend to nearly one token. {found[3, 1, 2]:.0%} of them have tiny"
)
print(f"gradients, and the mean is {found[3, 1, 1] / found[3, 0, 1]:.0f} times as large: a few have huge ones.")
assert np.ptp(found[:, 0, 0]) < 0.05 and found[3, 1, 0] < 0.3
assert np.all(found[:, 0, 2] < 0.01) and found[3, 1, 2] > 0.3 and found[3, 1, 1] > 3 * found[3, 0, 1]

# %% 2. Which positions does the gradient of one output reach?
print("\nOutput t (row) sends a gradient to position j (column); a dot is 0.")
print("   dq                 dk                 dv")
n = 6
few_q, few_k, few_v = q[:1, :n], k[:1, :n], v[:1, :n]
reached = []
for t in range(n):
    one = np.zeros((1, n, 16))
    one[0, t] = dy[0, t]
    pass_ = attend(few_q, few_k, few_v, 1 / math.sqrt(SIZES[-1]), causal[:n, :n], one)
    reached.append([np.abs(pass_[name][0]).max(-1) > 0 for name in ("dq", "dk", "dv")])
    print("   " + "        ".join(" ".join(".█"[int(cell)] for cell in cells) for cells in reached[-1]))
lower, rows = np.tri(n, dtype=bool), np.arange(n)[:, None]
assert np.array_equal(np.swapaxes(reached, 0, 1), [np.diag(np.arange(n)) > 0, lower & (rows > 0), lower])
print("Output 0 gives no gradient to q and k, because its only weight is always 1. No gradient goes to later tokens.")

# %% 3. How much gradient does each value get?
print("\nThe norm of dv at position j, over the norm of dy at one position:\n")
falls, at = {}, (0, 1, 3, 7, 15, 31, 63)
print(f"{'j':>22}" + "".join(f"{j:8}" for j in at))
q, k = rng.normal(size=(2, E, T, 16))
MASKS = {"no mask": (everything, 0.25), "causal": (causal, 0.25), "causal, equal weights": (causal, 0.0)}
for name, (sees, scale) in MASKS.items():
    dv = attend(q, k, v, scale, sees, dy)["dv"]
    falls[name] = np.sqrt((dv**2).mean((0, 2)) / (dy**2).mean())
    print(f"{name:>22}" + "".join(f"{falls[name][j]:8.3f}" for j in at))
theory = np.sqrt(np.cumsum(1 / np.arange(T, 0, -1) ** 2)[::-1])
print(f"{'√Σ_(i>=j) 1/(i + 1)²':>22}" + "".join(f"{theory[j]:8.3f}" for j in at) + "   (theory)")
assert np.allclose(falls["causal, equal weights"], theory, rtol=0.1) and np.ptp(falls["no mask"]) < 0.1
print("All later tokens use an early value, so its gradient is the sum of many.")

# %% The picture
if "--plot" in sys.argv:  # in a notebook: if True
    from npgpt.support.pictures import pyplot

    figure, (left, right) = pyplot().subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(SIZES, found[:, :, 2], "o-", label=["with 1/√D", "without"])
    left.set(title="share of queries with a tiny gradient", xlabel="channels D", ylim=0)
    right.semilogy(np.transpose(list(falls.values())), label=list(falls))
    right.set(title="norm of the gradient of a value", xlabel="position of the value")
    left.legend()
    right.legend()
    figure.savefig("11_scale_and_mask.png", dpi=110)
    print("\nThe picture is in 11_scale_and_mask.png.")
