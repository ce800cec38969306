// The gradient of a weight as a sum over positions, Σ x ⊗ δ: which token writes into it, how strongly, and what a step
// with that gradient would make likelier.

const STEP = 0.02; // of the loss: how much a step is to lower it, by its tangent

// The users of a weight, cut into one part for each position: [{text, position, path, operations}]
function partsByPosition(tensor) {
  const found = new Map();
  const add = (path, text, position, operation) => {
    const key = `${path} ${text} ${position}`;
    if (!found.has(key)) found.set(key, { path, text, position, operations: [] });
    found.get(key).operations.push(operation);
  };
  for (const operation of tensor.users) {
    if (!canSendBack(operation)) continue;
    const letters = ["b", "t", "i"].filter((letter) => letter in operation.out.strides);
    const strides = Object.fromEntries(letters.map((letter) => [letter, 1])), axes = operation.out.tensor.axes ?? [];
    for (const at of assignments([{ strides }], operation.sizes, {})) {
      const part = withLetters(operation, { ...at }), cell = part.out.tensor.cell(part.out.offset);
      add(operation.path, cell[axes.indexOf("text")] ?? 0, cell[axes.indexOf("token")] ?? 0, part);
    }
  }
  return [...found.values()];
}

// An operation with some letters fixed
function withLetters(operation, at) {
  const cut = (view) => {
    const strides = { ...view.strides };
    let offset = view.offset;
    for (const letter in at) { offset += (strides[letter] ?? 0) * at[letter]; delete strides[letter]; }
    return { ...view, offset, strides };
  };
  return {
    ...operation, out: cut(operation.out), ins: operation.ins.map(cut),
    products: operation.products.map(({ scale, factors }) => ({ scale, factors: factors.map(cut) })),
  };
}

function contribution(tensor, part) {
  const sent = new Float64Array(tensor.size);
  for (const operation of part.operations) sendBack(operation, tensor, gradientOf(operation.out.tensor), sent);
  return sent;
}

// Each position's part of the gradient of a weight, or of one of its rows: its norm, and its share of the whole, which
// is negative where it points against the sum. The shares sum to 1.
function writers(tensor, row = null) {
  const gradient = gradientOf(tensor), wide = tensor.size / tensor.shape[0];
  const [start, stop] = row === null ? [0, tensor.size] : [row * wide, (row + 1) * wide];
  const largest = greatest(gradient) || 1; // squares of tiny numbers would be 0
  const whole = gradient.subarray(start, stop).map((x) => x / largest);
  const total = whole.reduce((sum, x) => sum + x * x, 0);
  return partsByPosition(tensor).map((part) => {
    const sent = contribution(tensor, part).subarray(start, stop);
    const along = sent.reduce((sum, x, i) => sum + (x / largest) * whole[i], 0);
    return { ...part, norm: norm(sent), share: total ? along / total : 0 };
  }).filter((part) => part.norm > 0).sort((a, b) => Math.abs(b.share) - Math.abs(a.share));
}

// Probabilities after the step w − η·direction of each tensor, and the loss; or a sentence, if there is no step.
function afterStep(page, directions) {
  if (!page.operations.every(isReady)) return "This needs tensors that are not on this page.";
  if (page.tensors.get("loss").grad[0] !== 1) {
    return "This pass starts with another gradient than 1, so no step is taken.";
  }
  if ([...directions.values()].every((direction) => greatest(direction) === 0)) {
    return "The gradient is 0: a step changes nothing.";
  }
  const size = [...directions].reduce((sum, [tensor, direction]) => {
    const gradient = gradientOf(tensor);
    return sum + direction.reduce((part, x, i) => part + x * gradient[i], 0);
  }, 0);
  if (!(Math.abs(size) > 0) || !Number.isFinite(size)) {
    return "The gradient is too small, or not finite: no step is taken.";
  }
  const loss = page.tensors.get("loss").value[0], rate = (STEP * loss) / Math.abs(size);
  const stepped = (tensor, direction) => Float64Array.from(tensor.value, (w, i) => w - rate * direction[i]);
  const changed = new Map([...directions].map(([tensor, direction]) => [tensor, stepped(tensor, direction)]));
  const now = forward(page.operations, changed);
  return {
    rate,
    loss: now.get(page.tensors.get("loss"))[0],
    logs: now.get(page.tensors.get("cross_entropy.log_probabilities")),
  };
}

