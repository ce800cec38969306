"""What a stranger's layer is: how its backward is called, and which of its arrays are parameters with a gradient.

Nothing is asked that can be seen. Backward is called in one way after another, until one works. An array of the object
is a parameter if forward depends on it, and its gradient stands where people put it: under a name such as ``dW``, in
a dict ``grads``, beside ``W.data`` in ``W.grad``, in what backward returns, in the step that backward takes. An array
that forward depends on and whose gradient is not found stays unchecked, unless the user calls it a constant.
"""

import fnmatch
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.errors import ConfigError, did_you_mean
from npgpt.study.check.calling import choose_call, n_cached
from npgpt.study.check.conventions import DY, RATE, RATES, gradient_stems, stem
from npgpt.study.check.first_passes import equal_leaves, in_float64, lasting_arrays, repeatable_pass, shown, warm_up
from npgpt.study.check.parameters import all_of_tied, by_methods, candidates, numbers_of, pair_up
from npgpt.study.check.places import Held, find, look_up, memories, odd_arrays, walk
from npgpt.study.check.strangers import StrangerSubject
from npgpt.study.check.trees import leaves

MOST_ALTERNATIVES = 4


def prepare(
    subject: StrangerSubject, params: Any = None, grads: Mapping[str, Any] | None = None, constants: Sequence[Any] = ()
) -> None:
    """Find out how a subject's backward is called, and where its gradients are."""
    in_float64(subject)
    subject.begin()
    warm_up(subject)
    returned = repeatable_pass(subject)
    subject.n_cached, maybe = n_cached(subject, returned)
    y = subject.output(returned).y
    if not np.size(y):
        raise ConfigError(f"{subject.name}: forward returned no floats; it returned {shown(returned)}")
    if not np.isfinite(np.asarray(y)).any():
        raise ConfigError(f"{subject.name}: forward's output holds no finite number; give inputs of order one")
    subject.state.restore()
    _take_out_constants(subject, constants)
    extra = _said_params(subject, params)
    every, replaced = lasting_arrays(subject)
    every |= extra
    _refuse_unknown_names(subject, [*every.values(), *replaced], dict(grads or {}), constants)
    subject.held = dict(every)
    choose_call(subject, maybe)
    if _promote_arguments(subject):
        choose_call(subject, maybe)
    if DY not in subject.plan:
        subject.is_end = True
        subject.remarks.append(
            "backward takes no upstream gradient, or ignores it: it is judged as the end, where dy is 1"
        )
    y = subject.output(subject.run()).y
    subject.state.restore()
    subject.held = {}
    _find_parameters(subject, every, y, dict(grads or {}), list(constants), set(extra))
    subject.state.restore()
    for path in subject.gradient_paths:
        x = look_up(subject.root, path)
        if isinstance(x, np.ndarray) and x.flags.writeable:
            x[...] = 0  # some objects add to it, others replace it
    for path, x in odd_arrays(subject.root).items():
        if not any(fnmatch.fnmatchcase(path, str(said)) for said in constants):
            subject.unchecked[f"array {path}"] = f"it is of type {x.dtype}; hold floats in arrays of floats"
    subject.begin()
    _move_out_ungiven(subject, y)
    subject.gradients(np.ones(np.shape(y)))
    subject.settle()


def _take_out_constants(subject: StrangerSubject, constants: Sequence[Any]) -> None:
    """Let inputs be constants that the user calls so."""
    for said in constants:
        for path in list(subject.inputs):
            named = isinstance(said, str) and (path == said or path.startswith(f"{said}."))
            if named or subject.inputs[path] is said:
                subject.unused.append(path)
                subject.constants[path] = subject.inputs.pop(path)


def _promote_arguments(subject: StrangerSubject) -> bool:
    """Let plain numbers that backward returns a gradient of be inputs; return whether there are any."""
    numbers = [key for key, x in subject.arguments.items() if isinstance(x, float | np.floating)]
    if not numbers:
        return False
    given, keys = _backward_once(subject, subject.output(subject.run()).y), list(subject.arguments)
    subject.state.restore()
    if isinstance(given, Mapping):
        found = [k for k in numbers if any(k == str(key) or stem(k) in gradient_stems(str(key)) for key in given)]
    elif isinstance(given, tuple | list) and len(given) == len(keys):
        found = [key for key, x in zip(keys, given, strict=True) if key in numbers and x is not None and not np.ndim(x)]
    else:
        found = numbers if len(keys) == 1 and given is not None and not np.ndim(given) else []
    for key in found:
        subject.arguments[key] = subject.inputs[key] = np.array(subject.arguments[key])
    subject.begin()
    return bool(found)


