// The adapters: what there is, in which state, and what can be done with it.
import { all, get, text } from "/console/api.js";
import { button, field, fill, h, notify } from "/console/dom.js";
import { bytes, count } from "/console/format.js";
import { adapterDetails, loadFromServer } from "/console/adapter-details.js";
import { compare } from "/console/compare.js";
import { parse, sum, values } from "/console/metrics.js";
import { parse as terms, selector } from "/console/picker.js";
import { uploadArea } from "/console/upload.js";

const period = 3000;
const shownLimit = 200;

export function adaptersPage(main, { argument, signal }) {
  const page = new Adapters(signal, argument);
  fill(main, page.element);
  const timer = setInterval(() => document.hidden || page.refresh(), period);
  signal.addEventListener("abort", () => clearInterval(timer));
  page.refresh();
}

class Adapters {
  list = [];
  requests = new Map();
  selected = new Map();
  drawn = "";

  constructor(signal, open) {
    this.signal = signal;
    this.open = open;
    this.rows = h("div");
    this.selection = h("div");
    this.comparison = h("div");
    this.memory = h("p", { class: "muted" });
    this.filter = h("input", { type: "search", placeholder: "Filter by name", "aria-label": "Filter by name", oninput: () => this.draw() });
    this.element = h("div", { class: "frame" },
      h("div", { class: "title" }, h("h1", {}, "Adapters"), this.memory),
      uploadArea(() => this.refresh()),
      h("div", { class: "row" }, h("div", { class: "filter" }, this.filter),
        button("Load from the server's folder", () => loadFromServer(() => this.refresh()), { class: "push" })),
      this.selection, this.rows, this.comparison);
  }

  async refresh() {
    try {
      const [page, adapters, metrics] = await Promise.all([
        get("/v1/adapters?limit=1", { signal: this.signal }), all("/v1/adapters"), text("/metrics", { signal: this.signal }),
      ]);
      this.list = adapters;
      this.requests = served(parse(metrics));
      const { budget, bytes: used, adapters: number } = page.memory;
      this.memory.textContent = `${count(number)} in memory, ${bytes(used)} of ${bytes(budget)}`;
      this.draw();
    } catch (error) {
      if (error.name !== "AbortError") this.memory.textContent = error.message;
    }
  }

