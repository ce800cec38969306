"""Exercises along the road: a file with the forward pass and an empty backward, judged by the checker.

An exercise on a layer is made of the layer itself: its source with the backward pass cut out; its hints are the steps
of its derivation, and the solution is what stands in npgpt. Three are on functions (``functions.py``).
"""

import ast
import builtins
import inspect
import random
import re
import textwrap
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import npgpt.layers as layers
from npgpt.errors import ConfigError, DataError, NpgptError, did_you_mean
from npgpt.study.check.cases import make_case
from npgpt.study.check.checker import check_case
from npgpt.study.check.laws import laws_for
from npgpt.study.exercises.functions import FUNCTIONS, FunctionExercise
from npgpt.study.mutants import MUTANTS, Mutant
from npgpt.study.mutants.plant import source_of
from npgpt.support.files import read_text

MARK = "# npgpt exercise: "


@dataclass(frozen=True)
class LayerExercise:
    """Write the backward pass of a layer.

    Attributes
        asks: what the reader is asked.
        kind: the class.
        cases: what it is tried on.
    """

    name: str
    asks: str
    kind: type[layers.Linear] | Any
    cases: tuple[str, ...]

    @property
    def hints(self) -> list[str]:
        """The derivation, step by step."""
        doc = inspect.getdoc(self.kind) or ""
        found = re.search(r"^Backward.*?(?=^\w)", doc, re.DOTALL | re.MULTILINE)
        steps = re.split(r"\n(?=\s+\d\. )", found[0].rstrip()) if found else []
        return [textwrap.dedent(step) for step in steps]

    def template(self) -> str:
        """The file to start from: everything but the derivation and the body of backward."""
        source = inspect.getsource(self.kind)
        source = re.sub(r"\n    Backward .*?\n(?=    \w)", "\n", source, count=1, flags=re.DOTALL)
        source = re.sub(r"\n    >>> .*?(?=\n    \"\"\")", "", source, count=1, flags=re.DOTALL)  # it gives it away
        body = _body_of(source, "backward")
        return self.head() + source.replace(body, '        raise NotImplementedError("write it here")\n')

    def solution(self) -> str:
        """What stands in npgpt."""
        return self.head() + inspect.getsource(self.kind)

    def broken(self, mutant: Mutant) -> str:
        """The file with a mistake in it, the derivation left standing."""
        source = inspect.getsource(self.kind)
        right = source_of(mutant.target)
        wrong = right.replace(mutant.old, mutant.new)
        return self.head() + source.replace(textwrap.indent(right, "    "), textwrap.indent(wrong, "    "))

    def head(self) -> str:
        """The first lines: what it is, how it is judged, and what it imports."""
        lines = [
            f"{MARK}{self.name}",
            f"# {self.asks}",
            "# Add to each parameter's .grad, and note the gradient of each array that forward keeps:",
            '# dname = cache.note("name", ...). Return the gradients of the inputs.',
            f"# Then: npgpt exercise check {self.name}.py",
            "",
        ]
        return "\n".join([*lines, *_imports(self.kind), "", "", ""])

    def judge(self, module: types.ModuleType) -> str:
        """What is wrong; empty if nothing is."""
        made = getattr(module, self.kind.__name__, None)
        if made is None or not hasattr(made, "backward"):
            return f"the file has no class {self.kind.__name__} with a method backward"
        with _in_place_of(self.kind, made):
            for name in self.cases:
                try:
                    report = check_case(make_case(name), until_wrong=True)
                except NotImplementedError as error:
                    return f"{self.kind.__name__}.backward is not written yet: {error}"
                except (ValueError, TypeError, KeyError, IndexError, AttributeError, NameError, NpgptError) as error:
                    return f"{self.kind.__name__}.backward raised {type(error).__name__}: {error}"
                if not report.passed:
                    return str(report)
                for law in laws_for(make_case(name)):
                    try:
                        law(make_case(name))
                    except (AssertionError, ValueError, KeyError) as error:
                        return f"every gradient is right, but it breaks the law {law.__name__}: {error}"
        return ""


Exercise = LayerExercise | FunctionExercise

