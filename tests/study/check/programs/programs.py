"""Random NumPy programs with right gradients, and the same programs with one planted mistake.

`make_program(seed)` gives a Program with `inputs`, `forward(*inputs)` and `backward(dy, *inputs)`; its backward is
right by construction.  `mutate(program, seed)` gives a copy whose backward has exactly one mistake.  Both depend on
the seed alone.
"""
from typing import NamedTuple

import numpy as np
from programs.array_operations import TABLE
from programs.mistakes import mutate
from programs.operations import Operation, collect, pick, rounded

__all__ = ["Program", "make_program", "mutate"]

NAMES = ("x", "w", "b")
MOST_STEPS = 12
MOST_CELLS = 400
LARGE, SMALL = 4.0, 0.05            # where the domain of an operation ends
MOVE = 2e-4                         # a move of all inputs by this share takes no value half the way to a kink
STEEP = 30.0                        # no value's relative change is greater than the inputs' by more than this factor
KINK = 1e-3                         # no value lies nearer to a kink than this share of the largest value
HEALTHY = 0.05                      # no denominator is smaller than this share of the largest value
FAR_APART = 30.0                    # sizes that differ by more are not joined without a division
GROUPS = {"one": [], "two": [], "kinks": []}
for row in TABLE.values():
    GROUPS["one" if row.operands == "one" else "two"].append(row)
    if row.plant:
        GROUPS["kinks"].append(row)


class Step(NamedTuple):
    """One operation on values with these numbers (the inputs come first, then the results of the steps)."""
    operation: Operation
    operands: tuple
    parameters: dict


def shown(parameter):
    """A parameter as short text."""
    if isinstance(parameter, np.ndarray):
        return str(parameter.astype(int).tolist()).replace(" ", "")
    return str(parameter)


class Program:
    """A forward pass, and a backward pass in reverse mode over the list of steps.

    inputs      dict of name -> array
    kinks       True where some inputs lie exactly at a kink; the backward then gives a one-sided derivative
    kink_cells  dict of name -> boolean array, True at the cells that lie at a kink or take part in a tie
    mistake     None, or the planted Mistake
    """

    def __init__(self, inputs, steps, kink_cells=None, mistake=None):
        self.inputs, self.steps, self.mistake = inputs, steps, mistake
        self.kink_cells = kink_cells or {}
        self.kinks = bool(self.kink_cells)

    def values(self, inputs):
        """The inputs and the result of each step."""
        values = list(inputs)
        for operation, operands, parameters in self.steps:
            values.append(operation.forward(*[values[i] for i in operands], **parameters))
        return values

    def forward(self, *inputs):
        """The result of the last step."""
        return self.values(inputs)[-1]

    def backward(self, dy, *inputs):
        """The gradients of sum(dy * forward(*inputs)) by the inputs."""
        values = self.values(inputs)
        gradients = [np.zeros(value.shape) for value in values]
        gradients[-1] += dy
        wrong = self.mistake.step if self.mistake else None
        for number in reversed(range(len(self.steps))):
            step, output = self.steps[number], number + len(inputs)
            arrays = [values[i] for i in step.operands]
            if number == wrong:
                parts = self.mistake.parts(step, gradients[output], values[output], arrays, values)
            else:
                terms = step.operation.terms(gradients[output], values[output], arrays, step.parameters)
                parts = [collect(each, array.shape) for each, array in zip(terms, arrays)]
            for i, part in zip(step.operands, parts):
                gradients[i] += part
        if self.mistake and wrong is None:
            gradients[self.mistake.position][...] = 0
        return tuple(gradients[:len(inputs)])

    def __str__(self):
        names = list(self.inputs) + [f"v{i + 1}" for i in range(len(self.steps))]
        lines = [f"{name}: shape {array.shape}, largest {np.abs(array).max():.3g}"
                 + (f", {self.kink_cells[name].sum()} cells at a kink" if name in self.kink_cells else "")
                 for name, array in self.inputs.items()]
        results = self.values(self.inputs.values())[len(self.inputs):]
        for number, (step, result) in enumerate(zip(self.steps, results)):
            inside = [names[i] for i in step.operands] + [f"{k}={shown(v)}" for k, v in step.parameters.items()]
            lines.append(f"v{number + 1} = {step.operation.name}({', '.join(inside)})  -> {result.shape}")
        if self.mistake:
            at = f"in v{self.mistake.step + 1}, " if self.mistake.step is not None else ""
            lines.append(f"mistake: {self.mistake.kind}, {at}operand {self.mistake.position}, {self.mistake.detail}")
        return "\n".join(lines)


