"""Right calls of the functions of training, data and sampling."""

import functools

import numpy as np
import values as a
from right import IDS, TEXTS, Call, adamw, call, flat, model, stepped

from npgpt import baselines, build, config, data, evaluation, optim, sampling, train
from npgpt.core import Cache
from npgpt.machine import pool
from npgpt.tokenizer import CharTokenizer


def of_training() -> dict[str, Call]:
    rates = {
        "beta1": a.not_negative(0.9),
        "beta2": a.not_negative(0.95),
        "eps": a.positive(1e-8),
        "weight_decay": a.not_negative(0.1),
    }
    step = {"learning_rate": a.not_negative(0.1), "grad_scale": a.not_negative(1.0)}
    from npgpt.compiled.optim import AdamW as CompiledAdamW

    x, y = IDS[:8].reshape(2, 4), a.targets(IDS[1:9].reshape(2, 4))
    first = config.TrainConfig(steps=1)
    found = {
        "optim.clip_scale": call(optim.clip_scale, norm=a.not_negative(5.0), max_norm=a.positive(1.0)),
        "optim.WarmupCosine.__init__": call(
            optim.WarmupCosine,
            highest=a.not_negative(1.0),
            lowest=a.not_negative(0.2),
            warmup=a.natural(2),
            steps=a.count(7),
        ),
        "optim.WarmupCosine.__call__": call(optim.WarmupCosine(1.0, 0.2, 2, 7).__call__, step=a.natural(3)),
        "build.make_optimizer": call(build.make_optimizer, layer=a.fixed(model()), **rates),
        "train.evaluate": call(
            train.evaluate, model=a.fixed(model()), ids=a.ids(IDS), batch_size=a.count(16), at_most=a.maybe_count(8)
        ),
        "train.accumulate": call(
            lambda **given: train.accumulate(model(), cache=Cache(), **given),
            x=a.ids(x),
            y=y,
            micro_batches=a.count(1),
            step=a.natural(0),
            documents=a.maybe_ids(np.array([[0, 0, 1, 1], [1, 2, 2, 3]])),
        ),
        "train.training_steps": call(
            lambda **given: train.training_steps(model(), config=first, **given),
            ids=a.ids(IDS),
            after=a.natural(1),
            schedule_from=a.natural(1),
        ),
        "train.training_windows": call(
            lambda **given: list(train.training_windows(config=first, **given)),
            ids=a.free_ids(IDS),
            context_length=a.count(4),
        ),
        "train.optimizer_of": call(train.optimizer_of, model=a.fixed(model()), config=a.fixed(first)),
        "train.optimizer_steps": call(
            lambda **given: train.optimizer_steps(adamw(optim.AdamW), lambda step: 0.1, [(1.0, 3)], **given),
            grad_clip=a.positive(1.0),
            after=a.natural(1),
        ),
        "data.pack_rows": call(
            data.pack_rows, ids=a.fixed([[1, 2], [3]]), targets=a.fixed([[2, 3], [-100]]), context_length=a.count(4)
        ),
        "data.SlidingWindows.__init__": call(
            lambda **given: list(data.SlidingWindows(**given)),
            ids=a.free_ids(IDS),
            context_length=a.count(3),
            stride=a.count(1),
            batch_size=a.count(1),
            shuffle=a.flag(False),
            seed=a.whole(0),
            drop_last=a.flag(False),
        ),
        "data.SlidingWindows.batch": call(data.SlidingWindows(IDS, 3).batch, step=a.natural(2)),
        "data.split_texts": call(data.split_texts, texts=a.texts(TEXTS), validation_fraction=a.not_negative(0.5)),
        "data.split_text": call(data.split_text, text=a.text(TEXTS[0]), validation_fraction=a.not_negative(0.5)),
        "sampling.generate": call(
            sampling.generate,
            model=a.fixed(model()),
            ids=a.ids(np.array([1, 2])),
            max_tokens=a.steps(3),
            temperature=a.not_negative(1.0),
            top_k=a.maybe_count(3),
            seed=a.whole(0),
            stop=a.maybe_whole(6),
            context=a.maybe_count(4),
            top_p=a.fixed(0.9),
        ),
        "sampling.generate_batch": call(
            sampling.generate_batch,
            model=a.fixed(model()),
            prompts=a.fixed([[1, 2], [3]]),
            max_tokens=a.steps(3),
            temperature=a.not_negative(1.0),
            top_k=a.maybe_count(3),
            seeds=a.fixed([0, 1]),
            stop=a.maybe_whole(6),
            context=a.maybe_count(4),
            top_p=a.fixed(0.9),
        ),
        "sampling.check_context": call(sampling.check_context, config=a.fixed(model().config), context=a.count(3)),
        "baselines.unigram_loss": call(
            baselines.unigram_loss, train_ids=a.ids(IDS), ids=a.ids(IDS), vocab_size=a.count(7)
        ),
        "baselines.bigram_loss": call(
            baselines.bigram_loss, train_ids=a.ids(IDS), ids=a.ids(IDS), vocab_size=a.count(7)
        ),
        "evaluation.bits_per_byte": call(
            evaluation.bits_per_byte, loss=a.real(2.0), tokens=a.count(3), n_bytes=a.count(7)
        ),
        "evaluation.count_bytes": call(evaluation.count_bytes, texts=a.texts(TEXTS)),
        "evaluation.evaluate": call(
            lambda **given: evaluation.evaluate(model(), CharTokenizer("the c"), **given).surprisals,
            text=a.one_or_more_texts(["the c", "he"]),
            stride=a.maybe_count(2),
        ),
        "evaluation.surprisals_of": call(
            evaluation.surprisals_of, model=a.fixed(model()), ids=a.ids(IDS), stride=a.count(2)
        ),
        "npgpt.set_num_threads": call(pool.set_num_threads, n=a.count(1)),
    }
    for name, kind in (("optim", optim.AdamW), ("compiled", CompiledAdamW)):
        found[f"{name}.AdamW.__init__"] = call(kind, flat=a.fixed(flat()), **rates)
        found[f"{name}.AdamW.step"] = call(functools.partial(stepped, kind), **step)
    return found
