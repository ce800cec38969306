# B batch, T time
"""Laws that every layer must obey, whatever it computes.

Each law takes a ``Case`` (``npgpt.study.check.cases``: a layer, inputs, and what is known about them) and raises
AssertionError if the layer breaks it. ``LAWS`` lists them all, and ``laws_for`` those that say something about a case.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npgpt.build import twin
from npgpt.core import Array, Cache, Layer
from npgpt.errors import NpgptError
from npgpt.study.check.cases import Case
from npgpt.study.check.judge import upstream
from npgpt.study.check.subjects import NudgedCache
from npgpt.study.check.witnesses import TINY

Law = Callable[[Case], None]


def shapes_and_dtypes(case: Case) -> None:
    """Output and gradients are in the precision of inputs and parameters; gradients have their tensors' shapes."""
    for dtype in (np.float32, np.float64):
        converted = case.astype(dtype)
        cache = converted.cache(trace=True)
        y = np.asarray(converted.forward(cache))
        assert y.dtype == dtype, f"forward gives {y.dtype} in a layer of {np.dtype(dtype)}"
        for name, dx in converted.backward(_upstream(y), cache).items():
            assert dx.shape == converted.inputs[name].shape and dx.dtype == dtype, f"d{name}: {dx.shape} {dx.dtype}"
        for path, value, grad in cache.walk():
            if value.dtype.kind == "f":
                assert value.dtype == dtype, f"{path} is kept in {value.dtype}"
                assert grad is None or grad.dtype == dtype, f"the gradient noted for {path} is {grad.dtype}"
        for path, param in converted.layer.parameters().items():
            assert param.grad.shape == param.value.shape and param.grad.dtype == dtype, path


def nothing_handed_in_is_changed(case: Case) -> None:
    """Neither inputs, nor the upstream gradient, nor parameters are written to."""
    tensors = [*case.arrays().values(), *(param.value for param in case.layer.parameters().values())]
    before = [x.copy() for x in tensors]
    cache = case.cache()
    dy = _upstream(case.forward(cache))
    dy_before = dy.copy()
    case.backward(dy, cache)
    assert all(np.array_equal(x, old) for x, old in zip([*tensors, dy], [*before, dy_before], strict=True))


def the_same_again(case: Case) -> None:
    """A pass gives the same on a fresh cache, a reset one, and one that records nothing, which keeps nothing."""
    cache, silent = case.cache(), case.cache(record=False)
    first = np.copy(case.forward(cache))
    for other in (case.cache(), cache.reset(), silent):
        assert np.array_equal(first, case.forward(other))
    assert not list(silent.walk())


def memory_layout_does_not_matter(case: Case) -> None:
    """Arrays with gaps, and in another order of axes, are as good as contiguous ones, on both ways."""

    def scattered(x: Array) -> Array:
        room = np.zeros((*reversed(x.shape), 2), x.dtype)
        view: Array = room[..., 1].T
        view[...] = x
        return view

    cache, other = case.cache(), case.cache()
    y = np.copy(case.forward(cache))
    arrays = {name: scattered(x) for name, x in case.arrays().items()}
    _assert_close({"y": y}, {"y": case.forward(other, **arrays)})
    dy = _upstream(y)
    _assert_close(_grads(case, dy, cache), _grads(case, scattered(dy), other), _size(dy))


def second_forward_is_refused(case: Case) -> None:
    """A cache holds one pass: a second forward without reset() raises."""
    for record in (True, False):
        cache = case.cache(record=record)
        case.forward(cache)
        try:
            case.forward(cache)
        except KeyError:
            continue
        raise AssertionError("a second forward overwrote what the first had kept")


def two_backwards_double(case: Case) -> None:
    """Backward adds to the parameters' gradients, and does not use up what forward kept."""
    cache = case.cache()
    dy = _upstream(case.forward(cache))
    once = _grads(case, dy, cache)
    doubled = {path: 2 * once[path] for path in case.layer.parameters()}
    _assert_close(once | doubled, _grads(case, dy, cache, zero=False), _size(dy))


def backward_is_linear(case: Case) -> None:
    """The gradients of a·dy + b·dy' are a times those of dy plus b times those of dy'.

    With a + b = 1 a backward that adds a constant would pass.
    """
    cache = case.cache()
    y = case.forward(cache)
    one, other = _upstream(y, 1), _upstream(y, 2)
    of_one, of_other, of_both = (_grads(case, dy, cache) for dy in (one, other, 3 * one + 2 * other))
    _assert_close({name: 3 * of_one[name] + 2 * of_other[name] for name in of_one}, of_both, _size(3 * one + 2 * other))


