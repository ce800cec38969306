// The page: one state, read from the address; everything else is drawn from it.

// Whether the browser's address is this one; it may spell some characters as %xx
function isSameAddress(address) {
  const plain = (text) => { try { return decodeURIComponent(text); } catch { return text; } };
  return plain(window.location.hash || "#") === plain(address || "#");
}

// Remember what has the focus before a part is drawn anew. The function that is returned gives the focus to what took
// its place: the cell of the map, the button of the same group, the picked number; after a link, to the new view.
function focusKeeper() {
  const before = document.activeElement;
  if (!before || before === document.body) return () => {};
  const group = before.closest("[role=group]")?.getAttribute("aria-label"), text = before.textContent;
  const kind = before.closest("table[role=grid]") ? "grid" : before.tagName.toLowerCase();
  return () => {
    if (before.isConnected) return;
    const isSame = (one) => one.textContent === text
      && one.closest("[role=group]")?.getAttribute("aria-label") === group;
    const same = [...document.querySelectorAll(kind)].find(isSame);
    const next = kind === "grid" ? document.querySelector("table[role=grid] [tabindex='0']")
      : kind === "a" ? null
      : same;
    (next ?? document.getElementById("view")).focus({ preventScroll: true });
  };
}

class Page {
  constructor(data) {
    this.data = data;
    this.tensors = new Tensors(data);
    for (const tensor of this.tensors.all) tensor.page = this;
    this.operations = readOperations(data.operations, this.tensors);
    this.edges = data.edges ? new Edges(data.edges, this.tensors) : null;
    [this.text, this.model] = [data.text, data.model];
    this.proof = new Proof(this, () => this.showProof());
    this.road = { level: "model", block: 0, head: 0 };
    this.view = document.getElementById("view");
    this.panel = document.getElementById("panel");
    this.narrow = window.matchMedia("(max-width: 760px)");
    this.stacked = window.matchMedia("(max-width: 1180px)");
    for (const query of [this.narrow, this.stacked]) query.addEventListener("change", () => this.draw());
    let wide = window.innerWidth;
    window.addEventListener("resize", () => {
      if (Math.abs(window.innerWidth - wide) > 40) {
        wide = window.innerWidth;
        this.draw();
      }
    });
    this.address = window.location.hash;
    window.addEventListener("hashchange", () => { if (!isSameAddress(this.address)) this.draw(window.location.hash); });
    // in a frame of a notebook, "#q" would lead to the notebook's address
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.("a[href^='#']");
      if (link && window.location.protocol === "about:") { event.preventDefault(); this.go(link.getAttribute("href")); }
    });
    document.getElementById("skip").addEventListener("click", (event) => {
      event.preventDefault();
      this.view.focus();
    });
    this.draw();
    this.proof.start();
  }

  go(address, isNew = true) {
    if (isNew) {
      window.location.hash = address;
    } else {
      try { history.replaceState(null, "", address); } catch { /* a frame of a notebook has no history of its own */ }
    }
    this.draw(address);
  }

  draw(address = this.address) {
    this.address = address;
    const leave = focusKeeper();
    const block = /^#block(\d+)$/.exec(address), isStep = address === "#step";
    const state = block ? { view: "overview", block: Number(block[1]) } : readAddress(this, isStep ? "" : address);
    const last = this.state;
    this.state = state;
    if (state.tensor) this.followTensor(state.tensor, state.flat);
    if (block && this.model && state.block >= this.model.n_layer) state.unknown = `block ${state.block}`;
    if (block && this.model) {
      Object.assign(this.road, { level: "block", block: Math.min(state.block, this.model.n_layer - 1) });
    }
    this.drawRoad();
    this.view.replaceChildren();
    this.panel.replaceChildren();
    document.body.classList.toggle("with-panel", state.view === "tensor");
    if (state.unknown) {
      const text = `This page has no ${block ? "" : "cell "}${state.unknown}.`;
      this.view.append(make("p", { class: "card wrong" }, text));
    }
    if (state.view === "tensor") this.drawTensor(state);
    else this.view.append(...(state.view === "proof" ? proofView(this) : overview(this)));
    leave();
    if (!last || last.tensor !== state.tensor || last.view !== state.view) window.scrollTo(0, 0);
    if (isStep) {
      const titles = [...this.view.querySelectorAll("h2")];
      titles.find((title) => title.textContent.startsWith("What this step"))?.scrollIntoView();
    }
    if (block) document.getElementById("road").scrollIntoView({ block: "nearest" });
    document.title = `${state.tensor ? `${label(state.tensor, state.flat)} · ` : ""}npgpt explain`;
    this.showProof();
  }

  followTensor(tensor, flat) {
    const blockIn = (name) => /^blocks\.(\d+)\./.exec(name)?.[1];
    const block = blockOf(tensor) ?? this.tensors.otherNames(tensor).map(blockIn).find((n) => n !== undefined);
    if (block === undefined || block === null) { this.road.level = "model"; return; }
    const isHead = /\.attention\.(q|k|v|scores|softmax|mixed|dropped|dropout)/.test(tensor.name);
    const isOnModel = tensor.name === "positioned" || /^blocks\.\d+\.x$/.test(tensor.name) || tensor.name === "stream";
    if (!(isOnModel && this.road.level !== "head")) this.road.level = isHead ? "head" : "block";
    if (!(isOnModel && this.road.level === "block")) this.road.block = Number(block);
    if (isHead && tensor.shape.length === 4) this.road.head = tensor.cell(flat)[1];
  }

  drawRoad() {
    const place = document.getElementById("road");
    if (!this.model) { place.replaceChildren(this.tensorList()); return; }
    const { level, block, head } = this.road;
    const set = (change) => {
      const leave = focusKeeper();
      Object.assign(this.road, change);
      this.drawRoad();
      leave();
    };
    const options = [["model", "Model"], ["block", `Block ${block}`], ["head", `Head ${head}`]];
    const pick = (name, n, current, text) => {
      if (n <= 1) return "";
      const change = (event) => set({ [name]: Number(event.target.value), level: name });
      const numbers = Array.from({ length: n }, (_, i) => make("option", { value: i, selected: i === current }, i));
      return make("label", {}, `${text} `, make("select", { on: { change } }, numbers));
    };
    const state = { ...this.road, tensor: this.state.tensor, mode: this.state.mode ?? "gradient" };
    place.replaceChildren(
      make("div", { class: "road-head" },
        choice("resolution of the diagram", options, level, (name) => set({ level: name })),
        make("div", { class: "picks" },
          level !== "model" ? pick("block", this.model.n_layer, block, "block") : "",
          level === "head" ? pick("head", this.model.n_head, head, "head") : "")),
      make("div", {
        class: "drawing",
        tabindex: this.narrow.matches ? "0" : null,
        role: "group",
        "aria-label": "diagram",
      }, drawRoad(this, state, this.narrow.matches)),
      make("p", { class: "small" }, sharesInWords(this, level, block)),
      make("p", { class: "small key" },
        make("span", { class: "key-forward" }),
        "forward ",
        make("span", { class: "key-back" }),
        level === "model" ? "gradient back, its norm" : "gradient back, its share at a fork"));
    const here = place.querySelector(".stop.here");
    if (here && this.narrow.matches) {
      const box = here.getBBox();
      place.querySelector(".drawing").scrollLeft = box.x - 120;
    }
  }

  tensorList() {
    const link = (tensor) => make("a", {
      href: addressOf(tensor, 0, tensor.hasGradient ? "gradient" : "value"),
      "aria-current": this.state.tensor === tensor ? "true" : null,
    }, tensor.name);
    return make("ul", { class: "list" }, this.tensors.all.map((tensor) => make("li", {}, link(tensor))));
  }

  drawTensor(state) {
    const { tensor, flat, mode } = state;
    const numbers = mode === "gradient" ? gradientOf(tensor) : tensor.value;
    const space = this.view.clientWidth - 160, columns = Math.max(3, Math.floor(space / NUMBER_WIDTH));
    const map = new HeatMap(tensor, numbers, flat, {
      mode, selected: flat, most: { rows: 16, columns }, caption: `${mode} of ${nameOf(tensor)}`,
      pick: (to, isNew) => this.go(addressOf(tensor, to, mode), isNew),
    });
    const where = blockOf(tensor), modes = [["gradient", "Gradients ∂L/∂x"], ["value", "Values"]];
    const missing = tensor.isCarried
      ? "This gradient cannot be formed from what is on the page."
      : "This tensor is not on the page: it would be too large.";
    this.view.append(make("section", { class: "card tensor" },
      make("h1", {}, nameOf(tensor), make("span", { class: "small" }, where === null ? "" : ` block ${where}`)),
      make("p", { class: "small" },
        make("code", {}, tensor.name),
        ` · ${shapeInWords(tensor)} · `,
        make("span", { "data-badge": tensor.name }, badgeText(this, tensor))),
      tensor.hasGradient
        ? choice("what the numbers are", modes, mode, (to) => this.go(addressOf(tensor, flat, to)))
        : "",
      this.slices(state),
      numbers ? map.element : make("p", {}, missing),
      numbers ? legend(map.largest()) : ""));
    const ledger = mode === "gradient" ? gradientLedger(this, tensor, flat) : valueLedger(tensor, flat);
    const maps = this.neighbours(state, ledger), light = (cells) => {
      for (const [other, its] of maps) its.light(cells.filter((one) => one.tensor === other).map((one) => one.flat));
    };
    this.panel.append(cellPanel(this, state, ledger, light));
    // On a narrow screen the panel stands between the numbers and the rest, for readers of the screen too
    (this.stacked.matches ? this.view : document.getElementById("all")).append(this.panel);
    const nudge = nudgeCard(this, state);
    if (nudge) this.panel.append(nudge);
    if (maps.size) {
      const figure = ([other, its]) => {
        const address = addressOf(other, strongest(other, its.mode), its.mode);
        const name = `${its.mode === "gradient" ? "∂L/∂ " : ""}${nameOf(other)}`;
        return make("figure", {},
          make("figcaption", {}, make("a", { href: address }, name)),
          its.element,
          legend(its.largest()));
      };
      this.view.append(make("section", { class: "card" },
        make("h2", {}, mode === "gradient" ? "Where the terms come from" : "What it is computed from"),
        make("p", { class: "small" }, "Point at a term, or touch it: its cells light up here."),
        make("div", { class: "maps" }, [...maps].map(figure))));
    }
    this.view.append(...lensCard(this, state));
    for (const { layer, path, lines } of linesOf(this, state)) {
      this.view.append(operationCard(this, layer, lines, path));
    }
  }

  // Tabs for the axes before the last two: texts of a batch, heads
  slices({ tensor, flat, mode }) {
    const cell = tensor.cell(flat);
    return tensor.shape.slice(0, -2).map((n, axis) => {
      if (n <= 1) return "";
      const kind = tensor.axes?.[axis];
      const options = Array.from({ length: n }, (_, i) => [i, `${kind ?? "slice"} ${i}`]);
      const flatAt = (to) => tensor.flat(cell.map((index, k) => (k === axis ? to : index)));
      return choice(kind ?? `axis ${axis}`, options, cell[axis], (to) => this.go(addressOf(tensor, flatAt(to), mode)));
    });
  }

  // Small maps of the tensors that the terms of a cell come from: tensor -> HeatMap
  neighbours({ tensor, mode }, ledger) {
    const found = new Map();
    const add = (other, at, what) => {
      if (found.has(other) || !other.isCarried || other.size < 2 || (other === tensor && what === mode)) return;
      const numbers = what === "gradient" ? gradientOf(other) : other.value;
      if (numbers) {
        found.set(other, new HeatMap(other, numbers, at, {
          mode: what,
          most: { rows: 6, columns: this.narrow.matches ? 4 : 6 },
          caption: `${what} of ${nameOf(other)}`,
        }));
      }
    };
    for (const term of ledger?.terms ?? []) {
      if (mode === "gradient") add(term.to, term.flat, "gradient");
      for (const one of mode === "gradient" ? term.with : term.cells) add(one.tensor, one.flat, "value");
    }
    return found;
  }

  showProof() {
    for (const place of document.querySelectorAll("[data-badge]")) {
      place.replaceChildren(badgeText(this, this.tensors.get(place.dataset.badge)));
    }
    const { wrong, isDone } = this.proof, all = this.proof.results.size, place = document.getElementById("proof");
    const recomputed = [...this.proof.results.values()].filter((result) => result.value || result.gradient).length;
    place.className = `badge ${wrong.length ? "wrong" : isDone && recomputed ? "right" : "waiting"}`;
    place.textContent = isDone && !recomputed ? "nothing could be recomputed here"
      : wrong.length ? `✗ ${plural(wrong.length, "tensor")} differ${wrong.length === 1 ? "s" : ""}`
      : isDone ? `✓ ${plural(recomputed, "tensor")} recomputed here`
      : `recomputing: ${all} of ${this.tensors.all.length}`;
  }
}
