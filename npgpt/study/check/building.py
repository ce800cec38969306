"""Layers of a person's file are built from guessed sizes and checked; what cannot be built is said, with three lines.

Several guesses are tried. A guess for which the gradients are right decides, because a wrong gradient may come from an
input that makes no sense, such as labels that are no probabilities. So a layer is WRONG only if it is wrong for every
guess that runs. Guesses without a batch hide mistakes, and are tried only if no batch can be run.
"""

import dataclasses
import inspect
import itertools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from npgpt.errors import ConfigError
from npgpt.study.check import guesses
from npgpt.study.check.checker import BACKWARDS, FORWARDS, gradcheck
from npgpt.study.check.conventions import CACHES, RATES, UPSTREAM, required
from npgpt.study.check.files import Found
from npgpt.study.check.places import find
from npgpt.study.check.report import Report
from npgpt.study.check.trees import leaves
from npgpt.study.check.verdict import UNDECIDED, WRONG

MOST_RUNS = 8  # guesses that run, of one layer; each is checked for some tenths of a second
LARGE = 32  # a default size above it is guessed anew: a check of large arrays takes long


@dataclass(frozen=True)
class Guess:
    """A call that may run; each text is Python with ``np``, ``rng`` and the names of the file.

    Attributes
        layer: makes the layer, or is the name of an object or of the forward function.
        makes: whether ``layer`` makes a new one each time.
        inputs: argument of forward -> text.
        by_name: the arguments that are given by name.
        backward: the backward function of a pair.
        targets: arguments that hold targets, whose gradient nobody needs.
    """

    layer: str
    makes: bool
    inputs: dict[str, str]
    by_name: tuple[str, ...] = ()
    backward: str = ""
    targets: tuple[str, ...] = ()

    def given(self, constants: tuple[str, ...] = ()) -> str:
        """Return the arguments of gradcheck that say the same."""
        parts = [f"lambda: {self.layer}" if self.makes else self.layer]
        parts += [f"{key}={text}" if key in self.by_name else text for key, text in self.inputs.items()]
        parts += [f"backward={self.backward}"] if self.backward else []
        return ", ".join(parts + ([f"constants={list(constants)}"] if constants else []))


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
    names: tuple[str, ...]
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
        found: rank and result of each guess that ran: 0 if right, 3 if wrong.
        stage, why: how far the best guess came that did not run, and what stopped it.
    """

    found: list[tuple[int, Judged]] = field(default_factory=list)
    stage: int = -1
    why: str = ""

    def fails(self, stage: int, what: str, error: BaseException) -> None:
        if stage > self.stage:
            says = str(error).split(". It was called with")[0]
            self.stage, self.why = stage, f"{what}{type(error).__name__}: {says}" if stage < 2 else says


def check_found(item: Found, module: ModuleType) -> Judged | NotBuilt:
    """Check one layer of a file by the guess that suits it best."""
    search, unknown = Search(), list[str]()
    for schemes in (guesses.SCHEMES, guesses.UNBATCHED):
        seen = set()
        for guess in _guesses(item, schemes, unknown):
            if guess.given() in seen or len(search.found) >= MOST_RUNS:
                continue
            seen.add(guess.given())
            judged = _judged(item, guess, module, search)
            if judged is not None:
                search.found.append((_rank(judged.report), judged))
                if judged.report.passed:
                    return judged
        if search.found:
            return min(search.found, key=lambda pair: pair[0])[1]
    if unknown:
        wanted = ", ".join(dict.fromkeys(unknown))
        return NotBuilt(item.name, f"no guess for {wanted}", _three_lines(item, module.__name__))
    return NotBuilt(
        item.name, search.why or "nothing that its passes take was found", _three_lines(item, module.__name__)
    )


def _rank(report: Report) -> int:
    states = {verdict.state for verdict in report.verdicts.values()}
    if report.passed:
        return 0
    return 3 if WRONG in states else 2 if UNDECIDED in states or not states else 1


def _judged(item: Found, guess: Guess, module: ModuleType, search: Search) -> Judged | None:
    """Return the result of a guess; None if it does not run."""
    space = {**vars(module), "np": np, "rng": np.random.default_rng(0)}
    np.random.seed(0)  # noqa: NPY002 - the file may use it
    random.seed(0)
    stage, call = 0, guess.layer
    try:
        layer = eval(guess.layer, space)
        stage, inputs = 1, {key: eval(text, space) for key, text in guess.inputs.items()}
        by_order = [x for key, x in inputs.items() if key not in guess.by_name]
        by_name = {key: x for key, x in inputs.items() if key in guess.by_name}
        call = f"{_short(guess, layer)}{_shown(inputs)}"
        _refuse_what_is_not_finite(layer, by_order, by_name)
        stage = 2
        root = (lambda: eval(guess.layer, space)) if guess.makes else layer
        backward = eval(guess.backward, space) if guess.backward else None
        if guess.backward.startswith("lambda"):
            _refuse_jacobian(item, by_order)
        report = gradcheck(root, *by_order, backward=backward, **by_name)
        constants = tuple(key for key in guess.targets if f"input {key}" in report.unchecked)
        if constants:
            report = gradcheck(root, *by_order, backward=backward, constants=constants, **by_name)
    except (Exception, SystemExit) as error:
        search.fails(stage, f"{call} raised ", error)
        return None
    report.layer = item.name
    if report.verdict == WRONG and not guess.backward.startswith("lambda"):
        _doubt(item, layer, report)
    names = guess.layer.partition("(")[0], *([item.backward.__name__] if item.backward else [])
    return Judged(item.name, call, guess.given(constants), names, report)


def _refuse_what_is_not_finite(layer: Any, by_order: list[Any], by_name: dict[str, Any]) -> None:
    """Run forward; refuse inputs outside its domain, such as a negative number for a logarithm."""
    call = method(layer, FORWARDS)
    if required(call)[0][-1:] == ["cache"] and len(by_order) < len(required(call)[0]):
        return  # npgpt's own kind of layer: gradcheck makes the cache
    returned = call(*(np.array(x) if isinstance(x, np.ndarray) else x for x in by_order), **by_name)
    for x in leaves(returned).values():
        if isinstance(x, np.ndarray | float) and np.asarray(x).dtype.kind == "f" and not np.isfinite(x).all():
            raise ConfigError("forward returns numbers that are not finite")


def _refuse_jacobian(item: Found, by_order: list[Any]) -> None:
    assert item.backward is not None
    if np.shape(item.backward(*by_order)) != np.shape(by_order[0]):
        raise ConfigError(f"{item.backward.__name__} does not return a number for each number of its input")


def _doubt(item: Found, layer: Any, report: Report) -> None:
    """Take WRONG back if the arguments of backward do not say that it gets the gradient of forward's output."""
    back, call = item.backward or method(layer, BACKWARDS), method(layer, FORWARDS)
    known = {p.name for p in guesses.parameters(call)}
    own = [name for name in required(back)[0] if name not in known and name.lower() not in {*CACHES, *RATES}]
    if any(UPSTREAM.fullmatch(name) for name in own):
        return
    witnesses = report.witnesses
    if not own and not (witnesses is not None and witnesses.subject.is_end and witnesses.dy.size > 1):
        return
    says = f"{own[0]} may be something else, such as a target" if own else "backward takes no upstream gradient"
    for name, verdict in list(report.verdicts.items()):
        if verdict.state == WRONG:
            report.doubt(name, f"backward gives another gradient than that of forward's output; {says}")