_LAYERS = [
    LayerExercise("linear", "An affine map: what are dW, db and dx?", layers.Linear, ("Linear",)),
    LayerExercise("softmax", "Every score is in every weight's denominator. What is ds?", layers.Softmax, ("Softmax",)),
    LayerExercise(
        "cross-entropy",
        "The loss is one number. What is its gradient by every logit?",
        layers.CrossEntropy,
        ("CrossEntropy", "CrossEntropy-ignore"),
    ),
    LayerExercise("embedding", "A row is copied to each place. What does it get?", layers.Embedding, ("Embedding",)),
    LayerExercise(
        "positions", "One table is added to every example. What is dP?", layers.LearnedPositions, ("LearnedPositions",)
    ),
    LayerExercise("layer-norm", "x reaches y in three ways. What is dx?", layers.LayerNorm, ("LayerNorm",)),
    LayerExercise("gelu", "x stands in front of the bracket and inside tanh.", layers.TanhGELU, ("TanhGELU",)),
    LayerExercise("one-head", "A head mixes values. What are dw and dv?", layers.Mixing, ("Mixing",)),
    LayerExercise("causal", "Scores, of what is not still to come. What are dq and dk?", layers.Scores, ("Scores",)),
    LayerExercise("multi-head", "Attention, put together of its parts.", layers.Attention, ("Attention",)),
    LayerExercise("residual-block", "Two branches add into a stream. What is dx?", layers.Block, ("Block",)),
    LayerExercise("tied-head", "One matrix reads and predicts.", layers.VocabularyHead, ("VocabularyHead", "GPT-tied")),
]
_WINDOWS, _ADAMW, _MERGE = FUNCTIONS
_ROAD: list[Exercise] = [_WINDOWS, *_LAYERS, _ADAMW, _MERGE]
EXERCISES: dict[str, Exercise] = {exercise.name: exercise for exercise in _ROAD}


def find(name: str) -> Exercise:
    """The exercise of a name.

    Raises
        ConfigError if there is none.
    """
    if name not in EXERCISES:
        raise ConfigError(f"there is no exercise {name!r}; {did_you_mean(name, EXERCISES)}")
    return EXERCISES[name]


def mutants_of(exercise: Exercise) -> list[Mutant]:
    """The mistakes of the catalogue that are in this layer's backward pass, and that its own cases can see."""
    if isinstance(exercise, FunctionExercise):
        return []
    target = f"{exercise.kind.__module__}:{exercise.kind.__name__}.backward"
    return [mutant for mutant in MUTANTS if mutant.target == target and mutant.case in exercise.cases]


def draw_broken(name: str | None, seed: int) -> tuple[LayerExercise, Mutant]:
    """A layer and a mistake for it, drawn by a seed."""
    rng = random.Random(seed)
    candidates = [find(name)] if name else [exercise for exercise in EXERCISES.values() if mutants_of(exercise)]
    exercise = rng.choice(candidates)
    mutants = mutants_of(exercise)
    if not mutants or not isinstance(exercise, LayerExercise):
        raise ConfigError(f"there is no broken file of {exercise.name}; take one of the layers, as linear")
    return exercise, rng.choice(mutants)


def check_file(path: Path) -> tuple[Exercise, str]:
    """Run a reader's file and judge it. Returns the exercise and what is wrong; empty if nothing is.

    Raises
        DataError if the file is no exercise, or does not run.
    """
    source = read_text(path)
    found = re.search(rf"^{re.escape(MARK)}([\w-]+)", source, re.MULTILINE)
    if not found:
        raise DataError(f"{path} is no exercise: it lacks the line {MARK + 'NAME'!r}; make one with start")
    exercise = find(found[1])
    module = types.ModuleType("exercise")
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except Exception as error:
        raise DataError(f"{path} does not run: {type(error).__name__}: {error}") from error
    return exercise, exercise.judge(module)


@contextmanager
def _in_place_of(kind: Any, made: Any) -> Iterator[None]:
    """Let a class of ours have the reader's methods for a while: so what it is part of uses them too."""
    ours = {name: vars(kind)[name] for name in ("forward", "backward")}
    try:
        for name, method in ours.items():
            setattr(kind, name, vars(made).get(name, method))
        yield
    finally:
        for name, method in ours.items():
            setattr(kind, name, method)


def _body_of(source: str, method: str) -> str:
    """The lines below ``def method``."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == method:
            lines = source.splitlines(keepends=True)
            first = node.body[0].lineno - 1
            while lines[first - 1].strip().startswith("#"):  # a comment that teaches gives it away
                first -= 1
            return "".join(lines[first : node.end_lineno])
    raise ValueError(f"no {method}")


def _imports(kind: Any) -> list[str]:
    """The import lines that the source of a class needs when it stands alone."""
    module = inspect.getmodule(kind)
    names = {node.id for node in ast.walk(ast.parse(inspect.getsource(kind))) if isinstance(node, ast.Name)}
    plain: list[str] = []
    of_modules: dict[str, list[str]] = {}
    for name in sorted(names - set(dir(builtins)) - {kind.__name__}):
        value = vars(module).get(name)
        if isinstance(value, types.ModuleType):
            plain.append(f"import {value.__name__}" + (f" as {name}" if value.__name__ != name else ""))
        elif value is not None and module:
            home = value.__module__ if getattr(value, "__name__", "") == name else module.__name__
            of_modules.setdefault("npgpt.core" if name == "Array" else home, []).append(name)
    return sorted(plain) + [f"from {home} import {', '.join(found)}" for home, found in sorted(of_modules.items())]
