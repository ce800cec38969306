"""The rounds of a check: a layer as it was given, with other weights, in training.

``rounds_of`` chooses between those of npgpt's layers and those of other people's, and refuses what cannot be checked.
"""

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npgpt.core import Layer
from npgpt.errors import ConfigError, NpgptError, did_you_mean
from npgpt.study.check.cases import Case
from npgpt.study.check.conventions import required
from npgpt.study.check.discovery import prepare
from npgpt.study.check.first_passes import failed
from npgpt.study.check.glance import glance
from npgpt.study.check.judge import check, upstream
from npgpt.study.check.report import Report
from npgpt.study.check.strangers import StrangerSubject
from npgpt.study.check.subjects import LayerSubject, is_dull
from npgpt.study.check.substitutes import namespaces
from npgpt.study.check.training import set_training
from npgpt.study.check.trees import leaves
from npgpt.study.check.verdict import RIGHT, WRONG

BRIEF = ("tape", "differences", "complex")  # what the later rounds ask
FORWARDS = ("forward", "fprop", "feedforward", "feed_forward", "forward_pass", "forward_prop", "fwd", "__call__")
BACKWARDS = ("backward", "backprop", "bprop", "backward_pass", "backward_prop", "backpropagate", "back", "bwd")
OTHER_WEIGHTS, IN_TRAINING = "with other weights", "in training"


def rounds_of(
    layer: Any,
    inputs: Sequence[Any],
    keywords: Mapping[str, Any],
    backward: Any = None,
    params: Any = None,
    grads: Any = None,
    constants: Sequence[Any] = (),
    init: Any = None,
    training: bool | None = None,
) -> "Rounds":
    """Return the rounds of a check; the arguments are those of ``gradcheck``.

    Raises
        ConfigError if the layer cannot be run as it was given.
    """
    _refuse(layer, inputs, backward)
    if grads is not None and not isinstance(grads, Mapping):
        raise ConfigError("grads must be a dict: path of a parameter -> where its gradient is after backward")
    constants = (constants,) if isinstance(constants, str) else constants
    params = (params,) if isinstance(params, str) else params
    if init is not None and not callable(init) and not isinstance(init, Mapping):
        raise ConfigError(
            f"init is {_shown(init)}; give a function of (rng, shape), or a dict of path -> array or function"
        )
    if isinstance(layer, Layer) or (backward is None and has_cache(layer)):
        if params or grads or keywords:
            raise ConfigError("params, grads and keyword arguments are for other people's layers, not for npgpt's")
        return LayerRounds(layer, inputs, constants, init, training)
    return StrangerRounds(layer, inputs, keywords, backward, params, grads, constants, init, training)


class Rounds:
    """The rounds of a check: as given, with other weights, in training."""

    init: Any = None
    drawn_by_user = False

    def subject(self, training: bool | None, rng: np.random.Generator | None) -> Any:
        """Return the subject of a round, with other weights if there is a generator; None if there is none to check."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave the layer as it was."""

    def run(self, methods: Sequence[str], seed: int) -> Report:
        report = self.judged(None, None, methods, seed)
        assert report is not None
        brief = [method for method in methods if method in BRIEF] or list(methods)
        for label, on, rng in ((OTHER_WEIGHTS, None, 21), (IN_TRAINING, True, None), (IN_TRAINING, True, 22)):
            if report.verdict == WRONG:
                break
            try:
                later = self.judged(on, None if rng is None else np.random.default_rng(rng), brief, seed)
            except Exception as error:
                if isinstance(error, ConfigError) and str(error).startswith("init"):
                    raise
                if rng is None:
                    report.unchecked["training"] = f"forward or backward fails there: {type(error).__name__}: {error}"
                    break
                why = f": {error}" if str(error) else ""
                report.remarks.append(
                    f"{label} forward fails ({type(error).__name__}{why}); the given weights alone were judged"
                )
                continue
            if later is not None:
                report.add_round(label, later, decides=label == IN_TRAINING or self.drawn_by_user)
        return report

    def glance(self, seed: int) -> Report:
        """Return the report of one short look at the layer as it was given; of a longer one if that is not enough."""
        report = glance(self.subject(None, None), seed) or self.judged(None, None, BRIEF, seed)
        assert report is not None
        return report

    def judged(
        self, training: bool | None, rng: np.random.Generator | None, methods: Sequence[str], seed: int
    ) -> Report | None:
        """Return the report of a round; None if there is nothing to check in it."""
        subject = self.subject(training, rng)
        if subject is None:
            return None
        report = check(subject, methods, seed)
        if isinstance(subject, StrangerSubject) and report.verdict != RIGHT:
            report = self._with_other_gradients(subject, report, methods, seed)
        for name in getattr(subject, "guessed", ()):
            if report.verdicts[name].state != RIGHT:
                report.drop(name, f"no gradient of {name[6:]} was found")
        return report

    def _with_other_gradients(
        self, subject: StrangerSubject, report: Report, methods: Sequence[str], seed: int
    ) -> Report:
        """Return the report after other arrays were tried that may be the gradients of wrong parameters."""
        for name, getters in subject.alternatives.items():
            for place, other in getters.items() if report.verdicts[name].state == WRONG else ():
                before, subject.getters = subject.getters, subject.getters | {name: other}
                again = check(subject, methods, seed)
                if again.verdicts[name].state != WRONG:
                    if place:
                        path = name[6:]
                        again.doubt(
                            name, f"{place} is its gradient, not {subject.places[name]}: grads={{{path!r}: {place!r}}}"
                        )
                    else:
                        again.remarks.append(f"{name[6:]} has a gradient for each of its uses; their sum was judged")
                    report = again
                    break
                subject.getters = before
        for name, why in subject.doubtful.items():
            if report.verdicts[name].state == WRONG:
                report.doubt(name, why)
        for name in subject.from_step:
            if report.verdicts[name].state == WRONG:
                report.doubt(
                    name, "the step that backward takes is not the gradient; it may hold a momentum or a decay"
                )
        return report


