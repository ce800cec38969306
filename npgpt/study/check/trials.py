"""Holding a layer to its laws: one layer with its inputs, or layers of many sizes; and a message if it breaks one.

A layer is held to a law with the weights that it has, then with others. A factory makes layers of many sizes, from
small to large, the same ones each time. Sizes that break a law are made smaller until they no longer do.
"""

import dataclasses
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.core import Array, Layer
from npgpt.errors import ConfigError, NpgptError
from npgpt.study.check.broken import LawBroken
from npgpt.study.check.cases import Case, Sizes
from npgpt.study.check.checker import gradcheck
from npgpt.study.check.conventions import required
from npgpt.study.check.laws import LAWS, gradients_are_right, laws_for
from npgpt.study.check.laws_of_strangers import (
    LAWS_OF_STRANGERS,
    OF_EXAMPLES,
    LawOfStrangers,
    StrangerCase,
    says_something,
)
from npgpt.study.check.places import is_foreign
from npgpt.study.check.report import Report, notes
from npgpt.study.check.rounds import BACKWARDS, Rounds, has_cache, method, rounds_of
from npgpt.study.check.strangers import StrangerSubject
from npgpt.study.check.subjects import LayerSubject
from npgpt.study.check.training import set_training
from npgpt.study.check.verdict import WRONG

GRADIENTS = gradients_are_right.__name__
OF_LAYERS: Mapping[str, Callable[[Any], None]] = {law.__name__: law for law in LAWS}
OF_STRANGERS: Mapping[str, Callable[[Any], None]] = {law.__name__: law for law in LAWS_OF_STRANGERS}
NAMES = list(dict.fromkeys([*OF_LAYERS, *OF_STRANGERS]))
OPTIONS = ("backward", "params", "grads", "constants", "init", "training")
LARGEST = {"B": 3, "T": 5, "H": 3, "D": 4, "V": 6}
Draw = tuple[Sizes, int]  # with the seed of its numbers
MOST_LINES, MOST_COLUMNS = 10, 300  # of what a law says


