"""An exercise on a layer: its source without the backward pass. The checker judges what the user writes."""

import ast
import builtins
import functools
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import npgpt.layers as layers
from npgpt.core import Param
from npgpt.study.check.cases import make_case
from npgpt.study.check.checker import check_case
from npgpt.study.check.laws import laws_for
from npgpt.study.exercises.own_lines import WIDTH, filled, line_of, own_frames, told, values_in_line
from npgpt.study.exercises.wrong_gradients import described, never_called
from npgpt.study.mutants import Mutant
from npgpt.study.mutants.plant import source_of

MARK = "# npgpt exercise: "
# What to do if every gradient is right and a law is broken.
REMEDIES = {
    "two_backwards_double": "Add to each gradient, as in `self.weight.grad += ...`; `=` loses what was there.",
    "shapes_and_dtypes": "np.eye(n) is float64, and makes what it meets float64: give it the dtype of a kept array.",
    "nothing_handed_in_is_changed": "Work on a new array: `dy = dy * ...`, not `dy *= ...`.",
}


class _WrongReturnError(Exception):
    """backward returned something else than one gradient for each float input."""


@dataclass(frozen=True)
class LayerExercise:
    """Write the backward pass of a layer.

    Attributes
        asks: the question, in one line.
        kind: the class.
        cases: the checker's cases that judge the solution.
        first_hint: the thought to begin with. The other hints are the derivation.
    """

    name: str
    asks: str
    kind: type[layers.Linear] | Any
    cases: tuple[str, ...]
    first_hint: str

    @property
    def hints(self) -> list[str]:
        """The first thought, and the derivation, step by step."""
        doc = inspect.getdoc(self.kind) or ""
        found = re.search(r"^Backward  (.*?)(?=^\w)", doc, re.DOTALL | re.MULTILINE)
        head, *steps = re.split(r"\n(?=\s+\d\. )", found[1].rstrip()) if found else [""]
        steps = [textwrap.dedent(step) for step in steps]
        return [filled(self.first_hint), *map(_narrow, [f"{head[0].upper()}{head[1:]}\n{steps[0]}", *steps[1:]])]

    def template(self) -> str:
        """Return the file to start from: the layer without its derivation and the body of backward."""
        source = inspect.getsource(self.kind)
        source = re.sub(r"\n    Backward .*?\n(?=    \w)", "\n", source, count=1, flags=re.DOTALL)
        source = re.sub(
            r"\n+    >>> .*?(?=\n    \"\"\")", "", source, count=1, flags=re.DOTALL
        )  # it shows the solution
        body = _body_of(source, "backward")
        return self.head(self.task()) + source.replace(body, '        raise NotImplementedError("write it here")\n')

    def solution(self) -> str:
        """Return the file with npgpt's own source."""
        return self.head([]) + inspect.getsource(self.kind)

    def broken(self, mutant: Mutant) -> str:
        """Return the file with a mistake in backward; it includes the derivation."""
        source = inspect.getsource(self.kind)
        right = source_of(mutant.target)
        wrong = right.replace(mutant.old, mutant.new)
        return self.head([]) + source.replace(textwrap.indent(right, "    "), textwrap.indent(wrong, "    "))

    def head(self, task: list[str]) -> str:
        """Return the first lines: the exercise's name, the task, and the imports."""
        lines = [f"{MARK}{self.name}", self.asks, *task, f"Then run: npgpt exercise check {self.name}.py"]
        return "\n".join([lines[0], *(f"# {line}" for line in lines[1:]), "", *_imports(self.kind), "", "", ""])

    def task(self) -> list[str]:
        """Return what backward must do: on the left in words, on the right in code."""
        layer, kept = make_case(self.cases[0]).layer, self.kept()
        sub = min(layer.children(), key=len, default="")  # a short line as an example
        rows = [
            ("read kept arrays", [f'{name} = cache["{name}"]' for name in kept]),
            ("run sub-layers", [f'self.{sub}.backward(d..., cache.scope("{sub}"))', "..."] if sub else []),
            (
                "add to gradients",
                [f"self.{n}.grad += ..." for n, part in vars(layer).items() if isinstance(part, Param)],
            ),
            ("note gradients", [f'd{name} = cache.note("{name}", ...)' for name, is_float in kept.items() if is_float]),
            ("return gradients", [f"return {', '.join(self.returns()) or 'None  (ids are integers)'}"]),
        ]
        lines = ["backward gets the gradient of forward's output. It must"]
        for what, code in rows:
            shown = code if len(code) < 4 else [code[0], "..."]
            lines += [f"  {what if line is shown[0] else '':<18}{line}" for line in shown]
        return lines

    def kept(self) -> dict[str, bool]:
        """Return the names that the layer itself keeps -> whether it is an array of floats."""
        case = make_case(self.cases[0])
        cache = case.cache()
        case.forward(cache)
        return {path: x.dtype.kind == "f" for path, x, _ in cache.walk() if "." not in path}

    def returns(self) -> list[str]:
        """Return the names of the gradients that backward must return."""
        return [f"d{name}" for name in make_case(self.cases[0]).float_inputs()]

    def judge(self, module: types.ModuleType, file: str, source: str) -> str:
        """Return a description of the first mistake; empty if there is none."""
        made = getattr(module, self.kind.__name__, None)
        if made is None or not hasattr(made, "backward"):
            return f"the file has no class {self.kind.__name__} with a method backward"
        kept = ", ".join(f'cache["{name}"]' for name in self.kept())  # by npgpt's forward: the user's may fail
        read = f"Read what forward kept: {kept or 'nothing'}"
        with _in_place_of(self.kind, made, self._returning_all):
            try:
                for name in self.cases:
                    case = make_case(name)
                    if says := never_called(case):
                        return says
                    report = check_case(case, until_wrong=True)
                    if not report.passed:
                        return described(report, case)
                    for law in laws_for(case):
                        try:
                            law(make_case(name))
                        except AssertionError as error:
                            states = (law.__doc__ or "").split("\n")[0]
                            here = f"Here {error}." if str(error) else ""
                            remedy = REMEDIES.get(law.__name__, "")
                            return filled(f"Every gradient is right, but a law is broken: {states}\n{here}\n{remedy}")
            except NotImplementedError as error:
                where = f"line {line_of(error, file)} raises NotImplementedError"
                return f"{self.kind.__name__}.backward is not written yet: {where}"
            except _WrongReturnError as error:
                return str(error)
            except Exception as error:
                return f"{told(error, file, source)}\n{filled(self._advice(error, file, source, read))}".rstrip()
        return ""

    def _returning_all(self, backward: Callable[..., Any]) -> Callable[..., Any]:
        """Return the user's backward, which now raises unless it returns an array for each float input."""
        names = self.returns()
        ends = f"End it with:  return {', '.join(names)}" if names else "The layer has no float input: return nothing."

        @functools.wraps(backward)
        def checked(layer: Any, dy: Any, cache: Any) -> Any:
            returned = backward(layer, dy, cache)
            grads = () if returned is None else returned if isinstance(returned, tuple) else (returned,)
            if len(grads) == len(names) and all(isinstance(grad, np.ndarray) for grad in grads):
                return returned
            came = ", ".join(str(np.shape(g)) if isinstance(g, np.ndarray) else type(g).__name__ for g in grads)
            what = {0: "nothing (None)", 1: f"one value, {came}"}.get(len(grads), f"{len(grads)} values, {came}")
            expected = ", ".join(names) or "nothing"
            raise _WrongReturnError(f"{self.kind.__name__}.backward returned {what}, expected {expected}.\n{ends}")

        return checked

    def _advice(self, error: Exception, file: str, source: str, read: str) -> str:
        """Return what to do about an exception; empty if its cause is not clear."""
        frames = own_frames(error, file)
        of_forward = self.kind.forward.__code__.co_varnames
        by_name = isinstance(error, NameError) or (
            isinstance(error, AttributeError) and isinstance(error.obj, self.kind)
        )
        if by_name and getattr(error, "name", "") in of_forward:
            return f"That name belongs to forward. {read}."
        if isinstance(error, AttributeError) and isinstance(error.obj, Param):
            return "A Param holds two arrays: its numbers, .value, and their gradient, .grad."
        if isinstance(error, KeyError) and "was not kept" in str(error):
            scopes = ", ".join(make_case(self.cases[0]).layer.children())
            return f"{read}." + (f" A sub-layer gets the scope that its forward got: {scopes}." if scopes else "")
        if frames and isinstance(error, ValueError):
            for text, value in values_in_line(*frames[-1], source):
                if text.endswith(".T") and isinstance(value, np.ndarray) and value.ndim > 2:
                    return f"{text} reverses all {value.ndim} axes: use swapaxes(-1, -2), or an array of two axes."
        return ""


