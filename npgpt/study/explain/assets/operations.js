// The operations of a pass: which cells a cell was computed from, and which it feeds, with the local slope.
// rules.py says what an operation and a view are.

const SQRT_2_OVER_PI = Math.sqrt(2 / Math.PI);

// erf x = 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1)/(1·3·5···(2n+1)): all terms have the sign of x
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; n < 150; n++) sum += term *= (2 * x * x) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const FUNCTIONS = {
  tanh_gelu: {
    text: "tanh(√(2/π)·(x + 0.044715·x³))",
    of: (x) => Math.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)),
    slope: (x, y) => (1 - y * y) * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x),
  },
  gelu_cdf: {
    text: "Φ(x), the normal distribution",
    of: (x) => 0.5 * (1 + erf(x / Math.SQRT2)),
    slope: (x) => Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI),
  },
  relu: { text: "max(x, 0)", of: (x) => (x > 0 ? x : 0), slope: (x) => (x > 0 ? 1 : 0) },
};

function readOperations(list, tensors) {
  const view = ([number, offset, strides]) => ({ tensor: tensors.all[number], offset, strides });
  return list.map((data) => {
    const operation = {
      ...data,
      out: view(data.out),
      ins: data.ins.map(view),
      products: data.products.map(([scale, factors]) => ({ scale, factors: factors.map(view) })),
    };
    const factors = operation.products.flatMap((p) => p.factors);
    operation.operands = [...new Set([...operation.ins, ...factors].map((v) => v.tensor))];
    operation.out.tensor.makers.push(operation);
    for (const tensor of operation.operands) tensor.users.push(operation);
    return operation;
  });
}

// The place of a view's cell, given the index of each letter
function place(view, at) {
  let found = view.offset;
  for (const letter in view.strides) found += view.strides[letter] * at[letter];
  return found;
}

// All indices of a view's letters that lead to a place of the flat tensor. Most views have one; where two letters share
// cells, as distances of positions do, there are several.
function solve(view, sizes, flat) {
  const letters = Object.keys(view.strides).sort((a, b) => Math.abs(view.strides[b]) - Math.abs(view.strides[a]));
  const low = [0], high = [0]; // what the letters from k on can add
  for (let k = letters.length - 1; k >= 0; k--) {
    const reach = view.strides[letters[k]] * (sizes[letters[k]] - 1);
    low.unshift(low[0] + Math.min(0, reach));
    high.unshift(high[0] + Math.max(0, reach));
  }
  const found = [], at = {};
  const step = (k, rest) => {
    if (k === letters.length) return rest === 0 ? found.push({ ...at }) : 0;
    const stride = view.strides[letters[k]];
    const ends = [(rest - low[k + 1]) / stride, (rest - high[k + 1]) / stride].sort((a, b) => a - b);
    const last = Math.min(sizes[letters[k]] - 1, Math.floor(ends[1]));
    for (let i = Math.max(0, Math.ceil(ends[0])); i <= last; i++) {
      at[letters[k]] = i;
      step(k + 1, rest - stride * i);
    }
    return delete at[letters[k]];
  };
  step(0, flat - view.offset);
  return found;
}

// Every way to give the letters of these views an index, where ``at`` fixes some of them
function* assignments(views, sizes, at) {
  const free = [...new Set(views.flatMap((view) => Object.keys(view.strides)))].filter((letter) => !(letter in at));
  const full = { ...at };
  function* step(k) {
    if (k === free.length) { yield full; return; }
    for (full[free[k]] = 0; full[free[k]] < sizes[free[k]]; full[free[k]]++) yield* step(k + 1);
  }
  yield* step(0);
}

function rowOf(operation, at) {
  const view = operation.ins[0], n = operation.sizes[operation.along], places = [];
  for (let k = 0; k < n; k++) places.push(place(view, { ...at, [operation.along]: k }));
  return places;
}

// A loop: an array of a large vocabulary is too long for the arguments of Math.max
const maximum = (numbers) => numbers.reduce((most, x) => Math.max(most, x), -Infinity);
const mean = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;

