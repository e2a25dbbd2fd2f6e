// Shows the log-probabilities of the token under the pointer, or of the one that the arrow keys have reached.
import { fill, h } from "/console/dom.js";

let box = null;

/** Makes an answer's tokens show their log-probabilities. */
export function showTokens(text, answer) {
  let current = null;
  const spans = () => Array.from(text.querySelectorAll(".token"));
  const withTokens = () => (answer.parts ?? []).filter((part) => part.tokens.length > 0);
  const show = (span) => {
    hide();
    const part = withTokens()[spans().indexOf(span)];
    if (!part) return;
    current = span;
    span.classList.add("shown");
    box = h("div", { class: "logprobs", role: "tooltip", id: "logprobs" }, part.tokens.map(table));
    // In the page, so that it goes with it.
    text.closest("main").append(box);
    text.setAttribute("aria-describedby", "logprobs");
    const place = span.getClientRects()[0] ?? span.getBoundingClientRect();
    const left = Math.max(8, Math.min(place.left, innerWidth - box.offsetWidth - 8));
    const below = place.bottom + 6;
    const top = below + box.offsetHeight < innerHeight - 8 ? below : place.top - box.offsetHeight - 6;
    box.style.left = `${left}px`;
    box.style.top = `${Math.max(8, top)}px`;
  };
  const hide = () => {
    current?.classList.remove("shown");
    current = null;
    box?.remove();
    box = null;
    text.removeAttribute("aria-describedby");
  };
  const step = (event) => {
    const list = spans();
    if (event.key === "Escape") return hide();
    if (list.length === 0 || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    const index = list.indexOf(current) + (event.key === "ArrowRight" ? 1 : -1);
    show(list[Math.max(0, Math.min(list.length - 1, index))]);
  };
  text.addEventListener("pointerover", (event) => {
    if (event.target.classList.contains("token")) show(event.target);
  });
  text.addEventListener("pointerleave", hide);
  text.addEventListener("blur", hide);
  text.addEventListener("keydown", step);
  text.addEventListener("focus", () => {
    if (spans().length > 0 && !current) show(spans()[0]);
  });
  // A screen reader must know what the arrow keys move in.
  text.setAttribute("role", "group");
  text.setAttribute("aria-label", "Text of the answer");
  text.tabIndex = 0;
}

function table(token) {
  const row = (entry, isDrawn) => {
    const share = Math.exp(entry.logprob);
    return h("tr", { class: isDrawn ? "drawn" : undefined },
      h("td", { class: "mono" }, shown(entry)),
      h("td", { class: "number" }, Math.min(entry.logprob, -0).toFixed(3).replace("-0.000", "0.000")),
      h("td", { class: "number" }, `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`),
      h("td", {}, h("meter", { min: "0", max: "1", value: String(share), "aria-hidden": "true" })));
  };
  const isDrawn = (entry) => entry.token === token.token;
  const rows = token.top_logprobs.map((entry) => row(entry, isDrawn(entry)));
  if (!token.top_logprobs.some(isDrawn)) rows.push(row(token, true));
  return h("table", {}, h("tbody", {}, rows));
}

/** A token with its spaces and line breaks visible; bytes that are no text on their own as hexadecimal digits. */
function shown({ token, bytes }) {
  if (token.includes("\uFFFD") && bytes) return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return token.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "(end)";
}
