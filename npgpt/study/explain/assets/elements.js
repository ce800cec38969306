// Small pieces of the page. Text from a prompt or a name is always set as text, never as HTML.

const MINUS = "−";

// A number in at most seven characters: 0.0149, −3.1e−5
function show(x) {
  if (x === null || x === undefined) return "";
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "NaN" : x < 0 ? `${MINUS}∞` : "∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 1e5 || size < 1e-3 ? size.toExponential(1) : String(Number(size.toPrecision(3)));
  return (x < 0 ? MINUS : "") + text.replace("e+", "e").replace("-", MINUS);
}

const exact = (x) => {
  const size = Math.abs(x);
  const number = size >= 1e-3 || x === 0 ? Number(size.toPrecision(7)) : size.toExponential(5);
  return (x < 0 ? MINUS : "") + String(number).replace("-", MINUS);
};
const percent = (share) => (!Number.isFinite(share) ? "NaN" : Math.abs(share) < 0.0005 ? "0.0 %" : shortPercent(share));
const shortPercent = (share) => {
  const digits = Math.abs(share) < 0.0995 ? 1 : 0;
  return `${share < 0 ? MINUS : ""}${(100 * Math.abs(share)).toFixed(digits)} %`;
};
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

// make("a", { class: "x", href: "#y" }, "text", child, ...)
function make(tag, attributes = {}, ...children) {
  const drawings = ["svg", "path", "rect", "line", "circle", "text", "g", "title", "polyline"];
  const isDrawing = drawings.includes(tag) || attributes.drawn;
  const element = isDrawing ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "drawn" || value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    } else if (name === "set") {
      for (const [property, to] of Object.entries(value)) element.style.setProperty(property, to);
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// A bar from a middle line: to the right for a positive share, to the left for a negative one
function bar(share, largest) {
  const part = largest > 0 ? Math.min(1, Math.abs(share) / largest) : 0;
  return make("span", { class: `bar ${share < 0 ? "negative" : "positive"}`, "aria-hidden": "true" },
    make("span", { set: { width: `${50 * part}%` } }));
}

// dW_cf -> dW with subscript cf; e^(x) -> e with superscript x
function typeset(marked) {
  const text = marked.replaceAll("``", "");
  const found = make("span", { class: "math" });
  // no subscript: the second part of IGNORE_INDEX
  const pattern = /([\p{L}\d\u0302\u0303′)])([_^])(?![A-Z]{2})(\([^()]*\)|\{[^{}]*\}|[\p{L}\d−+]+(?:,[\p{L}\d]+)*)/gu;
  let done = 0;
  for (const match of text.matchAll(pattern)) {
    found.append(text.slice(done, match.index) + match[1]);
    const inner = /^[({]/.test(match[3]) ? match[3].slice(1, -1) : match[3];
    found.append(make(match[2] === "_" ? "sub" : "sup", {}, ...typeset(inner).childNodes));
    done = match.index + match[0].length;
  }
  found.append(text.slice(done));
  return found;
}

// A group of buttons of which one is pressed
function choice(label, options, chosen, pick) {
  const button = ([name, text]) => make("button", {
    type: "button",
    "aria-pressed": String(name === chosen),
    on: { click: () => pick(name) },
  }, text);
  return make("div", { class: "choice", role: "group", "aria-label": label }, options.map(button));
}

function section(title, ...children) {
  return make("section", { class: "card" }, make("h2", {}, title), children);
}