def batch_permutation(case: Case) -> None:
    """Permuting the examples permutes outputs and input gradients, and changes nothing else."""
    arrays = case.arrays()
    order = np.random.default_rng(3).permutation(len(next(iter(arrays.values()))))
    cache, permuted = case.cache(training=False), case.cache(training=False)
    y = np.asarray(case.forward(cache))
    z = case.forward(permuted, **{name: x[order] for name, x in arrays.items()})
    dy = _upstream(y)
    _assert_close({"y": y[order] if y.ndim else y}, {"y": z})
    grads = _grads(case, dy, cache)
    grads |= {f"d{name}": grads[f"d{name}"][order] for name in case.float_inputs()}
    _assert_close(grads, _grads(case, dy[order] if dy.ndim else dy, permuted), _size(dy))


def examples_are_independent(case: Case) -> None:
    """Changing all examples but the first leaves the output of the first. (A batch norm permutes as it should.)"""
    cache = case.cache(training=False)
    y = np.copy(case.forward(cache))
    changed = {name: x.copy() for name, x in case.arrays().items()}
    for x in changed.values():
        x[1:] = x[:1] if x.dtype.kind in "iu" else x[1:] + 1
    z = case.forward(case.cache(training=False), **changed)
    _assert_close({"y": y[0]}, {"y": z[0]})


def causality(case: Case) -> None:
    """What comes later changes no earlier output, and an earlier output sends no gradient to what comes later."""
    axis = case.time_axis
    assert axis is not None, "the case names no time axis"
    changed = {name: x.copy() for name, x in case.arrays().items()}
    t = next(iter(changed.values())).shape[axis] // 2  # the first position that is changed
    late = (slice(None),) * axis + (slice(t, None),)
    early = (slice(None),) * axis + (slice(None, t),)
    for x in changed.values():
        x[late] = x[late][::-1] if x.dtype.kind in "iu" else x[late] + 1
    cache = case.cache()
    y = case.forward(cache)
    assert np.array_equal(y[early], case.forward(case.cache(), **changed)[early])
    dy = _upstream(y)
    dy[late] = 0
    for name, dx in case.backward(dy, cache).items():
        assert not dx[late].any(), f"d{name} reaches into the future"


def every_kept_array_is_noted(case: Case) -> None:
    """Backward says what the gradient of each float array is that forward kept."""
    cache = case.cache(trace=True)
    case.backward(_upstream(case.forward(cache)), cache)
    missing = [path for path, value, grad in cache.walk() if value.dtype.kind == "f" and grad is None]
    assert not missing, f"kept without a noted gradient: {', '.join(missing)}"


def noted_gradients_are_right(case: Case) -> None:
    """Nudging a kept array in a random direction changes the output as its noted gradient says (complex step)."""
    cache = case.cache(trace=True)
    y = case.forward(cache)
    dy = _upstream(y)
    case.backward(dy, cache)
    for path, value, grad in cache.walk():
        if grad is not None:
            direction = np.random.default_rng(4).normal(size=value.shape)
            nudged = NudgedCache(case)
            nudged.nudges = {path: TINY * 1j * direction}
            slope = (dy * case.forward(nudged).imag / TINY).sum()
            _assert_close({path: slope}, {path: (grad * direction).sum()}, np.abs(grad * direction).sum())


def equals_its_textbook_twin(case: Case) -> None:
    """A compiled layer gives what the textbook's gives in float64: output, all gradients, all that both keep.

    Each tensor to 2e-5 of its size, or of the upstream gradient's if that is larger: float32 has seven digits, and a
    deep model loses one or two.
    """
    textbook = dataclasses.replace(case, layer=twin(case.layer, "textbook")).astype(np.float64)
    cache, oracle = case.cache(trace=True), textbook.cache(trace=True)
    y, expected = case.forward(cache), textbook.forward(oracle)
    dy = _upstream(y)
    size = _size(dy)
    _assert_close({"y": expected}, {"y": y})
    _assert_close(_grads(textbook, dy.astype(np.float64), oracle), _grads(case, dy, cache), size)
    kept = {path: (value, grad) for path, value, grad in oracle.walk()}
    for path, value, grad in cache.walk():
        assert path in kept, f"{path} is not a name of the textbook's"
        _assert_close({path: kept[path][0]}, {path: value})
        if grad is not None:
            _assert_close({path: kept[path][1]}, {path: grad}, size)


