"""Layers of a person's file are built from guessed sizes and checked; what cannot be built is said, with three lines.

Several guesses are tried. A guess for which the gradients are right decides, because a wrong gradient may come from an
input that makes no sense, such as labels that are no probabilities. So a layer is WRONG only if it is wrong for every
guess that runs. Guesses without a batch hide mistakes, and are tried only if no batch can be run.
"""

import copy
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from npgpt.errors import ConfigError
from npgpt.study.check import guesses
from npgpt.study.check.calls import Guess, calls, forward_of, needed
from npgpt.study.check.checker import gradcheck
from npgpt.study.check.conventions import CACHES, RATES, UPSTREAM, required
from npgpt.study.check.files import Found
from npgpt.study.check.places import find
from npgpt.study.check.report import Report
from npgpt.study.check.rounds import BACKWARDS, OTHER_WEIGHTS
from npgpt.study.check.subjects import redrawn
from npgpt.study.check.trees import leaves
from npgpt.study.check.verdict import UNDECIDED, WRONG

DOUBT = "backward gives another gradient than that of forward's output"
LAST = 2  # stage of a guess: 0 the layer is made, 1 forward runs, 2 the checker runs both passes
MOST_RUNS = 8  # guesses that run, of one layer; each is checked for some tenths of a second


@dataclass
class Judged:
    """A layer that was checked.

    Attributes
        call: what was run, short: ``LayerNorm(5).forward(x (3, 5))``.
        given: the arguments of gradcheck, as Python.
        names: the names of the file in it.
    """

    name: str
    call: str
    given: str
    names: list[str]
    report: Report


@dataclass
class NotBuilt:
    """A layer that no guess could run: why, and three lines that would check it."""

    name: str
    why: str
    lines: list[str]


@dataclass
class Search:
    """What the guesses for one layer gave.

    Attributes
        found: what ran, with a rank: 0 if right, 3 if wrong.
        stage, why: how far the best of the others came, and what stopped it.
    """

    found: list[tuple[int, Judged]] = field(default_factory=list)
    stage: int = -1
    why: str = ""

    def fails(self, stage: int, call: str, error: BaseException) -> None:
        if stage > self.stage:
            self.stage, self.why = stage, f"{call} raised {type(error).__name__}: {error}"
            if isinstance(error, ConfigError):  # it is the checker's sentence, and says what raised
                self.why = re.split(r"\. It was called with", str(error).split(": ", 1)[-1])[0]
            if "it returned NoneType" in self.why:
                self.why = "forward returns nothing; let it return its output"


def check_found(item: Found, module: ModuleType) -> Judged | NotBuilt:
    """Check one layer of a file by the guess that suits it best."""
    unknown: list[str] = []
    search = Search()
    for schemes, is_loss in ((guesses.SCHEMES, False), (guesses.SCHEMES, True), (guesses.UNBATCHED, False)):
        seen, runs = set(), Counter[str]()
        for guess in calls(item, schemes, vars(module), unknown, is_loss):
            if guess.given() in seen or runs[guess.backward] >= MOST_RUNS:
                continue
            seen.add(guess.given())
            found = _judged(item, guess, module, search)
            search.found += [(_rank(judged.report), judged) for judged in found]
            runs[guess.backward] += len(found)
            if any(judged.report.passed for judged in found):
                break
        if search.found:
            best = min(search.found, key=lambda pair: pair[0])[1]
            if schemes is guesses.UNBATCHED and search.stage == LAST:
                best.call += f". With a batch, {search.why}"
            return best
    why = f"no guess for {', '.join(dict.fromkeys(unknown))}" if unknown else search.why or "no guess runs"
    return NotBuilt(item.name, why, _three_lines(item, module.__name__))


def _rank(report: Report) -> int:
    """Return 0 for right, 1 and 2 for undecided, 3 for wrong, 4 for wrong if backward means what it may not mean."""
    states = {verdict.state for verdict in report.verdicts.values()}
    if report.passed:
        return 0
    if any(DOUBT in verdict.reason for verdict in report.verdicts.values()):
        return 4
    return 3 if WRONG in states else 2 if UNDECIDED in states or not states else 1


