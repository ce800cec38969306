// The diagram of the model: the navigation of the page, at three resolutions. Thin arrows go forward; wide ones carry
// the gradient back, each as wide as its share.

const WIDEST = 11; // pixels

// ‖what flows back to a tensor through some operations‖, for each group of operations
function sharesThrough(tensor, groups) {
  const norms = groups.map((isIn) => {
    const sent = new Float64Array(tensor.size);
    for (const operation of tensor.users) {
      if (isIn(operation) && canSendBack(operation)) {
        sendBack(operation, tensor, gradientOf(operation.out.tensor), sent);
      }
    }
    return norm(sent);
  });
  const all = norms.reduce((sum, n) => sum + n, 0);
  return norms.map((n) => (all ? n / all : 0));
}

function greatest(numbers) {
  let found = 0;
  for (const x of numbers) found = Math.max(found, Math.abs(x));
  return found;
}

// The largest number is taken out: squares of tiny numbers would be 0
function norm(numbers) {
  const largest = greatest(numbers);
  if (!(largest > 0) || !Number.isFinite(largest)) return largest;
  let sum = 0;
  for (const x of numbers) sum += (x / largest) ** 2;
  return largest * Math.sqrt(sum);
}

// The nodes and edges of a level: "model", "block" or "head". A node: {tensor, label, row, column}; an edge:
// {from, to, share, isBy}, which goes around the nodes between if isBy.
function roadOf(page, level, block, head) {
  const get = (name) => page.tensors.get(name), inside = (name) => get(`blocks.${block}.${name}`);
  const nodes = [], edges = [];
  const add = (tensor, text, row, column = 0, more = {}) =>
    (tensor ? nodes.push({ tensor, label: text, row, column, ...more }) - 1 : -1);
  const connect = (from, to, share = 1, isBy = false) => {
    if (from >= 0 && to >= 0) edges.push({ from, to, share, isBy });
  };
  if (level === "model") {
    const chain = [[get("embedded"), "embedding"]];
    if (get("positioned") !== get("embedded")) chain.push([get("positioned"), "+ positions"]);
    for (let i = 0; i < page.model.n_layer; i++) {
      chain.push([get(i + 1 < page.model.n_layer ? `blocks.${i + 1}.x` : "stream"), `block ${i}`]);
    }
    chain.push(
      [get("normed"), "norm"],
      [get("logits"), "vocabulary head"],
      [get("cross_entropy.log_probabilities"), "softmax"],
      [get("loss"), "loss"],
    );
    const found = chain
      .filter(([tensor]) => tensor)
      .map(([tensor, text], row) => add(tensor, text, row));
    const sizes = found.map((i) => (gradientOf(nodes[i].tensor) ? norm(gradientOf(nodes[i].tensor)) : 0));
    const largest = Math.max(...sizes.slice(0, -1));
    found.slice(1).forEach((i, k) => {
      connect(found[k], i, largest ? sizes[k] / largest : 0);
      edges[edges.length - 1].text = show(sizes[k]);
    });
  } else if (level === "block") {
    const next = block + 1 < page.model.n_layer ? get(`blocks.${block + 1}.x`) : get("stream");
    const [x, middle] = [inside("x"), inside("middle")];
    const to = (tensor) => [
      (operation) => operation.out.tensor === tensor,
      (operation) => operation.out.tensor !== tensor,
    ];
    const [around, through] = x ? sharesThrough(x, to(middle)) : [0, 0];
    const [past, into] = middle ? sharesThrough(middle, to(next)) : [0, 0];
    const list = [
      add(x, "input x", 0),
      add(inside("attention_input"), "norm", 1),
      add(inside("attended"), "attention", 2),
      add(middle, "x + attention", 3),
      add(inside("mlp_input"), "norm", 4),
      add(inside("mlp.hidden"), "MLP: up", 5),
      add(inside("mlp.active"), "activation", 6),
      add(inside("transformed"), "MLP: down", 7),
      add(next, "x + MLP", 8),
    ];
    connect(list[0], list[1], through), connect(list[0], list[3], around, true);
    connect(list[1], list[2], through), connect(list[2], list[3], through);
    connect(list[3], list[4], into), connect(list[3], list[8], past, true);
    for (const k of [4, 5, 6, 7]) connect(list[k], list[k + 1], into);
  } else {
    const start = inside("attention_input"), parts = ["q", "k", "v"].map((name) => inside(`attention.${name}`));
    const into = parts.map((tensor) => (operation) => operation.out.tensor === tensor);
    const shares = start ? sharesThrough(start, into) : [0, 0, 0];
    const first = add(start, "input", 0, 1);
    const names = ["queries", "keys", "values"];
    const [q, k, v] = parts.map((tensor, column) => add(tensor, names[column], 1, column, { head }));
    [q, k, v].forEach((node, i) => connect(first, node, shares[i]));
    const scores = add(inside("attention.scores"), "scores", 2, 0, { head });
    const weights = add(inside("attention.softmax.weights"), "weights", 3, 0, { head });
    const mixed = add(inside("attention.mixed"), "mixed", 4, 1, { head });
    const out = add(inside("attention.projected"), "projection", 5, 1);
    const [ofQ, ofK, ofV] = shares;
    connect(q, scores, ofQ), connect(k, scores, ofK);
    connect(scores, weights, ofQ + ofK), connect(weights, mixed, ofQ + ofK);
    connect(v, mixed, ofV), connect(mixed, out);
  }
  // At a fork, each edge says its share
  for (const edge of edges) {
    if (edges.filter((one) => one.from === edge.from).length > 1) edge.note = percent(edge.share);
  }
  return { nodes, edges };
}

