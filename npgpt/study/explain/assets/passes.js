// Whole tensors: an operation forward, a step of the backward pass, and the loss after a change.

const lettersOf = (views) => [...new Set(views.flatMap((view) => Object.keys(view.strides)))];

// out[view] += scale · Π factors, over all letters; sizes of the summands are added to ``magnitude``, if it is given
function accumulate(sizes, scale, out, view, factors, magnitude = null) {
  const letters = lettersOf([view, ...factors.map(([, v]) => v)]).filter((letter) => sizes[letter] > 1);
  const inner = letters.pop(), n = inner ? sizes[inner] : 1;
  const strides = (v) => [...letters, inner].map((letter) => v.strides[letter] ?? 0);
  const [a, aView] = factors[0], [b, bView] = factors[1] ?? [null, { offset: 0, strides: {} }];
  const so = strides(view), sa = strides(aView), sb = strides(bView), depth = letters.length;
  const [io, ia, ib] = [so[depth], sa[depth], sb[depth]];
  const at = new Int32Array(depth);
  let o = view.offset, p = aView.offset, q = bView.offset;
  for (;;) {
    for (let k = 0, x = o, y = p, z = q; k < n; k++, x += io, y += ia, z += ib) {
      const term = b === null ? scale * a[y] : scale * a[y] * b[z];
      out[x] += term;
      if (magnitude !== null) magnitude[x] += Math.abs(term);
    }
    let axis = depth - 1;
    for (; axis >= 0; axis--) {
      o += so[axis], p += sa[axis], q += sb[axis];
      if (++at[axis] < sizes[letters[axis]]) break;
      o -= so[axis] * at[axis], p -= sa[axis] * at[axis], q -= sb[axis] * at[axis];
      at[axis] = 0;
    }
    if (axis < 0) return;
  }
}

function fill(sizes, out, view, number) {
  const letters = Object.keys(view.strides);
  const step = (k, to) => {
    if (k === letters.length) out[to] = number;
    else for (let i = 0; i < sizes[letters[k]]; i++) step(k + 1, to + i * view.strides[letters[k]]);
  };
  step(0, view.offset);
}

function eachPlace(sizes, views, act) {
  for (const at of assignments(views, sizes, {})) act(at);
}

// The rows of softmax and norm: every index but that along the row
function* rows(operation) {
  const without = { strides: { ...operation.ins[0].strides } };
  delete without.strides[operation.along];
  yield* assignments([without], operation.sizes, {});
}

const stored = (tensor) => tensor.value;

// Compute an operation's cells of ``out`` from the values that ``get`` returns.
function evaluate(operation, out, get = stored, magnitude = null) {
  const { kind, sizes, ins, along, eps } = operation, view = operation.out;
  if (kind === "products") {
    fill(sizes, out, view, 0);
    for (const { scale, factors } of operation.products) {
      accumulate(sizes, scale, out, view, factors.map((v) => [get(v.tensor), v]), magnitude);
    }
    return;
  }
  const x = get(ins[0].tensor), set = (at, number, size) => {
    const to = place(view, at);
    out[to] = number;
    if (magnitude !== null) magnitude[to] = Math.abs(size);
  };
  if (kind in FUNCTIONS) {
    eachPlace(sizes, [view], (at) => {
      const number = x[place(ins[0], at)];
      set(at, FUNCTIONS[kind].of(number), 1 + Math.abs(number));
    });
    return;
  }
  for (const at of rows(operation)) {
    const numbers = rowOf(operation, at).map((p) => x[p]);
    const whole = (n) => ({ ...at, [along]: n });
    if (kind === "rstd" || kind === "xhat") {
      const middle = mean(numbers), far = 1 + greatest(numbers);
      if (kind === "rstd") {
        const r = 1 / Math.sqrt(mean(numbers.map((number) => (number - middle) ** 2)) + eps);
        set(at, r, r * (1 + r * far));
      } else {
        const r = get(ins[1].tensor)[place(ins[1], at)];
        numbers.forEach((number, n) => set(whole(n), (number - middle) * r, r * far));
      }
      continue;
    }
    const largest = maximum(numbers);
    const sum = numbers.reduce((total, number) => total + Math.exp(number - largest), 0);
    numbers.forEach((number, n) => {
      const shifted = number - largest, far = 1 + Math.abs(number) + Math.abs(largest);
      if (kind === "softmax") set(whole(n), Math.exp(shifted) / sum, far);
      else set(whole(n), shifted - Math.log(sum), far);
    });
  }
}