// The cells that a cell feeds through one operation: [{to, slope, with, scale}]: ``with`` the factors that make the
// slope, ``scale`` the size of the numbers whose difference it is, for its rounding.
function feeds(operation, tensor, flat) {
  const { kind, sizes, out, ins, along } = operation, found = [];
  if (kind === "products") {
    for (const { scale, factors } of operation.products) {
      factors.forEach((view, k) => {
        if (view.tensor !== tensor) return;
        const other = factors[1 - k];
        for (const at of solve(view, sizes, flat)) {
          for (const full of assignments(other ? [out, other] : [out], sizes, at)) {
            const by = other ? place(other, full) : -1;
            const slope = other ? scale * other.tensor.value[by] : scale;
            found.push({ to: place(out, full), slope, with: other ? [{ tensor: other.tensor, flat: by }] : [] });
          }
        }
      });
    }
    return found;
  }
  const y = out.tensor.value;
  if (kind in FUNCTIONS) {
    for (const at of solve(ins[0], sizes, flat)) {
      const to = place(out, at);
      const x = tensor.value[flat];
      found.push({ to, slope: FUNCTIONS[kind].slope(x, y[to]), scale: 1 + x * x, with: [{ tensor, flat }] });
    }
    return found;
  }
  if (kind === "xhat" && tensor === ins[1].tensor) { // through the reciprocal standard deviation
    for (const at of solve(ins[1], sizes, flat)) {
      const places = rowOf(operation, at), x = places.map((p) => ins[0].tensor.value[p]), middle = mean(x);
      x.forEach((number, n) => found.push({
        to: place(out, { ...at, [along]: n }),
        slope: number - middle,
        scale: Math.abs(number) + Math.abs(middle),
        with: [{ tensor: ins[0].tensor, flat: places[n] }],
      }));
    }
    return found;
  }
  for (const at of solve(ins[0], sizes, flat)) {
    const k = at[along], places = rowOf(operation, at);
    if (kind === "rstd") {
      const to = place(out, at), middle = mean(places.map((p) => tensor.value[p]));
      const x = tensor.value[flat], n = places.length;
      found.push({
        to,
        slope: (-(y[to] ** 3) * (x - middle)) / n,
        scale: (y[to] ** 3 * (Math.abs(x) + Math.abs(middle))) / n,
        with: [{ tensor, flat }],
      });
      continue;
    }
    const own = y[place(out, at)];
    for (let n = 0; n < places.length; n++) {
      const to = place(out, { ...at, [along]: n }), same = n === k ? 1 : 0;
      if (kind === "xhat") {
        const r = place(ins[1], at), rstd = ins[1].tensor.value[r];
        found.push({
          to,
          slope: rstd * (same - 1 / places.length),
          scale: rstd,
          with: [{ tensor: ins[1].tensor, flat: r }],
        });
      } else {
        const slope = kind === "softmax" ? y[to] * (same - own) : same - Math.exp(own);
        const far = same + Math.abs(own) * Math.exp(kind === "softmax" ? 0 : own); // e^ℓ is off by |ℓ| roundings
        found.push({
          to,
          slope,
          scale: kind === "softmax" ? y[to] : far,
          with: [{ tensor: out.tensor, flat: place(out, at) }],
        });
      }
    }
  }
  return found;
}

// What a cell was computed from: terms, and how their sum becomes the value. null for an input or a constant.
function madeOf(tensor, flat) {
  for (const operation of tensor.makers) {
    const { kind, sizes, out, ins, along, eps } = operation;
    const [at] = solve(out, sizes, flat);
    if (!at) continue;
    const identity = { operation, closing: (sum) => sum, formula: "" };
    if (kind === "products") {
      const terms = [];
      for (const { scale, factors } of operation.products) {
        for (const full of assignments(factors, sizes, at)) {
          const cells = factors.map((view) => ({ tensor: view.tensor, flat: place(view, full) }));
          terms.push({ share: cells.reduce((product, c) => product * c.tensor.value[c.flat], scale), scale, cells });
        }
      }
      return { ...identity, terms };
    }
    const x = ins[0].tensor.value, cellOf = (p) => [{ tensor: ins[0].tensor, flat: p }];
    if (kind in FUNCTIONS) {
      const from = place(ins[0], at), f = FUNCTIONS[kind];
      return {
        operation,
        terms: [{ share: x[from], scale: 1, cells: cellOf(from) }],
        closing: f.of,
        formula: f.text,
        size: 1 + Math.abs(x[from]),
      };
    }
    const places = rowOf(operation, at), row = places.map((p) => x[p]), far = 1 + greatest(row);
    if (kind === "rstd") {
      const middle = mean(row), share = (number) => (number - middle) ** 2 / row.length;
      const terms = row.map((number, n) => ({
        share: share(number),
        scale: 1,
        cells: cellOf(places[n]),
        text: `(x − ${show(middle)})²/${row.length}`,
      }));
      return {
        operation,
        terms,
        closing: (sum) => 1 / Math.sqrt(sum + eps),
        formula: `1/√(sum + ${eps})`,
        size: tensor.value[flat] * (1 + tensor.value[flat] * far),
      };
    }
    if (kind === "xhat") {
      const r = ins[1].tensor.value[place(ins[1], at)];
      const slope = (n) => r * ((n === at[along] ? 1 : 0) - 1 / row.length);
      const terms = row.map((number, n) => ({ share: slope(n) * number, scale: slope(n), cells: cellOf(places[n]) }));
      return { ...identity, terms };
    }
    const largest = maximum(row), mine = row[at[along]] - largest;
    const terms = row.map((number, n) => ({
      share: Math.exp(number - largest),
      scale: 1,
      cells: cellOf(places[n]),
      text: `e^(x − ${show(largest)})`,
    }));
    return kind === "softmax"
      ? { operation, terms, closing: (sum) => Math.exp(mine) / sum, formula: `e^(${show(mine)})/sum`, size: 1 }
      : { operation, terms, closing: (sum) => mine - Math.log(sum), formula: `${show(mine)} − log(sum)`, size: far };
  }
  return null;
}
