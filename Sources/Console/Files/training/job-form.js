// The form for a new job: its files and settings, what is wrong with them, what will be learnt, and what it will take.
import { all, post, request } from "/console/api.js";
import { attempt, button, check, field, fill, h, notify } from "/console/dom.js";
import { showPreview } from "/console/preview.js";
import { timeEstimate } from "/console/estimate.js";
import { lastPrompts, promptsOf } from "/console/samples.js";

const purpose = "fine-tune";

/** Settings as the API names them: label, default, attributes of the field. */
const settings = [
  ["n_epochs", "Epochs", "3", { min: 1, step: 1 }], ["learning_rate", "Learning rate", "2e-4", { min: 0, step: "any" }],
  ["lora_r", "Rank", "16", { min: 1, step: 1 }], ["lora_alpha", "Alpha", "32", { min: 0, step: "any" }],
  ["batch_size", "Batch size", "4", { min: 1, step: 1 }], ["validation_split", "Held out for validation", "0", { min: 0, max: 0.9, step: 0.01 }],
];
const moreSettings = [
  ["gradient_accumulation_steps", "Batches of a step", "1", { min: 1, step: 1 }], ["max_steps", "Maximum steps", "no limit", { min: 1, step: 1 }],
  ["max_seq_length", "Tokens of a row", "default", { min: 1, step: 1 }], ["checkpoint_steps", "Steps between checkpoints", "a tenth of all", { min: 1, step: 1 }],
  ["warmup_ratio", "Warmup", "0.03", { min: 0, max: 1, step: 0.01 }], ["weight_decay", "Weight decay", "0", { min: 0, step: "any" }],
  ["lora_dropout", "Dropout", "0", { min: 0, max: 0.99, step: 0.01 }], ["max_grad_norm", "Gradient limit", "1", { min: 0, step: "any" }],
  ["early_stopping_patience", "Stop early after", "never", { min: 0, step: 1 }], ["seed", "Seed", "random", { min: 0, step: 1 }],
];

