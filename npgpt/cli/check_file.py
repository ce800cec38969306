"""``npgpt check FILE.py``: check the layers of a person's file, and write tests of them."""

import argparse
import contextlib
import dataclasses
import io
import json
import keyword
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from npgpt.cli.check_lines import code_of, head, last_line, objects, short, wrapped
from npgpt.cli.exit_codes import ExitCode
from npgpt.errors import ConfigError, DataError
from npgpt.study.check.building import Judged, NotBuilt, check_found
from npgpt.study.check.files import find_layers, load, module_name, pick, without_input
from npgpt.study.check.report import HEADER
from npgpt.study.check.verdict import UNDECIDED
from npgpt.support.files import write_atomically
from npgpt.support.terminal import escape_controls


def run_file(file: str, name: str, options: argparse.Namespace) -> ExitCode:
    path = Path(file)
    _refuse(path)
    tests = path.with_name(f"test_{path.stem}.py")
    if options.write and tests.exists():
        raise ConfigError(f"{tests} exists already; rename or remove it")
    if not options.json:
        print(f"running your code in {escape_controls(str(path), keep='')}", flush=True)
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        module = load(path)
    found = find_layers(module)
    if not found:
        wanted = "a class with forward and backward, or functions NAME_forward and NAME_backward"
        raise DataError(f"{path} holds no layer: {wanted}")
    chosen = pick(found, name, path) if name else found
    width = max(len(item.name) for item in chosen)
    judged, not_built = list[Judged](), list[NotBuilt]()
    if not options.json:
        print(HEADER if options.verbose else head(width))
    said = io.StringIO()
    for item in chosen:
        with contextlib.redirect_stdout(said), without_input(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # forward runs some hundred times
            result = check_found(item, module)
        if isinstance(result, NotBuilt):
            not_built.append(result)
        else:
            judged.append(result)
            if not options.json:
                print("\n".join(_lines(result, width, options.verbose)), flush=True)
    if options.json:
        print(json.dumps(_document(path, judged, not_built)))
    else:
        _say_rest(judged, not_built, bool(said.getvalue()))
    if options.write:
        print(_write(tests, judged, path), file=sys.stderr if options.json else sys.stdout)
    code = code_of([item.report for item in judged])
    return ExitCode.UNDECIDED if not_built and code == ExitCode.FINE else code


def _refuse(path: Path) -> None:
    """Refuse what is no file of Python."""
    if path.is_dir():
        files = sorted(escape_controls(file.name, keep="") for file in path.glob("*.py"))
        raise DataError(f"{path} is a folder; give one of its files: {', '.join(files) or 'it has no .py file'}")
    if not path.is_file():
        raise DataError(f"{path} is not a file")
    if path.suffix == ".ipynb":
        raise DataError(f"{path} is a notebook; save it as a .py file first: jupyter nbconvert --to script {path}")
    if path.suffix != ".py":
        raise DataError(f"{path} is no Python file; its name must end in .py")


def _lines(result: Judged, width: int, verbose: bool) -> list[str]:
    shown = result.report.text(heads=False).splitlines() if verbose else short(result.report, width)
    call = wrapped(f"run as {result.call}", "  ")
    unchecked = f"say it in Python: npgpt.gradcheck({result.given}, constants=...)" if result.report.unchecked else ""
    return [escape_controls(line) for line in [shown[0], *call, *shown[1:], *wrapped(unchecked, "  ")]]


def _say_rest(judged: Sequence[Judged], not_built: Sequence[NotBuilt], spoke: bool) -> None:
    """Print what could not be built, and the verdict on all."""
    for item in not_built:
        print(escape_controls("\n".join([*wrapped(f"NOT BUILT {item.name}: {item.why}", ""), "  to check it:"])))
        print(escape_controls("\n".join(f"    {line}" for line in item.lines)))
    if spoke:
        print("note: your layers print while they are checked; this is not shown")
    says = last_line([item.report for item in judged]) if judged else "nothing was checked"
    says += f"; NOT BUILT: {', '.join(item.name for item in not_built)}" * bool(not_built)
    print(escape_controls("\n".join(wrapped(says, ""))))


def _document(path: Path, judged: Sequence[Judged], not_built: Sequence[NotBuilt]) -> dict[str, object]:
    layers = [
        {
            "name": item.name,
            "verdict": item.report.verdict,
            "call": item.call,
            "checked": item.report.n_checked,
            "not_checked": item.report.unchecked,
            "undecided": {name: v.reason for name, v in item.report.verdicts.items() if v.state == UNDECIDED},
            "checks": objects(item.report),
        }
        for item in judged
    ]
    return {"file": str(path), "layers": layers, "not_built": [dataclasses.asdict(item) for item in not_built]}


def _write(tests: Path, judged: Sequence[Judged], path: Path) -> str:
    """Write a test of each layer that was checked; return the line that says so."""
    if not judged:
        raise ConfigError(f"{tests} is not written: no layer of {path} was checked")
    if "." in path.stem:
        raise ConfigError(f"{tests} is not written: Python cannot import {path.name}; take the dots out of its name")
    name, names = module_name(path), list(dict.fromkeys(name for item in judged for name in item.names))
    kit = "from npgpt.testing import parametrize_with_laws\n"
    if all(part.isidentifier() and not keyword.iskeyword(part) for part in name.split(".")):
        imports = f"import numpy as np\n{kit}\nfrom {name} import {', '.join(names)}\n"
    else:
        imports = f"import importlib\n\nimport numpy as np\n{kit}\n"
        imports += f"module = importlib.import_module({name!r})\n"
        imports += "".join(f"{each} = module.{each}\n" for each in names)
    parts = [f"{imports}\nrng = np.random.default_rng(0)\n"]
    parts += [f"\n@parametrize_with_laws({item.given})\ndef test_{item.name}(law):\n    law()\n" for item in judged]
    write_atomically(tests, "\n".join(parts).encode())
    shown, n = escape_controls(str(tests), keep=""), len(judged)
    return f"wrote {shown}: {n} layer{'s' * (n != 1)}; run it with: pytest {shown}"
