"""Random mutants: a random change to the syntax tree of a random backward pass.

A change adds a constant factor, adds or removes a transpose, drops a term, or replaces an operand by another. A mutant
that does not run, or that changes no gradient, is discarded and drawn again. So every mutant has a wrong gradient.
"""

import ast
import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npgpt.errors import NpgptError
from npgpt.study.check.cases import make_case
from npgpt.study.check.checker import upstream
from npgpt.study.check.subjects import LayerSubject
from npgpt.study.mutants.plant import replaced, source_of
from npgpt.study.mutants.verdict import Verdict, judge

# target -> case
TARGETS = {
    "npgpt.layers.layernorm:LayerNorm.backward": "LayerNorm",
    "npgpt.layers.attention:Softmax.backward": "Softmax",
    "npgpt.layers.attention:Scores.backward": "Scores",
    "npgpt.layers.attention:Mixing.backward": "Mixing",
    "npgpt.layers.attention:Attention.backward": "Attention",
    "npgpt.layers.linear:Linear.backward": "Linear",
    "npgpt.layers.embedding:Embedding.backward": "Embedding",
    "npgpt.layers.positions:LearnedPositions.backward": "LearnedPositions",
    "npgpt.layers.dropout:Dropout.backward": "Dropout",
    "npgpt.layers.activations:TanhGELU.backward": "TanhGELU",
    "npgpt.layers.activations:ReLU.backward": "ReLU",
    "npgpt.layers.head:VocabularyHead.backward": "VocabularyHead",
    "npgpt.layers.loss:CrossEntropy.backward": "CrossEntropy",
    "npgpt.layers.mlp:MLP.backward": "MLP",
    "npgpt.layers.block:Block.backward": "Block",
}


def generated(n: int, seed: int = 0, until_killed: bool = False) -> Iterator[Verdict]:
    """Yield the verdicts on n random mutants, as ``try_mutant`` gives them."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while n:
        target = rng.choice(list(TARGETS))
        what = rng.choice(list(CHANGES))
        change, names = CHANGES[what]
        changed = change(ast.parse(source_of(target)), rng)
        source = ast.unparse(changed) if changed else ""
        if not source or source in seen or not _is_wrong(target, source):
            continue
        seen.add(source)
        n -= 1
        with replaced(target, source):
            killed_by, kind, says = judge(TARGETS[target], until_killed=until_killed)
        name = f"{what}-{len(seen)}-in-{target.partition(':')[2]}"
        yield Verdict(name, _difference(target, source), killed_by, says, kind in names, held_out=True)


def _is_wrong(target: str, source: str) -> bool:
    """Return whether this source runs and gives other gradients than the right one."""
    subject = LayerSubject(make_case(TARGETS[target]))
    dy = upstream(subject.forward({}))
    right = subject.gradients(dy.copy())
    with replaced(target, source), np.errstate(all="ignore"):
        try:
            got = subject.gradients(dy.copy())
        except (ValueError, IndexError, TypeError, KeyError, AttributeError, UnboundLocalError, NpgptError):
            return False
    same = (got[n].shape == right[n].shape and np.allclose(got[n], right[n], 1e-6, 1e-12, True) for n in right)
    return not all(same)


def _difference(target: str, source: str) -> str:
    right = ast.unparse(ast.parse(source_of(target))).splitlines()
    return "; ".join(line.strip() for line in source.splitlines() if line not in right)


def _some(tree: ast.AST, rng: random.Random, wanted: Callable[[ast.AST], bool]) -> Any:
    """Return a random node of a backward pass that fits; None if there is none."""
    nodes = [node for node in ast.walk(tree) if wanted(node)]
    return rng.choice(nodes) if nodes else None


def _put(tree: ast.AST, old: ast.AST, new: ast.AST) -> ast.AST:
    class Put(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            return new if node is old else self.generic_visit(node)

    changed: ast.AST = ast.fix_missing_locations(Put().visit(tree))
    return changed


def _operation(tree: ast.AST, rng: random.Random, *kinds: type[ast.operator]) -> Any:
    return _some(tree, rng, lambda node: isinstance(node, ast.BinOp) and isinstance(node.op, kinds))


def _times_a_constant(tree: ast.AST, rng: random.Random) -> ast.AST | None:
    node = _operation(tree, rng, ast.Mult, ast.MatMult, ast.Add, ast.Sub)
    if node is None:
        return None
    factor = rng.choice([-1.0, 2.0, 0.5, round(rng.uniform(0.2, 3.0), 3)])
    return _put(tree, node, ast.BinOp(copy.deepcopy(node), ast.Mult(), ast.Constant(factor)))


def _transposed(tree: ast.AST, rng: random.Random) -> ast.AST | None:
    turned: list[tuple[ast.AST, ast.AST]] = []  # (a transposed node, its operand)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "T":
            turned.append((node, node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "swapaxes":
            turned.append((node, node.func.value))
    if turned and rng.random() < 0.5:
        return _put(tree, *rng.choice(turned))
    product = _operation(tree, rng, ast.MatMult)
    if product is None:
        return None
    side = rng.choice([product.left, product.right])
    call = ast.parse(f"({ast.unparse(side)}).swapaxes(-1, -2)", mode="eval").body
    return _put(tree, side, call)


def _dropped(tree: ast.AST, rng: random.Random) -> ast.AST | None:
    node = _operation(tree, rng, ast.Add, ast.Sub)
    return _put(tree, node, rng.choice([node.left, node.right])) if node else None


def _swapped(tree: ast.AST, rng: random.Random) -> ast.AST | None:
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    stored |= {argument.arg for n in ast.walk(tree) if isinstance(n, ast.arguments) for argument in n.args}
    stored -= {"self", "cache", "rows", "name", "d", "count", "counted", "targets", "ids"}
    node = _some(tree, rng, lambda n: isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and n.id in stored)
    others = sorted(stored - {node.id}) if node else []
    return _put(tree, node, ast.Name(rng.choice(others), ast.Load())) if others else None


# name of a change -> its function, and the kinds that a diagnosis may give
CHANGES: dict[str, tuple[Callable[[ast.AST, random.Random], ast.AST | None], tuple[str, ...]]] = {
    "factor": (_times_a_constant, ("factor", "sign")),
    "transpose": (_transposed, ("transposed",)),
    "drop": (_dropped, ("lost term", "zero", "factor")),  # a term dropped from 1 − p is a factor
    "swap": (_swapped, ("wrong operand", "swapped", "lost factor", "upstream")),  # w for dw: does not scale with dy
}
