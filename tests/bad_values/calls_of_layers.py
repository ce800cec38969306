"""The right calls of layers: of what makes them, and of forward and backward, textbook and compiled."""

from typing import Any

import numpy as np
import values as a
from right import IDS, SMALL, Call, call, linear, loss_backward, model

import npgpt
from npgpt import build, config, embeddings, layers
from npgpt.core import Cache, KeyValues, Param
from npgpt.study.check.cases import CASES, compile_case, make_case


def of_layers() -> dict[str, Call]:
    """Return the calls that make layers, and those of the ground: Param, Cache, Layer."""
    sizes, score = {"n_embd": a.count(4), "n_head": a.count(2)}, {"score": a.fixed(None)}
    rest = {"dropout": a.not_negative(0.5), "residual_std": a.not_negative(0.02)}
    std, mine = {"std": a.not_negative(0.02)}, {"attention_dropout": a.maybe_not_negative(0.5)}
    return {
        "layers.Linear.__init__": call(layers.Linear, n_in=a.count(3), n_out=a.count(2), **std),
        "layers.Embedding.__init__": call(layers.Embedding, vocab_size=a.count(3), n_embd=a.count(2), **std),
        "layers.VocabularyHead.__init__": call(
            layers.VocabularyHead, vocab_size=a.count(3), n_embd=a.count(2), weight=a.fixed(None), **std
        ),
        "layers.LayerNorm.__init__": call(layers.LayerNorm, n_embd=a.count(3), eps=a.not_negative(1e-5)),
        "layers.Dropout.__init__": call(layers.Dropout, p=a.not_negative(0.5)),
        "layers.MLP.__init__": call(
            layers.MLP, n_embd=a.count(2), activation=a.choice("gelu"), n_inner=a.maybe_count(3), **rest
        ),
        "layers.Attention.__init__": call(layers.Attention, **sizes, **rest, **score, **mine),
        "layers.Block.__init__": call(
            layers.Block,
            **sizes,
            activation=a.choice("gelu"),
            n_inner=a.maybe_count(3),
            eps=a.not_negative(1e-5),
            **rest,
            **score,
            **mine,
        ),
        "layers.LearnedPositions.__init__": call(
            layers.LearnedPositions, context_length=a.count(3), n_embd=a.count(2), **std
        ),
        "layers.SinusoidalPositions.__init__": call(layers.SinusoidalPositions, n_embd=a.count(2), scale=a.real(1.0)),
        "layers.ConcatenatedPositions.__init__": call(
            layers.ConcatenatedPositions,
            vectors=a.fixed(layers.LearnedPositions(3, 2)),
            n_embd=a.count(2),
            n_position=a.count(2),
            projected=a.flag(True),
            std=a.maybe_not_negative(0.5),
        ),
        "layers.RelativeBiasScores.__init__": call(
            layers.RelativeBiasScores, n_head=a.count(2), n_distances=a.count(3)
        ),
        "layers.RelativeKeyScores.__init__": call(
            layers.RelativeKeyScores, n_distances=a.count(3), head_size=a.count(2), **std
        ),
        "layers.LoRA.__init__": call(
            layers.LoRA, linear=a.fixed(layers.Linear(3, 2)), rank=a.count(2), alpha=a.real(16.0)
        ),
        "layers.add_lora": call(
            lambda **given: len(layers.add_lora(layers.MLP(2), **given)),
            rank=a.count(2),
            alpha=a.real(16.0),
            seed=a.natural(0),
        ),
        "layers.visible": call(layers.visible, T=a.natural(3), n_keys=a.maybe_whole(3)),
        "embeddings.DocumentWords.__init__": call(
            embeddings.DocumentWords, n_documents=a.count(2), vocab_size=a.count(3), n_embd=a.count(2)
        ),
        "embeddings.NegativeSampling.__init__": call(
            embeddings.NegativeSampling, vocab_size=a.count(3), n_embd=a.count(2)
        ),
        "embeddings.OneHotEmbedding.__init__": call(
            embeddings.OneHotEmbedding, vocab_size=a.count(3), n_embd=a.count(2), **std
        ),
        "core.Param.__init__": call(Param, value=a.floats(np.ones((2, 2))), std=a.not_negative(0.0)),
        "core.Cache.__init__": call(
            Cache,
            training=a.flag(False),
            record=a.flag(True),
            trace=a.flag(False),
            seed=a.whole(0),
            step=a.whole(0),
            first_example=a.whole(0),
            documents=a.maybe_ids(np.array([[0, 0, 1], [1, 2, 2]])),
        ),
        "core.KeyValues.advance": call(KeyValues().advance, n_tokens=a.natural(1)),
        "core.Layer.initialise": call(linear().initialise, seed=a.whole(0)),
        "core.Layer.pack": call(linear().pack, dtype=a.dtype(np.float32)),
        "core.Layer.astype": call(linear().astype, dtype=a.dtype(np.float32)),
        "npgpt.GPT.__init__": call(
            npgpt.GPT, config=a.fixed(config.GPTConfig(7, 4, 1, 2, 4)), seed=a.maybe_whole(0), dtype=a.dtype("f4")
        ),
        "npgpt.GPT.loss": call(
            lambda **given: model().loss(cache=Cache(), **given),
            ids=a.ids(IDS[None, :4]),
            targets=a.targets(np.array([[1, -100, 2, 3]])),
            count=a.maybe_count(3),
        ),
        "npgpt.GPT.loss_backward": call(loss_backward, dloss=a.real(1.0)),
        "npgpt.trace": call(
            lambda x, dy, training: [each.value for each in npgpt.trace(linear(), x, dy=dy, training=training)],
            x=a.floats(np.ones((1, 2))),
            dy=a.maybe_floats(np.ones((1, 2))),
            training=a.flag(False),
        ),
        "build.make_gpt": call(
            build.make_gpt,
            config=a.fixed(config.GPTConfig(7, 4, 1, 2, 4)),
            layers=a.choice("textbook"),
            seed=a.maybe_whole(0),
        ),
        "build.twin": call(build.twin, layer=a.fixed(layers.ReLU()), layers=a.choice("textbook")),
    }