class Trial:
    """One layer with its inputs. The arguments are those of ``gradcheck``; the layer may be a pair of functions.

    Args
        time_axis: the time axis of inputs and output of a causal layer; None for other layers.
        by_example: whether the first axis of the inputs is known to count examples.
    """

    def __init__(
        self,
        layer: Any,
        inputs: Sequence[Any],
        options: Mapping[str, Any],
        time_axis: int | None = None,
        by_example: bool = False,
    ) -> None:
        self.options = dict(options)
        if isinstance(layer, tuple) and len(layer) == 2 and all(map(callable, layer)):
            layer, self.options["backward"] = layer
        self.layer, self.inputs, self.time_axis, self.by_example = layer, inputs, time_axis, by_example

    def laws(self) -> list[str]:
        """Return the names of the laws that the layer could break."""
        with closing(self._rounds()) as rounds:
            case = self._case(rounds.subject(None, None))
            if isinstance(case, Case):
                return [law.__name__ for law in laws_for(case)]
            found = [law for law in LAWS_OF_STRANGERS if law not in OF_EXAMPLES and says_something(law, case)]
        return [GRADIENTS, *(law.__name__ for law in found + self._of_examples())]

    def _of_examples(self) -> list[LawOfStrangers]:
        if not self.by_example:
            return []
        with closing(self._rounds(OF_EXAMPLES[0].__name__)) as rounds:
            try:
                case = self._case(rounds.subject(None, None))
            except NpgptError:  # in evaluation it may need statistics of training first
                return []
            return [law for law in OF_EXAMPLES if isinstance(case, StrangerCase) and says_something(law, case)]

    def check(self, law: str) -> None:
        """Raise LawBroken if the layer breaks a law, with the weights that it has or with others."""
        if law == GRADIENTS:
            report = gradcheck(self.layer, *self.inputs, **self.options)
            if not report.passed:
                raise LawBroken(_of_report(report))
            return
        with closing(self._rounds(law)) as rounds:
            self._hold(law, rounds.subject(None, None))
            try:
                other = rounds.subject(None, np.random.default_rng(21))
            except Exception as error:
                if str(error).startswith("init"):
                    raise
                return  # forward fails with weights that were drawn blindly
            if other is not None:
                self._hold(law, other)

    def _rounds(self, law: str = "") -> Rounds:
        """Return the rounds; for laws of examples those of a layer in evaluation, if it has a switch."""
        options = {key: value for key, value in self.options.items() if key != "expects"}
        known = {key: options.pop(key) for key in list(options) if key in OPTIONS}
        rounds = rounds_of(self.layer, self.inputs, options, **known)
        if law not in [of.__name__ for of in OF_EXAMPLES]:
            return rounds
        with closing(rounds):
            subject = rounds.subject(None, None)
            switch = isinstance(subject, StrangerSubject) and set_training(
                subject.root, subject.arguments, subject.call, False, try_only=True
            )
        return rounds_of(self.layer, self.inputs, options, **known | ({"training": False} if switch else {}))

    def _case(self, subject: LayerSubject | StrangerSubject) -> Case | StrangerCase:
        if isinstance(subject, LayerSubject):
            return dataclasses.replace(subject.case, time_axis=self.time_axis)
        return StrangerCase(subject, self.time_axis, self.by_example)

    def _hold(self, law: str, subject: LayerSubject | StrangerSubject) -> None:
        case = self._case(subject)
        laws = OF_LAYERS if isinstance(case, Case) else OF_STRANGERS
        if law not in laws:
            raise ConfigError(f"{law} is a law of {'npgpt' if law in OF_LAYERS else 'other people'}'s layers")
        with np.errstate(all="ignore"):
            laws[law](case)