# ---- drawing a program ---------------------------------------------------------------------------------------------

class Builder:
    """Draws one program; nodes are kept in the order of drawing, inputs among them, and numbered anew at the end."""

    def __init__(self, rng, scaled):
        self.rng, self.scaled = rng, scaled
        self.arrays, self.sizes, self.steps = [], [], []        # a step is None for an input
        self.most_inputs = pick(rng, (1, 2, 2, 3, 3))
        self.kink_cells = {}                                    # node -> boolean array

    def count(self):
        """How many steps there are."""
        return sum(step is not None for step in self.steps)

    def ends(self):
        """The nodes that nothing uses yet."""
        used = {i for step in self.steps if step for i in step.operands}
        return [i for i in range(len(self.steps)) if i not in used]

    def put(self, array, step=None):
        """Append a node, if its values are of moderate size."""
        size = float(np.abs(array).max())
        if not 1e-9 < size < 1e9 or array.size > MOST_CELLS or array.ndim > 4:
            return None
        self.arrays.append(array)
        self.sizes.append(size)
        self.steps.append(step)
        return len(self.steps) - 1

    def new_input(self, shape, scale=None):
        """A new input, or None where there are enough."""
        rng = self.rng
        if len(self.steps) - self.count() >= self.most_inputs:
            return None
        if scale is None:
            scale = 10 ** (12 * rng.random() - 6) if self.scaled else 0.5 + rng.random()
        array = rng.standard_normal(shape) if rng.random() < 0.8 else rng.random(shape) + 0.3
        return self.put(array * scale)

    def normalised(self, node):
        """The node divided by its size."""
        size = rounded(self.sizes[node])
        return self.put(self.arrays[node] / size, Step(TABLE["divide by constant"], (node,), {"size": size}))

    def fitted(self, operation, nodes):
        """The operands, divided by their size where the operation would overflow, saturate or lose digits."""
        sizes = [self.sizes[i] for i in nodes]
        apart = operation.alike and max(sizes) > FAR_APART * min(sizes)
        divided = {}
        for node, size, domain in zip(nodes, sizes, operation.domain):
            if apart or (domain != "any" and size > LARGE) or (domain == "moderate" and size < SMALL):
                divided[node] = divided.get(node) or self.normalised(node)
        return tuple(divided.get(i, i) for i in nodes)

    def apply(self, operation, nodes, limit=MOST_STEPS, parameters=None):
        """Append the operation if it fits and is well-behaved here; otherwise leave everything as it was."""
        mark = len(self.steps)
        planted = parameters is not None
        nodes = self.fitted(operation, nodes)
        if self.count() < limit and not (planted and len(self.steps) > mark):
            arrays = [self.arrays[i] for i in nodes]
            if not planted:
                parameters = operation.draw(self.rng, *arrays) if operation.draw else {}
            if parameters is not None:
                y = operation.forward(*arrays, **parameters)
                size = max(self.sizes[i] for i in nodes) if operation.alike else self.sizes[nodes[0]]
                least = operation.healthy(y, *arrays, **parameters).min() if operation.healthy else np.inf
                if (least > HEALTHY * size and self.clear(operation, arrays, parameters, size, planted)
                        and self.put(y, Step(operation, nodes, parameters)) is not None):
                    return True
        del self.arrays[mark:], self.sizes[mark:], self.steps[mark:]
        return False

    @staticmethod
    def clear(operation, arrays, parameters, size, planted):
        """Whether no value lies near a kink (planted ones, exactly at it, aside)."""
        if operation.kink is None:
            return True
        distances = np.abs(operation.kink(*arrays, **parameters))
        if planted:
            distances = distances[distances > 0]
        return distances.size == 0 or distances.min() >= KINK * size

    def fits(self, operation, node, other):
        """Whether the other node can be the second operand."""
        a, b = self.arrays[node].shape, self.arrays[other].shape
        if operation.operands == "broadcast":
            return len(b) <= len(a) and all(j in (1, i) for i, j in zip(a[::-1], b[::-1]))
        if operation.operands == "matmul":
            return len(b) == 2 and b[0] == a[-1]
        if operation.operands == "outer":
            return self.arrays[other].size <= 6
        return operation.operands == "free" or a == b

    def partner_shape(self, operation, shape):
        """The shape of a new input that can be the second operand."""
        rng = self.rng
        if operation.operands == "broadcast":
            return pick(rng, (shape, shape, shape[-1:], shape[-2:-1] + (1,), (1,) * (len(shape) - 1) + shape[-1:]))
        if operation.operands in ("matmul", "outer"):
            return shape[-1:] * (operation.operands == "matmul") + (1 + int(rng.random() * 6),)
        if operation.operands == "concatenate" and len(shape) > 1:
            axis = int(rng.random() * len(shape))
            return shape[:axis] + (1 + int(rng.random() * 4),) + shape[axis + 1:]
        return shape

    def grow(self, node, limit):
        """Try one random operation on the node; the second operand is a new input or any earlier value."""
        rng = self.rng
        if rng.random() < 0.65:
            return self.apply(pick(rng, GROUPS["one"]), (node,), limit)
        operation = pick(rng, GROUPS["two"])
        if operation.operands == "free" and rng.random() < 0.7:
            return False
        mark = len(self.steps)
        other = None
        if rng.random() < 0.75:
            other = self.new_input(self.partner_shape(operation, self.arrays[node].shape))
        if other is None:
            others = [i for i in range(mark) if self.fits(operation, node, i)]
            if not others:
                return False
            other = pick(rng, [i for i in others if i != node] or others)
        nodes = (other, node) if operation.operands == "broadcast" and rng.random() < 0.3 else (node, other)
        if self.apply(operation, nodes, limit):
            return True
        del self.arrays[mark:], self.sizes[mark:], self.steps[mark:]
        return False

    def join(self, first, second):
        """Join two branches by an operation of two arrays."""
        rows = GROUPS["two"]
        for number in self.rng.permutation(2 * len(rows)).tolist():
            operation, nodes = rows[number // 2], (first, second) if number % 2 else (second, first)
            if operation.operands != "free" and self.fits(operation, *nodes) and self.apply(operation, nodes):
                return True
        name = "times mean of other" if self.rng.random() < 0.5 else "concatenate flat"
        return self.apply(TABLE[name], (first, second)) or self.apply(TABLE["concatenate flat"], (first, second))

    def plant_kinks(self, node):
        """A first step with some inputs exactly at its kink."""
        rng, x = self.rng, self.arrays[node]
        operation = pick(rng, GROUPS["kinks"])
        parameters, nodes = operation.draw(rng, x) if operation.draw else {}, (node,)
        if parameters is None:
            return False
        cells = rng.random(x.shape) < 0.3
        cells.flat[int(rng.random() * x.size)] = True
        if operation.plant == "equal":
            self.most_inputs = max(2, self.most_inputs)
            other = self.new_input(x.shape, self.sizes[node] / 2)
            self.arrays[other][cells] = x[cells]
            self.sizes[other] = float(np.abs(self.arrays[other]).max())
            nodes = (node, other)
        elif operation.plant in ("greatest", "least"):
            axis, ends = parameters["axis"], (-1, -2) if operation.plant == "greatest" else (0, 1)
            order = np.argsort(x, axis=axis)
            top, next_to_top = (np.take(order, [end], axis) for end in ends)
            chosen = rng.random(top.shape) < 0.5
            chosen.flat[0] = True
            values = [np.take_along_axis(x, index, axis) for index in (top, next_to_top)]
            np.put_along_axis(x, next_to_top, np.where(chosen, *values), axis)
            cells = np.zeros(x.shape, dtype=bool)
            for index in (top, next_to_top):
                np.put_along_axis(cells, index, chosen, axis)
        else:
            x[cells] = operation.plant(parameters)
        self.sizes[node] = float(np.abs(x).max())
        self.kink_cells = {i: cells for i in nodes}
        return self.apply(operation, nodes, parameters=parameters)

    def build(self, length, kinks):
        """A program of about this many steps, or None."""
        rng = self.rng
        first = self.new_input(tuple(1 + int(rng.random() * 6) for _ in range(2 + int(rng.random() * 2))))
        if kinks and not self.plant_kinks(first):
            return None
        for _ in range(80):
            ends, count = self.ends(), self.count()
            if count >= length - (len(ends) - 1):
                break
            room = MOST_STEPS - count
            if len(ends) == 2 and (rng.random() < 0.4 or room <= 3):
                if not self.join(*ends):
                    return None
            elif len(ends) == 1 and rng.random() < 0.25 and room >= 5 and count:
                self.apply(pick(rng, GROUPS["one"]), (int(rng.random() * ends[0]),), MOST_STEPS - 4)
            else:
                self.grow(ends[-1], MOST_STEPS if len(ends) == 1 else MOST_STEPS - 3)
        ends = self.ends()
        if self.count() < 3 or len(ends) > 2 or (len(ends) == 2 and not self.join(*ends)):
            return None
        order = [i for i, step in enumerate(self.steps) if step is None]
        names = dict(zip(order, NAMES))
        order += [i for i, step in enumerate(self.steps) if step is not None]
        place = {node: number for number, node in enumerate(order)}
        steps = [step._replace(operands=tuple(place[i] for i in step.operands)) for step in self.steps if step]
        return Program({name: self.arrays[i] for i, name in names.items()}, steps,
                       {names[i]: cells for i, cells in self.kink_cells.items()})


def stays_clear(program, inputs, values, rng):
    """Whether a small move of the inputs changes no value much, and takes none half the way to a kink."""
    moved = program.values([x + MOVE * np.abs(x).max() * np.sign(rng.random(x.shape) - 0.5) for x in inputs])
    if any(np.abs(b - a).max() > STEEP * MOVE * np.abs(a).max() for a, b in zip(values, moved)):
        return False
    for operation, operands, parameters in program.steps:
        if operation.kink:
            before = operation.kink(*[values[i] for i in operands], **parameters)
            after = operation.kink(*[moved[i] for i in operands], **parameters)
            if (np.abs(after - before) > 0.5 * np.abs(before))[before != 0].any():
                return False
    return True


def is_sound(program, rng):
    """Whether each input has a gradient of ordinary size or none, at least one has one, and kinks are far away."""
    inputs = program.inputs.values()
    values = program.values(inputs)
    if not stays_clear(program, inputs, values, rng):
        return False
    y = values[-1]
    zero = None
    for _ in range(3):
        dy = rng.standard_normal(y.shape)
        unit = np.linalg.norm(dy) * np.abs(y).max()
        shares = [np.linalg.norm(gradient) * np.abs(x).max() / unit
                  for gradient, x in zip(program.backward(dy, *inputs), inputs)]
        if not any(shares) or not all(share == 0 or 1e-3 < share < 1e3 for share in shares):
            return False
        if all(shares) and not zero:
            return True
        if zero not in (None, [share == 0 for share in shares]):
            return False                # a zero by chance, where terms that cancel left no rounding error
        zero = [share == 0 for share in shares]
    return True


def make_program(seed):
    """The program of this seed."""
    rng = np.random.default_rng(seed)
    kinks, scaled, length = rng.random() < 1 / 8, rng.random() < 1 / 3, 3 + int(rng.random() * 10)
    while True:
        with np.errstate(all="ignore"):
            program = Builder(rng, scaled).build(length, kinks)
            if program is not None and is_sound(program, rng):
                return program
