// One job: its state, curves, checkpoints, samples and log.
import { get, post } from "/console/api.js";
import { attempt, button, fill, h } from "/console/dom.js";
import { chart } from "/console/chart.js";
import { count, decimal, seconds, time } from "/console/format.js";
import { follow, series } from "/console/job-data.js";
import { sampleArea } from "/console/samples.js";
import { nameOf } from "/console/training.js";

const logLimit = 300;

const kinds = { running: "good", succeeded: "good", paused: "warn", failed: "error", cancelled: "" };

/** A job's status as a badge. */
export function status(job) {
  return h("span", { class: `badge ${kinds[job.status] ?? "warn"}` }, job.status.replaceAll("_", " "));
}

export async function jobView(main, id, signal) {
  const head = h("div", { class: "title" }, h("h1", { class: "name" }, "Job"));
  const facts = h("div", { class: "figures" });
  const bar = h("progress", { max: "1", value: 0, "aria-label": "Progress" });
  const problem = h("p", { class: "card bad", hidden: true });
  const charts = {
    loss: chart({ title: "Loss", zero: false }), rate: chart({ title: "Learning rate" }),
    speed: chart({ title: "Tokens per second" }), norm: chart({ title: "Gradient norm" }),
  };
  const checkpoints = h("section", { class: "card", "aria-label": "Checkpoints" }, h("h2", {}, "Checkpoints"), h("div"));
  const sampleSlot = h("div");
  let samples = null;
  const log = h("ol", { class: "log" });
  fill(main, h("div", { class: "frame" }, head, problem, bar, facts,
    h("div", { class: "charts even" }, Object.values(charts).map((entry) => entry.element)), checkpoints, sampleSlot,
    h("details", { class: "card" }, h("summary", {}, "Log"), log)));

  const events = [];
  let job = null;

  async function refresh() {
    const [now, list] = await Promise.all([
      get(`/v1/fine_tuning/jobs/${id}`, { signal }), get(`/v1/fine_tuning/jobs/${id}/checkpoints?limit=1000`, { signal }),
    ]);
    job = now;
    if (!samples) {
      samples = sampleArea(job, signal);
      sampleSlot.replaceWith(samples.element);
    }
    drawHead();
    drawCheckpoints(list.data);
  }

  function drawHead() {
    const control = (label, action, attributes) => {
      const element = button(label, () => attempt(element, async () => {
        await post(`/v1/fine_tuning/jobs/${id}/${action}`);
        await refresh();
      }), attributes);
      return element;
    };
    const is = (...states) => states.includes(job.status);
    fill(head, h("div", {}, h("h1", { class: "name" }, nameOf(job)), h("p", { class: "small muted" }, job.id)), status(job),
      is("running", "queued") && control("Pause", "pause"), is("paused") && control("Resume", "resume"),
      is("validating_files", "running", "queued", "paused") && control("Cancel", "cancel", { class: "danger" }),
      job.fine_tuned_model && h("a", { class: "button primary", href: `#chat/${encodeURIComponent(job.fine_tuned_model)}|base` }, "Chat beside the base"),
      h("a", { href: "#training" }, "All jobs"));
    problem.hidden = !job.error?.message;
    problem.textContent = job.error?.message ?? "";
    drawFacts();
  }

  function drawFacts() {
    if (!job) return;
    const { last, speed, validation } = series(events);
    const left = job.estimated_finish && job.status === "running" ? job.estimated_finish - Date.now() / 1000 : null;
    const settings = job.method[job.method.type].hyperparameters;
    const entries = [
      ["Step", last ? `${count(last.step)} of ${count(last.total_steps)}` : "–"], ["Epoch", last ? decimal(last.epoch) : "–"],
      ["Training loss", decimal(last?.train_loss)], ["Validation loss", decimal(validation.at(-1)?.[1])],
      ["Speed", speed.length ? `${decimal(speed.at(-1)[1])} tok/s` : "–"], ["Trained tokens", count(job.trained_tokens)],
      [job.finished_at ? "Finished" : "Left", job.finished_at ? time(job.finished_at) : left > 0 ? seconds(left) : "–"],
      ["Start from", job.model], ["Rank, alpha", `${settings.lora_r}, ${settings.lora_alpha}`],
      ["Learning rate", String(settings.learning_rate)], ["Batch size", count(settings.batch_size)], ["Seed", String(job.seed)],
    ];
    fill(facts, entries.map(([name, value]) => h("div", { class: "figure" }, h("span", {}, name), h("strong", {}, value))));
    bar.value = last ? last.step / last.total_steps : 0;
  }

  function drawCharts() {
    const { training, validation, rate, speed, norm } = series(events);
    charts.loss.draw([{ name: "training", points: training }, { name: "validation", points: validation, dots: true }]);
    charts.rate.draw([{ name: "learning rate", points: rate }]);
    charts.speed.draw([{ name: "tokens/s", points: speed }]);
    charts.norm.draw([{ name: "before clipping", points: norm }]);
  }

  function drawCheckpoints(list) {
    const area = checkpoints.lastChild;
    // A checkpoint whose samples failed has an empty list.
    for (const entry of list) if (entry.samples) samples.know({ model: entry.fine_tuned_model_checkpoint, samples: entry.samples });
    samples.offer(list.map((entry) => ({ step: entry.step_number, model: entry.fine_tuned_model_checkpoint })).reverse());
    if (list.length === 0) return fill(area, h("p", { class: "muted" }, "None yet."));
    fill(area, h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Step"), h("th", { scope: "col", class: "number" }, "Loss"),
      h("th", { scope: "col", class: "number" }, "Validation"), h("th", { scope: "col", class: "number" }, h("span", { class: "unseen" }, "Actions")))),
    h("tbody", {}, list.map((entry) => h("tr", {}, h("td", {}, entry.step_number),
      h("td", { class: "number" }, decimal(entry.metrics.train_loss)), h("td", { class: "number" }, decimal(entry.metrics.valid_loss)),
      h("td", { class: "number" }, h("a", {
        class: "button small", href: `#chat/${encodeURIComponent(entry.fine_tuned_model_checkpoint)}|base`, "aria-label": `Chat with step ${entry.step_number}`,
      }, "Chat")))))));
  }

  try {
    await refresh();
    await follow(id, signal, (group) => {
      events.push(...group);
      drawCharts();
      drawFacts();
      for (const event of group) if (event.data?.samples) samples.know(event.data);
      log.prepend(...group.map((event) => h("li", { class: event.level === "info" ? undefined : "bad" },
        h("time", { class: "muted" }, new Date(event.created_at * 1000).toLocaleTimeString()), " ", event.message)).reverse());
      while (log.childElementCount > logLimit) log.lastChild.remove();
      // Everything but a step may have changed the job or its checkpoints.
      if (group.some((event) => event.type !== "metrics")) refresh().catch(() => {});
    });
    // The samples of the last checkpoint come after the job's last event.
    await refresh();
    for (let tries = 0; tries < 60 && samples.isWaiting() && !signal.aborted; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 2000));
      await refresh();
    }
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    problem.hidden = false;
    problem.textContent = error.message;
  }
}
