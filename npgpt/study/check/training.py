"""The switch between training and evaluation, where people put it: a flag, a word, a method, an argument of forward."""

import contextlib
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from npgpt.study.check.conventions import required
from npgpt.study.check.places import walk

SWITCHES = {
    *("training", "train", "is_training", "is_train", "train_mode", "training_mode", "istraining", "train_flag"),
    *("train_flg", "mode", "phase"),
}
ON, OFF = {"train", "training"}, {"test", "eval", "evaluation", "inference", "valid", "val", "predict"}


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

    def switch(now: Any, put: Callable[[Any], None]) -> None:
        new = _word(now, on) if isinstance(now, str) else on
        if not try_only:
            put(new)
        changes.append(new != now)

    needed, optional, _, by_name = required(call)
    for name in (*needed, *optional, *by_name):
        if name.lower() in SWITCHES and (name in arguments or name not in needed):
            now = arguments.get(name, inspect.signature(call).parameters[name].default)
            switch(now, functools.partial(arguments.__setitem__, name))
    for node in list(walk([root, arguments])):
        value, last = node.value, node.path.rpartition(".")[2].strip("_").lower()
        if last in SWITCHES and (type(value) is bool or (isinstance(value, str) and value.lower() in ON | OFF)):
            with contextlib.suppress(TypeError, AttributeError):
                switch(value, node.put)
        if hasattr(value, "__dict__") and not isinstance(value, type | types.FunctionType | types.ModuleType):
            for name in SWITCHES & set(dir(type(value))) - set(vars(value)):  # a flag on the class
                if type(getattr(type(value), name)) is bool:
                    switch(getattr(value, name), functools.partial(setattr, value, name))
    method = getattr(root, "train" if on else "eval", None)
    if callable(method) and not required(method)[0] and not isinstance(root, dict):
        if not try_only:
            method()
        changes.append(not changes)
    return any(changes) if changes else None


def _word(now: str, on: bool) -> str:
    return now if (now.lower() in ON) == on else "train" if on else "test"