def method(made: Any, names: tuple[str, ...]) -> Any:
    """Return the first method of one of these names; a function is its own."""
    found = (getattr(made, name, None) for name in names if name != "__call__")
    return next((each for each in found if callable(each)), made)


def _guesses(item: Found, schemes: tuple[dict[str, str], ...], unknown: list[str]) -> Iterator[Guess]:
    """Yield guesses, the likeliest first. Arguments without a guess are added to ``unknown``."""
    is_class = isinstance(item.thing, type)
    for name, made in item.objects or (() if is_class or item.backward else [(item.name, item.thing)]):
        shapes = [held.array.shape for held in find(made).values()]
        widths = list(dict.fromkeys(n for dims in shapes for n in dims if n > 1))[:4] or [guesses.LETTERS["C"]]
        letters = guesses.LETTERS | {"V": shapes[0][0] if shapes and shapes[0] else 1}
        yield from _calls(item, Guess(name, False, {}), {}, method(made, FORWARDS), schemes, letters, widths)
    for letters in (guesses.LETTERS, guesses.IN_PARTS):
        if is_class:
            yield from _of_class(item, schemes, letters, unknown)
        elif item.backward is not None:
            for backward in _backwards(item):
                guess = Guess(item.name, False, {}, backward=backward)
                yield from _calls(item, guess, {}, item.thing, schemes, letters, [letters["C"]])