def keeps_what_it_declares(case: Case) -> None:
    """A compiled layer keeps no other names than ``KEEPS``, in its own scope of the cache."""
    cache = case.cache()
    case.forward(cache)

    def check(layer: Layer, scope: Cache) -> None:
        inside = f"{scope.path}." if scope.path else ""
        own = {path.removeprefix(inside) for path, _, _ in scope.walk()}
        declared = getattr(layer, "KEEPS", None)
        if declared is not None:
            assert {name for name in own if "." not in name} <= set(declared), (scope.path, own, declared)
        for name, child in layer.children().items():
            check(child, scope.scope(name))

    check(case.layer, cache)


def wrong_shape_is_refused(case: Case) -> None:
    """A wrong shape gets an error of npgpt's own, which says what was given."""
    assert case.wrong is not None, "the case names no wrong shape"
    try:
        case.layer.forward(*case.wrong.values(), case.cache())
    except NpgptError as error:
        assert any(character.isdigit() for character in str(error)), f"no sizes in the message: {error}"
        return
    raise AssertionError("a wrong shape was taken")


LAWS: list[Law] = [
    shapes_and_dtypes,
    nothing_handed_in_is_changed,
    the_same_again,
    memory_layout_does_not_matter,
    second_forward_is_refused,
    two_backwards_double,
    backward_is_linear,
    batch_permutation,
    examples_are_independent,
    causality,
    every_kept_array_is_noted,
    noted_gradients_are_right,
    wrong_shape_is_refused,
]
# A compiled layer cannot be nudged, nor fed complex numbers: there equality with the textbook counts.
LAWS_OF_COMPILED: list[Law] = [
    *(law for law in LAWS if law is not noted_gradients_are_right),
    equals_its_textbook_twin,
    keeps_what_it_declares,
]


def _keeps(case: Case, kinds: str = "biufc") -> bool:
    """Whether forward keeps an array of one of these kinds of numbers."""
    cache = case.cache()
    case.forward(cache)
    return any(value.dtype.kind in kinds for _, value, _ in cache.walk())


def _declares(layer: Layer) -> bool:
    return hasattr(layer, "KEEPS") or any(map(_declares, layer.children().values()))


# The laws that say nothing about some cases, and when they do say something.
APPLIES: dict[Law, Callable[[Case], bool]] = {
    second_forward_is_refused: _keeps,
    examples_are_independent: lambda case: np.ndim(case.forward(case.cache())) > 0,
    causality: lambda case: case.time_axis is not None,
    every_kept_array_is_noted: lambda case: _keeps(case, "f"),
    noted_gradients_are_right: lambda case: _keeps(case, "f"),
    wrong_shape_is_refused: lambda case: case.wrong is not None,
    keeps_what_it_declares: lambda case: _declares(case.layer),
}


def laws_for(case: Case, laws: Sequence[Law] = LAWS) -> list[Law]:
    """The laws that can be broken by this case: a layer without time has no causality to lose."""
    return [law for law in laws if law not in APPLIES or APPLIES[law](case)]


def _upstream(y: Array, seed: int = 0) -> Array:
    """A random gradient of an output: never ones, under which a softmax or a layer norm has the gradient zero."""
    y = np.asarray(y)
    return upstream(y, seed).astype(y.dtype)


def _grads(case: Case, dy: Array, cache: Cache, zero: bool = True) -> dict[str, Array]:
    """Copies of the gradients: of parameters under their paths, of an input x as ``dx``."""
    if zero:
        case.layer.zero_grad()
    of_inputs = {f"d{name}": grad.copy() for name, grad in case.backward(dy, cache).items()}
    return {path: param.grad.copy() for path, param in case.layer.parameters().items()} | of_inputs


def _size(dy: Array) -> float:
    """In float32 the size of an upstream gradient: rounding is relative to it where a gradient is exactly zero."""
    return float(np.linalg.norm(dy)) if dy.dtype == np.float32 else 0.0


def _assert_close(expected: dict[str, Any], got: dict[str, Any], size: float = 0.0) -> None:
    """Equal to rounding, each tensor relative to its norm (or to ``size``: that of the terms that were added up)."""
    for name in expected:
        x, ours = np.asarray(expected[name]), np.asarray(got[name])
        tolerance = 2e-5 if np.float32 in (x.dtype, ours.dtype) else 1e-10
        finite = np.isfinite(x)
        assert np.array_equal(finite, np.isfinite(ours)), f"{name}: infinite or NaN in one of the two"
        off = np.linalg.norm(x[finite] - ours[finite])
        scale = max(size, float(np.linalg.norm(x[finite])), 1.0)
        assert off <= tolerance * scale, f"{name}: off by {off / scale:.1e}"