// The shares of a block's forks as a sentence, for phones and for screen readers
function sharesInWords(page, level, block) {
  if (level !== "block") return "";
  const { edges } = roadOf(page, level, block, 0), forks = edges.filter((edge) => edge.note);
  if (forks.length !== 4) return "";
  const [into, around, intoMlp, aroundMlp] = forks.map((edge) => edge.note);
  return "Of the gradient that returns to its start (a share is a norm, over the sum of both norms): "
    + `around attention ${around}, through it ${into}; around the MLP ${aroundMlp}, through it ${intoMlp}.`;
}

// Draw a level, from top to bottom, or from left to right where the screen is narrow
function drawRoad(page, state, isFlat) {
  const { nodes, edges } = roadOf(page, state.level, state.block, state.head);
  const columns = 1 + Math.max(...nodes.map((node) => node.column));
  const rows = 1 + Math.max(...nodes.map((node) => node.row));
  const [boxWidth, boxHeight] = columns > 1 ? [isFlat ? 86 : 78, 32] : [isFlat ? 126 : 132, 32];
  const stepRow = isFlat ? boxWidth + 48 : boxHeight + 34, stepColumn = isFlat ? boxHeight + 14 : boxWidth + 10;
  const rail = edges.some((edge) => edge.isBy) ? 62 : 14;
  const at = (node) => (isFlat
    ? [6 + node.row * stepRow, 8 + node.column * stepColumn]
    : [6 + node.column * stepColumn, 6 + node.row * stepRow]);
  const [width, height] = isFlat
    ? [rows * stepRow - 36, columns * stepColumn + (rail > 14 ? 46 : 6)]
    : [columns * stepColumn + rail, rows * stepRow - 22];
  const drawing = make("svg", {
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "group",
    "aria-label": `${state.level}: forward ${isFlat ? "to the right" : "down"}, gradients back`,
  });
  for (const edge of edges) {
    drawing.append(drawEdge(edge, at(nodes[edge.from]), at(nodes[edge.to]), boxWidth, boxHeight, isFlat));
  }
  const isWeightOf = (node) => state.tensor?.kind === "param"
    && state.tensor.users.some((operation) => operation.out.tensor === node.tensor);
  for (const node of nodes) {
    const [x, y] = at(node), isHere = node.tensor === state.tensor || isWeightOf(node);
    const flat = node.head !== undefined && node.tensor.shape.length === 4
      ? strongestOfHead(node.tensor, state)
      : strongest(node.tensor, state.mode);
    const middle = { x: x + boxWidth / 2, y: y + boxHeight / 2 + 4, "text-anchor": "middle" };
    drawing.append(make("a", {
      drawn: true,
      href: addressOf(node.tensor, flat, state.mode),
      class: `stop${isHere ? " here" : ""}`,
      "data-tensor": node.tensor.name,
      "aria-current": isHere ? "true" : null,
      "aria-label": `${node.label}: ${nameOf(node.tensor)}`,
    }, make("rect", { x, y, width: boxWidth, height: boxHeight, rx: 7 }), make("text", middle, node.label)));
  }
  return drawing;
}

