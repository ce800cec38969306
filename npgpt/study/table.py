"""The table of layers in examples/README.md, made from the code: ``python -m npgpt.study.table``."""

import inspect
from pathlib import Path

import npgpt.layers as layers
from npgpt.core import Layer
from npgpt.model import GPT
from npgpt.study.check import CASES
from npgpt.study.exercises import EXERCISES, LayerExercise
from npgpt.study.mutants import MUTANTS

HEADER = "| layer | derivation | checked as | planted mistakes, all killed | exercise |\n|---|---|---|---|---|"


def table() -> str:
    """Return Markdown: layer, file of its derivation, cases of the checker, mutants, exercise."""
    kinds = [kind for kind in vars(layers).values() if isinstance(kind, type) and issubclass(kind, Layer)]
    return "\n".join([HEADER, *(_row(kind) for kind in [*kinds, GPT])])


def _row(kind: type[Layer]) -> str:
    package = Path(__file__).resolve().parents[1]
    file = Path(inspect.getsourcefile(kind) or "").resolve().relative_to(package)
    name = kind.__name__
    cases = [case for case in CASES if case == name or case.startswith(f"{name}-")]
    mutants = [mutant for mutant in MUTANTS if f":{name}." in mutant.target]
    compiled = sum(mutant.compiled for mutant in mutants)
    exercise = next((e.name for e in EXERCISES.values() if isinstance(e, LayerExercise) and e.kind is kind), "")
    says = f"{len(mutants)}" + (f" ({compiled} of them compiled)" if compiled else "")
    example = f", for example “{mutants[0].says}”" if mutants else ""
    link = f"[{file.name}](../npgpt/{file.as_posix()})"
    return f"| `{name}` | {link} | {', '.join(cases)} | {says}{example} | {f'`{exercise}`' if exercise else ''} |"


if __name__ == "__main__":
    print(table())
