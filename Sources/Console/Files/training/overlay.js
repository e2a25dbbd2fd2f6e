// The curves of several jobs over each other.
import { get } from "/console/api.js";
import { button, fill, h, notify } from "/console/dom.js";
import { chart } from "/console/chart.js";
import { pastEvents, series } from "/console/job-data.js";
import { nameOf } from "/console/training.js";

const settings = ["n_epochs", "learning_rate", "batch_size", "lora_r", "lora_alpha", "target_modules", "scheduler", "use_dora"];

/** Draws the losses of jobs, and a table of the settings that they differ in. */
export async function overlay(area, ids, signal) {
  try {
    const jobs = await Promise.all(ids.map((id) => get(`/v1/fine_tuning/jobs/${id}`, { signal })));
    const runs = await Promise.all(ids.map(async (id) => series(await pastEvents(id, signal))));
    const names = jobs.map((job) => shortName(job));
    const charts = [["Training loss", "training"], ["Validation loss", "validation"], ["Tokens per second", "speed"]].map(([title, key]) => {
      const view = chart({ title, zero: key === "speed" });
      view.draw(runs.map((run, index) => ({ name: names[index], points: run[key], dots: key === "validation" })));
      return view.element;
    });
    const values = jobs.map((job) => job.method[job.method.type].hyperparameters);
    const rows = settings.map((name) => [name, values.map((value) => JSON.stringify(value[name]))])
      .filter(([, row]) => row.length === 1 || new Set(row).size > 1);
    fill(area, h("section", { class: "stack", "aria-label": "Overlay" },
      h("div", { class: "title" }, h("h2", {}, `${jobs.length} ${jobs.length === 1 ? "job" : "jobs"} over each other`),
        button("Close", () => area.replaceChildren(), { class: "quiet" })),
      h("div", { class: "charts" }, charts),
      h("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": "Settings that differ" }, rows.length === 0
        ? h("p", { class: "muted" }, "Their main settings are equal.")
        : h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Setting"), names.map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", {}, rows.map(([name, row]) => h("tr", {}, h("th", { scope: "row" }, name), row.map((value) => h("td", {}, value ?? "–")))))))));
  } catch (error) {
    if (error.name !== "AbortError") notify(error.message, true);
  }
}

/** The result's own part of its name, with the end of the job's id. */
function shortName(job) {
  return `${job.metadata?.name ?? nameOf(job).split(":").at(-2) ?? "job"} ${job.id.slice(-4)}`;
}
