// Which page is shown, the colours, and the state of the server.
import { get } from "/console/api.js";
import { fill, h, svg } from "/console/dom.js";
import { load, save } from "/console/storage.js";
import { chatPage } from "/console/chat.js";
import { adaptersPage } from "/console/adapters.js";
import { trainingPage } from "/console/training.js";
import { serverPage } from "/console/server.js";

const pages = [
  { name: "chat", title: "Chat", show: chatPage, icon: "M3 4h14v10H9l-4 3v-3H3z" },
  { name: "adapters", title: "Adapters", show: adaptersPage, icon: "M10 3l7 4-7 4-7-4zM3 11l7 4 7-4" },
  { name: "training", title: "Training", show: trainingPage, icon: "M3 3v14h14M6 6c2 6 5 7 10 8" },
  { name: "server", title: "Server", show: serverPage, icon: "M3 4h14v5H3zM3 11h14v5H3zM6 6.5h1M6 13.5h1" },
];

let leave = null;

function address() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    // An address that is not well formed means the first page.
    return "";
  }
}

/** Shows the page that the address names: `#chat`, `#training/ftjob-…`. */
function show() {
  const [name, ...rest] = address().split("/");
  const page = pages.find((page) => page.name === name) ?? pages[0];
  leave?.();
  const main = document.getElementById("page");
  main.replaceChildren();
  main.scrollTop = 0;
  main.dataset.page = page.name;
  document.title = `${page.title} – Graft`;
  for (const link of document.querySelectorAll("#pages a")) {
    if (link.hash === `#${page.name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const stop = new AbortController();
  leave = () => stop.abort();
  page.show(main, { argument: rest.join("/"), signal: stop.signal });
}

function navigation() {
  fill(document.getElementById("pages"), pages.map((page) =>
    h("a", { href: `#${page.name}` }, svg("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, svg("path", { d: page.icon })), page.title)));
}

const themes = { auto: ["◐", "Colours: as the system"], light: ["☀", "Colours: light"], dark: ["☾", "Colours: dark"] };

function theme() {
  const control = document.getElementById("theme");
  const names = Object.keys(themes);
  let current = load("theme", "auto");
  const apply = () => {
    document.documentElement.dataset.theme = current;
    control.textContent = themes[current][0];
    control.setAttribute("aria-label", themes[current][1]);
    control.title = themes[current][1];
  };
  control.addEventListener("click", () => {
    current = names[(names.indexOf(current) + 1) % names.length];
    save("theme", current);
    apply();
  });
  apply();
}

/** Shows whether the server answers. */
async function watch() {
  const state = document.getElementById("state");
  let version = null;
  for (;;) {
    try {
      await get("/health");
      version ??= (await get("/version", { quiet: true }).catch(() => ({}))).version ?? null;
      state.dataset.state = "ok";
      state.textContent = version ? `Graft ${version}` : "Running";
    } catch (error) {
      state.dataset.state = "bad";
      state.textContent = error.message.length < 40 ? error.message : "Not working";
    }
    await new Promise((resolve) => setTimeout(resolve, 5000));
  }
}

navigation();
theme();
addEventListener("hashchange", show);
show();
watch();