def _backwards(item: Found) -> list[str]:
    """Return ways to call the second function of a pair; one that takes no gradient may be a derivative."""
    one, other = item.name, item.backward.__name__  # type: ignore[union-attr]
    wanted, takes = required(item.backward)[0], required(item.thing)[0]  # type: ignore[arg-type]
    if len(wanted) != 1 or len(takes) != 1 or UPSTREAM.fullmatch(wanted[0]) or wanted[0].lower() in CACHES:
        return [other]
    x = takes[0]
    return [f"lambda dy, {x}: dy * {other}({x})", f"lambda dy, {x}: dy * {other}({one}({x}))", other]


def _of_class(
    item: Found, schemes: tuple[dict[str, str], ...], letters: guesses.Letters, unknown: list[str]
) -> Iterator[Guess]:
    wanted = guesses.parameters(item.thing)
    names = [p.name for p in wanted if p.default is p.empty]
    kinds = {name: guesses.role(name, False) for name in names}
    heavy = {"w", "wx", "wh", "square"}
    has_weights = {"gamma", "beta"} <= set(names) or any(
        kind in heavy and guesses.option(name, None, letters) is None for name, kind in kinds.items()
    )
    roles: dict[str, str] = {}
    texts: dict[str, str] = {}
    for p in wanted:
        if p.default is not p.empty:
            if isinstance(p.default, int) and p.default > LARGE and guesses.is_size(p.name):
                texts[p.name] = str(guesses.option(p.name, int, letters))
        elif has_weights and kinds[p.name] in heavy | {"b", "g"}:
            roles[p.name] = kinds[p.name]
        else:
            guess = guesses.option(p.name, p.annotation, letters)
            if guess is None:
                unknown.append(p.name)
            else:
                texts[p.name] = guess
    if roles.keys() | texts.keys() < set(names):
        return
    by_name = {p.name for p in wanted if p.kind is p.KEYWORD_ONLY or p.default is not p.empty}
    call = getattr(item.thing, next((n for n in FORWARDS if callable(getattr(item.thing, n, None))), "__call__"))
    widths = [letters["C"], *(letters[c] for c in "HO" if str(letters[c]) in texts.values())]
    for activation in ("'relu'", "'tanh'") if "'relu'" in texts.values() else ("",):
        chosen = {key: activation if text == "'relu'" else text for key, text in texts.items()}
        in_order = {
            p.name: chosen.get(p.name, "{" + p.name + "}") for p in wanted if p.name in chosen or p.name in roles
        }
        parts = [f"{key}={text}" if key in by_name else text for key, text in in_order.items()]
        made = Guess(f"{item.name}({', '.join(parts)})", True, {})
        yield from _calls(item, made, roles, call, schemes, letters, widths)