  draw() {
    const wanted = this.filter.value.toLowerCase();
    const found = this.list.filter((adapter) => adapter.name.toLowerCase().includes(wanted));
    // What a person points at or types in must not be replaced without need.
    const state = JSON.stringify([found, [...this.requests], [...this.selected.keys()], this.open]);
    if (state === this.drawn) return;
    this.drawn = state;
    const focused = document.activeElement?.dataset?.key;
    for (const name of this.selected.keys()) if (!this.list.some((adapter) => adapter.name === name)) this.selected.delete(name);
    this.drawSelection();
    if (found.length === 0) {
      const message = this.list.length === 0 ? "There are no adapters yet." : "No adapter has such a name.";
      return fill(this.rows, h("p", { class: "card empty" }, message));
    }
    const heads = [["Name"], ["State"], ["Version", "number wide"], ["Rank", "number wide"], ["Size", "number wide"], ["Requests", "number wide"], [""]];
    fill(this.rows, h("div", { class: "card" }, h("table", { class: "adapters" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "unseen" }, "Select")),
        heads.map(([name, kind]) => h("th", { scope: "col", class: kind }, name || h("span", { class: "unseen" }, "Actions"))))),
      h("tbody", {}, found.slice(0, shownLimit).map((adapter) => this.row(adapter)))),
    found.length > shownLimit && h("p", { class: "empty" }, `${count(found.length - shownLimit)} more: filter by name.`)));
    if (focused) this.rows.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  row(adapter) {
    const { name } = adapter;
    const isOpen = this.open === name;
    const canAnswer = ["loaded", "on_disk"].includes(adapter.state);
    const select = h("input", {
      type: "checkbox", "aria-label": `Select ${name}`, checked: this.selected.has(name), "data-key": `select ${name}`,
      onchange: () => {
        if (select.checked) this.selected.set(name, 1);
        else this.selected.delete(name);
        this.draw();
      },
    });
    const number = this.requests.get(name) ?? 0;
    const row = h("tr", { class: isOpen ? "open" : undefined },
      h("td", {}, select),
      h("td", { class: "name" }, name, adapter.warning && h("p", { class: "small muted" }, adapter.warning)),
      h("td", {}, badges(adapter)),
      h("td", { class: "number wide" }, adapter.version ?? "–"),
      h("td", { class: "number wide" }, adapter.rank ?? "–"),
      h("td", { class: "number wide" }, bytes(adapter.bytes)),
      h("td", { class: "number wide" }, count(number)),
      h("td", { class: "number" },
        canAnswer && h("a", { class: "button wide", href: `#chat/${encodeURIComponent(name)}` }, "Chat"), " ",
        button(isOpen ? "Less" : "More", () => {
          this.open = isOpen ? null : name;
          this.draw();
        }, { "aria-expanded": String(isOpen), "aria-label": `${isOpen ? "Less" : "More"} about ${name}`, "data-key": `more ${name}` })));
    if (!isOpen) return row;
    return [row, h("tr", { class: "details" }, h("td", { colspan: "8" }, adapterDetails(adapter, number, () => this.refresh())))];
  }

  drawSelection() {
    const names = [...this.selected.keys()];
    if (names.length === 0) {
      this.comparison.replaceChildren();
      return this.selection.replaceChildren();
    }
    const go = (argument) => { location.hash = `chat/${argument}`; };
    const scales = names.map((name) => {
      const value = h("span", {}, this.selected.get(name).toFixed(2));
      const slider = h("input", {
        type: "range", min: "0", max: "2", step: "0.05", value: String(this.selected.get(name)), "data-key": `scale ${name}`,
        oninput: () => {
          this.selected.set(name, Number(slider.value));
          value.textContent = Number(slider.value).toFixed(2);
        },
      });
      return field(h("span", {}, `Scale of ${name} `, value), slider);
    });
    const chosen = () => names.map((name) => ({ name, scale: this.selected.get(name) }));
    fill(this.selection, h("section", { class: "card stack", "aria-label": "Selected adapters" },
      h("div", { class: "fields" }, scales),
      h("div", { class: "row" },
        button(names.length > 1 ? "Mix in the chat" : "Open in the chat", () => go(selector(chosen())), { class: "primary" }),
        names.length === 2 && button("Side by side", () => go(chosen().map((term) => selector([term])).join("|"))),
        names.length > 1 && button("Compare configurations", () => compare(this.comparison, names).catch((error) => notify(error.message, true))),
        button("Clear", () => {
          this.selected.clear();
          this.draw();
        }, { class: "quiet" }))));
  }
}

/** Requests since the server's start, by adapter. Those of a mix count for each adapter in it. */
function served(metrics) {
  const result = new Map();
  for (const label of values(metrics, "graft_requests_total", "adapter")) {
    const number = sum(metrics, "graft_requests_total", { adapter: label });
    for (const { name } of terms(label)) {
      const bare = name.replace(/@\d+$/, "");
      result.set(bare, (result.get(bare) ?? 0) + number);
    }
  }
  return result;
}

function badges(adapter) {
  const states = {
    loaded: ["In memory", "good"], on_disk: ["On disk", ""], unloaded: ["Unloaded", ""],
    incompatible: ["Incompatible", "warn"], refused: ["Refused", "error"],
  };
  const [name, kind] = states[adapter.state] ?? [adapter.state, ""];
  return h("span", { class: "row tight" }, h("span", { class: `badge ${kind}` }, name),
    adapter.pinned && h("span", { class: "badge warn" }, "Pinned"));
}
