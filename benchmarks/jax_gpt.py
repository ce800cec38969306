"""The peer of ``npgpt.model.GPT`` in JAX, and its training step, as one writes them there: pure functions, jit, AdamW.

The parameters are a dict with npgpt's paths, and lie as npgpt's do.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

Params = dict[str, jax.Array]


def layer_norm(params: Params, path: str, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    rstd = jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred * rstd * params[f"{path}.gain"] + params[f"{path}.bias"]


def linear(params: Params, path: str, x: jax.Array) -> jax.Array:
    return x @ params[f"{path}.weight"] + params[f"{path}.bias"]


def block(params: Params, path: str, x: jax.Array, n_head: int) -> jax.Array:
    B, T, C = x.shape
    qkv = linear(params, f"{path}.attention.qkv", layer_norm(params, f"{path}.attention_norm", x))
    q, k, v = (part.reshape(B, T, n_head, -1).swapaxes(1, 2) for part in jnp.split(qkv, 3, axis=-1))
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(C // n_head)  # faster here than jax.nn.dot_product_attention
    visible = jnp.tril(jnp.ones((T, T), bool))
    mixed = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf)) @ v
    x = x + linear(params, f"{path}.attention.projection", mixed.swapaxes(1, 2).reshape(B, T, C))
    hidden = linear(params, f"{path}.mlp.up", layer_norm(params, f"{path}.mlp_norm", x))
    return x + linear(params, f"{path}.mlp.down", jax.nn.gelu(hidden, approximate=True))


def mean_loss(params: Params, ids: jax.Array, targets: jax.Array, n_layer: int, n_head: int) -> jax.Array:
    x = params["embedding.weight"][ids] + params["positions.weight"][: ids.shape[1]]
    for i in range(n_layer):
        x = block(params, f"blocks.{i}", x, n_head)
    logits = layer_norm(params, "norm", x) @ params["embedding.weight"].T
    right = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return (jax.nn.logsumexp(logits, axis=-1) - right).mean()


def make_step(n_layer: int, n_head: int, learning_rate: float) -> Any:
    """The compiled function (params, means, squares, number of the step, ids) -> (the first three, new, and the loss).

    Clipping at norm 1 and AdamW with npgpt's settings: weight decay on matrices alone. What is passed is donated: the
    new arrays take the memory of the old ones.
    """
    beta1, beta2, eps, decay = 0.9, 0.95, 1e-8, 0.1

    def step(params: Params, means: Params, squares: Params, number: jax.Array, ids: jax.Array) -> Any:
        loss, grads = jax.value_and_grad(mean_loss)(params, ids[:, :-1], ids[:, 1:], n_layer, n_head)
        norm = jnp.sqrt(sum(jnp.vdot(grad, grad) for grad in grads.values()))
        scale = jnp.minimum(1.0, 1.0 / norm)
        for path, value in params.items():
            grad = grads[path] * scale
            mean = means[path] = beta1 * means[path] + (1 - beta1) * grad
            square = squares[path] = beta2 * squares[path] + (1 - beta2) * grad**2
            change = mean / (1 - beta1**number) / (jnp.sqrt(square / (1 - beta2**number)) + eps)
            params[path] = value * (1 - learning_rate * decay * (value.ndim >= 2)) - learning_rate * change
        return params, means, squares, loss

    return jax.jit(step, donate_argnums=(0, 1, 2))
