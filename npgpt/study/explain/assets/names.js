// What people call the tensors of a GPT, and the addresses of cells.

const NAMES = [
  [/^embedded$/, "token vectors"], [/^positioned$/, "token vectors with positions"], [/^normed$/, "final vectors"],
  [/^stream$/, "output of the last block"], [/^logits$/, "logits"], [/log_probabilities$/, "log-probabilities"],
  [/^loss$/, "loss"], [/^embedding\.weight$/, "token embedding"], [/^lm_head\.weight$/, "vocabulary head"],
  [/^positions\.weight$/, "position embedding"],
  [/attention\.q$/, "queries"], [/attention\.k$/, "keys"], [/attention\.v$/, "values"],
  [/attention\.scores$/, "scores"],
  [/softmax\.weights$/, "attention weights"], [/attention\.dropped$/, "attention weights after dropout"],
  [/attention\.mixed$/, "mixed values"], [/projection\.x$/, "mixed values, heads side by side"],
  [/attention\.projected$/, "what attention adds"], [/attended$/, "what attention adds"],
  [/attention_input$/, "attention's input"], [/mlp_input$/, "MLP's input"],
  [/middle$/, "residual stream after attention"],
  [/blocks\.\d+\.x$/, "residual stream, input of the block"], [/mlp\.hidden$/, "hidden layer"],
  [/activation\.(tanh|cdf)$/, "activation function, inner part"],
  [/mlp\.active$/, "hidden layer after the activation function"], [/mlp\.projected$/, "what the MLP adds"],
  [/transformed$/, "what the MLP adds"], [/rstd$/, "reciprocal standard deviation"], [/xhat$/, "normalised vectors"],
  [/gain$/, "gain of the norm"], [/norm\.bias$/, "bias of the norm"],
  [/qkv\.weight$/, "weights of queries, keys, values"], [/qkv\.bias$/, "biases of queries, keys, values"],
  [/attention\.projection\.weight$/, "weights of attention's projection"],
  [/attention\.projection\.bias$/, "biases of attention's projection"],
  [/up\.weight$/, "weights into the hidden layer"], [/up\.bias$/, "biases of the hidden layer"],
  [/down\.weight$/, "weights out of the hidden layer"], [/down\.bias$/, "biases out of the hidden layer"],
];

function nameOf(tensor) {
  const known = tensor.page.model && NAMES.find(([pattern]) => pattern.test(tensor.name));
  return known ? known[1] : tensor.name;
}

function blockOf(tensor) {
  const found = /^blocks\.(\d+)\./.exec(tensor.name);
  return found ? Number(found[1]) : null;
}

// The label of an index along an axis: a token, a word of the vocabulary, or the number
function indexLabel(tensor, axis, index, text = 0) {
  const kind = tensor.axes?.[axis], words = tensor.page.text;
  if (hasTokens(tensor, axis) && words.tokens[text]?.[index] !== undefined) return words.tokens[text][index];
  if (kind === "vocabulary" && words) return words.vocabulary[index];
  return String(index);
}

const isPlace = (kind) => kind === "token" || kind === "key" || kind === "position";

// Whether the indices of an axis are tokens of a text. A position embedding belongs to all texts of a batch.
const hasTokens = (tensor, axis) => isPlace(tensor.axes?.[axis]) && Boolean(tensor.page.text?.tokens)
  && (tensor.axes[axis] !== "position" || tensor.page.text.tokens.length === 1);

// The text of a batch that a cell belongs to
const textOf = (tensor, cell) => (tensor.axes?.[0] === "text" ? cell[0] : 0);

// A token and its position: two rows of a text can have the same token. the, 0 -> the₀
const placed = (word, index) => word + String(index).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);

const isWord = (tensor, axis) => hasTokens(tensor, axis) || tensor.axes?.[axis] === "vocabulary";

// "queries[head 1, cat, channel 3]": what a person reads
function cellName(tensor, flat) {
  const cell = tensor.cell(flat);
  const parts = cell.map((index, axis) => {
    const kind = tensor.axes?.[axis];
    if (kind === "text" && tensor.shape[axis] === 1) return "";
    if (hasTokens(tensor, axis) && tensor.page.text.tokens[textOf(tensor, cell)]?.[index] !== undefined) {
      return (kind === "key" ? "to " : "") + placed(indexLabel(tensor, axis, index, textOf(tensor, cell)), index);
    }
    if (kind === "vocabulary") return indexLabel(tensor, axis, index);
    return kind ? `${kind} ${index}` : String(index);
  }).filter(Boolean);
  return parts.length ? `${nameOf(tensor)} [${parts.join(", ")}]` : nameOf(tensor);
}

function shapeInWords(tensor) {
  const parts = tensor.shape.map((n, axis) => {
    const kind = tensor.axes?.[axis];
    if (!kind) return String(n);
    if (kind === "text" && n === 1) return "";
    return kind === "vocabulary" ? `${plural(n, "token")} of the vocabulary` : plural(n, kind);
  });
  return parts.filter(Boolean).join(" × ") || "one number";
}

const label = (tensor, flat) => (tensor.shape.length ? `${tensor.name}[${tensor.cell(flat).join(",")}]` : tensor.name);

// The address of a view: #tensor[cell] for a gradient, #tensor[cell]:value for a value, #overview, #proof
function addressOf(tensor, flat, mode = "gradient") {
  return `#${label(tensor, flat)}${mode === "value" ? ":value" : ""}`;
}

function readAddress(page, hash) {
  let text = hash.replace(/^#/, "");
  try { text = decodeURIComponent(text); } catch { /* a stray % */ }
  const found = /^(?:∂L\/∂ ?)?(.+?)(?:\[(\d+(?:, ?\d+)*)\])?(:value)?$/s.exec(text);
  const tensor = found && page.tensors.get(found[1]);
  if (!tensor) {
    const isUnknown = text && !["proof", "overview"].includes(text);
    return { view: text === "proof" ? "proof" : "overview", unknown: isUnknown ? text : "" };
  }
  const cell = (found[2] ?? "").split(",").filter((part) => part.trim()).map(Number);
  const fits = cell.length === tensor.shape.length && cell.every((index, axis) => index < tensor.shape[axis]);
  const mode = found[3] || !tensor.hasGradient ? "value" : "gradient";
  const isUnknown = (found[2] !== undefined || tensor.shape.length === 0) && !fits;
  return {
    view: "tensor",
    tensor,
    flat: fits ? tensor.flat(cell) : strongest(tensor, mode),
    mode,
    unknown: isUnknown ? text : "",
  };
}

// The cell with the largest number, of the gradient or of the value
function strongest(tensor, mode) {
  const numbers = mode === "gradient" ? gradientOf(tensor) : tensor.value;
  let best = 0;
  if (numbers) {
    numbers.forEach((x, i) => {
      if (Number.isFinite(x) && Math.abs(x) > Math.abs(numbers[best] || 0)) best = i;
    });
  }
  return best;
}
