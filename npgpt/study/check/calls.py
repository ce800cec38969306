"""The calls that may run a layer of a person's file: how it is made, and what forward takes."""

import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from npgpt.study.check import guesses
from npgpt.study.check.conventions import CACHES, UPSTREAM, required
from npgpt.study.check.files import Found
from npgpt.study.check.guesses import Letters
from npgpt.study.check.places import find
from npgpt.study.check.rounds import FORWARDS

LARGE = 32  # a default size above it is guessed anew: a check of large arrays takes long
WEIGHTS = {"w", "wx", "wh", "square"}

Schemes = tuple[dict[str, str], ...]


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
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    by_name: tuple[str, ...] = ()
    backward: str = ""
    targets: tuple[str, ...] = ()

    def given(self, constants: tuple[str, ...] = ()) -> str:
        """Return the arguments of gradcheck that say the same."""
        parts = [f"lambda: {self.layer}" if self.makes else self.layer]
        parts += [f"{key}={text}" if key in self.by_name else text for key, text in self.inputs.items()]
        parts += [f"backward={self.backward}"] if self.backward else []
        return ", ".join(parts + ([f"constants={list(constants)}"] if constants else []))


def calls(
    item: Found, schemes: Schemes, space: dict[str, Any], unknown: list[str], is_loss: bool = False
) -> Iterator[Guess]:
    """Yield guesses, the likeliest first. Arguments without a guess are added to ``unknown``.

    Args
        space: the names of the file.
        is_loss: whether y and t are targets, though the name of the layer is not that of a loss.
    """
    is_loss = is_loss or bool(guesses.OF_LOSSES.search(item.name))
    is_class = isinstance(item.thing, type)
    for name, made in item.objects or (() if is_class or item.backward else [(item.name, item.thing)]):
        shapes = [held.array.shape for held in find(made).values()]
        widths = list(dict.fromkeys(n for dims in shapes for n in dims if n > 1))[:4] or [guesses.LETTERS["C"]]
        letters = guesses.LETTERS | {"V": shapes[0][0] if shapes and shapes[0] else 1}
        yield from _inputs(
            item, Guess(name, False), {}, getattr(made, forward_of(made)), is_loss, schemes, letters, widths
        )
    sizes = [guesses.LETTERS, guesses.IN_PARTS]
    for letters in sizes[::-1] if any(map(guesses.is_part, _names(item.thing))) else sizes:
        if "pool" in item.name.lower():
            letters = letters | {"K": 2}
        if is_class:
            yield from _of_class(item, is_loss, schemes, letters, space, unknown)
        elif item.backward is not None:
            backwards = _backwards(item)
            for guess in _inputs(
                item, Guess(item.name, False), {}, item.thing, is_loss, schemes, letters, [letters["C"]]
            ):
                for backward in backwards:
                    yield dataclasses.replace(guess, backward=backward)


def forward_of(thing: Any) -> str:
    """Return the name of the forward of an object or a class; a callable without another name has ``__call__``."""
    return next((name for name in FORWARDS if callable(getattr(thing, name, None))), "__call__")


def needed(function: Any) -> list[inspect.Parameter]:
    return [p for p in guesses.parameters(function) if p.default is p.empty]


def _names(thing: Any) -> list[str]:
    return [p.name for p in guesses.parameters(thing)]


def _backwards(item: Found) -> list[str]:
    """Return ways to call the second function of a pair.

    One that takes no gradient may be a derivative, at the input or at the output. What one takes beside the gradient
    may be the output.
    """
    assert item.backward is not None
    one, other = item.name, item.backward.__name__
    wanted, takes = required(item.backward)[0], required(item.thing)[0]
    gradients = [bool(UPSTREAM.fullmatch(name)) for name in wanted]
    if len(takes) != 1 or CACHES & {name.lower() for name in wanted} or gradients == [True]:
        return [other]
    x = takes[0]
    if len(wanted) == 2 and sum(gradients) == 1 and x not in wanted:
        given = f"dy, {one}({x})" if gradients[0] else f"{one}({x}), dy"
        return [other, f"lambda dy, {x}: {other}({given})"]
    if len(wanted) != 1:
        return [other]
    return [f"lambda dy, {x}: dy * {other}({x})", f"lambda dy, {x}: dy * {other}({one}({x}))", other]


