// The panel of the selected cell: its value, its gradient, and what it is the sum of.

const SHOWN_TERMS = 12;

function cellPanel(page, state, ledger, light) {
  const { tensor, flat, mode } = state, gradient = gradientOf(tensor);
  const title = mode === "gradient" ? `∂L/∂ ${cellName(tensor, flat)}` : cellName(tensor, flat);
  const numbers = make("dl", { class: "numbers" },
    make("div", { class: mode === "value" ? "here" : "" },
      make("dt", {}, "value"),
      make("dd", {}, tensor.value ? exact(tensor.value[flat]) : "left out")),
    tensor.hasGradient
      ? make("div", { class: mode === "gradient" ? "here" : "" },
        make("dt", {}, "gradient ∂L/∂x"),
        make("dd", {}, gradient ? exact(gradient[flat]) : "left out"))
      : "");
  return make("div", { class: "card cell" },
    make("h2", {}, title),
    make("p", { class: "small" }, make("code", {}, label(tensor, flat))),
    numbers,
    make("p", { class: "words" }, inWords(page, state, ledger)),
    ledger && ledger.terms.length ? termTable(page, state, ledger, light) : "");
}

// A sentence or two on why the number is what it is
function inWords(page, { tensor, flat, mode }, ledger) {
  if (mode === "value") {
    if (tensor.kind === "param") return "A weight: nothing in this pass computes it.";
    if (tensor.kind === "input") return "An input: this number was given.";
    if (tensor.kind === "constant") return "A fixed number: it is not trained, and has no gradient.";
    if (tensor.value && tensor.value[flat] === -Infinity) {
      return "Masked: a token does not attend to later ones. This score is the constant −∞.";
    }
    if (!ledger) {
      return page.model
        ? "What this number was computed from is not on this page."
        : "The page knows the terms of gradients only for this layer.";
    }
    const sum = `The sum of ${plural(ledger.terms.length, "term")}`;
    return ledger.formula ? `${sum}, then ${ledger.formula}.` : `${sum}.`;
  }
  if (tensor.kind === "loss" || tensor.kind === "output") {
    const isByItself = tensor.kind === "loss" && gradientOf(tensor)[0] === 1;
    const start = isByItself ? "the derivative of the loss by itself is 1" : "this gradient was given";
    return `The start of the backward pass: ${start}.`;
  }
  if (!ledger) {
    return page.model
      ? "The terms need tensors that are not on this page. The terminal prints them: npgpt explain --ledger."
      : "The page knows no terms of this gradient: the tape cannot follow the layer, or it is too large.";
  }
  if (!ledger.terms.length) return "The loss does not depend on this number, so its gradient is 0.";
  const { terms } = ledger, result = ledger.right ?? ledger.result;
  const down = terms.filter((term) => term.share < 0), up = terms.filter((term) => term.share > 0);
  if (tensor.value[flat] === -Infinity) return "Masked: this score is the constant −∞, so it has no gradient.";
  const single = aloneInSoftmax(terms), ofLogit = aboutLogit(page, tensor, flat, result);
  if (single) return single;
  if (ofLogit) return ofLogit;
  const moving = terms.filter((term) => term.share !== 0);
  if (!moving.length) {
    const areFlat = terms.every((t) => t.slope === 0);
    return `Zero: ${areFlat ? "every slope is 0" : "in every term, the slope or the gradient further on is 0"}.`;
  }
  if (Number.isNaN(result)) return "Not a number: a slope or a gradient further on is not finite.";
  if (result === 0) {
    const rounding = ledger.sum === 0 ? "" : `. Their sum, ${show(ledger.sum)}, is rounding`;
    return `Zero: the terms cancel${rounding}.`;
  }
  const count = `The sum of ${plural(terms.length, "term")}: slope × gradient of a cell that this one feeds.`;
  const hasWriters = tensor.kind === "param" && isWord(tensor, 0);
  const row = hasWriters ? ". “Which tokens write into it” is about the whole row" : "";
  const lead = `The largest term of this number goes through ${cellName(terms[0].to, terms[0].flat)}${row}`;
  if (moving.length === 1) {
    const one = terms.length === 1 ? "One term" : "One term that is not zero";
    return `${one}, through ${cellName(terms[0].to, terms[0].flat)}: ${signOfProduct(terms[0])}`;
  }
  const [word, most, least] = result < 0 ? ["negative", down, up] : ["positive", up, down];
  const other = result < 0 ? "positive" : "negative";
  const outweigh = most.length === 1 ? "outweighs" : "outweigh";
  const reason = least.length
    ? `${plural(most.length, `${word} term`)} ${outweigh} ${plural(least.length, `${other} term`)}`
    : `no term is ${other}`;
  return `${count} It is ${word}, because ${reason}. ${lead}.`;
}

// Why a product of two numbers has its sign
function signOfProduct({ slope, grad }) {
  const word = (x) => (x < 0 ? "negative" : "positive");
  if (slope < 0 === grad < 0) {
    return `the slope and the gradient further on are both ${word(slope)}, so their product is positive.`;
  }
  return `the slope is ${word(slope)} and the gradient further on is ${word(grad)}, so their product is negative.`;
}

// The gradient of a logit is (p − 1)/N for the right token and p/N for the others
function aboutLogit(page, tensor, flat, result) {
  if (tensor !== page.tensors.get("logits") || !page.text) return "";
  const [b, t, v] = tensor.cell(flat), target = page.text.targets[b][t], right = v === target;
  const counted = page.text.targets.flat().filter((one) => one >= 0).length;
  const p = Math.exp(page.tensors.get("cross_entropy.log_probabilities").value[flat]), word = page.text.vocabulary[v];
  if (target < 0 || Math.abs(result - (p - (right ? 1 : 0)) / counted) > 1e-12) return "";
  const chance = `${(100 * p).toPrecision(3)} %`;
  return right
    ? `Negative: ${word} is the right next token, and has the probability ${chance}. `
      + `Raising its logit lowers the loss. The gradient is (p − 1)/N, for N = ${counted} predictions.`
    : `Positive: ${word} is not the right next token, and has the probability ${chance}. `
      + `Raising its logit raises the loss. The gradient is p/N, for N = ${counted} predictions.`;
}

