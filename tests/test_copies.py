"""A copy trains to the same bits as the original: by pickle, by deepcopy, and in a process that was spawned."""

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npgpt import layers
from npgpt.build import make_gpt, make_optimizer, twin
from npgpt.config import GPTConfig, TrainConfig
from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.param import FlatParams
from npgpt.errors import ConfigError
from npgpt.model import GPT
from npgpt.optim import AdamW
from npgpt.train import accumulate, optimizer_of, training_steps

CONFIG = GPTConfig(vocab_size=19, context_length=6, n_layer=2, n_head=2, n_embd=8, dropout=0.1)
SETTINGS = TrainConfig(steps=6, batch_size=3, learning_rate=0.01)
IDS = np.random.default_rng(0).integers(0, 19, 200)
COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "protocol 2": lambda x: pickle.loads(pickle.dumps(x, 2)),
    "deepcopy": copy.deepcopy,
    "twice": lambda x: copy.deepcopy(pickle.loads(pickle.dumps(x))),
}


def train(model: GPT, optimizer: AdamW, first: int, last: int) -> list[float]:
    """Train for some steps and return their losses."""
    losses, cache = [], Cache(training=True)
    for step in range(first, last):
        ids = np.random.default_rng(step).integers(0, len(IDS) - 7, 3)[:, None] + np.arange(7)
        losses.append(accumulate(model, IDS[ids[:, :-1]], IDS[ids[:, 1:]], cache, step=step))
        optimizer.step(0.01)
    return losses


def started(kind: str) -> tuple[GPT, AdamW]:
    model = make_gpt(CONFIG, kind)
    optimizer = optimizer_of(model, SETTINGS)
    train(model, optimizer, 0, 3)
    return model, optimizer


def state(model: GPT, optimizer: AdamW) -> bytes:
    return b"".join(x.tobytes() for x in (model.flat.values, optimizer.mean, optimizer.square, *values(model)))


def values(model: Layer) -> list[Array]:
    return [param.value for param in model.parameters().values()]


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", ["textbook", "compiled"])
def test_a_copy_trains_to_the_bits_of_the_original(kind: str, way: str) -> None:
    model, optimizer = started(kind)
    other, its_optimizer = COPIES[way]((model, optimizer))
    before = state(model, optimizer)
    losses = train(other, its_optimizer, 3, 6)
    assert state(model, optimizer) == before  # the copy has its own memory
    assert train(model, optimizer, 3, 6) == losses
    assert state(model, optimizer) == state(other, its_optimizer) != before
    assert all(np.shares_memory(value, other.flat.values) for value in values(other))
    assert other.lm_head.weight is other.embedding.weight
    assert other.flat.values.ctypes.data % 64 == 0


@pytest.mark.parametrize("way", COPIES)
def test_a_copied_model_alone_trains_like_a_new_one(way: str) -> None:
    ours = [list(training_steps(make_gpt(CONFIG), IDS, SETTINGS)) for _ in range(2)]
    theirs = list(training_steps(COPIES[way](make_gpt(CONFIG)), IDS, SETTINGS))
    assert ours[0] == ours[1] == theirs


def spawned(model: GPT, optimizer: AdamW, results: Any) -> None:
    results.put((train(model, optimizer, 3, 6), state(model, optimizer)))


def test_a_model_in_a_spawned_process_trains_to_the_same_bits() -> None:
    model, optimizer = started("compiled")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    child = context.Process(target=spawned, args=(model, optimizer, results))
    child.start()
    theirs = results.get(timeout=120)
    child.join()
    assert theirs == (train(model, optimizer, 3, 6), state(model, optimizer))


def test_read_only_arrays_of_another_process_become_writeable() -> None:
    """joblib hands large arrays to its workers as read-only memory maps."""
    model, optimizer = started("textbook")
    unpickled = pickle.loads(pickle.dumps((model, optimizer)))
    for holder, names in ((unpickled[1], ("mean", "square")), (Param(np.zeros(3)), ("value", "_grad"))):
        kept = vars(holder) | {name: _read_only(getattr(holder, name)) for name in names}
        again = object.__new__(type(holder))
        again.__setstate__(kept)
        assert all(getattr(again, name).flags.writeable for name in names)


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def test_gradients_between_backward_and_step_are_copied() -> None:
    model, optimizer = started("compiled")
    cache = Cache(training=True)
    accumulate(model, IDS[None, :6], IDS[None, 1:7], cache)
    other, its_optimizer = pickle.loads(pickle.dumps((model, optimizer)))
    for each in (optimizer, its_optimizer):
        each.step(0.01)
    assert state(model, optimizer) == state(other, its_optimizer)


def test_a_cache_may_be_copied_in_the_middle_of_a_step() -> None:
    model = make_gpt(CONFIG)
    cache = Cache(training=True)
    x, y = IDS[None, :6], IDS[None, 1:7]
    model.zero_grad(cache)
    model.loss(x, y, cache)
    other, its_cache = pickle.loads(pickle.dumps((model, cache)))
    for each, its in ((model, cache), (other, its_cache)):
        each.loss_backward(1.0, its)
        its.clear_unwritten()
    assert model.flat.grads.any() and np.array_equal(model.flat.grads, other.flat.grads)


def test_twins_and_shared_layers_stay_shared_in_a_pickle() -> None:
    model = make_gpt(CONFIG, "textbook")
    one, two = pickle.loads(pickle.dumps((model, twin(model, "compiled"))))
    one.flat.values[:] = 7
    assert two.flat is one.flat and all((value == 7).all() for value in values(two))


def test_a_shallow_copy_shares_the_vectors() -> None:
    model, optimizer = started("compiled")
    other, its_optimizer = copy.copy(model), copy.copy(optimizer)
    its_flat = copy.copy(model.flat)
    train(other, its_optimizer, 3, 4)
    assert its_flat.values is model.flat.values
    model.flat.check()
    assert values(other)[0] is values(model)[0]


def test_an_optimizer_that_would_train_nothing_is_refused() -> None:
    model, optimizer = started("compiled")
    model.pack(np.float32)  # the parameters leave the optimizer's vector
    with pytest.raises(ConfigError, match="no longer a part of this vector"):
        optimizer.step(0.01)
    other = pickle.loads(pickle.dumps(make_gpt(CONFIG)))
    with pytest.raises(ConfigError, match="the model would not learn"):
        training_steps(other, IDS, SETTINGS, optimizer_of(model, SETTINGS))
    model.blocks[0] = copy.deepcopy(model.blocks[0])
    with pytest.raises(ConfigError, match=r"got or lost parameters after pack\(\)"):
        make_optimizer(model)
    for kind in ("textbook", "compiled"):
        linear = twin(layers.Linear(3, 2).astype(np.float32), kind)
        trained = make_optimizer(linear)
        linear.weight.value = np.zeros((3, 2), np.float32)
        with pytest.raises(ConfigError, match=r"assign new values with param.value\[...\]"):
            trained.step(0.01)


def test_an_optimizer_of_a_part_of_a_model_is_allowed() -> None:
    model = make_gpt(CONFIG, "textbook")
    part = AdamW(FlatParams(list(model.norm.parameters().values()), np.float32))
    before = model.embedding.weight.value.copy()
    list(training_steps(model, IDS, SETTINGS, part))
    assert (model.embedding.weight.value == before).all() and (model.norm.gain.value != 1).any()