def _move_out_ungiven(subject: StrangerSubject, y: Array) -> None:
    """Sort out the inputs that backward returns no gradient of: nobody can check them."""
    returned = _backward_once(subject, y)
    for path, x in subject.constants.items():
        is_its = isinstance(returned, np.ndarray) and returned.dtype.kind == "f" and np.shape(x) == returned.shape
        if is_its and not subject.inputs:
            subject.unchecked[f"input {path}"] = (
                f"it holds {x.dtype}; give floats, {path}.astype(float), to have it checked"
            )
    given = subject.assigned(returned)
    after = numbers_of(subject.root)
    missing = {
        path: Held(path, x, paths=[path]) for path, x in subject.inputs.items() if given.get(f"input {path}") is None
    }
    for path, place in pair_up(missing, {p: x for p, x in after.items() if p not in subject.held}).items():
        subject.getters[f"input {path}"] = _getter(subject, place)
    subject.state.restore()
    for path in list(subject.inputs):
        if f"input {path}" in subject.getters:
            continue
        if given.get(f"input {path}") is None:
            subject.constants[path] = subject.inputs.pop(path)
            subject.unchecked[f"input {path}"] = (
                f"backward returns no gradient of it; if none is needed, constants=[{path!r}]"
            )
            subject.begin()


def _told_once(subject: StrangerSubject, how: Any) -> None:
    """Refuse a place of a gradient at which nothing stands after backward."""
    if isinstance(how, str) and look_up(subject.root, how) is None:
        raise ConfigError(f"grads: after backward there is nothing at {how!r} in {subject.name}")


def _said_params(subject: StrangerSubject, params: Any) -> dict[str, Held]:
    """Return arrays that the user names: name -> array, or arrays and names in a list."""
    if params is None:
        return {}
    items = params.items() if isinstance(params, Mapping) else [(f"p{i}", x) for i, x in enumerate(params)]
    every, found = find(subject.root), dict[str, Held]()
    for name, x in items:
        if isinstance(x, str):
            if not any(_is_named(held, x) for held in every.values()) and not isinstance(
                look_up(subject.root, x), float
            ):
                raise ConfigError(f"there is no array {x!r} in {subject.name}; {did_you_mean(x, every)}")
            continue
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            raise ConfigError(f"params: {name} is {shown(x)}; give an array of floats, or the path of one")
        known = next((held for held in every.values() if held.array is x), None)
        if known is not None:
            known.paths.append(str(name))
            found[known.path] = known
        else:
            held = Held(str(name), x, paths=[str(name)])
            spaces = {id(space): space for f in (subject.call, subject.back) if (space := _globals(f)) is not None}
            for space in spaces.values():
                for key in [key for key, item in space.items() if item is x]:
                    held.setters.append(functools.partial(space.__setitem__, key))
            subject.original.arrays.append((x, x.copy()))
            found[held.path] = held
    return found


def _globals(function: Any) -> dict[str, Any] | None:
    return getattr(getattr(function, "__func__", function), "__globals__", None)


