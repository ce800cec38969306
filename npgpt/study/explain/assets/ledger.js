// One cell as a sum of terms, and whether the sum is the number that Python stored.

const TOLERANCE = 1e-12; // of the sum of all |terms|: rounding is below it, a changed operand is not

// The tape runs a forward pass of its own, whose roundings differ from those of the stored numbers.
const TAPE_TOLERANCE = 1e-9;

function agrees(sum, right, size, tolerance = TOLERANCE) {
  if (Number.isNaN(sum) || Number.isNaN(right)) return Number.isNaN(sum) && Number.isNaN(right);
  const scale = Number.isFinite(size) ? size : 0; // of overflowing terms, only equal numbers agree
  return sum === right || Math.abs(sum - right) <= tolerance * (scale + Math.abs(right)) + 1e-300;
}

// The terms of a gradient: slope times the gradient of a cell that is fed.
// The tape's edges are used where the page carries them; the rules of the operations elsewhere.
function gradientLedger(page, tensor, flat) {
  const byRule = tensor.users.length > 0 && tensor.users.every(canSendBack);
  const edges = page.edges ? page.edges.of(tensor, flat) : null;
  if (!edges && !byRule) return null;
  const terms = new Map();
  const add = (to, cell, slope, operation, factors, scale = 0) => {
    const key = `${to.number},${cell}`, known = terms.get(key);
    if (known) known.slope += slope, known.scale += Math.abs(slope) + scale, known.with.push(...factors);
    else terms.set(key, { to, flat: cell, slope, scale: Math.abs(slope) + scale, operation, with: [...factors] });
  };
  if (byRule) {
    for (const operation of tensor.users) {
      for (const fed of feeds(operation, tensor, flat)) {
        add(operation.out.tensor, fed.to, fed.slope, operation, fed.with, fed.scale);
      }
    }
  }
  let apart = 0; // between the tape's slopes and those of the rules, over the numbers that each slope is made from
  if (edges) {
    const ruled = new Map(terms);
    terms.clear();
    for (const { to, flat: cell, slope } of edges) {
      const rule = ruled.get(`${to.number},${cell}`);
      const off = Math.abs(slope - (rule ? rule.slope : 0));
      if (byRule && off > 0) apart = Math.max(apart, off / (Math.abs(slope) + (rule ? rule.scale : 0)));
      add(to, cell, slope, rule ? rule.operation : null, rule ? rule.with : [], rule ? rule.scale : 0);
    }
  }
  const list = [...terms.values()].map((term) => ({ ...term, grad: gradientOf(term.to)[term.flat] }));
  for (const term of list) term.share = term.slope * term.grad;
  const own = gradientOf(tensor), size = list.reduce((total, term) => total + term.scale * Math.abs(term.grad), 0);
  return closed(list, own === null ? null : own[flat], (sum) => sum, {
    size,
    tolerance: edges ? TAPE_TOLERANCE : TOLERANCE,
    proof: edges ? (byRule ? "tape and rules" : "tape") : "rules",
    apart,
    isFormed: tensor.grad === null,
  });
}

function valueLedger(tensor, flat) {
  if (!tensor.makers.every(isReady)) return null;
  const made = madeOf(tensor, flat);
  if (!made) return null;
  const terms = made.terms.map((term) => ({ ...term, operation: made.operation }));
  return closed(terms, tensor.value[flat], made.closing, {
    formula: made.formula,
    size: made.size,
    proof: "rules",
    apart: 0,
  });
}

function closed(terms, right, closing, more) {
  const sum = terms.reduce((total, term) => total + term.share, 0);
  const size = terms.reduce((total, term) => total + Math.abs(term.share), 0);
  const result = closing(sum), scale = more.size ?? size;
  terms.sort((a, b) => Math.abs(b.share) - Math.abs(a.share));
  const isRight = right === null || (agrees(result, right, scale, more.tolerance) && !(more.apart > TAPE_TOLERANCE));
  return { terms, sum, result, right, isRight, ...more };
}

// The tape's edges, by the cell that they start from
class Edges {
  constructor(data, tensors) {
    this.tensors = tensors;
    const read = (name) => unpack(data[name]);
    [this.to, this.at, this.slope] = [read("to"), read("at"), read("slope")];
    const of = read("of"), from = read("from");
    this.lists = new Map();
    of.forEach((number, edge) => {
      const key = number * 2 ** 32 + from[edge];
      if (!this.lists.has(key)) this.lists.set(key, []);
      this.lists.get(key).push(edge);
    });
  }
  of(tensor, flat) {
    const list = this.lists.get(tensor.number * 2 ** 32 + flat) ?? [];
    return list.map((edge) => ({ to: this.tensors.all[this.to[edge]], flat: this.at[edge], slope: this.slope[edge] }));
  }
}
