"""Programs with exactly one mistake in the backward pass."""
import numpy as np
from programs.operations import collect, pick

KINDS = ("dropped term", "wrong sign", "wrong factor", "forgotten branch", "transposed", "rolled",
         "mean instead of sum", "wrong value", "zero gradient", "inverted mask", "off by one", "one cell wrong")
FACTORS = (2.0, 0.5, 1.01, 1 + 1e-4)
LEAST = 2e-5                        # a mistake changes some gradient by this share of it, for each of three random dy
ATTEMPTS = 30


class Mistake:
    """One mistake.

    kind      one of KINDS
    step      the number of the step whose backward is wrong; None for the zero gradient of an input
    position  which operand of the step (or which input)
    detail    what the kind needs: number of the term, factor, axis, cell ...
    """

    def __init__(self, kind, step, position, detail=None):
        self.kind, self.step, self.position, self.detail = kind, step, position, detail

    def parts(self, step, dy, y, arrays, values):
        """The gradients of the step's operands, one of them wrong."""
        kind, position, detail = self.kind, self.position, self.detail
        parameters, looked_at = step.parameters, list(arrays)
        if kind == "off by one":
            parameters = detail
        if kind == "wrong value" and position == "output":
            y = values[detail]
        elif kind == "wrong value":
            looked_at[position] = np.roll(arrays[position], 1) if detail == "rolled" else values[detail]
        terms = step.operation.terms(dy, y, looked_at, parameters, inverted=kind == "inverted mask")
        if kind == "dropped term":
            del terms[position][detail]
        if kind in ("wrong sign", "wrong factor"):
            number, factor = detail
            terms[position] = [factor * term if number in (None, i) else term for i, term in enumerate(terms[position])]
        parts = [collect(each, array.shape, np.mean if (kind, i) == ("mean instead of sum", position) else np.sum)
                 for i, (each, array) in enumerate(zip(terms, arrays))]
        if kind == "forgotten branch":
            parts[position] = np.zeros_like(parts[position])
        elif kind == "transposed":
            parts[position] = np.swapaxes(parts[position], -1, -2).reshape(parts[position].shape)
        elif kind == "rolled":
            parts[position] = np.roll(parts[position], 1, axis=detail)
        elif kind == "one cell wrong":
            cell, change = detail
            parts[position] = np.array(parts[position])
            parts[position].flat[cell] *= change
        return parts


def place(kind, program, values, rng):
    """A mistake of this kind somewhere in the program, or None where there is no room for it."""
    count = len(program.inputs)
    if kind == "zero gradient":
        return Mistake(kind, None, int(rng.random() * count))
    uses = np.bincount([i for step in program.steps for i in step.operands])
    for number in rng.permutation(len(program.steps)).tolist():
        operation, operands, parameters = program.steps[number]
        position = int(rng.random() * len(operands))
        arrays, y = [values[i] for i in operands], values[count + number]
        x, detail = arrays[position], None
        if kind in ("dropped term", "wrong sign", "wrong factor", "mean instead of sum"):
            terms = operation.terms(np.ones(y.shape), y, arrays, parameters)[position]
            one = int(rng.random() * len(terms)) if len(terms) > 1 else None
            if kind == "dropped term":
                detail = one
            elif kind == "mean instead of sum":
                detail = "over the broadcast axes" if terms[0].shape != x.shape else None
            else:
                number_of_term = one if rng.random() < 0.5 else None
                detail = (number_of_term, -1.0 if kind == "wrong sign" else pick(rng, FACTORS))
        elif kind == "forgotten branch":
            detail = f"one of {uses[operands[position]]} uses" if uses[operands[position]] > 1 else None
        elif kind == "transposed":
            detail = "the last two axes" if x.ndim > 1 and min(x.shape[-2:]) > 1 else None
        elif kind == "rolled":
            axes = [axis for axis, length in enumerate(x.shape) if length > 1]
            detail = pick(rng, axes) if axes else None
        elif kind == "wrong value":
            if rng.random() < 0.3:
                position, x = "output", y
            right = count + number if position == "output" else operands[position]
            others = [i for i, value in enumerate(values) if value.shape == x.shape and i != right]
            others += ["rolled"] if position != "output" and x.size > 1 else []
            detail = pick(rng, others) if others else None
        elif kind == "inverted mask":
            detail = "everywhere" if operation.mask else None
        elif kind == "off by one":
            detail = operation.shifted(x, parameters) if operation.shifted else None
        elif kind == "one cell wrong":
            detail = (int(rng.random() * x.size), pick(rng, (0.0, -1.0, 2.0, 0.9, 1.01)))
        if detail is not None:
            return Mistake(kind, number, position, detail)
    return None


def differs(right, wrong, program):
    """Whether some gradient is clearly wrong; cells at a kink, where more than one value is right, do not count."""
    for name, a, b in zip(program.inputs, right, wrong):
        difference = a - b
        if name in program.kink_cells:
            difference[program.kink_cells[name]] = 0
        size = np.linalg.norm(difference)
        if not np.isfinite(b).all():
            return False
        if size > 0 and size >= LEAST * np.linalg.norm(a):
            return True
    return False


def mutate(program, seed):
    """A copy of the program with one mistake in its backward, or None if none is found that makes a difference."""
    rng = np.random.default_rng(seed)
    inputs = list(program.inputs.values())
    values = program.values(inputs)
    gradients_of_output = [rng.standard_normal(values[-1].shape) for _ in range(3)]
    right = [program.backward(dy, *inputs) for dy in gradients_of_output]
    for _ in range(ATTEMPTS):
        mistake = place(pick(rng, KINDS), program, values, rng)
        if mistake is None:
            continue
        wrong = type(program)(program.inputs, program.steps, program.kink_cells, mistake)
        with np.errstate(all="ignore"):
            if all(differs(gradients, wrong.backward(dy, *inputs), program)
                   for gradients, dy in zip(right, gradients_of_output)):
                return wrong
    return None