def _judged(item: Found, guess: Guess, module: ModuleType, search: Search) -> list[Judged]:
    """Return the results of a guess; none if it does not run."""
    space = {**vars(module), "np": np, "rng": np.random.default_rng(0)}
    np.random.seed(0)  # noqa: NPY002 - the file may use it
    random.seed(0)
    stage, call, found = 0, guess.layer, list[Judged]()
    try:
        layer = eval(guess.layer, space)
        stage, inputs = 1, {key: eval(text, space) for key, text in guess.inputs.items()}
        by_order = [x for key, x in inputs.items() if key not in guess.by_name]
        by_name = {key: x for key, x in inputs.items() if key in guess.by_name}
        call = _shown(guess, layer, inputs)
        _refuse_what_is_not_finite(layer, by_order, by_name)
        stage = LAST
        root = (lambda: eval(guess.layer, space)) if guess.makes else layer
        backward = eval(guess.backward, space) if guess.backward else None
        if ": dy * " in guess.backward:
            _refuse_jacobian(item, by_order)
        names = [guess.layer.partition("(")[0], *([item.backward.__name__] if item.backward else [])]
        names += [name for name in re.findall(r"(\w+)\(", guess.layer)[1:] if name in vars(module)]
        floats = tuple(key for key in guess.targets if inputs[key].dtype.kind == "f")
        for constants in ((), floats) if floats else ((),):
            settings = {"backward": backward, "constants": constants, **by_name}
            report = gradcheck(root, *by_order, **settings)
            if guess.makes:
                report = _after_a_step(report, root, by_order, settings)
            tables = tuple(name[6:] for name in report.unchecked if guesses.TABLES.fullmatch(name[6:]))
            if tables and report.verdict != WRONG and not constants:
                call, constants = f"{call}; constant: {', '.join(tables)}", tables
                report = gradcheck(root, *by_order, **settings | {"constants": tables})
            report.layer = item.name
            if not guess.backward:
                _refuse_broadcast(report, inputs)
            if report.verdict == WRONG and not guess.backward.startswith("lambda"):
                _doubt(item, layer, report)
            found.insert(0, Judged(item.name, call, guess.given(constants), names, report))
            if report.passed:
                break
    except (Exception, SystemExit) as error:
        if not found:
            search.fails(stage, call, error)
    return found


def _after_a_step(report: Report, make: Callable[[], Any], inputs: list[Any], settings: dict[str, Any]) -> Report:
    """Return the report on a layer whose weights have moved, as training moves them, if it is right at first only.

    Gains of one hide that backward forgets them. But a layer may renew by itself what it has made of its first weights,
    such as a transposed copy. So it is not accused if its backward reads other arrays than its weights.
    """
    later = report.rounds.get(OTHER_WEIGHTS)
    if later is None or later.verdict != WRONG or report.verdict == WRONG:
        return report
    weights = {name[6:] for name in report.verdicts if name.startswith("param ")}

    def moved(which: bool) -> Any:
        layer, rng = make(), np.random.default_rng(3)
        for path, held in find(layer).items():
            if (path in weights) is which and held.array.flags.writeable:
                held.array[...] = redrawn(held.array, rng, None, path)
        return layer

    if gradcheck(lambda: moved(False), *inputs, **settings).verdict == WRONG:
        return report
    after = gradcheck(lambda: moved(True), *inputs, **settings)
    return after if after.verdict == WRONG else report


def _refuse_what_is_not_finite(layer: Any, by_order: list[Any], by_name: dict[str, Any]) -> None:
    """Run forward; refuse inputs outside its domain, such as a negative number for a logarithm."""
    call = getattr(layer, forward_of(layer))
    if required(call)[0][-1:] == ["cache"] and len(by_order) < len(required(call)[0]):
        return  # npgpt's own kind of layer: gradcheck makes the cache
    for x in leaves(call(*copy.deepcopy(by_order), **copy.deepcopy(by_name))).values():
        if isinstance(x, np.ndarray | float) and np.asarray(x).dtype.kind == "f" and not np.isfinite(x).all():
            raise ConfigError(": forward returns numbers that are not finite")