def _of_class(
    item: Found, is_loss: bool, schemes: Schemes, letters: Letters, space: dict[str, Any], unknown: list[str]
) -> Iterator[Guess]:
    made = _constructor(item.thing, item.name, letters, space, unknown)
    if made is None:
        return
    text, roles = made
    sizes = set(re.findall(r"\b\d+\b", text))
    widths = [letters["C"], *(letters[c] for c in "HOV" if str(letters[c]) in sizes)]
    call = getattr(item.thing, forward_of(item.thing))
    for activation in ("'relu'", "'tanh'") if "'relu'" in text else ("'relu'",):
        guess = Guess(text.replace("'relu'", activation), True)
        yield from _inputs(item, guess, roles, call, is_loss, schemes, letters, widths)


def _constructor(
    kind: type, name: str, letters: Letters, space: dict[str, Any], unknown: list[str]
) -> tuple[str, dict[str, str]] | None:
    """Return a call that makes an object, and argument -> role of the arrays that it takes: their names in braces.

    Return None if an argument has no guess; it is added to ``unknown``.
    """
    wanted = guesses.parameters(kind)
    if not wanted and (more := guesses.any_number(kind)):
        unknown.append(more[0])
        return None
    roles = {p.name: guesses.role(p.name, False) for p in wanted if p.default is p.empty}
    of_weights = any(role in WEIGHTS and not guesses.option(key, None, letters) for key, role in roles.items())
    arrays = WEIGHTS | {"b", "g"} if of_weights or {"gamma", "beta"} <= roles.keys() else set[str]()
    roles = {key: role for key, role in roles.items() if role in arrays}
    parts: list[str] = []
    for p in wanted:
        if p.default is not p.empty:
            if isinstance(p.default, int) and p.default > LARGE and guesses.is_size(p.name):
                parts.append(f"{p.name}={guesses.option(p.name, int, letters)}")
            continue
        text = f"{{{p.name}}}" if p.name in roles else guesses.option(p.name, p.annotation, letters)
        text = text or _made_for(p, letters, space)
        if text is None:
            unknown.append(p.name)
            return None
        parts.append(f"{p.name}={text}" if p.kind is p.KEYWORD_ONLY else text)
    return f"{name}({', '.join(parts)})", roles


def _made_for(p: inspect.Parameter, letters: Letters, space: dict[str, Any]) -> str | None:
    """Return a call that makes what an argument wants, if the file has its class, such as GPTConfig for config."""
    for name, kind in space.items():
        is_its = p.annotation in (kind, name) or ("config" in p.name.lower() and name.lower().endswith("config"))
        if isinstance(kind, type) and kind.__module__ == space["__name__"] and is_its:
            made = _constructor(kind, name, letters, {"__name__": ""}, [])
            return made[0] if made and not made[1] else None
    return None


def _inputs(
    item: Found,
    made: Guess,
    held: dict[str, str],
    call: Callable[..., Any],
    is_loss: bool,
    schemes: Schemes,
    letters: Letters,
    widths: list[int],
) -> Iterator[Guess]:
    """Yield guesses for the arguments of forward, and for the arrays that the constructor takes.

    Args
        held: argument of the constructor -> its role; its name stands in braces in ``made.layer``.
    """
    wanted = needed(call)
    if made.makes and inspect.isfunction(call) and wanted and wanted[0].name == "self":
        wanted = wanted[1:]
    if not wanted and required(call)[2]:
        wanted = [inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY)]
    if wanted and wanted[-1].name == "cache":
        wanted.pop()
    scalars: dict[str, str] = {}
    roles: dict[str, str] = {}
    for p in wanted:
        kind = guesses.role(p.name, is_loss)
        text = guesses.number(p.name, p.annotation, letters) if kind == "x" and not is_loss else None
        if text is None:
            roles[p.name] = kind
        else:
            scalars[p.name] = text
    if not WEIGHTS & {*roles.values()}:
        roles = {key: "x" if kind == "b" else kind for key, kind in roles.items()}  # the second operand
    by_name = tuple(p.name for p in wanted if p.kind is p.KEYWORD_ONLY)
    targets = tuple(name for name, kind in roles.items() if kind == "target")
    on_ids = guesses.OF_EMBEDDINGS.search(item.name) or re.search(rf"\b{letters['V']}\b", made.layer)
    of_ids = (True, False) if on_ids and "x" in roles.values() else (False,)
    every = {f"{{{key}}}": kind for key, kind in held.items()} | roles
    for width, ids, scheme in itertools.product(dict.fromkeys(widths), of_ids, schemes):
        for given in guesses.arrays(every, scheme, letters | {"C": width}, is_loss, ids):
            layer = made.layer
            for key in held:
                layer = layer.replace(f"{{{key}}}", given[f"{{{key}}}"])
            inputs = {p.name: scalars.get(p.name) or given[p.name] for p in wanted}
            yield dataclasses.replace(made, layer=layer, inputs=inputs, by_name=by_name, targets=targets)