def _find_parameters(
    subject: StrangerSubject,
    every: dict[str, Held],
    y: Array,
    grads: dict[str, Any],
    constants: list[Any],
    extra: set[str],
) -> None:
    """Sort the arrays of the object into those with a gradient, those without, and those that forward does not use."""
    rng = np.random.default_rng(12)
    floats = _numbers_after(subject, rng.normal(size=np.shape(y)))
    other = _numbers_after(subject, rng.normal(size=np.shape(y)))
    live = numbers_of(subject.root)
    made_by_backward = [
        path for path, x in floats.items() if not np.array_equal(x, other.get(path, np.nan), equal_nan=True)
    ]
    subject.state.restore()
    _promote_numbers(subject, every, floats)
    used = {path for path in every if _is_used(subject, every, path, set(made_by_backward), y)} | extra
    given_constants = {path for path, held in every.items() if any(_is_named(held, name) for name in constants)}
    possible = {path: held for path, held in every.items() if path not in given_constants}
    named = pair_up(possible, {p: x for p, x in floats.items() if p not in used})
    named = {p: g for p, g in named.items() if g not in named or p in used}
    getters: dict[str, Callable[[], Any]] = {}
    subject.held = possible
    before = {path: held.array.copy() for path, held in possible.items()}
    returned = subject.assigned(_backward_once(subject, y))
    changed = {path for path, old in before.items() if not np.array_equal(old, np.asarray(look_up(subject.root, path)))}
    subject.held = {}
    methods = by_methods(subject.root, possible, subject.memo)  # there may be no gradients before the first backward
    for how in grads.values():
        _told_once(subject, how)
    subject.state.restore()
    if changed and RATE not in subject.plan and not _set_rates(subject):
        changed = set()
    for path, held in possible.items():
        said = next((how for key, how in grads.items() if _is_named(held, key)), None)
        by_method = methods.get(path)
        if said is not None:
            getters[f"param {path}"] = _getter(subject, said)
        elif f"param {path}" in returned:
            subject.held[path] = held
        elif by_method is not None:
            getters[f"param {path}"] = by_method
        elif path in named and path in used:
            getters[f"param {path}"] = _getter(subject, named[path])
            subject.gradient_paths.append(named[path])
            plain = {p: x for p, x in floats.items() if p not in used}
            others = [p for p in candidates(held, possible, plain) if p != named[path]][:MOST_ALTERNATIVES]
            tied = all_of_tied(held, possible, {p: x for p, x in live.items() if p not in used})
            subject.gradient_paths += tied
            subject.places[f"param {path}"] = named[path]
            spare = [p for p in made_by_backward if p not in named.values() and np.shape(floats[p]) == held.array.shape]
            if named[path] not in made_by_backward and spare:
                subject.doubtful[f"param {path}"] = f"backward does not touch {named[path]}, but {spare[0]}"
            subject.alternatives[f"param {path}"] = {p: _getter(subject, p) for p in others}
            if len(tied) > 1:  # each use may have a gradient of its own
                subject.alternatives[f"param {path}"][""] = functools.partial(_sum, [_getter(subject, p) for p in tied])
        elif path in used and path in changed:
            subject.held[path] = held
            subject.takes_steps = True
        elif path in used:
            fits = [p for p in made_by_backward if np.shape(floats[p]) == held.array.shape and p not in named.values()]
            fits = [p for p in fits if p not in every or p not in used]
            if len(fits) == 1:
                getters[f"param {path}"] = _getter(subject, fits[0])
                subject.guessed.add(f"param {path}")
    subject.held |= {name[6:]: possible[name[6:]] for name in getters}
    subject.getters = getters
    dirty = [path for path in made_by_backward if path in every and path not in used]
    subject.gradient_paths = list(dict.fromkeys([*subject.gradient_paths, *dirty]))  # backward may add to what is there
    grads_of = {*named.values(), *made_by_backward}
    of_used = {named.get(path) for path in used}
    subject.run()  # what forward puts there anew is no parameter
    kept = {path for path in named if path not in used and look_up(subject.root, path) is every[path].array}
    subject.state.restore()
    for path, place in named.items():
        if path in kept and place not in of_used and place in made_by_backward and np.any(floats[place]):
            subject.unchecked[f"array {path}"] = (
                f"forward does not use it, but backward gives it the gradient {place}: use it in forward, or "
                f"constants=[{path!r}]"
            )
    covered = _covered(subject, every)
    for path in every:
        if path in subject.held or path in covered:
            continue
        if path in given_constants or path not in used:
            if path not in grads_of and f"array {path}" not in subject.unchecked:
                subject.unused.append(path)
        else:
            subject.unchecked[f"array {path}"] = (
                f"no gradient of {path} was found: say where it is, grads={{{path!r}: ...}}, or constants=[{path!r}]"
            )
    subject.memories = memories([h for h in every.values() if _is_plain(h)])
    wanted = set(subject.held)
    subject.memories = [m for m in subject.memories if any(h.path in wanted for h in m.members)]


def _sum(getters: Sequence[Callable[[], Any]]) -> Any:
    return sum(np.asarray(get()) for get in getters)


def _is_plain(held: Held) -> bool:
    """Return whether another array of the same shape can take the place of an array; of an np.matrix none can."""
    return held.array.size > 0 and held.array.dtype == np.float64 and type(held.array) in (np.ndarray, np.memmap)


def _numbers_after(subject: StrangerSubject, dy: Array) -> dict[str, Any]:
    returned = subject.run()
    with np.errstate(all="ignore"):
        subject.call_back(returned, dy)
    return {path: np.array(x) for path, x in numbers_of(subject.root).items()}


def _backward_once(subject: StrangerSubject, y: Array) -> Any:
    with np.errstate(all="ignore"):
        return subject.call_back(subject.run(), np.ones(np.shape(y)))


