// The training jobs: a list, a form for a new one, one job's figures, or several jobs' curves over each other.
import { get } from "/console/api.js";
import { button, fill, h } from "/console/dom.js";
import { count, time } from "/console/format.js";
import { jobForm } from "/console/job-form.js";
import { jobView, status } from "/console/job-view.js";
import { overlay } from "/console/overlay.js";

const period = 3000;

/** `argument` is a job's id, or `new`. */
export function trainingPage(main, { argument, signal }) {
  if (argument === "new") return jobForm(main, signal);
  if (argument) return jobView(main, argument, signal);
  const selected = new Set();
  const rows = h("div", { class: "card" }, h("p", { class: "empty" }, "Loading…"));
  const curves = h("div");
  const compare = button("Overlay their curves", () => overlay(curves, [...selected], signal), { disabled: true });
  fill(main, h("div", { class: "frame" },
    h("div", { class: "title" }, h("h1", {}, "Training"), compare,
      h("a", { class: "button primary", href: "#training/new" }, "New job")), rows, curves));

  let drawn = "";
  async function refresh() {
    if (document.hidden && drawn) return;
    try {
      const jobs = (await get("/v1/fine_tuning/jobs?limit=200", { signal })).data;
      const state = JSON.stringify(jobs);
      if (state !== drawn) draw(jobs);
      drawn = state;
    } catch (error) {
      if (error.name !== "AbortError") fill(rows, h("p", { class: "empty bad" }, error.message));
    }
  }

  function draw(jobs) {
    if (jobs.length === 0) {
      return fill(rows, h("p", { class: "empty" }, "No jobs yet. A job trains an adapter on your examples, while the server answers requests."));
    }
    const focused = document.activeElement?.dataset?.key;
    const heads = [["Job"], ["Status"], ["Tokens", "number wide"], ["Created", "wide"]];
    fill(rows, h("table", { class: "adapters" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "unseen" }, "Select")),
        heads.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))),
      h("tbody", {}, jobs.map((job) => {
        const name = nameOf(job);
        const select = h("input", {
          type: "checkbox", checked: selected.has(job.id), "aria-label": `Select ${name}`, "data-key": job.id,
          onchange: () => {
            if (select.checked) selected.add(job.id);
            else selected.delete(job.id);
            compare.disabled = selected.size === 0;
          },
        });
        return h("tr", {}, h("td", {}, select),
          h("td", { class: "name" }, h("a", { href: `#training/${job.id}` }, name)), h("td", {}, status(job)),
          h("td", { class: "number wide" }, count(job.trained_tokens)), h("td", { class: "wide" }, time(job.created_at)));
      }))));
    if (focused) rows.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  const timer = setInterval(refresh, period);
  signal.addEventListener("abort", () => clearInterval(timer));
  refresh();
}

/** What a job is called before it has a result. */
export function nameOf(job) {
  return job.fine_tuned_model ?? job.metadata?.name ?? job.id;
}