class LayerRounds(Rounds):
    def __init__(
        self, layer: Any, inputs: Sequence[Any], constants: Sequence[Any], init: Any, training: bool | None
    ) -> None:
        self.layer = layer if isinstance(layer, Layer) else _as_layer(layer)
        self.inputs, self.constants, self.init, self.training = inputs, constants, init, training
        self.asks_for_training = False

    def subject(self, training: bool | None, rng: np.random.Generator | None) -> Any:
        if training and (self.training is not None or not self.asks_for_training):
            return None
        named = dict(zip(required(self.layer.forward)[0], self.inputs, strict=False))
        if len(named) < len(self.inputs):
            named = {f"x{i}": x for i, x in enumerate(self.inputs)}
        mode = bool(training or self.training)
        case = Case(type(self.layer).__name__, self.layer, named, training=mode).astype(np.float64)
        try:
            subject = LayerSubject(case)
            subject.gradients(upstream(subject.forward({})))
        except NpgptError:
            raise
        except Exception as error:
            raise failed("forward or backward", case.name, named, error) from error
        self.asks_for_training |= bool(subject.cache.asked)
        for said in self.constants:
            if f"array {said}" not in subject.unchecked and said not in subject.unused:
                known = [*(name[6:] for name in subject.unchecked), *subject.unused]
                raise ConfigError(
                    f"constants: there is no plain array {said!r} in the layer; {did_you_mean(said, known)}"
                )
            subject.unchecked.pop(f"array {said}", None)
        if rng is not None:
            if not subject.params and not any(map(is_dull, case.float_inputs().values())):
                return None
            _refuse_unknown(self.init, [name[6:] for name in subject.params])
            subject.redraw(rng, self.init)
            _assert_finite(subject)
        return subject


