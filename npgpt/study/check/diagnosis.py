"""The diagnosis of a wrong gradient: a name if one is proven, else what is known about the wrong numbers.

Each question computes the gradient that a mistake *would* give, and compares it with the one that came. A name must
explain every number, under another upstream gradient and at other numbers, too. The most specific questions come first.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from npgpt.core import Array
from npgpt.study.check.evidence import Doctor, gradient_name
from npgpt.study.check.examples import one_example, some_examples
from npgpt.study.check.one_place import one_place
from npgpt.study.check.other_forwards import another_constant, another_epsilon, another_leaf, unmasked
from npgpt.study.check.questions import (
    Answer,
    another_upstream,
    factor,
    jacobian,
    lost_cells,
    lost_factor,
    masked_cells,
    moved,
    one_gradient,
    products,
    repeated_ids,
    rounded,
    row_sums,
    slope_elsewhere,
    swapped,
    upstream_ignored,
    zero,
)
from npgpt.study.check.whereabouts import beyond_a_size, facts, one_end, one_sign, rows_of_repeated_ids

MANY_WRONG = 8  # largest number of diagnosed tensors; the others are probably wrong because of these

FEW = 4  # numbers of a gradient that a factor must explain if it is seen in one pass only

# The kinds of diagnosis.
KINDS = (
    *("not noted", "shape", "infinite", "right", "zero", "sign", "factor", "upstream", "writes", "mask", "one example"),
    *("repeated ids", "swapped", "transposed", "lost factor", "lost term", "wrong operand", "order", "own position"),
    *("power", "float32", "epsilon", "constant", "sign of x", "size", "end", "unknown", "follows"),
)


Question = Callable[[Doctor, str, str, Array, Array], Answer | None]
QUESTIONS: tuple[Question, ...] = (
    *(zero, swapped, upstream_ignored, masked_cells, factor, rounded, another_upstream, one_example, repeated_ids),
    *(moved, one_place, one_end, one_sign, beyond_a_size, lost_cells, some_examples, one_gradient, lost_factor),
    *(row_sums, products, slope_elsewhere, jacobian, rows_of_repeated_ids),
)
OTHER_FORWARDS: tuple[Question, ...] = (another_leaf, another_epsilon, unmasked, another_constant)


def diagnose(doctor: Doctor, name: str, explained: bool = False) -> Answer:
    """Return the diagnosis of a tensor's gradient.

    Args
        explained: whether another tensor has been explained; then no other forward passes are tried, which take long.
    """
    g, e = doctor.got[name], doctor.truth.get(name)
    d = gradient_name(name.split(" ", 1)[1])
    if e is None:
        return Answer("unknown", f"no method computed the gradient of {name} cell by cell")
    if g.shape != e.shape:
        return Answer("shape", f"{d} has the shape {g.shape}, but {name} has {e.shape}")
    if np.isnan(g).all() and g.size:
        return Answer("not noted", f"backward gives no gradient of {name}: call cache.note() for it")
    if not np.isfinite(g).all():
        return Answer("infinite", f"{d} holds {int((~np.isfinite(g)).sum())} non-finite numbers")
    with np.errstate(all="ignore"):
        if doctor.same(g, e):
            return Answer("right", f"{d} is the true gradient to within {doctor.close:.0e}: the mistake is elsewhere")
        for question in (*QUESTIONS, *(() if explained else OTHER_FORWARDS)):
            answer = question(doctor, name, d, g, e)
            if answer is not None and (answer.sure or _holds_elsewhere(doctor, question, name, d, answer)):
                return answer
        return Answer(
            "unknown", f"{d} is wrong, and no usual mistake gives its numbers: {facts(doctor, name, d, g, e)}"
        )


def _holds_elsewhere(doctor: Doctor, question: Question, name: str, d: str, answer: Answer) -> bool:
    """Return whether a question has the same answer in the other passes.

    Without a tape there are none. Then a factor must fit several numbers: one number is the true one times something.
    """
    if not doctor.others and answer.kind in ("factor", "constant") and doctor.truth[name].size < FEW:
        return False
    for other in doctor.others:
        again = question(other, name, d, other.got[name], other.truth[name])
        if again is None or (again.kind, again.key or again.says) != (answer.kind, answer.key or answer.says):
            return False
    return True


def diagnose_all(doctor: Doctor, wrong: Sequence[str], until_explained: bool = False) -> Iterator[Answer]:
    """Yield a diagnosis of each wrong tensor, in order.

    Args
        wrong: tensors in the order of the backward pass: a later one may be wrong because of an earlier one.
        until_explained: stop the diagnosis after the first tensor that it explains.
    """
    explained = False
    for i, name in enumerate(wrong):
        if i >= MANY_WRONG or (until_explained and explained):
            yield Answer("follows", "also wrong, perhaps because of the mistakes above")
            continue
        answer = diagnose(doctor, name, explained)
        explained = explained or is_explanation(answer.kind)
        yield answer


def is_explanation(kind: str) -> bool:
    """Return whether a diagnosis names a mistake."""
    return kind not in ("unknown", "not noted", "right", "follows")
