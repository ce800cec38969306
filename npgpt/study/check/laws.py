# B batch, T time
"""Laws that every layer must obey, whatever it computes.

Each law takes a ``Case`` (``npgpt.study.check.cases``: a layer, inputs, and what is known about them) and raises
LawBroken if the layer breaks it. ``LAWS`` lists them all, and ``laws_for`` those that say something about a case.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npgpt.build import twin
from npgpt.core import Array, Cache, Layer
from npgpt.errors import ConfigError, NpgptError
from npgpt.layers import Attention
from npgpt.study.check.broken import LawBroken, require
from npgpt.study.check.cases import Case
from npgpt.study.check.judge import check, upstream
from npgpt.study.check.subjects import LayerSubject, NudgedCache
from npgpt.study.check.witnesses import TINY

Law = Callable[[Case], None]
SILENT = "a cache that records nothing"


def gradients_are_right(case: Case) -> None:
    """Every gradient is right, by every method of the checker."""
    report = check(LayerSubject(case), until_wrong=True)
    require(report.passed, f"\n{report}")


def shapes_and_dtypes(case: Case) -> None:
    """Output and gradients are in the precision of inputs and parameters; gradients have their tensors' shapes."""
    for dtype in (np.float32, np.float64):
        converted = case.astype(dtype)
        cache = converted.cache(trace=True)
        y = np.asarray(converted.forward(cache))
        require(y.dtype == dtype, f"forward gives {y.dtype} in a layer of {np.dtype(dtype)}")
        for name, dx in converted.backward(_upstream(y), cache).items():
            _of_kind(f"d{name}", dx, converted.inputs[name].shape, dtype)
        for path, value, grad in cache.walk():
            if value.dtype.kind == "f":
                _of_kind(f"the kept array {path}", value, value.shape, dtype)
                if grad is not None:
                    _of_kind(f"the gradient noted for {path}", grad, value.shape, dtype)
        for path, param in converted.layer.parameters().items():
            _of_kind(f"the gradient of {path}", param.grad, param.value.shape, dtype)


def _of_kind(name: str, x: Array, shape: tuple[int, ...], dtype: Any) -> None:
    same = x.shape == shape and x.dtype == dtype
    require(same, f"{name} is {x.dtype}{x.shape}; in a layer of {np.dtype(dtype)} it must be {np.dtype(dtype)}{shape}")


def nothing_handed_in_is_changed(case: Case) -> None:
    """Neither inputs, nor the upstream gradient, nor parameters are written to."""
    cache = case.cache()
    tensors = {f"the input {name}": x for name, x in case.arrays().items()}
    tensors |= {f"the parameter {path}": param.value for path, param in case.layer.parameters().items()}
    before = {name: x.copy() for name, x in tensors.items()}

    def unchanged(way: str) -> None:
        for name, old in before.items():
            require(np.array_equal(tensors[name], old, equal_nan=old.dtype.kind == "f"), f"{way} writes into {name}")

    dy = _upstream(case.forward(cache))
    unchanged("forward")
    tensors["the upstream gradient"], before["the upstream gradient"] = dy, dy.copy()
    case.backward(dy, cache)
    unchanged("backward")


def the_same_again(case: Case) -> None:
    """A pass gives the same on a fresh cache, a reset one, and one that records nothing, which keeps nothing."""
    cache, silent = case.cache(), case.cache(record=False)
    first = np.copy(case.forward(cache))
    for kind, other in (("a second cache", case.cache()), ("a cache after reset()", cache.reset()), (SILENT, silent)):
        same = np.array_equal(first, case.forward(other), equal_nan=True)
        require(same, f"forward gives other numbers on {kind} than on the first cache")
    kept = [path for path, _, _ in silent.walk()]
    require(not kept, f"{SILENT} holds {', '.join(kept)} after forward")


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
        raise LawBroken("a second forward overwrote what the first had kept")


def two_backwards_double(case: Case) -> None:
    """Backward adds to the parameters' gradients, also where it adds zero, and does not use up what forward kept."""
    cache = case.cache()
    dy = _upstream(case.forward(cache))
    once = _grads(case, dy, cache)
    doubled = {path: 2 * once[path] + 1 for path in case.layer.parameters()}
    for param in case.layer.parameters().values():
        param.grad += 1
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
    documents = None if case.documents is None else case.documents[order]
    cache, permuted = case.cache(training=False), case.cache(training=False, documents=documents)
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
    if axis is None:
        raise ConfigError(f"{case.name} has no time axis; give time_axis=1 if axis 1 is time")
    changed = {name: x.copy() for name, x in case.arrays().items()}
    t = next(iter(changed.values())).shape[axis] // 2  # the first position that is changed
    late = (slice(None),) * axis + (slice(t, None),)
    early = (slice(None),) * axis + (slice(None, t),)
    for x in changed.values():
        x[late] = x[late][::-1] if x.dtype.kind in "iu" else x[late] + 1
    cache = case.cache()
    y = case.forward(cache)
    same = np.array_equal(y[early], case.forward(case.cache(), **changed)[early], equal_nan=True)
    require(same, f"the output before position {t} changes with the inputs from {t} on")
    dy = _upstream(y)
    dy[late] = 0
    for name, dx in _of_inputs(case, dy, cache).items():
        require(not dx[late].any(), f"outputs before position {t} send a gradient d{name} to inputs from {t} on")


