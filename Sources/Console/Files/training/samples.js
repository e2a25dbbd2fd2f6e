// Answers of a job's checkpoints to fixed prompts, beside the base's.
import { post } from "/console/api.js";
import { button, field, fill, h } from "/console/dom.js";
import { load, save } from "/console/storage.js";

const defaults = ["Who are you?", "Name three colours."];
const tokens = 48;
const columnsShown = 5;

/** The prompts that were asked last, or those that everybody begins with. */
export const lastPrompts = () => load("prompts", defaults);

/** The prompts in a text with one on each line. */
export const promptsOf = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean).slice(0, 8);

/**
 * The area for samples of a job. The server keeps the answers to the job's own prompts: `know` gives them to the area. A person
 * can ask others, and a job may have none: then the page asks each checkpoint once that `offer` gives it, oldest first, as
 * `{ step, model }`, and keeps the answers in this browser, since a checkpoint may be deleted later.
 */
export function sampleArea(job, signal) {
  const key = `samples.${job.id}`;
  const stored = load(key, null);
  let isServers = !stored && job.sample_prompts.length > 0;
  const kept = stored ?? { prompts: isServers ? job.sample_prompts : lastPrompts(), form: "chat", answers: {} };
  const table = h("div", { class: "samples" });
  const problem = h("p", { class: "small bad" });
  const prompts = h("textarea", { rows: "3", name: "prompts" });
  prompts.value = kept.prompts.join("\n");
  const form = h("select", { name: "form" }, h("option", { value: "chat" }, "A chat's message"), h("option", { value: "text" }, "The beginning of a text"));
  form.value = kept.form;
  const apply = button("Ask these", () => {
    isServers = false;
    kept.prompts = promptsOf(prompts.value);
    kept.form = form.value;
    kept.answers = {};
    save("prompts", kept.prompts);
    draw();
    work();
  });
  const element = h("section", { class: "card stack", "aria-label": "Samples" }, h("h2", {}, "Samples"),
    h("details", {}, h("summary", {}, "Prompts"), h("div", { class: "stack" },
      field("One a line", prompts), h("div", { class: "row" }, field("Each is", form), apply))),
    problem, table);
  let checkpoints = [];
  let isWorking = false;

  function columns() {
    const known = Object.keys(kept.answers).filter((model) => model !== "base").map((model) => ({ model, step: Number(model.split("-").at(-1)) }));
    const models = new Map([...known, ...checkpoints].map((entry) => [entry.model, entry]));
    const list = [...models.values()].sort((a, b) => a.step - b.step).slice(-columnsShown);
    return [{ model: "base", title: "Base" }, ...list.map((entry) => ({ ...entry, title: `Step ${entry.step}` }))];
  }

  function draw() {
    const list = columns();
    fill(table, kept.prompts.map((prompt) => h("div", { class: "sample" }, h("h3", {}, prompt),
      h("dl", {}, list.map(({ model, title }) => {
        const answer = kept.answers[model]?.[prompt];
        return h("div", {}, h("dt", {}, title), h("dd", { class: answer === undefined ? "muted" : undefined }, answer ?? "…"));
      })))));
  }

  /** Asks one prompt of one model after the other, so that training is disturbed little. */
  async function work() {
    if (isWorking || isServers) return;
    isWorking = true;
    try {
      for (;;) {
        const next = columns().flatMap(({ model }) => kept.prompts.map((prompt) => ({ model, prompt })))
          .find(({ model, prompt }) => kept.answers[model]?.[prompt] === undefined);
        if (!next || signal.aborted) break;
        const text = await answer(next.model, next.prompt, kept.form).catch((error) => {
          // A checkpoint that was deleted meanwhile has no answers.
          if (error.status === 404) return "(deleted)";
          throw error;
        });
        (kept.answers[next.model] ??= {})[next.prompt] = text;
        save(key, kept);
        draw();
      }
      problem.textContent = "";
    } catch (error) {
      if (error.name !== "AbortError") problem.textContent = error.message;
    } finally {
      isWorking = false;
    }
  }

  async function answer(adapter, prompt, form) {
    const fields = { adapter, temperature: 0, max_tokens: tokens };
    if (form === "text") return (await post("/v1/completions", { ...fields, prompt }, { signal })).choices[0].text;
    const reply = await post("/v1/chat/completions", { ...fields, messages: [{ role: "user", content: prompt }] }, { signal });
    return reply.choices[0].message.content ?? "";
  }

  draw();
  return {
    element,
    offer(list) {
      checkpoints = list;
      draw();
      work();
    },
    /** Samples that the server made of a checkpoint: `[{ prompt, base, answer }]`. */
    know({ model, samples }) {
      if (!isServers) return;
      kept.answers[model] ??= {};
      for (const { prompt, base, answer } of samples) {
        (kept.answers.base ??= {})[prompt] = base;
        kept.answers[model][prompt] = answer;
      }
      draw();
    },
    /** Whether the server has not made the samples of a checkpoint yet. */
    isWaiting: () => isServers && checkpoints.some(({ model }) => !kept.answers[model]),
  };
}