// Whether all terms lead to a softmax over one score, at this cell or one step further on
function aloneInSoftmax(terms) {
  const isAlone = (operation) => operation && operation.kind === "softmax" && operation.sizes[operation.along] === 1;
  if (terms.length && terms.every((term) => isAlone(term.operation))) {
    return "Zero, because the token attends to itself alone: softmax over a single score gives the weight 1, "
      + "whatever the score is, so the slope w·(1 − w) is 0.";
  }
  const next = terms.flatMap((term) => term.to.users.filter((operation) =>
    operation.kind === "softmax" && solve(operation.ins[0], operation.sizes, term.flat).length));
  return terms.length && next.length === terms.length && next.every(isAlone)
    ? "Zero, because its only score has the gradient 0: the token attends to itself alone, "
      + "and softmax over a single score gives the weight 1, whatever the score is."
    : "";
}

function termTable(page, state, ledger, light) {
  const isGradient = state.mode === "gradient", largest = Math.abs(ledger.terms[0].share);
  const body = make("tbody");
  const moving = ledger.terms.filter((term) => term.share !== 0).length; // the terms that are 0 come last
  let running = 0, isWhole = moving <= SHOWN_TERMS + 2 && ledger.terms.length - moving <= 2;
  const first = Math.max(1, moving <= SHOWN_TERMS + 2 ? moving : SHOWN_TERMS);
  const draw = () => {
    body.replaceChildren();
    running = 0;
    const shown = isWhole ? ledger.terms : ledger.terms.slice(0, first);
    for (const term of shown) body.append(termRow(term, running += term.share));
    if (!isWhole) {
      const rest = ledger.terms.slice(first), share = rest.reduce((sum, term) => sum + term.share, 0);
      const text = share === 0 && first >= moving
        ? `show ${plural(rest.length, "term")} that ${rest.length === 1 ? "is" : "are"} 0`
        : `show ${plural(rest.length, "smaller term")}`;
      const showAll = () => { isWhole = true; draw(); };
      body.append(make("tr", { class: "rest" },
        make("td", { class: "number" }, signed(share)),
        make("td", {}, make("button", { type: "button", on: { click: showAll } }, text)),
        make("td", { class: "number" }, show(running + share))));
    }
  };
  const termRow = (term, sum) => {
    const cells = isGradient ? [{ tensor: term.to, flat: term.flat }] : term.cells;
    const lights = () => light([...cells, ...(term.with ?? [])]), dark = () => light([]);
    const on = { mouseenter: lights, mouseleave: dark, focusin: lights, focusout: dark };
    return make("tr", { class: "term", on },
      make("td", { class: "number" }, signed(term.share), bar(term.share, largest)),
      make("td", {}, isGradient ? gradientProduct(term) : valueProduct(term)),
      make("td", { class: "number running" }, show(sum)));
  };
  draw();
  const apart = ledger.right === null ? 0 : Math.abs(ledger.result - ledger.right);
  const number = ledger.isFormed
    ? "gradient that this page formed; the badge compares its sums with Python's"
    : "number that Python computed";
  const verdict = ledger.right === null ? "" : ledger.isRight
    ? `✓ equals the ${number} (difference ${show(apart)})`
    : `✗ differs from the number that Python computed, ${exact(ledger.right)}`;
  const proof = ledger.proof === "rules" ? "the rules of the operations"
    : ledger.proof === "tape" ? "the tape"
    : "the tape, and equal by the rules";
  return [
    make("table", { class: "terms" },
      make("caption", { class: "hidden" }, "terms, the largest first"),
      make("thead", {}, make("tr", {},
        make("th", { scope: "col" }, "term"),
        make("th", { scope: "col" }, isGradient ? "= slope × gradient further on" : "= product of"),
        make("th", { scope: "col", class: "number" }, "running sum"))),
      body),
    make("p", { class: "sum" },
      "sum ",
      make("strong", {}, exact(ledger.sum)),
      ledger.formula ? [`; ${ledger.formula} = `, make("strong", {}, exact(ledger.result))] : ""),
    make("p", {
      class: `verdict ${ledger.isRight ? "right" : "wrong"}`,
      "data-ledger": ledger.isRight ? "agrees" : "differs",
    }, verdict, make("span", { class: "small" }, ` · terms by ${proof}`)),
  ];
}

const signed = (x) => (x < 0 ? "" : "+") + show(x);

function gradientProduct({ slope, to, flat, grad }) {
  return [make("span", { class: "product" }, `${show(slope)} × ${show(grad)}`),
    make("a", { href: addressOf(to, flat, "gradient"), class: "why" },
      "why? ", make("bdi", {}, cellName(to, flat)))];
}

function valueProduct({ scale, cells, text }) {
  const factors = cells.map((c) => show(c.tensor.value[c.flat]));
  const product = text ? `${text}, x = ${factors[0]}` : [...(scale === 1 ? [] : [show(scale)]), ...factors].join(" × ");
  const why = (c) => make("a", { href: addressOf(c.tensor, c.flat, "value"), class: "why" },
    "why? ",
    make("bdi", {}, cellName(c.tensor, c.flat)));
  return [make("span", { class: "product" }, product), cells.map(why)];
}