// Add what one operation sends back to the gradient of one of its operands, given the gradient of its output.
function sendBack(operation, tensor, dy, target, magnitude = null) {
  const { kind, sizes, out, ins, along } = operation;
  if (kind === "products") {
    for (const { scale, factors } of operation.products) {
      factors.forEach((view, k) => {
        if (view.tensor !== tensor) return;
        const others = factors.filter((_, n) => n !== k).map((v) => [v.tensor.value, v]);
        accumulate(sizes, scale, target, view, [[dy, out], ...others], magnitude);
      });
    }
    return;
  }
  const add = (to, number, size = Math.abs(number)) => {
    target[to] += number;
    if (magnitude !== null) magnitude[to] += size;
  };
  const x = ins[0].tensor.value, y = out.tensor.value;
  if (kind in FUNCTIONS) {
    eachPlace(sizes, [out], (at) => {
      const from = place(ins[0], at), to = place(out, at);
      add(from, FUNCTIONS[kind].slope(x[from], y[to]) * dy[to], (1 + x[from] ** 2) * Math.abs(dy[to]));
    });
    return;
  }
  for (const at of rows(operation)) {
    const places = rowOf(operation, at), n = places.length;
    const outs = kind === "rstd" ? [place(out, at)] : places.map((_, k) => place(out, { ...at, [along]: k }));
    const given = outs.map((o) => dy[o]), sum = given.reduce((total, g) => total + g, 0);
    if (kind === "softmax" || kind === "log_softmax") {
      const soft = kind === "softmax", along_ = soft ? given.reduce((total, g, k) => total + g * y[outs[k]], 0) : sum;
      places.forEach((p, k) => {
        const weight = soft ? y[outs[k]] : Math.exp(y[outs[k]]);
        const size = soft ? 1 : 1 + Math.abs(y[outs[k]]); // e^ℓ is off by |ℓ| roundings
        add(p, soft ? weight * given[k] : given[k]);
        add(p, -weight * along_, size * weight * Math.abs(along_));
      });
      continue;
    }
    const row = places.map((p) => x[p]), middle = mean(row);
    const far = row.map((number) => Math.abs(number) + Math.abs(middle));
    if (kind === "rstd") {
      const factor = (y[outs[0]] ** 3 * given[0]) / n;
      places.forEach((p, k) => add(p, -factor * (row[k] - middle), Math.abs(factor) * far[k]));
    } else if (tensor === ins[1].tensor) {
      row.forEach((number, k) => add(place(ins[1], at), (number - middle) * given[k], far[k] * Math.abs(given[k])));
    } else {
      const r = ins[1].tensor.value[place(ins[1], at)];
      places.forEach((p, k) => { add(p, r * given[k]); add(p, (-r * sum) / n); });
    }
  }
}

const isReady = (operation) => operation.out.tensor.isCarried && operation.operands.every((tensor) => tensor.isCarried);
const canSendBack = (operation) => isReady(operation) && gradientOf(operation.out.tensor) !== null;

// The gradient of a tensor: as backward noted it, or formed here from the operations that use the tensor; null if
// neither is possible.
function gradientOf(tensor) {
  if (tensor.grad !== null) return tensor.grad;
  if (tensor.formed === null && tensor.kind === "param" && tensor.users.length && tensor.users.every(canSendBack)) {
    tensor.formed = new Float64Array(tensor.size);
    for (const operation of tensor.users) sendBack(operation, tensor, gradientOf(operation.out.tensor), tensor.formed);
  }
  return tensor.formed;
}

// Values of later tensors after some tensors have changed: a map from tensor to array
function forward(operations, changed) {
  const now = new Map(changed);
  const get = (tensor) => now.get(tensor) ?? tensor.value;
  for (const operation of operations) {
    if (!operation.operands.some((tensor) => now.has(tensor))) continue;
    const { tensor } = operation.out;
    if (!now.has(tensor)) now.set(tensor, Float64Array.from(tensor.value));
    evaluate(operation, now.get(tensor), get);
  }
  return now;
}
