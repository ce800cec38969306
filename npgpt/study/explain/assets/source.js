// An operation in words and in code: its derivation as numbered lines, and the line that computes the number.

function operationCard(page, layer, lines, path) {
  if (!layer) return "";
  const lineOf = (way) => layer[way].lines[lines[way]] ?? "";
  const comment = (way) => (lines[way] >= 0 ? /#\s*(\d+)\.(?:.*?(\d+)\.)?/.exec(lineOf(way)) : null);
  const step = comment("backward")?.[1];
  const item = ([number, text]) =>
    make("li", { value: number, class: String(number) === step ? "here" : "" }, typesetStep(text));
  return make("section", { class: "card operation" },
    make("h2", {}, layer.name, make("span", { class: "small" }, path ? ` ${path}` : "")),
    make("p", {}, layer.summary),
    layer.formula
      ? make("p", { class: "formula" }, make("span", { class: "small" }, "forward "), typeset(layer.formula))
      : "",
    layer.steps.length ? make("p", { class: "small" }, "backward, ", typeset(layer.given)) : "",
    make("ol", { class: "steps" }, layer.steps.map(item)),
    ["forward", "backward"].map((way) => code(layer, way, lines[way])));
}

// "cause ⇒ result": the result on a line of its own
function typesetStep(text) {
  const wide = (part) => typeset(part.replace(/ {3,}/g, "\u2003").trim());
  return text.split("\n").flatMap((line) => {
    const [cause, ...results] = line.split("⇒");
    return [
      cause.trim() ? make("span", { class: results.length ? "cause" : "cause alone" }, wide(cause)) : "",
      results.map((result) => make("span", { class: "result" }, "⇒ ", wide(result))),
    ];
  });
}

function code(layer, way, here) {
  const { file, first, lines } = layer[way];
  if (!lines.length) return make("p", { class: "small" }, `The code of ${way} is not in a file.`);
  const indent = Math.min(...lines.filter((line) => line.trim()).map((line) => line.length - line.trimStart().length));
  const body = make("code", {}, lines.map((line, i) => make("span", {
    class: `line${i === here ? " here" : ""}`,
    "data-number": first + i,
  }, line.slice(indent) || " ", "\n")));
  const caption = `${way}, ${file}, line ${first + Math.max(0, here)}`;
  return make("figure", {},
    make("figcaption", { class: "small" }, caption),
    make("pre", { tabindex: "0", "aria-label": `code of ${way}` }, body));
}

// The layers and lines that compute the selected number: its value, or its gradient, which may come from several.
function linesOf(page, state) {
  const { tensor, flat, mode } = state, layers = page.data.layers;
  if (mode === "value" && tensor.makers.length) {
    const operation = tensor.makers.find((one) => solve(one.out, one.sizes, flat).length) ?? tensor.makers[0];
    return [{
      layer: layers[operation.layer],
      path: operation.path,
      lines: { forward: operation.line, backward: -1 },
    }];
  }
  const found = new Map();
  for (const operation of tensor.users) {
    found.set(operation.path, {
      layer: layers[operation.layer],
      path: operation.path,
      lines: {
        forward: operation.out.tensor.makers.length ? operation.line : -1,
        backward: operation.lines[tensor.number] ?? -1,
      },
    });
  }
  if (!found.size && layers[tensor.layer]) {
    const lines = { forward: tensor.lines[0], backward: tensor.lines[1] };
    return [{ layer: layers[tensor.layer], path: "", lines }];
  }
  return [...found.values()];
}
