// What is wrong with a training file, or which of its tokens will be learnt and what that takes.
import { fill, h } from "/console/dom.js";
import { bytes, count } from "/console/format.js";

/** Shows a preview of the API. Returns the element for the estimate of time. */
export function showPreview(area, preview) {
  const slot = h("dd", {}, "measuring…");
  fill(area, preview.valid ? accepted(preview, slot) : refused(preview));
  return slot;
}

function refused(preview) {
  const file = preview.param === "validation_file" ? "validation file" : "training file";
  const more = preview.problem_count - preview.problems.length;
  return h("section", { class: "card stack", "aria-label": "Problems" },
    h("h2", { class: "bad" }, `The ${file} has ${count(preview.problem_count)} ${preview.problem_count === 1 ? "problem" : "problems"}`),
    h("ul", { class: "problems" }, preview.problems.map((problem) => h("li", {},
      problem.line !== null && h("span", { class: "badge error" }, `Line ${problem.line}`),
      h("p", {}, problem.message, " ", h("code", { class: "muted" }, problem.code))))),
    more > 0 && h("p", { class: "muted" }, `and ${count(more)} more`));
}

function accepted(preview, slot) {
  const { memory } = preview;
  const isShort = memory.available !== null && memory.bytes > memory.available;
  const facts = [
    ["Examples", `${count(preview.examples)}${preview.validation_examples ? `, ${count(preview.validation_examples)} for validation` : ""}`],
    ["Tokens of an epoch", `${count(preview.epoch_tokens)}, ${count(preview.epoch_learnt_tokens)} learnt`],
    ["Longest example", `${count(preview.longest_example)} tokens`], ["Steps", count(preview.steps)],
    preview.cut_rows > 0 && ["Cut to the limit", `${count(preview.cut_rows)} rows`],
    preview.lossless_rows > 0 && ["Left out", `${count(preview.lossless_rows)} rows, of which nothing is learnt`],
  ].filter(Boolean);
  return [
    h("section", { class: "card stack", "aria-label": "Estimate" }, h("h2", {}, "What it takes"),
      h("dl", { class: "facts" }, facts.map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]),
        h("dt", {}, "Time"), slot,
        h("dt", {}, "Memory"), h("dd", { class: isShort ? "bad" : undefined },
          `${bytes(memory.bytes)} beside the model${memory.available === null ? "" : `, ${bytes(memory.available)} are free`}`,
          isShort && ". A lower rank, fewer modules or shorter rows need less.")),
      preview.formats.map((text) => h("p", { class: "small muted" }, text))),
    h("section", { class: "card stack", "aria-label": "Trained tokens" },
      h("div", { class: "title" }, h("h2", {}, "What is learnt"), h("p", { class: "small muted" }, h("mark", {}, "marked"), " tokens carry the loss")),
      preview.rows.map((row, index) => h("figure", { class: "example" },
        h("figcaption", { class: "small muted" }, `${caption(row, index)} · ${count(row.tokens)} tokens, ${count(row.learnt_tokens)} learnt`),
        h("pre", { tabindex: "0", role: "group", "aria-label": caption(row, index) }, row.runs.map((run) => (run.learnt ? h("mark", {}, run.text) : run.text)))))),
  ];
}

function caption(row, index) {
  if (row.kind === "row") return `Row ${index + 1}`;
  return `Pair ${Math.floor(index / 2) + 1}, ${row.kind}`;
}