def _set_rates(subject: StrangerSubject) -> bool:
    """Let the learning rate of an object that takes steps itself be 1; return whether there is one."""
    found = False
    for node in list(walk(subject.root)):
        if isinstance(node.value, float) and node.path.rpartition(".")[2].lower() in RATES - {"rate", "alpha"}:
            node.put(1.0)
            found = True
    if found:
        subject.begin()
    return found


def _getter(subject: StrangerSubject, said: Any) -> Callable[[], Any]:
    if isinstance(said, np.ndarray):
        return lambda: said
    if callable(said):
        return lambda: said(subject.root)
    return lambda: look_up(subject.root, said)


def _promote_numbers(subject: StrangerSubject, every: dict[str, Held], after: Mapping[str, Any]) -> None:
    """Let a plain number with a gradient, such as a slope of PReLU, be an array, and weights of integers floats."""
    for node in list(walk(subject.root)):
        is_number = isinstance(node.value, int | float | np.floating) and not isinstance(node.value, bool)
        if is_number or (isinstance(node.value, np.ndarray) and node.value.dtype.kind in "iu" and node.value.size):
            held = Held(node.path, np.array(node.value, float), [node.put], [node.path])
            if pair_up({node.path: held}, {p: x for p, x in after.items() if p != node.path and p not in every}):
                try:
                    node.put(held.array)
                except (TypeError, AttributeError):
                    continue
                every[node.path] = held
                subject.begin()


def _is_used(subject: StrangerSubject, every: Mapping[str, Held], path: str, gradients: set[str], y: Array) -> bool:
    """Return whether forward depends on an array, at its present numbers or at others of its neighbours."""
    held = every[path]
    if not held.array.size:
        return False
    if not held.array.flags.writeable:
        return True  # nobody can tell
    rng = np.random.default_rng(13)

    def moved(x: Array) -> Array:
        return np.asarray((0.1 * np.abs(x).max() or 0.1) * rng.normal(size=x.shape))

    others = [h for p, h in every.items() if p != path and p not in gradients and h.array.flags.writeable]
    for crowd, anew in ((others, False), ([], False), (others, True)):
        before = [(h.array, h.array.copy()) for h in [*crowd, held]]
        try:
            subject.state.restore()
            for h in crowd:
                h.array[...] = rng.normal(size=h.array.shape) if anew else h.array + moved(h.array)
            base = {key: np.array(x) for key, x in subject.output(subject.run(again=True)).numbers.items()}
            _restore_containers(subject)
            held.array += moved(held.array)
            changed = subject.output(subject.run(again=True)).numbers
            if not equal_leaves(base, {key: np.array(x) for key, x in changed.items()}):
                return True
        except Exception:
            if not crowd:  # forward fails if it is moved: it depends on it
                return True
        finally:
            for x, old in before:
                x[...] = old
    return False


def _restore_containers(subject: StrangerSubject) -> None:
    subject.state.restore(arrays=False)


def _is_named(held: Held, said: Any) -> bool:
    if isinstance(said, np.ndarray):
        return held.array is said
    return any(
        fnmatch.fnmatchcase(path, pattern)
        for path in held.paths
        for pattern in (str(said), f"*.{said}", f"{said}.*", f"*.{said}.*")
    )


def _refuse_unknown_names(
    subject: StrangerSubject, every: Sequence[Held], grads: Mapping[str, Any], constants: Sequence[Any]
) -> None:
    known = {path for held in every for path in held.paths}
    for name in grads:
        if not any(_is_named(held, name) for held in every):
            raise ConfigError(f"grads: there is no array {name!r} in {subject.name}; {did_you_mean(name, known)}")
    arguments = {path for key, tree in subject.arguments.items() for path in (key, *leaves(tree, key))}
    for said in constants:
        if isinstance(said, str) and said not in arguments and not any(_is_named(held, said) for held in every):
            raise ConfigError(f"constants: there is no array {said!r} in {subject.name}; {did_you_mean(said, known)}")


def _covered(subject: StrangerSubject, every: Mapping[str, Held]) -> set[str]:
    """Return the arrays all of whose cells belong to arrays with a gradient: views, and vectors that hold them all."""
    covered = set()
    for memory in memories([h for h in every.values() if _is_plain(h)]):
        seen = np.zeros(memory.size)
        for held in memory.members:
            if held.path in subject.held:
                memory.view(seen, held)[...] = 1
        covered |= {h.path for h in memory.members if h.path not in subject.held and memory.view(seen, h).all()}
    return covered