def _refuse_jacobian(item: Found, by_order: list[Any]) -> None:
    assert item.backward is not None
    if np.shape(item.backward(*by_order)) != np.shape(by_order[0]):
        raise ConfigError(f": {item.backward.__name__} does not return one number for each number of its input")


def _refuse_broadcast(report: Report, inputs: dict[str, Any]) -> None:
    """Refuse an input with fewer axes than the output and its gradient: forward has broadcast what has too few axes."""
    for key, x in inputs.items():
        verdict = report.verdicts.get(f"input {key}")
        if verdict and verdict.by == ("shape",) and report.witnesses and report.witnesses.dy.ndim > np.ndim(x):
            raise ConfigError(f": forward broadcasts {key} {np.shape(x)}, and its gradient has another shape")


def _doubt(item: Found, layer: Any, report: Report) -> None:
    """Take WRONG back if the arguments of backward do not say that it gets the gradient of forward's output."""
    back = item.backward or next(each for name in BACKWARDS if callable(each := getattr(layer, name, None)))
    known = {p.name for p in guesses.parameters(item.thing if item.backward else getattr(layer, forward_of(layer)))}
    own = [name for name in required(back)[0] if name not in known and name.lower() not in {*CACHES, *RATES}]
    if any(UPSTREAM.fullmatch(name) for name in own):
        return
    witnesses = report.witnesses
    if not own and not (witnesses is not None and witnesses.subject.is_end and witnesses.dy.size > 1):
        return
    says = f"{own[0]} may be something else, such as a target" if own else "backward takes no upstream gradient"
    for name, verdict in list(report.verdicts.items()):
        if verdict.state == WRONG:
            report.doubt(name, f"{DOUBT}; {says}")


def _shown(guess: Guess, layer: Any, inputs: dict[str, Any]) -> str:
    """Return a call with the shapes of its arrays: ``LayerNorm(5).forward(x (3, 5))``."""
    made = re.sub(r"rng\.\w+\(size=(\([^()]*\))\)", r"array \1", guess.layer)
    way = "" if guess.backward or forward_of(layer) == "__call__" else f".{forward_of(layer)}"
    return f"{made}{way}({', '.join(f'{key} {_value(x)}' for key, x in inputs.items())})"


def _value(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{'' if x.dtype.kind == 'f' else f'{x.dtype.name} '}{x.shape}"
    return repr(x) if isinstance(x, int | float | str | dict) else type(x).__name__


def _three_lines(item: Found, name: str) -> list[str]:
    """Return the lines that would check a layer once a person has filled in its arguments."""
    module = name if all(part.isidentifier() for part in name.split(".")) else "module"
    lines = ["import npgpt, " + (name if module == name else f"importlib; module = importlib.import_module({name!r})")]
    call = item.thing if item.backward else getattr(item.thing, forward_of(item.thing))
    names = [p.name for p in needed(call) if p.name != "self"]
    names = names[:-1] if names[-1:] == ["cache"] else names
    given = ", ".join(names or ["x"])
    if item.backward is not None:
        back = f"{module}.{item.backward.__name__}"
        lines.append(f"{given} = ...  # give the arguments of {item.name}")
        return [*lines, f"print(npgpt.gradcheck({module}.{item.name}, {given}, backward={back}))"]
    made, wanted = (
        f"{module}.{item.name}",
        ", ".join([p.name for p in needed(item.thing)] + guesses.any_number(item.thing)),
    )
    if isinstance(item.thing, type):
        made += f"(...)  # give its arguments: {wanted}" if wanted else "()"
    return [*lines, f"layer = {made}", f"print(npgpt.gradcheck(layer, {given}))  # {given}: what forward takes"]