class Trials:
    """A layer, or a factory of layers over sizes, that is held to laws.

    Args
        inputs: of a factory: (sizes, rng) -> an array, a tuple, or a dict by name; None for one array x (B, T, C).
        examples: the number of sizes.
    """

    def __init__(
        self,
        layer: Any,
        given: Sequence[Any],
        options: Mapping[str, Any],
        inputs: Callable[[Sizes, np.random.Generator], Any] | None = None,
        time_axis: int | None = None,
        examples: int = 15,
    ) -> None:
        self.layer, self.given, self.options = layer, given, options
        self.inputs, self.time_axis, self.examples = inputs, time_axis, examples
        self.failed = ""
        self.takes_sizes = options.get("backward") is None and _takes_sizes(layer)
        if self.takes_sizes and given:
            raise ConfigError(
                "a function of one argument, without backward=, makes layers of many sizes and needs no inputs: "
                "give its backward pass, or inputs=, a function of (sizes, rng)"
            )
        if inputs is not None and not self.takes_sizes:
            raise ConfigError("inputs= is for a factory that takes sizes, lambda sizes: ...; give arrays as they are")

    def laws(self) -> list[str]:
        """Return the names of the laws that the layer could break; of a layer that fails, the one that will say why."""
        try:
            with np.errstate(all="ignore"):
                return self._trial((Sizes(), 0)).laws()
        except Exception as error:
            self.failed = f"it raised {type(error).__name__}: {error}{_place(error)}"
            return [GRADIENTS]

    def check(self, law: str) -> None:
        """Raise LawBroken, with a message of few lines, if the layer breaks a law."""
        draws = _growing(self.examples) if self.takes_sizes else [None]
        says, draw = next(((s, draw) for draw in draws if (s := self._says(law, draw))), ("", None))
        while draw and (smaller := next(((s, of) for of in _smaller(*draw) if (s := self._says(law, of))), None)):
            says, draw = smaller
        if draw and law == GRADIENTS:  # larger sizes, which differ from each other, tell one mistake from another
            cell, named = says.split("\n"), self._says(law, (Sizes(), draw[1])).split("\n")
            says = "\n".join(cell[:2] + named[2:] if named[0].split(",")[0] == cell[0].split(",")[0] else cell)
        says = says or self.failed
        if says:
            raise LawBroken(f"{self.name()} breaks the law {law}:\n{_short(says)}\n{self._how_to_repeat(law, draw)}")

    def name(self) -> str:
        """Return the name of the class of the layer, or of its forward function."""
        made = self.layer
        try:
            made = self._made(Sizes(), 0) if self.takes_sizes else made
            made = made[0] if isinstance(made, tuple) else made() if _is_factory(made, self.options) else made
        except Exception:  # the laws will say why it cannot be made
            made = self.layer
        return str(getattr(made, "__name__", type(made).__name__))

    def _trial(self, draw: Draw | None) -> Trial:
        if draw is None or not self.takes_sizes:
            return Trial(self.layer, self.given, self.options, self.time_axis)
        sizes, seed = draw
        made = self._made(sizes, seed)
        drawn = (self.inputs or _tokens)(sizes, np.random.default_rng(seed))
        by_name = drawn if isinstance(drawn, Mapping) else {}
        given = drawn if isinstance(drawn, tuple) else () if by_name else (drawn,)
        if isinstance(made, Layer) or has_cache(made):  # it takes its inputs in order
            given, by_name = (*given, *by_name.values()), {}
        return Trial(made, given, {**self.options, **by_name}, self.time_axis, by_example=self.inputs is None)

    def _made(self, sizes: Sizes, seed: int) -> Any:
        state = np.random.get_state()  # noqa: NPY002 - the layer may use it
        np.random.seed(seed)  # noqa: NPY002
        try:
            return self.layer(sizes)
        finally:
            np.random.set_state(state)  # noqa: NPY002

    def _says(self, law: str, draw: Draw | None) -> str:
        """Return what is wrong with the layer, or an empty text."""
        try:
            self._trial(draw).check(law)
        except LawBroken as error:
            return str(error) + _place(error.__cause__)
        except NpgptError as error:
            return f"it cannot be checked: {error}{_place(error.__cause__)}"
        except Exception as error:
            return f"it raised {type(error).__name__}: {error}{_place(error)}"
        return ""

    def _how_to_repeat(self, law: str, draw: Draw | None) -> str:
        """Return the sizes, and three lines that repeat the failure."""
        options = {key: x for key, x in self.options.items() if key not in ("backward", "expects") or law == GRADIENTS}
        options |= {} if self.time_axis is None or law == GRADIENTS else {"time_axis": self.time_axis}
        said = "".join(f", {key}={repr(x) if _is_short(x) else key}" for key, x in options.items())
        names = ", ".join(["x"] if len(self.given) == 1 else [f"x{i}" for i in range(len(self.given))])
        layer, lines = "layer", []
        if isinstance(self.layer, tuple):
            said = f", backward=backward{said}" if law == GRADIENTS else said
            layer = "forward" if law == GRADIENTS else "(forward, backward)"
        if draw is not None:
            layer, names, (sizes, seed) = "make(sizes)", "x", draw
            made = ", ".join(f"{letter}={getattr(sizes, letter)}" for letter in LARGEST)
            lines.append(f"np.random.seed({seed}); sizes, rng = Sizes({made}), np.random.default_rng({seed})")
            lines.append(
                f"x = {'inputs(sizes, rng)' if self.inputs else 'rng.normal(size=(sizes.B, sizes.T, sizes.C))'}"
            )
            drawn = self.inputs and self.inputs(sizes, np.random.default_rng(seed))
            names = "*x.values()" if isinstance(drawn, Mapping) else "*x" if isinstance(drawn, tuple) else "x"
        names = f", {names}" if names else ""
        if law == GRADIENTS:
            lines.append(f"print(npgpt.gradcheck({layer}{names}{said}))")
        else:
            lines.append(f"assert_obeys_laws({layer}{names}{said}, laws=[{law!r}])")
        smallest = f"The smallest sizes that break it: {made} (C={sizes.C}).\n" if draw is not None else ""
        of = "its first argument as make" if draw is not None else "the arguments of this call"
        return f"{smallest}These lines repeat it, with {of}:\n" + "\n".join(f"    {line}" for line in lines)