// The tokens that become likelier and less likely at each position
function stepTable(page, after) {
  const logs = page.tensors.get("cross_entropy.log_probabilities"), V = logs.shape[2];
  const body = page.text.targets.flatMap((row, b) => row.map((target, t) => {
    const first = (b * row.length + t) * V;
    const moves = Array.from({ length: V }, (_, v) => {
      const [from, to] = [Math.exp(logs.value[first + v]), Math.exp(after.logs[first + v])];
      return { v, from, to, by: to - from };
    });
    const right = moves[target];
    moves.sort((a, c) => c.by - a.by);
    const said = ({ from, to }) => [from, to].map((p) => (100 * p).toPrecision(3));
    const chip = (one) => make("span", { class: `chip${one.v === target ? " target" : ""}` },
      make("bdi", {}, page.text.vocabulary[one.v]),
      ` ${said(one).join(" → ")} %`);
    const isSeen = (one) => said(one)[0] !== said(one)[1];
    const chips = (label, list) => make("td", { "data-label": label }, list.filter(isSeen).slice(0, 3).map(chip));
    const token = placed(page.text.tokens?.[b]?.[t] ?? "position ", t);
    return make("tr", {},
      make("th", { scope: "row", class: "word" }, make("bdi", {}, token)),
      make("td", { "data-label": "right" }, right ? chip(right) : "ignored"),
      chips("likelier", moves.filter((one) => one.by > 0)),
      chips("less likely", moves.filter((one) => one.by < 0).reverse()));
  }));
  const titles = ["after", "right token", "likelier", "less likely"];
  return make("div", { class: "scroll" }, make("table", { class: "plain steps-table" },
    make("thead", {}, make("tr", {}, titles.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, body)));
}

function stepCard(page, title, directions, what) {
  const place = make("div", {}, make("p", { class: "small" }, "computing …"));
  const work = () => {
    const after = afterStep(page, directions());
    if (typeof after === "string") return place.replaceChildren(make("p", { class: "small" }, after));
    const before = page.tensors.get("loss").value[0];
    const said = `The page takes one step against the gradient of ${what}, so long that the tangent lowers the loss by `
      + `${100 * STEP} %, and runs the model forward again. `
      + `The loss goes from ${exact(before)} to ${exact(after.loss)}. `
      + "The tokens that gain or lose most come first; right ones are marked.";
    return place.replaceChildren(make("p", {}, said), stepTable(page, after));
  };
  setTimeout(work, 30);
  return section(title, place);
}

function writerLabel(page, part) {
  const token = page.text?.tokens?.[part.text]?.[part.position] ?? "position ";
  const how = part.path === "embedding" ? [": its vector is looked up"] : [];
  return [
    part.path === "lm_head" ? "predicting after " : "",
    make("bdi", { class: "token" }, placed(token, part.position)),
    how,
  ];
}

// The parts of a gradient by position, the largest share first
function writersTable(page, tensor, row) {
  const list = writers(tensor, row), largest = Math.max(0, ...list.map((one) => Math.abs(one.share)));
  const titles = ["token", "share of the gradient", "norm of its part"];
  const writer = (one) => make("tr", {},
    make("th", { scope: "row" }, writerLabel(page, one)),
    make("td", {}, bar(one.share, largest), ` ${percent(one.share)}`),
    make("td", { class: "number" }, show(one.norm)));
  const rest = list.length - SHOWN_TERMS;
  return list.length
    ? make("table", { class: "plain writers" },
      make("thead", {}, make("tr", {}, titles.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, list.slice(0, SHOWN_TERMS).map(writer)),
      rest > 0
        ? make("tfoot", {}, make("tr", {}, make("td", { colspan: 3 }, `and ${plural(rest, "smaller part")}`)))
        : "")
    : make("p", {}, "No token writes into it: its gradient is 0.");
}

// The card of a weight: its writers, and the effect of a step
function lensCard(page, state) {
  const { tensor, flat } = state;
  if (!page.text || tensor.kind !== "param" || gradientOf(tensor) === null) return [];
  const isTable = isWord(tensor, 0), row = isTable ? tensor.cell(flat)[0] : null;
  const scope = isTable
    ? make("span", {}, "the row of ", make("bdi", { class: "token" }, indexLabel(tensor, 0, row)))
    : nameOf(tensor);
  const about = " is a sum with one part for each position; the largest share comes first. "
    + "A share is what the part adds along the whole gradient: the shares sum to 100 %, "
    + "and a negative one points against the sum.";
  const isUsedBy = (path) => tensor.users.some((one) => one.path === path);
  const aboutTied = " The vocabulary head shares this matrix (tied weights), "
    + "so a row is used to look up a token, and to predict it.";
  const tied = isUsedBy("embedding") && isUsedBy("lm_head") ? aboutTied : "";
  const direction = () => new Map([[tensor, gradientOf(tensor)]]);
  const table = make("div"); // filled after the click has been answered
  setTimeout(() => table.replaceChildren(writersTable(page, tensor, row)), 20);
  return [
    section("Which tokens write into it", make("p", {}, "The gradient of ", scope, about, tied), table),
    stepCard(page, "What a step of this tensor would make likelier", direction, nameOf(tensor)),
  ];
}
