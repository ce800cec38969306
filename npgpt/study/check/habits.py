"""What the gradients of other people's layers do not show: what a pass writes into, and what it leaves behind."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check.places import find, look_up
from npgpt.study.check.trees import leaves

Stranger = Any  # a StrangerSubject, whose module imports this one


def of_stranger(subject: Stranger, dy: Array) -> tuple[list[str], dict[str, Array]]:
    """Return sentences on what a pass writes into, and the gradients of a pass that follows another one."""
    state = {path: held.array.copy() for path, held in find(subject.root).items()}
    subject.run()
    after = {path: held for path, held in find(subject.root).items() if path in state and held.path in subject.unused}
    changed = [f"forward changes {path}" for path, held in after.items() if not equal(held.array, state[path])]
    said = writes(subject, dy) + changed
    if subject.takes_steps:
        return said, {}
    rng = np.random.default_rng(8)

    def moved(path: str, x: Any) -> Any:
        return x + 0.3 * rng.normal(size=x.shape) if path in subject.inputs else x

    try:
        y, same, found = after_another_pass(subject, dy, moved)
    except Exception:
        return said, {}
    if not equal(same, y):
        said.append("forward depends on the pass before; each pass of this check starts from the same state")
        return said, {}
    return said, found


def writes(subject: Stranger, dy: Array) -> list[str]:
    """Run a pass; return sentences on the arrays handed to it that it writes into."""
    inputs = [p for key, tree in subject.arguments.items() for p, x in leaves(tree, key).items() if _is_plain(x)]
    handed: list[tuple[Array, Array]] = []
    said: list[str] = []

    def remembered(x: Array) -> Array:
        handed.append((x, x.copy()))
        return x

    def written(way: str) -> None:
        for path, (x, old) in zip([*inputs, *("",) * len(handed)], handed, strict=False):
            if not equal(x, old):
                said.append(f"{way} writes into {f'its argument {path}' if path else 'the upstream gradient'}")
                x[...] = old

    plain, subject.laid_out = subject.laid_out, remembered
    try:
        returned = subject.run()
        written("forward")
        subject.call_back(returned, dy)
        written("backward")
    finally:
        subject.laid_out = plain
    return list(dict.fromkeys(said))


def after_another_pass(
    subject: Stranger, dy: Array, change: Callable[[str, Any], Any]
) -> tuple[Array, Array, dict[str, Array]]:
    """Return the output, and the output and the gradients of a pass that follows one over other numbers.

    Backward may add to the gradient of a parameter, and then that of the other pass is taken away. Two gradients stay
    as they are: one that holds only a part of the other pass, as with a momentum, and an input's.
    """
    y = np.array(subject.output(subject.run()).y)

    def second(zeroed: bool) -> tuple[dict[str, Array], dict[str, Array], Array]:
        first = subject.gradients_after(subject.run(change), dy)
        for path in subject.gradient_paths if zeroed else ():
            x = look_up(subject.root, path)
            if isinstance(x, np.ndarray) and x.flags.writeable:
                x[...] = 0
        returned = subject.run(again=True)
        output = np.array(subject.output(returned).y)
        return first, subject.gradients_after(returned, dy), output

    _, found, same = second(zeroed=True)
    first, on_top, _ = second(zeroed=False)
    for name, grad in found.items():
        left = on_top[name] - grad
        if name.startswith("input ") or not (_close(left, 0 * grad, grad) or _close(left, first[name], grad)):
            found[name] = on_top[name]
    return y, same, {name: x for name, x in found.items() if name.startswith("input ") or subject.gradient_paths}


def _close(a: Array, b: Array, size: Array) -> bool:
    return bool(np.linalg.norm(a - b) <= 1e-6 * (np.linalg.norm(size) + np.linalg.norm(b)))


def equal(a: Any, b: Any) -> bool:
    return np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind in "fc")


def _is_plain(x: Any) -> bool:
    return type(x) is np.ndarray