def _is_short(x: Any) -> bool:
    return isinstance(x, bool | int | str) or (isinstance(x, list | tuple) and all(isinstance(item, str) for item in x))


def _is_factory(layer: Any, options: Mapping[str, Any]) -> bool:
    return callable(layer) and method(layer, BACKWARDS) is None and options.get("backward") is None


def _takes_sizes(layer: Any) -> bool:
    """Return whether something is a function of one argument, and neither a layer nor a class."""
    if isinstance(layer, type) or not _is_factory(layer, {}):
        return False
    needed, _, _, _ = required(layer)
    return len(needed) == 1


def _tokens(sizes: Sizes, rng: np.random.Generator) -> Array:
    return rng.normal(size=(sizes.B, sizes.T, sizes.C))


def _growing(n: int) -> list[Draw]:
    """Return sizes from small to large, each with a seed: among them all of 1, and the largest."""
    rng = np.random.default_rng(0)
    drawn = [{letter: int(rng.integers(1, most + 1)) for letter, most in LARGEST.items()} for _ in range(n)]
    drawn[:2] = [LARGEST, dict.fromkeys(LARGEST, 1)][:n]
    return [(Sizes(**of), seed) for seed, of in enumerate(sorted(drawn, key=lambda of: sum(of.values())))]


def _smaller(sizes: Sizes, seed: int) -> Iterator[Draw]:
    """Yield sizes of which one is smaller, the smallest first."""
    for letter in LARGEST:
        now = getattr(sizes, letter)
        yield from ((dataclasses.replace(sizes, **{letter: n}), seed) for n in range(1, now))


def _of_report(report: Report) -> str:
    """Return what a report says about its first wrong gradient; without one, why the check is not complete."""
    for name, verdict in report.verdicts.items():
        if verdict.state == WRONG:
            label = f" {verdict.reason}" if verdict.reason in report.rounds else ""
            lines = [f"the gradient of {name} is wrong{label}, by {', '.join(verdict.by)}"]
            if (worst := report.worst(name)) is not None:
                lines.append(f"at [{', '.join(map(str, worst[0]))}] expected {worst[1]:.9g}, got {worst[2]:.9g}")
            lines += [finding.says for finding in report.findings if finding.tensor == name]
            others = [n for n, v in report.verdicts.items() if v.state == WRONG and n != name]
            return "\n".join(lines + ([f"wrong, too: {', '.join(others)}"] if others else []))
    said = ("UNDECIDED", "NOT CHECKED", "nothing was checked", str(report.expects))
    return "\n".join(line.strip() for line in notes(report) if line.strip().startswith(said))


def _place(error: BaseException | None) -> str:
    """Return where in the user's code an error came up."""
    frames = [] if error is None else list(traceback.walk_tb(error.__traceback__))
    own = [(f, n) for f, n in frames if not is_foreign(str(f.f_globals.get("__name__", "")).replace("npgpt", "numpy"))]
    return f" ({Path(own[-1][0].f_code.co_filename).name}:{own[-1][1]})" if own else ""


def _short(text: str) -> str:
    cut = [part for line in text.splitlines() for part in textwrap.wrap(line, MOST_COLUMNS, subsequent_indent="  ")]
    if len(cut) > MOST_LINES:
        cut[MOST_LINES - 1 :] = [f"... and {len(cut) - MOST_LINES + 1} more lines"]
    return "\n".join(f"  {line}" for line in cut)
