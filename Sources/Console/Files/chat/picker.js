// Chooses the adapters of a column: none, one, or a mix with a scale for each.
import { button, fill, h } from "/console/dom.js";

const limit = 8;

/** The terms as the API's field `adapter` takes them. */
export function selector(terms) {
  return terms.map(({ name, scale }) => (scale === 1 ? name : `${name}:${scale}`)).join(",") || "base";
}

/** The terms of a text such as `a:0.7,b@2`. */
export function parse(text) {
  return text.split(",").filter((term) => term && term !== "base").map((term) => {
    const [, name, scale] = /^(.*?)(?::(-?\d+(?:\.\d+)?))?$/.exec(term);
    return { name, scale: scale === undefined ? 1 : Number(scale) };
  });
}

/** The terms in words. */
export function describe(text) {
  return text === "base" ? "Base" : text.split(",").join(" + ");
}

/**
 * A list of menus, each with a slider for the scale.
 * `terms` is changed in place; `names` are those that can be chosen; `label` says which column it is.
 */
export function picker(terms, names, label, changed) {
  const element = h("div", { class: "picker", role: "group", "aria-label": label });
  const draw = () => {
    const rows = (terms.length === 0 ? [null] : terms).map((term, index) => row(term, index));
    const free = names.filter((name) => !terms.some((term) => term.name === name));
    const canAdd = terms.length > 0 && terms.length < limit && free.length > 0;
    if (canAdd) {
      rows.at(-1).append(button("+", () => change(() => terms.push({ name: free[0], scale: 1 })),
        { class: "icon", title: "Mix another adapter in", "aria-label": "Mix another adapter in" }));
    }
    fill(element, rows);
  };
  const change = (action) => {
    action();
    draw();
    changed();
  };
  function row(term, index) {
    const choices = [...new Set([...names, ...(term ? [term.name] : [])])];
    const menu = h("select", {
      "aria-label": term && terms.length > 1 ? `${label}, adapter ${index + 1}` : label,
      onchange: () => change(() => {
        if (menu.value === "") terms.splice(index, 1);
        else terms[index] = { name: menu.value, scale: term?.scale ?? 1 };
      }),
    }, h("option", { value: "" }, terms.length > 1 ? "Remove" : "Base, no adapter"),
    choices.map((name) => h("option", { value: name, selected: name === term?.name }, name)));
    if (!term) return h("div", { class: "picker-row" }, menu);
    const value = h("output", {}, term.scale.toFixed(2));
    const slider = h("input", {
      type: "range", min: "0", max: "2", step: "0.05", value: String(term.scale), "aria-label": `Scale of ${term.name}`,
      oninput: () => {
        term.scale = Number(slider.value);
        value.textContent = term.scale.toFixed(2);
        changed();
      },
    });
    return h("div", { class: "picker-row" }, menu, slider, value);
  }
  draw();
  return element;
}
