// The chat: a conversation in one column, or in two that answer the same prompt with different adapters.
import { all } from "/console/api.js";
import { button, fill, field, h, notify } from "/console/dom.js";
import { emptyAnswer, run } from "/console/answering.js";
import * as conversations from "/console/conversations.js";
import { parse, picker } from "/console/picker.js";
import { samplingFields } from "/console/sampling.js";
import { load } from "/console/storage.js";
import { turnView } from "/console/turns.js";

let conversation = null;

/** `argument` may name adapters for the columns: `a:0.7,b:0.3` or `a|base`. */
export async function chatPage(main, { argument, signal }) {
  if (argument) {
    conversation = conversations.create();
    conversation.columns = argument.split("|").slice(0, 2).map((text) => ({ terms: parse(text) }));
    history.replaceState(null, "", "#chat");
  }
  conversation ??= conversations.open(conversations.list()[0]?.id) ?? conversations.create();
  const page = new Chat(main, signal);
  page.draw();
  try {
    page.names = (await all("/v1/models?checkpoints=true")).filter((model) => model.parent !== null).map((model) => model.id);
  } catch (error) {
    if (!signal.aborted) notify(error.message, true);
  }
  if (!signal.aborted) page.drawColumns();
}

class Chat {
  names = [];
  stop = null;

  constructor(main, signal) {
    this.main = main;
    this.list = h("div", { class: "conversations" });
    this.columns = h("div", { class: "columns" });
    this.turns = h("div", { class: "turns" });
    this.input = h("textarea", {
      rows: "1", placeholder: "Write a message", "aria-label": "Message",
      oninput: () => this.grow(),
      onkeydown: (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        this.send();
      },
    });
    this.sendButton = button("Send", () => (this.stop ? this.stop.abort() : this.send()), { class: "primary" });
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.stop && !document.querySelector("dialog")) this.stop.abort();
    }, { signal });
    signal.addEventListener("abort", () => this.stop?.abort());
  }

  draw() {
    this.settings = h("div", { class: "settings stack", id: "settings", hidden: true });
    const toggle = button("Settings", () => {
      this.settings.hidden = !this.settings.hidden;
      toggle.setAttribute("aria-expanded", String(!this.settings.hidden));
    }, { class: "quiet", "aria-expanded": "false", "aria-controls": "settings" });
    this.compare = button("", () => {
      if (conversation.columns.length > 1) conversation.columns.pop();
      else conversation.columns.push({ terms: [] });
      this.drawColumns();
    }, { class: "quiet" });
    fill(this.main, h("div", { class: "chat" },
      h("aside", { "aria-label": "Conversations" },
        h("details", { open: matchMedia("(min-width: 900px)").matches },
          h("summary", {}, "Conversations"),
          button("New conversation", () => this.open(conversations.create()), { class: "new" }),
          this.list)),
      h("div", { class: "talk" },
        h("h1", { class: "unseen" }, "Chat"),
        h("div", { class: "setup" }, this.columns, h("div", { class: "row tight" }, toggle, this.compare), this.settings),
        this.turns,
        h("div", { class: "composer" }, this.input, this.sendButton))));
    this.drawAll();
    this.input.focus({ preventScroll: true });
  }

  drawAll() {
    const { system, settings } = conversation;
    const prompt = h("textarea", { rows: "2", name: "system", oninput: () => { conversation.system = prompt.value; } });
    prompt.value = system;
    fill(this.settings, field("System prompt", prompt), samplingFields(settings));
    this.drawList();
    this.drawColumns();
    this.drawTurns();
    this.setRunning(false);
  }

  drawList() {
    const entries = conversations.list();
    fill(this.list, entries.length === 0 && h("p", { class: "muted small" }, "None yet. They are kept in this browser."),
      entries.map((entry) => h("div", { class: "entry" },
        button(entry.title, () => this.open(conversations.open(entry.id) ?? conversations.create()),
          { class: "quiet", title: entry.title, "aria-current": String(entry.id === conversation.id) }),
        button("×", () => this.delete(entry.id), { class: "icon", "aria-label": `Delete “${entry.title}”` }))));
  }

  drawColumns() {
    const { columns } = conversation;
    const label = (index) => (columns.length > 1 ? `Adapter of column ${index + 1}` : "Adapter");
    this.compare.textContent = columns.length > 1 ? "One column" : "Compare two adapters";
    fill(this.columns, columns.map((column, index) => picker(column.terms, this.names, label(index), () => {})));
    this.columns.dataset.columns = columns.length;
  }

  drawTurns() {
    const actions = {
      edit: (index, text) => this.ask(index, text),
      retry: (index) => this.ask(index, conversation.turns[index].user),
    };
    this.views = conversation.turns.map((turn, index) => turnView(turn, index, actions));
    fill(this.turns, this.views.length > 0
      ? this.views.map((view) => view.element)
      : h("div", { class: "empty" }, h("p", {}, "Choose an adapter above, or none, and write a message."),
        h("p", { class: "small" }, "Enter sends, Shift+Enter makes a line, Escape stops.")));
    this.scroll();
  }

  open(next) {
    this.stop?.abort();
    conversation = next;
    if (Object.keys(next.settings).length === 0) next.settings = load("sampling", {});
    this.drawAll();
    this.input.focus();
  }

  delete(id) {
    conversations.remove(id);
    if (id === conversation.id) this.open(conversations.create());
    else this.drawList();
  }

  grow() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight + 2, 200)}px`;
  }

  send() {
    const text = this.input.value;
    if (!text.trim() || this.stop) return;
    this.input.value = "";
    this.grow();
    this.ask(conversation.turns.length, text);
  }

  /** Asks all columns; the turn at `index` and those behind it are replaced. */
  async ask(index, text) {
    this.stop?.abort();
    const asked = conversation;
    const answers = asked.columns.map((column) => emptyAnswer(column.terms));
    asked.turns.splice(index, Infinity, { user: text, answers });
    const stop = new AbortController();
    this.stop = stop;
    // Kept at once, so that closing the page does not lose it.
    conversations.keep(asked);
    this.drawTurns();
    this.setRunning(true);
    const views = this.views[index].answers;
    await Promise.all(answers.map((answer, column) => run(
      answer, conversations.messages(asked, column, index), asked.settings, stop.signal,
      (part) => {
        const isAtEnd = this.isAtEnd();
        views[column].update(part);
        if (isAtEnd) this.scroll();
      })));
    if (!conversations.keep(asked)) notify("The browser's storage is full: this conversation is not kept", true);
    if (this.stop !== stop) return;
    this.stop = null;
    this.drawList();
    this.setRunning(false);
  }

  setRunning(isRunning) {
    this.sendButton.textContent = isRunning ? "Stop" : "Send";
    this.sendButton.classList.toggle("primary", !isRunning);
    if (!isRunning && this.stop?.signal.aborted) this.stop = null;
  }

  isAtEnd() {
    return this.turns.scrollHeight - this.turns.scrollTop - this.turns.clientHeight < 60;
  }

  scroll() {
    this.turns.scrollTop = this.turns.scrollHeight;
  }
}
