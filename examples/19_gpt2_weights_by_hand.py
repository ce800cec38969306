"""Which tensor of a GPT-2 is which weight of a layer, and how does one move them by hand?

A file holds one attention layer under the names of Hugging Face, with random weights. The tensors are copied into
npgpt's layer. Then GPT-2's formula, written out from the file's tensors alone, gives the same numbers. At the end one
weight is transposed: its shape still fits, so only a comparison of numbers finds the mistake.
"""

import math
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from npgpt.core import Cache
from npgpt.layers import Attention

# %% A file of tensors
T, C, H = 3, 4, 2
random = np.random.default_rng(0)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "model.safetensors")
    shapes = {"c_attn.weight": (C, 3 * C), "c_attn.bias": (3 * C,), "c_proj.weight": (C, C), "c_proj.bias": (C,)}
    save_file({f"h.0.attn.{name}": random.normal(size=shape) for name, shape in shapes.items()}, path)
    theirs = load_file(path)

# %% From the file into the layer
layer = Attention(C, H)
places = {
    "h.0.attn.c_attn.weight": layer.qkv.weight,
    "h.0.attn.c_attn.bias": layer.qkv.bias,
    "h.0.attn.c_proj.weight": layer.projection.weight,
    "h.0.attn.c_proj.bias": layer.projection.bias,
}
names = {id(param): name for name, param in layer.parameters().items()}
print("GPT-2's name             shape     npgpt's name")
for name, param in places.items():
    assert theirs[name].shape == param.value.shape
    param.value[...] = theirs[name]
    print(f"{name:<24} {theirs[name].shape!s:<9} {names[id(param)]}")
assert len(places) == len(names), "no weight is left at its initial value"


# %% GPT-2's formula
def gpt2_attention(x: np.ndarray) -> np.ndarray:
    """GPT-2's formula, one head after the other, from the tensors of the file."""
    qkv = x @ theirs["h.0.attn.c_attn.weight"] + theirs["h.0.attn.c_attn.bias"]
    mixed = np.zeros((T, C))
    for head in range(H):
        q, k, v = (qkv[:, start + head * C // H :][:, : C // H] for start in (0, C, 2 * C))
        for i in range(T):
            e = np.exp(q[i] @ k[: i + 1].T / math.sqrt(C // H))
            mixed[i, head * C // H :][: C // H] = e / e.sum() @ v[: i + 1]
    return mixed @ theirs["h.0.attn.c_proj.weight"] + theirs["h.0.attn.c_proj.bias"]


x = random.normal(size=(T, C))
expected = gpt2_attention(x)
difference = np.abs(layer.forward(x[None], Cache())[0] - expected).max()
print(f"\nnpgpt's layer and GPT-2's formula differ by {difference:.0e}.")
assert difference < 1e-14

# %% A transposed weight
print("\nPyTorch's Linear stores (out, in) where GPT-2 stores (in, out). What if a weight is transposed?")
weight = theirs["h.0.attn.c_attn.weight"].T
print(f"  c_attn.weight is {weight.shape} then, not {layer.qkv.weight.value.shape}: its shape shows it.")
layer.projection.weight.value[...] = theirs["h.0.attn.c_proj.weight"].T
wrong = np.abs(layer.forward(x[None], Cache())[0] - expected).max()
print(
    f"  c_proj.weight is {layer.projection.weight.value.shape} both ways: only the numbers show it, here {wrong:.1f}."
)
assert weight.shape == (3 * C, C) and wrong > 0.1
print("So `npgpt convert` looks at c_attn.weight, and reads the other weights of the file in the same way.")
