// A matrix as coloured numbers. A large one is shown through a window that follows the selected cell.

const NUMBER_WIDTH = 70; // pixels

// Args
//   numbers: the flat array to show, or null; flat: the cell that must be visible.
//   most: {rows, columns} of the window; pick(flat): what a click does; null for a map without links.
class HeatMap {
  constructor(tensor, numbers, flat, { mode, most, pick = null, selected = null, caption = "" }) {
    Object.assign(this, { tensor, numbers, mode, most, pick, selected, caption });
    this.axes = tensor.shape.length;
    this.columns = this.axes ? tensor.shape[this.axes - 1] : 1;
    this.rows = this.axes > 1 ? tensor.shape[this.axes - 2] : 1;
    this.lit = new Set();
    this.element = make("div", { class: "heatmap" });
    this.moveTo(flat);
  }

  // Let the window show a cell
  moveTo(flat) {
    const within = flat % (this.rows * this.columns);
    this.first = flat - within; // of this slice
    const [row, column] = [Math.floor(within / this.columns), within % this.columns];
    const start = (at, size, shown, before) => {
      const last = Math.max(0, size - shown);
      if (before !== undefined && at >= before && at < before + shown) return Math.min(before, last);
      return Math.max(0, Math.min(at - Math.floor(shown / 2), last));
    };
    this.top = start(row, this.rows, this.most.rows, this.top);
    this.left = start(column, this.columns, this.most.columns, this.left);
    this.draw();
  }

  draw() {
    const { tensor, top, left, columns } = this, hadFocus = this.element.contains(document.activeElement);
    const height = Math.min(this.rows, this.most.rows), width = Math.min(columns, this.most.columns);
    const largest = this.largest();
    const text = textOf(tensor, tensor.cell(this.first));
    // the first cell of the window: Tab leads to it, if the selected one is hidden
    const start = this.first + top * columns + left;
    this.entry = this.selected !== null && this.shows(this.selected) ? this.selected : start;
    const labelOf = (axis, index) => (axis < 0 ? "" : [make("bdi", {}, indexLabel(tensor, axis, index, text)),
      hasTokens(tensor, axis) ? make("span", { class: "index" }, index) : ""]);
    const head = make("tr", {}, make("td", { class: "corner" }), Array.from({ length: width }, (_, j) =>
      make("th", { scope: "col", class: isWord(tensor, this.axes - 1) ? "word" : "" },
        this.axes ? labelOf(this.axes - 1, left + j) : "")));
    const body = Array.from({ length: height }, (_, i) => make("tr", {},
      make("th", { scope: "row", class: isWord(tensor, this.axes - 2) ? "word" : "" }, labelOf(this.axes - 2, top + i)),
      Array.from({ length: width }, (_, j) => this.cell(this.first + (top + i) * columns + left + j, largest))));
    const table = make("table", { role: this.pick ? "grid" : null, "aria-label": this.caption },
      make("thead", {}, head),
      make("tbody", {}, body));
    if (this.pick) {
      table.addEventListener("click", (event) => {
        const cell = event.target.closest("td[data-flat]");
        if (cell) this.pick(Number(cell.dataset.flat), true);
      });
      table.addEventListener("keydown", (event) => this.key(event));
    }
    const hidden = [[this.rows, height, top, "row"], [columns, width, left, "column"]]
      .filter(([size, shown]) => size > shown);
    const windowOf = ([size, shown, start, word]) => `${word}s ${start} to ${start + shown - 1} of ${size}`;
    this.element.replaceChildren(make("div", { class: "scroll" }, table), hidden.length
      ? make("p", { class: "small" },
        hidden.map(windowOf).join(", "),
        this.pick ? make("span", { class: "pages" }, hidden.flatMap((part) => this.pages(...part))) : "")
      : "");
    if (hadFocus) this.element.querySelector("[tabindex='0']")?.focus();
  }

  pages(size, shown, start, word) {
    const isRow = word === "row";
    return [-1, 1].map((way) => make("button", {
      type: "button",
      "aria-label": `${way < 0 ? "previous" : "next"} ${word}s`,
      disabled: way < 0 ? start === 0 : start + shown >= size,
      on: { click: () => {
        const to = Math.max(0, Math.min(start + way * shown, size - shown));
        if (isRow) this.top = to; else this.left = to;
        this.draw();
      } },
    }, isRow ? (way < 0 ? "↑" : "↓") : (way < 0 ? "←" : "→")));
  }

  largest() {
    let found = 0;
    for (let i = 0; i < (this.numbers?.length ?? 0); i++) {
      if (Number.isFinite(this.numbers[i])) found = Math.max(found, Math.abs(this.numbers[i]));
    }
    return found;
  }

  cell(flat, largest) {
    const x = this.numbers ? this.numbers[flat] : null, isHere = flat === this.selected;
    const isMasked = this.tensor.value?.[flat] === -Infinity; // nothing depends on it
    const strength = Number.isFinite(x) && largest > 0 ? Math.min(1, Math.abs(x) / largest) : 0;
    const isNone = x === null || isMasked || !Number.isFinite(x);
    return make("td", {
      class: `${x < 0 ? "negative" : "positive"}${isHere ? " here" : ""}`
        + `${this.lit.has(flat) ? " lit" : ""}${isNone ? " none" : ""}`,
      role: this.pick ? "gridcell" : null,
      "data-flat": flat,
      title: label(this.tensor, flat),
      tabindex: this.pick ? (flat === this.entry ? "0" : "-1") : null,
      "aria-selected": this.pick ? String(isHere) : null,
      set: { "--strength": `${Math.round(100 * strength)}%` },
    }, isMasked && this.mode === "gradient" ? "masked" : show(x));
  }

  key(event) {
    const cell = event.target.closest("td[data-flat]");
    if (!cell) return;
    const within = Number(cell.dataset.flat) - this.first;
    let [row, column] = [Math.floor(within / this.columns), within % this.columns];
    const steps = {
      ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
      PageUp: [-this.most.rows, 0], PageDown: [this.most.rows, 0],
      Home: [0, -this.columns], End: [0, this.columns],
    };
    const step = steps[event.key];
    if (!step) {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        this.pick(Number(cell.dataset.flat), true);
      }
      return;
    }
    event.preventDefault();
    row = Math.max(0, Math.min(row + step[0], this.rows - 1));
    column = Math.max(0, Math.min(column + step[1], this.columns - 1));
    this.pick(this.first + row * this.columns + column, false);
  }

  light(cells) {
    this.lit = new Set(cells);
    if (cells.length && !cells.some((flat) => this.shows(flat))) this.moveTo(cells[0]);
    for (const cell of this.element.querySelectorAll("td[data-flat]")) {
      cell.classList.toggle("lit", this.lit.has(Number(cell.dataset.flat)));
    }
  }

  shows(flat) {
    const within = flat - this.first, row = Math.floor(within / this.columns), column = within % this.columns;
    const isInSlice = within >= 0 && within < this.rows * this.columns;
    const isInRows = row >= this.top && row < this.top + this.most.rows;
    const isInColumns = column >= this.left && column < this.left + this.most.columns;
    return isInSlice && isInRows && isInColumns;
  }
}

function legend(largest) {
  return make("p", { class: "legend", "aria-hidden": "true" },
    make("span", {}, show(-largest)),
    make("span", { class: "scale" }),
    make("span", {}, show(largest)));
}
