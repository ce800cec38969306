"""Laws for other people's layers, with which a ``StrangerSubject`` can be run.

A law takes a ``StrangerCase`` and raises LawBroken if the layer breaks it. Each pass starts from the same state and
draws the same random numbers, unless the law is about what a pass leaves behind. So a batch norm that averages, and a
dropout, break no law. Gradients are judged elsewhere, by ``gradcheck``.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError
from npgpt.study.check.broken import LawBroken, require
from npgpt.study.check.conventions import DY
from npgpt.study.check.differences import noise_of
from npgpt.study.check.habits import after_another_pass, equal, writes
from npgpt.study.check.judge import upstream
from npgpt.study.check.kinks import along
from npgpt.study.check.places import look_up
from npgpt.study.check.strangers import StrangerSubject
from npgpt.study.check.trees import leaves
from npgpt.study.check.witnesses import IN_FLOAT32, sizes_of

CLOSE, COARSE = 1e-6, 1e-3  # largest relative difference in float64, and if float32 is involved
RESETS = ("reset", "reset_state", "reset_states", "reset_hidden", "init_state", "init_hidden", "clear_state")


@dataclass(frozen=True)
class StrangerCase:
    """Somebody's layer with inputs.

    Attributes
        time_axis: the time axis of inputs and output of a causal layer; None for other layers.
        by_example: whether the first axis of the inputs counts examples.
    """

    subject: StrangerSubject
    time_axis: int | None = None
    by_example: bool = False

    def forward(self, change: Callable[[str, Any], Any] | None = None) -> Array:
        """Run forward, from the same state each time; ``change`` replaces inputs."""
        return np.array(self.subject.output(self.subject.run(change)).y)

    def both(self, dy: Array, change: Callable[[str, Any], Any] | None = None) -> tuple[Array, dict[str, Array]]:
        """Run forward and backward; return the output and the gradients that came."""
        returned = self.subject.run(change)
        y = np.array(self.subject.output(returned).y)
        return y, _given(self.subject.gradients_after(returned, dy))

    def arrays(self) -> dict[str, Array]:
        """Return path -> array, of all inputs."""
        flat = {path: x for key, tree in self.subject.arguments.items() for path, x in leaves(tree, key).items()}
        return {path: x for path, x in flat.items() if isinstance(x, np.ndarray)}

    @functools.cached_property
    def close(self) -> float:
        """The largest relative difference that is rounding."""
        subject, rng = self.subject, np.random.default_rng(9)
        y = subject.forward({})
        v = {name: sizes_of(x) * rng.normal(size=x.shape) for name, x in subject.tensors.items()}
        with np.errstate(all="ignore"):
            noise = max(noise_of(along(subject, v), y), subject.coarsest)
        subject.gradients(upstream(y))
        return COARSE if noise > IN_FLOAT32 or subject.coarse else CLOSE


def gradients_have_their_tensors_shapes(case: StrangerCase) -> None:
    """A gradient has the shape of its tensor, so that ``w -= rate * dw`` changes no shape."""
    for name, grad in case.both(upstream(case.forward()))[1].items():
        shape = case.subject.tensors[name].shape
        require(grad.shape == shape, f"the gradient of {name} has shape {grad.shape}, and {name} has {shape}")


def nothing_handed_in_is_changed(case: StrangerCase) -> None:
    """Neither inputs, nor the upstream gradient, nor parameters are written to."""
    subject, dy = case.subject, upstream(case.forward())
    subject.state.restore()
    weights = {path: held.array.copy() for path, held in subject.held.items()}

    def unchanged(way: str) -> None:
        for path, old in weights.items() if not subject.takes_steps else ():
            require(equal(look_up(subject.root, path), old), f"{way} writes into the parameter {path}")

    subject.run()
    unchanged("forward")
    said = writes(subject, dy)
    require(not said, "; ".join(said))
    unchanged("backward")


def the_same_again(case: StrangerCase) -> None:
    """A pass that follows one over other numbers gives what it gave before: nothing is left over that it uses."""
    subject = case.subject
    dy = upstream(case.forward())
    first = case.both(dy)
    y, again, grads = after_another_pass(subject, dy, _other_numbers(case))
    _same(case, dy, {"the output": y}, {"the output": again}, "differs after a pass over other numbers")
    _same(case, dy, {n: first[1][n] for n in _given(grads)}, grads, "differs after a pass over other numbers")


def memory_layout_does_not_matter(case: StrangerCase) -> None:
    """Arrays with gaps, and in another order of axes, are as good as contiguous ones, on both ways."""

    def scattered(x: Array) -> Array:
        room = np.zeros((*reversed(x.shape), 2), x.dtype)
        view: Array = room[..., 1].T
        view[...] = x
        return view

    subject, dy = case.subject, upstream(case.forward())
    y, grads = case.both(dy)
    plain, subject.laid_out = subject.laid_out, scattered
    try:
        z, others = case.both(dy)
    except Exception as error:
        raise LawBroken(f"{type(error).__name__} on arrays that are not contiguous: {error}") from error
    finally:
        subject.laid_out = plain
    says = "differs on arrays that are not contiguous"
    _same(case, dy, {"the output": y} | grads, {"the output": z} | others, says)


def backward_is_linear(case: StrangerCase) -> None:
    """The gradients of 3·dy + 2·dy' are 3 times those of dy plus 2 times those of dy'."""
    y = case.forward()
    one, other = upstream(y, 1), upstream(y, 2)
    of_one, of_other, of_both = (case.both(dy)[1] for dy in (one, other, 3 * one + 2 * other))
    expected = {name: 3 * of_one[name] + 2 * of_other[name] for name in of_one}
    _same(case, 3 * one + 2 * other, expected, of_both, "is not linear in the upstream gradient")


def batch_permutation(case: StrangerCase) -> None:
    """Permuting the examples permutes outputs and input gradients, and changes nothing else."""
    y = case.forward()
    dy, n = upstream(y), len(y)
    order = np.roll(np.arange(n), 1)  # no example keeps its place
    y, grads = case.both(dy)
    z, permuted = case.both(dy[order], lambda path, x: x[order] if isinstance(x, np.ndarray) else x)
    grads = {name: x[order] if name.startswith("input ") else x for name, x in grads.items()}
    _same(
        case,
        dy,
        {"the output": y[order]} | grads,
        {"the output": z} | permuted,
        "differs if the examples change places",
    )


def examples_are_independent(case: StrangerCase) -> None:
    """Changing all examples but the first leaves the output of the first."""

    def others_changed(path: str, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            x = x.copy()
            x[1:] = x[:1] if x.dtype.kind in "iub" else x[1:] + 1
        return x

    y, z = case.forward(), case.forward(others_changed)
    says = "changes with the other examples (of a batch norm it does: skip this law)"
    _same(case, y, {"the output of the first example": y[0]}, {"the output of the first example": z[0]}, says)


def causality(case: StrangerCase) -> None:
    """What comes later changes no earlier output, and an earlier output sends no gradient to what comes later."""
    axis = case.time_axis
    if axis is None:
        raise ConfigError(f"{case.subject.name} has no time axis; give time_axis=1 if axis 1 is time")
    n = next(iter(case.arrays().values())).shape[axis]
    t = n // 2  # the first position that is changed
    late = (slice(None),) * axis + (slice(t, None),)
    early = (slice(None),) * axis + (slice(None, t),)

    def changed(path: str, x: Any) -> Any:
        if isinstance(x, np.ndarray) and x.ndim > axis and x.shape[axis] == n:
            x = x.copy()
            x[late] = x[late][::-1] if x.dtype.kind in "iub" else x[late] + 1
        return x

    y, z = case.forward(), case.forward(changed)
    says = f"changes with the inputs from {t} on"
    before = f"the output before position {t}"
    _same(case, y, {before: y[early]}, {before: z[early]}, says)
    dy = upstream(y)
    dy[late] = 0
    for name, dx in case.both(dy)[1].items():
        if name.startswith("input ") and dx.ndim > axis and dx.shape[axis] == n:
            says = f"is not zero from position {t} on, though the upstream gradient is"
            _same(case, dy, {name: np.zeros_like(dx[late])}, {name: dx[late]}, says)


LawOfStrangers = Callable[[StrangerCase], None]
LAWS_OF_STRANGERS: list[LawOfStrangers] = [
    gradients_have_their_tensors_shapes,
    nothing_handed_in_is_changed,
    the_same_again,
    memory_layout_does_not_matter,
    backward_is_linear,
    batch_permutation,
    examples_are_independent,
    causality,
]
OF_EXAMPLES = (batch_permutation, examples_are_independent)  # in evaluation: a batch norm and a dropout obey them there


def says_something(law: LawOfStrangers, case: StrangerCase) -> bool:
    """Return whether a layer could break a law: one that holds a state on purpose is never the same again."""
    subject = case.subject
    if law is the_same_again:
        return not subject.takes_steps and not any(callable(getattr(subject.root, name, None)) for name in RESETS)
    if law is backward_is_linear:
        return DY in subject.plan and not subject.takes_steps
    if law in OF_EXAMPLES:
        sizes = {x.shape[:1] for x in [*case.arrays().values(), case.forward()]}
        return case.by_example and len(sizes) == 1 and () not in sizes and not _draws(case)
    return law is not causality or case.time_axis is not None


def _draws(case: StrangerCase) -> bool:
    """Return whether forward draws random numbers: its masks belong to places, not to examples."""
    state = case.subject.state
    generators, state.generators = state.generators, []  # they go on, and all else returns
    try:
        return case.subject.seeded or not equal(case.forward(), case.forward())
    finally:
        state.generators = generators


def _other_numbers(case: StrangerCase) -> Callable[[str, Any], Any]:
    """Return a change to other valid inputs: the floats, or else the ids, in another order; none crosses zero."""
    floats = {path for path, x in case.arrays().items() if x.dtype.kind == "f"}

    def changed(path: str, x: Any) -> Any:
        if path in floats:
            return 0.9 * np.flip(x)
        return np.flip(x) if isinstance(x, np.ndarray) and not floats else x

    return changed


def _given(grads: dict[str, Array]) -> dict[str, Array]:
    return {name: x for name, x in grads.items() if not (x.size and np.isnan(x).all())}


def _same(case: StrangerCase, dy: Array, expected: dict[str, Array], got: dict[str, Array], says: str) -> None:
    """Refuse tensors that differ by more than rounding, relative to their size, or to the upstream gradient's."""
    for name, x in expected.items():
        label = name if name.startswith("the ") else f"the gradient of {name}"
        ours = np.asarray(got[name])
        if x.shape != ours.shape:
            raise LawBroken(f"{label} {says}: its shape is {ours.shape}, not {x.shape}")
        finite = np.isfinite(x) & np.isfinite(ours)
        off = np.where(finite, np.abs(np.where(finite, x - ours, 0)), np.where(_alike(x, ours), 0, np.inf))
        size = float(np.linalg.norm(x[finite])) + 1e-3 * float(np.linalg.norm(np.nan_to_num(dy)))
        if not float(np.linalg.norm(off)) <= case.close * size:
            cell = tuple(int(i) for i in np.unravel_index(np.argmax(off), off.shape))
            where = f" at [{', '.join(map(str, cell))}]" if cell else ""
            raise LawBroken(f"{label} {says}{where}: expected {x[cell]:.9g}, got {ours[cell]:.9g}")


def _alike(x: Array, ours: Array) -> Array:
    return np.asarray((x == ours) | (np.isnan(x) & np.isnan(ours)))
