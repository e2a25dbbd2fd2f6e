// Requests to the server. When it answers that a key is missing or wrong, the key is asked for and the request repeated.
import { ask, field, h } from "/console/dom.js";
import { load, save } from "/console/storage.js";

let key = sessionValue() ?? load("key", null);
let asking = null;

function sessionValue() {
  try {
    return sessionStorage.getItem("graft.key");
  } catch {
    return null;
  }
}

/** An error that the server answered with. */
export class APIError extends Error {
  constructor(status, error) {
    super(error?.message ?? `The server answered with status ${status}`);
    this.status = status;
    this.code = error?.code;
    this.param = error?.param;
    this.details = error;
  }
}

/** Asks for the key, once for all requests that wait for it. */
function askForKey() {
  asking ??= ask(
    "API key",
    [
      field("Key", h("input", { name: "key", type: "password", required: true, autocomplete: "off", autofocus: true })),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "keep" }), "Keep it in this browser"),
    ],
    { action: "Continue", text: key === null ? "This server needs a key." : "The server does not accept this key." }
  ).then((values) => {
    asking = null;
    if (!values) return false;
    key = values.key;
    if (values.keep) save("key", key);
    try {
      sessionStorage.setItem("graft.key", key);
    } catch {
      // The key is kept until the page is closed.
    }
    return true;
  });
  return asking;
}

/** A response with a status of success. Its body has not been read. */
export async function request(path, options = {}) {
  for (;;) {
    const used = key;
    const headers = { ...options.headers };
    if (key !== null) headers.Authorization = `Bearer ${key}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server cannot be reached");
    }
    if (response.ok) return response;
    const body = await response.json().catch(() => null);
    // Another request may have asked for the key meanwhile.
    if (response.status === 401 && (used !== key || (!options.quiet && (await askForKey())))) continue;
    throw new APIError(response.status, body?.error);
  }
}

export async function get(path, options) {
  return (await request(path, options)).json();
}

export async function text(path, options) {
  return (await request(path, options)).text();
}

/** Sends a JSON body. */
export async function post(path, body, options = {}) {
  return (await request(path, { method: "POST", ...json(body), ...options })).json();
}

export async function remove(path) {
  return (await request(path, { method: "DELETE" })).json();
}

function json(body) {
  return { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body ?? {}) };
}

/** The path of a name that may have slashes, which the server takes as they are. */
export function pathOf(name) {
  return name.split("/").map(encodeURIComponent).join("/");
}

/** All elements of a list that comes in pages. */
export async function all(path, limit = 1000) {
  const elements = [];
  let after = null;
  for (;;) {
    const query = new URLSearchParams({ limit, ...(after && { after }) });
    const page = await get(`${path}${path.includes("?") ? "&" : "?"}${query}`);
    elements.push(...page.data);
    if (!page.has_more || page.data.length === 0) return elements;
    after = page.last_id ?? page.data.at(-1).id ?? page.data.at(-1).name;
  }
}

/** The objects of a stream of server-sent events. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length === 0) continue;
      if (data[0] === "[DONE]") return;
      const event = JSON.parse(data.join("\n"));
      if (event.error) throw new APIError(event.error.status ?? 500, event.error);
      yield event;
    }
  }
}
