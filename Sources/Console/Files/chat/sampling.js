// The sampling settings of a conversation.
import { check, field, h } from "/console/dom.js";
import { save } from "/console/storage.js";

const numbers = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, hint: "1" },
  { name: "top_p", label: "Top-p", min: 0, max: 1, step: 0.01, hint: "1" },
  { name: "top_k", label: "Top-k", min: 0, step: 1, hint: "off" },
  { name: "min_p", label: "Min-p", min: 0, max: 1, step: 0.01, hint: "0" },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0.1, max: 2, step: 0.05, hint: "1" },
  { name: "max_tokens", label: "Maximum tokens", min: 1, step: 1, hint: "as many as fit" },
  { name: "seed", label: "Seed", min: 0, step: 1, hint: "random" },
];

/** The fields of a request. */
export function fieldsOf(settings) {
  const fields = {};
  for (const { name } of numbers) if (Number.isFinite(settings[name])) fields[name] = settings[name];
  if (settings.stop) fields.stop = settings.stop;
  if (settings.logprobs) Object.assign(fields, { logprobs: true, top_logprobs: 5 });
  return fields;
}

/** Fields that change `settings`. An empty field leaves the server's default. */
export function samplingFields(settings) {
  const changed = () => save("sampling", settings);
  const inputs = numbers.map(({ name, label, hint, ...range }) => {
    const input = h("input", {
      type: "number", inputmode: "decimal", placeholder: hint, name, value: settings[name] ?? "", ...attributes(range),
      oninput: () => {
        settings[name] = input.value === "" ? undefined : Number(input.value);
        input.setAttribute("aria-invalid", String(!input.checkValidity()));
        changed();
      },
    });
    return field(label, input);
  });
  const stop = h("input", {
    name: "stop", placeholder: "none", value: settings.stop ?? "",
    oninput: () => {
      settings.stop = stop.value || undefined;
      changed();
    },
  });
  const logprobs = check("Log-probabilities of tokens", {
    name: "logprobs", checked: settings.logprobs ?? false,
    onchange: (event) => {
      settings.logprobs = event.target.checked;
      changed();
    },
  });
  return h("div", { class: "stack" }, h("div", { class: "fields" }, inputs, field("Stop at", stop)), logprobs);
}

function attributes(range) {
  return Object.fromEntries(Object.entries(range).map(([name, value]) => [name, String(value)]));
}