class StrangerRounds(Rounds):
    def __init__(
        self, layer: Any, inputs: Sequence[Any], keywords: Mapping[str, Any], backward: Any, params: Any, grads: Any,
        constants: Sequence[Any], init: Any, training: bool | None,
    ) -> None:  # fmt: skip
        self.layer, self.inputs, self.keywords, self.backward = layer, inputs, keywords, backward
        self.params, self.grads, self.constants = params, grads, constants
        self.init, self.training = init, training
        self.open: list[StrangerSubject] = []
        self.is_factory = backward is None and callable(layer) and method(layer, BACKWARDS) is None
        self.first_weights: dict[str, Any] = {}
        self.can_train, self.spaces = False, list[dict[str, Any]]()

    def close(self) -> None:
        while self.open:
            self.open.pop().close()

    def subject(self, training: bool | None, rng: np.random.Generator | None) -> Any:
        if training and (self.training is not None or not self.can_train):
            return None
        if rng is not None and self.open and not self.is_factory:
            subject = self.open[-1]  # as the last round left it
        else:
            subject = self._fresh(self.training if training is None else training, rng)
        weights = {path: held.array.copy() for path, held in subject.held.items()}
        if rng is None:
            self.first_weights = weights
            return subject
        if not weights and not any(map(is_dull, subject.inputs.values())):
            return None
        _refuse_unknown(self.init, list(weights))
        if (
            not weights
            or not self.is_factory
            or all(np.array_equal(x, self.first_weights.get(path, np.nan)) for path, x in weights.items())
        ):
            subject.redraw(rng, self.init)
        else:
            self.drawn_by_user = True
        _assert_finite(subject)
        return subject

    def _fresh(self, training: bool | None, rng: np.random.Generator | None) -> StrangerSubject:
        self.close()
        if self.is_factory:
            state = np.random.get_state()  # noqa: NPY002 - the layer may use it
            if rng is not None:
                np.random.seed(int(rng.integers(2**31)))  # noqa: NPY002
            made = self._made()
            np.random.set_state(state)  # noqa: NPY002
        else:
            made = self.layer
        root = {"": made, ".": self.backward} if self.backward is not None else made
        call, back = self._ways(made)
        needed, optional, _, _ = required(call)
        names = [*needed, *optional]
        names = names if len(names) >= len(self.inputs) else [f"x{i}" for i in range(len(self.inputs))]
        arguments = dict(zip(names, self.inputs, strict=False)) | dict(self.keywords)
        name = getattr(made, "__name__", type(made).__name__)
        self.spaces = self.spaces or namespaces(root, call, back)
        subject = StrangerSubject(name, root, call, back, arguments, list(self.keywords), self.spaces)
        self.open.append(subject)
        if training is None:
            self.can_train = bool(set_training(root, subject.arguments, call, True, try_only=True))
        else:
            if set_training(root, subject.arguments, call, training) is None:
                raise ConfigError(f"{name}: there is no switch for training; give it as an argument of forward")
            subject.keywords |= subject.arguments.keys() - set(names[: len(self.inputs)])
        prepare(subject, self.params, self.grads, self.constants)
        return subject

    def _made(self) -> Any:
        try:
            made = self.layer()
        except TypeError as error:
            raise ConfigError(
                f"{_shown(self.layer)} is a function: give its backward pass with backward=..., or a function without "
                f"arguments that makes the layer ({error})"
            ) from error
        if method(made, FORWARDS) is None:
            raise ConfigError(f"{_shown(self.layer)} returned {_shown(made)}, which has no method forward")
        return made

    def _ways(self, made: Any) -> tuple[Any, Any]:
        if self.backward is not None:
            return made, self.backward
        call, back = method(made, FORWARDS), method(made, BACKWARDS)
        if back is None:
            raise ConfigError(f"{_shown(made)} has no method backward; the checker looked for {', '.join(BACKWARDS)}")
        return call, back


def method(made: Any, names: Sequence[str]) -> Any:
    """Return the first method of an object that has one of these names; None if there is none."""
    for name in names:
        if name == "__call__" and isinstance(made, type):
            continue
        found = getattr(made, name, None)
        if callable(found):
            return found
    return None


def _refuse(layer: Any, inputs: Sequence[Any], backward: Any) -> None:
    """Refuse what cannot be checked, in one sentence each."""
    if isinstance(layer, type):
        raise ConfigError(f"{layer.__name__} is a class: give an object of it, {layer.__name__}(...)")
    if not callable(layer) and method(layer, FORWARDS) is None:
        raise ConfigError(f"{_shown(layer)} has no method forward")
    if backward is not None and not callable(backward):
        raise ConfigError(f"backward is {_shown(backward)}; give a function")
    for i, given in enumerate(inputs):
        if isinstance(given, list) and any(isinstance(x, float) for x in leaves(given).values()):
            raise ConfigError(f"input {i} is a list of numbers; give np.array(...)")
    for path, x in leaves(list(inputs)).items():
        if not isinstance(x, np.ndarray):
            continue
        where = f"input {path}"
        if x.dtype.kind == "c":
            raise ConfigError(f"{where} holds complex numbers; the checker has gradients of real numbers only")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise ConfigError(f"{where} holds {int((~np.isfinite(x)).sum())} NaN or infinite numbers; give finite ones")
        if x.dtype.kind == "f" and not x.size:
            raise ConfigError(f"{where} is empty, with the shape {x.shape}; give at least one example")
        if x.dtype == object:
            raise ConfigError(f"{where} is an array of Python objects; give an array of floats")


def _refuse_unknown(init: Any, paths: Sequence[str]) -> None:
    for name in init if isinstance(init, Mapping) else ():
        if name not in paths and not any(path.rpartition(".")[2] == name for path in paths):
            raise ConfigError(f"init: there is no parameter {name!r}; {did_you_mean(name, paths)}")


def has_cache(layer: Any) -> bool:
    """Return whether an object has npgpt's protocol without being a Layer: a cache is the last argument of forward."""
    forward = getattr(layer, "forward", None)
    return (
        callable(forward) and required(forward)[0][-1:] == ["cache"] and required(layer.backward)[0][-1:] == ["cache"]
    )


def _as_layer(made: Any) -> Any:
    """A copy of an object that has a layer's forward and backward, but is none: one that is."""
    layer = copy.copy(made)
    layer.__class__ = type(type(made).__name__, (type(made), Layer), {})
    return layer


def _assert_finite(subject: Any) -> None:
    if not np.isfinite(subject.forward({})).any():
        raise ValueError("its output is not finite")


def _shown(x: Any) -> str:
    if isinstance(x, functools.partial):
        return "functools.partial"
    return getattr(x, "__name__", None) or f"an object of {type(x).__name__}"
