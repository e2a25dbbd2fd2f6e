// Shows a conversation's turns.
import { button, fill, h } from "/console/dom.js";
import { decimal, seconds } from "/console/format.js";
import { describe } from "/console/picker.js";
import { showTokens } from "/console/logprobs.js";

/** A turn with its answers. `actions` has `edit(index, text)` and `retry(index)`. */
export function turnView(turn, index, actions) {
  const answers = turn.answers.map((answer) => answerView(answer, turn.answers.length > 1));
  const user = h("div", { class: "user" });
  const showText = () => fill(user,
    h("p", { class: "said" }, turn.user),
    h("div", { class: "row tight turn-actions" },
      button("Edit", edit, { class: "quiet" }),
      button("Retry", () => actions.retry(index), { class: "quiet" }),
      button("Copy", () => navigator.clipboard?.writeText(turn.answers.map((answer) => answer?.text ?? "").join("\n\n")),
        { class: "quiet", title: "Copy the answer" })));
  function edit() {
    const input = h("textarea", { rows: String(Math.min(12, turn.user.split("\n").length + 1)), "aria-label": "Edit the message" });
    input.value = turn.user;
    const submit = () => input.value.trim() && actions.edit(index, input.value);
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") showText();
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        submit();
      }
    });
    fill(user, input, h("div", { class: "row tight" },
      button("Ask again", submit, { class: "primary" }), button("Cancel", showText)));
    input.focus();
  }
  showText();
  const element = h("article", { class: "turn", "aria-label": `Turn ${index + 1}` }, user,
    h("div", { class: "answers", "data-columns": String(turn.answers.length) }, answers.map((view) => view.element)));
  return { element, answers };
}

function answerView(answer, isNamed) {
  const text = h("div", { class: "text" });
  const status = h("p", { class: "status" });
  const element = h("section", { class: "answer", "aria-label": `Answer of ${describe(answer.adapter)}` },
    h("p", { class: isNamed ? "who" : "who single" }, describe(answer.adapter)), text, status);
  const showStatus = () => {
    element.setAttribute("aria-busy", String(answer.isRunning ?? false));
    element.classList.toggle("failed", answer.error !== undefined);
    const words = [];
    if (answer.error) words.push(answer.error);
    if (answer.speed) words.push(`${decimal(answer.speed)} tokens/s`);
    if (answer.firstToken !== undefined) words.push(`first after ${seconds(answer.firstToken)}`);
    if (answer.tokens) words.push(`${answer.tokens} tokens`);
    if (answer.finish === "length") words.push("cut by the limit");
    if (answer.finish === "stopped") words.push("stopped");
    if (answer.warning) words.push(answer.warning);
    status.textContent = words.join(" · ");
  };
  const add = (part) => text.append(part.tokens.length > 0 ? h("span", { class: "token" }, part.text) : part.text);
  const update = (part) => {
    if (part) add(part);
    showStatus();
  };
  if (answer.parts?.length > 0) answer.parts.forEach(add);
  else text.textContent = answer.text;
  showTokens(text, answer);
  showStatus();
  return { element, update };
}
