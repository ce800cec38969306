"""Points at which forward is not differentiable: a zero in a ReLU, a tie in a maximum, a number at a bound.

There the slopes on both sides differ, however small the step is, and no gradient is right or wrong. The cells are
named, and moved a little, and the check goes on beside the kink.
"""

import time
from collections.abc import Callable

import numpy as np

from npgpt.core import Array
from npgpt.study.check.differences import ROUNDING, has_kink, noise_of
from npgpt.study.check.subjects import Subject
from npgpt.study.check.witnesses import LONGEST, scale_of, sizes_of

ROUNDS, MOST_TESTS, SHOWN = 4, 200, 3


def move_off_kinks(subject: Subject, dy: Array, seed: int) -> bool:
    """Move inputs and parameters off kinks, and say so in the subject's remarks; return whether none is left."""
    rng = np.random.default_rng([seed, 3])
    for turn in range(ROUNDS):
        y = subject.forward({})
        finite = np.where(np.isfinite(y), y, 0)
        tensors = {n: x for n, x in subject.tensors.items() if not n.startswith("kept ") and x.size}
        units = {name: scale_of(x) for name, x in tensors.items()}
        all_together = {name: sizes_of(x) * rng.normal(size=x.shape) for name, x in tensors.items()}
        smooth = noise_of(along(subject, all_together), y, 1e-7)
        noise = 4 * max(smooth, ROUNDING) * (float(np.abs(dy * finite).sum()) or 1.0)

        def kinked(v: dict[str, Array], y: Array = y, noise: float = noise) -> bool:
            with np.errstate(all="ignore"):
                return has_kink(along(subject, v), y, dy, noise)

        started = time.perf_counter()
        if not kinked(all_together) or not kinked({n: -0.7 * x for n, x in all_together.items()}):
            return True
        most = min(MOST_TESTS, max(8, int(2 * LONGEST / (time.perf_counter() - started))))
        values, said = {}, []
        for name, x in tensors.items():
            v = all_together[name]
            if kinked({name: v}):
                cells = _cells(lambda mask, name=name, v=v: kinked({name: v * mask}), x.shape, most)
                delta = (
                    units[name] * (0.02 + 0.01 * turn) * rng.uniform(0.5, 1.5, x.shape) * rng.choice([-1, 1], x.shape)
                )
                values[name] = np.where(cells, x + delta, x)
                said.append(_named(name, cells))
            if (
                values
                and name.startswith("input ")
                and not kinked({n: w for n, w in all_together.items() if n != name})
            ):
                break  # the parameters meet no kink of their own
        if not values:
            return True
        subject.put(values)
        subject.remarks.append(
            f"not differentiable at {', '.join(said)}: the slopes on both sides differ; moved a little"
        )
    return False


def along(subject: Subject, v: dict[str, Array]) -> Callable[[float], Array]:
    return lambda t: subject.forward({name: t * x for name, x in v.items()})


def _cells(test: object, shape: tuple[int, ...], most: int) -> Array:
    """Return a mask of the cells that have a kink, by halving; of all that are left where there are too many."""
    found = np.zeros(int(np.prod(shape, dtype=int)), bool)
    waiting, n_tests = [np.arange(found.size)], 0
    while waiting:
        part = waiting.pop()
        mask = np.zeros(found.size)
        mask[part] = 1
        n_tests += 1
        if n_tests > most:
            found[part] = True
        elif test(mask.reshape(shape)):  # type: ignore[operator]
            if len(part) == 1:
                found[part] = True
            else:
                waiting += [part[: len(part) // 2], part[len(part) // 2 :]]
    return found.reshape(shape)


def _named(name: str, cells: Array) -> str:
    where = [f"[{', '.join(map(str, cell))}]" for cell in np.argwhere(cells)[:SHOWN]]
    more = int(cells.sum()) - len(where)
    return f"{name.split(' ', 1)[1]}{' '.join(where)}{f' and {more} more' if more > 0 else ''}"
