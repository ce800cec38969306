"""Exercises for the parts of a GPT: a file with the forward pass and an empty backward, judged by the checker.

An exercise on a layer is the source of the layer without its backward pass. Its hints are the steps of the derivation,
and its solution is npgpt's own source. Three exercises are on functions (``functions.py``).
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
        asks: the question, in one line.
        kind: the class.
        cases: the checker's cases that judge the solution.
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
        """Return the file to start from: the layer without its derivation and the body of backward."""
        source = inspect.getsource(self.kind)
        source = re.sub(r"\n    Backward .*?\n(?=    \w)", "\n", source, count=1, flags=re.DOTALL)
        source = re.sub(r"\n    >>> .*?(?=\n    \"\"\")", "", source, count=1, flags=re.DOTALL)  # it shows the solution
        body = _body_of(source, "backward")
        return self.head() + source.replace(body, '        raise NotImplementedError("write it here")\n')

    def solution(self) -> str:
        """Return the file with npgpt's own source."""
        return self.head() + inspect.getsource(self.kind)

    def broken(self, mutant: Mutant) -> str:
        """Return the file with a mistake in backward; it includes the derivation."""
        source = inspect.getsource(self.kind)
        right = source_of(mutant.target)
        wrong = right.replace(mutant.old, mutant.new)
        return self.head() + source.replace(textwrap.indent(right, "    "), textwrap.indent(wrong, "    "))

    def head(self) -> str:
        """Return the first lines: the exercise's name, the instructions, and the imports."""
        lines = [
            f"{MARK}{self.name}",
            f"# {self.asks}",
            "# Add to each parameter's .grad. Note the gradient of each array that forward keeps:",
            '# dname = cache.note("name", ...). Return the gradients of the inputs.',
            f"# Then run: npgpt exercise check {self.name}.py",
            "",
        ]
        return "\n".join([*lines, *_imports(self.kind), "", "", ""])

    def judge(self, module: types.ModuleType) -> str:
        """Return a description of the first mistake; empty if there is none."""
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
                        return f"every gradient is right, but the layer breaks the law {law.__name__}: {error}"
        return ""


Exercise = LayerExercise | FunctionExercise

_LAYERS = [
    LayerExercise("linear", "An affine map: what are dW, db and dx?", layers.Linear, ("Linear",)),
    LayerExercise("softmax", "Every score is in every weight's denominator. What is ds?", layers.Softmax, ("Softmax",)),
    LayerExercise(
        "cross-entropy",
        "The loss is one number. What is its gradient for each logit?",
        layers.CrossEntropy,
        ("CrossEntropy", "CrossEntropy-ignore"),
    ),
    LayerExercise("embedding", "A row is copied to each use of its id. What is dW?", layers.Embedding, ("Embedding",)),
    LayerExercise(
        "positions", "One table is added to every example. What is dP?", layers.LearnedPositions, ("LearnedPositions",)
    ),
    LayerExercise("layer-norm", "x reaches y in three ways. What is dx?", layers.LayerNorm, ("LayerNorm",)),
    LayerExercise("gelu", "x occurs as a factor and inside tanh. What is dx?", layers.TanhGELU, ("TanhGELU",)),
    LayerExercise("one-head", "A head mixes values. What are dw and dv?", layers.Mixing, ("Mixing",)),
    LayerExercise("causal", "Causal scores: future keys are masked. What are dq and dk?", layers.Scores, ("Scores",)),
    LayerExercise("multi-head", "Attention from its sub-layers. What is dx?", layers.Attention, ("Attention",)),
    LayerExercise("residual-block", "Two branches add into the stream. What is dx?", layers.Block, ("Block",)),
    LayerExercise("tied-head", "One table embeds and predicts.", layers.VocabularyHead, ("VocabularyHead", "GPT-tied")),
]
_WINDOWS, _ADAMW, _MERGE = FUNCTIONS
_ROAD: list[Exercise] = [_WINDOWS, *_LAYERS, _ADAMW, _MERGE]
EXERCISES: dict[str, Exercise] = {exercise.name: exercise for exercise in _ROAD}


def find(name: str) -> Exercise:
    """Return the exercise of this name.

    Raises
        ConfigError if there is none.
    """
    if name not in EXERCISES:
        raise ConfigError(f"there is no exercise {name!r}; {did_you_mean(name, EXERCISES)}")
    return EXERCISES[name]


def mutants_of(exercise: Exercise) -> list[Mutant]:
    """Return the planted mistakes in this layer's backward pass that its own cases can find."""
    if isinstance(exercise, FunctionExercise):
        return []
    target = f"{exercise.kind.__module__}:{exercise.kind.__name__}.backward"
    return [mutant for mutant in MUTANTS if mutant.target == target and mutant.case in exercise.cases]


def draw_broken(name: str | None, seed: int) -> tuple[LayerExercise, Mutant]:
    """Draw a layer and a mistake in it, by a seed."""
    rng = random.Random(seed)
    candidates = [find(name)] if name else [exercise for exercise in EXERCISES.values() if mutants_of(exercise)]
    exercise = rng.choice(candidates)
    mutants = mutants_of(exercise)
    if not mutants or not isinstance(exercise, LayerExercise):
        raise ConfigError(f"there is no broken file for {exercise.name}; choose a layer, for example linear")
    return exercise, rng.choice(mutants)


def check_file(path: Path) -> tuple[Exercise, str]:
    """Run a user's file and judge it. Return the exercise and the first mistake; empty if there is none.

    Raises
        DataError if the file is not an exercise, or does not run.
    """
    source = read_text(path)
    found = re.search(rf"^{re.escape(MARK)}([\w-]+)", source, re.MULTILINE)
    if not found:
        raise DataError(f"{path} lacks the line {MARK + 'NAME'!r}; `npgpt exercise start NAME` writes such a file")
    exercise = find(found[1])
    module = types.ModuleType("exercise")
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except Exception as error:
        raise DataError(f"{path} does not run: {type(error).__name__}: {error}") from error
    return exercise, exercise.judge(module)


@contextmanager
def _in_place_of(kind: Any, made: Any) -> Iterator[None]:
    """Give npgpt's class the user's methods within a ``with`` block, so that layers that contain it use them too."""
    ours = {name: vars(kind)[name] for name in ("forward", "backward")}
    try:
        for name, method in ours.items():
            setattr(kind, name, vars(made).get(name, method))
        yield
    finally:
        for name, method in ours.items():
            setattr(kind, name, method)


def _body_of(source: str, method: str) -> str:
    """Return the lines of the body of a method."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == method:
            lines = source.splitlines(keepends=True)
            first = node.body[0].lineno - 1
            while lines[first - 1].strip().startswith("#"):  # a comment with the derivation
                first -= 1
            return "".join(lines[first : node.end_lineno])
    raise ValueError(f"no {method}")


def _imports(kind: Any) -> list[str]:
    """Return the import lines that the source of a class needs in a file by itself."""
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
