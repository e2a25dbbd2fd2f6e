// Uploads adapters: a folder, files, or a zip archive, dropped or chosen.
import { pathOf, request } from "/console/api.js";
import { attempt, button, check, field, fill, h, notify } from "/console/dom.js";
import { bytes } from "/console/format.js";
import { entries } from "/console/zip.js";

const names = ["adapter_config.json", "adapter_model.safetensors"];

/** The area for uploads. `done` is called after each. */
export function uploadArea(done) {
  const found = h("div", { class: "stack" });
  const choose = (attributes, label) => {
    const input = h("input", { type: "file", multiple: true, hidden: true, "aria-label": label, ...attributes });
    input.addEventListener("change", async () => {
      await offer(Array.from(input.files, (file) => ({ path: file.webkitRelativePath || file.name, blob: file })));
      input.value = "";
    });
    return [input, button(label, () => input.click())];
  };
  const area = h("div", { class: "drop" },
    h("p", {}, "Drop an adapter here: a folder, its two files, or a zip archive."),
    h("div", { class: "row" }, choose({ webkitdirectory: true }, "Choose a folder"), choose({}, "Choose files or a zip")));

  async function offer(files) {
    fill(found, h("p", { class: "muted" }, "Reading…"));
    try {
      const adapters = group(await opened(files));
      if (adapters.length === 0) throw new Error(`There is no folder with ${names.join(" and ")}`);
      fill(found, adapters.map((adapter) => form(adapter)));
      found.querySelector("input")?.focus();
    } catch (error) {
      fill(found);
      notify(error.message, true);
    }
  }

  function form(adapter) {
    const name = h("input", { value: adapter.name, required: true, name: "name" });
    const pinned = check("Keep in memory (pinned)");
    const submit = h("button", { class: "primary" }, "Upload");
    const element = h("form", { class: "card stack" },
      h("p", { class: "small muted" }, adapter.files.map((file) => `${file.path} ${bytes(file.size ?? file.blob.size)}`).join(" · ")),
      h("div", { class: "row" }, field("Name", name), pinned, submit, button("Discard", () => element.remove(), { class: "quiet" })));
    element.addEventListener("submit", (event) => {
      event.preventDefault();
      attempt(submit, async () => {
        submit.textContent = "Uploading…";
        try {
          await send(name.value, adapter.files, pinned.input.checked);
        } finally {
          submit.textContent = "Upload";
        }
        element.remove();
        notify(`${name.value} is loaded`);
        done();
      });
    });
    return element;
  }

  area.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", async (event) => {
    event.preventDefault();
    area.classList.remove("over");
    try {
      await offer(await dropped(event.dataTransfer));
    } catch (error) {
      notify(error.message, true);
    }
  });
  return h("div", { class: "stack" }, area, found);
}

async function send(name, files, isPinned) {
  const form = new FormData();
  for (const file of files) {
    const blob = typeof file.blob === "function" ? await file.blob() : file.blob;
    form.append("files", blob, file.path.split("/").at(-1));
  }
  if (isPinned) form.append("pinned", "true");
  await request(`/v1/adapters/${pathOf(name)}`, { method: "PUT", body: form });
}

/** The files, with those of archives in their place. */
async function opened(files) {
  const lists = await Promise.all(files.map(async (file) => {
    if (!file.path.toLowerCase().endsWith(".zip")) return [file];
    const stem = file.path.split("/").at(-1).slice(0, -4);
    return (await entries(file.blob)).map((entry) => ({ ...entry, path: `${stem}/${entry.path}` }));
  }));
  return lists.flat();
}

/** The folders that have both of an adapter's files. */
function group(files) {
  const folders = new Map();
  for (const file of files) {
    const parts = file.path.split("/");
    const last = parts.pop();
    if (!names.includes(last)) continue;
    const folder = parts.join("/");
    folders.set(folder, [...(folders.get(folder) ?? []), file]);
  }
  return Array.from(folders, ([folder, files]) => ({ name: adapterName(folder.split("/").at(-1)), files }))
    .filter((adapter) => adapter.files.length === names.length);
}

/** A name that the server accepts. */
function adapterName(text) {
  const name = text.replaceAll(/[^A-Za-z0-9._-]+/g, "-").replaceAll(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, "");
  return name || "adapter";
}

/** All files that were dropped, with those of folders. */
async function dropped(transfer) {
  const roots = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (roots.length === 0) return Array.from(transfer.files, (file) => ({ path: file.name, blob: file }));
  const files = [];
  const visit = async (entry, depth) => {
    if (files.length > 5000 || depth > 8) throw new Error("The folder has too many files");
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      files.push({ path: entry.fullPath.replace(/^\//, ""), blob: file });
      return;
    }
    const reader = entry.createReader();
    // A reader returns the entries in groups, and none at the end.
    for (;;) {
      const group = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (group.length === 0) return;
      for (const child of group) await visit(child, depth + 1);
    }
  };
  for (const root of roots) await visit(root, 0);
  return files;
}
