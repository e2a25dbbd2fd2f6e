// Makes elements. Text is always set as text, never parsed as HTML.

/** An element. Attributes: `class`, `on…` handlers, properties of the element, or plain attributes. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key in element && typeof value !== "string") element[key] = value;
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

/** An SVG element. */
export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  append(element, children);
  return element;
}

function append(element, children) {
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

/** Replaces an element's children. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** A button. */
export function button(text, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, text);
}

/** A labelled field. */
export function field(label, input, hint) {
  return h("label", {}, h("span", {}, label), input, hint && h("span", { class: "small" }, hint));
}

/** A checkbox with its label behind it. */
export function check(label, attributes = {}) {
  const input = h("input", { type: "checkbox", ...attributes });
  return Object.assign(h("label", { class: "check" }, input, label), { input });
}

/** Shows a message in the corner. Errors stay until they are closed. */
export function notify(message, isError = false) {
  const notice = h("div", { class: isError ? "notice error" : "notice" }, h("p", {}, message));
  notice.append(button("×", () => notice.remove(), { class: "icon", "aria-label": "Close" }));
  document.getElementById("notices").append(notice);
  if (!isError) setTimeout(() => notice.remove(), 5000);
}

/** Runs an action of a button; a failure is shown, and the button is disabled meanwhile. */
export async function attempt(control, action) {
  if (control) control.disabled = true;
  try {
    return await action();
  } catch (error) {
    if (error.name !== "AbortError") notify(error.message, true);
  } finally {
    if (control) control.disabled = false;
  }
}

/** Asks in a dialog. Resolves to the form's values, or to null if it was closed. */
export function ask(title, fields, { action = "OK", danger = false, text } = {}) {
  return new Promise((resolve) => {
    const form = h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), text && h("p", {}, text), fields);
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    form.append(
      h("div", { class: "row" },
        button("Cancel", () => dialog.close()),
        h("button", { class: danger ? "danger" : "primary" }, action)));
    let values = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      values = Object.fromEntries(new FormData(form));
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(values);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
