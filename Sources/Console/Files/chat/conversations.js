// Conversations, as the browser keeps them.
//
// A conversation has columns, each with the adapters that answer in it, and turns: what the user wrote, and each column's answer.
import { forget, load, randomName, save } from "/console/storage.js";

const limit = 200;

/** The list of conversations, newest first: their ids, titles and times. */
export function list() {
  return load("conversations", []);
}

export function create() {
  return { id: randomName(), title: "", columns: [{ terms: [] }], system: "", settings: load("sampling", {}), turns: [] };
}

export function open(id) {
  return load(`conversation.${id}`, null);
}

/** Keeps a conversation that has turns. Log-probabilities are left out, since they would fill the browser's storage. */
export function keep(conversation) {
  if (conversation.turns.length === 0) return true;
  conversation.title = conversation.turns[0].user.trim().replace(/\s+/g, " ").slice(0, 80) || "Untitled";
  const turns = conversation.turns.map((turn) => ({
    user: turn.user,
    answers: turn.answers.map((answer) => answer && { ...answer, parts: undefined, isRunning: undefined }),
  }));
  const entries = list().filter((entry) => entry.id !== conversation.id);
  entries.unshift({ id: conversation.id, title: conversation.title, time: Date.now() });
  for (const old of entries.splice(limit)) forget(`conversation.${old.id}`);
  return save("conversations", entries) && save(`conversation.${conversation.id}`, { ...conversation, turns });
}

export function remove(id) {
  save("conversations", list().filter((entry) => entry.id !== id));
  forget(`conversation.${id}`);
}

/** The messages that a column's adapters answer: what is before the turn, and what the user wrote in it. */
export function messages(conversation, column, turnIndex) {
  const result = [];
  if (conversation.system.trim()) result.push({ role: "system", content: conversation.system });
  for (const [index, turn] of conversation.turns.entries()) {
    if (index > turnIndex) break;
    result.push({ role: "user", content: turn.user });
    if (index === turnIndex) break;
    // A column that was added later continues the first one's conversation.
    const answer = turn.answers[column] ?? turn.answers[0];
    result.push({ role: "assistant", content: answer?.text ?? "" });
  }
  return result;
}