function strongestOfHead(tensor, state) {
  const numbers = state.mode === "gradient" ? gradientOf(tensor) : tensor.value;
  const perHead = tensor.shape[2] * tensor.shape[3], first = state.head * perHead;
  let best = first;
  if (numbers) {
    for (let i = first; i < first + perHead; i++) {
      if (Number.isFinite(numbers[i]) && Math.abs(numbers[i]) > Math.abs(numbers[best] || 0)) best = i;
    }
  }
  return best;
}

function drawEdge({ share, isBy, text, note = "" }, from, to, width, height, isFlat) {
  const wide = Number.isFinite(share) ? Math.max(1, WIDEST * share) : 1, group = make("g", { class: "edge" });
  const said = text ?? note;
  const start = isFlat ? [from[0] + width, from[1] + height / 2] : [from[0] + width / 2, from[1] + height];
  const end = isFlat ? [to[0], to[1] + height / 2] : [to[0] + width / 2, to[1]];
  const [[ax, ay], [bx, by]] = [start, end];
  let path = (shift) => (isFlat
    ? `M${ax} ${ay + shift} C${ax + 18} ${ay + shift} ${bx - 18} ${by + shift} ${bx} ${by + shift}`
    : `M${ax + shift} ${ay} C${ax + shift} ${ay + 16} ${bx + shift} ${by - 16} ${bx + shift} ${by}`);
  const [u, v] = [0.35, 0.65]; // the note stands nearer to the end, where edges of one start are apart
  let noteAt = isFlat
    ? [u * start[0] + v * end[0], u * start[1] + v * end[1] - 8 - wide / 2]
    : [u * start[0] + v * end[0] + 7 + wide / 2, u * start[1] + v * end[1] + 2];
  if (isBy) { // around: from the side of one box to the side of the other
    const side = isFlat ? from[1] + height : from[0] + width, out = side + (isFlat ? 30 : 26);
    const [a, b] = isFlat ? [from[0] + width / 2, to[0] + width / 2] : [from[1] + height / 2, to[1] + height / 2];
    path = (shift) => (isFlat
      ? `M${a + shift} ${side} C${a + shift} ${out} ${b + shift} ${out} ${b + shift} ${side}`
      : `M${side} ${a + shift} C${out} ${a + shift} ${out} ${b + shift} ${side} ${b + shift}`);
    noteAt = isFlat ? [(a + b) / 2, out + 12] : [side + 24 + wide / 2, (a + b) / 2 + 4];
  }
  group.append(
    make("path", { d: path(-9), class: "forward" }),
    make("path", { d: path(3), class: "back", "stroke-width": wide.toFixed(1) }),
    said
      ? make("text", {
        x: noteAt[0],
        y: noteAt[1],
        class: "share",
        "text-anchor": isFlat ? "middle" : "start",
      }, said)
      : "",
    make("title", {}, `gradient: ${said || "all of it"}${isBy ? ", around" : ""}`),
    ...tips(path, wide, isBy === isFlat),
  );
  return group;
}

// Two heads of arrows: of the gradient, at the start of the edge; of the forward pass, at its end
function tips(path, wide, isDown) {
  const numbers = (text) => text.match(/-?[\d.]+/g).map(Number);
  const back = numbers(path(3)), ahead = numbers(path(-9)), size = 4 + wide / 2;
  const [x, y] = back, [a, b] = ahead.slice(-2);
  const head = (px, py, dx, dy, s) => {
    const [baseX, baseY] = [px - dx * s * 1.2, py - dy * s * 1.2];
    return `M${px} ${py} L${baseX - dy * s} ${baseY - dx * s} L${baseX + dy * s} ${baseY + dx * s} Z`;
  };
  const way = (from, to) => {
    const isSideways = Math.abs(to[0] - from[0]) > Math.abs(to[1] - from[1]) && !isDown;
    return isSideways ? [Math.sign(from[0] - to[0]), 0] : [0, Math.sign(from[1] - to[1]) || 1];
  };
  const [bx, by] = way([x, y], back.slice(2, 4)), [fx, fy] = way([a, b], ahead.slice(4, 6));
  return [
    make("path", { d: head(x, y, bx, by, size), class: "tip" }),
    make("path", { d: head(a, b, fx, fy, 4), class: "tip ahead" }),
  ];
}
