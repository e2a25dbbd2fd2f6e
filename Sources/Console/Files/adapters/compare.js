// Compares the configurations of adapters, which are read from their downloads.
import { pathOf, request } from "/console/api.js";
import { button, fill, h } from "/console/dom.js";

const block = 512;

/** An adapter's adapter_config.json. Only as much of the archive is read as is needed. */
export async function configuration(name) {
  const stop = new AbortController();
  const response = await request(`/v1/adapters/${pathOf(name)}/content`, { signal: stop.signal });
  const reader = response.body.getReader();
  let bytes = new Uint8Array(0);
  const need = async (length) => {
    while (bytes.length < length) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`The download of ${name} ends early`);
      const joined = new Uint8Array(bytes.length + value.length);
      joined.set(bytes);
      joined.set(value, bytes.length);
      bytes = joined;
    }
  };
  const text = (begin, length) => new TextDecoder().decode(bytes.subarray(begin, begin + length)).replace(/\0.*$/s, "");
  try {
    for (;;) {
      await need(block);
      const path = text(0, 100);
      const size = Number.parseInt(text(124, 12), 8);
      if (!Number.isFinite(size) || size < 0 || path === "") throw new Error(`The download of ${name} has no configuration`);
      const isWanted = path.endsWith("adapter_config.json");
      const end = block + Math.ceil(size / block) * block;
      // A header for a long path comes before the file itself.
      if (!isWanted && end > 1 << 20) throw new Error(`The configuration of ${name} is behind its weights`);
      await need(isWanted ? block + size : end);
      if (isWanted) return JSON.parse(text(block, size));
      bytes = bytes.subarray(end);
    }
  } finally {
    stop.abort();
  }
}

/** Shows the configurations side by side; values that differ are marked. */
export async function compare(area, names) {
  const configurations = await Promise.all(names.map(configuration));
  const keys = [...new Set(configurations.flatMap(Object.keys))].sort();
  const shown = (value) => (value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(sorted(value)));
  const rows = keys.map((key) => {
    const values = configurations.map((configuration) => shown(configuration[key]));
    return { key, values, differs: new Set(values).size > 1 };
  });
  rows.sort((a, b) => b.differs - a.differs);
  const different = rows.filter((row) => row.differs).length;
  fill(area, h("section", { class: "card dense", "aria-label": "Configurations" },
    h("div", { class: "title" }, h("h2", {}, different === 0 ? "The configurations are equal" : `${different} settings differ`),
      button("Close", () => area.replaceChildren(), { class: "quiet" })),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Configurations side by side" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Setting"), names.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", { class: row.differs ? "differs" : undefined },
        h("th", { scope: "row" }, row.key), row.values.map((value) => h("td", { class: "mono" }, value)))))))));
  area.scrollIntoView({ block: "nearest" });
}

/** Lists in order, since the order of modules has no meaning. */
function sorted(value) {
  return Array.isArray(value) ? [...value].sort() : value;
}
