// The loss as a function of one weight: computed by this page's own forward pass, beside the tangent of our gradient.

const POINTS = 21;

function lossAt(page, tensor, flat, by) {
  const array = Float64Array.from(tensor.value);
  array[flat] += by;
  const now = forward(page.operations, new Map([[tensor, array]])), loss = page.tensors.get("loss");
  return now.get(loss)?.[0] ?? loss.value[0];
}

function nudgeCard(page, state) {
  const { tensor, flat } = state, gradient = gradientOf(tensor);
  if (tensor.kind !== "param" || gradient === null) return "";
  if (!page.operations.length || !page.operations.every(isReady)) return "";
  if (!Number.isFinite(gradient[flat]) || !Number.isFinite(page.tensors.get("loss").value[0])) return "";
  const reach = Math.max(0.1, ...tensor.value.slice(0, 4096).map(Math.abs)), loss = page.tensors.get("loss").value[0];
  const steps = Array.from({ length: POINTS }, (_, i) => (reach * (2 * i - POINTS + 1)) / (POINTS - 1));
  const losses = new Array(POINTS).fill(null), slope = gradient[flat];
  const picture = make("div", { class: "plot" }), said = make("output", { "aria-live": "polite" });
  const slider = make("input", {
    type: "range",
    min: 0,
    max: POINTS - 1,
    step: 1,
    value: (POINTS - 1) / 2,
    "aria-label": "change of the weight",
  });
  const draw = () => {
    const known = losses.filter((x) => x !== null && Number.isFinite(x));
    const tangent = steps.map((by) => loss + slope * by);
    const low = Math.min(...known, loss), high = Math.max(...known, loss), tall = high - low || 1e-9;
    const x = (i) => 8 + (i * 304) / (POINTS - 1), y = (number) => 112 - (96 * (number - low)) / tall;
    const point = (number, i) => (number === null || !Number.isFinite(number) ? "" : `${x(i)},${y(number)}`);
    const line = (numbers) => numbers.map(point).filter(Boolean).join(" ");
    const inPicture = (number) => (number > high + tall || number < low - tall ? null : number);
    const lossLabel = ([number, at]) => make("text", { x: 2, y: at, class: "axis" }, `loss ${show(number)}`);
    const stepLabel = ([by, at, anchor]) =>
      make("text", { x: at, y: 136, class: "axis", "text-anchor": anchor }, `${by > 0 ? "+" : ""}${show(by)}`);
    const hasRange = losses.filter((x) => x !== null).length > 2;
    const i = Number(slider.value);
    const title = "the loss, and its tangent, around this weight";
    picture.replaceChildren(make("svg", { viewBox: "0 0 320 140", role: "img", "aria-label": title },
      make("polyline", { class: "tangent", points: line(tangent.map(inPicture)) }),
      make("polyline", { class: "loss", points: line(losses) }),
      ...(hasRange ? [[high, 16], [low, 112]].map(lossLabel) : []),
      ...[[steps[0], 4, "start"], [steps.at(-1), 316, "end"]].map(stepLabel),
      losses[i] === null || !Number.isFinite(losses[i]) ? "" : make("circle", { cx: x(i), cy: y(losses[i]), r: 5 })));
    const lossHere = losses[i] === null ? "…" : exact(losses[i]), weight = exact(tensor.value[flat] + steps[i]);
    said.textContent = `weight ${weight}: loss ${lossHere}, tangent ${exact(tangent[i])}`;
  };
  slider.addEventListener("input", draw);
  const order = steps.map((_, i) => i).sort((a, b) => Math.abs(steps[a]) - Math.abs(steps[b]));
  const some = () => {
    const until = performance.now() + 12;
    while (order.length && performance.now() < until) {
      const i = order.shift();
      losses[i] = lossAt(page, tensor, flat, steps[i]);
    }
    draw();
    if (order.length && picture.isConnected) setTimeout(some);
  };
  draw();
  setTimeout(some, 60);
  const about = "The solid line is the loss of a new forward pass for each change of the weight. "
    + "The dashed line is our gradient: the tangent at 0.";
  return section("Nudge this weight", make("p", {}, about), picture, slider, make("p", {}, said));
}
