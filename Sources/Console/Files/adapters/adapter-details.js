// What is known of one adapter, and the actions on it and its versions.
import { pathOf, post, remove, request } from "/console/api.js";
import { ask, attempt, button, check, field, h, notify } from "/console/dom.js";
import { bytes, count, time } from "/console/format.js";

/** The details of an adapter. `changed` is called after each action. */
export function adapterDetails(adapter, requests, changed) {
  const { name } = adapter;
  const path = `/v1/adapters/${pathOf(name)}`;
  const action = (label, run, attributes) => {
    const control = button(label, () => attempt(control, async () => {
      await run();
      changed();
    }), attributes);
    return control;
  };
  const reload = (fields) => post(path, fields);
  const isLoaded = ["loaded", "on_disk"].includes(adapter.state);
  const hasVersions = adapter.versions.length > 0;
  const controls = h("div", { class: "row" },
    isLoaded && h("a", { class: "button", href: `#chat/${encodeURIComponent(name)}` }, "Chat"),
    hasVersions && adapter.state !== "loaded" && action("Load", () => reload({})),
    isLoaded && (adapter.pinned
      ? action("Unpin", () => reload({ pinned: false }))
      : action("Pin in memory", () => reload({ pinned: true }))),
    isLoaded && action("Unload", () => post("/v1/unload_lora_adapter", { lora_name: name })),
    hasVersions && action("Download", () => download(path, name)),
    hasVersions && action("Delete", async () => {
      if (await sure(`Delete ${name} with all its versions?`)) await remove(path);
    }, { class: "danger" }));
  const facts = [
    ["Reason", adapter.reason], ["Version", adapter.version], ["Rank", adapter.rank], ["Modules", adapter.targets?.join(", ")],
    ["Size", adapter.bytes && `${bytes(adapter.bytes)} in memory, ${bytes(adapter.file_bytes)} on disk`],
    ["Requests", `${count(requests)} since the server started`], ["Loaded from", adapter.source ?? (hasVersions && "an upload, or trained here")],
    ["Contents", adapter.content_hash?.slice(0, 16)],
  ].filter(([, value]) => value);
  const version = (entry) => h("tr", {},
    h("td", {}, entry.version, entry.version === adapter.version && h("span", { class: "badge good inline" }, "current")),
    h("td", { class: "wide" }, time(entry.created)), h("td", { class: "number wide" }, bytes(entry.file_bytes)),
    h("td", { class: "number" }, h("span", { class: "row tight end" },
      isLoaded && h("a", { class: "button small", href: `#chat/${encodeURIComponent(`${name}@${entry.version}`)}`, "aria-label": `Chat with version ${entry.version}` }, "Chat"),
      entry.version !== adapter.version && action("Make current", () => reload({ version: entry.version }), { class: "quiet" }),
      action("Download", () => download(`${path}`, name, entry.version), { class: "quiet", "aria-label": `Download version ${entry.version}` }),
      action("Delete", async () => {
        if (await sure(`Delete version ${entry.version} of ${name}?`)) await remove(`${path}?version=${entry.version}`);
      }, { class: "quiet danger", "aria-label": `Delete version ${entry.version}` }))));
  const versions = hasVersions && h("table", { class: "versions" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Version"), h("th", { scope: "col", class: "wide" }, "Registered"),
      h("th", { scope: "col", class: "number wide" }, "Size"), h("th", { scope: "col", class: "number" }, h("span", { class: "unseen" }, "Actions")))),
    h("tbody", {}, adapter.versions.toReversed().map(version)));
  return h("div", { class: "stack" }, controls,
    h("dl", { class: "facts" }, facts.map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)])), versions);
}

async function sure(question) {
  return (await ask(question, [], { action: "Delete", danger: true, text: "Running requests finish. This cannot be undone." })) !== null;
}

/** Saves an adapter's archive. It is fetched here, because a link could not send the key. */
async function download(path, name, version) {
  const response = await request(`${path}/content${version ? `?version=${version}` : ""}`);
  const url = URL.createObjectURL(await response.blob());
  h("a", { href: url, download: `${name.replaceAll(/[/:]/g, "-")}${version ? `@${version}` : ""}.tar` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Asks for a folder of the server, and loads it. */
export async function loadFromServer(changed) {
  const values = await ask("Load from the server's folder", [
    field("Folder", h("input", { name: "path", required: true }), "Relative to the folder that the server was started with (--adapters)."),
    field("Name", h("input", { name: "name", placeholder: "as the folder" })),
    check("Keep in memory (pinned)", { name: "pinned" }),
  ], { action: "Load" });
  if (!values) return;
  await attempt(null, async () => {
    const name = values.name || values.path.split("/").filter(Boolean).at(-1);
    const loaded = await post("/v1/load_lora_adapter", {
      lora_name: name, lora_path: values.path, ...(values.pinned && { pinned: true }),
    });
    notify(`${name} is loaded as version ${loaded.version}`);
    changed();
  });
}