@contextmanager
def _in_place_of(kind: Any, made: Any, checked: Callable[[Any], Any]) -> Iterator[None]:
    """Give npgpt's class the user's methods within a ``with`` block, so that layers that contain it use them too."""
    methods = {name: part for name, part in vars(made).items() if inspect.isfunction(part) and name[:2] != "__"}
    methods["backward"] = checked(made.backward)
    ours = {name: vars(kind)[name] for name in methods if name in vars(kind)}
    try:
        for name, method in methods.items():
            setattr(kind, name, method)
        yield
    finally:
        for name in methods:
            if name in ours:
                setattr(kind, name, ours[name])
            else:
                delattr(kind, name)


def _narrow(step: str) -> str:
    """Return a step of a derivation in lines that fit a narrow terminal: what follows from it gets its own line."""
    if max(map(len, step.splitlines())) <= WIDTH:
        return step
    step = re.sub(r"\s+⇒ ", "\n   ⇒ ", step)
    step = re.sub(r"(?<=[^\s,]) {4,}", "  →  ", step)
    wrap = functools.partial(textwrap.wrap, width=WIDTH, break_on_hyphens=False)
    lines = [(line, " " * (len(line) - len(line.lstrip()) + 3)) for line in step.splitlines()]
    return "\n".join(part for line, indent in lines for part in wrap(line, subsequent_indent=indent))


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