def _calls(
    item: Found,
    made: Guess,
    held: dict[str, str],
    call: Callable[..., Any],
    schemes: tuple[dict[str, str], ...],
    letters: guesses.Letters,
    widths: list[int],
) -> Iterator[Guess]:
    """Yield guesses for the arguments of forward, and for the arrays that the constructor takes.

    Args
        held: argument of the constructor -> its role; its name stands in braces in ``made.layer``.
    """
    wanted = [p for p in guesses.parameters(call) if p.default is p.empty]
    if isinstance(item.thing, type) and made.makes and wanted and inspect.isfunction(call):
        wanted = wanted[1:]  # self
    if not wanted and required(call)[2]:
        wanted = [inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY)]
    if wanted and wanted[-1].name == "cache":
        wanted.pop()
    is_loss = bool(guesses.OF_LOSSES.search(item.name))
    scalars: dict[str, str] = {}
    roles: dict[str, str] = {}
    for p in wanted:
        kind = guesses.role(p.name, is_loss)
        text = guesses.number(p.name, p.annotation, letters) if kind == "x" and not is_loss else None
        if text is None:
            roles[p.name] = kind
        else:
            scalars[p.name] = text
    by_name = tuple(p.name for p in wanted if p.kind is p.KEYWORD_ONLY)
    targets = tuple(name for name, kind in roles.items() if kind == "target")
    on_ids = guesses.OF_EMBEDDINGS.search(item.name) or f"({letters['V']}," in made.layer
    of_ids = (True, False) if on_ids and "x" in roles.values() else (False,)
    every = {f"{{{key}}}": kind for key, kind in held.items()} | roles
    for width, ids, scheme in itertools.product(dict.fromkeys(widths), of_ids, schemes):
        for given in guesses.arrays(every, scheme, letters | {"C": width}, is_loss, ids):
            layer = made.layer
            for key in held:
                layer = layer.replace(f"{{{key}}}", given[f"{{{key}}}"])
            inputs = {p.name: scalars.get(p.name) or given[p.name] for p in wanted}
            yield dataclasses.replace(made, layer=layer, inputs=inputs, by_name=by_name, targets=targets)


def _shown(inputs: dict[str, Any]) -> str:
    """Return arguments as ``(x (3, 5), mode 'train')``."""
    return f"({', '.join(f'{key} {_value(x)}' for key, x in inputs.items())})"


def _value(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{'' if x.dtype.kind == 'f' else f'{x.dtype.name} '}{x.shape}"
    return repr(x) if isinstance(x, int | float | str | dict) else type(x).__name__


def _short(guess: Guess, layer: Any) -> str:
    """Return how forward is called, without its arguments; of arrays in the constructor the shape is shown."""
    if guess.backward:
        return guess.layer
    name = next((n for n in FORWARDS if callable(getattr(layer, n, None))), "__call__")
    made = re.sub(r"rng\.\w+\(size=(\([^()]*\))\)", r"array \1", guess.layer)
    return made if name == "__call__" else f"{made}.{name}"


def _three_lines(item: Found, name: str) -> list[str]:
    """Return the lines that would check a layer once a person has filled in its arguments."""
    how, module = ("import npgpt", name) if name.isidentifier() else ("import importlib, npgpt", "module")
    lines = [f"{how}, {module}" if module == name else f"{how}; module = importlib.import_module({name!r})"]
    call = item.thing
    if isinstance(item.thing, type):
        call = getattr(item.thing, next((n for n in FORWARDS if hasattr(item.thing, n)), "__call__"))
        wanted = ", ".join(p.name for p in guesses.parameters(item.thing) if p.default is p.empty)
        lines.append(
            f"layer = {module}.{item.name}({'...' if wanted else ''})"
            + f"  # give its arguments: {wanted}" * bool(wanted)
        )
    elif item.backward is None:
        lines.append(f"layer = {module}.{item.name}")
    names = [p.name for p in guesses.parameters(call) if p.default is p.empty and p.name != "self"]
    names = names[:-1] if names[-1:] == ["cache"] else names
    given = ", ".join(names or ["x"])
    if item.backward is not None:
        lines.append(f"{given} = ...  # give the arguments of {item.name}")
        lines.append(
            f"print(npgpt.gradcheck({module}.{item.name}, {given}, backward={module}.{item.backward.__name__}))"
        )
    else:
        lines.append(f"print(npgpt.gradcheck(layer, {given}))  # {given}: what forward takes")
    return lines
