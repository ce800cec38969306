// The page recomputes every tensor that it carries: values by the operations, gradients from those further on.

// Compare two arrays. ``size`` bounds the rounding of each number; ``covered`` tells which cells were computed: all but
// the masked scores, which are constants.
function compare(found, right, size, covered = null, tolerance = TOLERANCE) {
  let cells = 0, worst = 0, isRight = true;
  for (let i = 0; i < right.length; i++) {
    if (covered !== null && !covered[i]) continue;
    cells++;
    if (Object.is(found[i], right[i]) || found[i] === right[i]) continue;
    const apart = Math.abs(found[i] - right[i]);
    worst = Math.max(worst, apart / (1 + Math.abs(right[i])));
    if (!agrees(found[i], right[i], size[i], tolerance)) isRight = false;
  }
  return { cells, worst, isRight };
}

function proveValue(tensor) {
  if (!tensor.isCarried || !tensor.makers.length || !tensor.makers.every(isReady)) return null;
  const found = new Float64Array(tensor.size), size = new Float64Array(tensor.size);
  const covered = new Uint8Array(tensor.size);
  for (const operation of tensor.makers) {
    fill(operation.sizes, covered, operation.out, 1);
    evaluate(operation, found, stored, size);
  }
  return compare(found, tensor.value, size, covered);
}

function proveGradient(page, tensor) {
  if (!tensor.hasGradient || tensor.kind === "loss" || tensor.kind === "output") return null;
  const size = new Float64Array(tensor.size);
  if (!tensor.users.length || !tensor.users.every(canSendBack)) {
    return page.edges ? proveByTape(page, tensor, size) : null;
  }
  const found = new Float64Array(tensor.size);
  for (const operation of tensor.users) sendBack(operation, tensor, gradientOf(operation.out.tensor), found, size);
  if (tensor.grad === null) {
    tensor.formed = found;
    return tensor.sums ? compareSums(tensor, found, size) : null;
  }
  const result = compare(found, tensor.grad, size);
  if (!page.edges) return result;
  const tape = proveByTape(page, tensor, size);
  return { ...result, isRight: result.isRight && tape.isRight, worst: Math.max(result.worst, tape.worst) };
}

function proveByTape(page, tensor, size) {
  const found = new Float64Array(tensor.size);
  for (let flat = 0; flat < tensor.size; flat++) {
    for (const edge of page.edges.of(tensor, flat)) {
      found[flat] += edge.slope * gradientOf(edge.to)[edge.flat];
      size[flat] += Math.abs(edge.slope * gradientOf(edge.to)[edge.flat]);
    }
  }
  return compare(found, tensor.grad, size, null, TAPE_TOLERANCE);
}

// A weight's gradient is too large to carry: the sums of its rows and columns, of backward's own, check it.
function compareSums(tensor, found, size) {
  const rows = tensor.shape[0], columns = tensor.size / rows;
  const sums = [rows, columns].map((n) => new Float64Array(n)), sizes = [rows, columns].map((n) => new Float64Array(n));
  found.forEach((number, flat) => {
    const [row, column] = [Math.floor(flat / columns), flat % columns];
    sums[0][row] += number, sums[1][column] += number;
    sizes[0][row] += size[flat], sizes[1][column] += size[flat];
  });
  const results = tensor.sums.map((packed, axis) => compare(sums[axis], unpack(packed), sizes[axis]));
  return {
    cells: rows + columns,
    worst: Math.max(...results.map((r) => r.worst)),
    isRight: results.every((r) => r.isRight),
    areSums: true,
  };
}

// Prove all tensors, a few milliseconds at a time; ``told`` is called after each.
class Proof {
  constructor(page, told) {
    this.page = page;
    this.results = new Map(); // tensor -> {value, gradient}
    this.told = told;
  }
  get isDone() { return this.results.size === this.page.tensors.all.length; }
  get wrong() {
    const isWrong = ([, r]) => [r.value, r.gradient].some((one) => one && !one.isRight);
    return [...this.results].filter(isWrong).map(([tensor]) => tensor);
  }
  prove(tensor) {
    if (!this.results.has(tensor)) {
      this.results.set(tensor, { value: proveValue(tensor), gradient: proveGradient(this.page, tensor) });
    }
    return this.results.get(tensor);
  }
  start() {
    const waiting = [...this.page.tensors.all];
    const some = () => {
      const until = performance.now() + 12;
      while (waiting.length && performance.now() < until) this.prove(waiting.shift());
      this.told(this);
      if (waiting.length) setTimeout(some);
    };
    setTimeout(some);
  }
}