def of_embeddings() -> dict[str, Call]:
    """Return forward and backward of the layers that learn vectors."""
    rows, words, labels = np.array([[0], [1]]), np.array([[1, 0], [0, 1]]), np.array([[1, 0], [1, 0]])
    made: dict[str, tuple[Any, dict[str, Any]]] = {
        "NegativeSampling": (embeddings.NegativeSampling(2, 3), {"rows": rows, "words": words, "labels": labels}),
        "DocumentWords": (embeddings.DocumentWords(2, 2, 3), {"documents": rows[:, 0], "words": words}),
        "OneHotEmbedding": (embeddings.OneHotEmbedding(2, 3), {"ids": words}),
    }
    found: dict[str, Call] = {}
    for name, (layer, inputs) in made.items():
        layer.initialise(1)

        def forward(layer: Any = layer, **changed: Any) -> Any:
            return layer.forward(*changed.values(), Cache())

        def backward(dy: Any, layer: Any = layer, inputs: Any = inputs) -> Any:
            layer.zero_grad()
            cache = Cache()
            layer.forward(*inputs.values(), cache)
            layer.backward(dy, cache)
            return [param.grad.copy() for param in layer.parameters().values()]

        y = forward(layer, **inputs)
        found[f"embeddings.{name}.forward"] = forward, {key: a.ids(x) for key, x in inputs.items()}
        found[f"embeddings.{name}.backward"] = backward, {"dy": a.floats(np.ones(y.shape)) if y.ndim else a.real(1.0)}
    return found


def of_cases() -> dict[str, Call]:
    """Return forward and backward of every layer that has a case, textbook and compiled."""
    found: dict[str, Call] = {}
    for name in (name for name in CASES if not name.startswith("GPT-") or name == "GPT-tied"):
        textbook = make_case(name, SMALL)
        cases = {"layers": textbook, "compiled": compile_case(textbook)}
        if not any(type(part).__module__.startswith("npgpt.compiled") for part in cases["compiled"].layer.walk()):
            del cases["compiled"]  # a textbook layer in float32; NumPy sums in an order that depends on the layout
        for twin, case in cases.items():
            arguments = {
                key: (a.floats if x.dtype.kind == "f" else a.targets if key == "targets" else a.ids)(x)
                if isinstance(x, np.ndarray)
                else a.fixed(x)
                for key, x in case.inputs.items()
            }
            if "count" in arguments:
                arguments["count"] = a.maybe_count(3)

            def forward(case: Any = case, **changed: Any) -> Any:
                return np.array(case.layer.forward(*changed.values(), case.cache()))

            def backward(dy: Any, case: Any = case) -> Any:
                cache = case.cache()
                case.forward(cache)
                case.layer.zero_grad()
                grads = case.layer.backward(dy, cache)
                return grads, [param.grad.copy() for param in case.layer.parameters().values()]

            y = np.asarray(case.forward(case.cache())).copy()
            dy = np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)
            found[f"{twin}.{name}.forward"] = forward, arguments
            found[f"{twin}.{name}.backward"] = backward, {"dy": a.floats(dy) if y.ndim else a.real(1.0)}
    return found
