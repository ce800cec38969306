// The first view: what the model predicted at each position, and the questions that the page answers.

function overview(page) {
  const cards = [];
  if (page.text) {
    cards.push(section("What the model predicts",
      make("p", {},
        "Each row reads the tokens up to this one and predicts the next. The loss is the mean of ",
        make("em", {}, "−log p"),
        " of the right tokens, which are marked."),
      predictions(page)));
    cards.push(section("Five questions to start with", questions(page)));
    const weights = page.tensors.all.filter((tensor) => tensor.kind === "param");
    if (page.operations.length && weights.every((tensor) => gradientOf(tensor) !== null)) {
      const gradients = () => new Map(weights.map((tensor) => [tensor, gradientOf(tensor)]));
      cards.push(stepCard(page, "What this step would make likelier", gradients, "all weights"));
    }
  }
  cards.push(section(page.text ? "All tensors" : "Tensors", tensorTable(page)));
  return cards;
}

function predictions(page) {
  const rows = page.text.targets.flatMap((row, b) => row.map((target, t) => {
    const { loss, likeliest } = page.text.predictions[b * row.length + t];
    const word = (v) => make("bdi", {}, page.text.vocabulary[v]);
    const chip = ([v, p]) => make("span", { class: `chip${v === target ? " target" : ""}` },
      word(v),
      ` ${percent(Number(p))}`);
    return make("tr", {},
      make("th", { scope: "row", class: "word" },
        make("bdi", {}, page.text.tokens?.[b]?.[t] ?? "position"),
        make("span", { class: "index" }, t)),
      make("td", { class: "word" }, target >= 0 ? make("span", { class: "chip target" }, word(target)) : "ignored"),
      make("td", { class: "number" }, loss === null ? "" : show(Number(loss))),
      make("td", {}, likeliest.map(chip)));
  }));
  const titles = ["token", "next, in the text", "loss", "likeliest next tokens"];
  return make("div", { class: "scroll" }, make("table", { class: "plain" },
    make("thead", {}, make("tr", {}, titles.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, rows)));
}

function questions(page) {
  const get = (name) => page.tensors.get(name);
  const has = (tensor) => tensor && tensor.isCarried && gradientOf(tensor) !== null;
  const q = get("blocks.0.attention.q"), embedding = get("embedding.weight"), x = get("blocks.0.x");
  const list = [];
  const ask = (text, address, answer) => list.push(make("li", {},
    make("a", { href: address }, text),
    make("span", { class: "small" }, ` ${answer}`)));
  if (has(x)) {
    const gradient = gradientOf(x);
    let lowest = 0;
    gradient.forEach((g, i) => { if (g < gradient[lowest]) lowest = i; });
    ask(
      "Why is this gradient negative?",
      addressOf(x, lowest),
      "See the terms that it is the sum of; “why?” follows each towards the loss.",
    );
  }
  if (has(embedding) && page.text.ids) {
    ask(
      "Which token changes this row of the embedding most?",
      addressOf(embedding, embedding.flat([page.text.ids[0].at(-1), 0])),
      "See “Which tokens write into it”, further down.",
    );
  }
  if (has(x)) {
    ask(
      "What does the residual path carry?",
      `#block0`,
      "See the diagram of a block: each line is as wide as its share of the gradient, around or through.",
    );
  }
  if (has(q)) {
    ask(
      "Why is the first row of the queries’ gradient zero?",
      addressOf(q, 0),
      "See what the panel of the cell says, and follow its term.",
    );
  }
  if (has(embedding)) ask("What would this step make likelier?", "#step", "See the next card.");
  return make("ol", { class: "questions" }, list);
}

function tensorTable(page) {
  const rows = page.tensors.all.filter((tensor) => tensor.kind !== "constant").map((tensor) => {
    const badge = make("td", { "data-badge": tensor.name }, badgeText(page, tensor));
    const link = tensor.isCarried
      ? make("a", { href: addressOf(tensor, 0, tensor.hasGradient ? "gradient" : "value") }, tensor.name)
      : tensor.name;
    return make("tr", {},
      make("th", { scope: "row" }, link),
      make("td", {}, page.model ? nameOf(tensor) : tensor.layer),
      make("td", { class: "number" }, tensor.shape.join("×") || "1"),
      badge);
  });
  const titles = ["tensor", page.model ? "meaning" : "layer", "shape", "proof"];
  return make("div", { class: "scroll" }, make("table", { class: "plain all" },
    make("thead", {}, make("tr", {}, titles.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, rows)));
}

// What the page found when it recomputed a tensor
function badgeText(page, tensor) {
  const result = page.proof.results.get(tensor);
  if (!tensor.isCarried && !result?.gradient) return make("span", { class: "badge none" }, "left out");
  if (!result) return make("span", { class: "badge waiting" }, "…");
  const parts = [["value", result.value], ["gradient", result.gradient]].filter(([, one]) => one);
  if (!parts.length) {
    const isGiven = tensor.kind === "param" || tensor.kind === "input";
    return make("span", { class: "badge none" }, isGiven ? "given" : "not recomputed");
  }
  const isRight = parts.every(([, one]) => one.isRight);
  const said = parts.map(([name, one]) => `${one.areSums ? "sums of the " : ""}${name}`).join(" and ");
  const count = (one) => plural(one.cells, one.areSums ? "sum" : "cell");
  const title = parts
    .map(([name, one]) => `${name}: ${count(one)}, largest difference ${show(one.worst)}`)
    .join("; ");
  const wrong = parts.filter(([, one]) => !one.isRight).map(([name]) => name).join(" and ");
  return make("span", { class: `badge ${isRight ? "right" : "wrong"}`, title }, isRight ? `✓ ${said}` : `✗ ${wrong}`);
}

function proofView(page) {
  const about = "This page computes every value again from the tensors before it, and every gradient from those "
    + "further on, with its own code. A tick means that all cells agree with Python’s, to rounding. "
    + "For a weight of a large model, it compares the sums of each row and column of the gradient.";
  const aboutTape = "This model is small, so the page also carries the tape: each gradient is summed a second time "
    + "from the tape’s terms, which no backward pass made.";
  const leftOut = page.data.left_out;
  return [section("Proof",
    make("p", {}, about),
    page.edges ? make("p", {}, aboutTape) : "",
    leftOut.length ? make("p", {}, `Left out, because the page would be too large: ${leftOut.join(", ")}.`) : "",
    tensorTable(page))];
}
