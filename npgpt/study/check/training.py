"""The switch between training and evaluation, where people put it: a flag, a word, a method, an argument of forward."""

import contextlib
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from npgpt.study.check.conventions import required
from npgpt.study.check.places import walk

TRAIN = {
    *("training", "train", "is_training", "is_train", "train_mode", "training_mode", "istraining", "in_training"),
    *("train_flag", "train_flg", "training_phase", "learning_phase", "mode", "phase"),
}
EVALUATE = {  # flags that are off in training
    *("inference", "test", "testing", "eval", "eval_mode", "evaluating", "evaluation", "is_test", "is_eval"),
    *("inference_mode", "test_mode", "is_inference", "predict", "predicting", "deterministic"),
}
SWITCHES = TRAIN | EVALUATE
ON, OFF = {"train", "training"}, {"test", "eval", "evaluation", "inference", "valid", "val", "predict"}
SETTERS = {"set_training", "set_train", "set_mode", "set_training_mode"}


def set_training(
    root: Any, arguments: dict[str, Any], call: Callable[..., Any], on: bool, try_only: bool = False
) -> bool | None:
    """Switch an object, or the arguments of its forward, to training or to evaluation.

    Args
        try_only: change nothing.
    Returns
        Whether something changes; None if there is no switch.
    """
    changes: list[bool] = []

    def switch(name: str, now: Any, put: Callable[[Any], None]) -> None:
        state = on if name.strip("_").lower() in TRAIN else not on
        new = (
            _word(now, on)
            if isinstance(now, str)
            else type(now)(state)
            if isinstance(now, bool | int | np.bool_)
            else state
        )
        if not try_only:
            put(new)
        changes.append(new != now)

    needed, optional, _, by_name = required(call)
    for name in (*needed, *optional, *by_name):
        if name.lower() in SWITCHES and (name in arguments or name not in needed):
            now = arguments.get(name, inspect.signature(call).parameters[name].default)
            switch(name, now, functools.partial(arguments.__setitem__, name))
    for node in list(walk([root, arguments])):
        value, last = node.value, node.path.rpartition(".")[2]
        if last.strip("_").lower() in SWITCHES and _is_switch(value):
            with contextlib.suppress(TypeError, AttributeError):
                switch(last, value, node.put)
        if isinstance(value, type | types.FunctionType | types.ModuleType | np.ndarray | dict | list):
            continue
        for name in sorted(SWITCHES & set(dir(type(value))) - set(getattr(value, "__dict__", ()))):
            own = getattr(type(value), name)  # a flag on the class, or a property
            if _is_switch(own) or (isinstance(own, property) and own.fset and _is_switch(getattr(value, name))):
                switch(name, getattr(value, name), functools.partial(setattr, value, name))
        _call_methods(value, on, try_only, changes)
    return any(changes) if changes else None


def _is_switch(value: Any) -> bool:
    return type(value) in (bool, np.bool_) or (type(value) is int and value in (0, 1)) or str(value).lower() in ON | OFF


def _call_methods(value: Any, on: bool, try_only: bool, changes: list[bool]) -> None:
    """Call ``train()`` or ``eval()`` of an object that has both (one alone may train a model), or ``train(mode)``."""
    train, evaluate = getattr(value, "train", None), getattr(value, "eval", None)
    calls: list[Callable[[], Any]] = []
    if (
        callable(train)
        and required(train)[0][:1] in (["mode"], ["training"], ["flag"])
        and len(required(train)[0]) == 1
    ):
        calls = [functools.partial(train, on)]
    elif callable(train) and callable(evaluate) and not required(train)[0] and not required(evaluate)[0]:
        calls = [train if on else evaluate]
    for name in sorted(SETTERS & set(dir(type(value)))):
        if len(required(getattr(value, name))[0]) == 1:
            calls.append(functools.partial(getattr(value, name), ("train" if on else "test") if "mode" in name else on))
    for call in calls:
        if not try_only:
            call()
        changes.append(True)


def _word(now: str, on: bool) -> str:
    if (now.lower() in ON) == on:
        return now
    other = "train" if on else "test"
    return other.upper() if now.isupper() else other