export function jobForm(main, signal) {
  const values = {};
  const files = h("select", { name: "training_file", "aria-label": "Training file" });
  const validation = h("select", { name: "validation_file" });
  const model = h("select", { name: "model" }, h("option", { value: "base" }, "The base"));
  const method = h("select", { name: "method" }, h("option", { value: "supervised" }, "Examples to imitate"), h("option", { value: "dpo" }, "Pairs of answers (DPO)"));
  const scheduler = h("select", {}, ["cosine", "linear", "constant"].map((name) => h("option", { value: name }, name)));
  const suffix = h("input", { name: "suffix", maxlength: "64", placeholder: "a short name", autocomplete: "off" });
  const targets = h("input", { placeholder: "all linear modules", autocomplete: "off" });
  const prompts = h("textarea", { rows: "3", name: "sample_prompts" });
  prompts.value = lastPrompts().join("\n");
  const dora = check("DoRA");
  const packing = check("Pack short rows together", { checked: true });
  const result = h("div", { class: "stack", "aria-live": "polite" });
  const choose = () => fill(result, h("p", { class: "card empty" }, "Choose a file to see what would be learnt."));
  const start = h("button", { class: "primary", disabled: true }, "Start training");
  const beta = number(["beta", "Beta", "0.1", { min: 0, step: "any" }]);
  beta.hidden = true;

  const area = h("div", { class: "drop" });
  const input = h("input", { type: "file", hidden: true, accept: ".jsonl,.json,.ndjson,.txt", "aria-label": "Choose a JSONL file", onchange: () => upload(input.files[0]) });
  fill(area, h("p", {}, "Drop a JSONL file here, or choose one."), input, button("Choose a file", () => input.click()));
  area.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
  });

  const form = h("form", { class: "frame training" },
    h("div", { class: "title" }, h("h1", {}, "New job"), h("a", { href: "#training" }, "All jobs")),
    h("div", { class: "two" },
      h("div", { class: "stack" },
        h("section", { class: "card stack", "aria-label": "Data" }, h("h2", {}, "Data"), area,
          h("div", { class: "fields" }, field("Training file", files), field("Validation file", validation), field("Method", method))),
        h("section", { class: "card stack", "aria-label": "Settings" }, h("h2", {}, "Settings"),
          h("div", { class: "fields" }, field("Start from", model), field("Name of the result", suffix), settings.map(number), beta),
          h("details", {}, h("summary", {}, "More settings"), h("div", { class: "stack" },
            h("div", { class: "fields" }, moreSettings.map(number), field("Schedule", scheduler), field("Modules", targets)),
            h("div", { class: "row" }, dora, packing), field("Prompts for samples, one a line", prompts)))),
        h("div", { class: "row" }, start)),
      result));
  fill(main, form);
  choose();

  function number([name, label, placeholder, range]) {
    const control = h("input", {
      type: "number", name, placeholder, inputmode: "decimal",
      ...Object.fromEntries(Object.entries(range).map(([key, value]) => [key, String(value)])),
      oninput: () => {
        values[name] = control.value === "" ? undefined : Number(control.value);
        control.setAttribute("aria-invalid", String(!control.checkValidity()));
      },
    });
    return field(label, control);
  }

  /** The body of the job's request. */
  function body() {
    const { seed, ...numbers } = values;
    const hyperparameters = { ...numbers, scheduler: scheduler.value, use_dora: dora.input.checked, packing: packing.input.checked };
    if (method.value !== "dpo") delete hyperparameters.beta;
    if (targets.value.trim()) hyperparameters.target_modules = targets.value.split(",").map((name) => name.trim()).filter(Boolean);
    // An adapter that training continues from has its own rank, alpha and modules.
    if (model.value !== "base") {
      for (const name of ["lora_r", "lora_alpha", "use_dora", "target_modules"]) delete hyperparameters[name];
    }
    return {
      model: model.value, training_file: files.value, ...(validation.value && { validation_file: validation.value }),
      ...(suffix.value && { suffix: suffix.value, metadata: { name: suffix.value } }), ...(Number.isInteger(seed) && { seed }),
      sample_prompts: promptsOf(prompts.value),
      method: { type: method.value, [method.value]: { hyperparameters } },
    };
  }

  async function upload(file) {
    if (!file) return;
    checking?.abort();
    start.disabled = true;
    fill(result, h("p", { class: "card empty" }, `Uploading ${file.name}…`));
    await attempt(null, async () => {
      const parts = new FormData();
      parts.append("purpose", purpose);
      parts.append("file", file, file.name);
      const stored = await (await request("/v1/files", { method: "POST", body: parts, signal })).json();
      await loadFiles(stored.id);
    });
    inspect();
    input.value = "";
  }

  async function loadFiles(chosen) {
    const list = await all(`/v1/files?purpose=${purpose}`);
    const options = () => list.map((file) => h("option", { value: file.id }, file.filename));
    const kept = validation.value;
    fill(files, h("option", { value: "" }, "None chosen"), options());
    fill(validation, h("option", { value: "" }, "None"), options());
    files.value = chosen ?? "";
    validation.value = kept;
  }

  let checking = null;
  let timer = null;
  /** Asks the server what a job would learn and need. */
  async function inspect() {
    checking?.abort();
    start.disabled = true;
    if (!files.value) return choose();
    const current = new AbortController();
    checking = current;
    result.setAttribute("aria-busy", "true");
    try {
      const preview = await post("/v1/fine_tuning/preview", body(), { signal: current.signal });
      if (current !== checking) return;
      const fits = preview.valid && !(preview.memory.available !== null && preview.memory.bytes > preview.memory.available);
      const slot = showPreview(result, preview);
      start.disabled = !fits;
      if (!preview.valid) return;
      slot.textContent = await timeEstimate(preview.total_tokens, current.signal).catch((error) => {
        if (error.name === "AbortError") throw error;
        return "unknown, since the server is busy";
      });
    } catch (error) {
      if (error.name === "AbortError" || current !== checking) return;
      fill(result, h("div", { class: "card" }, h("h2", {}, "This cannot be trained"), h("p", { class: "bad" }, error.message)));
      const name = error.param?.split(".").at(-1);
      if (name) form.elements[name]?.setAttribute("aria-invalid", "true");
    } finally {
      if (current === checking) result.removeAttribute("aria-busy");
    }
  }

  form.addEventListener("input", (event) => {
    beta.hidden = method.value !== "dpo";
    if ([suffix, input, prompts].includes(event.target)) return;
    clearTimeout(timer);
    start.disabled = true;
    timer = setTimeout(inspect, 400);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(start, async () => {
      const job = await post("/v1/fine_tuning/jobs", body());
      location.hash = `training/${job.id}`;
    });
  });
  signal.addEventListener("abort", () => {
    checking?.abort();
    clearTimeout(timer);
  });
  loadFiles().catch((error) => error.name === "AbortError" || notify(error.message, true));
  all("/v1/models").then((models) => {
    model.append(...models.filter((entry) => entry.parent !== null).map((entry) => h("option", { value: entry.id }, entry.id)));
  }, () => {});
}