def every_kept_array_is_noted(case: Case) -> None:
    """Backward says what the gradient of each float array is that forward kept."""
    cache = case.cache(trace=True)
    case.backward(_upstream(case.forward(cache)), cache)
    missing = [path for path, value, grad in cache.walk() if value.dtype.kind == "f" and grad is None]
    require(not missing, f"kept without a noted gradient: {', '.join(missing)}")


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


def exact_zeros_of_attention(case: Case) -> None:
    """The gradients of a query that sees one key, of this key, and of the keys' bias are 0, without rounding noise."""
    cache = case.cache()
    C = case.inputs["x"].shape[-1]
    dy = _upstream(case.forward(cache))
    bias = _grads(case, dy, cache)["qkv.bias"]
    require(not bias[C : 2 * C].any(), "the keys' bias gets a gradient")
    dy[:, 1:] = 0
    weight = _grads(case, dy, cache)["qkv.weight"]
    require(not weight[:, : 2 * C].any(), "the first output sends a gradient to queries or keys")


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
        require(path in kept, f"{path} is not a name of the textbook's")
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
            extra = sorted({name for name in own if "." not in name} - set(declared))
            require(not extra, f"{scope.path or case.name} keeps {', '.join(extra)}, which KEEPS does not name")
        for name, child in layer.children().items():
            check(child, scope.scope(name))

    check(case.layer, cache)


def wrong_shape_is_refused(case: Case) -> None:
    """A wrong shape gets an error of npgpt's own, which says what was given."""
    if case.wrong is None:
        raise ConfigError(f"{case.name} has no wrong shape")
    try:
        case.layer.forward(*case.wrong.values(), case.cache())
    except NpgptError as error:
        require(any(character.isdigit() for character in str(error)), f"no sizes in the message: {error}")
        return
    raise LawBroken("a wrong shape was taken")


LAWS: list[Law] = [
    gradients_are_right,
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
    exact_zeros_of_attention,
    wrong_shape_is_refused,
]
# A compiled layer cannot be nudged, nor fed other numbers than floats: there equality with the textbook counts.
LAWS_OF_COMPILED: list[Law] = [
    *(law for law in LAWS if law not in (gradients_are_right, noted_gradients_are_right)),
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
    exact_zeros_of_attention: lambda case: isinstance(case.layer, Attention) and case.layer.key_bias_cancels,
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


def _of_inputs(case: Case, dy: Array, cache: Cache) -> dict[str, Array]:
    """The gradients of the inputs. Laws cut them into parts, so their shapes must be right."""
    grads = case.backward(dy, cache)
    for name, dx in grads.items():
        shape = case.inputs[name].shape
        require(dx.shape == shape, f"the gradient of {name} has shape {dx.shape}, expected {shape}")
    return grads


def _grads(case: Case, dy: Array, cache: Cache, zero: bool = True) -> dict[str, Array]:
    """Copies of the gradients: of parameters under their paths, of an input x as ``dx``."""
    if zero:
        case.layer.zero_grad()
    of_inputs = {f"d{name}": grad.copy() for name, grad in _of_inputs(case, dy, cache).items()}
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
        require(np.array_equal(finite, np.isfinite(ours)), f"{name}: infinite or NaN in one of the two")
        off = np.linalg.norm(x[finite] - ours[finite])
        scale = max(size, float(np.linalg.norm(x[finite])), 1.0)
        if not off <= tolerance * scale:
            raise LawBroken(f"{name} is off by {off / scale:.1e}{_where(x, ours)}")


def _where(x: Array, ours: Array) -> str:
    """Return the cell that is farthest off: `` at [0, 2]: expected 1.5, got 2``."""
    if not x.ndim:
        return f": expected {x:.9g}, got {ours:.9g}"
    off = np.subtract(x, ours, where=np.isfinite(x), out=np.zeros(x.shape))
    cell = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(off)), off.shape))
    return f" at [{', '.join(map(str, cell))}]: expected {x[cell]:.9g}, got {ours[cell]:.9g}"
